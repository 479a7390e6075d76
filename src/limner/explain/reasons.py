"""Reasons for a recommendation, verified by deletion (law 5).

The parts that can attribute their score exactly to events shortlist what to name; then the whole
blend scores the item again without those events, and only what the score falls for is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from limner.catalog.catalog import Catalog
from limner.events.batch import F64, I32, I64
from limner.model.blend import Task
from limner.model.protocol import History
from limner.profile.state import ProfileState
from limner.profile.words import ago, length, percent
from limner.recommend.families import Scores
from limner.recommend.rank import Recommendation, Recommendations
from limner.recommend.recommend import title_of

BOUGHT = 1.0
"""Weight from which on an event is a purchase or its like, and not only a look."""

NAMED = 3
"""At most so many different things are named in one reason."""

ROUNDING = 1e-6
"""A fall is one from this share of the parts' sizes on: below is what float32 cannot tell."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Something that moved a score, in words and in events.

    `events` are positions in the log and `items` what they were about; `effect` is by how much
    the score falls without them, and is positive: a reason that deletion does not bear out is
    not given. `part` is the part of the score that falls most; of a reason that names no event
    (popularity) the part that carries it.
    """

    text: str
    part: str
    effect: float
    events: tuple[int, ...] = ()
    items: tuple[str, ...] = ()


def explained(
    listed: Recommendations,
    history: History,
    scores: Scores,
    state: ProfileState,
    *,
    task: Task,
) -> Recommendations:
    """The same list with the reasons for each item."""
    dense = state.catalog.ids.find([item.item_id for item in listed.items]).astype(np.int64)
    parts = [item.parts for item in listed.items]
    every = reasons(dense, parts, history, scores, state.catalog, task=task)
    items = tuple(
        replace(item, reasons=tuple(found), reason=found[0].text if found else _no_reason(item))
        for item, found in zip(listed.items, every, strict=True)
    )
    return replace(listed, items=items)


def reasons(
    items: I64,
    parts: Sequence[Mapping[str, float]],
    history: History,
    scores: Scores,
    catalog: Catalog,
    *,
    task: Task,
    given: F64 | None = None,
    greedily: bool = False,
) -> list[list[Reason]]:
    """What moved each item's score, strongest first.

    `given`: what each event adds to each, (k, n), by which events are tried; attribution says it
    otherwise. `greedily`: of these the ones that are named are taken away one after another, which
    finds more of what carries an item together, and takes as many passes.
    """
    out: list[list[Reason]] = [[] for _ in items]
    if len(history) and len(items):
        if given is None:
            given = scores.attribute(history, items, task)
        deleted = Deletions(items, history, scores, task)
        dense = items.tolist()
        groups = [_shortlist(i, history, row) for i, row in zip(dense, given, strict=True)]
        alike = [_alike(item, history, catalog) for item in dense]
        tried = [rows for each in groups for rows in each]
        deleted.add([*tried, *(rows for each in alike for _, _, rows in each)])
        chosen = [
            _chosen(column, item, groups[column], history, deleted, greedily=greedily)
            for column, item in enumerate(dense)
        ]
        deleted.add([_union(others) for others in chosen if others])
        for column, item in enumerate(dense):
            own = [rows for rows in groups[column] if history.items[rows[0]] == item]
            out[column] = _found(
                column, item, own, chosen[column], alike[column], history, deleted, catalog
            )
    for found, mine in zip(out, parts, strict=True):
        popular = mine.get("popularity", mine.get("popular", 0.0))
        if popular > 0:
            found.append(Reason("popular with everybody in these weeks", "popularity", popular))
    return out


class Deletions:
    """By how much, and by which part, items' scores fall without events; each set tried once.

    All sets of a list are tried in one pass over as many histories.
    """

    def __init__(self, items: I64, history: History, scores: Scores, task: Task) -> None:
        self._items, self._history, self._scores, self._task = items, history, scores, task
        self._falls: dict[bytes, tuple[F64, list[str]]] = {}
        self._least: F64 = np.zeros(len(items))

    def add(self, sets: Sequence[I64]) -> None:
        """Try these sets of events (indices), as far as they were not tried before."""
        fresh = {rows.tobytes(): rows for rows in sets if rows.tobytes() not in self._falls}
        if not fresh:
            return
        histories = [self._history, *(self._history.without(rows) for rows in fresh.values())]
        parts = self._scores.parts_of(histories, self._items, self._task)
        names = list(parts)
        if not names:
            return
        table = np.stack([parts[name] for name in names])  # (parts, 1 + sets, items)
        falls = table[:, :1] - table[:, 1:]
        whole = table[:, 0].sum(axis=0)
        self._least = ROUNDING * (1 + np.abs(table[:, 0]).sum(axis=0) + np.abs(whole))
        most = falls.argmax(axis=0)
        for place, key in enumerate(fresh):
            carried = [names[part] for part in most[place].tolist()]
            self._falls[key] = falls[:, place].sum(axis=0), carried

    def fall(self, rows: I64, column: int) -> tuple[float, str]:
        """(by how much an item's score falls without them, the part that falls most).

        0 for what is less than rounding.
        """
        if rows.tobytes() not in self._falls:
            self.add([rows])
        if rows.tobytes() not in self._falls:
            return 0.0, ""
        falls, carried = self._falls[rows.tobytes()]
        fall = float(falls[column])
        return (fall if abs(fall) > self._least[column] else 0.0), carried[column]


def _chosen(
    column: int,
    item: int,
    groups: Sequence[I64],
    history: History,
    deleted: Deletions,
    *,
    greedily: bool,
) -> list[I64]:
    """The events of other things to name: those whose deletion costs an item most."""
    others = [rows for rows in groups if history.items[rows[0]] != item]
    if not greedily:
        falls = [deleted.fall(rows, column)[0] for rows in others]
        best = sorted(zip(falls, range(len(others)), strict=True), key=lambda pair: -pair[0])
        return [others[place] for fall, place in best[:NAMED] if fall > 0]
    gone: list[I64] = []
    least = 0.0
    while others and len(gone) < NAMED:
        sets = [_union([*gone, rows]) for rows in others]
        deleted.add(sets)
        falls = [deleted.fall(rows, column)[0] for rows in sets]
        place = int(np.argmax(falls))
        if falls[place] <= least:
            break
        least = falls[place]
        gone.append(others.pop(place))
    return gone


def _union(groups: Sequence[I64]) -> I64:
    return np.sort(np.concatenate(groups))


def _found(
    column: int,
    item: int,
    own: Sequence[I64],
    others: Sequence[I64],
    alike: Sequence[tuple[str, str, I64]],
    history: History,
    deleted: Deletions,
    catalog: Catalog,
) -> list[Reason]:
    """The reasons of one item that deletion bears out."""
    out = []
    for rows in own:
        effect, part = deleted.fall(rows, column)
        if effect > 0:
            out.append(_repeat(item, rows, effect, part, history, catalog))
    if others:
        together = _union(others)
        effect, part = deleted.fall(together, column)
        if effect > 0:
            out.append(_company(others, together, effect, part, history, catalog))
    for attribute, value, rows in alike:
        effect, part = deleted.fall(rows, column)
        if effect > 0:
            out.append(_from_kind(attribute, value, rows, effect, part, history, catalog))
    return sorted(out, key=lambda reason: -reason.effect)


def _shortlist(item: int, history: History, given: F64) -> list[I64]:
    """Events by what they were about: of the item itself, of those that by attribution add most
    to its score, and the newest, without which a model of sequences asks from elsewhere: no
    gradient sees that.
    """
    different, inverse = np.unique(history.items, return_inverse=True)
    inverse = inverse.reshape(-1)
    sums = np.bincount(inverse, weights=given)
    best = [i for i in np.argsort(-sums, kind="stable")[:NAMED].tolist() if sums[i] > 0]
    own = np.flatnonzero(different == item).tolist()
    newest = list(dict.fromkeys(inverse[::-1].tolist()))[:NAMED]
    return [np.flatnonzero(inverse == i) for i in dict.fromkeys([*own, *best, *newest])]


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


def _repeat(
    item: int, rows: I64, effect: float, part: str, history: History, catalog: Catalog
) -> Reason:
    return Reason(
        _repeat_text(history, rows),
        part,
        effect,
        tuple(history.positions[rows].tolist()),
        (catalog.ids.values[item],),
    )


def _company(
    others: Sequence[I64],
    together: I64,
    effect: float,
    part: str,
    history: History,
    catalog: Catalog,
) -> Reason:
    """Other things of the history that speak for the item together."""
    items = [int(history.items[rows[0]]) for rows in others]
    newest = int(history.times[together].max())
    return Reason(
        f"goes with earlier choices: {listed_words([title_of(catalog, i) for i in items])} "
        f"(last {ago(history.now - newest)})",
        part,
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
    attribute: str,
    value: str,
    rows: I64,
    effect: float,
    part: str,
    history: History,
    catalog: Catalog,
) -> Reason:
    share = len(rows) / len(history)
    items = sorted({catalog.ids.values[item] for item in history.items[rows].tolist()})
    noun = "choice" if len(rows) == 1 else "choices"
    return Reason(
        f"a liking for {value.lower()}: {len(rows)} {noun} of other such items, "
        f"{percent(share)} of the newest {len(history)}",
        part,
        effect,
        tuple(history.positions[rows].tolist()),
        tuple(items),
    )


def listed_words(names: Sequence[str]) -> str:
    """Names in one phrase: "a; b and c"."""
    return "".join(names) if len(names) < 2 else f"{'; '.join(names[:-1])} and {names[-1]}"


def _no_reason(item: Recommendation) -> str:
    part = max(item.parts, key=lambda name: item.parts[name])
    return f"its {part.replace('_', ' ')} score alone"
