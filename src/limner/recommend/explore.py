"""Exploration: some slots of a list go to what might be better than what is known to be good.

The list by score, with all its other steps, stands; a share of its slots is given to items that a
bandit chooses among the best candidates, within guard rails. Each listed item has the probability
with which it came to be listed, so that any other policy can be judged from the log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from limner.errors import ConfigError
from limner.events.batch import F64, I64
from limner.profile.facet import duration
from limner.recommend.bandit import Beliefs, Posterior


@dataclass(frozen=True, slots=True)
class ExploreConfig:
    """How lists that are logged explore; `policy` "off", the default: not at all.

    `share`: of a list's slots, rounded down. `floor`: an explored item's score lies at most so
    far below that of the last of the list, in standard deviations of the score; `within`: among
    how many of the best scores. `spread`: how many times the posterior's deviation is explored.
    `draws`: of the posterior, from which propensities are counted. `horizon`: for how long after
    a list what follows counts as its reward; then there was none. `half_life`: of what was learned,
    "" for ever. `rewards`: of an event by its type, over `weights`.
    """

    policy: Literal["off", "thompson", "linucb"] = "off"
    share: float = 0.2
    floor: float = 1.0
    within: int = 200
    spread: float = 1.0
    draws: int = 500
    horizon: str = "1d"
    half_life: str = ""
    rewards: Mapping[str, float] = field(default_factory=dict)

    def check(self, where: str) -> None:
        """Raise ConfigError for a number that means nothing."""
        if not 0 <= self.share <= 1:
            raise ConfigError(f"{where}.share = {self.share} is no share", mend="use 0 to 1")
        for key, number in (("floor", self.floor), ("spread", self.spread)):
            if not (np.isfinite(number) and number >= 0):
                raise ConfigError(
                    f"{where}.{key} = {number} is no width", mend="use a number from 0 on"
                )
        for key, least, n in (("within", 1, self.within), ("draws", 10, self.draws)):
            if n < least:
                raise ConfigError(f"{where}.{key} = {n} is too small", mend=f"use {least} or more")
        duration(self.horizon, f"{where}.horizon")
        if self.half_life:
            duration(self.half_life, f"{where}.half_life")
        for kind, reward in self.rewards.items():
            if not np.isfinite(reward):
                raise ConfigError(f"{where}.rewards.{kind} = {reward}", mend="use a number")

    def slots(self, n: int) -> int:
        """How many of `n` slots are explored.

        >>> ExploreConfig("thompson", share=0.3).slots(10), ExploreConfig(share=0.3).slots(10)
        (3, 0)
        """
        return 0 if self.policy == "off" else int(self.share * n + 1e-9)


@dataclass(frozen=True, slots=True)
class Exploration:
    """What a list explores by: `contexts` gives those of items (n, d), `ids` is the catalog's."""

    config: ExploreConfig
    posterior: Posterior
    contexts: Callable[[Sequence[int]], F64]
    ids: Sequence[str]
    recommendation_id: str

    def listed(
        self,
        greedy: Sequence[int],
        candidates: Sequence[int],
        first: int,
        score: F64,
        unit: float,
        capped: Sequence[tuple[Mapping[int, int], int]],
    ) -> tuple[list[int], dict[int, float]]:
        """The list with explored slots, and the propensity of each item in it.

        `greedy`: the list without, of which the `first` items stay where they are; `candidates`:
        all that may come, by score; `unit`: the score's standard deviation; `capped`: the value
        of each candidate in an attribute, and how often a value may come.
        """
        slots = min(self.config.slots(len(greedy)), len(greedy) - first)
        if slots < 1:
            return list(greedy), dict.fromkeys(greedy, 1.0)
        kept, tail = list(greedy[:-slots]), list(greedy[-slots:])
        least = min(score[item] for item in greedy[first:]) - self.config.floor * unit
        taken = {*greedy}
        among = tail + [item for item in candidates if item not in taken and score[item] >= least]
        among = among[: max(self.config.within, slots)]
        kinds = [Kind.of(values, cap, among, kept) for values, cap in capped]
        beliefs = self.posterior.of_items(self.contexts(among), [self.ids[item] for item in among])
        rng = generator(self.recommendation_id)
        places, propensity = chosen(beliefs, slots, kinds, self.config, rng)
        explored = [among[place] for place in places.tolist()]
        said = dict.fromkeys(kept, 1.0)
        said.update(zip(explored, propensity[places].tolist(), strict=True))
        return woven(kept, explored, first, rng), said


