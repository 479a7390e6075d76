"""How often each key may ask: a token bucket a key.

https://en.wikipedia.org/wiki/Token_bucket
"""

from __future__ import annotations

from math import ceil

BURST_SECONDS = 10.0
"""So much of what was not used may be used at once."""


class Buckets:
    """Lets `rate` requests a second through for each name; any number if it is 0."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._size = max(rate * BURST_SECONDS, 1.0)
        self._left: dict[str, tuple[float, float]] = {}

    def wait(self, name: str, now: float) -> int:
        """Take a token at `now` (seconds); 0, or the whole seconds until there is one."""
        if not self._rate:
            return 0
        left, since = self._left.get(name, (self._size, now))
        left = min(left + max(now - since, 0.0) * self._rate, self._size)
        if left < 1.0:
            self._left[name] = (left, now)
            return ceil((1.0 - left) / self._rate)
        self._left[name] = (left - 1.0, now)
        return 0
