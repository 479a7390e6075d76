"""Recommend: score the catalog for a user, filter, rank, and keep the parts."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import uuid4

import numpy as np

from limner.catalog.catalog import Catalog
from limner.events.batch import F64, Bool
from limner.model.blend import Task, total
from limner.model.protocol import History
from limner.profile.state import ProfileState
from limner.recommend.rank import (
    Ranked,
    Recommendation,
    Recommendations,
    RecommendConfig,
    filters,
    rank,
)
from limner.recommend.scorer import Scorer, popularity

UNTRAINED = "no model is trained yet, so this is what is popular: limner train"
STRANGER = "nothing is known of this user yet, so this is what is popular"


@dataclass(frozen=True, slots=True)
class Scored:
    """The whole catalog scored for a user: parts, their sum, and what filters take out."""

    parts: dict[str, F64]
    score: F64
    removed: dict[str, Bool]

    @property
    def gone(self) -> Bool:
        """Items that some filter takes out."""
        gone: Bool = np.logical_or.reduce(list(self.removed.values()))
        return gone


def task_of(repeats: bool) -> Task:
    """The blend's weights to use: for the next purchase of any kind, or for new items only."""
    return "next" if repeats else "new"


def score(state: ProfileState, history: History, scorer: Scorer | None, *, repeats: bool) -> Scored:
    """Every item's parts and score, and the filters."""
    if scorer is None:
        parts = {"popularity": popularity(state, history.now)}
    else:
        parts = scorer.parts(history, task_of(repeats))
    removed = filters(state.catalog, history.items, repeats=repeats)
    return Scored(parts, total(parts), removed)


def recommend(
    state: ProfileState,
    history: History,
    scorer: Scorer | None,
    config: RecommendConfig,
    *,
    user_id: str,
    as_of: int,
    repeats: bool,
    n: int | None = None,
) -> Recommendations:
    """The best `n` items for a history (config's `n` by default)."""
    scored = score(state, history, scorer, repeats=repeats)
    ranked = rank(scored.score, scored.gone, state.catalog, config, config.n if n is None else n)
    note = UNTRAINED if scorer is None else "" if len(history) else STRANGER
    if not len(ranked.items):
        note = (
            "every item of the catalog was filtered out"
            if len(state.catalog)
            else ("the catalog is empty: limner import --items items.csv")
        )
    return Recommendations(
        user_id=user_id,
        recommendation_id=uuid4().hex,
        at=history.now,
        as_of=as_of,
        items=_listed(scored, ranked, state.catalog),
        removed={name: int(mask.sum()) for name, mask in scored.removed.items() if mask.any()},
        model=scorer.version if scorer else None,
        note=note,
    )


def _listed(scored: Scored, ranked: Ranked, catalog: Catalog) -> tuple[Recommendation, ...]:
    return tuple(
        Recommendation(
            item_id=catalog.ids.values[item],
            title=title_of(catalog, item),
            rank=place,
            score=float(scored.score[item]),
            parts={name: float(column[item]) for name, column in sorted(scored.parts.items())},
            steps=ranked.steps[place - 1],
        )
        for place, item in enumerate(ranked.items.tolist(), 1)
    )


def title_of(catalog: Catalog, item: int) -> str:
    """What to call an item: its title or name, else its id."""
    version = catalog.current.view[item : item + 1]
    for attribute in ("title", "name"):
        _, codes = catalog.codes_at(attribute, version)
        if len(codes):
            return str(catalog.words[attribute].values[codes[0]])
    return catalog.ids.values[item]
