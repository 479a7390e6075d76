"""Turns: who is next, and that nobody is forgotten."""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager
from itertools import pairwise

import pytest

from limner.profile import turns
from limner.profile.turns import Turns, Watched


def in_line(lock: Turns, names: list[str], *, pause: float = 0.0) -> list[str]:
    """Who came in which order, having asked in the order of `names` while the lock was held."""
    came: list[str] = []

    def ask(name: str) -> None:
        turn: AbstractContextManager[None] = lock.quick() if name.startswith("quick") else lock
        with turn:
            came.append(name)

    threads = [threading.Thread(target=ask, args=(name,)) for name in names]
    with lock:
        for thread in threads:
            thread.start()
            until = time.monotonic() + 10
            while len(lock._quick) + len(lock._long) <= threads.index(thread):
                assert time.monotonic() < until
                time.sleep(0.001)
        time.sleep(pause)
    for thread in threads:
        thread.join(10)
    return came


def test_the_quick_go_first_each_in_the_order_of_asking() -> None:
    came = in_line(Turns(), ["long 1", "quick 1", "long 2", "quick 2", "quick 3"])
    assert came == ["quick 1", "quick 2", "quick 3", "long 1", "long 2"]


def test_who_has_waited_long_enough_is_next() -> None:
    came = in_line(Turns(), ["long 1", "quick 1", "quick 2"], pause=turns.PATIENCE)
    assert came == ["long 1", "quick 1", "quick 2"]


def test_who_holds_it_may_take_it_again_and_lets_go_once() -> None:
    lock = Turns()
    with lock, lock, lock.quick():
        held = lock.mine
    assert (held, lock.mine) == (True, False)
    assert in_line(lock, ["long 1"]) == ["long 1"]


def test_one_at_a_time_whoever_asks() -> None:
    lock, inside, spans = Turns(), threading.Lock(), []

    def work(number: int) -> None:
        for _ in range(50):
            with lock.quick() if number % 2 else lock:
                assert inside.acquire(blocking=False)
                begun = time.perf_counter_ns()
                time.sleep(0)
                spans.append((begun, time.perf_counter_ns()))
                inside.release()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(spans) == 300
    assert all(before[1] <= after[0] for before, after in pairwise(sorted(spans)))


def test_what_a_turn_leaves_is_done_first_in_the_next() -> None:
    lock, done = Turns(), []
    lock.arriving = lambda: done.append(lock.mine)
    with lock.leaving():
        assert done == []
        with lock:  # the same turn goes on
            assert done == []
    with lock:
        assert done == [True]
    with lock.quick(), lock:
        assert done == [True, True]


def test_a_turn_that_cannot_begin_is_given_back() -> None:
    lock = Turns()

    def fail() -> None:
        raise ValueError("no")

    lock.arriving = fail
    with pytest.raises(ValueError, match="no"), lock:
        raise AssertionError("unreachable")
    lock.arriving = None
    with lock:
        assert lock.mine
    assert not lock.mine


def test_a_watched_lock_says_that_somebody_waited_and_lets_them_in() -> None:
    lock, came = Watched(), threading.Event()

    def ask() -> None:
        with lock:
            came.set()

    with lock:
        thread = threading.Thread(target=ask)
        thread.start()
        until = time.monotonic() + 10
        while not lock.waited(60):
            assert time.monotonic() < until
            time.sleep(0.001)
    lock.let_in()
    assert came.wait(10)
    thread.join(10)
    assert lock.waited(60) and not lock.waited(0)
