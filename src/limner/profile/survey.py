"""The survey: a pass over all users, for what only all of them together can say.

It reads users in chunks and slots in columns, and takes the readers' lock for a chunk at a time,
so that a million users take seconds and nobody waits for it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from difflib import get_close_matches

import numpy as np
import numpy.typing as npt
import scipy  # its parts are loaded when used: opening a store should not wait for them

from limner.errors import ConfigError
from limner.events.arrays import mixed
from limner.events.batch import F64, I64
from limner.profile import clusters
from limner.profile.columns import facet_slots
from limner.profile.facets.affinity import Affinity
from limner.profile.offered import key_words, offered, vectorised
from limner.profile.population import GRID, Clusters, Population, PopulationConfig
from limner.profile.standing import MEASURES, habits, interest_shares, rests_on
from limner.profile.state import ProfileState
from limner.profile.users import CHUNK, Users

SAMPLE = 1_000
"""Users of whom slots are read that can only be read one by one: those with the smallest hashes,
whatever the order of arrival. A percentile's standard error is then at most 1.6 points."""

FITTED = 10_000
"""Users that clusters are fitted on, chosen in the same way."""

Lock = AbstractContextManager[object]


def survey(
    state: ProfileState,
    now: int,
    config: PopulationConfig | None = None,
    *,
    lock: Lock | None = None,
) -> Population:
    """The population of a state at a moment; rebuildable, since the same state gives the same.

    Raises ConfigError if the configuration names a slot that no facet gives.
    """
    return _Survey(state, now, config or PopulationConfig(), lock or nullcontext()).taken()


class _Survey:
    def __init__(self, state: ProfileState, now: int, config: PopulationConfig, lock: Lock) -> None:
        self.state = state
        self.now = now
        self.lock = lock
        with lock:
            self.rows = state.rows.live
            self.found = Population(len(self.rows), now, position=state.position, config=config)
            order = _by_hash(state, self.rows)
        self.sampled = self.rows[order[:SAMPLE]]
        self.fitted = self.rows[order[:FITTED]]

    def taken(self) -> Population:
        with self.lock:
            self._check()
        self.found = replace(
            self.found,
            sums={
                facet.name: self._sums(facet.name)
                for facet in self.state.facets
                if facet.map is not None and facet.map.unique and facet.map.keep == "heaviest"
            },
        )
        self.found = replace(self.found, quantiles=self._quantiles())
        return replace(self.found, clusters=self._clusters())

    def _users(self, rows: I64) -> Users:
        return Users(self.state, rows, self.found, self.now)

    def _chunks(self, rows: I64) -> list[I64]:
        return [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]

    def _check(self) -> None:
        """Whether what the configuration names is there."""
        config = self.found.config
        offer = facet_slots(self._users(self.sampled[:50]), rests_on(config))
        for setting in (*MEASURES, "interests"):
            path = getattr(config, setting)
            # what is read one by one is known by name only once somebody has it
            if path and path not in offer and all(map(vectorised, self.state.facets)):
                close = get_close_matches(path, offer, 1, 0.4)
                raise ConfigError(
                    f"population.{setting} = {path!r} is no slot",
                    where="limner.toml",
                    mend=f"did you mean {close[0]!r}?" if close else f"use one of {sorted(offer)}",
                )

    def _sums(self, facet: str) -> tuple[I64, F64]:
        parts = []
        for rows in self._chunks(self.rows):
            with self.lock:
                parts.append(self.state.totals(facet, self.now, rows))
        if not parts:
            return self.state.totals(facet, self.now)
        every = np.concatenate([keys for keys, _ in parts])
        keys, place = np.unique(every, return_inverse=True)
        table = np.concatenate([sums for _, sums in parts])
        sums = [np.bincount(place, weights=column, minlength=len(keys)) for column in table.T]
        return keys, np.stack(sums, axis=1) if sums else np.zeros((len(keys), 0))

    def _quantiles(self) -> dict[str, F64]:
        grid = np.linspace(0, 1, GRID)
        out: dict[str, F64] = {}
        for facet in self.state.facets:
            rows = self.rows if vectorised(facet) else self.sampled
            values: dict[str, list[npt.NDArray[np.float64]]] = {}
            for chunk in self._chunks(rows):
                with self.lock:
                    for path, read in offered(facet, self._users(chunk)).items():
                        slot = read()
                        if slot.value is not None and slot.value.kind == "number":
                            name = path.partition(".")[2]
                            values.setdefault(name, []).append(slot.value.values[slot.value.known])
            for name, parts in values.items():
                known = np.concatenate(parts)
                if len(known):
                    out[name] = np.quantile(known, grid)
        return out

    def _clusters(self) -> Clusters | None:
        config = self.found.config
        facet = next(
            (
                f
                for f in self.state.facets
                if isinstance(f, Affinity) and f"{f.config.section}.{f.name}" == config.interests
            ),
            None,
        )
        if facet is None or not config.clusters or len(self.rows) < 2 * clusters.SMALLEST:
            return None
        with self.lock:
            keys, names = self._heaviest(facet)
        if not len(keys):
            return None
        points = []
        for rows in self._chunks(self.fitted):
            with self.lock:
                shares, quintiles = self._of(rows, facet, keys)
            points.append(clusters.points_of(shares, quintiles))
        every = scipy.sparse.vstack(points, format="csr")
        if not every.shape[0]:  # there are keys, but nobody likes any
            return None
        centroids, silhouette = clusters.fitted(every, config.clusters, config.seed)
        tallies = clusters.Tallies(len(centroids), len(keys))
        for rows in self._chunks(self.rows):
            with self.lock:
                shares, quintiles = self._of(rows, facet, keys)
            points_here = clusters.points_of(shares, quintiles)
            group = clusters.nearest(points_here, centroids)
            tallies.add(group, shares, quintiles)
        return clusters.described(facet.name, names, centroids, silhouette, tallies)

    def _heaviest(self, facet: Affinity) -> tuple[I64, list[str]]:
        """The keys with most weight among all users, in the order of their texts."""
        keys, sums = self.found.sums[facet.name]
        words = key_words(facet.keys, self.state.vocabulary).values
        order = sorted(
            range(len(keys)), key=lambda place: (-round(sums[place, -1], 6), words[keys[place]])
        )
        chosen = [place for place in order[: clusters.DIMENSIONS] if words[keys[place]]]
        chosen.sort(key=lambda place: words[keys[place]])
        return keys[chosen], [words[keys[place]] for place in chosen]

    def _of(self, rows: I64, facet: Affinity, keys: I64) -> tuple[clusters.Sparse, F64]:
        """(shares, quintiles) of those of these users who have interests."""
        users = self._users(rows)
        slot = offered(facet, users)[f"{facet.config.section}.{facet.name}"]()
        users = self._users(rows[slot.known])
        offer = facet_slots(users, rests_on(self.found.config))
        return interest_shares(users, facet, keys), habits(users, offer)


def _by_hash(state: ProfileState, rows: I64) -> I64:
    """The order of users by a hash of the pseudonym."""
    halves = state.rows.keys_of[rows]
    return np.lexsort((halves[:, 0], mixed(halves[:, 0] ^ mixed(halves[:, 1]))))
