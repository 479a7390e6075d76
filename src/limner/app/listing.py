"""Lists for a user: which settings hold, what scores, and what the list says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, TypedDict

import msgspec
import numpy as np
import pyarrow as pa

from limner.errors import NotFound, UsageError
from limner.events.batch import F64, as_numbers, as_text
from limner.events.meant import Meant
from limner.events.raw import RawBatch, Refused, RefusedEvent
from limner.events.timestamps import to_micros
from limner.events.vocabulary import canonical
from limner.explain.reasons import explained
from limner.explain.why import Why, why
from limner.model.blend import TASKS, Task
from limner.model.protocol import History
from limner.profile.choices import choices_of
from limner.recommend.attribution import Attribution, attributed
from limner.recommend.bandit import Posterior
from limner.recommend.families import LIVE, Mixture
from limner.recommend.rank import Recommendations, RecommendConfig, Repeats
from limner.recommend.recommend import asked as over
from limner.recommend.recommend import recommend as listed_for
from limner.recommend.recommend import task_of
from limner.recommend.scorer import Scorer, history_of
from limner.recommend.similar import By, SimilarItems, similar

if TYPE_CHECKING:
    from limner.app.limner import Limner


EVERYBODYS = ("popular", "trending", "new")
"""The families that know nothing of who asks."""

IMPERSONAL = "not personalised, as this user chose: what is popular, trending and new"


class Asked(TypedDict, total=False):
    """What a request may say of a list, over its scenario; what is None is not said.

    As in `RecommendConfig`; a `filter` comes on top of the scenario's.
    """

    repeats: Repeats | None
    filter: str | Sequence[str] | None
    boosts: Mapping[str, float] | None
    freshness: float | None
    diversity: float | None
    caps: Mapping[str, int] | None
    pinned: Sequence[str] | None
    excluded: Sequence[str] | None


def boosts_of(given: Sequence[str]) -> dict[str, float] | None:
    """Boosts as a request writes them, "AMOUNT: CONDITION". Raises UsageError for another form.

    >>> boosts_of(['0.5: brand == "Oma"'])
    {'brand == "Oma"': 0.5}
    """
    out = {}
    for text in given:
        amount, _, condition = text.partition(":")
        try:
            out[condition.strip()] = float(amount)
        except ValueError:
            condition = ""
        if not condition.strip():
            raise UsageError(
                f"{text!r} is no boost", mend="write AMOUNT: CONDITION, as in 0.5: price < 10"
            )
    return out or None


def settings(
    app: Limner, scenario: str, by: str | Sequence[str] | None, n: int | None, asked: Asked
) -> RecommendConfig:
    """The settings of a list. Raises UsageError for a scenario that is not configured."""
    config = app.config.recommend
    if scenario:
        known = app.config.scenario
        if scenario not in known:
            close = get_close_matches(scenario, known, 1)
            meant = f"did you mean {close[0]!r}? " if close else ""
            listed = f"there are {', '.join(sorted(known))}" if known else "there are none yet"
            raise UsageError(
                f"scenario {scenario!r} is not configured",
                mend=f"{meant}{listed}; add [scenario.{scenario}] to limner.toml",
            )
        config = known[scenario]
    names = None if by is None else (by,) if isinstance(by, str) else tuple(by)
    return over(config, families=names, n=n, **asked)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One list that is asked for: the arguments of `Limner.recommend`."""

    user_id: str
    n: int | None = None
    explain: bool = False
    log: bool = False
    by: str | Sequence[str] | None = None
    scenario: str = ""
    asked: Asked = field(default_factory=Asked)


Listed = Recommendations | Exception


def recommend(app: Limner, wanted: Wanted) -> Recommendations:
    """`Limner.recommend`."""
    return _or_raise(recommend_together(app, [wanted])[0])


def recommend_together(app: Limner, wanted: Sequence[Wanted]) -> list[Listed]:
    """The lists of several, whose histories models read together; each fails alone."""
    out: dict[int, Listed] = {}
    making: dict[int, _Making] = {}
    for place, one in enumerate(wanted):
        try:
            making[place] = _making(app, one)
        except Exception as error:
            out[place] = error
    made = zip(making, _made(app, list(making.values())), strict=True)
    for place, (listed, contexts) in made:
        try:
            listed = _or_raise(listed)
            if making[place].note:
                said = filter(None, (making[place].note, listed.note))
                listed = replace(listed, note="; ".join(said))
            if wanted[place].log:
                _log(app, listed, contexts)
            out[place] = listed
        except Exception as error:
            out[place] = error
    return [out[place] for place in range(len(wanted))]


