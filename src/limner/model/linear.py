"""The closed-form companions: items from items, by one linear map solved at once.

A history is a row φ over the items, in which an event k moments back counts w(k) = 1 / (1 + k/f):
what was done last says most, and the tail is long enough for long histories. Scores are φ B.

`ease` learns what lies together: with X (users × items) the items a user ever chose and
P = (XᵀX + λI)⁻¹, B[i, j] = −P[i, j] / P[j, j], B[j, j] = 0: each item regressed on all others
(Steck 2019), with recency on the input row alone.

`transitions` learns what comes next: a ridge regression from φ before each moment to the items
chosen at it, B = (ΦᵀΦ + λI)⁻¹ ΦᵀY (Hoerl and Kennard 1970). Moments of one user overlap, so both
products are sums over pairs of moments with weights known in advance:

    ΦᵀY  = Σ w(s' − s − 1) m_s y_s'ᵀ,      ΦᵀΦ = Σ (Σ_{i<r} w(i) w(i + g)) (m_s m_s'ᵀ + m_s' m_sᵀ)

for moments s < s' = s + g of a user with r moments after s' (g = 0 once).

Both are sums over users, so a user is taken out exactly by subtraction and solving again. Only the
row φ changes with an event; the map is solved when the models are fitted. λ is in units of the
mean diagonal, so that one setting serves catalogues and histories of different size.

Up to `solved` items the map is dense. Above, the `solved` most chosen items are solved together,
every other item is regressed on them, counts as its own only regressor where it is the input (its
count is small beside λ), and the strongest `neighbours` of an item are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy  # its parts are loaded when used: opening a store should not wait for them

from limner.errors import ModelError
from limner.events.batch import F64, I64
from limner.model.artifacts import read_arrays, write_arrays
from limner.model.moments import flatten, in_order, moments, owners_of
from limner.model.protocol import F32, History, Interactions, ItemFeatures, Progress

_MOMENTS = 20_000  # whose products are made at once
_ROWS = 256  # of the map made at once
_DOUBLE = 6_000  # items up to which the solution has double precision
_DENSE = 0.03  # share of pairs beyond which a dense product is faster

Table = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class LinearConfig:
    """`sequential`: transitions, else ease; `ridge`: λ in units of the mean diagonal; `fade`:
    moments back at which an event counts half; `window`: moments back that count at all;
    `solved`: items solved together; `neighbours` of an item kept where there are more items.
    """

    sequential: bool
    ridge: float
    fade: float = 3.0
    window: int = 50
    solved: int = 15_000
    neighbours: int = 200


EASE = LinearConfig(sequential=False, ridge=8.0)
TRANSITIONS = LinearConfig(sequential=True, ridge=3.0)


@dataclass(frozen=True, slots=True)
class Sums:
    """What the map is solved from, float64 (n_items, n_items): sums over users.

    `gram`: inputs by inputs, symmetric; `cross`: inputs by targets (for ease the same); `rows`:
    how many inputs there were.
    """

    gram: scipy.sparse.csr_matrix
    cross: scipy.sparse.csr_matrix
    rows: int

    def without(self, other: Sums) -> Sums:
        """These less what some of their users contributed."""
        gram = _less(self.gram, other.gram)
        same = self.cross is self.gram
        cross = gram if same else _less(self.cross, other.cross)
        return Sums(gram, cross, self.rows - other.rows)


class Linear:
    """φ B over its typical size. `map` is dense, or sparse where items are many."""

    def __init__(self, config: LinearConfig) -> None:
        self.config = config
        self.map: F32 | scipy.sparse.csr_matrix = np.zeros((0, 0), dtype=np.float32)
        self.scale = 1.0
        self._sums: Sums | None = None
        self._folder: Path | None = None

    @property
    def name(self) -> str:
        """`ease` or `transitions`."""
        return "transitions" if self.config.sequential else "ease"

    def fit(self, data: Interactions, features: ItemFeatures, *, progress: Progress) -> None:
        """Sum over all users and solve: one inverse of at most `solved` items."""
        self._solve(sums_of(data, self.config, progress=progress), progress)

    def update(self, data: Interactions, features: ItemFeatures, *, progress: Progress) -> None:
        """Sum and solve again."""
        self.fit(data, features, progress=progress)

    def forget(self, theirs: Interactions, *, progress: Progress) -> None:
        """Take users out, as if the map had been fitted without them.

        `theirs`: all that these users had in the data of the last fit. Raises ModelError if
        there was none.
        """
        if self._sums is None and self._folder is not None:
            self._sums = _read_sums(self._folder, self.config)
        if self._sums is None:
            raise ModelError("nothing was learned yet", mend="fit the model first")
        self._solve(self._sums.without(sums_of(theirs, self.config, progress=progress)), progress)

    def embed(self, histories: Sequence[History]) -> F32:
        """No vector."""
        return np.zeros((len(histories), 0), dtype=np.float32)

    def score(self, histories: Sequence[History], items: I64 | None = None) -> F32:
        """Scores (n, n_items) or (n, len(items)); 0 throughout for an empty history."""
        n = self.map.shape[0]
        owners, worth = self._inputs(histories)
        had = np.concatenate([np.zeros(0, np.int32), *(h.items for h in histories)])
        rows = scipy.sparse.csr_matrix(
            (worth.astype(np.float32), (owners, had)), shape=(len(histories), n)
        )
        rows.eliminate_zeros()  # what lies beyond the window
        if items is None:
            found = rows @ self.map
        else:
            some = np.unique(rows.indices)
            found = rows[:, some] @ self.map[some][:, items]
        if scipy.sparse.issparse(found):
            found = found.toarray()
        out: F32 = np.asarray(found, dtype=np.float32)
        out *= np.float32(self.scale)
        return out

    def attribute(self, history: History, items: I64) -> F64:
        """What each event adds to the score of each of `items`, (k, n); they sum to it."""
        _, worth = self._inputs([history])
        had, place = np.unique(history.items, return_inverse=True)
        towards = self.map[had][:, items]
        table = towards if isinstance(towards, np.ndarray) else towards.toarray()
        return np.asarray(worth * table[place.reshape(-1)].T * self.scale, dtype=np.float64)

    def save(self, folder: Path) -> None:
        """Write the map, and the sums that a user can be taken out of."""
        arrays = {"map": self.map}
        if scipy.sparse.issparse(self.map):
            arrays = _arrays("map", self.map)
        if self._sums is None and self._folder is not None:
            self._sums = _read_sums(self._folder, self.config)
        meta: dict[str, Any] = {"config": asdict(self.config), "scale": self.scale,
                                "items": self.map.shape[0], "rows": None}  # fmt: skip
        if self._sums is not None:
            meta["rows"] = self._sums.rows
            arrays |= _arrays("gram", scipy.sparse.triu(self._sums.gram, format="csr"))
            if self.config.sequential:
                arrays |= _arrays("cross", self._sums.cross)
        write_arrays(folder, arrays, meta)

    def load(self, folder: Path) -> None:
        """Read what `save` wrote; the sums only when a user is to be taken out."""
        _, meta = read_arrays(folder, ())
        self.config = LinearConfig(**meta["config"])
        self.scale, n = float(meta["scale"]), int(meta["items"])
        self._sums, self._folder = None, folder if meta["rows"] is not None else None
        if n > self.config.solved:
            self.map = _read_sparse(folder, "map", n)
        else:
            self.map = read_arrays(folder, ("map",))[0]["map"]

    def _solve(self, sums: Sums, progress: Progress) -> None:
        self._sums, self._folder = sums, None
        self.map = solved(sums, self.config, progress=progress)
        self.scale = 1.0 / _size(self.map, sums)

    def _inputs(self, histories: Sequence[History]) -> tuple[I64, F64]:
        """(history of each event, what it counts)."""
        owners, _ = flatten(list(histories))
        if not len(owners):
            return owners, np.zeros(0)
        times, groups, weights = (
            np.concatenate([getattr(h, name) for h in histories])
            for name in ("times", "groups", "weights")
        )
        moment = moments(owners, in_order(times, groups), groups)
        last = np.zeros(len(histories), dtype=np.int64)
        last[owners] = moment  # the last one written is the newest
        return owners, np.maximum(weights, 0.0) * fading(last[owners] - moment, self.config)


def fading(back: npt.NDArray[np.integer[Any]], config: LinearConfig) -> F64:
    """w: what an event counts that lies so many moments back.

    >>> fading(np.array([0, 3, 9, 50]), EASE).tolist()
    [1.0, 0.5, 0.25, 0.0]
    """
    return np.where(back < config.window, 1.0 / (1.0 + back / config.fade), 0.0)


# ---------------------------------------------------------------- sums over users


def sums_of(data: Interactions, config: LinearConfig, *, progress: Progress) -> Sums:
    """The sums over the users of `data`; events of no or negative weight are nothing chosen."""
    owners = owners_of(data.offsets)
    worth = np.maximum(data.weights, 0.0)
    if not config.sequential:
        chosen = scipy.sparse.csr_matrix((data.n_users, data.n_items))
        if len(worth):
            order = np.lexsort((-worth, data.items, owners))  # a pair counts by its best event
            keys = owners[order] * np.int64(data.n_items) + data.items[order]
            best = order[np.concatenate([[True], keys[1:] != keys[:-1]])]
            chosen = scipy.sparse.csr_matrix(
                (worth[best], (owners[best], data.items[best])), shape=chosen.shape
            )
            chosen.eliminate_zeros()
        gram = (chosen.T @ chosen).tocsr()
        return Sums(gram, gram, int((np.diff(chosen.indptr) > 0).sum()))
    moment = moments(owners, in_order(data.times, data.groups), data.groups)
    n = int(moment[-1]) + 1 if len(moment) else 0
    size = np.bincount(moment[worth > 0], minlength=n)
    shape = (n, data.n_items)
    inputs = scipy.sparse.csr_matrix((worth, (moment, data.items)), shape=shape)
    targets = scipy.sparse.csr_matrix(
        (worth / np.sqrt(np.maximum(size, 1))[moment], (moment, data.items)), shape=shape
    )
    of = np.zeros(n, dtype=np.int64)
    of[moment] = owners
    gram = cross = scipy.sparse.csr_matrix((data.n_items, data.n_items))
    starts = np.searchsorted(of, np.arange(data.n_users + 1))
    edges = _edges(starts, n)
    for first, last in pairwise(edges):
        progress("relating moments", first, n)
        within, ahead = _between(of[first:last], config)
        mine = inputs[first:last]
        gram = gram + mine.T @ (within @ mine)
        cross = cross + mine.T @ (ahead @ targets[first:last])
    progress("relating moments", n, n)
    return Sums(gram.tocsr(), cross.tocsr(), int((np.diff(starts) - 1).clip(0).sum()))


def _edges(starts: I64, n: int) -> list[int]:
    """Cuts between users such that each part has about `_MOMENTS` moments."""
    wanted = np.arange(0, n, _MOMENTS)
    return [*np.unique(starts[np.searchsorted(starts, wanted)]).tolist(), n] if n else [0]


def _between(
    of: I64, config: LinearConfig
) -> tuple[scipy.sparse.csr_matrix, scipy.sparse.csr_matrix]:
    """The weights of pairs of moments of one user (`of` each moment): in ΦᵀΦ, and in ΦᵀY."""
    n = len(of)
    stop = np.searchsorted(of, of, side="right")
    left = stop - np.arange(n) - 1
    weight = fading(np.arange(config.window + int(left.max(initial=0)) + 1), config)
    rows, columns, both, next_ = [], [], [], []
    for gap in range(min(config.window, int(left.max(initial=0))) + 1):
        early = np.flatnonzero(left >= gap)
        late = early + gap
        sums = np.concatenate([[0.0], np.cumsum(weight[: len(weight) - gap] * weight[gap:])])
        rows.append(early)
        columns.append(late)
        both.append(sums[left[late]])
        next_.append(np.full(len(early), weight[gap - 1] if gap else 0.0))
    at = (np.concatenate(rows), np.concatenate(columns))
    upper = scipy.sparse.csr_matrix((np.concatenate(both), at), shape=(n, n))
    ahead = scipy.sparse.csr_matrix((np.concatenate(next_), at), shape=(n, n))
    ahead.eliminate_zeros()
    return (upper + scipy.sparse.triu(upper, k=1).T).tocsr(), ahead


def _less(a: scipy.sparse.csr_matrix, b: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
    out = (a - b).tocsr()
    out.data[np.abs(out.data) < 1e-9] = 0.0  # what rounding leaves of a difference
    out.eliminate_zeros()
    return out


# ---------------------------------------------------------------- solving


def solved(
    sums: Sums, config: LinearConfig, *, progress: Progress
) -> F32 | scipy.sparse.csr_matrix:
    """B. Of the catalogue's size if it has at most `solved` items, else sparse."""
    n = sums.gram.shape[0]
    energy = sums.gram.diagonal()
    head = np.flatnonzero(energy > 0)
    if len(head) > config.solved:
        head = np.sort(np.argsort(-energy, kind="stable")[: config.solved])
    penalty = config.ridge * float(energy.sum()) / max(1, n)
    sparse = n > config.solved
    out = np.zeros((0, 0) if sparse else (n, n), dtype=np.float32)
    kept: list[scipy.sparse.csr_matrix] = []
    if not len(head):
        return scipy.sparse.csr_matrix((n, n), dtype=np.float32) if sparse else out
    progress("solving", 0, n)
    inverse = _inverse(sums.gram[head][:, head].toarray(), penalty)
    place = np.full(n, -1, dtype=np.int64)
    place[head] = np.arange(len(head))
    targets = sums.cross[head].T.tocsr().astype(inverse.dtype)  # (n, head)
    if targets.nnz > _DENSE * targets.shape[0] * targets.shape[1] and not sparse:
        targets = targets.toarray()
    itself = np.diag(inverse).copy()
    for start in range(0, n, _ROWS):
        progress("solving", start, n)
        rows = np.arange(start, min(start + _ROWS, n))
        block = np.zeros((len(rows), n), dtype=inverse.dtype)
        inside = place[rows] >= 0
        some = inverse[place[rows[inside]]]
        if config.sequential or len(head) < n:
            block[inside] = (targets @ some.T).T
            outside = rows[~inside]
            block[~inside] = sums.cross[outside].toarray() / (energy[outside] + penalty)[:, None]
        if not config.sequential:
            block[np.ix_(inside, head)] = some / -itself
            block[np.arange(len(rows)), rows] = 0.0
        if sparse:
            kept.append(_strongest(block, config.neighbours))
        else:
            out[rows] = block
    progress("solving", n, n)
    return scipy.sparse.vstack(kept, format="csr") if sparse else out


