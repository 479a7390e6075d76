"""Taste: where a user's interest points among the items, lately and in the long run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from limner.catalog.catalog import Catalog
from limner.catalog.vectors import HashedVectors, ItemVectors
from limner.events.batch import F64, I32, I64
from limner.profile.events import Events
from limner.profile.facet import Facet, FacetConfig, Lifted, Slot, View, duration
from limner.profile.facets.keyed import titles
from limner.profile.merge import Column, Values
from limner.profile.words import listed, percent

TO = ("nearest to", "lately to")

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

    def vectors_of(self, catalog: Catalog, items: I32, now: int) -> F64:
        """The vectors of items in the version valid at `now`, (n, width)."""
        versions = catalog.versions_at(items, np.full(len(items), now))
        return self.vectors.of(catalog, items, versions).astype(np.float64)

    def weights_of(self, times: I64, newest: I64, w: F64) -> tuple[F64, F64]:
        """(long, short): what each event weighs as of its user's newest one.

        So no age is too great for a float, and a direction has no length.
        """
        age = newest - times
        long, short = (w * np.exp2(age / -half) for half in self.half_lives)
        return long, short

    @property
    def shifts_at(self) -> Literal["turn"]:
        """Its drift is one of directions."""
        return "turn"

    @property
    def rests_on(self) -> str:
        """The facet whose events stand behind the drift: the history."""
        return self.source.name

    def drift(self, view: View, now: int) -> float:
        """1 − cosine of the long and the short vector; 0 where there are none."""
        items, values = view.entries(self.source.name)
        if not len(items):
            return 0.0
        _, long, short = self._directions(view.catalog, items, values, now)
        return float(drift(long, short))

    def _directions(
        self, catalog: Catalog, items: I32, values: Values, now: int
    ) -> tuple[F64, F64, F64]:
        """(the vectors of the newest events' items, their sum in the long run and lately)."""
        times, w = values["t"][-NEWEST:], values["w"][-NEWEST:]
        vectors = self.vectors_of(catalog, items[-NEWEST:], now)
        long, short = (
            unit(weights @ vectors) for weights in self.weights_of(times, times.max(), w)
        )
        return vectors, long, short

    def read(self, view: View, now: int) -> list[Slot]:
        items, values = view.entries(self.source.name)
        n = len(items)
        if not n:
            return []
        vectors, long, short = self._directions(view.catalog, items, values, now)
        items, times = items[-NEWEST:], values["t"][-NEWEST:]
        if not long.any():
            return []
        turned = float(drift(long, short))
        label = self.config.label or self.name
        half, short_half = self.half_lives
        nearest = _nearest(view, items, vectors @ np.stack([long, short], axis=1), now)
        said, lately = (f"{to} {listed(names)}" for to, names in zip(TO, nearest, strict=True))
        moved = f"lately the interest has turned by {percent(turned)}"
        found = (
            ("", "", long.tolist(), said, "vector", half),
            ("_short", ", lately", short.tolist(), lately, "vector", short_half),
            ("_drift", ", drift", turned, moved, "1 − cosine", short_half),
        )
        newest = int(times.max())
        return [
            self.config.slot(
                value, text, n, newest, now, name=self.name + ending, label=label + more,
                unit=unit, half_life=life, facet=self.source.name,
            )
            for ending, more, value, text, unit, life in found
        ]  # fmt: skip

    @property
    def half_lives(self) -> tuple[float, float]:
        """The long and the short one, µs."""
        return duration(self.config.half_life), duration(self.config.short_half_life)


def _nearest(view: View, items: I32, near: F64, now: int, n: int = 3) -> list[list[str]]:
    """For each column of `near` the different items that lie nearest; ties by name."""
    ids = view.catalog.ids.values
    different, first = np.unique(items, return_index=True)
    found = []
    for column in np.round(near[first], 6).T.tolist():
        ranked = zip(column, different.tolist(), strict=True)
        best = sorted((-close, ids[item], item) for close, item in ranked)[:n]
        found.append([item for *_, item in best])
    names = titles(view.catalog, np.array([*found[0], *found[1]], dtype=np.int32), now)
    return [names[: len(found[0])], names[len(found[0]) :]]


def drift(long: F64, short: F64) -> F64:
    """1 − cosine of unit vectors (…, width), 0 to 2; 0 where one of them is none."""
    cosine = (long * short).sum(axis=-1)
    known = long.any(axis=-1) & short.any(axis=-1)
    return np.where(known, np.clip(1 - cosine, 0, 2), 0.0)


def unit(vectors: F64) -> F64:
    """These scaled to length 1; 0 where there is no direction."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.where(length > 1e-12, vectors / np.maximum(length, 1e-12), 0.0)
