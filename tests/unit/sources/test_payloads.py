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
    [batch] = batches
    assert batch.source == "http"  # of those that name none
    assert batch.table.column("source").to_pylist() == [None, "till", None]
    assert batch.table.column("line").to_pylist() == [1, 2, 3]


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


BAD = [
    (b'{"user_id": "b", "value": NaN}', "NaN is no number"),
    (b'{"user_id": "b", "value": -Infinity}', "-Infinity is no number"),
    (b'{"user_id": "b", "value": 1e400}', "1e400 is too large"),
    (b'{"user_id": "b", "value": 1' + b"0" * 5000 + b"}", "is too large"),
    (b'{"user_id": "b", "user_id": "c"}', "'user_id' comes twice"),
    (b'{"user_id": "b", "x": {"y": 1, "y": 1}}', "'y' comes twice"),
    (b'{"user_id": "\\ud800"}', "a lone surrogate"),
    (b'{"\\udfff": 1, "user_id": "b"}', "a lone surrogate"),
    (b'{"user_id": "caf\xe9"}', "no UTF-8"),
    (b'{"user_id": "b", "x": ' + b"[" * 100 + b"]" * 100 + b"}", "deeper than 16"),
]


@pytest.mark.parametrize(("bad", "said"), BAD)
@pytest.mark.parametrize("lines", [False, True])
def test_what_is_wrong_with_one_event_does_not_spoil_the_others(
    bad: bytes, said: str, lines: bool
) -> None:
    good = [json.dumps({**EVENT, "userId": name}).encode() for name in ("u1", "u2")]
    events = [good[0], bad, good[1]]
    if lines:
        batches, refused = parsed(b"\n".join(events), "application/x-ndjson")
    else:
        batches, refused = parsed(b"[" + b", ".join(events) + b"]")
    assert [(row["line"], row["user_id"]) for row in rows(batches)] == [(1, "u1"), (3, "u2")]
    [one] = refused
    assert one.line == 2 and said in one.reason and "to mend it" in one.reason
    again, _ = parsed(b"[" + b",".join(good) + b"]")
    contents = [batch.table.column("content").to_pylist() for batch in (*batches, *again)]
    assert contents[0] == contents[1]  # an event is the same whatever came beside it


def test_a_byte_order_mark_is_no_fault() -> None:
    for kind in ("application/json", "application/x-ndjson"):
        batches, refused = parsed(b"\xef\xbb\xbf" + json.dumps(EVENT).encode(), kind)
        assert len(rows(batches)) == 1 and not refused


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_another_encoding_is_named(encoding: str) -> None:
    with pytest.raises(InputError, match=f"(?i){encoding[:6]}"):
        parsed(json.dumps(EVENT).encode(encoding))


@pytest.mark.parametrize(
    "kind", ["multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "text/xml"]
)
def test_what_is_another_format_is_no_json_lines(kind: str) -> None:
    with pytest.raises(InputError, match="its type is"):
        parsed(b"--x\r\nuser_id=b\r\n--x", kind)
    assert len(rows(parsed(json.dumps(EVENT).encode(), kind)[0])) == 1


def test_properties_without_number_are_refused_and_few_columns_stay_few() -> None:
    many = [{**EVENT, f"p{n}": n} for n in range(payloads.MAX_NAMES + 50)]
    batches, refused = parsed([*many, EVENT])
    kept = [row["line"] for row in rows(batches)]
    assert len(kept) + len(refused) == len(many) + 1
    assert kept[-1] == len(many) + 1 and len(kept) > payloads.MAX_NAMES - 20
    assert {row.reason.partition(";")[0][-20:] for row in refused} == {"different properties"}
    for batch in batches:
        assert [row["properties.p7"] for row in rows([batch]) if "properties.p7" in row] == [7.0]


def test_a_batch_has_a_bounded_number_of_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = parsed([{**EVENT, f"p{n}": n} for n in range(40)])
    monkeypatch.setattr(payloads, "CELLS", 100)
    batches, _ = parsed([{**EVENT, f"p{n}": n} for n in range(40)])
    assert len(batches) > 4 and rows(batches) == rows(whole)
    assert all(batch.table.num_rows * (batch.table.num_columns - 2) <= 100 for batch in batches)
