"""What became of the lists that were logged: events that carry a list's id are due to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from limner.events.batch import I64, PROPERTY, EventBatch


@dataclass(frozen=True, slots=True)
class Outcome:
    """The lists of a scenario ("" for none): how many, items shown, and what is due to them.

    `events`: by type, those with an item of a list and the list's id; `rates`: the share of the
    lists that led to one of the type at least.
    """

    scenario: str
    lists: int
    shown: int
    events: Mapping[str, int] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attribution:
    """Outcomes by scenario; `unknown` counts events whose id is of no list, or item not in it."""

    outcomes: list[Outcome]
    unknown: int = 0


def attributed(rows: Iterable[tuple[I64, EventBatch]]) -> Attribution:
    """Attribute the events of a log, read as it is meant, to its lists.

    An event may come before its list in the log, so all are read first.
    """
    lists: dict[str, tuple[str, frozenset[str]]] = {}
    found: list[tuple[str, str, str]] = []
    for _, batch in rows:
        ids = batch.array("recommendation_id")
        if ids.null_count == len(ids):
            continue
        some = batch.take(ids.is_valid().to_numpy(zero_copy_only=False))
        column = {
            name: some.array(name).to_pylist()
            for name in ("recommendation_id", "event_type", "item_id")
        }
        for name in ("shown", "scenario"):
            known = name in some.properties
            values = some.array(PROPERTY + name).to_pylist() if known else [None] * len(some)
            column[name] = values
        for key, kind, item, shown, scenario in zip(*column.values(), strict=True):
            if kind == "impression":
                if shown:
                    listed = frozenset(msgspec.json.decode(shown, type=list[str]))
                    lists[key] = str(scenario or ""), listed
            else:
                found.append((key, kind, item or ""))
    counts: dict[str, dict[str, int]] = {}
    led: dict[str, dict[str, set[str]]] = {}
    unknown = 0
    for key, kind, item in found:
        scenario, listed = lists.get(key, ("", frozenset()))
        if item not in listed:
            unknown += 1
            continue
        of = counts.setdefault(scenario, {})
        of[kind] = of.get(kind, 0) + 1
        led.setdefault(scenario, {}).setdefault(kind, set()).add(key)
    outcomes = []
    for scenario in sorted({name for name, _ in lists.values()}):
        mine = [listed for name, listed in lists.values() if name == scenario]
        rates = {kind: len(keys) / len(mine) for kind, keys in led.get(scenario, {}).items()}
        shown_items = sum(map(len, mine))
        outcomes.append(Outcome(scenario, len(mine), shown_items, counts.get(scenario, {}), rates))
    return Attribution(outcomes, unknown)
