"""Jobs: what is done at times, what became of it the last time, and when it is due next.

What is known of a job lies in the store, so it survives a restart, and whoever can read the store
can see it. A job runs once at a time: in one process by a lock, between processes by the store's
write lock, since only its holder can begin one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

import msgspec

from limner.app import encoding, judged, vectors
from limner.errors import LimnerError, ModelError, NotFound, UsageError
from limner.profile.facets.vector import VECTOR
from limner.profile.refresh import Refresh
from limner.stores import Store

if TYPE_CHECKING:
    from limner.app.limner import Limner

_log = logging.getLogger(__name__)

Outcome = Literal["never", "running", "done", "failed", "interrupted"]


@dataclass(frozen=True, slots=True)
class Job:
    """Something to be done at times. `run` returns what it did in a few words.

    `at_once`: whether it is due as soon as it is first configured.
    """

    name: str
    refresh: Refresh
    run: Callable[[], str]
    at_once: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """A job's last run and its next time (None until a server has begun); times are µs.

    `outcome` is "interrupted" if the process ended before the run did; like one that failed it
    is done again at `next_run`.
    """

    name: str
    refresh: str
    next_run: int | None = None
    outcome: Outcome = "never"
    started: int | None = None
    seconds: float | None = None
    said: str = ""
    error: str = ""


class Jobs:
    """The jobs that are configured, over the store that remembers their runs."""

    def __init__(
        self, jobs: Sequence[Job], store: Store, clock: Callable[[], int], timezone: str
    ) -> None:
        self._jobs = {job.name: job for job in jobs}
        self._locks = {job.name: threading.Lock() for job in jobs}
        self._store = store
        self._clock = clock
        self._timezone = timezone

    def runs(self) -> list[Run]:
        """What is known of each job, in the order of their names."""
        return [self.of(name) for name in sorted(self._jobs)]

    def of(self, name: str) -> Run:
        """What is known of one job. Raises NotFound."""
        text = self._job(name).refresh.text
        kept = self._store.get_meta(_meta(name))
        known = msgspec.json.decode(kept, type=Run) if kept else Run(name, text)
        if known.outcome == "running" and not self._goes_on(name):
            known = replace(known, outcome="interrupted")
        return known if known.refresh == text else replace(known, refresh=text, next_run=None)

    def _goes_on(self, name: str) -> bool:
        """Whether the one that began the job still writes to the store."""
        runner = self._store.get_meta(_runner(name))
        return bool(runner) and runner == self._store.writer()

    def next_after(self, name: str, moment: int) -> int:
        """The job's first time (µs) after a moment."""
        due = self._job(name).refresh.next_after(moment, self._timezone)
        assert due is not None
        return due

    def begin(self) -> None:
        """Keep when each job is due, and that what still runs by the store was interrupted.

        To be called once by whoever holds the store's write lock, before anything runs.
        """
        now = self._clock()
        for known in self.runs():
            if known.outcome == "running":
                known = replace(known, outcome="interrupted")
            if known.next_run is None:
                soon = self._job(known.name).at_once and known.outcome == "never"
                known = replace(known, next_run=now if soon else self.next_after(known.name, now))
            self._keep(known)

    def run(self, name: str) -> Run:
        """Do a job now; what fails is logged, and is known as failed.

        A time that was missed, however often, is made up by this one run. Raises NotFound, or
        UsageError if the job is running already.
        """
        job = self._job(name)
        if not self._locks[name].acquire(blocking=False):
            raise UsageError(f"job {name!r} is running already", mend="wait until it is done")
        try:
            now = self._clock()
            due = self.of(name).next_run
            if due is None or due <= now:
                due = self.next_after(name, now)
            run = Run(name, job.refresh.text, due, "running", started=now)
            with self._store.transaction():
                self._store.set_meta(_runner(name), self._store.writer())
                self._keep(run)
            begun = time.perf_counter()
            try:
                run = replace(run, outcome="done", said=job.run())
            except Exception as error:
                bug = not isinstance(error, LimnerError)
                _log.error("job %s failed: %s", name, _said(error), exc_info=bug)
                run = replace(run, outcome="failed", error=_said(error))
            now = self._clock()
            if due <= now:
                run = replace(run, next_run=self.next_after(name, now))
            run = replace(run, seconds=time.perf_counter() - begun)
            self._keep(run)
            return run
        finally:
            self._locks[name].release()

    def _keep(self, run: Run) -> None:
        self._store.set_meta(_meta(run.name), msgspec.json.encode(run).decode())

    def _job(self, name: str) -> Job:
        if name not in self._jobs:
            raise NotFound(
                f"there is no job {name!r}", mend=f"jobs: {', '.join(sorted(self._jobs)) or 'none'}"
            )
        return self._jobs[name]