def _making(app: Limner, wanted: Wanted) -> _Making:
    config = settings(app, wanted.scenario, wanted.by, wanted.n, wanted.asked)
    with app.writer.lock:
        personalised = choices_of(app.state, app._row(wanted.user_id)).personalised
    if not personalised:
        config = impersonal(config)

    def history() -> History:
        row = app._row(wanted.user_id) if personalised else -1
        return history_of(app.state, row, app.now())

    posterior = None
    if wanted.log and config.explore.policy != "off":
        posterior = app.exploring.posterior(config.explore)
    return _Making(
        config,
        history,
        wanted.user_id,
        wanted.scenario,
        wanted.explain,
        posterior,
        "" if personalised else IMPERSONAL,
    )


def _or_raise(listed: Listed) -> Recommendations:
    if isinstance(listed, Exception):
        raise listed
    return listed


def impersonal(config: RecommendConfig) -> RecommendConfig:
    """The settings of a list that is the same for everybody: of such families alone."""
    named = tuple(name for name in config.families if name in EVERYBODYS)
    explore = replace(config.explore, policy="off")
    return replace(config, families=named or EVERYBODYS, explore=explore)


def for_session(
    app: Limner,
    batches: Sequence[RawBatch],
    unreadable: Sequence[Refused],
    *,
    scenario: str,
    by: str | Sequence[str] | None,
    n: int | None,
    explain: bool,
    asked: Asked,
) -> Recommendations:
    """`Limner.recommend_session`, of events as they were read, and what could not be."""
    config = settings(app, scenario, by, n, asked)
    refused = [RefusedEvent(row.line, row.rule, row.reason) for row in unreadable]
    read = partial(_history, app, batches, refused)
    [(made, _)] = _made(app, [_Making(config, read, "", scenario, explain)])
    listed = _or_raise(made)
    return replace(listed, refused=tuple(sorted(refused, key=lambda row: row.line)))


@dataclass(frozen=True, slots=True)
class _Making:
    """What a list is made of; its history is read with the state at rest."""

    config: RecommendConfig
    history: Callable[[], History]
    user_id: str
    scenario: str
    explain: bool
    posterior: Posterior | None = None
    note: str = ""


@dataclass(slots=True)
class _Scored:
    """A history, the weights of the blend that hold for it, what scores it, and the families'
    parts where they were read with those of others.
    """

    history: History
    task: Task
    scores: Mixture
    parts: dict[str, F64] | None = None


def _made(app: Limner, lists: Sequence[_Making]) -> list[tuple[Listed, F64]]:
    """Each list, or why there is none, and its items' contexts."""
    scorer = app.scorer()
    with app.writer.lock, app.writer.watch("score"):
        read = _read(app, app._here(scorer), lists)
        return [_list_of(app, one, scored) for one, scored in zip(lists, read, strict=True)]


def _read(
    app: Limner, scorer: Scorer | None, lists: Sequence[_Making]
) -> list[_Scored | Exception]:
    """The lists' histories; those that ask the same of the blend are scored together."""
    out: list[_Scored | Exception] = []
    alike: dict[tuple[tuple[str, ...], Task], list[_Scored]] = {}
    for one in lists:
        try:
            families = tuple(one.config.families)
            mixture = Mixture(app.state, scorer, families, app.population)
            history = one.history()
            found = _Scored(history, task_of(app.state, history, one.config), mixture)
            alike.setdefault((families, found.task), []).append(found)
            out.append(found)
        except Exception as error:
            out.append(error)
    for (_, task), several in alike.items():
        if len(several) > 1:
            together = several[0].scores.together([each.history for each in several], task)
            for each, parts in zip(several, together, strict=True):
                each.parts = parts
    return out


def _list_of(app: Limner, one: _Making, scored: _Scored | Exception) -> tuple[Listed, F64]:
    try:
        if isinstance(scored, Exception):
            raise scored
        listed, _, contexts = listed_for(
            app.state,
            scored.history,
            scored.scores,
            one.config,
            user_id=one.user_id,
            as_of=app.state.position,
            scenario=one.scenario,
            posterior=one.posterior,
            given=scored.parts,
        )
        if one.explain:
            listed = explained(listed, scored.history, scored.scores, app.state, task=scored.task)
        return listed, contexts
    except Exception as error:
        return error, np.empty((0, 0))


