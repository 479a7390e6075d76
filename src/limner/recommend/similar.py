"""Items like an item, and items bought together with it: from all histories and what items say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from limner.events.batch import F64, I64, Bool
from limner.profile.state import ProfileState
from limner.recommend.conditions import met
from limner.recommend.crowd import BOUGHT, Crowd, crowd
from limner.recommend.recommend import title_of
from limner.recommend.retrieval import best, nearest_of, vectors_of
from limner.recommend.scorer import history_of

By = Literal["alike", "together"]

SHRINK = 3.0
"""Users, or baskets, added to an item's number: few of them prove little."""
NEAR = 200
"""Items that are near by what they say, beside those that were chosen by the same users."""


@dataclass(frozen=True, slots=True)
class SimilarItem:
    """An item beside another: `parts` sum to `score`; bought together in `times` baskets.

    `lift`: how many times as often as if the one had nothing to do with the other.
    """

    item_id: str
    title: str
    score: float
    parts: Mapping[str, float] = field(default_factory=dict)
    times: int | None = None
    lift: float | None = None


@dataclass(frozen=True, slots=True)
class SimilarItems:
    """Items like `item_id`, the most like first, or bought together with it."""

    item_id: str
    title: str
    by: By
    items: tuple[SimilarItem, ...]


def similar(
    state: ProfileState, item: int, now: int, *, n: int, by: By = "alike", filter: str = ""
) -> SimilarItems:
    """The `n` items nearest to an item.

    "alike": the cosine of who chose them, shrunk, plus the cosine of what they say. "together":
    the cosine of the baskets or sessions that they were bought in, shrunk.
    """
    catalog = state.catalog
    everyone = crowd(state, now)
    open_: Bool = catalog.available().copy()
    open_[item] = False
    if filter:
        open_ &= met(filter, state, history_of(state, -1, now))
    if by == "together":
        score, times, lift = _together(everyone, item)
        parts = {"together": score}
        chosen = np.flatnonzero(open_ & (score > 0))
    else:
        users = _cosine(everyone.pairs, everyone.n_items, item)[0]
        vectors = vectors_of(state)
        near, _ = nearest_of(state).search(vectors[item], NEAR)
        reached = users > 0
        reached[near] = True
        chosen = np.flatnonzero(open_ & reached)
        said = np.zeros(len(catalog))
        said[chosen] = np.maximum(vectors[chosen] @ vectors[item], 0)
        parts = {"chosen by the same": users, "content": said}
        score, times, lift = users + said, None, None
    order, _ = best(score[chosen], n)
    return SimilarItems(
        catalog.ids.values[item],
        title_of(catalog, item),
        by,
        tuple(
            SimilarItem(
                catalog.ids.values[other],
                title_of(catalog, other),
                float(score[other]),
                {name: float(values[other]) for name, values in parts.items()},
                None if times is None else int(times[other]),
                None if lift is None else float(lift[other]),
            )
            for other in chosen[order].tolist()
        ),
    )


def _cosine(pairs: I64, n_items: int, item: int) -> tuple[F64, F64, F64]:
    """(shrunk cosine, shared, holders) of each item with one.

    `pairs`: different (holder · n_items + item), ascending; a holder is a user or a basket.
    """
    holders, items = pairs // n_items, pairs % n_items
    number = np.bincount(items, minlength=n_items).astype(np.float64)
    with_it = holders[items == item]
    place = np.minimum(np.searchsorted(with_it, holders), max(len(with_it) - 1, 0))
    inside = with_it[place] == holders if len(with_it) else np.zeros(len(holders), dtype=bool)
    shared = np.bincount(items[inside], minlength=n_items).astype(np.float64)
    cosine = shared / np.sqrt((number[item] + SHRINK) * (number + SHRINK))
    return cosine, shared, number


def _together(everyone: Crowd, item: int) -> tuple[F64, F64, F64]:
    """(cosine, times, lift) of each item with one, over baskets."""
    bought = (everyone.worth >= min(BOUGHT, everyone.worth.max(initial=0.0))) & (
        everyone.groups != 0
    )
    keys = np.stack([everyone.rows[bought], everyone.groups[bought]], axis=1)
    if not len(keys):
        none = np.zeros(everyone.n_items)
        return none, none, none
    _, basket = np.unique(keys, axis=0, return_inverse=True)
    basket = basket.reshape(-1).astype(np.int64)
    pairs = np.unique(basket * everyone.n_items + everyone.items[bought])
    cosine, shared, number = _cosine(pairs, everyone.n_items, item)
    usual = number[item] * number / (basket.max() + 1)
    return cosine, shared, np.divide(shared, usual, out=np.zeros_like(usual), where=usual > 0)
