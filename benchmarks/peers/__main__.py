"""Sequence models of other libraries beside Limner's, on one split, in one run.

    python -m benchmarks.peers DATA --python PEER [--model NAME] [--passes N] [--test] > peers.json

PEER is the Python of an environment of its own that has RecTools (`pip install "rectools[torch]"`).
Both sides learn from the same events (leave one out,
strict), with the same width, blocks, heads, length, loss (full softmax), passes and threads, and
list ten items for the same contexts; whole catalogue, what was had left out. Lists of the peer come
back as JSON and are judged here. Seconds a pass are of training alone, start-up left out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from limner.app import quiet
from limner.evaluate.asked import Asked, leave_last_out
from limner.evaluate.ranked import ranks_by, values_of
from limner.events.batch import F64, SECOND
from limner.metrics.intervals import bootstrap_interval, paired_bootstrap
from limner.model.moments import owners_of
from limner.model.network import SequenceConfig
from limner.model.protocol import Interactions, ItemFeatures
from limner.model.sequence import SequenceModel
from limner.sources.dataset import load

SIDE = Path(__file__).parent / "rectools_side.py"


def rows(data: Interactions) -> dict[str, list[int]]:
    """Events as columns, times in seconds."""
    return {
        "user": owners_of(data.offsets).tolist(),
        "item": data.items.tolist(),
        "time": (data.times // SECOND).tolist(),
    }


def contexts(asked: Asked) -> dict[str, list[int]]:
    """The contexts of questions as events, the user being the number of the question."""
    sizes = asked.last - asked.first
    places = np.concatenate([np.arange(a, b) for a, b in zip(asked.first, asked.last, strict=True)])
    return {
        "user": asked.users[np.repeat(np.arange(len(asked)), sizes)].tolist(),
        "item": asked.data.items[places].tolist(),
        "time": (asked.data.times[places] // SECOND).tolist(),
    }


def judged(lists: dict[str, list[int]], asked: Asked, k: int = 10) -> dict[str, F64]:
    """Hit rate and NDCG of each question from lists of `k` items a user."""
    places = np.full(len(asked), k)
    for row, (user, item) in enumerate(
        zip(asked.users.tolist(), asked.truth.tolist(), strict=True)
    ):
        listed = lists.get(str(user), [])
        if item in listed:
            places[row] = listed.index(item)
    hit = places < k
    return {"hit_rate": hit.astype(float), "ndcg": hit / np.log2(places + 2)}


def peer(python: str, work: dict[str, object]) -> dict[str, object]:
    """What the other side says: lists, seconds a pass, seconds in all."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "work.json"
        told.write_text(json.dumps(work))
        env = {**os.environ, "OMP_NUM_THREADS": str(work["threads"])}
        env.pop("PYTHONPATH", None)
        done = subprocess.run(
            [python, str(SIDE), str(told)], cwd=folder, env=env, check=False,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        if done.returncode:
            sys.exit(f"the other side failed with {done.returncode}; see what it said above")
        found: dict[str, object] = json.loads(done.stdout.strip().splitlines()[-1])
        return found


def own(
    data: Interactions, features: ItemFeatures, asked: Asked, config: SequenceConfig
) -> tuple[dict[str, F64], dict[str, float]]:
    """Limner's values of each question, and seconds: a pass (of the processor too), in all."""
    model = SequenceModel(config)
    started, processor = time.perf_counter(), time.process_time()
    model.fit(data, features, progress=quiet)
    seconds, processor = time.perf_counter() - started, time.process_time() - processor
    found = values_of(ranks_by({"m": model.score}, {}, asked, quiet)["m"], 10)
    a_pass = float(np.mean(model.curve.seconds))
    return found, {
        "a_pass": a_pass, "processor": processor / len(model.curve.seconds), "in_all": seconds
    }  # fmt: skip


def main() -> None:
    """Run both sides and print one JSON document."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", usage=__doc__)
    parser.add_argument("data")
    parser.add_argument("--python", required=True)
    parser.add_argument("--model", default="sasrec", choices=("sasrec", "esasrec", "hstu"))
    parser.add_argument("--passes", type=int, default=1)
    parser.add_argument("--depth", type=int, default=2, help="blocks; the width is 32 times it")
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test", action="store_true", help="ask the test, not the validation")
    given = parser.parse_args()
    loaded = load(given.data)
    split = leave_last_out(loaded.interactions)
    asked = split.test if given.test else split.validation
    plain = ItemFeatures({}, {}, loaded.features.available)  # the other side has ids only
    config = SequenceConfig(
        depth=given.depth, length=given.length, passes=given.passes, dropout=given.dropout,
        repeat_weight=1.0, holdout=0.0, threads=given.threads, seed=given.seed,
    )  # fmt: skip
    ours, took = own(split.learned, plain, asked, config)
    found = peer(given.python, {
        "model": given.model, "learned": rows(split.learned),
        "contexts": contexts(asked), "passes": given.passes, "width": config.width,
        "blocks": config.depth, "heads": config.heads, "length": given.length,
        "dropout": given.dropout, "seed": given.seed, "threads": given.threads,
        "items": loaded.interactions.n_items,
    })  # fmt: skip
    theirs = judged(found["lists"], asked)  # type: ignore[arg-type]
    quality = {}
    for name in ("hit_rate", "ndcg"):
        gain = paired_bootstrap(ours[name], theirs[name], users=asked.users)
        quality[name] = {
            "limner": bootstrap_interval(ours[name], users=asked.users).mean,
            "peer": float(theirs[name].mean()),
            "difference": [gain.mean, gain.low, gain.high],
        }
    slow = {"a_pass": found["seconds_a_pass"], "processor": found["processor_a_pass"],
            "in_all": found["seconds"]}  # fmt: skip
    json.dump(
        {
            "data": loaded.name, "asked": "test" if given.test else "validation",
            "model": given.model, "peer": found["version"], "settings": vars(given),
            "seconds": {
                name: {"limner": took[name], "peer": slow[name],
                       "times": float(slow[name]) / took[name]}  # type: ignore[arg-type]
                for name in took
            },
            "parameters": found.get("parameters"), "quality": quality,
        },
        sys.stdout, indent=2,
    )  # fmt: skip
    print()


if __name__ == "__main__":
    main()
