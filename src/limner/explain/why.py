"""Why an item stands where it stands for a user, or why not: everything that is said was tried.

Every event is taken away by itself, which is the ground truth of what moved the score; what would
have changed the place of an item that is not in the list is found by changing it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from limner.events.batch import F64, I64, Bool
from limner.explain.reasons import BOUGHT, Reason, listed_words, reasons
from limner.model.blend import Task
from limner.model.protocol import History
from limner.profile.interaction import Interaction, interaction
from limner.profile.state import ProfileState
from limner.profile.words import ago
from limner.recommend.families import Scores
from limner.recommend.rank import Ranked, RecommendConfig, Step, rank
from limner.recommend.recommend import Scored, score, title_of

AT_ONCE = 128
"""Histories that are scored at once."""


@dataclass(frozen=True, slots=True)
class Why:
    """Why an item is where it is for a user: law 5, spelled out.

    `rank_by_score` counts from 1 among all items no filter removes; `rank` is its place in the
    list, None if it is not in it. `family_ranks`: its rank by each part alone, those of boosts
    among them. `steps`: what each step after the score did to it, in the list or not. `without`:
    the rank it would have without the events of the first reason, and `counterfactual` the same as
    a sentence. `missing`: how much score it lacks for the list. `removed_by`: the filters and caps
    that keep it out. `would`: what would have brought it in or nearer, each tried.
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
    counterfactual: str
    missing: float | None
    would: tuple[str, ...]
    text: str
    interaction: Interaction
    """The user's dealings with the item, in the newest events."""


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
    # all that the steps choose among, so that what they did to an item out of the list is seen too
    whole = rank(scored.score, gone, state, config, max(config.within, config.n))
    order = whole.items.tolist()
    stands = order.index(item) + 1 if item in order else None
    listed = order[: config.n]
    in_list = stands if stands is not None and stands <= config.n else None
    falls = alone(history, scores, item, scored.task)
    found = reasons(
        np.array([item]), [parts], history, scores, catalog, task=scored.task, given=falls[None],
        greedily=True,
    )[0]  # fmt: skip
    without, sentence = None, ""
    if found and found[0].events:
        rows = np.flatnonzero(np.isin(history.positions, found[0].events))
        without = _rank_without(rows, state, history, scores, config, item)
        if without is not None and without != place:
            said = f"it would rank {without:,} by score"
            said += f" instead of {place:,}" if place is not None else ""
            sentence = f"without {_events(rows, history, state)} {said}"
    capped = () if gone[item] or stands is not None else _capped(item, listed, state, config)
    removed_by = tuple(name for name, mask in scored.removed.items() if mask[item]) + capped
    last = min((float(scored.score[other]) for other in listed), default=0.0)
    missing = None if in_list or gone[item] else max(last - mine, 0.0)
    would = (
        ()
        if in_list
        else _would(item, scored, state, history, scores, config, place, missing, falls, capped)
    )
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
        steps=() if stands is None else whole.steps[stands - 1],
        reasons=tuple(found),
        without=without,
        counterfactual=sentence,
        missing=missing,
        would=would,
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
    return replace(out, text=_text(out, stands, len(listed)))


def alone(history: History, scores: Scores, item: int, task: Task) -> F64:
    """By how much the score of an item falls without each event, (n,): full deletion."""
    out = np.zeros(len(history))
    asked = np.array([item])

    def of(histories: Sequence[History]) -> F64:
        parts = list(scores.parts_of(histories, asked, task).values())
        values: F64 = np.sum(parts, axis=0)[:, 0] if parts else np.zeros(len(histories))
        return values

    for start in range(0, len(history), AT_ONCE):
        rows = range(start, min(start + AT_ONCE, len(history)))
        values = of([history, *(history.without([row]) for row in rows)])
        out[rows.start : rows.stop] = values[0] - values[1:]
    return out


def _rank_without(
    rows: I64,
    state: ProfileState,
    history: History,
    scores: Scores,
    config: RecommendConfig,
    item: int,
) -> int | None:
    """The rank by score without some events, None if a filter then takes it out."""
    again = score(state, history.without(rows), scores, config)
    return None if again.gone[item] else _place(again.score, ~again.gone, item)


