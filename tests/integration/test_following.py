"""What is shown and what is told: refresh policies and changes, through the composition root."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limner.app import Limner
from limner.config import Config, parse
from limner.errors import NotFound, UsageError
from limner.events.batch import DAY
from limner.profile.changes import CALM, Change
from limner.profile.facet import Entry
from limner.profile.facets.affinity import Affinity
from limner.profile.facets.taste import InterestVector
from limner.profile.follow import NEAR, drifts
from limner.profile.population import StateView
from limner.profile.users import Users
from limner.testing.shop import START, shop

SHOP = shop(users=20, items=20, trips=6)
ITEMS = [
    {"item_id": f"{kind}{n}", "type": kind, "category": kind, "brand": "maker", "department": "x"}
    for kind in ("tea", "soap", "bread")
    for n in range(3)
]


def settings(folder: Path, spend: str = "on_read", **more: Any) -> Config:
    facet = {
        "name": "spend",
        "kind": "sum",
        "section": "value",
        "label": "spend",
        "where": {"event_type": "purchase"},
        "half_life": "90d",
        "refresh": spend,
    }
    store = f"sqlite:///{folder / 'shop.db'}"
    return parse({"store": store, "clock": "events", "facet": [facet], **more})


def opened(folder: Path, spend: str = "on_read", **more: Any) -> Limner:
    return Limner.open(config=settings(folder, spend, **more))


def event(user: str, day: float, kind: str = "purchase", **more: Any) -> dict[str, Any]:
    return {
        "user_id": user,
        "item_id": "tea0",
        "event_type": kind,
        "timestamp": START + int(day * DAY),
        "value": 10.0,
        **more,
    }


def spent(app: Limner, user: str) -> float | None:
    slot = app.portrait(user).slot("value.spend")
    return None if slot is None else float(slot.value)


def told(app: Limner, kind: str = "portrait_changed") -> list[tuple[str | None, str, object]]:
    return [
        (found.user_id, found.slot, found.after and found.after.value)
        for found in app.changes(limit=1000).changes
        if found.kind == kind
    ]


def spends(app: Limner) -> list[tuple[str | None, object]]:
    return [(user, value) for user, slot, value in told(app) if slot == "value.spend"]


# -- what is shown -----------------------------------------------------------------------------


def test_on_read_is_up_to_date_and_tells_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        app.record([event("ann", 0), event("ann", 1)])
        assert spent(app, "ann") == 20.0
        slot = app.portrait("ann").value["spend"]
        assert slot.refreshed_at is slot.as_of is None
        assert app.changes().changes == []


def test_a_timed_slot_is_that_of_its_last_refresh_also_after_a_restart(tmp_path: Path) -> None:
    with opened(tmp_path, "every 5m") as app:
        app.record([event("ann", 0), event("ben", 0)])
        assert spent(app, "ann") == 10.0  # nothing is kept yet, so it is read
        assert app.following.refresh("spend") == 2
        app.record([event("ann", 3)])
        slot = app.portrait("ann").value["spend"]
        assert slot.value == 10.0
        assert (slot.refreshed_at, slot.as_of) == (START, 2)
        assert app.portrait("ann").behaviour["days_since_last_purchase"].value == 0.0
        assert app.portrait("ann", at=START + 4 * DAY).value["spend"].value == 20.0
    with opened(tmp_path, "every 5m") as app:
        assert spent(app, "ann") == 10.0
        assert app.following.refresh("spend") == 1  # ben has no news
        assert spent(app, "ann") == 20.0
        assert app.following.refresh("spend") == 0
        assert spends(app) == [("ann", 20.0)]
    with Limner.open(config=settings(tmp_path, "every 5m"), write=False) as reader:
        assert spent(reader, "ann") == 20.0


def test_ranked_slots_come_back_as_they_were(tmp_path: Path) -> None:
    facet = {"name": "type", "kind": "affinity", "section": "interests", "key": "item.type",
             "refresh": "every 1h"}  # fmt: skip
    config = parse({"store": f"sqlite:///{tmp_path / 's.db'}", "clock": "events", "facet": [facet]})
    with Limner.open(config=config) as app:
        app.import_file(SHOP.items, kind="items")
        app.import_file(SHOP.events)
        read = app.portrait("u1").interests["type"]
        app.following.refresh("type")
        kept = app.portrait("u1").interests["type"]
        assert isinstance(kept.value[0], Entry)
        assert kept.value == read.value
        assert (kept.text, kept.events, kept.confidence) == (
            read.text, read.events, read.confidence,
        )  # fmt: skip


def test_a_trigger_fires_in_the_commit_of_its_event(tmp_path: Path) -> None:
    with opened(tmp_path, "when purchase where value > 50") as app:
        app.record([event("ann", 0, value=60.0)])
        assert app.portrait("ann").value["spend"].as_of == 1
        app.record([event("ann", 1, value=20.0), event("ann", 1, "view")])
        assert spent(app, "ann") == 60.0
        app.record([event("ann", 2, value=51.0)])
        assert spent(app, "ann") == 131.0
        assert spends(app) == [("ann", 131.0)]


def test_triggers_of_an_import_fire_once_a_user(tmp_path: Path) -> None:
    with opened(tmp_path, "when purchase where value > 50") as app:
        app.import_file([event(f"u{n % 100}", n / 100, value=float(n % 100)) for n in range(300)])
        assert app.following.drain() == 100
        kept = [app.portrait(f"u{n}").value["spend"].as_of is not None for n in range(100)]
        assert kept == [n > 50 for n in range(100)]
        assert app.following.drain() == 0


def test_what_a_crash_left_undone_is_done_after_it(tmp_path: Path) -> None:
    policy = "when purchase where value > 50"
    app = opened(tmp_path, policy)
    app.import_file([event(f"u{n}", n / 100, value=float(n)) for n in range(100)])
    app.store.close()  # as a process that is killed: nothing is written in the end
    with opened(tmp_path, policy) as app:
        app.following.drain()
        kept = [app.portrait(f"u{n}").value["spend"].as_of is not None for n in range(100)]
        assert kept == [n > 50 for n in range(100)]


def test_changing_the_policy_lets_go_of_what_the_old_one_showed(tmp_path: Path) -> None:
    with opened(tmp_path, "every 5m") as app:
        app.record([event("ann", 0)])
        app.following.refresh("spend")
        app.record([event("ann", 1)])
        snapshot = app.state.layout
    with opened(tmp_path, "every 6m") as app:
        assert app.state.layout == snapshot  # and the state needs no replay for it
        assert spent(app, "ann") == 20.0
        assert app.following.refresh("spend") == 1


def test_an_undone_import_is_no_longer_shown(tmp_path: Path) -> None:
    with opened(tmp_path, "every 5m") as app:
        app.record([event("ann", 0)])
        done = app.import_file([event("ann", 1), event("ben", 1)])
        app.following.refresh("spend")
        assert spent(app, "ann") == 20.0
        app.undo_import(done.entry.import_id)
        assert spent(app, "ann") == 10.0
        assert app.following.refresh("spend") == 1
        assert not app.store.shown.holds(app.keys.pseudonym("ben"))


def test_a_rebuilt_state_is_refreshed_anew(tmp_path: Path) -> None:
    with opened(tmp_path, "every 5m") as app:
        app.record([event("ann", 0), event("ben", 0)])
        app.following.refresh("spend")
        app.record([event("ann", 1)])
        app._rebuild(lambda *_: None)
        assert spent(app, "ann") == 20.0
        assert app.following.refresh("spend") == 2
        app.record([event("ben", 1)])
        assert (spent(app, "ann"), spent(app, "ben")) == (20.0, 10.0)


def test_a_joined_visitor_is_shown_with_the_user_from_the_next_refresh_on(tmp_path: Path) -> None:
    with opened(tmp_path, "every 5m") as app:
        app.record([event("ann", 0), event("visitor", 1)])
        app.following.refresh("spend")
        app.alias("visitor", "ann")
        assert spent(app, "visitor") == spent(app, "ann") == 10.0
        assert app.following.refresh("spend") == 1
        assert spent(app, "visitor") == spent(app, "ann") == 20.0
        visitor = app.keys.pseudonym("visitor")
        app.record([event("cleo", 2)])  # takes the row that the visitor gave up
        assert app.following.refresh("spend") == 1
        app.erase("ann")
        assert not app.store.shown.holds(visitor)
        assert spent(app, "cleo") == 10.0


def test_a_replay_that_takes_the_place_drops_what_is_kept(tmp_path: Path) -> None:
    with opened(tmp_path, "when purchase where value > 50") as app:
        app.record([event("ann", 0, value=60.0), event("ben", 0)])
        app.record([event("ann", 1)])
        assert spent(app, "ann") == 60.0
        assert app.replay(swap=True).differences == []
        assert spent(app, "ann") == 70.0
        app.following.drain()  # only an event sets a trigger off
        assert app.portrait("ann").value["spend"].refreshed_at is None
        app.record([event("ann", 2, value=60.0)])
        assert app.portrait("ann").value["spend"].as_of == 4


# -- what is told ------------------------------------------------------------------------------


def test_on_event_tells_every_change_with_before_and_after(tmp_path: Path) -> None:
    with opened(tmp_path, "on_event") as app:
        app.record([event("ann", 0)])
        app.record([event("ann", 1, "view")])
        app.record([event("ann", 2)])
        assert spends(app) == [("ann", 10.0), ("ann", 20.0)]
        found = [c for c in app.changes().changes if c.slot == "value.spend"]
        assert found[0].before is None
        assert found[1].before is not None and found[1].before.value == 10.0
        assert (found[1].position, found[1].time) == (3, START + 2 * DAY)
        assert found[1].user == app.keys.pseudonym("ann").hex()
        assert [c.id for c in app.changes().changes] == list(range(1, 1 + app.changes().last))
        assert app.changes(after=found[1].id).changes == app.changes().changes[found[1].id :]


def test_an_import_is_told_of_once_a_user_and_not_again(tmp_path: Path) -> None:
    rows = [event(f"u{n % 80}", n / 100) for n in range(240)]
    with opened(tmp_path, "on_event") as app:
        app.import_file(rows)
        assert app.changes().changes == []
        app.following.drain()
        assert sorted(spends(app), key=str) == sorted(((f"u{n}", 30.0) for n in range(80)), key=str)
        assert app.import_file(rows).entry.added == 0
        app.following.drain()
        last = app.changes(limit=10_000).last
    with opened(tmp_path, "on_event") as app:
        app.following.drain()
        assert app.changes(limit=10_000).last == last


SHIFT = 0.35
TURN = 0.2


def days(
    app: Limner,
    user: str,
    kind: str,
    first: int,
    last: int,
    step: int = 1,
    slot: str = "interests.type",
) -> list[Change]:
    """Buy something of a kind on so many days; the shifts told meanwhile."""
    before = app.changes(limit=10_000).last
    for day in range(first, last, step):
        app.record([event(user, day, item_id=f"{kind}{day % 3}", event_id=f"{user}{day}{kind}")])
    found = app.changes(before, limit=10_000).changes
    return [c for c in found if c.kind == "interest_shift" and c.slot == slot]


def test_an_interest_that_shifts_is_told_once_until_it_is_calm_again(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        app.import_file(ITEMS, kind="items")
        assert days(app, "ann", "tea", 0, 120, 4) == []
        (shift,) = days(app, "ann", "soap", 120, 135)
        assert shift.user_id == "ann"
        assert shift.before is not None and next(iter(shift.before.value)) == "tea"
        assert shift.after is not None and set(shift.after.value) == {"tea", "soap"}
        assert shift.drift is not None and shift.drift >= SHIFT == app.config.changes.shift
    with opened(tmp_path) as app:  # and a restart tells nothing again
        assert days(app, "ann", "soap", 135, 138) == []
        drift = app.portrait("ann").interests["type_drift"].value
        assert drift > CALM * SHIFT
        assert days(app, "ann", "soap", 140, 300, 5) == []
        assert app.portrait("ann").interests["type_drift"].value < CALM * SHIFT
        assert len(days(app, "ann", "bread", 300, 320)) == 1


def test_a_taste_that_turns_is_told_as_a_shift(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        apart = [item | {"brand": item["type"], "department": item["type"]} for item in ITEMS]
        app.import_file(apart, kind="items")
        assert days(app, "ann", "tea", 0, 120, 4, slot="interests.taste") == []
        (shift,) = days(app, "ann", "soap", 120, 135, slot="interests.taste")
        assert shift.drift is not None and shift.drift >= TURN == app.config.changes.turn
        assert shift.before is not None and "tea" in shift.before.text
        assert shift.after is not None and "soap" in shift.after.text
        assert len(shift.before.value) == len(shift.after.value) == 64


def test_drift_that_wavers_about_the_threshold_is_told_once(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        app.import_file(ITEMS, kind="items")
        days(app, "ann", "tea", 0, 120, 4)
        found, above = [], []
        for day in range(120, 150):
            found += days(app, "ann", "tea" if day > 130 and day % 3 == 0 else "soap", day, day + 1)
            above.append(app.portrait("ann").interests["type_drift"].value)
        crossings = int((np.diff((np.array(above) >= SHIFT).astype(int)) == 1).sum())
        assert crossings > 1
        assert len(found) == 1


def test_the_drift_that_is_watched_is_the_one_that_is_shown(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        app.import_file(SHOP.items, kind="items")
        app.import_file(SHOP.events)
        for facet in app.state.facets:
            if isinstance(facet, Affinity | InterestVector) and getattr(facet, "drifts", True):
                users = Users(app.state, app.state.rows.live, app.population, app.now())
                of_many = dict(zip(users.rows.tolist(), drifts(facet, users), strict=True))
                for user, row in app.state.rows.items():
                    seen = app.portrait(app.own_id(user) or "").interests[f"{facet.name}_drift"]
                    drift = facet.drift(StateView(app.state, row, app.population), app.now())
                    assert drift == pytest.approx(seen.value, abs=1e-12)
                    assert drift == pytest.approx(of_many[row], abs=NEAR / 100)


def test_shifts_of_many_users_in_one_commit_are_those_of_each_alone(tmp_path: Path) -> None:
    users = ("ann", "ben", "calm", "dan", "eva")

    def shifts(app: Limner, size: int) -> list[tuple[str | None, str]]:
        app.import_file(ITEMS, kind="items")
        days = [*range(0, 120, 4), *range(120, 135)]
        rows = [
            event(user, day, item_id="tea0" if day < 120 or user == "calm" else "soap0")
            for day in days
            for user in users
        ]
        for start in range(0, len(rows), size):
            app.record(rows[start : start + size])
        found = app.changes(limit=10_000).changes
        return sorted((c.user_id, c.slot) for c in found if c.kind == "interest_shift")

    for folder in ("one", "many"):
        (tmp_path / folder).mkdir()
    with opened(tmp_path / "one") as one, opened(tmp_path / "many") as many:
        alone = shifts(one, 1)
        assert alone == shifts(many, len(users))
        assert {user for user, _ in alone} == {"ann", "ben", "dan", "eva"}


def test_a_threshold_of_nothing_tells_of_no_shift(tmp_path: Path) -> None:
    with opened(tmp_path, changes={"shift": 0.0, "turn": 0.0}) as app:
        app.import_file(ITEMS, kind="items")
        days(app, "ann", "tea", 0, 120, 4)
        assert days(app, "ann", "soap", 120, 135) == []


# -- subscribing -------------------------------------------------------------------------------


def test_a_subscriber_is_told_and_goes_on_where_it_was(tmp_path: Path) -> None:
    with opened(tmp_path, "on_event") as app:
        app.record([event("ann", 0)])
        came: list[Change] = []
        there = threading.Event()

        def callback(change: Change) -> None:
            came.append(change)
            if len(came) == 1:
                raise ValueError("a subscriber may fail")
            there.set()

        subscription = app.subscribe(callback)
        app.record([event("ann", 1)])
        app.record([event("ben", 1)])
        assert there.wait(10)
        subscription.close()
        told_to = [(c.user_id, c.slot) for c in came[:2]]
        assert told_to == [("ann", "value.spend"), ("ann", "value.spend_monthly")]
        again = app.subscribe(after=came[1].id, kinds=["portrait_changed"])
        assert next(iter(again)).user_id == "ben"
        again.close()
        assert list(again) == []
        with pytest.raises(UsageError, match="no changes of kind 'shift'"):
            app.subscribe(kinds=["shift"])


def test_an_import_reaches_subscribers_in_the_background(tmp_path: Path) -> None:
    with opened(tmp_path, "on_event") as app:
        subscription = app.subscribe()
        app.import_file([event(f"u{n}", n / 100) for n in range(100)])
        users: set[str | None] = set()
        for change in subscription:
            users.add(change.user_id)
            if len(users) == 100:
                break
        assert users == {f"u{n}" for n in range(100)}


def test_the_outbox_is_bounded_and_says_what_was_missed(tmp_path: Path) -> None:
    with opened(tmp_path, "on_event", changes={"keep": 5}) as app:
        for day in range(10):
            app.record([event("ann", day)])
        found = app.changes()
        assert (len(found.changes), found.missed) == (5, True)
        assert not app.changes(after=found.changes[0].id).missed


def test_an_erased_user_is_neither_shown_nor_told_of(tmp_path: Path) -> None:
    with opened(tmp_path, "every 5m") as app:
        app.record([event("ann", 0), event("ben", 0)])
        app.following.refresh("spend")
        app.record([event("ann", 1), event("ben", 1)])
        app.following.refresh("spend")
        ann = app.keys.pseudonym("ann")
        subscription = app.subscribe(after=0)
        erased = app.erase("ann")
        assert erased.removed["shown slots"] == 1
        assert erased.removed["changes"] == 2  # spend, and spend a month
        assert all(erased.clean.values())
        assert {c.user_id for c in subscription.poll()} == {"ben"}
        with pytest.raises(NotFound):
            app.portrait("ann")
        app.record([event("cleo", 2)])  # takes the row that ann left
        app.following.refresh("spend")
        assert ann not in app.store.shown.users("spend")
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert ann not in path.read_bytes() and ann.hex().encode() not in path.read_bytes()


def test_what_fails_after_a_commit_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path, "on_event") as app:
        add = app.store.outbox.add

        def full(*_: object, **__: object) -> None:
            raise OSError("the disk is full")

        monkeypatch.setattr(app.store.outbox, "add", full)
        assert app.record([event("ann", 0)]).added == 1
        monkeypatch.setattr(app.store.outbox, "add", add)
        assert app.changes().changes == []
        app.following.drain()
        assert spends(app) == [("ann", 10.0)]
