"""Events as they arrive over HTTP: one object, a list, or one a line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from limner.errors import InputError
from limner.events.batch import PROPERTY
from limner.events.raw import ALIAS, STRIDE, RawBatch, Refused
from limner.events.vocabulary import RESERVED, canonical
from limner.sources.columns import Columns
from limner.sources.decoding import decoded, flaw
from limner.sources.names import field_of
from limner.sources.rows import Row, fault, to_raw

MAX_BYTES = 16 << 20
"""The largest body that is read."""
MAX_EVENTS = 50_000
"""The most events in one body."""
MAX_NAMES = 1_000
"""The most different properties that the events of one body have together."""
CELLS = 1 << 22
"""The most cells (rows times columns) of one batch; beyond it there is another."""
WIDE = 2_000
"""The most columns of one batch of several bodies."""

_IDS = ("user_id", "item_id", "event_type", "event_id", "group_id", "target_user_id",
        "recommendation_id", "unit", "tz")  # fmt: skip

_NO_JSON = ("multipart/", "application/x-www-form-urlencoded", "application/xml", "text/xml",
            "text/html", "image/", "audio/", "video/")  # fmt: skip
"""Types of a body that is none of JSON lines, if it is no JSON."""

Shape = Callable[[Any], list[Any] | None]
"""From a JSON document to its events as Limner's own objects, or None if it has another shape."""


def _own(document: Any) -> list[Any] | None:
    """`{...}`, `[{...}, …]` or `{"events": [{...}, …]}`."""
    if isinstance(document, dict) and isinstance(document.get("events"), list):
        events: list[Any] = document["events"]
        return events
    return document if isinstance(document, list) else [document]


SHAPES: tuple[Shape, ...] = (_own,)
"""Asked in order. A vendor's payload is one function here, before `_own`, which takes anything."""


def parse_events(
    body: bytes,
    content_type: str,
    *,
    where: str,
    now: int,
    source: str = "http",
    received: int | None = None,
) -> tuple[list[RawBatch], list[Refused]]:
    """The events of a request's body, and the items that are none.

    `content_type` tells JSON from JSON lines (`application/x-ndjson`); of any other, JSON is
    tried first. Keys may be the fields' own names or the usual ones (`userId`, `event`, …); an
    object under `properties`, and all other keys, are properties. An event without a time gets
    `now` (µs), and unless it has an id counts as another event than the same one sent later; what
    an item or a user is (`$item`, `$user`) gets none, so that saying it twice changes nothing.
    `line` counts events from 1. `source` is that of the events that name none. There are several
    batches if one would be too large (`CELLS`).
    Raises InputError if the body as a whole cannot be read or is over `MAX_BYTES` or
    `MAX_EVENTS`.

    >>> [batch], refused = parse_events(b'[{"userId": "u1", "event": "view", "itemId": 7}, 3]',
    ...                                 "application/json", where="POST", now=1_700_000_000_000_000)
    >>> len(batch), refused[0].line, refused[0].rule
    (1, 2, 'bad_row')
    """
    items, refused = _decoded(body, content_type, where)
    batches, bad = numbered_events(items, where=where, now=now, source=source, received=received)
    return batches, refused + bad


def parse_together(
    bodies: Sequence[tuple[bytes, str]], *, where: str, now: int, received: int
) -> tuple[list[RawBatch], list[Refused], dict[int, InputError]]:
    """The events of several requests' (body, content type) as if they were one, by `STRIDE`.

    Each still counts its own events, and is received a microsecond after the one before. Last:
    which bodies cannot be read as a whole, and why.
    """
    items: list[tuple[int, Any]] = []
    refused: list[Refused] = []
    failed: dict[int, InputError] = {}
    for place, (body, content_type) in enumerate(bodies):
        try:
            found, bad = _decoded(body, content_type, where)
        except InputError as error:
            failed[place] = error
            continue
        items.extend((place * STRIDE + number, item) for number, item in found)
        refused.extend(replace(row, line=place * STRIDE + row.line) for row in bad)
    batches, bad = numbered_events(
        items, where=where, now=now, source="http", received=received, stride=STRIDE
    )
    return batches, refused + bad, failed


def _decoded(
    body: bytes, content_type: str, where: str
) -> tuple[list[tuple[int, Any]], list[Refused]]:
    """The events of a body with their numbers, and the lines that are none."""
    if len(body) > MAX_BYTES:
        raise InputError(
            f"the body has {len(body):,} bytes, and {MAX_BYTES:,} are the most",
            where=where,
            mend="send it in several requests, or use limner import",
        )
    refused: list[Refused] = []
    items = _items(body, content_type, where, refused)
    if len(items) > MAX_EVENTS:
        raise InputError(
            f"the body has {len(items):,} events, and {MAX_EVENTS:,} are the most",
            where=where,
            mend="send them in several requests, or use limner import",
        )
    return items, refused


