"""The scheduler of a server: runs each job at its times, in threads beside answering."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from limner.app import Jobs
from limner.errors import UsageError
from limner.events.batch import SECOND

THREADS = 4


class _Due(BaseTrigger):  # type: ignore[misc]
    """When a job is due: first what the store remembers, then by its policy."""

    def __init__(self, jobs: Jobs, name: str) -> None:
        self._jobs = jobs
        self._name = name

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        """The time after `previous`, never one that has passed but for the first."""
        due = self._jobs.of(self._name).next_run if previous is None else None
        if due is None:
            due = self._jobs.next_after(self._name, int(now.timestamp() * SECOND))
        return datetime.fromtimestamp(due / SECOND, UTC)


class Schedule:
    """Runs jobs from `start` to `stop`. What was missed meanwhile is made up by one run."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(THREADS)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )

    def start(self) -> None:
        """Begin; the caller holds the store's write lock."""
        logging.getLogger("apscheduler").setLevel(logging.ERROR)  # it warns of each late start
        self._jobs.begin()
        for run in self._jobs.runs():
            due = _Due(self._jobs, run.name)
            self._scheduler.add_job(self._run, due, [run.name], id=run.name)
        self._scheduler.start()

    def stop(self) -> None:
        """Begin nothing more, and wait for what runs."""
        self._scheduler.shutdown(wait=True)

    def _run(self, name: str) -> None:
        try:
            self._jobs.run(name)
        except UsageError:  # somebody runs it by hand just now
            logging.getLogger(__name__).info("job %s runs already", name)
