"""What any recommender must beat, each in the plainest form that works; scores are (n, n_items)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import scipy  # its parts are loaded when used: opening a store should not wait for them

from limner.events.batch import DAY, F64
from limner.model.moments import owners_of
from limner.model.protocol import F32, History, Interactions

Scorer = Callable[[Sequence[History]], F32]


def baselines(data: Interactions) -> dict[str, Scorer]:
    """Every baseline fitted on `data`, by name."""
    return {
        "most popular": most_popular(data),
        "own most frequent": most_frequent(data),
        "item-to-item": item_to_item(data),
    }


def most_popular(data: Interactions, days: float = 28.0) -> Scorer:
    """Counts over the last `days`: what sells now, the same for everyone."""
    counts = _recent(data, days).astype(np.float32)
    return lambda histories: np.tile(counts, (len(histories), 1))


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
    owners = owners_of(data.offsets)
    chosen = scipy.sparse.csr_matrix(
        (np.ones(len(owners), dtype=np.float32), (owners, data.items)),
        shape=(data.n_users, data.n_items),
    )
    chosen.sum_duplicates()
    chosen.data[:] = 1.0
    users = np.asarray(chosen.sum(axis=0)).ravel()
    unit = (
        (chosen @ scipy.sparse.diags(1.0 / np.sqrt(np.maximum(users, 1.0))))
        .tocsr()
        .astype(np.float32)
    )
    by_item = unit.T.tocsr()

    def score(histories: Sequence[History]) -> F32:
        sets = [np.unique(history.items) for history in histories]
        offsets = np.concatenate([[0], np.cumsum([len(items) for items in sets])])
        shown = np.concatenate(sets) if sets else np.zeros(0, dtype=np.int64)
        rows = scipy.sparse.csr_matrix(
            (np.ones(len(shown), dtype=np.float32), shown, offsets),
            shape=(len(histories), data.n_items),
        )
        out: F32 = ((rows @ by_item).toarray() @ unit).astype(np.float32)
        own = np.repeat(np.arange(len(sets)), np.diff(offsets))
        out[own, shown] -= (users[shown] > 0).astype(np.float32)
        return out

    return score


def _recent(data: Interactions, days: float) -> F64:
    """Counts of the last `days` before the newest event, older ones far behind as tie-breakers."""
    newest = int(data.times.max(initial=0))
    weights = np.where(data.times > newest - int(days * DAY), 1.0, 1e-4)
    return np.bincount(data.items, weights, minlength=data.n_items).astype(np.float64)
