"""What must hold while, and after, the state is built anew beside the live one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from limner.app import Limner
from limner.app.learning import lesson_of
from limner.config import Config, parse
from limner.errors import StoreError
from limner.events.batch import DAY
from limner.testing.shop import START, shop

SHOP = shop(users=20, items=16, trips=6)


def settings(store: str = "memory:", **more: Any) -> Config:
    given: dict[str, Any] = {"store": store, "clock": "events", "train": {"sequence": False}}
    return parse(given | more)


def filled(store: str = "memory:", **more: Any) -> Limner:
    app = Limner.open(config=settings(store, **more))
    app.import_file(SHOP.items, kind="items")
    app.import_file(SHOP.users, kind="users")
    app.import_file(SHOP.events)
    return app


def test_a_half_folded_state_is_never_written_as_a_snapshot(tmp_path: Path) -> None:
    app = filled(f"sqlite:///{tmp_path / 'shop.db'}")
    app.writer.broken = True
    with pytest.raises(StoreError, match="half folded"):
        app.save_snapshot()
    app.close()


def test_what_is_learned_from_is_of_one_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state is rebuilt, its items under other numbers, while the log is read."""
    with filled() as app:
        wanted = lesson_of(app)
        monkeypatch.setattr("limner.app.learning.interactions", _rebuilding(app))
        found = lesson_of(app)
        assert app.state.catalog.ids.values[:16] != found.item_ids[:16]
        named = [found.item_ids[code] for code in found.data.items.tolist()]
        assert named == [wanted.item_ids[code] for code in wanted.data.items.tolist()]


def _rebuilding(app: Limner) -> Any:
    from limner.model.interactions import interactions

    def read(*args: Any, **more: Any) -> Any:
        app.writer.rebuild()
        app.state.catalog.ids.values.reverse()  # as another order of arrival would have it
        return interactions(*args, **more)

    return read


def test_an_undo_keeps_the_model_of_a_store_in_memory() -> None:
    with filled() as app:
        app.train()
        before = app.recommend("u1", n=5)
        done = app.import_file([{"item_id": "new", "title": "New"}], kind="items")
        app.undo_import(done.entry.import_id)
        after = app.recommend("u1", n=5)
        assert after.note == before.note
        assert [item.item_id for item in after.items] == [item.item_id for item in before.items]
        assert after.items[0].score == pytest.approx(before.items[0].score)


def test_an_item_was_last_touched_by_who_is_left() -> None:
    event = {"item_id": "i1", "event_type": "view"}
    later = START + 500 * DAY
    with filled() as app:
        item = app.state.catalog.ids.code("i1")
        before = int(app.state.catalog.last_event.view[item])
        app.record([{**event, "user_id": "gone", "timestamp": later}])
        assert app.state.catalog.last_event.view[item] == later
        app.erase("gone")
        assert app.state.catalog.last_event.view[item] == before
        done = app.import_file([{**event, "user_id": "u1", "timestamp": later}])
        assert app.state.catalog.last_event.view[item] == later
        app.undo_import(done.entry.import_id)
        assert app.state.catalog.last_event.view[item] == before
        assert app.replay().differences == []
