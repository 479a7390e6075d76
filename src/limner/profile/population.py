"""All users together: where a number stands among them, and what everybody leans to.

Figures of one moment, taken by `survey`; a slot compares against them when it is read, so no
user's state depends on other users (law 1), and a user who came since has a place too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from limner.catalog.catalog import Catalog
from limner.events.arrays import Vocabulary
from limner.events.batch import F64, I64
from limner.events.log import Position
from limner.profile.facet import Facet
from limner.profile.merge import Values
from limner.profile.state import ProfileState

GRID = 201
FEWEST = 20
"""Users below which there are no places among them."""
TIE = 1e-9
"""Values that differ by no more, relative to themselves, are the same but for rounding."""


@dataclass(frozen=True, slots=True)
class PopulationConfig:
    """What users are compared by; the slots are named "section.name", empty for none.

    `recency` (in days), `frequency` and `monetary` make quintiles and segments, and `monetary`
    the tier. Clusters are of the shares of the keyed slot `interests`; at most `clusters` of them
    are tried, 0 for none. `seed` makes them repeatable.
    """

    recency: str = ""
    frequency: str = ""
    monetary: str = ""
    interests: str = ""
    clusters: int = 12
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Mark:
    """A key that a group leans to: its share there and among all, index = 100 × their ratio."""

    key: str
    share: float
    overall: float
    index: float


@dataclass(frozen=True, slots=True)
class Cluster:
    """A group of users alike: what it is called, how many they are, and what marks it."""

    name: str
    users: int
    share: float
    marks: list[Mark] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Clusters:
    """Groups of users by the shares of the `keys` of a facet; see `limner.profile.clusters`.

    `centroids` (k, dimensions); `silhouette`, from −1 to 1, says how well they are apart.
    """

    facet: str
    keys: list[str]
    centroids: F64
    groups: list[Cluster]
    silhouette: float = 0.0


@dataclass(frozen=True, slots=True)
class Population:
    """What holds of all users as of the time `at` (µs) and the log before `position`.

    `quantiles[slot]`: GRID equally spaced quantiles of a numeric slot among users who have it.
    `sums[facet]`: (keys ascending, sums of a map's columns over all users).
    """

    users: int = 0
    at: int = 0
    quantiles: Mapping[str, F64] = field(default_factory=dict)
    sums: Mapping[str, tuple[I64, F64]] = field(default_factory=dict)
    position: Position = 0
    config: PopulationConfig = field(default_factory=PopulationConfig)
    clusters: Clusters | None = None
    _wholes: dict[str, F64] = field(default_factory=dict, init=False, repr=False, compare=False)

    def percentile(self, slot: str, value: float) -> float | None:
        """Which share of users have a smaller value; those within 1e-9 of it count half."""
        known = self.quantiles.get(slot)
        if known is None or self.users < FEWEST:
            return None
        near = TIE * abs(value)
        low, high = known.searchsorted(value - near), known.searchsorted(value + near, "right")
        return float((low + high) / 2 / len(known))

    def percentiles(self, slot: str, values: npt.NDArray[Any]) -> F64:
        """The same of many values; NaN while unknown."""
        known = self.quantiles.get(slot)
        if known is None or self.users < FEWEST:
            return np.full(len(values), np.nan)
        near = TIE * np.abs(values)
        low, high = known.searchsorted(values - near), known.searchsorted(values + near, "right")
        places: F64 = (low + high) / 2 / len(known)
        return places

    def totals(self, facet: str, keys: npt.NDArray[Any]) -> F64:
        """Sums of a map's numeric columns for each key, (n, columns); 0 for unknown ones."""
        if facet not in self.sums:
            return np.zeros((len(keys), 2))
        known, sums = self.sums[facet]
        if not len(known):
            return np.zeros((len(keys), sums.shape[1]))
        place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        return np.where((known[place] == keys)[:, None], sums[place], 0.0)

    def whole(self, facet: str) -> F64:
        """The same over all keys, (columns,)."""
        if facet not in self.sums:
            return np.zeros(2)
        if facet not in self._wholes:
            self._wholes[facet] = self.sums[facet][1].sum(axis=0)
        return self._wholes[facet]

    def share(self, facet: str, key: int) -> float:
        """Which share of everybody's weight a key has."""
        whole = float(self.whole(facet)[-1])
        return float(self.totals(facet, np.array([key]))[0, -1]) / whole if whole > 0 else 0.0

    # -- snapshots ---------------------------------------------------------------------------

    def tables(self) -> dict[str, pa.Table]:
        """Everything, by name, for a snapshot."""
        groups: _Groups | None = None
        if (of := self.clusters) is not None:
            groups = _Groups(of.facet, of.keys, of.centroids.tolist(), of.groups, of.silhouette)
        about = _About(self.users, self.at, self.position, self.config, groups)
        out = {
            "about": pa.table({"json": [msgspec.json.encode(about).decode()]}),
            "quantiles": pa.table(
                {
                    "slot": pa.array(list(self.quantiles), pa.string()),
                    "grid": pa.array(
                        [row.tolist() for row in self.quantiles.values()], pa.list_(pa.float64())
                    ),
                }
            ),
        }
        for facet, (keys, sums) in self.sums.items():
            width = pa.list_(pa.float64(), sums.shape[1])
            out[f"sums.{facet}"] = pa.table(
                {"key": pa.array(keys, pa.int64()), "sums": pa.array(sums.tolist(), width)}
            )
        return out

    @classmethod
    def of_tables(cls, tables: Mapping[str, pa.Table]) -> Population:
        """What `tables` gave."""
        about = msgspec.json.decode(tables["about"]["json"][0].as_py(), type=_About)
        quantiles = tables["quantiles"].to_pydict()
        sums = {}
        for name, table in tables.items():
            if name.startswith("sums."):
                width = table.schema.field("sums").type.list_size
                found = np.array(table["sums"].to_pylist(), dtype=np.float64)
                sums[name.removeprefix("sums.")] = (
                    table["key"].to_numpy(),
                    found.reshape(len(table), width),
                )
        clusters: Clusters | None = None
        if (of := about.clusters) is not None:
            clusters = Clusters(of.facet, of.keys, np.array(of.centroids), of.groups, of.silhouette)
        return cls(
            about.users,
            about.at,
            {
                slot: np.array(grid)
                for slot, grid in zip(quantiles["slot"], quantiles["grid"], strict=True)
            },
            sums,
            about.position,
            about.config,
            clusters,
        )


class _Groups(msgspec.Struct, frozen=True):
    facet: str
    keys: list[str]
    centroids: list[list[float]]
    groups: list[Cluster]
    silhouette: float


class _About(msgspec.Struct, frozen=True):
    users: int
    at: int
    position: int
    config: PopulationConfig
    clusters: _Groups | None


class StateView:
    """One user's row of a state, as facets read it."""

    __slots__ = ("_population", "_row", "_state")

    def __init__(self, state: ProfileState, row: int, population: Population) -> None:
        self._state = state
        self._row = row
        self._population = population

    @property
    def catalog(self) -> Catalog:
        """The items."""
        return self._state.catalog

    def facet(self, name: str) -> Facet | None:
        """A facet of the state by its name."""
        return next((facet for facet in self._state.facets if facet.name == name), None)

    def fixed(self, facet: str) -> Values:
        """The facet's fixed columns as arrays of length 1."""
        return self._state.fixed(facet, self._row)

    def entries(self, facet: str) -> tuple[npt.NDArray[np.int64], Values]:
        """The keys and columns of the facet's map."""
        return self._state.pools[facet].entries(self._row)

    def spilled(self, facet: str) -> F64:
        """Count and sums of the entries that the facet's map let go."""
        return self._state.pools[facet].spilled(self._row)

    def error(self, facet: str, now: int) -> float:
        """How much weight at `now` any one key of the facet's map may lack."""
        return self._state.pools[facet].error(self._row, now)

    def vocabulary(self, path: str) -> Vocabulary:
        """The texts behind the codes of a path."""
        return self._state.vocabulary(path)

    def totals(self, facet: str, keys: npt.NDArray[Any]) -> F64:
        """Among all users: sums of the map's numeric columns for each key, 0 for unknown ones."""
        return self._population.totals(facet, keys)

    def whole(self, facet: str) -> F64:
        """The same over all keys."""
        return self._population.whole(facet)

    def percentile(self, slot: str, value: float) -> float | None:
        """Which share of users have a smaller value; None while unknown."""
        return self._population.percentile(slot, value)
