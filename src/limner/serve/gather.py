"""Requests of one kind that wait are answered together, by one thread.

While one lot is worked on the next gathers, so a lot is one request under light load and many
under heavy load. One thread for each kind, since Python runs one at a time and many would only
hand the turn to each other. What waits is bounded: beyond that a request is refused at once
rather than answered late.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

_log = logging.getLogger(__name__)

Q = TypeVar("Q")
A = TypeVar("A")


class Full(Exception):
    """So much waits that no more is taken in at present."""


@dataclass(slots=True)
class _Asked(Generic[Q]):
    question: Q
    size: int
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Any]


class Gather(Generic[Q, A]):
    """`work` answers a lot of questions in their order, each with an answer or an exception.

    `most`: how many are worked on together, and `lot` the sum of their sizes; `room`: the sum of
    sizes that may wait. One question alone always may.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[list[Q]], Sequence[A | Exception]],
        *,
        most: int,
        lot: int,
        room: int,
    ) -> None:
        self._work, self._most, self._lot, self._room = work, most, lot, room
        self._waiting: deque[_Asked[Q]] = deque()
        self._held = 0
        self._there = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name=f"limner-{name}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    async def __call__(self, question: Q, size: int = 1) -> A:
        """The answer. Raises what it is if it is an exception, `Full` if too much waits."""
        loop = asyncio.get_running_loop()
        asked = _Asked(question, size, loop, loop.create_future())
        with self._there:
            if self._ended or (self._waiting and self._held + size > self._room):
                raise Full
            self._waiting.append(asked)
            self._held += size
            self._there.notify()
        answer: A = await asked.answer
        return answer

    def close(self) -> None:
        """Answer what waits, and take no more."""
        with self._there:
            self._ended = True
            self._there.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._there:
                while not self._waiting and not self._ended:
                    self._there.wait()
                if not self._waiting:
                    return
                lot = [self._waiting.popleft()]
                size = lot[0].size
                while self._waiting and len(lot) < self._most:
                    size += self._waiting[0].size
                    if size > self._lot:
                        break
                    lot.append(self._waiting.popleft())
                self._held -= sum(asked.size for asked in lot)
            try:
                answers: Sequence[A | Exception] = self._work([asked.question for asked in lot])
            except Exception as error:
                answers = [error] * len(lot)
            by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
            for asked, answer in zip(lot, answers, strict=True):
                by_loop.setdefault(asked.loop, []).append((asked.answer, answer))
            for loop, told in by_loop.items():
                try:
                    loop.call_soon_threadsafe(_tell, told)
                except RuntimeError:  # its loop is closed: nobody waits any more
                    _log.debug("an answer came after its loop had ended")


def _tell(told: list[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, answer in told:
        if future.done():  # who asked went away
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
