"""JSON as it arrives, judged item by item: what is wrong with one does not spoil its neighbours."""

from __future__ import annotations

import json
from typing import Any

import msgspec

_BOM = b"\xef\xbb\xbf"
_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_DIGITS = 4_300
"""Digits of the longest whole number that is read, as in Python."""

_encode = msgspec.json.Encoder().encode


class Unreadable:
    """Stands in the place of a value that cannot be kept; `reason` says why and how to mend it."""

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason


def decoded(body: bytes) -> tuple[Any, bool]:
    """A JSON document in UTF-8, and whether `flaw` has to look for what is wrong inside it.

    What RFC 8259 and I-JSON do not allow within a document that can be taken apart nevertheless
    (NaN, numbers beyond a double, bytes that are no UTF-8, half a surrogate pair, a name that
    comes twice) is left to `flaw`. Raises ValueError for what is no JSON at all.

    >>> decoded(b'{"a": 1}')
    ({'a': 1}, False)
    >>> [good, bad], loose = decoded(b'[{"a": 1}, {"a": NaN}]')
    >>> loose, flaw(good), flaw(bad)
    (True, None, 'NaN is no number of JSON; to mend it: leave it out or send null')
    """
    body = body.removeprefix(_BOM)
    try:
        document = msgspec.json.decode(body)
    except _ERRORS as error:
        encoding = json.detect_encoding(body)
        if not encoding.startswith("utf-8"):
            raise ValueError(f"it looks like {encoding.upper()}; JSON is UTF-8") from None
        try:
            return _loosely(body), True
        except (ValueError, RecursionError):  # what the strict reader says of it is said better
            raise ValueError(str(error)) from None
    # A name that comes twice is one colon more than the document has when it is written again.
    if body.count(b":") > _encode(document).count(b":"):
        return _loosely(body), True
    return document, False


def flaw(value: Any) -> str | None:
    """What is wrong with something of a document, and how to mend it; None if nothing is."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Unreadable):
            return one.reason
        if isinstance(one, dict):
            waiting += one.keys()
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
        elif isinstance(one, str) and not _is_text(one):
            return (
                "a text has bytes that are no UTF-8, or half a character (a lone surrogate); "
                "to mend it: send UTF-8"
            )
    return None


def _loosely(body: bytes) -> Any:
    return json.loads(
        body.decode("utf-8", "surrogateescape"),
        strict=False,
        parse_constant=_constant,
        parse_float=_float,
        parse_int=_int,
        object_pairs_hook=_object,
    )


def _constant(name: str) -> Unreadable:
    return Unreadable(f"{name} is no number of JSON; to mend it: leave it out or send null")


def _float(text: str) -> float | Unreadable:
    number = float(text)
    return number if abs(number) < float("inf") else _too_large(text)


def _int(text: str) -> int | Unreadable:
    return int(text) if len(text) <= _DIGITS else _too_large(text)


def _too_large(text: str) -> Unreadable:
    shown = text if len(text) <= 20 else f"{text[:20]}…"
    return Unreadable(f"the number {shown} is too large; to mend it: send it as text")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                said = f"the name {name[:40]!r} comes twice"
                out[name] = Unreadable(f"{said}; to mend it: send each name once")
            seen.add(name)
    return out


def _is_text(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
