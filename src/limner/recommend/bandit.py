"""A linear contextual bandit: what rewards say of contexts and items, and how sure that is.

The reward of an item in a context x is x·θ + u_item + noise, with θ ~ N(0, σ² I) and u_item ~
N(0, σ² / `ITEM`): the hybrid model of Li et al. (2010, algorithm 2) whose part of its own for an
item is a constant. So an item that nobody has been shown is uncertain, however well θ is known.
Choices are drawn from the posterior (linear Thompson sampling, Agrawal and Goyal 2013), or are
those of the highest upper confidence bound (LinUCB).

What is kept is sums over rows, so their order and grouping do not matter (law 1), and 18 numbers
an item: 1 million items take 160 MB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from limner.events.arrays import Vocabulary
from limner.events.batch import F64, I64

ITEM = 10.0
"""Rows' worth of certainty that an item is as its context says, before it was shown."""
NOISE, NOISE_ROWS = 0.1, 10.0
"""The variance of rewards that is supposed before any came, and how many rows that is worth."""
STRETCH = 16
"""Half-lives after which weights are counted from a later landmark: they stay below 2^16."""


class Sums:
    """Sums over rows (context (d,), item, reward, time): a commutative monoid under `merge`.

    With a `half_life` (µs) a row counts 2^(−age / half_life), the age counted to the newest row.
    Weights are kept relative to a landmark, a multiple of `STRETCH` half-lives, so that any order
    of rows gives the same sums up to rounding.
    """

    def __init__(self, width: int, half_life: float = 0.0) -> None:
        self.width, self.half_life = width, half_life
        self.landmark, self.newest = 0, 0
        self.rows, self.squares, self.changes = 0.0, 0.0, 0
        self.a: F64 = np.zeros((width, width))
        self.b: F64 = np.zeros(width)
        self.items = Vocabulary()
        self._item: F64 = np.zeros((64, width + 2))
        """Of each item: Σ1, Σ reward, Σ context."""

    @property
    def item(self) -> F64:
        """Σ1, Σ reward, Σ context of each item, (n_items, 2 + d), in the order of `items`."""
        return self._item[: len(self.items)]

    @property
    def scale(self) -> float:
        """What the sums are to be multiplied by for the newest row to count 1."""
        return self._ratio(self.landmark - self.newest)

    def add(self, contexts: F64, items: Sequence[str], rewards: F64, time: int) -> None:
        """Rows of one moment (µs): contexts (n, d), an item and a reward each."""
        if not len(items):
            return
        weight = self._weight(time)
        self.changes += 1
        places = self._places(items)
        self.rows += weight * len(items)
        self.squares += weight * float(rewards @ rewards)
        self.a += weight * (contexts.T @ contexts)
        self.b += weight * (rewards @ contexts)
        row = np.column_stack([np.ones(len(items)), rewards, contexts])
        np.add.at(self._item, places, weight * row)

    def reward(self, context: F64, item: str, before: float, after: float, time: int) -> None:
        """A row that was added with one reward has another."""
        weight = self._weight(time)
        self.changes += 1
        self.squares += weight * (after**2 - before**2)
        self.b += weight * (after - before) * context
        self._item[self._places([item])[0], 1] += weight * (after - before)

    def merge(self, other: Sums) -> Sums:
        """Both together."""
        out = Sums(self.width, self.half_life)
        out.landmark = max(self.landmark, other.landmark)
        out.newest = max(self.newest, other.newest)
        for part in (self, other):
            factor = self._ratio(part.landmark - out.landmark)
            out.rows += factor * part.rows
            out.squares += factor * part.squares
            out.a += factor * part.a
            out.b += factor * part.b
            places = out._places(part.items.values)
            out._item[places] += factor * part.item
        return out

    def _ratio(self, microseconds: float) -> float:
        return float(2.0 ** (microseconds / self.half_life)) if self.half_life else 1.0

    def _weight(self, time: int) -> float:
        self.newest = max(self.newest, time)
        if not self.half_life:
            return 1.0
        stretch = int(STRETCH * self.half_life)
        if time >= self.landmark + stretch:
            landmark = time // stretch * stretch
            factor = self._ratio(self.landmark - landmark)
            self.landmark = landmark
            self.rows *= factor
            self.squares *= factor
            self.a *= factor
            self.b *= factor
            self._item *= factor
        return self._ratio(time - self.landmark)

    def _places(self, items: Sequence[str]) -> I64:
        places = self.items.encode(items).astype(np.int64)
        if len(self.items) > len(self._item):
            more = np.zeros(
                (max(len(self._item), len(self.items) - len(self._item)), self.width + 2)
            )
            self._item = np.concatenate([self._item, more])
        return places


