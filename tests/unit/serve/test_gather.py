"""Requests that wait are answered together: in order, each its own answer, none for ever."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from limner.serve.gather import Full, Gather


@contextmanager
def gathering(
    *, most: int = 4, lot: int = 100, room: int = 1_000
) -> Iterator[tuple[Gather[int, int], list[list[int]], threading.Event]]:
    """Numbers are answered with their squares once the event is set; odd ones over 100 fail."""
    lots: list[list[int]] = []
    may_go = threading.Event()

    def work(questions: list[int]) -> Sequence[int | Exception]:
        may_go.wait(10)
        lots.append(questions)
        if -1 in questions:
            raise RuntimeError("all of it")
        return [ValueError(n) if n > 100 and n % 2 else n * n for n in questions]

    gather = Gather("test", work, most=most, lot=lot, room=room)
    yield gather, lots, may_go
    may_go.set()
    gather.close()


async def asked(
    gather: Gather[int, int], *questions: int, size: int = 1, then: threading.Event | None = None
) -> list[int | BaseException]:
    tasks = [asyncio.ensure_future(gather(n, size)) for n in questions]
    await asyncio.sleep(0.02)
    if then is not None:
        then.set()
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_each_has_its_own_answer_and_order_is_kept() -> None:
    with gathering() as (gather, lots, may_go):
        answers = asyncio.run(asked(gather, *range(20), then=may_go))
        assert answers == [n * n for n in range(20)]
        assert [n for lot in lots for n in lot] == list(range(20))
        assert max(map(len, lots)) == 4  # as many as `most`


def test_a_lot_is_no_larger_than_its_sizes_allow() -> None:
    with gathering(lot=10) as (gather, lots, may_go):
        asyncio.run(asked(gather, *range(8), size=5, then=may_go))
        assert max(map(len, lots)) == 2
        may_go.set()
        assert asyncio.run(asked(gather, 3, size=500)) == [9]  # alone it may be larger


def test_one_that_fails_fails_alone() -> None:
    with gathering() as (gather, _, may_go):
        first, wrong, last = asyncio.run(asked(gather, 2, 101, 4, then=may_go))
        assert (first, last) == (4, 16) and isinstance(wrong, ValueError)
        failed = asyncio.run(asked(gather, -1))
        assert isinstance(failed[0], RuntimeError)
        assert asyncio.run(asked(gather, 5)) == [25]  # and the thread goes on


def test_beyond_the_room_the_answer_is_no_at_once() -> None:
    with gathering(room=30) as (gather, _, may_go):
        started = time.monotonic()

        async def crowd() -> list[int | BaseException]:
            taken = [asyncio.ensure_future(gather(n, 10)) for n in range(8)]
            await asyncio.sleep(0.02)
            refused = [task for task in taken if task.done()]
            assert refused and all(isinstance(task.exception(), Full) for task in refused)
            assert time.monotonic() - started < 5
            may_go.set()
            return await asyncio.gather(*taken, return_exceptions=True)

        answers = asyncio.run(crowd())
        kept = [n for n, answer in enumerate(answers) if not isinstance(answer, Full)]
        assert 3 <= len(kept) <= 5  # three wait, and a lot may have been begun
        assert [answers[n] for n in kept] == [n * n for n in kept]
        assert asyncio.run(asked(gather, 7, size=10)) == [49]  # there is room again
        assert asyncio.run(asked(gather, 8, size=99)) == [64]  # one alone always may


def test_who_goes_away_holds_nobody_up() -> None:
    with gathering() as (gather, _, may_go):

        async def leaving() -> int:
            gone = asyncio.ensure_future(gather(2))
            kept = asyncio.ensure_future(gather(3))
            await asyncio.sleep(0.02)
            gone.cancel()
            may_go.set()
            return await kept

        assert asyncio.run(leaving()) == 9


def test_a_loop_that_ended_does_not_end_the_thread() -> None:
    with gathering() as (gather, lots, may_go):

        async def leave() -> None:
            left.append(asyncio.ensure_future(gather(2)))
            await asyncio.sleep(0.02)

        left: list[asyncio.Future[int]] = []
        asyncio.run(leave())
        may_go.set()
        assert asyncio.run(asked(gather, 3)) == [9]
        assert [2] in lots or [2, 3] in lots  # what was taken in was done all the same


def test_closing_answers_what_waits_and_takes_no_more() -> None:
    with gathering() as (gather, _, may_go):

        async def close() -> list[int | BaseException]:
            waiting = [asyncio.ensure_future(gather(n)) for n in range(9)]
            await asyncio.sleep(0.02)
            may_go.set()
            await asyncio.to_thread(gather.close)
            with pytest.raises(Full):
                await gather(10)
            return await asyncio.gather(*waiting, return_exceptions=True)

        assert asyncio.run(close()) == [n * n for n in range(9)]