def _events(rows: I64, history: History, state: ProfileState) -> str:
    """Events in words: "the 2 purchases of coffee (last a week ago)"."""
    bought = history.weights[rows] >= BOUGHT
    what = "purchase" if bought.all() else "look" if not bought.any() else "event"
    titles = [title_of(state.catalog, item) for item in dict.fromkeys(history.items[rows].tolist())]
    named = listed_words([*titles[:3], f"{len(titles) - 3} others"] if len(titles) > 4 else titles)
    at = "at" if what == "look" else "of" if what == "purchase" else "with"
    plural = f"the {len(rows)} {what}s" if len(rows) > 1 else f"the {what}"
    last = ago(history.now - int(history.times[rows].max()))
    return f"{plural} {at} {named} ({'last ' if len(rows) > 1 else ''}{last})"


def _capped(
    item: int, listed: Sequence[int], state: ProfileState, config: RecommendConfig
) -> tuple[str, ...]:
    """The caps that are used up before the item's turn, and by what."""
    out = []
    catalog = state.catalog
    for name, cap in config.caps.items():
        codes = catalog.codes_now(name, np.array([item, *listed]))
        same = [other for other, code in zip(listed, codes[1:], strict=True) if code == codes[0]]
        if codes[0] >= 0 and len(same) >= cap:
            titles = listed_words([title_of(catalog, other) for other in same])
            value = catalog.words[name].values[codes[0]]
            out.append(f"cap of {cap} on {name} {value}, used up by {titles}")
    return tuple(out)


def _would(
    item: int,
    scored: Scored,
    state: ProfileState,
    history: History,
    scores: Scores,
    config: RecommendConfig,
    place: int | None,
    missing: float | None,
    falls: F64,
    capped: Sequence[str],
) -> tuple[str, ...]:
    """What would have brought an item in or nearer, each tried."""
    gone = scored.gone
    if gone[item]:
        names = [name for name, mask in scored.removed.items() if mask[item]]
        left = [mask for name, mask in scored.removed.items() if name not in names]
        open_: Bool = ~np.logical_or.reduce(left) if left else np.ones(len(gone), dtype=bool)
        reached = _place(scored.score, open_, item)
        return (
            f"without what takes it out ({listed_words(names)}) it would rank {reached:,} by score",
        )
    out = []
    if capped:
        caps = {name: cap for name, cap in config.caps.items() if not _on(name, capped)}
        again: Ranked = rank(scored.score, gone, state, replace(config, caps=caps), config.within)
        order = again.items.tolist()
        if item in order:
            out.append(f"without that cap it would be number {order.index(item) + 1:,}")
    if missing:
        out.append(
            f"a boost of {missing / scored.unit:.2f} (in standard deviations of the score) would"
            " bring it level with the last of the list"
        )
    against = int(falls.argmin()) if len(falls) else -1
    if against >= 0 and falls[against] < 0 and place is not None:
        rows = np.flatnonzero(history.items == history.items[against])
        better = _rank_without(rows, state, history, scores, config, item)
        if better is not None and better < place:
            said = f"without {_events(rows, history, state)} it would rank {better:,} by score"
            out.append(f"{said} instead of {place:,}")
    return tuple(out)


def _on(name: str, capped: Sequence[str]) -> bool:
    return any(f" on {name} " in text for text in capped)


def _place(column: F64, among: Bool, item: int) -> int:
    """The rank of an item by one column, from 1; ties count as ahead of it only if greater."""
    return 1 + int((column[among] > column[item]).sum())


def _text(found: Why, stands: int | None, length: int) -> str:
    because = f": {found.reasons[0].text}" if found.reasons else ""
    if found.rank is not None:
        fall = f"; {found.counterfactual}" if found.counterfactual else ""
        return f"number {found.rank} in the list{because}{fall}"
    would = f"; {found.would[0]}" if found.would else ""
    if found.removed_by:
        return f"not in the list: {' and '.join(found.removed_by)}{would}"
    if not found.missing:
        steps = listed_words([step.name for step in found.steps]) or "what comes after the score"
        return (
            f"not in the list: by score it ranks {found.rank_by_score:,}, and {steps} moves it "
            f"back{f' to {stands:,}' if stands else ''}{would}"
        )
    return (
        f"not in the list: by score it ranks {found.rank_by_score:,}, and lacks "
        f"{found.missing:.3f} for the first {length}{because}{would}"
    )
