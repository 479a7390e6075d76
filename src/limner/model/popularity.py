"""What many people do now: recency-decayed counts of items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from limner.events.batch import DAY, F64, I64
from limner.model.artifacts import read_arrays, write_arrays
from limner.model.moments import owners_of
from limner.model.protocol import F32, History, Interactions, ItemFeatures, Progress


@dataclass(frozen=True, slots=True)
class PopularityConfig:
    """`half_life_days`: age at which an event counts half; `prior`: count that scores log 2."""

    half_life_days: float = 14.0
    prior: float = 1.0


class Popularity:
    """log(1 + decayed count / prior), the same for every user."""

    def __init__(self, config: PopularityConfig | None = None) -> None:
        self.config = config or PopularityConfig()
        self.table: F32 = np.zeros(0, dtype=np.float32)

    @property
    def name(self) -> str:
        """`popularity`."""
        return "popularity"

    def fit(self, data: Interactions, features: ItemFeatures, *, progress: Progress) -> None:
        """Count what is in `data`, aged to its newest event."""
        weights = data.weights * ages(data.times, self.config.half_life_days)
        counts = np.maximum(np.bincount(data.items, weights, minlength=data.n_items), 0.0)
        self.table = np.log1p(counts / self.config.prior).astype(np.float32)

    def update(self, data: Interactions, features: ItemFeatures, *, progress: Progress) -> None:
        """Count again: one pass over `data`."""
        self.fit(data, features, progress=progress)

    def embed(self, histories: Sequence[History]) -> F32:
        """No vector: everyone is alike here."""
        return np.zeros((len(histories), 0), dtype=np.float32)

    def score(self, histories: Sequence[History], items: I64 | None = None) -> F32:
        """One read-only row shared by all histories, (n, n_items) or (n, len(items))."""
        row = self.table if items is None else self.table[items]
        return np.broadcast_to(row, (len(histories), len(row)))

    def save(self, folder: Path) -> None:
        """Write the table and the settings."""
        write_arrays(folder, {"table": self.table}, {"config": asdict(self.config)})

    def load(self, folder: Path) -> None:
        """Read what `save` wrote."""
        arrays, meta = read_arrays(folder, ("table",))
        self.config = PopularityConfig(**meta["config"])
        self.table = arrays["table"]


def ages(times: I64, half_life_days: float) -> F64:
    """0.5 ** (age in half-lives), age counted back from the newest time."""
    if len(times) == 0:
        return np.zeros(0)
    return np.asarray(np.exp2((times - times.max()) / (half_life_days * DAY)))


def first_times(data: Interactions) -> I64:
    """Row of each user's first event with each item."""
    keys = owners_of(data.offsets) * np.int64(data.n_items) + data.items
    _, rows = np.unique(keys, return_index=True)  # the first index, and rows are in time order
    return np.asarray(rows, dtype=np.int64)
