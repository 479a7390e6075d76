"""Ranking: scores in parts become a list, and every step after the score is on record (law 5)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

import numpy as np

from limner.errors import ConfigError
from limner.events.batch import F64, I32, I64, Bool
from limner.events.expression import parse
from limner.events.raw import RefusedEvent
from limner.profile.facet import duration
from limner.profile.state import ProfileState
from limner.recommend.explore import Exploration, ExploreConfig
from limner.recommend.retrieval import vectors_for

Repeats = bool | Literal["learned"]


@dataclass(frozen=True, slots=True)
class RecommendConfig:
    """How lists are made; a scenario is the same with some of it set otherwise.

    `n`: their length. `repeats`: whether items the user already had may come again, which are
    those of the history: bought, looked at or otherwise, in its newest events (as many as the
    facet "history" keeps, its `bound`; 500 in the domain "ecommerce"); "learned": whether what
    was bought may, by whether things of its kind (the attribute `kind`) are bought again in this
    shop. `families`: what scores, the blend if none is named. `filter`: conditions that items
    must meet. `boosts`: condition → what is added to the score of items that meet it.
    `freshness`: what is added to the score of an item that came just now, half as much after
    `fresh_half_life`. Both are in standard deviations of the score over the items.

    `fade`: what an item loses for each time it was listed of late and passed over, as log₂(1 +
    times), in the same unit; the facet `shown` says by which half-life times count.

    `pinned`: items that come first; `excluded`: items that never come. `diversity`: from 0, by
    score alone, to 1, by unlikeness alone. `caps`: at most so many items with the same value of
    an attribute. `within`: how many of the best scores these steps choose among. `explore`: how
    lists that are logged explore.
    """

    n: int = 10
    repeats: Repeats = "learned"
    kind: str = "category"
    families: Sequence[str] = ()
    filter: str | Sequence[str] = ""
    boosts: Mapping[str, float] = field(default_factory=dict)
    freshness: float = 0.0
    fresh_half_life: str = "14d"
    fade: float = 0.1
    pinned: Sequence[str] = ()
    excluded: Sequence[str] = ()
    diversity: float = 0.0
    caps: Mapping[str, int] = field(default_factory=lambda: {"type": 2})
    within: int = 500
    explore: ExploreConfig = field(default_factory=ExploreConfig)

    @property
    def filters(self) -> tuple[str, ...]:
        """The conditions that items must meet."""
        given = (self.filter,) if isinstance(self.filter, str) else tuple(self.filter)
        return tuple(text for text in given if text.strip())

    def check(self, where: str) -> None:
        """Raise ConfigError for a number that means nothing, ExpressionError for a condition."""
        for key, value in (
            ("n", self.n),
            ("within", self.within),
            *((f"caps.{name}", cap) for name, cap in self.caps.items()),
        ):
            if value < 1:
                raise ConfigError(f"{where}.{key} = {value} is too small", mend="use 1 or more")
        if not 0 <= self.diversity <= 1:
            raise ConfigError(
                f"{where}.diversity = {self.diversity} is no share", mend="use 0 to 1"
            )
        for key, number in (
            ("freshness", self.freshness),
            ("fade", self.fade),
            *self.boosts.items(),
        ):
            if not np.isfinite(number):
                raise ConfigError(f"{where}: {key} = {number} is no number", mend="use a number")
        duration(self.fresh_half_life, f"{where}.fresh_half_life")
        self.explore.check(f"{where}.explore")
        for text in (*self.filters, *self.boosts):
            parse(text)


@dataclass(frozen=True, slots=True)
class Step:
    """What one step after the score did to an item: its rank before and after."""

    name: str
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A ranked item. `parts` sum to `score`; `steps` lead from the score's rank to `rank`.

    `propensity`: how probable it was that the item is listed; 1 where nothing is drawn.
    """

    item_id: str
    title: str
    rank: int
    score: float
    parts: Mapping[str, float]
    steps: tuple[Step, ...] = ()
    reason: str = ""
    reasons: tuple[Any, ...] = ()
    propensity: float = 1.0


