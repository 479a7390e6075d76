"""Recommend: score the catalog for a user, filter, rank by steps, cut, and keep what each did."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import uuid4

import numpy as np

from limner.catalog.catalog import Catalog
from limner.events.batch import F64, Bool
from limner.model.blend import Task, total
from limner.model.protocol import History
from limner.profile.facet import duration
from limner.profile.facets.affinity import Affinity
from limner.profile.state import ProfileState
from limner.recommend.bandit import Posterior
from limner.recommend.conditions import met
from limner.recommend.contexts import contexts
from limner.recommend.crowd import BOUGHT, crowd, repeating
from limner.recommend.explore import Exploration
from limner.recommend.families import Scores
from limner.recommend.rank import (
    Ranked,
    Recommendation,
    Recommendations,
    RecommendConfig,
    rank,
)

SHOWN = "shown"
"""Name of the facet that counts what was listed for a user."""

UNTRAINED = "no model is trained yet, so this is what is popular: limner train"
LIKENESS = "no model is trained yet, so this is what is popular and like the history: limner train"
STRANGER = "nothing is known of this user yet, so this is what is popular"
DECLARED = "nothing was done yet, so this is what they choose who declared the same"


@dataclass(frozen=True, slots=True)
class Scored:
    """The whole catalog scored for a user: parts, their sum, and what filters take out.

    `task`: the weights of the blend that were used; `unit`: the standard deviation of the families'
    score over the items that are left, in which boosts count.
    """

    parts: dict[str, F64]
    score: F64
    removed: dict[str, Bool]
    task: Task
    unit: float = 1.0

    @property
    def gone(self) -> Bool:
        """Items that some filter takes out."""
        gone: Bool = np.logical_or.reduce(list(self.removed.values()))
        return gone


def score(
    state: ProfileState,
    history: History,
    scores: Scores,
    config: RecommendConfig,
    given: Mapping[str, F64] | None = None,
) -> Scored:
    """Every item's parts and score, and what filters take out; the families' parts may be `given`.

    The parts are the families', then those of boosts, freshness and
    what was passed over, in standard deviations of the
    families' score over the items that are left.
    """
    task = task_of(state, history, config)
    parts = dict(scores.parts(history, task) if given is None else given)
    removed = filters(state, history, config)
    out = Scored(parts, total(parts), removed, task)
    passed = ignored(state, history) if config.fade else None
    left = out.score[~out.gone]
    unit = float(left.std()) if len(left) else 0.0
    unit = unit if unit > 1e-12 else 1.0
    out = replace(out, unit=unit)
    if config.boosts or config.freshness or passed is not None:
        for text, amount in config.boosts.items():
            parts[f"boost {text}"] = met(text, state, history).astype(np.float64) * (amount * unit)
        if config.freshness:
            since = crowd(state, history.now).since
            age = np.maximum(history.now - since.astype(np.float64), 0)
            fresh = np.exp2(-age / duration(config.fresh_half_life))
            fresh[since == 0] = 0.0
            parts["freshness"] = (fresh * (config.freshness * unit)).astype(np.float64)
        if passed is not None:
            parts["passed over"] = 0.0 - np.log2(1 + passed) * (config.fade * unit)
        out = replace(out, score=total(parts))
    return out


def ignored(state: ProfileState, history: History) -> F64 | None:
    """How often each item was listed for a user of late and passed over; None for never.

    Decayed times it was shown, less decayed events with it by the same half-life, at least 0: who
    takes what is shown has passed over nothing. A list is there once it was logged.
    """
    facet = next((each for each in state.facets if each.name == SHOWN), None)
    if not isinstance(facet, Affinity) or history.row < 0:
        return None
    keys, values = state.pools[facet.name].entries(history.row)
    if not len(keys):
        return None
    words = state.vocabulary(facet.path).values
    items = state.catalog.ids.find([words[key] for key in keys.tolist()])
    times = facet.weights_of(values, history.now)[:, 1]
    out = np.zeros(len(state.catalog))
    np.add.at(out, items[items >= 0], times[items >= 0])
    age = np.maximum(history.now - history.times.astype(np.float64), 0)
    taken = (history.weights > 0) * np.exp2(-age / facet.weight.half_lives[1])
    np.subtract.at(out, history.items, taken)
    return np.maximum(out, 0.0)


def task_of(state: ProfileState, history: History, config: RecommendConfig) -> Task:
    """The blend's weights to use: for the next purchase of any kind, or for new items only."""
    if config.repeats == "learned":
        again = repeating(state, config.kind, history.now)
        return "next" if not len(history) or again[history.items].mean() >= 0.5 else "new"
    return "next" if config.repeats else "new"


def usual_task(state: ProfileState, config: RecommendConfig, now: int) -> Task:
    """The same for this shop's users as a whole."""
    if config.repeats == "learned":
        again = repeating(state, config.kind, now)
        return "next" if not len(again) or again.mean() >= 0.5 else "new"
    return "next" if config.repeats else "new"


