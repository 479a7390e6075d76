"""Whose turn it is to write: who is quick goes first, and nobody waits for ever.

Python's own locks are not fair: a thread that releases one and asks for it again has it before
those that wait. Here a lock is handed over, to the longest waiting of the quick, then to the
longest waiting of the others; one of these that has waited for `PATIENCE` is next in any case.
For what readers share with the writer, an ordinary lock will do that says whether anybody waits.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE = 0.1
"""Seconds that a long one lets quick ones go before it."""


class Watched:
    """A reentrant lock that remembers when somebody last had to wait for it.

    >>> lock = Watched()
    >>> with lock, lock:
    ...     lock.waited(1.0)
    False
    """

    __slots__ = ("_last", "_lock", "_waiting")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._last = -float("inf")
        self._waiting: set[int] = set()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self._last = time.monotonic()
            me = threading.get_ident()
            self._waiting.add(me)
            try:
                self._lock.acquire()
            finally:
                self._waiting.discard(me)

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def waited(self, seconds: float) -> bool:
        """Whether somebody had to wait within the last so many seconds."""
        return time.monotonic() - self._last < seconds

    def let_in(self) -> None:
        """Give those who wait a moment to take it, for whoever has just released it."""
        if self._waiting:
            time.sleep(0.0005)


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

    __slots__ = ("_depth", "_inside", "_long", "_owner", "_quick", "arriving")

    def __init__(self) -> None:
        self.arriving: Callable[[], None] | None = None
        """What is done first in every turn but those of `leaving`."""
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
        self._arrive()

    def __exit__(self, *error: object) -> None:
        self._leave()

    @contextmanager
    def quick(self) -> Iterator[None]:
        """A turn of a few milliseconds at the most, before those that take longer."""
        self._enter(self._quick)
        self._arrive()
        try:
            yield
        finally:
            self._leave()

    @contextmanager
    def leaving(self) -> Iterator[None]:
        """A long turn of whoever may leave something to be done by the next."""
        self._enter(self._long)
        try:
            yield
        finally:
            self._leave()

    def _arrive(self) -> None:
        if self._depth == 1 and self.arriving is not None:
            try:
                self.arriving()
            except BaseException:
                self._leave()
                raise

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
