"""What any recommender must beat, each in the plainest form that works; scores are (n, n_items)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec

import numpy as np
import scipy  # its parts are loaded when used: opening a store should not wait for them

from limner.events.batch import DAY, F64
from limner.model.moments import owners_of
from limner.model.protocol import F32, History, Interactions

Scorer = Callable[[Sequence[History]], F32]

EASE_ITEMS = 15_000
"""The most items for which a dense matrix of items by items is worth its memory."""


def baselines(data: Interactions) -> dict[str, Scorer]:
    """Every baseline of the next basket fitted on `data`, by name."""
    return {
        "most popular": most_popular(data),
        "own most frequent": most_frequent(data),
        "item-to-item": item_to_item(data),
    }


def one_answer(*, timed: bool, n_items: int) -> dict[str, Callable[[Interactions], Scorer]]:
    """What fits each baseline of the protocols that know one answer a question, by name.

    Without times nothing is popular lately, an EASE of more than `EASE_ITEMS` items would not fit
    into memory, and ALS is there where the package `implicit` is.
    """
    out: dict[str, Callable[[Interactions], Scorer]] = {
        "popular": partial(most_popular, days=float("inf")),
        "ItemKNN": item_to_item,
    }
    if timed:
        out["popular, 7 days"] = popular_lately
    if n_items <= EASE_ITEMS:
        out["EASE"] = ease
    if find_spec("implicit"):
        out["ALS"] = als
    return out


def most_popular(data: Interactions, days: float = 28.0) -> Scorer:
    """Counts over the last `days`: what sells now, the same for everyone."""
    counts = _recent(data, days).astype(np.float32)
    return lambda histories: np.tile(counts, (len(histories), 1))


def popular_lately(data: Interactions, days: float = 7.0) -> Scorer:
    """Counts over the `days` before the moment of asking (or before the newest event known)."""
    order = np.argsort(data.times, kind="stable")
    times, items = data.times[order], data.items[order]
    total = np.bincount(items, minlength=data.n_items) * 1e-6  # older ones break ties
    newest = int(times[-1]) + 1 if len(times) else 0

    def score(histories: Sequence[History]) -> F32:
        out = np.empty((len(histories), data.n_items), dtype=np.float32)
        for row, history in enumerate(histories):
            now = min(history.now, newest)
            first, last = np.searchsorted(times, [now - int(days * DAY), now], side="left")
            out[row] = np.bincount(items[first:last], minlength=data.n_items) + total
        return out

    return score


def most_frequent(data: Interactions) -> Scorer:
    """How often the user chose the item; what they never chose follows by popularity."""
    popular = _recent(data, 28.0)
    filler = (popular / (popular.max(initial=0.0) + 1.0)).astype(np.float32)  # below one choice

    def score(histories: Sequence[History]) -> F32:
        out = np.tile(filler, (len(histories), 1))
        for row, history in enumerate(histories):
            out[row] += np.bincount(history.items, minlength=data.n_items).astype(np.float32)
        return out

    return score


def item_to_item(data: Interactions) -> Scorer:
    """Σ over the user's items of their cosine with the item, from who chose what (Sarwar 2001).

    Exact, without keeping only near neighbours: cosines are summed through the users, so no
    item-by-item matrix is built. An item is no neighbour of itself.
    """
    chosen = _chosen(data)
    users = np.asarray(chosen.sum(axis=0)).ravel()
    unit = (
        (chosen @ scipy.sparse.diags(1.0 / np.sqrt(np.maximum(users, 1.0))))
        .tocsr()
        .astype(np.float32)
    )
    by_item = unit.T.tocsr()

    def score(histories: Sequence[History]) -> F32:
        rows = _rows(histories, data.n_items)
        out: F32 = ((rows @ by_item).toarray() @ unit).astype(np.float32)
        own, shown = rows.nonzero()
        out[own, shown] -= (users[shown] > 0).astype(np.float32)
        return out

    return score


def ease(data: Interactions, ridge: float = 250.0) -> Scorer:
    """Scores x B with B[i, j] = −P[i, j] / P[j, j], P = (XᵀX + λI)⁻¹, diagonal 0 (Steck 2019).

    X says who ever chose what. The plain form, dense: n_items² × 8 bytes.
    """
    chosen = _chosen(data)
    gram = (chosen.T @ chosen).toarray().astype(np.float32 if data.n_items > 5000 else np.float64)
    gram[np.diag_indices(data.n_items)] += ridge
    inverse = scipy.linalg.inv(gram, overwrite_a=True, check_finite=False)
    inverse /= -np.diag(inverse).copy()
    np.fill_diagonal(inverse, 0.0)
    return lambda histories: np.asarray(_rows(histories, data.n_items) @ inverse, dtype=np.float32)


def als(data: Interactions, factors: int = 128, passes: int = 15, seed: int = 0) -> Scorer:
    """Weighted matrix factorisation (Hu, Koren and Volinsky 2008) by the package `implicit`.

    A user is folded in from the history that asks.
    """
    from implicit.cpu.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits  # comes with implicit, which asks for it

    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(
            factors=factors, regularization=0.05, alpha=5.0, iterations=passes, random_state=seed
        )
        model.fit(_chosen(data), show_progress=False)
    vectors = np.asarray(model.item_factors, dtype=np.float32)

    def score(histories: Sequence[History]) -> F32:
        rows = _rows(histories, data.n_items)
        users = model.recalculate_user(np.arange(len(histories)), rows)
        out: F32 = np.asarray(users, dtype=np.float32) @ vectors.T
        return out

    return score


def _chosen(data: Interactions) -> scipy.sparse.csr_matrix:
    """Who ever chose what: 1s, (n_users, n_items)."""
    shape = (data.n_users, data.n_items)
    ones = np.ones(len(data.items), dtype=np.float32)
    chosen = scipy.sparse.csr_matrix((ones, (owners_of(data.offsets), data.items)), shape=shape)
    chosen.sum_duplicates()
    chosen.data[:] = 1.0
    return chosen


def _rows(histories: Sequence[History], n_items: int) -> scipy.sparse.csr_matrix:
    """What each history holds: 1s, (n, n_items)."""
    sets = [np.unique(history.items) for history in histories]
    offsets = np.concatenate([[0], np.cumsum([len(items) for items in sets])])
    shown = np.concatenate(sets) if sets else np.zeros(0, dtype=np.int64)
    ones = np.ones(len(shown), dtype=np.float32)
    return scipy.sparse.csr_matrix((ones, shown, offsets), shape=(len(histories), n_items))


def _recent(data: Interactions, days: float) -> F64:
    """Counts of the last `days` before the newest event, older ones far behind as tie-breakers."""
    newest = int(data.times.max(initial=0))
    weights = np.where(newest - data.times < days * DAY, 1.0, 1e-4)
    return np.bincount(data.items, weights, minlength=data.n_items).astype(np.float64)
