"""Off-policy estimates on the Open Bandit data, each policy judged from the other's log.

    python -m benchmarks.off_policy FOLDER [--python PEER] > off_policy.json

FOLDER holds `random/CAMPAIGN/CAMPAIGN.csv` and `bts/…` (or `.csv.gz`); the campaigns that are
there are measured. The random policy is known. The other, Bernoulli Thompson sampling, knows no
context; two tables of it are used: how often its log has each item at each position (its items,
not its clicks), and, with PEER, the one its authors publish as its prior. PEER is the Python of an
environment with `obp`, whose doubly robust estimate then runs on the same rows and policies.
The truth is what the judged policy earned in its own log, itself a mean over 10,000 rows.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv as pcsv

from limner.evaluate.off_policy import Logged, doubly_robust, estimate, predict_rewards, weights
from limner.events.batch import F64
from limner.metrics.intervals import Interval, bootstrap_interval

CAMPAIGNS = ("all", "men", "women")
POLICIES = ("random", "bts")
RESAMPLES = 10_000
"""Enough that an interval's width is told within about one per cent."""
SIDE = Path(__file__).parent / "peers" / "obp_side.py"


def read(folder: Path, policy: str, campaign: str, items: int | None = None) -> Logged | None:
    """A log, contexts being the users' four features, 0 or 1 each; None if it is not there."""
    stem = folder / policy / campaign / f"{campaign}.csv"
    found = [path for path in (stem, stem.with_suffix(".csv.gz")) if path.exists()]
    if not found:
        return None
    table = pcsv.read_csv(found[0])
    contexts = []
    for number in range(4):
        values = np.array(table[f"user_feature_{number}"].to_pylist())
        contexts.append(values[:, None] == np.unique(values)[1:])
    actions = table["item_id"].to_numpy().astype(np.int64)
    return Logged(
        actions,
        table["click"].to_numpy().astype(np.float64),
        table["propensity_score"].to_numpy().astype(np.float64),
        items or int(actions.max()) + 1,
        contexts=np.hstack(contexts).astype(np.float64),
        positions=table["position"].to_numpy().astype(np.int64) - 1,
    )


def shown(log: Logged) -> F64:
    """How often each item is shown at each position (positions, items), rows summing to 1."""
    assert log.positions is not None
    counts = np.zeros((3, log.n_actions))
    np.add.at(counts, (log.positions, log.actions), 1.0)
    found: F64 = counts / counts.sum(axis=1, keepdims=True)
    return found


def peer(python: str, log: Logged, policy: F64, campaign: str) -> dict[str, Any]:
    """What `obp` says on the same rows, and its table of the policy."""
    assert log.positions is not None and log.contexts is not None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.npz"
        np.savez(
            path, actions=log.actions, rewards=log.rewards, propensities=log.propensities,
            positions=log.positions, contexts=log.contexts, policy=policy,
        )  # fmt: skip
        said = subprocess.run(
            [python, str(SIDE), str(path), campaign, str(RESAMPLES)],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
    found: dict[str, Any] = json.loads(said.stdout.splitlines()[-1])
    return found


def judged(log: Logged, table: F64, truth: Interval, own: Logged) -> dict[str, Any]:
    """All four estimates of the policy in `table` from `log`, beside the truth."""
    started = time.perf_counter()
    policy = table[log.positions]
    predicted = predict_rewards(log, policy)
    found = estimate(log, policy, predicted=predicted, resamples=RESAMPLES)
    weight = weights(log, policy[np.arange(len(log)), log.actions])
    terms = doubly_robust(log, weight, predicted)
    out: dict[str, Any] = {
        "effective_rows": round(found.effective_rows, 1),
        "mean_weight": round(found.mean_weight, 4),
        "largest_weight": round(found.largest_weight, 1),
        "seconds": round(time.perf_counter() - started, 2),
    }
    # two logs: their errors are independent
    spread = float(own.rewards.std(ddof=1)) / np.sqrt(len(own))
    for name, one in found.values.items():
        apart = np.hypot((one.high - one.low) / 3.92, spread) * 1.96
        out[name] = {
            "estimate": one.mean,
            "low": one.low,
            "high": one.high,
            "relative_error": abs(one.mean - truth.mean) / truth.mean,
            "truth_within": not one.excludes(truth.mean),
            "difference_within_both_errors": bool(abs(one.mean - truth.mean) <= apart),
        }
    out["doubly_robust"]["standard_error"] = float(terms.top.std(ddof=1) / np.sqrt(len(log)))
    return out


def measured(folder: Path, python: str | None = None) -> list[dict[str, Any]]:
    """Each campaign both ways, as JSON values."""
    out = []
    for campaign in CAMPAIGNS:
        logs = {policy: read(folder, policy, campaign) for policy in POLICIES}
        for target, source in (("bts", "random"), ("random", "bts")):
            log, own = logs[source], logs[target]
            if log is None or own is None:
                continue
            n = max(log.n_actions, own.n_actions)
            log, own = (read(folder, name, campaign, n) for name in (source, target))
            assert log is not None and own is not None
            truth = bootstrap_interval(own.rewards)
            tables = {"random": {"uniform": np.full((3, n), 1 / n)}, "bts": {"shown": shown(own)}}
            for name, table in list(tables[target].items()):
                row: dict[str, Any] = {
                    "campaign": campaign, "of": target, "from": source, "policy": name,
                    "truth": [truth.mean, truth.low, truth.high],
                    "ours": judged(log, table, truth, own),
                }  # fmt: skip
                out.append(row)
                if python is None:
                    continue
                row["obp"] = peer(python, log, table[log.positions], campaign)
                if target == "bts":
                    prior = np.array(row["obp"].pop("prior")).T
                    out.append(
                        row
                        | {
                            "policy": "prior",
                            "ours": judged(log, prior, truth, own),
                            "obp": peer(python, log, prior[log.positions], campaign),
                        }
                    )
                    out[-1]["obp"].pop("prior")
            print(campaign, target, file=sys.stderr)
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", help="the Python of an environment that has obp")
    given = parser.parse_args()
    json.dump(measured(given.folder, given.python), sys.stdout, indent=2)
    print()
