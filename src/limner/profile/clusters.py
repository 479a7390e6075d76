"""Clusters: groups of users alike in what they lean to and how they buy, with names that say so.

A user is a point: the square roots of the shares that each of the `DIMENSIONS` heaviest keys has
in their interest (and one for the rest), beside the quintiles of recency, frequency and worth as
(q − 3)/8, 0 where unknown. With roots the distance of two users' interests is Hellinger's, which
no single strong key dominates. k-means (scipy's, k-means++ starts, seeded) is fitted on a sample
that does not depend on the order of arrival. Of 2 … `clusters` groups that number is taken which
has the greatest mean silhouette, in the simplified form of Hruschka and others (2004): by
distances to centroids. Everybody, also who comes later, belongs to the nearest centroid.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.cluster.vq import kmeans2

from limner.events.batch import F64, I64
from limner.profile.population import Cluster, Clusters, Mark

DIMENSIONS = 64
SMALLEST = 10
"""Users that a cluster has on average at least; fewer users get fewer clusters."""
STARTS = 4
MARKED = 1.2
NAMED = 0.03
"""A key marks a group from this many times the usual share on, and names it from this share on."""
HABITS = (
    ("lately", 0, 4, 5), ("often", 1, 4, 5), ("for much", 2, 4, 5),
    ("not lately", 0, 1, 2), ("seldom", 1, 1, 2), ("for little", 2, 1, 2),
)  # fmt: skip
"""What is said of a group: word, which quintile it speaks of, from and to which it counts."""


def point(shares: F64, quintiles: F64) -> F64:
    """Users as points: `shares` (n, keys) of their interest, `quintiles` (n, 3), NaN unknown."""
    rest = np.clip(1 - shares.sum(axis=1, keepdims=True), 0, 1)
    habits = np.nan_to_num((quintiles - 3) / 8)
    return np.concatenate([np.sqrt(shares), np.sqrt(rest), habits], axis=1)


def nearest(points: F64, centroids: F64) -> tuple[I64, F64]:
    """(nearest centroid of each point, distances to all (n, k)); rounded, so ties are ties."""
    squares = (points**2).sum(axis=1)[:, None] + (centroids**2).sum(axis=1)
    distances = np.round(np.sqrt(np.maximum(squares - 2 * points @ centroids.T, 0)), 7)
    return distances.argmin(axis=1), distances


def fitted(points: F64, most: int, seed: int) -> tuple[F64, float]:
    """(centroids (k, dimensions), their silhouette) for the best k up to `most`; k = 1 if none.

    The same for the same points in any order, up to rounding.
    """
    points = np.round(points, 6)
    points = points[np.lexsort(points.T)]
    best = points.mean(axis=0, keepdims=True), 0.0
    for k in range(2, min(most, len(points) // SMALLEST) + 1):
        centroids = _kmeans(points, k, seed)
        score = _silhouette(points, centroids)
        if len(centroids) == k and score > best[1] + 1e-9:
            best = centroids, score
    return best


def _kmeans(points: F64, k: int, seed: int) -> F64:
    """The centroids of the best of some starts that no cluster of is empty."""
    found: list[tuple[float, F64]] = []
    for start in range(STARTS):
        with warnings.catch_warnings():  # an empty cluster: another start does better
            warnings.simplefilter("ignore", UserWarning)
            centroids, labels = kmeans2(
                points, k, iter=25, minit="++", seed=np.random.default_rng((seed, k, start))
            )
        kept = centroids[np.bincount(labels, minlength=k) > 0]
        found.append((float((nearest(points, kept)[1].min(axis=1) ** 2).sum()), kept))
    return min(found, key=lambda pair: pair[0])[1]


def _silhouette(points: F64, centroids: F64) -> float:
    if len(centroids) < 2:
        return 0.0
    own, other = np.partition(nearest(points, centroids)[1], 1, axis=1)[:, :2].T
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

    def add(self, group: I64, shares: F64, quintiles: F64) -> None:
        """Count users: their groups (n,), shares (n, keys) and quintiles (n, 3)."""
        member = np.zeros((len(group), len(self.users)))
        member[np.arange(len(group)), group] = 1
        self.users += np.bincount(group, minlength=len(self.users))
        self.shares += member.T @ shares
        for place, (_, which, low, high) in enumerate(HABITS):
            q = quintiles[:, which]
            self.habits[:, place] += member.T @ ((q >= low) & (q <= high))


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
