import json
from typing import Any

import pytest

from limner.errors import InputError
from limner.events.raw import RawBatch, Refused
from limner.sources import payloads
from limner.sources.payloads import parse_events

NOW = 1_706_696_430_123_456
EVENT = {"userId": "u1", "itemId": 7, "event": "Product Viewed", "timestamp": 1706696430}


def parsed(
    body: Any, content_type: str = "application/json"
) -> tuple[list[RawBatch], list[Refused]]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return parse_events(data, content_type, where="POST /v1/events", now=NOW)


def rows(batches: list[RawBatch]) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row.items() if value is not None and name != "content"}
        for batch in batches
        for row in batch.table.to_pylist()
    ]


LINES = json.dumps(EVENT).encode() + b"\n\n" + json.dumps({**EVENT, "userId": "u2"}).encode()


@pytest.mark.parametrize(
    ("body", "content_type", "users"),
    [
        (EVENT, "application/json", ["u1"]),
        ([EVENT, {**EVENT, "userId": "u2"}], "application/json; charset=utf-8", ["u1", "u2"]),
        ({"events": [EVENT]}, "text/plain", ["u1"]),
        (LINES, "application/x-ndjson", ["u1", "u2"]),
        (LINES, "", ["u1", "u2"]),
        ([], "application/json", []),
    ],
)
def test_shapes(body: Any, content_type: str, users: list[str]) -> None:
    batches, refused = parsed(body, content_type)
    assert [row["user_id"] for row in rows(batches)] == users and not refused


def test_fields_by_their_own_or_usual_names_all_else_is_a_property() -> None:
    [row] = rows(
        parsed(
            {
                "userId": "u1", "item_id": "i1", "eventType": "purchase", "sessionId": "s1",
                "value": 3, "price": 9.5, "quantity": "2", "eventId": "e1", "tz": "Asia/Tokyo",
                "recommendationId": "r1", "targetUserId": "u9", "timestamp": "2024-01-31",
                "properties": {"colour": "red", "sizes": ["S", "M"], "ok": True, "n": "12"},
            }
        )[0]
    )  # fmt: skip
    assert row == {
        "line": 1, "user_id": "u1", "item_id": "i1", "event_type": "purchase", "group_id": "s1",
        "value": 3.0, "quantity": "2", "event_id": "e1", "tz": "Asia/Tokyo",
        "recommendation_id": "r1", "target_user_id": "u9", "timestamp": "2024-01-31",
        "properties.price": 9.5, "properties.colour": "red", "properties.sizes": ["S", "M"],
        "properties.ok": True, "properties.n": "12",
    }  # fmt: skip


def test_each_row_may_use_its_own_names() -> None:
    batches, _ = parsed([{"user_id": "a", "type": 1}, {"userId": "b"}, {"uid": "c"}])
    assert [row["user_id"] for row in rows(batches)] == ["a", "b", "c"]


def test_items_are_refused_one_by_one() -> None:
    deep: Any = 1
    for _ in range(20):
        deep = [deep]
    batches, refused = parsed(
        [EVENT, 3, {**EVENT, "userId": {"id": 1}}, {**EVENT, "x": deep}, {**EVENT, "value": []}]
    )
    assert [row["line"] for row in rows(batches)] == [1]
    assert [(refusal.line, refusal.rule) for refusal in refused] == [
        (2, "bad_row"), (3, "bad_row"), (4, "bad_row"), (5, "bad_row"),
    ]  # fmt: skip
    assert refused[1].reason == "user_id is no text or number; to mend it: send it as text"
    batches, refused = parsed(LINES + b"\n{oops\n", "application/x-ndjson")
    assert len(rows(batches)) == 2
    assert [(refusal.line, refusal.rule) for refusal in refused] == [(3, "bad_json")]


def test_an_event_without_a_user_is_left_to_cleaning() -> None:
    batches, refused = parsed([{"event": "view", "itemId": "i"}])
    assert len(rows(batches)) == 1 and not refused


def test_a_missing_time_is_now_and_makes_another_event() -> None:
    timeless = {key: value for key, value in EVENT.items() if key != "timestamp"}
    data = json.dumps(timeless).encode()
    seen = []
    for now in (NOW, NOW + 1):
        [batch], _ = parse_events(data, "application/json", where="w", now=now)
        assert batch.table.column("timestamp").to_pylist() == [now]
        seen += batch.table.column("content").to_pylist()
    assert seen[0] != seen[1]


def test_the_order_of_keys_does_not_matter_to_identity() -> None:
    turned = dict(reversed(EVENT.items()))
    [batch], _ = parsed([EVENT, turned, {**EVENT, "itemId": "7"}])
    first, second, third = batch.table.column("content").to_pylist()
    assert first == second != third


def test_events_that_name_a_source_keep_it() -> None:
    batches, _ = parsed([EVENT, {**EVENT, "source": "till"}, EVENT])
    assert [(batch.source, len(batch)) for batch in batches] == [("http", 2), ("till", 1)]
    assert batches[0].table.column("line").to_pylist() == [1, 3]


@pytest.mark.parametrize("body", [b"", b"  ", b"{", b"\xff", b"[" * 100_000])
def test_bodies_that_cannot_be_read(body: bytes) -> None:
    with pytest.raises(InputError, match="the body"):
        parsed(body)


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payloads, "MAX_EVENTS", 2)
    with pytest.raises(InputError, match="3 events, and 2 are the most"):
        parsed([EVENT] * 3)
    monkeypatch.setattr(payloads, "MAX_BYTES", 10)
    with pytest.raises(InputError, match="and 10 are the most"):
        parsed([EVENT])


def test_what_an_item_is_has_no_time_unless_said_and_is_the_same_whenever_sent() -> None:
    said = [
        {"event_type": "$item", "item_id": "tea", "properties": {"type": "drink"}},
        {"event_type": "$user", "user_id": "u1", "properties": {"age": "30"}},
        {"event_type": "$delete_item", "item_id": "tea"},
    ]
    for also in ([], [EVENT]):
        found = []
        for now in (NOW, NOW + 1):
            [batch], _ = parse_events(
                json.dumps(said + also).encode(), "application/json", where="w", now=now
            )
            found.append(batch.table.column("content").to_pylist())
            times = [row.get("timestamp") for row in rows([batch])]
            assert times == [None] * 3 + [1706696430] * len(also)
        assert found[0] == found[1]


def test_a_whole_number_is_the_same_id_however_it_is_spelled() -> None:
    batches, _ = parsed([{**EVENT, "userId": user} for user in (7, 7.0, "7", 7.5)])
    assert [row["user_id"] for row in rows(batches)] == ["7", "7", "7", "7.5"]