def numbered_events(
    items: Iterable[tuple[int, Any]],
    *,
    where: str,
    now: int,
    source: str,
    received: int | None = None,
    stride: int = 0,
) -> tuple[list[RawBatch], list[Refused]]:
    """Events as mappings with their numbers: what `parse_events` does once a body is decoded.

    `received` (µs, `now` by default) tells two events without time and id apart, where `now`
    may stand still; with a `stride` those of each body (`STRIDE`) are received 1 µs later.
    """
    refused: list[Refused] = []
    parts: list[list[tuple[int, Row, Row]]] = [[]]
    columns: set[str] = set()
    names: dict[int, set[str]] = {}
    for line, item in items:
        problem = fault(item)
        event = {} if problem else _event(item)
        known = names.setdefault(line // stride if stride else 0, set())
        problem = problem or _wrong(event) or _too_wide(event, known)
        if problem:
            refused.append(Refused(where, line, "bad_row", problem, {}))
            continue
        known.update(event)
        columns.update(event)
        if len(columns) > WIDE or len(columns) * (len(parts[-1]) + 1) > CELLS:
            parts.append([])
            columns = set(event)
        parts[-1].append((line, item, event))
    moment = now if received is None else received
    return [_batch(rows, where, source, now, moment, stride) for rows in parts if rows], refused


def _too_wide(event: Row, known: set[str]) -> str | None:
    """What is wrong with an event that brings more properties than a body may have."""
    if len(known) + len(event) > MAX_NAMES and len(known | event.keys()) > MAX_NAMES:
        return (
            f"with this the request has more than {MAX_NAMES:,} different properties; to mend it: "
            "put ids into values, not into names"
        )
    return None


def _items(
    body: bytes, content_type: str, where: str, refused: list[Refused]
) -> list[tuple[int, Any]]:
    """The events of the body with their numbers, from 1."""
    kind = content_type.partition(";")[0].strip().lower()
    if not body.strip():
        raise InputError("the body is empty", where=where, mend='send {"user_id": …} as JSON')
    if "ndjson" in kind or "jsonl" in kind or "json-lines" in kind:
        return _lines(body, where, refused)
    try:
        document, loose = decoded(body)
    except ValueError as error:
        other = kind.startswith(_NO_JSON)
        if not other and "json" not in kind and b"\n" in body.strip():
            return _lines(body, where, refused)
        said = f", and its type is {kind}" if other else ""
        raise InputError(
            f"the body is no JSON ({error}){said}",
            where=where,
            mend="send one object or a list in UTF-8, or one object a line as application/x-ndjson",
        ) from None
    for shape in SHAPES:
        events = shape(document)
        if events is not None:
            numbered = list(enumerate(events, 1))
            return _sound(numbered, where, refused) if loose else numbered
    raise InputError("the body has no known shape", where=where, mend="see /openapi.json")


def _sound(
    numbered: list[tuple[int, Any]], where: str, refused: list[Refused]
) -> list[tuple[int, Any]]:
    """The items without a flaw."""
    out = []
    for number, item in numbered:
        reason = flaw(item)
        if reason is None:
            out.append((number, item))
        else:
            refused.append(Refused(where, number, "bad_json", reason, {}))
    return out


def _lines(body: bytes, where: str, refused: list[Refused]) -> list[tuple[int, Any]]:
    items: list[tuple[int, Any]] = []
    texts = [text for text in body.split(b"\n") if text.strip()]
    for number, text in enumerate(texts, 1):
        try:
            item, loose = decoded(text)
        except ValueError as error:
            reason = f"this line is no JSON ({error}); to mend it: one object a line, in UTF-8"
            refused.append(Refused(where, number, "bad_json", reason, {}))
            continue
        items += _sound([(number, item)], where, refused) if loose else [(number, item)]
    return items


def _event(item: Row) -> Row:
    """An item's values under the names of fields and `properties.NAME`.

    Where two keys could be one field the better name is it, and the other a property.
    """
    out: Row = {}
    ranks: dict[str, tuple[int, str]] = {}
    for key, value in item.items():
        if key == "properties" and isinstance(value, dict):
            for name, inner in value.items():
                out[PROPERTY + name] = inner
            continue
        if key == "type" and value == "alias":  # as Segment calls it
            out.setdefault("event_type", ALIAS)
            continue
        if key == "source" and isinstance(value, str):
            out["source"] = value
            continue
        found = field_of(key)
        if found is None:
            out.setdefault(PROPERTY + key, value)
            continue
        target, rank = found
        if target in ranks and ranks[target][0] <= rank:
            out.setdefault(PROPERTY + key, value)
            continue
        if target in ranks:
            out.setdefault(PROPERTY + ranks[target][1], out[target])
        out[target] = value
        ranks[target] = (rank, key)
    return out


def _wrong(event: Row) -> str | None:
    """What is wrong with a field's type, or None."""
    for name in _IDS:
        value = event.get(name)
        if isinstance(value, bool | dict | list):
            return f"{name} is no text or number; to mend it: send it as text"
    for name in ("value", "quantity", "timestamp"):
        if isinstance(event.get(name), bool | dict | list):
            return f"{name} is no number or text; to mend it: send a number"
    return None


def _batch(
    rows: list[tuple[int, Row, Row]],
    where: str,
    source: str,
    now: int,
    received: int,
    stride: int,
) -> RawBatch:
    added = []
    own: list[str | None] = []
    for line, _, event in rows:
        own.append(event.pop("source", None) or None)
        # What an item or a user is needs no time: it is so from ever, as in a file without times.
        dated = canonical(str(event.get("event_type"))) not in RESERVED
        timeless = dated and event.get("timestamp") in (None, "")
        # An event with an id is the same one however often, and whenever, it is sent.
        nameless = event.get("event_id") in (None, "")
        when = received + line // stride if stride else received
        added.append(str(when).encode() if timeless and nameless else b"")
        if timeless:
            event["timestamp"] = now
    names = list(dict.fromkeys(name for _, _, event in rows for name in event))
    columns = Columns(
        fields={name: name for name in names if not name.startswith(PROPERTY)},
        properties={
            name.removeprefix(PROPERTY): name for name in names if name.startswith(PROPERTY)
        },
        constants={},
        lists=frozenset(),
    )
    raw = to_raw(
        [item for _, item, _ in rows],
        [event for _, _, event in rows],
        [line for line, _, _ in rows],
        columns,
        None,
        kind="events",
        where=where,
        source=source,
        added=added,
    )
    if not any(own):
        return raw
    sources = pa.array(own, pa.string()).dictionary_encode()
    return replace(raw, table=raw.table.append_column("source", sources))