def jobs_of(
    app: Limner,
    train: Callable[[], str] | None = None,
    update: Callable[[], str] | None = None,
) -> Jobs:
    """The jobs that an app's configuration asks for; `train` and `update` instead of its own."""
    config = app.config
    found = [
        Job(f"facet.{facet.name}", policy, partial(_refresh, app, facet.name), at_once=True)
        for facet in config.facet
        if (policy := Refresh.parse(facet.refresh)).mode in ("every", "cron")
    ]
    for name, text, run in (
        ("population", config.refresh.population, partial(_population, app)),
        ("snapshot", config.refresh.snapshot, partial(_snapshot, app)),
        ("retention", config.refresh.retention, partial(_retention, app)),
        (
            "audiences",
            config.refresh.audiences if config.audiences else "",
            partial(_audiences, app),
        ),
        ("content", config.encoders.refresh, partial(_content, app)),
        ("proposing", config.llm.propose if config.llm.url else "", partial(_proposing, app)),
        ("training", config.train.refresh, train or partial(_training, app)),
        ("updating", config.train.update, update or partial(_updating, app)),
    ):
        timed = Refresh.timed(text)
        if timed is not None:
            found.append(Job(name, timed, run))
    vector = Refresh.parse(config.train.vector)
    if vector.mode in ("every", "cron"):
        found.append(Job(VECTOR, vector, partial(_refresh, app, VECTOR), at_once=True))
    return Jobs(found, app.store, app._clock, config.timezone)


def _refresh(app: Limner, name: str) -> str:
    if any(one.name == name for one in app.state.labels):
        judged.renew(app, name)
    elif name == VECTOR:
        vectors.renew(app)
    users = app.following.refresh(name)
    return f"{users:,} user{'' if users == 1 else 's'}"


def _population(app: Limner) -> str:
    if app.population.position == app.state.position:
        return "nothing new"
    app.refresh_population()
    return f"{app.population.users:,} users"


def _audiences(app: Limner) -> str:
    changes = app.following.review()
    return f"{changes:,} came or left" if changes else "nothing new"


def _snapshot(app: Limner) -> str:
    if app._snapshot_at == app.state.position:
        return "nothing new"
    app.save_snapshot(wait=False)
    return f"up to position {app._snapshot_at:,}"


def _retention(app: Limner) -> str:
    gone = app.expire()
    return f"{gone.rows:,} rows and {gone.items:,} items" if gone.rows or gone.items else "nothing"


def _content(app: Limner) -> str:
    if not encoding.anything_new(app):
        return "nothing new"
    found = app.encode_items()
    new = sum(kind.encoded for kind in found.kinds)
    return f"{new:,} new, {len(found.notes):,} notes"


def _proposing(app: Limner) -> str:
    found = app.propose_topics()
    if found.waiting:
        raise ModelError(found.note)
    return f"{found.kept:,} kept of {found.proposed:,}, from {found.texts:,} texts"


def _training(app: Limner) -> str:
    return f"model {app.train().version}"


def _updating(app: Limner) -> str:
    return app.update().said


def _meta(name: str) -> str:
    return f"job {name}"


def _runner(name: str) -> str:
    return f"job {name} is run by"


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
