"""Audiences with a name: who comes and who leaves is told, once, whatever happens between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from limner.app import Limner
from limner.config import parse
from limner.errors import ConfigError
from limner.events.batch import DAY
from limner.testing.shop import START

FACETS: list[dict[str, Any]] = [
    {
        "name": "spend",
        "kind": "sum",
        "section": "value",
        "label": "spend",
        "where": {"event_type": "purchase"},
    },
    {"name": "days_since_last", "kind": "recency", "section": "behaviour", "label": "last"},
]


class Clock:
    def __init__(self) -> None:
        self.at = START

    def __call__(self) -> int:
        return self.at


def opened(folder: Path, clock: Clock, **audiences: str) -> Limner:
    settings = {
        "store": f"sqlite:///{folder / 'shop.db'}",
        "facet": FACETS,
        "audiences": audiences,
        "changes": {"shift": 0, "turn": 0},
    }
    return Limner.open(config=parse(settings), clock=clock)


def buy(app: Limner, clock: Clock, user: str, value: float) -> None:
    event = {"user_id": user, "item_id": "tea", "event_type": "purchase", "value": value}
    app.record([{**event, "timestamp": clock.at}])


def told(app: Limner, after: int = 0) -> list[tuple[str, str | None, str]]:
    return [(c.kind, c.user_id, c.slot) for c in app.changes(after, limit=1000).changes]


def test_who_comes_is_told_once_and_who_leaves_by_time_is_found(tmp_path: Path) -> None:
    clock = Clock()
    rich = {"rich": "value.spend > 50", "lately": "behaviour.days_since_last < 14"}
    with opened(tmp_path, clock, **rich) as app:
        buy(app, clock, "ann", 10)
        assert told(app) == [("audience_entered", "ann", "audiences.lately")]
        buy(app, clock, "ann", 60)
        buy(app, clock, "ann", 60)
        entered = ("audience_entered", "ann", "audiences.rich")
        assert told(app, 1) == [entered]
        (change,) = app.changes(1).changes
        assert change.before is None and change.after and change.after.text == "value.spend > 50"
    with opened(tmp_path, clock, **rich) as app:  # a restart tells nothing
        buy(app, clock, "ann", 1)
        assert app.jobs().run("audiences").said == "nothing new"
        assert len(told(app)) == 2
        clock.at += 20 * DAY
        assert app.jobs().run("audiences").said == "1 came or left"
        assert told(app, 2) == [("audience_left", "ann", "audiences.lately")]
        buy(app, clock, "ann", 1)
        assert told(app, 3) == [("audience_entered", "ann", "audiences.lately")]


def test_members_of_a_new_condition_are_not_told_of(tmp_path: Path) -> None:
    clock = Clock()
    with opened(tmp_path, clock) as app:
        buy(app, clock, "ann", 60)
        buy(app, clock, "ben", 20)
    with opened(tmp_path, clock, rich="value.spend > 50") as app:
        app.following.drain()
        assert told(app) == []
        buy(app, clock, "ann", 5)
        buy(app, clock, "ben", 40)
        assert told(app) == [("audience_entered", "ben", "audiences.rich")]
    with opened(tmp_path, clock, rich="value.spend > 62") as app:  # another condition
        buy(app, clock, "ben", 5)
        assert told(app, 1) == [("audience_entered", "ben", "audiences.rich")]


def test_who_is_erased_is_no_member_and_comes_anew(tmp_path: Path) -> None:
    clock = Clock()
    with opened(tmp_path, clock, rich="value.spend > 50") as app:
        buy(app, clock, "ann", 60)
        buy(app, clock, "ben", 60)
        assert all(app.erase("ann").clean.values())
        assert told(app) == [("audience_entered", "ben", "audiences.rich")]
        assert app.jobs().run("audiences").said == "nothing new"


def test_a_slot_that_nobody_has_yet_has_no_members(tmp_path: Path) -> None:
    clock = Clock()
    with opened(tmp_path, clock, gold='basic.tier == "gold"') as app:
        buy(app, clock, "ann", 60)
        assert told(app) == []
        app.put_user("ann", {"tier": "gold"})
        assert told(app) == [("audience_entered", "ann", "audiences.gold")]
        buy(app, clock, "ben", 60)
        app.put_user("ann", {"tier": "none"})
        assert told(app, 1) == [("audience_left", "ann", "audiences.gold")]


def test_an_undone_import_takes_members_back(tmp_path: Path) -> None:
    clock = Clock()
    path = tmp_path / "events.csv"
    path.write_text(f"user_id,item_id,event_type,timestamp,value\nann,tea,purchase,{START},90\n")
    with opened(tmp_path, clock, rich="value.spend > 50") as app:
        buy(app, clock, "ann", 10)
        app.import_file(path)
        app.following.drain()
        assert told(app) == [("audience_entered", "ann", "audiences.rich")]
        (entry,) = app.store.imports.entries()
        app.undo_import(entry.import_id)
        app.following.drain()
        assert told(app, 1) == [("audience_left", "ann", "audiences.rich")]


def test_a_condition_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"audiences\.rich"):
        parse({"audiences": {"rich": "value.spend >"}})
