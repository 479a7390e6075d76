"""The closed-form companion: what those who chose this also choose now.

For items i and j, S[i, j] = Σ_users x[u, i] · y[u, j] / √(n[i] · m[j]): x is 1/√(size of the user's
assortment) if the user ever chose i, y the recency of their choice of j (at most 1), n and m the
totals of both, shrunk. Dividing by √m[j] takes half of popularity out, which a blend puts back as
far as it helps. Only the best `neighbours` of an item are kept, so the matrix stays sparse.

A score is the logarithm of a sum over the history, so each event's share of it is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import scipy  # its parts are loaded when used: opening a store should not wait for them

from limner.errors import ModelError
from limner.events.batch import DAY, F64, I64
from limner.model.artifacts import read_arrays, write_arrays
from limner.model.moments import owners_of
from limner.model.popularity import ages
from limner.model.protocol import F32, History, Interactions, ItemFeatures, Progress

_BLOCK = 1024  # items whose neighbours are computed at once


@dataclass(frozen=True, slots=True)
class ItemToItemConfig:
    """`neighbours` of an item that are kept; half-lives of what the history shows (`past`) and of
    what is chosen beside it (`target`); `shrink`: users added to every item's total; items of
    fewer than `min_users` users have no neighbours; `scale`: mean similarity that scores log 2.
    """

    neighbours: int = 200
    past_half_life_days: float = 90.0
    target_half_life_days: float = 14.0
    shrink: float = 3.0
    min_users: int = 2
    scale: float = 1e-3


class ItemToItem:
    """log(1 + mean similarity to the history / scale)."""

    def __init__(self, config: ItemToItemConfig | None = None) -> None:
        self.config = config or ItemToItemConfig()
        self.similar = scipy.sparse.csr_matrix((0, 0), dtype=np.float32)

    @property
    def name(self) -> str:
        """`item_to_item`."""
        return "item_to_item"

    def fit(self, data: Interactions, features: ItemFeatures, *, progress: Progress) -> None:
        """One sparse product in blocks of items; memory is bounded by a block's neighbours."""
        n = data.n_items
        config = self.config
        owners = owners_of(data.offsets)
        shape = (data.n_users, n)
        chosen = scipy.sparse.csr_matrix((data.weights, (owners, data.items)), shape=shape)
        chosen.sum_duplicates()
        chosen.data = (chosen.data > 0).astype(np.float64)
        users = np.asarray(chosen.sum(axis=0)).ravel()
        keep = scipy.sparse.diags((users >= config.min_users).astype(np.float64))
        chosen = (chosen @ keep).tocsr()
        chosen.eliminate_zeros()
        size = np.maximum(np.asarray(chosen.sum(axis=1)).ravel(), 1.0)
        past = (scipy.sparse.diags(1.0 / np.sqrt(size)) @ chosen).astype(np.float32)
        recent = data.weights * ages(data.times, config.target_half_life_days)
        target = scipy.sparse.csr_matrix((recent, (owners, data.items)), shape=shape)
        target.sum_duplicates()
        target.data = np.clip(target.data, 0.0, 1.0)
        totals = np.asarray(target.sum(axis=0)).ravel()
        target = (target @ keep @ scipy.sparse.diags(1.0 / np.sqrt(totals + config.shrink))).tocsr()
        target.data[target.data < 1e-4] = 0.0  # what no one chose for a year is no target
        target.eliminate_zeros()
        target = target.astype(np.float32)
        by_item = (
            past @ scipy.sparse.diags((1.0 / np.sqrt(users + config.shrink)).astype(np.float32))
        ).T
        by_item = by_item.tocsr().astype(np.float32)
        blocks = []
        for start in range(0, n, _BLOCK):
            progress("relating items", start, n)
            block = (by_item[start : start + _BLOCK] @ target).tocsr()
            blocks.append(_strongest(block, start, config.neighbours))
        progress("relating items", n, n)
        self.similar = scipy.sparse.vstack(blocks, format="csr") if blocks else self.similar

    def update(self, data: Interactions, features: ItemFeatures, *, progress: Progress) -> None:
        """Relate the items anew: the recency of every choice has changed."""
        self.fit(data, features, progress=progress)

    def embed(self, histories: Sequence[History]) -> F32:
        """No vector."""
        return np.zeros((len(histories), 0), dtype=np.float32)

    def score(self, histories: Sequence[History], items: I64 | None = None) -> F32:
        """Scores (n, n_items) or (n, len(items))."""
        if items is not None:
            return self._some(histories, items)
        out = np.zeros((len(histories), self.similar.shape[1]), dtype=np.float32)
        for row, history in enumerate(histories):
            had, amounts, _ = self._amounts(history)
            if len(had):
                sums = _add_rows(self.similar, had, amounts)
                out[row] = np.log1p(sums / (amounts.sum() * self.config.scale))
        return out

    def attribute(self, history: History, items: I64) -> F64:
        """Each event's share of the score of each of `items`, (k, n); they sum to it."""
        had, amounts, events = self._amounts(history)
        if not len(had):
            return np.zeros((len(items), len(history)))
        pulls = amounts * _between(self.similar, had, items).T  # (k, had)
        total = pulls.sum(axis=1, keepdims=True)
        score = np.log1p(total / (amounts.sum() * self.config.scale))
        share = np.divide(pulls, total, out=np.zeros_like(pulls), where=total > 0)
        return np.asarray(events * share[:, self._place(history)] * score)

    def neighbours(self, item: int, k: int = 10) -> tuple[I64, F64]:
        """The `k` items most chosen beside `item`, best first, and their similarities."""
        row = self.similar[item]
        order = np.argsort(-row.data, kind="stable")[:k]
        return row.indices[order].astype(np.int64), row.data[order].astype(np.float64)

    def save(self, folder: Path) -> None:
        """Write the sparse matrix in its three arrays."""
        arrays = {
            "data": self.similar.data,
            "indices": self.similar.indices,
            "indptr": self.similar.indptr,
        }
        meta = {"config": asdict(self.config), "items": self.similar.shape[1]}
        write_arrays(folder, arrays, meta)

    def load(self, folder: Path) -> None:
        """Read what `save` wrote."""
        arrays, meta = read_arrays(folder, ("data", "indices", "indptr"))
        n = int(meta["items"])
        if len(arrays["indptr"]) != n + 1:
            raise ModelError("neighbours do not fit the items", where=str(folder))
        self.config = ItemToItemConfig(**meta["config"])
        self.similar = scipy.sparse.csr_matrix(
            (arrays["data"], arrays["indices"], arrays["indptr"]), shape=(n, n)
        )

    # ------------------------------------------------------------ inside

    def _some(self, histories: Sequence[History], items: I64) -> F32:
        given = [self._amounts(history)[:2] for history in histories]
        every = np.unique(np.concatenate([np.zeros(0, np.int64), *(had for had, _ in given)]))
        amounts = np.zeros((len(histories), len(every)))
        for row, (had, some) in enumerate(given):
            amounts[row, np.searchsorted(every, had)] = some
        sums = amounts @ _between(self.similar, every, items)
        scale = np.maximum(amounts.sum(axis=1, keepdims=True), 1e-300) * self.config.scale
        return np.asarray(np.log1p(sums / scale), dtype=np.float32)

    def _place(self, history: History) -> I64:
        return np.unique(history.items, return_inverse=True)[1].reshape(-1)

    def _amounts(self, history: History) -> tuple[I64, F64, F64]:
        """(distinct items, amounts log(1 + decayed count), each event's share of its item)."""
        age = (history.now - history.times) / DAY
        weight = history.weights * np.exp2(-age / self.config.past_half_life_days)
        items, place = np.unique(history.items, return_inverse=True)
        sums = np.maximum(np.bincount(place.reshape(-1), weight, minlength=len(items)), 0.0)
        share = np.divide(weight, sums[place], out=np.zeros(len(weight)), where=sums[place] > 0)
        amounts = np.log1p(sums)
        if amounts.sum() <= 0:
            return items[:0].astype(np.int64), amounts[:0], share
        return items.astype(np.int64), amounts, share


