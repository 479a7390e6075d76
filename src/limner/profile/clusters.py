"""Clusters: groups of users alike in what they lean to and how they buy, with names that say so.

A user is a point: the square roots of the shares that each of the `DIMENSIONS` heaviest keys has
in their interest (and one for the rest), beside the quintiles of recency, frequency and worth as
(q − 3)/8, 0 where unknown. With roots the distance of two users' interests is Hellinger's, which
no single strong key dominates. k-means (Lloyd's, with k-means++ starts, Arthur and Vassilvitskii,
2007; seeded) is fitted on a sample that does not depend on the order of arrival. Of 2 … `clusters`
groups that number is taken which has the greatest mean silhouette, in the simplified form of
Hruschka and others (2004): by distances to centroids. Everybody, also who comes later, belongs to
the nearest centroid.

Points are sparse, since a user likes few of the keys. The library's dense k-means takes several
times as long for them, and its threads get in the way of a server's: see docs/experiments.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy  # its parts are loaded when used: opening a store should not wait for them

from limner.events.batch import F64, I64
from limner.profile.population import Cluster, Clusters, Mark

Sparse: TypeAlias = "scipy.sparse.csr_array"
"""Users in rows; the users who lean to a key are few."""

DIMENSIONS = 64
SMALLEST = 10
"""Users that a cluster has on average at least; fewer users get fewer clusters."""
STARTS = 3
ROUNDS = 25
TRIED = 3_000
"""Users that the number of clusters is chosen on."""
MARKED = 1.2
NAMED = 0.03
"""A key marks a group from this many times the usual share on, and names it from this share on."""
HABITS = (
    ("lately", 0, 4, 5), ("often", 1, 4, 5), ("for much", 2, 4, 5),
    ("not lately", 0, 1, 2), ("seldom", 1, 1, 2), ("for little", 2, 1, 2),
)  # fmt: skip
"""What is said of a group: word, which quintile it speaks of, from and to which it counts."""


def habit_part(quintiles: F64) -> F64:
    """The last three dimensions, of quintiles (n, 3) that are NaN where unknown."""
    out: F64 = np.nan_to_num((quintiles - 3) / 8)
    return out


def points_of(shares: Sparse, quintiles: F64) -> Sparse:
    """Users as points: `shares` (n, keys) of their interest, `quintiles` (n, 3), NaN unknown."""
    rest = np.clip(1 - shares.sum(axis=1), 0, 1)
    dense = np.column_stack([np.sqrt(rest), habit_part(quintiles)])
    return scipy.sparse.hstack([shares.sqrt(), scipy.sparse.csr_array(dense)], format="csr")


def distances(points: Any, centroids: F64) -> F64:
    """From each point (sparse or not) to each centroid, (n, k); rounded, so that ties are ties."""
    squares = (points * points).sum(axis=1)[:, None] + (centroids**2).sum(axis=1)
    out: F64 = np.round(np.sqrt(np.maximum(squares - 2 * (points @ centroids.T), 0)), 7)
    return out


def nearest(points: Any, centroids: F64) -> I64:
    """The nearest centroid of each point (sparse or not): of the square of the distance, that
    part which differs between centroids. Rounded, so that ties are ties.
    """
    out: I64 = np.round((centroids**2).sum(axis=1) - 2 * (points @ centroids.T), 7).argmin(axis=1)
    return out


def fitted(points: Sparse, most: int, seed: int) -> tuple[F64, float]:
    """(centroids (k, dimensions), their silhouette) for the best k up to `most`; k = 1 if none.

    The same for the same points in any order, up to rounding.
    """
    dense = np.round(points.toarray(), 6)
    points = scipy.sparse.csr_array(dense[np.lexsort(dense.T)])
    best = 0.0, 1
    tried = points[:: max(points.shape[0] // TRIED, 1)]
    for k in range(2, min(most, points.shape[0] // SMALLEST) + 1):
        centroids = _kmeans(tried, k, seed)
        score = _silhouette(tried, centroids)
        if len(centroids) == k and score > best[0] + 1e-9:
            best = score, k
    centroids = _kmeans(points, best[1], seed)
    return centroids, _silhouette(points, centroids)


def _kmeans(points: Sparse, k: int, seed: int) -> F64:
    """The centroids of the best of some starts; fewer than k if there are not so many points."""
    found: list[tuple[float, F64]] = []
    for start in range(STARTS):
        centroids = _lloyd(points, _spread_out(points, k, np.random.default_rng((seed, k, start))))
        found.append((float((distances(points, centroids).min(axis=1) ** 2).sum()), centroids))
    return min(found, key=lambda pair: pair[0])[1]


def _spread_out(points: Sparse, k: int, chance: np.random.Generator) -> F64:
    """k-means++: each next start is a point, by the square of its distance to the nearest one."""
    chosen = [int(chance.integers(points.shape[0]))]
    far = np.full(points.shape[0], np.inf)
    while len(chosen) < k:
        far = np.minimum(far, distances(points, points[chosen[-1:]].toarray())[:, 0] ** 2)
        up_to = np.cumsum(far)
        if not up_to[-1]:
            break
        chosen.append(int(np.searchsorted(up_to, chance.random() * up_to[-1], side="right")))
    out: F64 = points[chosen].toarray()
    return out


def _lloyd(points: Sparse, centroids: F64) -> F64:
    before = None
    for _ in range(ROUNDS):
        group = nearest(points, centroids)
        if before is not None and (group == before).all():
            break
        before = group
        size = np.bincount(group, minlength=len(centroids))
        sums = (_members(group, len(centroids)) @ points).toarray()
        centroids = (sums / np.maximum(size, 1)[:, None])[size > 0]
        if not (size > 0).all():
            before = None
    return centroids


def _members(group: I64, groups: int) -> Sparse:
    """(groups, users): 1 where a user is of a group."""
    ones, place = np.ones(len(group)), np.arange(len(group))
    return scipy.sparse.csr_array((ones, (group, place)), shape=(groups, len(group)))


def _silhouette(points: Sparse, centroids: F64) -> float:
    if len(centroids) < 2:
        return 0.0
    own, other = np.partition(distances(points, centroids), 1, axis=1)[:, :2].T
    return float(np.divide(other - own, other, out=np.zeros(len(own)), where=other > 0).mean())


def described(
    facet: str, keys: Sequence[str], centroids: F64, silhouette: float, tallies: Tallies
) -> Clusters:
    """The clusters with their sizes, marks and names, largest first."""
    whole = max(tallies.users.sum(), 1)
    overall = tallies.shares.sum(axis=0) / whole
    habits_overall = tallies.habits.sum(axis=0) / whole
    groups: list[Cluster] = []
    order = [g for g in np.argsort(-tallies.users, kind="stable").tolist() if tallies.users[g]]
    for group in order:
        size = int(tallies.users[group])
        marks = marks_of(keys, tallies.shares[group] / size, overall)
        habits = marks_of(
            [habit[0] for habit in HABITS], tallies.habits[group] / size, habits_overall
        )
        taken = {group.name for group in groups}
        groups.append(Cluster(_name(marks, habits, taken), size, float(size / whole), marks[:8]))
    return Clusters(facet, list(keys), centroids[order], groups, silhouette)


class Tallies:
    """What is added up of each group over all users: how many, their shares, their habits."""

    def __init__(self, groups: int, keys: int) -> None:
        self.users = np.zeros(groups, dtype=np.int64)
        self.shares = np.zeros((groups, keys))
        self.habits = np.zeros((groups, len(HABITS)))

    def add(self, group: I64, shares: Sparse, quintiles: F64) -> None:
        """Count users: their groups (n,), shares (n, keys) and quintiles (n, 3)."""
        member = _members(group, len(self.users))
        self.users += np.bincount(group, minlength=len(self.users))
        self.shares += (member @ shares).toarray()
        for place, (_, which, low, high) in enumerate(HABITS):
            q = quintiles[:, which]
            self.habits[:, place] += member @ ((q >= low) & (q <= high))


def marks_of(
    keys: Sequence[str], shares: npt.NDArray[np.float64], overall: npt.NDArray[np.float64]
) -> list[Mark]:
    """The target-group index of each key that anybody has, highest first.

    100 × share in the group ÷ share overall: 100 is usual, 200 twice as much.
    """
    found = [
        Mark(key, float(share), float(among), 100 * float(share / among))
        for key, share, among in zip(keys, shares, overall, strict=True)
        if among > 0
    ]
    return sorted(found, key=lambda mark: (-round(mark.index, 6), mark.key))


def _name(marks: list[Mark], habits: list[Mark], taken: set[str]) -> str:
    """The keys that mark a group most, and a habit if one does."""
    strong = [m for m in marks if m.index >= 100 * MARKED and m.share >= NAMED]
    words = [mark.key.lower().replace("_", " ") for mark in strong[:2]]
    name = " and ".join(words) or "a bit of everything"
    habit = [m.key for m in habits if m.index >= 100 * MARKED and m.share >= 0.4]
    said = f"{name}, {habit[0]}" if habit else name
    if said not in taken:
        return said
    longer = [*(m.key.lower() for m in strong[2:3]), *habit[1:2]]
    more = f"{said}, {longer[0]}" if longer else said
    number = 2
    out = more
    while out in taken:
        out, number = f"{more} ({number})", number + 1
    return out