def filters(state: ProfileState, history: History, config: RecommendConfig) -> dict[str, Bool]:
    """Filter's name → items it removes."""
    catalog = state.catalog
    out = {"unavailable": ~catalog.available()}
    if config.repeats == "learned":
        bought = history.items[history.weights >= BOUGHT]
        gone = np.zeros(len(catalog), dtype=bool)
        if len(bought):
            gone[bought] = ~repeating(state, config.kind, history.now)[bought]
        out["already bought, and its kind is not bought again"] = gone
    elif not config.repeats:
        gone = np.zeros(len(catalog), dtype=bool)
        gone[history.items] = True
        out["already had"] = gone
    if config.excluded:
        gone = np.zeros(len(catalog), dtype=bool)
        found = catalog.ids.find(list(config.excluded))
        gone[found[found >= 0]] = True
        out["excluded"] = gone
    for text in config.filters:
        out[f"filter {text}"] = ~met(text, state, history)
    return out


def recommend(
    state: ProfileState,
    history: History,
    scores: Scores,
    config: RecommendConfig,
    *,
    user_id: str,
    as_of: int,
    scenario: str = "",
    posterior: Posterior | None = None,
    given: Mapping[str, F64] | None = None,
) -> tuple[Recommendations, Scored, F64]:
    """The best items for a history, what they were chosen by, and the context of each (n, d).

    With a `posterior` the list explores as configured; without, there are no contexts. `given`:
    the families' parts, where they were read before.
    """
    scored = score(state, history, scores, config, given)
    key, seen = uuid4().hex, dict[int, F64]()

    def explore(among: Sequence[int]) -> Exploration:
        assert posterior is not None
        given = contexts(state, history, scored.parts, scored.score, [*among, *pinned], len(among))
        seen.update(zip([*among, *pinned], given, strict=True))
        return Exploration(
            config.explore,
            posterior,
            lambda items: np.stack([seen[item] for item in items]),
            state.catalog.ids.values,
            key,
        )

    pinned = [item for item in state.catalog.ids.find(list(config.pinned)).tolist() if item >= 0]
    exploring = posterior is not None and config.explore.policy != "off"
    ranked = rank(
        scored.score, scored.gone, state, config, config.n, explore if exploring else None
    )
    removed = {name: int(mask.sum()) for name, mask in scored.removed.items() if mask.any()}
    listed = Recommendations(
        user_id=user_id,
        recommendation_id=key,
        at=history.now,
        as_of=as_of,
        items=_listed(scored, ranked, state.catalog),
        removed=removed,
        model=scores.version,
        note=_note(scored, ranked, state, history, scores, config),
        scenario=scenario,
    )
    told = (
        np.array([seen[item] for item in ranked.items.tolist()]) if exploring else np.empty((0, 0))
    )
    return listed, scored, told


def _note(
    scored: Scored,
    ranked: Ranked,
    state: ProfileState,
    history: History,
    scores: Scores,
    config: RecommendConfig,
) -> str:
    said = []
    if not len(state.catalog):
        said.append("the catalog is empty: limner import --items items.csv")
    elif not len(ranked.items):
        said.append(f"every item of the catalog was filtered out: {_who(scored.removed)}")
    elif config.families:
        pass
    elif not len(history):
        said.append(DECLARED if "group" in scored.parts else STRANGER)
    elif scores.version is None:
        said.append(LIKENESS if "portrait" in scored.parts else UNTRAINED)
    strange = [item for item in config.pinned if state.catalog.ids.code(item) < 0]
    if strange:
        said.append(f"pinned but not known: {', '.join(strange)}")
    return "; ".join(said)


def _who(removed: Mapping[str, Bool]) -> str:
    """What each filter took out, in words.

    >>> _who({"unavailable": np.array([False, True]), "filter price < 1": np.array([True, True])})
    'filter price < 1 removes 2 of 2, unavailable removes 1 of 2'
    """
    counts = {name: (int(mask.sum()), len(mask)) for name, mask in removed.items()}
    ranked = sorted(counts.items(), key=lambda pair: -pair[1][0])
    return ", ".join(f"{name} removes {n} of {of}" for name, (n, of) in ranked if n)


def _listed(scored: Scored, ranked: Ranked, catalog: Catalog) -> tuple[Recommendation, ...]:
    return tuple(
        Recommendation(
            item_id=catalog.ids.values[item],
            title=title_of(catalog, item),
            rank=place,
            score=float(scored.score[item]),
            parts={name: float(column[item]) for name, column in sorted(scored.parts.items())},
            steps=ranked.steps[place - 1],
            propensity=float(ranked.propensity[place - 1]),
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


def asked(
    config: RecommendConfig, *, filter: str | Iterable[str] | None = None, **over: object
) -> RecommendConfig:
    """The settings of a list with what a request says over them; its filters come on top.

    What is None was not said. Raises ConfigError or ExpressionError for what makes no sense.
    """
    given = {name: value for name, value in over.items() if value is not None}
    if filter:
        more = (filter,) if isinstance(filter, str) else tuple(filter)
        given["filter"] = (*config.filters, *more)
    out = replace(config, **given)  # type: ignore[arg-type]
    if given:
        out.check("recommend")
    return out