@dataclass(frozen=True, slots=True)
class Kind:
    """An attribute that is capped: each candidate's value, and what room is left for each value;
    a candidate without one has the value after the last.
    """

    codes: I64
    room: I64

    @classmethod
    def of(
        cls, values: Mapping[int, int], cap: int, among: Sequence[int], kept: Sequence[int]
    ) -> Kind:
        """From each item's value, −1 for none, of which `cap` may come; `kept` are there."""
        known, codes = np.unique([values[item] for item in among], return_inverse=True)
        there = [values[item] for item in kept]
        room = [cap - there.count(value) for value in known.tolist()]
        out = np.where(known[codes] < 0, len(room), codes)
        return cls(out.astype(np.int64), np.array(room, dtype=np.int64))


def generator(recommendation_id: str) -> np.random.Generator:
    """The chance of a list: the same for the same id, so that propensities can be told again."""
    return np.random.default_rng(int(recommendation_id, 16))


def chosen(
    beliefs: Beliefs,
    slots: int,
    kinds: Sequence[Kind],
    config: ExploreConfig,
    rng: np.random.Generator,
) -> tuple[I64, F64]:
    """(the candidates that take the slots, the best first; the propensity of each candidate).

    LinUCB is certain: 1 or 0. Of Thompson sampling `draws` are made, the first of which is the
    choice, and the propensity is the share of them in which a candidate has a slot: its standard
    error is √(p(1−p)/draws), and what is chosen never has less than 1/draws.
    """
    if config.policy == "thompson":
        values = beliefs.drawn(config.draws, config.spread, rng)
    else:
        values = beliefs.bound(config.spread)[None, :]
    places = picked(values, slots, kinds)
    counts = np.bincount(places[places >= 0], minlength=values.shape[1])
    first = places[0]
    return first[first >= 0], counts / len(values)


def picked(values: F64, slots: int, kinds: Sequence[Kind] = ()) -> I64:
    """The columns of the greatest values in each row under caps, (rows, slots); −1 for none left.

    Columns are picked one after another, by value; ties are broken by place.
    """
    rows = np.arange(len(values))
    left = np.array(values, dtype=np.float64)
    room = [
        np.tile(np.append(kind.room, np.iinfo(np.int64).max), (len(values), 1)) for kind in kinds
    ]
    out = np.full((len(values), slots), -1, dtype=np.int64)
    for place in range(min(slots, values.shape[1])):
        open_ = left
        for kind, has in zip(kinds, room, strict=True):
            open_ = np.where(has[:, kind.codes] > 0, open_, -np.inf)
        best = open_.argmax(axis=1)
        found = open_[rows, best] > -np.inf
        out[found, place] = best[found]
        left[rows[found], best[found]] = -np.inf
        for kind, has in zip(kinds, room, strict=True):
            has[rows[found], kind.codes[best[found]]] -= 1
    return out


def woven(
    kept: Sequence[int], explored: Sequence[int], first: int, rng: np.random.Generator
) -> list[int]:
    """One list of both: the explored ones in places drawn after the `first` ones, in their order.

    Where an item stands is then no matter of which of the two it is, so position does not
    confound what is learned.
    """
    total = len(kept) + len(explored)
    places = set((first + rng.permutation(total - first)[: len(explored)]).tolist())
    one, other = iter(kept), iter(explored)
    return [next(other) if place in places else next(one) for place in range(total)]
