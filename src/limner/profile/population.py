"""All users together: where a number stands among them, and what everybody leans to.

A pass over the state at one moment, renewed by policy; a slot compares against it when it is
read, so no user's state depends on other users (law 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from limner.catalog.catalog import Catalog
from limner.events.arrays import Vocabulary
from limner.events.batch import F64, I64
from limner.profile.merge import Values
from limner.profile.state import ProfileState

SAMPLE = 1_000
GRID = 201


@dataclass(frozen=True, slots=True)
class Population:
    """`quantiles[slot]`: GRID equally spaced quantiles of a numeric slot among users.

    From a sample of at most 1,000 users, chosen by a hash of the pseudonym and so the same
    whatever the order of arrival; a percentile's standard error is at most 1.6 points.
    `sums[facet]`: (keys ascending, sums of a map's columns over all users).
    """

    users: int = 0
    at: int = 0
    quantiles: Mapping[str, F64] = field(default_factory=dict)
    sums: Mapping[str, tuple[I64, F64]] = field(default_factory=dict)

    @classmethod
    def of(cls, state: ProfileState, now: int) -> Population:
        """The population of a state at a moment."""
        sums = {
            facet.name: state.totals(facet.name, now)
            for facet in state.facets
            if facet.map is not None and facet.map.unique and facet.map.keep == "heaviest"
        }
        rows = _sampled(state)
        found: dict[str, list[float]] = {}
        first = cls(len(state), now, {}, sums)
        for row in rows.tolist():
            view = StateView(state, row, first)
            for facet in state.facets:
                for slot in facet.read(view, now):
                    if isinstance(slot.value, int | float):
                        found.setdefault(slot.name, []).append(float(slot.value))
        grid = np.linspace(0, 1, GRID)
        quantiles = {name: np.quantile(values, grid) for name, values in found.items()}
        return cls(len(state), now, quantiles, sums)

    def percentile(self, slot: str, value: float) -> float | None:
        """Which share of users have a smaller value; ties count half."""
        known = self.quantiles.get(slot)
        if known is None or self.users < 20:
            return None
        low = np.searchsorted(known, value, side="left")
        high = np.searchsorted(known, value, side="right")
        return float((low + high) / 2 / len(known))


def _sampled(state: ProfileState) -> I64:
    """Rows of at most SAMPLE users: those whose pseudonyms have the smallest hashes."""
    rows = state.rows.live
    halves = state.rows.keys_of[rows]
    order = np.lexsort((halves[:, 0], _mixed(halves[:, 0] ^ _mixed(halves[:, 1]))))
    return rows[order[:SAMPLE]]


def _mixed(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea and Flood, 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class StateView:
    """One user's row of a state, as facets read it."""

    __slots__ = ("_population", "_row", "_state")

    def __init__(self, state: ProfileState, row: int, population: Population) -> None:
        self._state = state
        self._row = row
        self._population = population

    def fixed(self, facet: str) -> Values:
        """The facet's fixed columns as arrays of length 1."""
        return self._state.fixed(facet, self._row)

    def entries(self, facet: str) -> tuple[npt.NDArray[np.int64], Values]:
        """The keys and columns of the facet's map."""
        return self._state.pools[facet].entries(self._row)

    def spilled(self, facet: str) -> F64:
        """Count and sums of the entries that the facet's map let go."""
        spilled: F64 = self._state.pools[facet].spilled.data[self._row]
        return spilled

    def error(self, facet: str, now: int) -> float:
        """How much weight at `now` any one key of the facet's map may lack."""
        return self._state.pools[facet].error(self._row, now)

    def vocabulary(self, path: str) -> Vocabulary:
        """The texts behind the codes of a path."""
        return self._state.vocabulary(path)

    @property
    def catalog(self) -> Catalog:
        """The items."""
        return self._state.catalog

    def totals(self, facet: str, keys: npt.NDArray[Any]) -> F64:
        """Among all users: sums of the map's numeric columns for each key, 0 for unknown ones."""
        if facet not in self._population.sums:
            return np.zeros((len(keys), 2))
        known, sums = self._population.sums[facet]
        if not len(known):
            return np.zeros((len(keys), sums.shape[1]))
        place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        return np.where((known[place] == keys)[:, None], sums[place], 0.0)

    def whole(self, facet: str) -> F64:
        """The same over all keys."""
        if facet not in self._population.sums:
            return np.zeros(2)
        whole: F64 = self._population.sums[facet][1].sum(axis=0)
        return whole

    def percentile(self, slot: str, value: float) -> float | None:
        """Which share of users have a smaller value; None while unknown."""
        return self._population.percentile(slot, value)
