"""Ranking metrics at k, one value a user, so that means, intervals and pairs come after.

Ranked lists are (n, k) item ids, best first, −1 where a list is shorter; truth is one set of
item ids a user. The whole catalogue is ranked; sampled candidates would answer another question.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from limner.events.batch import F64, I64, Bool

_BLOCK = 64


def top_k(scores: npt.ArrayLike, k: int) -> I64:
    """The k best items a row, (n, k), best first; ties go to the lower id, −inf is never listed.

    >>> top_k([[0.1, 0.9, -np.inf, 0.9]], 4)
    array([[ 1,  3,  0, -1]])
    """
    table = np.atleast_2d(np.asarray(scores))
    n_items = table.shape[1]
    out = np.full((len(table), k), -1, dtype=np.int64)
    # Column c holds items c, c + columns, …; the items that fill no column are the tail.
    columns = n_items // _BLOCK
    tail = np.arange(columns * _BLOCK, n_items)
    down = columns * np.arange(_BLOCK)[:, None]
    for row, line in enumerate(table):
        if columns <= k:
            items = np.arange(n_items)
        else:
            # A column whose best is below the k-th best column cannot hold one of the k best.
            best = line[: columns * _BLOCK].reshape(_BLOCK, columns).max(axis=0)
            chosen = np.flatnonzero(best >= np.partition(best, columns - k)[columns - k])
            items = np.concatenate([(chosen + down).ravel(), tail])
        values = line[items]
        if len(values) > k:
            edge = np.partition(values, len(values) - k)[len(values) - k]
            above = np.flatnonzero(values > edge)
            tied = np.flatnonzero(values == edge)[: k - len(above)]
            kept = np.sort(np.concatenate([above, tied]))
            items, values = items[kept], values[kept]
        order = np.argsort(-values, kind="stable")
        order = order[values[order] > -np.inf]
        out[row, : len(order)] = items[order]
    return out


def hits(ranked: npt.ArrayLike, truth: Sequence[npt.ArrayLike]) -> Bool:
    """Which places of each ranked list hold an item of that user's truth, (n, k).

    >>> hits([[7, 3], [1, -1]], [[3], [1, 2]])
    array([[False,  True],
           [ True, False]])
    """
    table = np.asarray(ranked, dtype=np.int64)
    return np.stack(
        [
            np.isin(line, np.asarray(items, dtype=np.int64)) & (line >= 0)
            for line, items in zip(table, truth, strict=True)
        ]
        or [np.zeros(table.shape[1:], dtype=bool)]
    ).reshape(table.shape)


def hit_rate(found: Bool, k: int) -> F64:
    """1 for each user with at least one true item among the first k, else 0.

    >>> hit_rate(np.array([[False, True], [False, False]]), 2)
    array([1., 0.])
    """
    return np.asarray(found[:, :k].any(axis=1), dtype=np.float64)


def recall(found: Bool, sizes: npt.ArrayLike, k: int) -> F64:
    """The share of each user's true items (`sizes` of them) found among the first k.

    >>> recall(np.array([[False, True]]), [4], 2)
    array([0.25])
    """
    return np.asarray(
        found[:, :k].sum(axis=1) / np.maximum(np.asarray(sizes, dtype=np.float64), 1.0)
    )


def ndcg(found: Bool, sizes: npt.ArrayLike, k: int) -> F64:
    """Normalised discounted cumulative gain with gain 1 a true item (Järvelin & Kekäläinen 2002).

    The ideal list puts min(k, size) true items first.

    >>> ndcg(np.array([[True, False], [False, True]]), [1, 1], 2).round(3)
    array([1.   , 0.631])
    """
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discount)])
    best: F64 = ideal[np.clip(np.asarray(sizes, dtype=np.int64), 0, k)]
    gain: F64 = found[:, :k] @ discount[: found.shape[1]]
    return np.asarray(gain / np.where(best > 0, best, 1.0), dtype=np.float64)


def ranks(scores: npt.ArrayLike, items: npt.ArrayLike) -> F64:
    """The 1-based rank of one item a row; items that tie with it count half.

    >>> ranks([[0.5, 0.5, 0.9]], [0])
    array([2.5])
    """
    table = np.asarray(scores)
    own = table[np.arange(len(table)), np.asarray(items, dtype=np.int64)][:, None]
    above = (table > own).sum(axis=1)
    tied = (table == own).sum(axis=1) - 1
    return np.asarray(1.0 + above + tied / 2.0)
