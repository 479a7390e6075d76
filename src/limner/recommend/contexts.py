"""The context of an item for a user, as a bandit sees it: few numbers, none of them a position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from limner.catalog.catalog import Catalog
from limner.events.batch import F64, I64
from limner.model.blend import FAMILIES
from limner.model.protocol import History
from limner.profile.state import ProfileState
from limner.recommend.families import LIVE, Mixture

CONTEXT = (
    "one", "score", *FAMILIES, "popular", "trending", "new", "portrait", "price", "had",
    "passed over",
)  # fmt: skip
"""The numbers of a context, by name."""
WIDTH = len(CONTEXT)
FARTHEST = 5.0
"""Standard deviations at which a number is cut."""


def contexts(
    state: ProfileState,
    history: History,
    parts: Mapping[str, F64],
    score: F64,
    items: Sequence[int],
    n: int,
) -> F64:
    """The contexts of `items`, (len(items), WIDTH), rounded to three places.

    The score, each part of it, the live families and how near the price lies to what the user
    usually takes, in standard deviations over the first `n` items; 1; whether the user had the
    item; and what it lost for being passed over, in the same unit. What is not known is 0.
    """
    rows = np.asarray(items, dtype=np.int64)
    out = np.zeros((len(rows), WIDTH))
    live = Mixture(state, None)
    columns = {"score": score, **{name: parts[name] for name in FAMILIES if name in parts}}
    for name in ("popular", "trending", "new", "portrait"):
        columns[name] = parts[name] if name in parts else LIVE[name](live, history)
    for name, column in columns.items():
        out[:, CONTEXT.index(name)] = _even(column[rows], n)
    out[:, CONTEXT.index("price")] = _even(_price_fit(state.catalog, history, rows), n)
    out[:, 0] = 1.0
    out[:, CONTEXT.index("had")] = np.isin(rows, history.items)
    if "passed over" in parts:
        passed = parts["passed over"][rows]
        out[:, CONTEXT.index("passed over")] = _even(passed, n) if passed.any() else 0.0
    return np.round(out, 3)


def _even(values: F64, n: int) -> F64:
    """In standard deviations from the mean, both over the first n."""
    mean, sd = float(values[:n].mean()), float(values[:n].std())
    if sd < 1e-12:
        return np.zeros(len(values))
    out: F64 = np.clip((values - mean) / sd, -FARTHEST, FARTHEST)
    return out


def _price_fit(catalog: Catalog, history: History, rows: I64) -> F64:
    """−|log price − the mean log price of what the user took|; the mean over all where unknown."""
    out = np.zeros(len(rows))
    if "price" not in catalog.attributes or not len(history):
        return out
    prices = catalog.numbers_at("price", catalog.current.view)
    with np.errstate(invalid="ignore", divide="ignore"):
        logs = np.log(np.where(prices > 0, prices, np.nan))
    mine, worth = logs[history.items], np.maximum(history.weights, 0.0)
    known = ~np.isnan(mine) & (worth > 0)
    if not known.any():
        return out
    found = -np.abs(logs[rows] - float(np.average(mine[known], weights=worth[known])))
    if np.isnan(found).all():
        return out
    return np.where(np.isnan(found), np.nanmean(found), found)