@dataclass(frozen=True, slots=True)
class Beliefs:
    """The posterior of some items in their contexts: the reward of each is
    `mean` + `root` @ η + `own` · ε, with η ~ N(0, I) shared (d,) and ε ~ N(0, 1) an item.

    `mean`, `own`: (n,); `root`: (n, d).
    """

    mean: F64
    root: F64
    own: F64

    @property
    def sd(self) -> F64:
        """The standard deviation of each, (n,)."""
        out: F64 = np.sqrt((self.root**2).sum(axis=1) + self.own**2)
        return out

    def bound(self, spread: float) -> F64:
        """The upper confidence bound: mean + spread · sd, (n,)."""
        return self.mean + spread * self.sd

    def drawn(self, draws: int, spread: float, rng: np.random.Generator) -> F64:
        """Draws from the posterior with `spread` times its deviation, (draws, n)."""
        shared = rng.standard_normal((draws, self.root.shape[1])) @ self.root.T
        own = rng.standard_normal((draws, len(self.mean))) * self.own
        return self.mean + spread * (shared + own)


@dataclass(frozen=True, slots=True)
class Posterior:
    """What sums say: θ has this mean (d,) and the covariance `noise` · `root` rootᵀ.

    Given θ, the constant of an item that was shown is `item[:, 1] − item[:, 2:]·θ` (rewards and
    contexts divided by `item[:, 0]` = rows + `ITEM`). The item constants are eliminated exactly
    (block inversion), so this is the ridge regression on contexts and one column an item.
    """

    mean: F64
    root: F64
    noise: float
    items: Vocabulary
    item: F64

    @classmethod
    def of(cls, sums: Sums) -> Posterior:
        """The posterior mean and covariance, σ² at its posterior mean under an inverse gamma."""
        scale = sums.scale
        item = sums.item * scale
        k = item[:, 0] + ITEM
        item = np.column_stack([k, item[:, 1:] / k[:, None]])
        shift, level = item[:, 2:], item[:, 1]
        precision = np.eye(sums.width) + scale * sums.a - (shift * k[:, None]).T @ shift
        right = scale * sums.b - (level * k) @ shift
        lower = np.linalg.cholesky(precision)
        inverse = np.linalg.solve(lower, np.eye(sums.width))
        mean = inverse.T @ (inverse @ right)
        left = scale * sums.squares - float(k @ level**2) - float(right @ mean)
        noise = (NOISE * NOISE_ROWS + max(left, 0.0)) / (NOISE_ROWS + scale * sums.rows)
        return cls(mean, inverse.T, noise, sums.items, item)

    def of_items(self, contexts: F64, items: Sequence[str]) -> Beliefs:
        """What is believed of these items in these contexts (n, d)."""
        places = self.items.find(items)
        known = (places >= 0) & (places < len(self.item))  # rows may have come since
        item = np.zeros((len(places), 2 + len(self.mean)))
        item[:, 0] = ITEM
        item[known] = self.item[places[known]]
        inner = contexts - item[:, 2:]
        deviation = np.sqrt(self.noise)
        return Beliefs(
            inner @ self.mean + item[:, 1],
            deviation * (inner @ self.root),
            deviation / np.sqrt(item[:, 0]),
        )
