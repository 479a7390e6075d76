"""Corrected, retracted and given back is as if the right thing had been told at once."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.property.people import ITEMS, START, Row, events, opened, same, seen

from limner.events.amend import effective
from limner.events.batch import DAY, EventBatch

AMENDED = settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=(Phase.explicit, Phase.generate),
)
USERS = ["u1", "u2"]


def wrong(row: Row, how: str) -> tuple[list[Row], list[Row]]:
    """(what is told, wrong at first; what is true)."""
    told = {**row, "event_id": row["event_id"] + "-first"}
    who = {"user_id": row["user_id"], "event_id": row["event_id"] + "-second"}
    if how == "corrected field":
        mend = {**who, "event_type": "correction", "corrects": told["event_id"]}
        return [{**told, "value": 999.0}, {**mend, "value": row["value"]}], [row]
    if how == "sent anew":
        false = {**told, "item_id": "i0", "timestamp": row["timestamp"] - 9 * DAY, "quantity": 9.0}
        return [false, {**row, **who, "corrects": told["event_id"]}], [row]
    if how == "retracted":
        return [told, {**who, "event_type": "retraction", "retracts": told["event_id"]}], []
    return [row], [row]


HOWS = ["as told", "corrected field", "sent anew", "retracted"]


@AMENDED
@given(rows=events(USERS, max_size=14), data=st.data(), order=st.randoms(use_true_random=False))
def test_what_is_corrected_is_as_if_it_had_been_told_right(
    rows: list[Row], data: Any, order: Random
) -> None:
    told: list[Row] = []
    true: list[Row] = []
    for row in rows:
        first, right = wrong(row, data.draw(st.sampled_from(HOWS)))
        told += first
        true += right
    order.shuffle(told)  # what corrects may even come first
    cut = order.randint(0, len(told))
    with opened() as wanted, opened() as app:
        wanted.record(true)
        app.record(told[:cut])
        app.record(told[cut:])
        for again in (False, True):
            if again:
                app.writer.rebuild()
            for user in {row["user_id"] for row in true}:
                same(seen(app, user), seen(wanted, user))
                at = START + 30 * DAY
                same(seen(app, user, at=at), seen(wanted, user, at=at))


def row(kind: str, **more: Any) -> Row:
    return {
        "user_id": b"u" * 16, "event_type": kind, "timestamp": START, "item_id": "tea",
        "group_id": "b1", "source": "api",
    } | more  # fmt: skip


def left(*rows: Row, **more: Any) -> list[tuple[str, float | None, float | None]]:
    """(id, quantity, value) of the purchases that are left."""
    import numpy as np

    _, batch = effective(EventBatch.of(rows), np.arange(len(rows)), **more)
    return [
        (one["event_id"], one["quantity"], one["value"])
        for one in batch.to_pylist()
        if one["event_type"] == "purchase"
    ]


TWO = row("purchase", event_id="p", quantity=2.0, value=10.0)


@pytest.mark.parametrize(
    ("refund", "what_is_left"),
    [
        ({}, []),
        ({"quantity": 2.0, "value": 10.0}, []),
        ({"quantity": 1.0}, [("p", 1.0, 5.0)]),
        ({"quantity": 1.0, "value": 4.0}, [("p", 1.0, 6.0)]),
        ({"value": 4.0}, [("p", 2.0, 6.0)]),
        ({"value": 10.0}, []),
        ({"group_id": "b2"}, [("p", 2.0, 10.0)]),
        ({"item_id": "milk"}, [("p", 2.0, 10.0)]),
        ({"group_id": None, "properties.refunds": "p"}, []),
        ({"group_id": None, "properties.refunds": "q"}, [("p", 2.0, 10.0)]),
        ({"user_id": b"v" * 16}, [("p", 2.0, 10.0)]),
    ],
)
def test_a_refund_takes_out_what_it_gives_back(
    refund: Row, what_is_left: list[tuple[str, float, float]]
) -> None:
    back = (
        row("refund", event_id="r", **refund) if "user_id" not in refund else row("refund") | refund
    )
    assert left(TWO, back) == what_is_left
    assert left(back, TWO) == what_is_left


def test_refunds_add_up_the_oldest_purchase_first() -> None:
    older = row("purchase", event_id="o", quantity=1.0, value=3.0, timestamp=START - DAY)
    back = row("refund", quantity=1.0, timestamp=START + DAY)
    assert left(TWO, older, back) == [("p", 2.0, 10.0)]
    assert left(TWO, older, back, back) == [("p", 1.0, 5.0)]
    assert left(TWO, older, back, back, back, back) == []
    assert left(TWO, older, row("refund", quantity=2.0)) == [("p", 1.0, 5.0)]


def test_what_is_given_back_later_had_been_bought() -> None:
    back = row("refund", timestamp=START + DAY)
    assert left(TWO, back, at=START) == [("p", 2.0, 10.0)]
    assert left(TWO, back, at=START + DAY) == []
    assert left(TWO, back, refunds=False) == [("p", 2.0, 10.0)]


def test_corrections_follow_one_another() -> None:
    first = row("correction", event_id="c1", value=8.0, item_id=None, group_id=None)
    first["properties.corrects"] = "p"
    second = {**first, "event_id": "c2", "value": None, "quantity": 1.0}
    third = {**second, "event_id": "c3", "quantity": 7.0, "properties.corrects": "c2"}
    assert left(TWO, first) == [("p", 2.0, 8.0)]
    assert left(TWO, first, second) == [("p", 1.0, 8.0)]
    assert left(third, TWO, first, second) == [("p", 7.0, 8.0)]
    gone = {**first, "event_id": "x", "event_type": "retraction"}
    assert left(TWO, first, gone) == []
    assert left(gone, TWO, first) == []


def test_an_id_of_two_sources_is_not_guessed() -> None:
    other = {**TWO, "source": "file"}
    mend = row("retraction", source="file", **{"properties.retracts": "p"})
    assert left(TWO, other, mend) == [("p", 2.0, 10.0)]
    assert left(TWO, other, {**mend, "source": "else"}) == [("p", 2.0, 10.0)] * 2
    assert left(TWO, {**mend, "source": "else"}) == []


def test_declared_attributes_end_when_they_say() -> None:
    with opened() as app:
        start = START
        app.put_user("u", {"tier": "basic"}, at=start)
        app.put_user("u", {"tier": "gold", "expires_at": "2023-12-01"}, at=start + DAY)
        assert app.portrait("u", at=start + 2 * DAY).basic["tier"].value == "gold"
        assert app.portrait("u", at=start + 60 * DAY).basic["tier"].value == "basic"


def test_a_refund_of_a_linked_id_finds_its_purchase() -> None:
    bought = {
        "user_id": "anon", "item_id": "i1", "event_type": "purchase", "timestamp": START,
        "value": 5.0, "group_id": "b",
    }  # fmt: skip
    back = {**bought, "user_id": "u", "event_type": "refund", "timestamp": START + DAY}
    with opened() as app:
        app.record([bought, back])
        assert "spend" not in app.portrait("u").value
        app.alias("anon", "u")
        assert "spend" not in app.portrait("u").value
        assert app.portrait("u").behaviour["events"].value == {"refund": 1}
        assert [event.event_type for event in app.evidence("u", "behaviour.events")] == ["refund"]


def test_what_is_kept_no_longer_is_as_if_it_had_never_been(tmp_path: Path) -> None:
    def rows(user: str, days: range, kind: str) -> list[Row]:
        return [
            {"user_id": user, "item_id": f"i{day % 6}", "event_type": kind, "value": 2.0,
             "timestamp": START + day * DAY, "event_id": f"{user}-{kind}-{day}"}
            for day in days
        ]  # fmt: skip

    store = f"sqlite:///{tmp_path}/shop.db"
    with opened(store, retention={"view": "5d", "all": "20d"}) as app, opened() as wanted:
        app.record([*rows("u1", range(40), "view"), *rows("u1", range(40), "purchase")])
        app.record([*rows("gone", range(9), "purchase"), *rows("now", range(39, 41), "view")])
        pseudonym = app.keys.pseudonym("gone")
        app.put_user("u1", {"tier": "basic"}, at=START)
        app.put_user("u1", {"tier": "gold", "expires_at": START + 10 * DAY}, at=START + DAY)
        still = {name: value for name, value in ITEMS[5].items() if name != "item_id"}
        app.put_item("i5", {**still, "expires_at": START + 30 * DAY}, at=START)
        app.save_snapshot()
        done = app.expire()
        assert (done.users, done.items) == (2, 1)
        assert app.expire().rows == 0
        wanted.record([*rows("u1", range(35, 40), "view"), *rows("u1", range(20, 40), "purchase")])
        wanted.put_user("u1", {"tier": "basic"}, at=START)
        same(seen(app, "u1"), seen(wanted, "u1"))
        assert app.replay().differences == []
        assert not any(part.holds(pseudonym) for part in app.erasables())
        assert "i5" not in {item.item_id for item in app.recommend("u1", n=100).items}
        again = app.record(rows("gone", range(9), "purchase"))
        assert (again.added, again.repeated) == (0, 9)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert pseudonym not in path.read_bytes(), path
