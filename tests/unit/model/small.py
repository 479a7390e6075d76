"""A small shop whose customers have tastes: what the model tests learn from."""

from __future__ import annotations

import numpy as np

from limner.events.batch import DAY
from limner.model.protocol import Interactions, ItemFeatures


def silent(stage: str, done: int, total: int) -> None:
    """No progress shown."""


def shop(
    *, users: int = 60, items: int = 80, baskets: int = 12, size: int = 4, seed: int = 0
) -> tuple[Interactions, ItemFeatures]:
    """Each user likes one of four categories, and buys some favourites of it again and again."""
    rng = np.random.default_rng(seed)
    category = np.arange(items) % 4
    rows: list[tuple[int, int, int, int]] = []
    for user in range(users):
        liked = np.flatnonzero(category == user % 4)
        favourites = rng.choice(liked, 3, replace=False)
        times = np.sort(rng.integers(0, 100 * DAY, size=baskets))
        for number, time in enumerate(times):
            chosen = {int(rng.choice(favourites)), int(rng.choice(liked))}
            chosen |= {int(item) for item in rng.integers(0, items, size=size - 2)}
            rows += [(user, int(time), user * baskets + number, item) for item in sorted(chosen)]
    table = np.array(rows, dtype=np.int64)
    counts = np.bincount(table[:, 0], minlength=users)
    data = Interactions(
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        items=table[:, 3].astype(np.int32),
        times=table[:, 1],
        weights=np.ones(len(table)),
        groups=table[:, 2],
        positions=np.arange(len(table)),
        n_items=items,
    )
    features = ItemFeatures(
        {"category": category.astype(np.int32)},
        {"category": ["tea", "bread", "fruit", "cheese"]},
        np.ones(items, dtype=bool),
    )
    return data, features
