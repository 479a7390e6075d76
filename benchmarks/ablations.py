"""What each part of the sequence model is worth: one part changed at a time.

    python benchmarks/ablations.py DATA [--passes N] [--seeds 0 1 2] [--only NAME …] > out.json

Leave one out, strict, on the validation's answers alone (the test is not read); NDCG@10 and HR@10
over the whole catalogue, the mean of the seeds with the paired interval against the model as it is
by default, and seconds a pass.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from limner.app import quiet
from limner.evaluate.asked import Asked, Split, leave_last_out
from limner.evaluate.ranked import fit_models, ranks_by, values_of
from limner.events.batch import F64, SECOND
from limner.metrics.intervals import paired_bootstrap
from limner.model.network import SequenceConfig
from limner.model.protocol import Interactions, ItemFeatures
from limner.model.sequence import SequenceModel
from limner.sources.dataset import load


@dataclass(frozen=True, slots=True)
class Change:
    """A part that is changed: settings, and what is done to events and attributes."""

    settings: dict[str, Any] = field(default_factory=dict)
    timeless: bool = False
    together: bool = False
    plain: bool = False


CHANGES = {
    "as it is": Change(),
    "no attributes": Change(plain=True),
    "no time, order only": Change(timeless=True),
    "events of one second as one moment": Change(together=True),
    "not told when it is asked": Change({"asked_later": False}),
    "no popularity in the output": Change({"popularity": False}),
    "sampled softmax, 256": Change({"full_softmax_below": 0, "negatives": 256}),
    "sampled softmax, 2,048": Change({"full_softmax_below": 0}),
    "one negative": Change({"full_softmax_below": 0, "negatives": 1}),
    "later moments as targets, .4": Change({"beyond": 0.4}),
    "the same, and .15 of events hidden": Change({"beyond": 0.4, "hide": 0.15}),
    "three members": Change({"members": 3}),
    "depth 1": Change({"depth": 1}),
    "depth 3": Change({"depth": 3}),
    "gru": Change({"kind": "gru"}),
    "cnn": Change({"kind": "cnn"}),
    "mlp": Change({"kind": "mlp"}),
}


def ordered(data: Interactions) -> Interactions:
    """The same events a minute apart: their order is left of their times."""
    places = np.arange(len(data.times)) - np.repeat(data.offsets[:-1], np.diff(data.offsets))
    return replace(data, times=places * 60 * SECOND)


def together(data: Interactions) -> Interactions:
    """The same events, those of one time as one session: no order among them is told."""
    return replace(data, groups=np.where(data.groups < 0, data.times // SECOND, data.groups))


def measured(
    data: Interactions, features: ItemFeatures, change: Change, base: SequenceConfig, seed: int
) -> tuple[dict[str, F64], float]:
    """Each question's values, and seconds a pass."""
    if change.timeless:
        data = ordered(data)
    elif change.together:
        data = together(data)
    split: Split = leave_last_out(data)
    given = ItemFeatures({}, {}, features.available) if change.plain else features
    model = SequenceModel(replace(base, seed=seed, **change.settings))
    asked: Asked = split.validation
    half = np.random.default_rng(1).permutation(len(asked)) % 2 == 0  # stops on one, asks the other
    held = asked.take(half)
    fit_models({"m": model}, split.learned, given, held=held, seconds={}, progress=quiet)
    found = values_of(ranks_by({"m": model.score}, {}, asked.take(~half), quiet)["m"], 10)
    return found, float(np.mean(model.curve.seconds))


def mean(runs: list[dict[str, F64]], metric: str) -> F64:
    """Each question's value, over the seeds."""
    found: F64 = np.mean([run[metric] for run in runs], axis=0)
    return found


def main() -> None:
    """Run all changes, or those that are named."""
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("data")
    parser.add_argument("--passes", type=int, default=None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", default=list(CHANGES))
    given = parser.parse_args()
    loaded = load(given.data)
    base = SequenceConfig(passes=given.passes, repeat_weight=1.0)
    out: dict[str, Any] = {}
    known: list[dict[str, F64]] = []
    for name in dict.fromkeys(["as it is", *given.only]):
        started = time.perf_counter()
        runs = [
            measured(loaded.interactions, loaded.features, CHANGES[name], base, seed)
            for seed in given.seeds
        ]
        values = [run for run, _ in runs]
        known = known or values
        out[name] = {"seconds a pass": float(np.mean([took for _, took in runs]))}
        for metric in ("hit_rate", "ndcg"):
            gain = paired_bootstrap(mean(values, metric), mean(known, metric))
            out[name][metric] = float(mean(values, metric).mean())
            out[name][f"{metric} against the default"] = [gain.mean, gain.low, gain.high]
        print(name, out[name], f"{time.perf_counter() - started:.0f} s", file=sys.stderr)
    json.dump({"data": loaded.name, "seeds": given.seeds, "changes": out}, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
