"""Taste: what people with similar baskets choose, by a low-rank linear autoencoder.

The users × items matrix of decayed counts, each item damped by a power of its popularity, is cut
to its strongest directions; a history is projected onto them and back (PureSVD, Cremonesi, Koren
and Turrin 2010, with the damping of item norms). Closed form, and a score is a sum over the
history's items, so it says exactly what each event adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy  # its parts are loaded when used: opening a store should not wait for them

from limner.events.batch import DAY, F64, I32, I64
from limner.model.artifacts import read_arrays, write_arrays
from limner.model.moments import owners_of
from limner.model.products import products
from limner.model.protocol import F32, History, Interactions, ItemFeatures, Progress


@dataclass(frozen=True, slots=True)
class TasteConfig:
    """`rank`: directions kept; `half_life_days`: of an event's weight; `damping`: power of an
    item's norm that its column is divided by, and its score multiplied by.
    """

    rank: int = 96
    half_life_days: float = 60.0
    damping: float = 0.4
    seed: int = 0


class Taste:
    """x V Vᵀ for the damped, normalised history x, in units of its spread over users and items."""

    def __init__(self, config: TasteConfig | None = None) -> None:
        self.config = config or TasteConfig()
        self.directions: F32 = np.zeros((0, 0), dtype=np.float32)
        self.damped: F32 = np.zeros(0, dtype=np.float32)
        self.scale = 1.0

    @property
    def name(self) -> str:
        """`taste`."""
        return "taste"

    def fit(self, data: Interactions, features: ItemFeatures, *, progress: Progress) -> None:
        """Learn from all of `data`: one truncated singular value decomposition."""
        progress("fitting taste", 0, 1)
        now = int(data.times.max(initial=0))
        owners = owners_of(data.offsets)
        shape = (data.n_users, data.n_items)
        matrix = self._counts(owners, data.items, data.times, data.weights, now, shape)
        norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=0)).ravel())
        self.damped = np.where(norms > 0, np.maximum(norms, 1e-9) ** self.config.damping, 0.0)
        self.damped = self.damped.astype(np.float32)
        matrix = self._damp(matrix)
        rank = min(self.config.rank, min(matrix.shape) - 1)
        if rank < 1 or not matrix.nnz:
            self.directions = np.zeros((data.n_items, 0), dtype=np.float32)
            return
        start = np.random.default_rng(self.config.seed).normal(size=min(matrix.shape))
        _, values, found = scipy.sparse.linalg.svds(matrix.astype(np.float64), k=rank, v0=start)
        found = found[values > 1e-6 * values.max()]
        self.directions = np.ascontiguousarray(found.T, dtype=np.float32)
        self.scale = 1.0 / spread(matrix @ self.directions, self.directions * self.damped[:, None])
        progress("fitting taste", 1, 1)

    def update(self, data: Interactions, features: ItemFeatures, *, progress: Progress) -> None:
        """Learn again; it takes seconds."""
        self.fit(data, features, progress=progress)

    def embed(self, histories: Sequence[History]) -> F32:
        """The history in the kept directions, (n, rank)."""
        vectors: F32 = np.asarray(self._damp(self._of(histories)) @ self.directions)
        return vectors.astype(np.float32)

    def score(self, histories: Sequence[History], items: I64 | None = None) -> F32:
        """Scores (n, n_items) or (n, len(items)).

        0 for items nobody chose and for an empty history.
        """
        some = slice(None) if items is None else items
        out = products(self.embed(histories), self.directions[some])
        out *= (self.damped[some] * self.scale).astype(np.float32)
        return out

    def attribute(self, history: History, items: I64) -> F64:
        """What each event adds to the score of each of `items`, (k, n)."""
        towards = self.directions[items] * (self.damped[items] * self.scale)[:, None]
        return self.shares(history, towards)

    def shares(self, history: History, towards: F32) -> F64:
        """What each event adds to the products of the history's vector and `towards`, (k, n).

        What an item of the history adds is split among its events by their weight.
        """
        if not len(history) or not self.directions.shape[1]:
            return np.zeros((len(towards), len(history)))
        matrix = self._damp(self._of([history]))
        had, place = np.unique(history.items, return_inverse=True)
        column = np.zeros(len(had))
        column[np.searchsorted(had, matrix.indices)] = matrix.data
        parts = column * (towards @ self.directions[had].T)
        worth = self.worth(history.times, history.weights, history.now)
        whole = np.bincount(place.reshape(-1), weights=worth, minlength=len(had))
        share: F64 = worth / np.where(whole > 0, whole, 1.0)[place]
        return np.asarray(parts[:, place] * share, dtype=np.float64)

    def save(self, folder: Path) -> None:
        """Write arrays and configuration."""
        arrays = {"directions": self.directions, "damped": self.damped}
        write_arrays(folder, arrays, {"config": asdict(self.config), "scale": self.scale})

    def load(self, folder: Path) -> None:
        """Read what `save` wrote."""
        arrays, meta = read_arrays(folder, ("directions", "damped"))
        self.config = TasteConfig(**meta["config"])
        self.directions, self.damped = arrays["directions"], arrays["damped"]
        self.scale = float(meta["scale"])

    def worth(self, times: I64, weights: F64, now: int) -> F64:
        """The decayed weight of each event at `now`, at least 0."""
        worth: F64 = np.maximum(weights, 0.0) * np.exp2(
            (times - now) / (self.config.half_life_days * DAY)
        )
        return worth

    @property
    def inverse(self) -> F32:
        """What an item's column is multiplied by, (n_items,); 0 for what nobody chose."""
        out: F32 = np.where(self.damped > 0, 1.0 / np.maximum(self.damped, 1e-9), 0.0)
        return out

    # ------------------------------------------------------------ inside

    def _counts(
        self,
        owners: I64,
        items: I32,
        times: I64,
        weights: F64,
        now: int,
        shape: tuple[int, int],
    ) -> scipy.sparse.csr_matrix:
        worth = self.worth(times, weights, now)
        matrix = scipy.sparse.csr_matrix((worth, (owners, items)), shape=shape)
        matrix.sum_duplicates()
        matrix.data = np.sqrt(matrix.data)
        return matrix

    def _of(self, histories: Sequence[History]) -> scipy.sparse.csr_matrix:
        """Histories as rows; each decayed to its own present."""
        parts = [self.worth(h.times, h.weights, h.now) for h in histories]
        owners = np.repeat(np.arange(len(histories)), [len(h) for h in histories])
        items = np.concatenate([h.items for h in histories]) if histories else owners
        worth = np.concatenate(parts) if parts else np.zeros(0)
        matrix = scipy.sparse.csr_matrix(
            (worth, (owners, items)), shape=(len(histories), len(self.damped))
        )
        matrix.sum_duplicates()
        matrix.data = np.sqrt(matrix.data)
        return matrix

    def _damp(self, matrix: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
        """Rows of length 1, columns divided by their damping."""
        owners = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
        lengths = np.sqrt(np.bincount(owners, matrix.data**2, minlength=matrix.shape[0]))
        damped = self.damped[matrix.indices]
        inverse = np.where(damped > 0, 1.0 / np.maximum(damped, 1e-9), 0.0)
        data = (matrix.data / np.maximum(lengths, 1e-9)[owners] * inverse).astype(np.float32)
        return scipy.sparse.csr_matrix((data, matrix.indices, matrix.indptr), shape=matrix.shape)


def spread(vectors: npt.NDArray[np.floating[Any]], items: F32) -> float:
    """The standard deviation of all of `vectors @ items.T`, without making it; 1 if it is 0."""
    cells = len(vectors) * len(items)
    left, right = vectors.astype(np.float64), items.astype(np.float64)
    squares = float(((left.T @ left) * (right.T @ right)).sum())
    mean = float(left.sum(axis=0) @ right.sum(axis=0))
    variance = squares / cells - (mean / cells) ** 2
    # of equal numbers rounding leaves a little of their square
    return float(np.sqrt(variance)) if variance > 1e-12 * squares / cells else 1.0
