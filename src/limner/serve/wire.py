"""Values as they go over the wire: JSON of dataclasses, and times as people write them."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from limner.errors import UsageError
from limner.events.timestamps import to_micros


def encode(value: Any) -> bytes:
    """A value as one JSON document: dataclasses are objects, what is no number is null.

    >>> encode({"n": np.int64(3), "share": float("nan")})
    b'{"n":3,"share":null}'
    """
    return msgspec.json.encode(value, enc_hook=_plain)


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def moment(text: str, tz: str = "UTC") -> int:
    """A moment in µs: ISO 8601 (in `tz` if it names no zone), or a number of s, ms or µs.

    Raises UsageError for what is no time.

    >>> moment("2017-12-01") == moment("1512086400")
    True
    """
    times = to_micros(pa.array([text]), tz=tz)
    if times.missing[0] or times.unreadable[0]:
        raise UsageError(
            f"{text!r} is no time",
            mend="write 2017-12-01, 2017-12-01T08:30:00+01:00 (in a URL a + is %2B), or a number "
            "of seconds since 1970",
        )
    return int(times.micros[0])
