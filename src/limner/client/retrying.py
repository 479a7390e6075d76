"""When a request is sent again, and after how long."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from limner.errors import LimnerError

AGAIN = frozenset({429, 502, 503, 504})
"""Statuses of servers that may answer later."""


class Unreachable(LimnerError):
    """No server answers."""


class Busy(LimnerError):
    """The server takes nothing in at present, or its proxy does not reach it."""


@dataclass(frozen=True, slots=True)
class Retries:
    """A request is tried up to `times`; tries wait longer and longer, at most `most` seconds.

    Before try k + 1 it waits a time drawn evenly from 0 to min(most, first·2^(k−1)), "full
    jitter" (M. Brooker, Exponential Backoff And Jitter, 2015), so that clients that failed
    together do not come again together; at least what the server asks for in `Retry-After`, but
    where that is more than `longest` seconds the error is raised instead.
    """

    times: int = 6
    first: float = 0.2
    most: float = 10.0
    longest: float = 60.0

    def wait(self, tried: int, asked: float = 0.0) -> float | None:
        """Seconds until the next try after `tried` tries; None if there is none."""
        if tried >= self.times or asked > self.longest:
            return None
        return asked + random.uniform(0.0, min(self.most, self.first * 2.0 ** (tried - 1)))


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that a server asks to wait, in either form of the header; 0 if it says nothing.

    >>> retry_after({"retry-after": "2"}), retry_after({"retry-after": "soon"})
    (2.0, 0.0)
    """
    said = headers.get("retry-after", "").strip()
    if said.isdecimal():
        return float(said)
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0
