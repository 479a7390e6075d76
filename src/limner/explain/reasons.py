"""Reasons for a recommendation, verified by deletion (law 5).

The parts that can attribute their score exactly to events shortlist what to name; then the whole
blend scores the item again without those events, and only what the score falls for is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from limner.catalog.catalog import Catalog
from limner.events.batch import F64, I32, I64, Bool
from limner.model.blend import Task
from limner.model.protocol import History
from limner.profile.interaction import Interaction, interaction
from limner.profile.state import ProfileState
from limner.profile.words import ago, length, percent
from limner.recommend.families import Scores
from limner.recommend.rank import Recommendation, Recommendations, RecommendConfig, Step, rank
from limner.recommend.recommend import score, title_of

BOUGHT = 1.0
"""Weight from which on an event is a purchase or its like, and not only a look."""

NAMED = 3
"""At most so many different things are named in one reason."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Something that moved a score, in words and in events.

    `events` are positions in the log and `items` what they were about; `effect` is by how much
    the score falls without them, and is positive: a reason that deletion does not bear out is
    not given. A reason that names no event (popularity) names the part that carries it.
    """

    text: str
    part: str
    effect: float
    events: tuple[int, ...] = ()
    items: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Why:
    """Why an item is where it is for a user: law 5, spelled out.

    `rank_by_score` counts from 1 among all items no filter removes; `rank` is its place in the
    list, None if it is not in it. `family_ranks`: its rank by each part alone. `without`: the
    rank it would have without the events of the first reason. `missing`: how much score it
    lacks for the list.
    """

    user_id: str
    item_id: str
    title: str
    score: float
    parts: Mapping[str, float]
    family_ranks: Mapping[str, int]
    rank_by_score: int | None
    rank: int | None
    removed_by: tuple[str, ...]
    steps: tuple[Step, ...]
    reasons: tuple[Reason, ...]
    without: int | None
    missing: float | None
    text: str
    interaction: Interaction
    """The user's dealings with the item, in the newest events."""


def explained(
    listed: Recommendations,
    history: History,
    scores: Scores,
    state: ProfileState,
    *,
    task: Task,
) -> Recommendations:
    """The same list with the reasons for each item."""
    items = []
    for item in listed.items:
        dense = state.catalog.ids.code(item.item_id)
        found = reasons(dense, item.parts, history, scores, state.catalog, task=task)
        items.append(
            replace(item, reasons=tuple(found), reason=found[0].text if found else _no_reason(item))
        )
    return replace(listed, items=tuple(items))


def reasons(
    item: int,
    parts: Mapping[str, float],
    history: History,
    scores: Scores,
    catalog: Catalog,
    *,
    task: Task,
) -> list[Reason]:
    """What moved an item's score, strongest first."""
    out: list[Reason] = []
    if len(history):
        groups = _shortlist(item, history, scores, task)
        alike = _alike(item, history, catalog)
        sets = [*groups, *(rows for _, _, rows in alike)]
        effects = _effects(item, history, sets, scores, task)
        borne_out = [rows for rows, e in zip(groups, effects, strict=False) if e > 0]
        own = [rows for rows in borne_out if history.items[rows[0]] == item]
        others = [rows for rows in borne_out if history.items[rows[0]] != item]
        if own:
            out.append(_repeat(item, own[0], effects[0], history, catalog))
        if others:
            together = np.sort(np.concatenate(others))
            fall = _effects(item, history, [together], scores, task)[0]
            if fall > 0:
                out.append(_company(others, together, fall, history, catalog))
        for (attribute, value, rows), effect in zip(alike, effects[len(groups) :], strict=True):
            if effect > 0:
                out.append(_from_kind(attribute, value, rows, effect, history, catalog))
        out.sort(key=lambda reason: -reason.effect)
    popular = parts.get("popularity", parts.get("popular", 0.0))
    if popular > 0:
        out.append(Reason("popular with everybody in these weeks", "popularity", popular))
    return out


def _effects(
    item: int, history: History, sets: Sequence[I64], scores: Scores, task: Task
) -> list[float]:
    """By how much the item's score falls without each set of events."""
    histories = [history, *(history.without(rows) for rows in sets)]
    parts = scores.parts_of(histories, item, task)
    if not parts:
        return [0.0] * len(sets)
    values: F64 = np.sum(list(parts.values()), axis=0)
    return [float(values[0] - value) for value in values[1:]]


def _shortlist(item: int, history: History, scores: Scores, task: Task) -> list[I64]:
    """The events of the item itself, and of the few that by attribution add most to its score."""
    given = scores.attribute(history, item, task)
    different, inverse = np.unique(history.items, return_inverse=True)
    sums = np.bincount(inverse, weights=given)
    best = [i for i in np.argsort(-sums, kind="stable")[:NAMED].tolist() if sums[i] > 0]
    own = np.flatnonzero(different == item).tolist()
    return [np.flatnonzero(history.items == different[i]) for i in dict.fromkeys(own + best)]


def _alike(item: int, history: History, catalog: Catalog) -> list[tuple[str, str, I64]]:
    """(attribute, value, events): what of the history shares a kind with the item."""
    out = []
    versions: I32 = catalog.current.view
    for attribute in ("type", "category"):
        _, mine = catalog.codes_at(attribute, versions[item : item + 1])
        if not len(mine):
            continue
        rows, codes = catalog.codes_at(attribute, versions[history.items])
        same = np.unique(rows[(codes == mine[0])])
        same = same[history.items[same] != item]
        if len(same):
            out.append((attribute, catalog.words[attribute].values[mine[0]], same))
    return out[:1]


