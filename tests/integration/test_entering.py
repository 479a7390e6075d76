"""New users and new items are served without a refit."""

from __future__ import annotations

from pathlib import Path

import pytest

from limner.app import Limner
from limner.config import parse
from limner.testing.shop import KINDS, shop

SHOP = shop(users=40, items=60, trips=12, seed=3)
CAT_FOOD = {"type": "cat food", "category": "household", "department": "grocery", "brand": "maker"}


@pytest.fixture
def app(tmp_path: Path) -> Limner:
    settings = {
        "store": f"sqlite:///{tmp_path / 'shop.db'}",
        "clock": "events",
        "train": {"sequence": False},
        "recommend": {"caps": {}},
    }
    opened = Limner.open(config=parse(settings))
    opened.import_file(SHOP.items, kind="items")
    opened.import_file(SHOP.events)
    opened.train()
    return opened


def test_a_new_item_is_scored_at_once_by_what_it_is(app: Limner) -> None:
    trained = app.recommend("u0").model
    app.record([{"user_id": "u1", "item_id": "fresh", "event_type": "view"}])
    unsaid = app.why("u2", "fresh")
    app.put_item("fresh", {**CAT_FOOD, "title": "Pate"})
    for _ in range(12):  # somebody nobody knew, who likes cat food
        item = KINDS.index("cat food")
        app.record([{"user_id": "fan", "item_id": f"i{item}", "event_type": "purchase"}])
    fan, other = app.why("fan", "fresh"), app.why("u2", "fresh")
    assert fan.parts["content"] > max(other.parts["content"], unsaid.parts["content"])
    listed = app.recommend("fan", n=99)
    assert listed.model == trained  # nothing was fitted
    found = next(each for each in listed.items if each.item_id == "fresh")
    assert sum(found.parts.values()) == pytest.approx(found.score, abs=1e-9)  # law 5
    app.put_item("fresh", {**CAT_FOOD, "type": "paper"})
    assert app.why("fan", "fresh").parts["content"] < fan.parts["content"]
    app.close()


def test_a_user_whose_only_event_is_of_a_new_item_is_no_stranger(app: Limner) -> None:
    app.put_item("fresh", {**CAT_FOOD, "title": "Pate"})
    app.record([{"user_id": "new", "item_id": "fresh", "event_type": "purchase"}])
    listed = app.recommend("new", n=5)
    assert listed.note == ""
    ours = app.why("new", f"i{KINDS.index('cat food')}")
    unlike = app.why("new", f"i{KINDS.index('paper')}")
    assert ours.parts["content"] > unlike.parts["content"]
    app.close()