def _cells(matrix: scipy.sparse.csr_matrix, rows: I64) -> tuple[I64, I64]:
    """(places of the entries of `rows` in the matrix's arrays, how many each row has)."""
    starts, stops = matrix.indptr[rows].astype(np.int64), matrix.indptr[rows + 1].astype(np.int64)
    lengths = stops - starts
    index = np.arange(int(lengths.sum())) + np.repeat(
        starts - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths
    )
    return index, lengths


def _between(matrix: scipy.sparse.csr_matrix, rows: I64, columns: I64) -> F64:
    """matrix[rows][:, columns], dense."""
    index, lengths = _cells(matrix, rows)
    wanted, which = np.unique(columns, return_inverse=True)
    place = np.full(matrix.shape[1], -1, dtype=np.int32)
    place[wanted] = np.arange(len(wanted))
    found = place[matrix.indices[index]]
    hit = np.flatnonzero(found >= 0)
    some = np.zeros((len(rows), len(wanted)))
    some[np.repeat(np.arange(len(rows)), lengths)[hit], found[hit]] = matrix.data[index[hit]]
    return some[:, which.reshape(-1)]


def _add_rows(matrix: scipy.sparse.csr_matrix, rows: I64, amounts: F64) -> F64:
    """Σ amounts[r] · matrix[rows[r]], dense: one gather and one bincount."""
    index, lengths = _cells(matrix, rows)
    return np.asarray(
        np.bincount(
            matrix.indices[index],
            matrix.data[index] * np.repeat(amounts, lengths),
            minlength=matrix.shape[1],
        )
    )


def _strongest(block: scipy.sparse.csr_matrix, first: int, k: int) -> scipy.sparse.csr_matrix:
    """The k largest entries of each row, without the item itself (row r is item first + r)."""
    indices, data, counts = [], [], []
    for row in range(block.shape[0]):
        start, stop = block.indptr[row], block.indptr[row + 1]
        items, values = block.indices[start:stop], block.data[start:stop]
        if stop - start > k + 1:
            best = np.argpartition(values, stop - start - k - 1)[-k - 1 :]
            items, values = items[best], values[best]
        order = np.argsort(-values, kind="stable")
        order = order[items[order] != first + row][:k]
        order = order[np.argsort(items[order])]
        indices.append(items[order])
        data.append(values[order])
        counts.append(len(order))
    return scipy.sparse.csr_matrix(
        (
            np.concatenate(data).astype(np.float32),
            np.concatenate(indices).astype(np.int32),
            np.concatenate([[0], np.cumsum(counts)]),
        ),
        shape=block.shape,
    )