@dataclass(frozen=True, slots=True)
class Recommendations:
    """A list for a user: from the log before `as_of`, at `at` (µs).

    `removed` counts what each filter took out of the catalog; `model` is the version that
    scored, None where nothing trained took part; `scenario` the one that was asked for. `refused`:
    of a session, the events that the list does not rest on, and why.
    """

    user_id: str
    recommendation_id: str
    at: int
    as_of: int
    items: tuple[Recommendation, ...]
    removed: Mapping[str, int] = field(default_factory=dict)
    model: str | None = None
    note: str = ""
    scenario: str = ""
    refused: tuple[RefusedEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class Ranked:
    """Dense item ids in their final order, and their rank by score alone, from 1.

    `propensity`: how probable it was that each is listed, (n,).
    """

    items: I32
    by_score: I64
    steps: tuple[tuple[Step, ...], ...]
    propensity: F64


Pass = Callable[[Iterator[int]], Iterator[int]]
"""A step: items in an order → these or some of them in another, as far as they are asked for."""


def rank(
    score: F64,
    removed: Bool,
    state: ProfileState,
    config: RecommendConfig,
    n: int,
    explore: Callable[[Sequence[int]], Exploration] | None = None,
) -> Ranked:
    """The best `n` items that are not removed: by score, then each step after it.

    Ties are broken by item id, so a list never depends on the order of arrival. `explore`, given
    the items that are chosen among, says how the list explores.
    """
    unit = float(score[~removed].std()) if explore is not None and not removed.all() else 0.0
    score = np.where(removed, -np.inf, score)
    room = min(max(config.within, n), int((~removed).sum()))
    if not room:
        return Ranked(np.empty(0, np.int32), np.empty(0, np.int64), (), np.empty(0))
    catalog = state.catalog
    ids = catalog.ids.values
    best = greatest(score, room, ids)
    by_score = {item: place for place, item in enumerate(best, 1)}
    pinned = [
        item
        for item in dict.fromkeys(catalog.ids.find(list(config.pinned)).tolist())
        if item >= 0 and not removed[item]
    ]
    for item in pinned:
        by_score.setdefault(item, 1 + int((score > score[item]).sum()))
    first, passes = set(pinned), dict[str, Pass]()
    if pinned:
        passes["pinned"] = lambda flow: (
            item for part in (pinned, (i for i in flow if i not in first)) for item in part
        )
    if config.diversity:
        passes["diversity"] = lambda flow: _diverse(list(flow), score, state, config, len(pinned))
    pool = list(by_score)
    codes = {
        name: dict(zip(pool, catalog.codes_now(name, np.array(pool)).tolist(), strict=True))
        for name in config.caps
    }
    if config.caps:
        passes["caps"] = lambda flow: _capped(flow, codes, config.caps, first)
    flow, ranks = iter(best), dict[str, dict[int, int]]()
    for name, step in passes.items():
        ranks[name] = {}
        flow = _numbered(step(flow), ranks[name])
    chosen = list(islice(flow, n))
    propensity = dict.fromkeys(chosen, 1.0)
    if explore is not None:
        deque(flow, maxlen=0)  # so that each has a rank before
        capped = [(codes[name], cap) for name, cap in config.caps.items()]
        others = [item for item in best if item not in first]
        chosen, propensity = explore(best).listed(
            chosen, others, sum(item in first for item in chosen), score, unit, capped
        )
        ranks["explore"] = {item: place for place, item in enumerate(chosen, 1)}
    return Ranked(
        np.array(chosen, dtype=np.int32),
        np.array([by_score[item] for item in chosen], dtype=np.int64),
        tuple(_steps(item, by_score[item], ranks) for item in chosen),
        np.array([propensity[item] for item in chosen]),
    )


SAMPLED = 2_048
"""Scores that say about where the greatest begin."""


def greatest(score: F64, n: int, ids: Sequence[str]) -> list[int]:
    """The places of the n greatest, the greatest first, those alike by id.

    A sample says where about they begin, so that few are sorted out among each other; with too
    few above that, all are.
    """
    places = np.arange(len(score))
    stride = len(score) // SAMPLED
    if stride > 1 and 4 * n < len(score):
        sample = -np.sort(-score[::stride])
        above = np.flatnonzero(score >= sample[min(2 * n // stride + 8, len(sample) - 1)])
        places = above if len(above) >= n else places
    few = score[places]
    if n < len(places):
        chosen = np.argpartition(-few, n - 1)[:n]
        places, few = places[chosen], few[chosen]
    order = np.argsort(-few, kind="stable")
    out: list[int] = places[order].tolist()
    few = few[order]
    if (few[1:] == few[:-1]).any():
        out.sort(key=lambda item: (-score[item], ids[item]))
    return out


def _numbered(flow: Iterable[int], ranks: dict[int, int]) -> Iterator[int]:
    for place, item in enumerate(flow, 1):
        ranks[item] = place
        yield item


def _steps(item: int, before: int, ranks: Mapping[str, Mapping[int, int]]) -> tuple[Step, ...]:
    out = []
    for name, places in ranks.items():
        place = places.get(item, before)  # exploration takes up what a cap left out
        if place != before:
            out.append(Step(name, before, place))
        before = place
    return tuple(out)


def _diverse(
    order: list[int], score: F64, state: ProfileState, config: RecommendConfig, pinned: int
) -> Iterator[int]:
    """Maximal marginal relevance (Carbonell and Goldstein 1998), after those that are pinned.

    The next is the item of the greatest (1 − d) · score − d · max cosine to those before it, the
    score scaled to 0 … 1 over the items that are chosen among.
    """
    vectors = vectors_for(state, np.array(order, dtype=np.int32))
    worth = score[order]
    worth = (worth - worth.min()) / max(float(np.ptp(worth)), 1e-12)
    alike = np.zeros(len(order))
    left = np.ones(len(order), dtype=bool)
    for place in range(len(order)):
        if place >= pinned:
            gain = (1 - config.diversity) * worth - config.diversity * alike
            place = int(np.where(left, gain, -np.inf).argmax())
        left[place] = False
        alike = np.maximum(alike, vectors @ vectors[place])
        yield order[place]


def _capped(
    flow: Iterator[int],
    codes: Mapping[str, Mapping[int, int]],
    caps: Mapping[str, int],
    free: set[int],
) -> Iterator[int]:
    """Items under which no cap is exceeded; those of `free` count, but come in any case."""
    seen: dict[tuple[str, int], int] = {}
    for item in flow:
        keys = [(name, code) for name in caps if (code := codes[name][item]) >= 0]
        if item not in free and any(seen.get(key, 0) >= caps[key[0]] for key in keys):
            continue
        for key in keys:
            seen[key] = seen.get(key, 0) + 1
        yield item