def _inverse(gram: Table, penalty: float) -> Table:
    """(gram + penalty · I)⁻¹ by Cholesky, in single precision where there are many items."""
    n = len(gram)
    kind = np.float64 if n <= _DOUBLE else np.float32
    table: Table = np.asfortranarray(gram, dtype=kind)
    table[np.diag_indices(n)] += penalty
    potrf, potri = scipy.linalg.get_lapack_funcs(("potrf", "potri"), (table,))
    factor, failed = potrf(table, lower=1, overwrite_a=1)
    if not failed:
        table, failed = potri(factor, lower=1, overwrite_c=1)
    if failed:
        raise ModelError(
            "the sums over users cannot be solved", mend="fit again with a greater `ridge`"
        )
    for start in range(0, n, 1024):  # the upper half from the lower one, in place
        stop = min(start + 1024, n)
        table[start:stop, stop:] = table[stop:, start:stop].T
        corner = table[start:stop, start:stop]
        corner[:] = np.tril(corner) + np.tril(corner, -1).T
    return table


def _strongest(block: Table, k: int) -> scipy.sparse.csr_matrix:
    """The k entries of each row that are farthest from 0."""
    if block.shape[1] > k:
        best = np.argpartition(-np.abs(block), k - 1, axis=1)[:, :k]
    else:
        best = np.tile(np.arange(block.shape[1]), (len(block), 1))
    best.sort(axis=1)
    values = np.take_along_axis(block, best, axis=1).astype(np.float32)
    out = scipy.sparse.csr_matrix(
        (values.ravel(), best.ravel(), np.arange(len(block) + 1) * best.shape[1]),
        shape=block.shape,
    )
    out.eliminate_zeros()
    return out


