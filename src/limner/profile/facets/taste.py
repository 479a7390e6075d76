"""Taste: where a user's interest points among the items, lately and in the long run."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from limner.catalog.vectors import HashedVectors, ItemVectors
from limner.events.batch import F64
from limner.profile.events import Events
from limner.profile.facet import Facet, FacetConfig, Lifted, Slot, View, duration
from limner.profile.facets.keyed import titles
from limner.profile.merge import Column
from limner.profile.words import listed, percent

NEWEST = 200
"""Events of the history that are read."""


@dataclass(frozen=True, slots=True)
class InterestVector:
    """Decayed sums of the vectors of the items in a history, and the drift between two of them.

    Σ w·2^(−age/h)·v over the newest 200 events of the history that `reads` names, with
    v the item's unit vector, scaled to length 1; once with `half_life`, once with
    `short_half_life`. The drift is 1 − cosine of the two: 0 where lately is as ever, 1 where the
    two have nothing in common, 2 at the most. It has no state of its own, so better vectors take
    effect at once, and no float of it is ever merged.
    """

    config: FacetConfig
    source: Facet
    vectors: ItemVectors = field(default_factory=HashedVectors, repr=False, compare=False)

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def columns(self) -> tuple[Column, ...]:
        return ()

    @property
    def map(self) -> None:
        return None

    def lift(self, events: Events) -> Lifted:
        return Lifted(np.empty(0, dtype=np.int64), {})

    def read(self, view: View, now: int) -> list[Slot]:
        items, values = view.entries(self.source.name)
        items, times, w = items[-NEWEST:], values["t"][-NEWEST:], values["w"][-NEWEST:]
        if not len(items):
            return []
        versions = view.catalog.versions_at(items, np.full(len(items), now))
        vectors = self.vectors.of(view.catalog, items, versions).astype(np.float64)
        newest = int(times.max())
        long, short = (
            _unit(vectors.T @ (w * np.exp2((times - newest) / half))) for half in self._lives
        )
        if not long.any():
            return []
        drift = float(np.clip(1 - long @ short, 0, 2)) if short.any() else 0.0
        said = f"nearest to {listed(_nearest(view, items, vectors, long, now))}"
        lately = f"lately to {listed(_nearest(view, items, vectors, short, now))}"
        moved = f"lately the interest has turned by {percent(drift)}"
        n = len(view.entries(self.source.name)[0])
        label = self.config.label or self.name
        found = (
            ("", "", long.tolist(), said, "vector", 0),
            ("_short", ", lately", short.tolist(), lately, "vector", 1),
            ("_drift", ", drift", drift, moved, "1 − cosine", 1),
        )
        return [
            self.config.slot(
                value, text, n, newest, now, name=self.name + ending, label=label + more,
                unit=unit, half_life=self._lives[life], facet=self.source.name,
            )
            for ending, more, value, text, unit, life in found
        ]  # fmt: skip

    @property
    def _lives(self) -> tuple[float, float]:
        """The long and the short half-life, µs."""
        return duration(self.config.half_life), duration(self.config.short_half_life)


def _unit(vector: F64) -> F64:
    length = float(np.linalg.norm(vector))
    return vector / length if length > 1e-12 else np.zeros_like(vector)


def _nearest(
    view: View, items: npt.NDArray[np.int32], vectors: F64, direction: F64, now: int, n: int = 3
) -> list[str]:
    """The items of the history that lie nearest to a direction; ties by name."""
    ids = view.catalog.ids.values
    near = np.round(vectors @ direction, 6).tolist()
    ranked = sorted({(-close, ids[item], item) for close, item in zip(near, items, strict=True)})
    best = np.array(list(dict.fromkeys(item for *_, item in ranked))[:n], dtype=np.int32)
    return titles(view.catalog, best, now)
