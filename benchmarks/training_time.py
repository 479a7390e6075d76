"""How long a default training takes on a set of MovieLens-1M's size, which is drawn here.

    python benchmarks/training_time.py [--users N] [--items N] [--ratings N] [--passes N] > out.json

Users are as active, and items as popular, as Zipf and a log-normal have it (165 ratings a user on
average, 20 at least; no user rates an item twice); each user keeps to a fifth of the items, so that
there is something to learn. Times do not depend on what is learned: each closed form is fitted once
and the sequence model, by default settings, for so many passes; the rest is extrapolated from them.
Seconds are of the processor, so that other work beside it does not count (one thread:
OMP_NUM_THREADS=1), and by the clock.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np

from limner.app import quiet
from limner.events.batch import DAY, F64, I64
from limner.model.network import SequenceConfig
from limner.model.protocol import Interactions, ItemFeatures, Model
from limner.model.sequence import SequenceModel
from limner.model.training import families

TASTES = 5
LEAST = 20


def drawn(users: int, items: int, ratings: int, seed: int = 0) -> Interactions:
    """About so many ratings, 1 to 5 stars, of users who each like one fifth of the items more."""
    rng = np.random.default_rng(seed)
    active = rng.lognormal(0.0, 1.0, users)
    each = _shared(active, ratings - LEAST * users, items - LEAST) + LEAST
    popular = 1.0 / (np.arange(items) + 30.0)
    taste = rng.integers(0, TASTES, items)
    chosen: list[I64] = []
    for user, n in enumerate(each.tolist()):
        liked = popular * np.where(taste == user % TASTES, 6.0, 1.0)
        # who comes first in races of exponential times is a draw without replacement
        chosen.append(np.argpartition(rng.exponential(size=items) / liked, n - 1)[:n])
    counts = np.array([len(one) for one in chosen])
    total = int(counts.sum())
    owners = np.repeat(np.arange(users), counts)
    times = rng.integers(0, 1000 * DAY, total)
    order = np.lexsort((times, owners))
    return Interactions(
        np.concatenate([[0], np.cumsum(counts)]),
        _within(np.concatenate(chosen), owners, rng).astype(np.int32),
        times[order],
        np.ones(total),
        np.full(total, -1),
        np.arange(total),
        items,
        rng.integers(1, 6, total).astype(np.float64),
    )


def _shared(active: F64, total: int, most: int) -> I64:
    """`total` split as `active` says, at most `most` each."""
    share = active / active.sum()
    for _ in range(20):
        share = np.minimum(share * total, most) / total
        share *= 1.0 / share.sum()
    out: I64 = np.minimum(np.round(share * total), most).astype(np.int64)
    return out


def _within(items: I64, owners: I64, rng: np.random.Generator) -> I64:
    """The items of each owner in a random order."""
    found: I64 = items[np.lexsort((rng.random(len(items)), owners))]
    return found


def measured(data: Interactions, passes: int) -> dict[str, Any]:
    """Seconds of each family's fit, and of a pass of the sequence model, by default settings."""
    nothing = ItemFeatures({}, {}, np.ones(data.n_items, dtype=bool))
    seconds: dict[str, list[float]] = {}
    for name, model in families(nothing).items():
        if isinstance(model, SequenceModel):
            continue
        seconds[name] = _timed(model, data, nothing)
        print(name, *seconds[name], file=sys.stderr)
    sequence = SequenceModel(replace(SequenceConfig(), passes=passes))
    whole = _timed(sequence, data, nothing)
    default = SequenceModel()._passes(len(data.items))
    closed = sum(processor for processor, _ in seconds.values())
    return {
        "users": data.n_users, "items": data.n_items, "ratings": len(data.items),
        "seconds (processor, clock)": seconds, "parameters": sequence.parameters,
        f"sequence, {passes} passes": whole,
        "a pass by the clock": [round(took, 1) for took in sequence.curve.seconds],
        "passes by default": default,
        "one fit of all, extrapolated": round(closed + default * whole[0] / passes),
    }  # fmt: skip


def _timed(model: Model, data: Interactions, features: ItemFeatures) -> list[float]:
    """Seconds of a fit: of the processor, by the clock."""
    processor, clock = time.process_time(), time.perf_counter()
    model.fit(data, features, progress=quiet)
    return [round(time.process_time() - processor, 1), round(time.perf_counter() - clock, 1)]


def main() -> None:
    """Draw, fit, and say how long it took."""
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--users", type=int, default=6_040)
    parser.add_argument("--items", type=int, default=3_706)
    parser.add_argument("--ratings", type=int, default=1_000_209)
    parser.add_argument("--passes", type=int, default=1)
    given = parser.parse_args()
    data = drawn(given.users, given.items, given.ratings)
    json.dump(measured(data, given.passes), sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