def _size(found: F32 | scipy.sparse.csr_matrix, sums: Sums) -> float:
    """The root mean square of φ B, as if a row's inputs were independent; 1 if it is 0.

    Taken from the sums, so that what was subtracted is not in it.
    """
    if isinstance(found, np.ndarray):
        squares = np.einsum("ij,ij->i", found, found)
    else:
        squares = np.asarray(found.multiply(found).sum(axis=1)).ravel()
    mean = float(sums.gram.diagonal() @ squares) / max(1, sums.rows * found.shape[0])
    return float(np.sqrt(mean)) if mean > 0 else 1.0


# ---------------------------------------------------------------- files


def _arrays(name: str, matrix: scipy.sparse.csr_matrix) -> dict[str, npt.NDArray[Any]]:
    return {f"{name}_{part}": getattr(matrix, part) for part in ("data", "indices", "indptr")}


def _read_sparse(folder: Path, name: str, n: int) -> scipy.sparse.csr_matrix:
    names = [f"{name}_{part}" for part in ("data", "indices", "indptr")]
    arrays, _ = read_arrays(folder, names)
    return scipy.sparse.csr_matrix(tuple(arrays[part] for part in names), shape=(n, n))


def _read_sums(folder: Path, config: LinearConfig) -> Sums:
    _, meta = read_arrays(folder, ())
    n = int(meta["items"])
    upper = _read_sparse(folder, "gram", n)
    gram = (upper + scipy.sparse.triu(upper, k=1).T).tocsr()
    cross = _read_sparse(folder, "cross", n) if config.sequential else gram
    return Sums(gram, cross, int(meta["rows"]))
