"""Whose turn it is to write: who is quick goes first, and nobody waits for ever.

Python's own locks are not fair: a thread that releases one and asks for it again has it before
those that wait. Here a lock is handed over, to the longest waiting of the quick, then to the
longest waiting of the others; one of these that has waited for `PATIENCE` is next in any case.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 0.1
"""Seconds that a long one lets quick ones go before it."""


class _Waiting:
    """One thread in a queue."""

    __slots__ = ("called", "owner", "since")

    def __init__(self, owner: int) -> None:
        self.owner = owner
        self.since = time.monotonic()
        self.called = threading.Lock()
        self.called.acquire()


class Turns:
    """A reentrant lock that is handed over in order.

    >>> turns = Turns()
    >>> with turns, turns.quick():
    ...     turns.mine
    True
    """

    __slots__ = ("_depth", "_inside", "_long", "_owner", "_quick")

    def __init__(self) -> None:
        self._inside = threading.Lock()
        self._owner: int | None = None
        self._depth = 0
        self._quick: deque[_Waiting] = deque()
        self._long: deque[_Waiting] = deque()

    @property
    def mine(self) -> bool:
        """Whether it is this thread's turn."""
        return self._owner == threading.get_ident()

    def __enter__(self) -> None:
        self._enter(self._long)

    def __exit__(self, *error: object) -> None:
        self._leave()

    @contextmanager
    def quick(self) -> Iterator[None]:
        """A turn of a few milliseconds at the most, before those that take longer."""
        self._enter(self._quick)
        try:
            yield
        finally:
            self._leave()

    def _enter(self, queue: deque[_Waiting]) -> None:
        me = threading.get_ident()
        if self._owner == me:
            self._depth += 1
            return
        with self._inside:
            if self._owner is None:
                self._owner, self._depth = me, 1
                return
            waiting = _Waiting(me)
            queue.append(waiting)
        try:
            waiting.called.acquire()
        except BaseException:  # interrupted: leave the queue, or pass on what was just handed over
            with self._inside:
                handed = waiting not in queue
                if not handed:
                    queue.remove(waiting)
            if handed:
                self._leave()
            raise

    def _leave(self) -> None:
        if self._depth > 1:
            self._depth -= 1
            return
        with self._inside:
            following = self._following()
            self._owner, self._depth = (None, 0) if following is None else (following.owner, 1)
        if following is not None:
            following.called.release()

    def _following(self) -> _Waiting | None:
        patient = self._long and time.monotonic() - self._long[0].since < PATIENCE
        if self._quick and (patient or not self._long):
            return self._quick.popleft()
        return self._long.popleft() if self._long else None
