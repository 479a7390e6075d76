"""What each request is, said once for both clients: a function from arguments to `Asked`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from functools import lru_cache
from typing import Any, Generic, Literal, TypeAlias, TypeVar
from urllib.parse import quote
from uuid import uuid4

import msgspec

from limner.client import values
from limner.errors import AllRefused, InputError, LimnerError, UsageError, to_error
from limner.sources.names import field_of

T = TypeVar("T")

Event: TypeAlias = Mapping[str, Any] | msgspec.Struct
"""An event under the names of its fields (docs/http.md), or a Struct or dataclass of them."""

BATCH, BYTES = 1_000, 8 << 20
"""Events in one request, at most, and their bytes."""
_JSON = "send texts, numbers, truths, times, and lists and mappings of these"


@dataclass(frozen=True, slots=True)
class Asked(Generic[T]):
    """A request and the class of its answer. Sent again, it is the same one to the server."""

    method: str
    path: str
    kind: type[T]
    query: Mapping[str, Any] = field(default_factory=dict)
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def read(self, status: int, content: bytes) -> T:
        """The answer. Raises the error that a problem document tells of, or that it is none."""
        if status < 400:
            try:
                return msgspec.json.decode(content, type=self.kind)
            except msgspec.DecodeError as error:
                raise LimnerError(
                    f"the answer cannot be read: {error}",
                    where=f"{self.method} {self.path}",
                    mend="give the URL of a Limner server of a version like this client's",
                ) from None
        raise _error(status, content, f"{self.method} {self.path}")


def _error(status: int, content: bytes, where: str) -> LimnerError:
    try:
        body = msgspec.json.decode(content)
    except msgspec.DecodeError:
        body = None
    if not isinstance(body, dict) or "title" not in body:
        return LimnerError(
            f"the answer has status {status}, and is no Limner's",
            where=where,
            mend="give the URL that limner serve prints",
        )
    if body.get("type") == "urn:limner:error:all-refused":
        error = AllRefused(str(body.get("detail", "")), mend=str(body.get("mend", "")))
        error.refused = msgspec.convert(body.get("refused", []), list[values.RefusedEvent])
        error.problem = body
        return error
    return to_error(body)


def identified(event: Event) -> dict[str, Any]:
    """The event with an id and a time of its own, so that it counts once however often it is sent.

    Whatever name the event has for them, it is left as it is. Envelopes of CloudEvents have both.
    Raises InputError for what is no event.
    """
    given = dict(event) if isinstance(event, Mapping) else _fields(event)
    if "specversion" in given:
        return given
    there = {_field(name) for name, value in given.items() if value not in (None, "")}
    if "event_id" not in there:
        given["event_id"] = uuid4().hex
    if "timestamp" not in there and not str(given.get("event_type", "")).startswith("$"):
        given["timestamp"] = time.time_ns() // 1_000
    return given


@lru_cache(maxsize=1_024)
def _field(name: str) -> str:
    found = field_of(name)
    return found[0] if found else name


def _fields(event: Any) -> dict[str, Any]:
    if not (
        isinstance(event, msgspec.Struct) or (is_dataclass(event) and not isinstance(event, type))
    ):
        raise InputError(
            f"a {type(event).__name__} is no event", mend="give a mapping, with user_id and so on"
        )
    given: dict[str, Any] = msgspec.to_builtins(event)
    return {name: value for name, value in given.items() if value is not None}


def encoded(event: Event) -> bytes:
    """An event as it is sent. Raises InputError for what is none, or is too large for a request."""
    try:
        out = msgspec.json.encode(identified(event))
    except TypeError as error:
        raise InputError(f"an event has no JSON form: {error}", mend=_JSON) from None
    if len(out) > BYTES:
        raise InputError(f"an event has {len(out):,} bytes", mend=f"keep it below {BYTES:,}")
    return out


def batches(events: Event | Iterable[Event]) -> Iterator[list[bytes]]:
    """The events of requests, as they are sent; one event is a request too."""
    lot: list[bytes] = []
    size = 0
    for event in several(events):
        one = encoded(event)
        if lot and (len(lot) == BATCH or size + len(one) > BYTES):
            yield lot
            lot, size = [], 0
        lot.append(one)
        size += len(one)
    if lot:
        yield lot


def several(events: Event | Iterable[Event]) -> Iterable[Event]:
    """Events, where one may stand for itself."""
    if isinstance(events, Mapping) or not isinstance(events, Iterable):
        return [events]
    return events


def recorded(events: Sequence[bytes]) -> Asked[values.Accepted]:
    """Record events that are `encoded`."""
    return _sent("POST", "/v1/events", values.Accepted, b"[" + b",".join(events) + b"]")


def put_item(item_id: str, attributes: Mapping[str, Any]) -> Asked[values.Accepted]:
    """Say what an item is: title, category, brand, price, or any other attribute."""
    return _write("PUT", _path("items", item_id), values.Accepted, attributes)


def delete_item(item_id: str) -> Asked[values.Accepted]:
    """Take an item out of all lists. Raises NotFound."""
    return _write("DELETE", _path("items", item_id), values.Accepted)


def put_user(user_id: str, attributes: Mapping[str, Any]) -> Asked[values.Accepted]:
    """Declare attributes of a user; those that are not named keep what was said before."""
    return _write("PUT", _path("users", user_id), values.Accepted, attributes)


def put_alias(user_id: str, previous_id: str) -> Asked[values.Accepted]:
    """Say that an id used before, as of a visitor, was this user."""
    body = {"previous_id": previous_id}
    return _write("PUT", _path("users", user_id, "alias"), values.Accepted, body)


def choices(user_id: str) -> Asked[values.Choices]:
    """What a user chose: slots turned off or marked wrong, and lists made for them alone or not."""
    return Asked("GET", _path("users", user_id, "choices"), values.Choices)


def choose(
    user_id: str,
    *,
    personalised: bool | None = None,
    off: Sequence[str] = (),
    on: Sequence[str] = (),
    wrong: Sequence[str] = (),
    right: Sequence[str] = (),
) -> Asked[values.Choices]:
    """Record choices of a user; slots are "section.name". Answers with all that hold."""
    body = {"personalised": personalised, "off": off, "on": on, "wrong": wrong, "right": right}
    return _write("PUT", _path("users", user_id, "choices"), values.Choices, body)


def portrait(
    user_id: str,
    *,
    at: int | str | None = None,
    known_at: int | None = None,
    written: Literal["en", "zh"] | None = None,
) -> Asked[values.Portrait]:
    """The portrait of a user, now or `at` a time (µs or ISO 8601). Raises NotFound."""
    query = _query(at=at, known_at=known_at, written=written)
    return Asked("GET", _path("users", user_id, "portrait"), values.Portrait, query)


def recommend(
    user_id: str,
    n: int | None = None,
    *,
    explain: bool = False,
    log: bool = True,
    by: Sequence[str] = (),
    scenario: str = "",
    repeats: bool | Literal["learned"] | None = None,
    filter: str | Sequence[str] = (),
    boost: Sequence[str] = (),
    diversity: float | None = None,
    freshness: float | None = None,
    pin: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Asked[values.Recommendations]:
    """The best items for a user; see docs/recommending.md for what a list can be asked for."""
    query = _query(
        n=n, explain=explain, log=log, by=by, scenario=scenario, repeats=repeats, filter=filter,
        boost=boost, diversity=diversity, freshness=freshness, pin=pin, exclude=exclude,
    )  # fmt: skip
    return Asked("GET", _path("users", user_id, "recommendations"), values.Recommendations, query)


def recommend_session(
    events: Event | Iterable[Event],
    n: int | None = None,
    *,
    explain: bool = False,
    by: Sequence[str] = (),
    scenario: str = "",
    repeats: bool | Literal["learned"] | None = None,
    filter: str | Sequence[str] = (),
    boost: Sequence[str] = (),
    diversity: float | None = None,
    freshness: float | None = None,
    pin: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Asked[values.Recommendations]:
    """The best items after the events of a session without a user; nothing is recorded."""
    query = _query(
        n=n, explain=explain, by=by, scenario=scenario, repeats=repeats, filter=filter,
        boost=boost, diversity=diversity, freshness=freshness, pin=pin, exclude=exclude,
    )  # fmt: skip
    body = [event if isinstance(event, Mapping) else _fields(event) for event in several(events)]
    return Asked(
        "POST", "/v1/recommendations", values.Recommendations, query,
        msgspec.json.encode(body), {"Content-Type": "application/json"},
    )  # fmt: skip


def why(
    user_id: str,
    item_id: str,
    *,
    by: Sequence[str] = (),
    scenario: str = "",
    repeats: bool | Literal["learned"] | None = None,
    filter: str | Sequence[str] = (),
    boost: Sequence[str] = (),
    diversity: float | None = None,
    freshness: float | None = None,
    pin: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Asked[values.Why]:
    """Why an item stands where it stands for a user, or what keeps it out of the list."""
    query = _query(
        by=by, scenario=scenario, repeats=repeats, filter=filter, boost=boost,
        diversity=diversity, freshness=freshness, pin=pin, exclude=exclude,
    )  # fmt: skip
    return Asked("GET", _path("users", user_id, "why", item_id), values.Why, query)


def similar(
    item_id: str, n: int = 10, *, by: Literal["alike", "together"] = "alike", filter: str = ""
) -> Asked[values.SimilarItems]:
    """Items like an item, or bought together with it. Raises NotFound."""
    query = _query(n=n, by=by, filter=filter)
    return Asked("GET", _path("items", item_id, "similar"), values.SimilarItems, query)


def audience(
    where: str, *, limit: int = 100, cursor: str | None = None, index: str = ""
) -> Asked[values.Group]:
    """A page of the users who meet a condition. Raises ExpressionError."""
    body = {"where": where, "limit": limit, "cursor": cursor, "index": index}
    return Asked(
        "POST", "/v1/audiences/query", values.Group, {},
        msgspec.json.encode(body), {"Content-Type": "application/json"},
    )  # fmt: skip


def erase(user_id: str) -> Asked[values.Erased]:
    """Erase a user for good; answers with the receipt. Raises NotFound."""
    return _write("POST", _path("users", user_id, "erase"), values.Erased)


def ready() -> Asked[values.Ready]:
    """What the server has: users, items, position, model, training."""
    return Asked("GET", "/health/ready", values.Ready)


def live() -> Asked[values.Live]:
    """That the server answers, and its version."""
    return Asked("GET", "/health/live", values.Live)


def _write(method: str, path: str, kind: type[T], body: Any = None) -> Asked[T]:
    try:
        content = None if body is None else msgspec.json.encode(body)
    except TypeError as error:
        raise UsageError(
            f"what is sent has no JSON form: {error}", where=f"{method} {path}", mend=_JSON
        ) from None
    return _sent(method, path, kind, content)


def _sent(method: str, path: str, kind: type[T], body: bytes | None) -> Asked[T]:
    """A request that changes something, with the key by which the server knows it again."""
    headers = {"Idempotency-Key": uuid4().hex}
    if body is not None:
        headers["Content-Type"] = "application/json"
    return Asked(method, path, kind, {}, body, headers)


def _path(*parts: str) -> str:
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)


def _query(**given: Any) -> dict[str, Any]:
    """What was given."""
    return {
        name: _spelled(value) for name, value in given.items() if value not in (None, "", (), [])
    }


def _spelled(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_spelled(each) for each in value]
    return str(value).lower() if isinstance(value, bool) else str(value)
