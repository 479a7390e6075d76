"""Ranking: scores in parts become a list, and every step after the score is on record (law 5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from limner.catalog.catalog import Catalog
from limner.events.batch import F64, I32, I64, Bool


@dataclass(frozen=True, slots=True)
class RecommendConfig:
    """How lists are made.

    `n`: their length. `repeats`: whether items the user already had may come again, which are
    those of the history: bought, looked at or otherwise, in its newest events (as many as the
    facet "history" keeps, its `bound`; 500 in the domain "ecommerce"). `caps`: at most so many
    items with the same value of an attribute. `within`: how many of the best scores the caps
    choose among.
    """

    n: int = 10
    repeats: bool = True
    caps: Mapping[str, int] = field(default_factory=lambda: {"type": 2})
    within: int = 500


@dataclass(frozen=True, slots=True)
class Step:
    """What one step after the score did to an item: its rank before and after."""

    name: str
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A ranked item. `parts` sum to `score`; `steps` lead from the score's rank to `rank`."""

    item_id: str
    title: str
    rank: int
    score: float
    parts: Mapping[str, float]
    steps: tuple[Step, ...] = ()
    reason: str = ""
    reasons: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Recommendations:
    """A list for a user: from the log before `as_of`, at `at` (µs).

    `removed` counts what each filter took out of the catalog; `model` is the version that
    scored, None for the popularity fallback.
    """

    user_id: str
    recommendation_id: str
    at: int
    as_of: int
    items: tuple[Recommendation, ...]
    removed: Mapping[str, int] = field(default_factory=dict)
    model: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Ranked:
    """Dense item ids in their final order, and their rank by score alone, from 1."""

    items: I32
    by_score: I64
    steps: tuple[tuple[Step, ...], ...]


def filters(catalog: Catalog, had: I32, *, repeats: bool) -> dict[str, Bool]:
    """Filter's name → items it removes; `had`: the items of the user's history."""
    out = {"unavailable": ~catalog.available()}
    if not repeats:
        gone = np.zeros(len(catalog), dtype=bool)
        gone[had] = True
        out["already had"] = gone
    return out


def rank(score: F64, removed: Bool, catalog: Catalog, config: RecommendConfig, n: int) -> Ranked:
    """The best `n` items that are not removed, after the caps.

    Ties are broken by item id, so a list never depends on the order of arrival.
    """
    score = np.where(removed, -np.inf, score)
    room = min(max(config.within, n), int((~removed).sum()))
    if not room:
        return Ranked(np.empty(0, np.int32), np.empty(0, np.int64), ())
    best = np.argpartition(-score, room - 1)[:room]
    ids = catalog.ids.values
    best = np.array(sorted(best.tolist(), key=lambda item: (-score[item], ids[item])))
    chosen = _capped(best, catalog, config.caps, n)
    steps = tuple(
        (Step("caps", int(place) + 1, rank),) if place + 1 != rank else ()
        for rank, place in enumerate(chosen, 1)
    )
    return Ranked(best[chosen].astype(np.int32), np.asarray(chosen) + 1, steps)


def _capped(best: I64, catalog: Catalog, caps: Mapping[str, int], n: int) -> list[int]:
    """Places in `best` of the first `n` items under which no cap is exceeded."""
    if not caps:
        return list(range(min(n, len(best))))
    versions = catalog.current.view[best]
    codes = {name: np.full(len(best), -1) for name in caps}
    for name, column in codes.items():
        rows, values = catalog.codes_at(name, versions)
        column[rows[::-1]] = values[::-1]
    seen: dict[tuple[str, int], int] = {}
    chosen: list[int] = []
    for place in range(len(best)):
        keys = [(name, int(codes[name][place])) for name in caps if codes[name][place] >= 0]
        if any(seen.get(key, 0) >= caps[key[0]] for key in keys):
            continue
        for key in keys:
            seen[key] = seen.get(key, 0) + 1
        chosen.append(place)
        if len(chosen) == n:
            break
    return chosen