def _repeat(item: int, rows: I64, effect: float, history: History, catalog: Catalog) -> Reason:
    return Reason(
        _repeat_text(history, rows),
        "frequency",
        effect,
        tuple(history.positions[rows].tolist()),
        (catalog.ids.values[item],),
    )


def _company(
    others: Sequence[I64], together: I64, effect: float, history: History, catalog: Catalog
) -> Reason:
    """Other things of the history that speak for the item, each by itself and all together."""
    items = [int(history.items[rows[0]]) for rows in others]
    newest = int(history.times[together].max())
    return Reason(
        f"goes with earlier choices: {_listed([title_of(catalog, i) for i in items])} "
        f"(last {ago(history.now - newest)})",
        "item_to_item",
        effect,
        tuple(history.positions[together].tolist()),
        tuple(catalog.ids.values[i] for i in items),
    )


def _repeat_text(history: History, rows: I64) -> str:
    """How often, and when: of the purchases if there are any, else of the looks."""
    bought = rows[history.weights[rows] >= BOUGHT]
    did = "bought" if len(bought) else "looked at"
    times = np.unique(history.times[bought if len(bought) else rows])
    last = ago(history.now - int(times[-1]))
    visits = len(times)
    if visits < 2:
        return f"{did} once, {last}"
    gap = (int(times[-1]) - int(times[0])) / (visits - 1)
    return f"{did} {visits} times, about every {length(gap)}, last {last}"


def _from_kind(
    attribute: str, value: str, rows: I64, effect: float, history: History, catalog: Catalog
) -> Reason:
    share = len(rows) / len(history)
    items = sorted({catalog.ids.values[item] for item in history.items[rows].tolist()})
    noun = "choice" if len(rows) == 1 else "choices"
    return Reason(
        f"a liking for {value.lower()}: {len(rows)} {noun} of other such items, "
        f"{percent(share)} of the newest {len(history)}",
        "content",
        effect,
        tuple(history.positions[rows].tolist()),
        tuple(items),
    )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{'; '.join(names[:-1])} and {names[-1]}"


def _no_reason(item: Recommendation) -> str:
    part = max(item.parts, key=lambda name: item.parts[name])
    return f"its {part.replace('_', ' ')} score alone"


def why(
    state: ProfileState,
    history: History,
    scores: Scores,
    config: RecommendConfig,
    item: int,
    *,
    user_id: str,
) -> Why:
    """Why an item stands where it stands for a user, or what keeps it out of the list."""
    catalog = state.catalog
    scored = score(state, history, scores, config)
    gone = scored.gone
    mine = float(scored.score[item])
    parts = {name: float(column[item]) for name, column in sorted(scored.parts.items())}
    place = None if gone[item] else _place(scored.score, ~gone, item)
    ranked = rank(scored.score, gone, state, config, config.n)
    listed = ranked.items.tolist()
    in_list = listed.index(item) + 1 if item in listed else None
    found = reasons(item, parts, history, scores, catalog, task=scored.task)
    without = None
    if found and found[0].events:
        rows = np.flatnonzero(np.isin(history.positions, found[0].events))
        again_scored = score(state, history.without(rows), scores, config)
        if not again_scored.gone[item]:
            without = _place(again_scored.score, ~again_scored.gone, item)
    last = float(scored.score[listed[-1]]) if listed else 0.0
    removed_by = tuple(name for name, mask in scored.removed.items() if mask[item])
    out = Why(
        user_id=user_id,
        item_id=catalog.ids.values[item],
        title=title_of(catalog, item),
        score=mine,
        parts=parts,
        family_ranks={
            name: _place(column, ~gone, item)
            for name, column in sorted(scored.parts.items())
            if not gone[item]
        },
        rank_by_score=place,
        rank=in_list,
        removed_by=removed_by,
        steps=ranked.steps[in_list - 1] if in_list else (),
        reasons=tuple(found),
        without=without,
        missing=None if in_list or gone[item] else max(last - mine, 0.0),
        text="",
        interaction=interaction(
            item,
            lambda other: title_of(catalog, other),
            items=history.items,
            times=history.times,
            weights=history.weights,
            groups=history.groups,
            now=history.now,
        ),
    )
    return replace(out, text=_text(out, len(listed)))


def _place(column: F64, among: Bool, item: int) -> int:
    """The rank of an item by one column, from 1; ties count as ahead of it only if greater."""
    return 1 + int((column[among] > column[item]).sum())


def _text(found: Why, length_: int) -> str:
    if found.removed_by:
        return f"not in the list: {' and '.join(found.removed_by)}"
    because = f": {found.reasons[0].text}" if found.reasons else ""
    if found.rank is not None:
        fall = (
            f"; without those events it would rank {found.without}"
            if found.without is not None and found.without != found.rank_by_score
            else ""
        )
        return f"number {found.rank} in the list{because}{fall}"
    if found.missing == 0.0:
        return f"not in the list: a cap on its kind keeps it out (rank {found.rank_by_score})"
    return (
        f"not in the list: by score it ranks {found.rank_by_score}, and lacks "
        f"{found.missing:.3f} for the first {length_}{because}"
    )