def _history(app: Limner, batches: Sequence[RawBatch], refused: list[RefusedEvent]) -> History:
    """Events that are not recorded as a history; their positions are their places, from 1.

    Those that it cannot be made of are added to `refused`.
    """
    columns: list[tuple[int, int, float, int, float]] = []
    for batch in batches:
        table = batch.table
        none = pa.nulls(len(table), pa.string())
        ids, kinds, lines, values, given = (
            as_text(table[name].combine_chunks() if name in table.column_names else none)
            for name in ("item_id", "event_type", "line", "value", "timestamp")
        )
        times = to_micros(given, tz=app.config.timezone)
        moments = np.where(times.missing, app.now(), times.micros)
        items = app.state.catalog.ids.find([each or "" for each in ids.to_pylist()])
        rows = zip(
            ids.to_pylist(),
            items.tolist(),
            kinds.to_pylist(),
            moments.tolist(),
            times.unreadable.tolist(),
            map(int, lines.to_pylist()),
            as_numbers(values).tolist(),
            strict=True,
        )
        for item_id, item, kind, time, unreadable, line, value in rows:
            weight = app.config.weights.get(canonical(kind or ""), 0.0)
            problem = _unusable(item_id, item, kind, weight, unreadable)
            if problem is not None:
                refused.append(RefusedEvent(line, *problem))
            else:
                columns.append((time, item, weight, line, value))
    columns.sort(key=lambda row: row[:4])
    now = max(app.now(), max((row[0] for row in columns), default=0))
    return History(
        np.array([row[1] for row in columns], dtype=np.int32),
        np.array([row[0] for row in columns], dtype=np.int64),
        np.array([row[2] for row in columns], dtype=np.float64),
        np.full(len(columns), -1),
        np.array([row[3] for row in columns], dtype=np.int64),
        now,
        np.array([row[4] for row in columns], dtype=np.float64),
    )


def _unusable(
    item_id: str | None, item: int, kind: str | None, weight: float, unreadable: bool
) -> tuple[str, str] | None:
    """(rule, reason) why a session's event says nothing that a list could rest on."""
    if not kind:
        return "missing_type", "it has no event_type; add one, such as view"
    if not item_id:
        return "missing_item", "it has no item_id, and a list rests on items only"
    if item < 0:
        return "unknown_item", f"item {item_id!r} is not in the catalog; check the id"
    if unreadable:
        return "bad_time", "its time cannot be read; leave it out for now, or use ISO 8601"
    if not weight:
        return (
            "no_weight",
            f"type {kind!r} counts nothing; set [weights] {kind} to change it",
        )
    return None


def similar_to(app: Limner, item_id: str, n: int, by: By, filter: str) -> SimilarItems:
    """`Limner.similar`."""
    with app.writer.lock:
        item = app.state.catalog.ids.code(item_id)
        if item < 0:
            raise NotFound(f"item {item_id!r} is not known", mend="check the id")
        return similar(app.state, item, app.now(), n=n, by=by, filter=filter)


def _log(app: Limner, listed: Recommendations, contexts: F64) -> None:
    """Record a list as one impression, under its own id, with the propensity of each item.

    Of a list that explores also the contexts, which rewards are learned by.
    """
    if not listed.items:
        return
    about = {"scenario": listed.scenario, "model": listed.model or ""}
    if contexts.size:
        about["contexts"] = _json(contexts.tolist())
    app.record(
        [
            {
                "user_id": listed.user_id,
                "event_type": "impression",
                "event_id": listed.recommendation_id,
                "recommendation_id": listed.recommendation_id,
                "timestamp": listed.at,
                "properties": {
                    "shown": _json([item.item_id for item in listed.items]),
                    "propensity": _json([item.propensity for item in listed.items]),
                    **{name: value for name, value in about.items() if value},
                },
            }
        ],
        source="limner",
    )


def _json(values: Sequence[object]) -> str:
    return msgspec.json.encode(values).decode()


def attribution(app: Limner) -> Attribution:
    """`Limner.attribution`."""
    with app.writer.lock:
        folded = app.state.position
        meant = Meant(app.store.log, app.writer.amendments.copy())
    return attributed(meant.read(folded))


def why_(
    app: Limner,
    user_id: str,
    item_id: str,
    *,
    scenario: str,
    by: str | Sequence[str] | None,
    asked: Asked,
) -> Why:
    """`Limner.why`."""
    config = settings(app, scenario, by, None, asked)
    scorer = app.scorer()
    with app.writer.lock:
        row = app.known_row(user_id)
        personalised = choices_of(app.state, row).personalised
        if not personalised:
            config = impersonal(config)
        scores = Mixture(app.state, app._here(scorer), tuple(config.families), app.population)
        item = app.state.catalog.ids.code(item_id)
        if item < 0:
            raise NotFound(f"item {item_id!r} is not known", mend="check the id")
        history = history_of(app.state, row if personalised else -1, app.now())
        found = why(app.state, history, scores, config, item, user_id=user_id)
    return found if personalised else replace(found, text=f"{found.text}; {IMPERSONAL}")


def families(app: Limner) -> dict[str, dict[str, float]]:
    """`Limner.families`."""
    scorer = app.scorer()
    out: dict[str, dict[str, float]] = {name: {} for name in LIVE}
    for name in scorer.families if scorer is not None else ():
        assert scorer is not None
        out[name] = {task: scorer.weight(name, task) for task in TASKS}
    return out
