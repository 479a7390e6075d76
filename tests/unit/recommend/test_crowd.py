"""What all users say of the items, counted beside whoever asks."""

from __future__ import annotations

import threading
from dataclasses import fields

import numpy as np
import pytest

from limner.app import Limner
from limner.events.batch import DAY
from limner.recommend import crowd as counting
from limner.recommend.crowd import Crowd, crowd, renew
from limner.sources import synthetic

SHOP = synthetic.Shop(events=6_000, users=400, items=80, days=30)


def alike(one: Crowd, other: Crowd) -> None:
    """The same events, in whatever order, users and items."""
    orders = [np.lexsort((c.worth, c.groups, c.items, c.times, c.rows)) for c in (one, other)]
    for field in fields(Crowd):
        a, b = (np.asarray(getattr(c, field.name)) for c in (one, other))
        if field.name in ("rows", "items", "times", "worth", "groups"):
            a, b = (column[order] for column, order in zip((a, b), orders, strict=True))
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(one.popular, other.popular)


@pytest.fixture
def app() -> Limner:
    app = Limner.open("memory://", domain="ecommerce")
    app.import_file(synthetic.items(SHOP), kind="items")
    for part in synthetic.events(SHOP):
        app.record(part)
    return app


def test_in_portions_the_same_is_counted(app: Limner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "PORTION", 7)
    now, lock = app.now(), app.writer.lock
    assert not renew(app.state, now, lock)  # nobody asked for it yet
    first = crowd(app.state, now)
    assert not renew(app.state, now, lock)  # it is about right
    for number in range(50):  # less than a hundredth, more than half of one
        app.record({"user_id": f"u{number}", "item_id": "i1", "event_type": "view"})
    assert crowd(app.state, now) is first
    assert renew(app.state, now, lock)
    second = crowd(app.state, now)
    assert second is not first and second.position == app.state.position
    counting._kept.clear()
    alike(second, crowd(app.state, now))


def test_who_is_erased_is_gone_with_the_next_question(app: Limner) -> None:
    now = app.now()
    user = synthetic.user_name(0)
    row = app.state.rows[app.user(user)]
    assert (crowd(app.state, now).rows == row).any()
    app.erase(user)
    assert not (crowd(app.state, now).rows == row).any()


def test_an_item_that_came_has_its_place_and_nothing_is_counted_for_it(app: Limner) -> None:
    now = app.now()
    before = crowd(app.state, now)
    app.put_item("brand new", {"title": "New"})
    after = crowd(app.state, now)
    assert after.rows is before.rows
    assert after.n_items == len(app.state.catalog) == len(after.popular)
    assert after.popular[app.state.catalog.ids.code("brand new")] == 0


def test_counting_beside_writers_spoils_nothing(app: Limner) -> None:
    now = app.now()
    crowd(app.state, now)
    over = threading.Event()

    def write() -> None:
        number = 0
        while not over.is_set():
            number += 1
            app.put_item(f"late{number}", {"title": "x"})
            app.record({"user_id": f"v{number}", "item_id": f"late{number}", "event_type": "view"})

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for step in range(20):
            renew(app.state, now + step * DAY, app.writer.lock)
            with app.writer.lock:
                found = crowd(app.state, now + step * DAY)
                assert len(found.popular) == len(app.state.catalog)
                assert found.items.max() < found.n_items
    finally:
        over.set()
        writer.join()
