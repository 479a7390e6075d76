"""What a sequence model gains by starting from one trained in another field.

    python benchmarks/transfer.py FOLDER > transfer.json

FOLDER holds MovieLens-100K. One half of its items, drawn at random, is the field learned before;
the other half is the new one, of which only some users' events are there to learn from. No item is
in both; attributes (genres) mean the same. Each user's last item of the new field is asked for,
in a ranking of all of its items that the user has not had.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace

import numpy as np

from limner.app import quiet
from limner.evaluate.asked import Asked, leave_last_out
from limner.evaluate.ranked import ranks_by, values_of
from limner.events.batch import F64, Bool
from limner.metrics.intervals import paired_bootstrap
from limner.model.network import SequenceConfig
from limner.model.protocol import Interactions, ItemFeatures
from limner.model.sequence import SequenceModel
from limner.model.transfer import Transferred
from limner.sources.dataset import load


def field(
    data: Interactions, features: ItemFeatures, items: Bool
) -> tuple[Interactions, ItemFeatures]:
    """The events of some items, under numbers of their own."""
    number = np.cumsum(items) - 1
    kept = data.where(items[data.items])
    some = np.flatnonzero(items)
    renumbered = number[kept.items].astype(np.int32)
    return replace(kept, items=renumbered, n_items=len(some)), features.take(some)


def ndcg(model: SequenceModel, asked: Asked) -> F64:
    """NDCG@10 of each question."""
    return values_of(ranks_by({"m": model.score}, {}, asked, quiet)["m"], 10)["ndcg"]


def measured(
    folder: str, *, shares: tuple[float, ...], seeds: tuple[int, ...], passes: int
) -> dict[str, object]:
    """For each share of the users who are known of the new field: both ways, and the gain."""
    loaded = load(folder)
    data, features = loaded.interactions, loaded.features
    half = np.random.default_rng(7).permutation(data.n_items) % 2 == 0
    old, new = field(data, features, half), field(data, features, ~half)
    split = leave_last_out(new[0])
    config = SequenceConfig(depth=1, passes=passes)
    started = time.perf_counter()
    source = SequenceModel(config)
    source.fit(*old, progress=quiet)
    out: dict[str, object] = {
        "events learned before": len(old[0].items),
        "items": [old[0].n_items, new[0].n_items],
        "seconds before": time.perf_counter() - started,
    }
    owner = np.repeat(np.arange(split.learned.n_users), np.diff(split.learned.offsets))
    for share in shares:
        known = np.random.default_rng(8).random(split.learned.n_users) < share
        learned = split.learned.where(known[owner])
        plain: list[F64] = []
        moved: list[F64] = []
        for seed in seeds:
            fresh = SequenceModel(replace(config, seed=seed))
            started_ = Transferred(source, seed=seed)
            for model, values in ((fresh, plain), (started_, moved)):
                model.fit(learned, new[1], progress=quiet)
                values.append(ndcg(model, split.validation))
        ours, theirs = np.mean(moved, axis=0), np.mean(plain, axis=0)
        gain = paired_bootstrap(ours, theirs, users=split.validation.users)
        print(share, theirs.mean(), ours.mean(), gain, file=sys.stderr)
        out[f"{share:.0%} of users"] = {
            "events": len(learned.items),
            "from nothing": float(theirs.mean()),
            "from the other field": float(ours.mean()),
            "gain": [gain.mean, gain.low, gain.high],
        }
    return out


if __name__ == "__main__":
    json.dump(
        measured(sys.argv[1], shares=(0.02, 0.05, 0.1, 0.2), seeds=(0, 1, 2), passes=10),
        sys.stdout,
        indent=2,
    )
    print()
