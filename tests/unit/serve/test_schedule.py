"""Jobs: when they are due, what is known of their runs, and that they run once at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from limner.app import Jobs, Limner, Run
from limner.app.jobs import Job
from limner.config import parse
from limner.errors import NotFound, UsageError
from limner.events.batch import SECOND
from limner.profile.refresh import Refresh
from limner.serve.schedule import Schedule
from limner.stores import Store
from limner.stores.memory import MemoryStore
from limner.stores.sqlite import SqliteStore

MINUTE = 60 * SECOND
NOON = 1_700_000_000 * SECOND // MINUTE * MINUTE


class Clock:
    """A clock that stands still until it is set forward."""

    now = NOON

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def jobs(store: Store, clock: Clock, *found: Job) -> Jobs:
    return Jobs(found, store, clock, "UTC")


def job(name: str = "tidy", refresh: str = "every 5m", **more: object) -> Job:
    return Job(name, Refresh.parse(refresh), lambda: "done so", **more)  # type: ignore[arg-type]


def test_a_new_job_is_due_at_its_first_time_or_at_once(clock: Clock) -> None:
    found = jobs(MemoryStore(), clock, job("a"), job("b", at_once=True), job("c", "cron 0 3 * * *"))
    assert {run.next_run for run in found.runs()} == {None}
    found.begin()
    a, b, c = found.runs()
    assert c.next_run is not None
    assert (a.next_run, b.next_run) == (NOON + 5 * MINUTE, NOON)
    assert NOON < c.next_run < NOON + 24 * 60 * MINUTE
    assert {a.outcome, b.outcome, c.outcome} == {"never"}


def test_a_run_is_remembered_and_the_next_is_set(clock: Clock) -> None:
    store = MemoryStore()
    jobs(store, clock, job()).begin()
    clock.now += 5 * MINUTE
    done = jobs(store, clock, job()).run("tidy")
    assert done == replace(done, outcome="done", said="done so", started=clock.now)
    assert done.next_run == clock.now + 5 * MINUTE
    assert jobs(store, clock, job()).of("tidy") == done


def test_times_that_were_missed_are_made_up_by_one_run(clock: Clock) -> None:
    store = MemoryStore()
    jobs(store, clock, job()).begin()
    clock.now += 1000 * MINUTE  # nothing ran meanwhile
    later = jobs(store, clock, job())
    later.begin()
    assert later.of("tidy").next_run == NOON + 5 * MINUTE  # overdue: to be run now
    assert later.run("tidy").next_run == clock.now + 5 * MINUTE


def test_a_run_by_hand_leaves_the_next_time_as_it_is(clock: Clock) -> None:
    found = jobs(MemoryStore(), clock, job())
    found.begin()
    clock.now += MINUTE
    assert found.run("tidy").next_run == NOON + 5 * MINUTE


def test_a_run_that_takes_longer_than_its_interval_is_due_after_it(clock: Clock) -> None:
    def slow() -> str:
        clock.now += 12 * MINUTE
        return ""

    found = jobs(MemoryStore(), clock, Job("slow", Refresh.parse("every 5m"), slow))
    assert found.run("slow").next_run == NOON + 17 * MINUTE


def test_another_policy_sets_another_time(clock: Clock) -> None:
    store = MemoryStore()
    jobs(store, clock, job()).run("tidy")
    changed = jobs(store, clock, job(refresh="every 1h")).of("tidy")
    assert (changed.refresh, changed.next_run) == ("every 1h", None)
    jobs(store, clock, job(refresh="every 1h")).begin()
    assert jobs(store, clock, job(refresh="every 1h")).of("tidy").next_run == NOON + 60 * MINUTE
    assert changed.outcome == "done"


def test_a_job_that_fails_is_known_and_done_again_at_its_next_time(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    outcomes: Iterator[Exception | None] = iter([OSError("the disk is full"), None])

    def run() -> str:
        error = next(outcomes)
        if error is not None:
            raise error
        return "well"

    found = jobs(MemoryStore(), clock, Job("frail", Refresh.parse("every 5m"), run))
    failed = found.run("frail")
    assert (failed.outcome, failed.error) == ("failed", "the disk is full")
    assert failed.next_run == NOON + 5 * MINUTE
    assert "job frail failed" in caplog.text
    assert found.run("frail").said == "well"
    assert found.of("frail").error == ""


def test_a_reader_sees_that_the_one_who_ran_a_job_is_gone(clock: Clock, tmp_path: Path) -> None:
    seen = []

    def run() -> str:
        with closing(SqliteStore(tmp_path / "shop.db", write=False)) as reader:
            seen.append(jobs(reader, clock, job()).of("tidy").outcome)
        raise SystemExit  # as when it is killed: nobody says how it ended

    with closing(SqliteStore(tmp_path / "shop.db")) as store, pytest.raises(SystemExit):
        jobs(store, clock, Job("tidy", Refresh.parse("every 5m"), run)).run("tidy")
    assert seen == ["running"]
    with closing(SqliteStore(tmp_path / "shop.db", write=False)) as reader:
        assert jobs(reader, clock, job()).of("tidy").outcome == "interrupted"
    with (  # an import, say, writes: it runs no such job
        closing(SqliteStore(tmp_path / "shop.db")),
        closing(SqliteStore(tmp_path / "shop.db", write=False)) as reader,
    ):
        assert jobs(reader, clock, job()).of("tidy").outcome == "interrupted"


def test_a_run_that_the_process_did_not_survive_was_interrupted(clock: Clock) -> None:
    store = MemoryStore()
    begun, ended = threading.Event(), threading.Event()

    def run() -> str:
        begun.set()
        ended.wait(10)
        return ""

    found = jobs(store, clock, Job("tidy", Refresh.parse("every 5m"), run))
    thread = threading.Thread(target=found.run, args=("tidy",))
    thread.start()
    assert begun.wait(10)
    assert found.of("tidy").outcome == "running"
    with pytest.raises(UsageError, match="is running already"):
        found.run("tidy")
    after = jobs(store, clock, job())  # as the next process finds it
    after.begin()
    assert after.of("tidy").outcome == "interrupted"
    assert after.of("tidy").next_run == NOON + 5 * MINUTE
    ended.set()
    thread.join()


def test_an_unknown_job_is_an_error_that_names_the_known(clock: Clock) -> None:
    with pytest.raises(NotFound, match="jobs: tidy"):
        jobs(MemoryStore(), clock, job()).run("tidi")


def until(found: Jobs, name: str, outcome: str = "done") -> Run:
    deadline = time.monotonic() + 20
    while (run := found.of(name)).outcome != outcome and time.monotonic() < deadline:
        time.sleep(0.01)
    return run


def test_the_scheduler_runs_what_is_due_and_what_is_overdue() -> None:
    def wall() -> int:
        return time.time_ns() // 1_000

    store, ran = MemoryStore(), []
    often = Job("often", Refresh.parse("every 1s"), lambda: ran.append(0) or "")  # type: ignore[func-returns-value]
    rare = Job("rare", Refresh.parse("every 1h"), lambda: "made up for")
    Jobs([often, rare], store, lambda: wall() - 9 * 60 * MINUTE, "UTC").begin()
    found = Jobs([often, rare], store, wall, "UTC")
    schedule = Schedule(found)
    schedule.start()
    try:
        assert until(found, "rare").said == "made up for"
        deadline = time.monotonic() + 20
        while len(ran) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(ran) >= 2
        assert (found.of("rare").next_run or 0) > wall()
    finally:
        schedule.stop()


def test_percentiles_and_timed_facets_follow_by_their_jobs() -> None:
    facet = {"name": "spend", "kind": "sum", "section": "value", "refresh": "every 1h"}
    with Limner.open(config=parse({"store": "memory:", "facet": [facet]})) as app:
        found = app.jobs()
        names = ["content", "facet.spend", "population", "retention", "snapshot"]
        assert [run.name for run in found.runs()] == names
        app.record(
            [
                {"user_id": f"u{n}", "item_id": "tea", "event_type": "purchase", "value": n + 1.0}
                for n in range(20)
            ]
        )
        assert found.run("population").said == "20 users"
        assert found.run("population").said == "nothing new"
        assert found.run("facet.spend").said == "20 users"
        assert found.run("facet.spend").said == "0 users"
        spend = app.portrait("u19").value["spend"]
        assert spend.percentile is not None and spend.percentile > 0.8
        assert spend.refreshed_at is not None
        assert app.status()["schedule"] == found.runs()
