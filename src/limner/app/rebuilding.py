"""Portraits anew from the log: to see that they are what it says, or since facets changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from limner import config as configuration
from limner.config import Config
from limner.errors import LimnerError, UsageError
from limner.events.log import Position
from limner.model.protocol import Progress
from limner.profile import facets
from limner.profile.compare import compare, differences
from limner.profile.facet import FacetConfig
from limner.profile.state import ProfileState
from limner.profile.writer import Writer

if TYPE_CHECKING:
    from limner.app.limner import Limner

FACETS = "facets"
"""What the store remembers of the facets that its portraits are made of."""
BACKFILL = "backfill"
"""What the store remembers of a backfill under way, for other processes to show."""
TELL_SECONDS = 2.0

NEAR = 10_000
"""Rows of the log that may be folded while the live writer waits."""
SHOWN = 100
"""Differences that a replay shows at most."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay found: none of `differences` is expected."""

    start: Position
    stop: Position
    users: int
    seconds: float
    different: int
    differences: list[str] = field(default_factory=list)
    """The first hundred."""
    swapped: bool = False


class _StartAgain(Exception):
    """Rows were removed from the log: what was built so far may hold them."""


class Stopped(Exception):
    """The store is closed."""


def replay(
    app: Limner,
    *,
    start: Position,
    stop: Position | None,
    swap: bool,
    progress: Progress,
) -> Replayed:
    """`Limner.replay`."""
    began = time.perf_counter()
    head = app.state.position
    end = head if stop is None else stop
    if not 0 <= start <= end <= head:
        raise UsageError(
            f"positions {start} to {end} are not all in a log of {head}",
            mend="give positions that limner status and answers (as_of) name",
        )
    if start == 0 and end == head:
        users, found = _whole(app, swap, progress)
    else:
        users, found = _part(app, start, end, swap, progress)
    swapped = swap and bool(users)
    seconds = time.perf_counter() - began
    return Replayed(start, end, users, seconds, len(found), found[:SHOWN], swapped)


def _whole(app: Limner, swap: bool, progress: Progress) -> tuple[int, list[str]]:
    beside = built(app.writer, app.state.anew, lambda done, total: progress("replay", done, total))
    with app.writer.commit_lock:
        beside.catch_up(stop=app.state.position)
        with app.writer.lock:
            found = compare(app.state, beside.state)
        if swap:
            switch(app, beside)
    return len(beside.state), found


def _part(
    app: Limner, start: Position, stop: Position, swap: bool, progress: Progress
) -> tuple[int, list[str]]:
    touched: set[bytes] = set()
    with app.writer.commit_lock:
        for first, batch in app.store.log.read(start, stop):
            codes, values = batch.codes("user_id")
            used = np.unique(codes[codes >= 0]).tolist()
            touched.update(app.writer.amendments.user(values[code]) for code in used)
            progress("users", first + len(batch) - start, stop - start)
        users = sorted(touched)
        with app.writer.lock:
            found = differences(
                app.state, app.writer.folded_again(users, app.state.position), None, users
            )
        if swap:
            app.writer.refold(users)
            app.refresh_population()
            app.save_snapshot()
    return len(users), found


def built(
    writer: Writer, empty: Callable[[], ProfileState], progress: Callable[[int, int], None]
) -> Writer:
    """A writer caught up with the log beside the live one; begun anew if rows are removed."""
    while True:
        with writer.commit_lock:
            rewritten = writer.rewritten
            beside = writer.beside(empty())

        def step(done: int, total: int, since: int = rewritten) -> None:
            if writer.rewritten != since:
                raise _StartAgain
            progress(done, total)

        try:
            while beside.catch_up(step) > NEAR:
                pass  # as much has come meanwhile
        except _StartAgain:
            continue
        with writer.commit_lock:
            if writer.rewritten == rewritten:
                return beside


def switch(app: Limner, beside: Writer) -> None:
    """Put a state that was built beside in the place of the live one, and keep it."""
    app.writer.take_over(beside)
    app._renewed()


# -- facets that changed -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Definition:
    """What portraits are made of: facets, and the zone and lateness they are folded with."""

    facet: list[dict[str, Any]]
    timezone: str
    lateness: str

    @classmethod
    def of(cls, config: Config) -> Definition:
        """That of a configuration."""
        # without what is left to its default: that comes back as it was, a tuple as a tuple
        usual = {f.name: f.default for f in fields(FacetConfig)}
        made = [
            {name: value for name, value in asdict(facet).items() if value != usual[name]}
            for facet in config.facet
            if facet.kind != facets.LABEL  # nothing is folded for it
        ]
        return cls(msgspec.json.decode(msgspec.json.encode(made)), config.timezone, config.lateness)

    def changed(self, other: Definition) -> list[str]:
        """Names of the facets that are new, gone or defined otherwise."""
        ours, theirs = ({one["name"]: one for one in d.facet} for d in (self, other))
        if (self.timezone, self.lateness) != (other.timezone, other.lateness):
            return sorted({*ours, *theirs})
        return sorted(n for n in {*ours, *theirs} if ours.get(n) != theirs.get(n))

    def facets(self) -> Sequence[Any]:
        """The facets. Raises ConfigError if this version of Limner does not know them."""
        made = [configuration.build(FacetConfig, raw, "the store") for raw in self.facet]
        return facets.build(made)


def served(app: Limner) -> Definition | None:
    """What the portraits of the store's last snapshot are made of, if that is remembered."""
    text = app.store.get_meta(FACETS)
    return None if text is None else msgspec.json.decode(text, type=Definition)


def remember(app: Limner) -> None:
    """Keep what portraits are made of from now on."""
    text = msgspec.json.encode(Definition.of(app.config)).decode()
    if app.store.get_meta(FACETS) != text or app.store.get_meta(BACKFILL):
        with app.store.transaction():
            app.store.set_meta(FACETS, text)
            app.store.set_meta(BACKFILL, "")


def progress_of(app: Limner) -> dict[str, Any] | None:
    """How far a backfill is, in whatever process: its facets, rows `done` of `total`."""
    text = app.store.get_meta(BACKFILL)
    found: dict[str, Any] | None = msgspec.json.decode(text) if text else None
    return found


class Backfill:
    """Builds the portraits with changed facets beside those of the old ones, then switches."""

    def __init__(self, app: Limner, changed: list[str], empty: Callable[[], ProfileState]) -> None:
        self.changed = changed
        self.error: LimnerError | None = None
        self._app = app
        self._empty = empty
        self._stop = threading.Event()
        self._told = 0.0
        self._thread = threading.Thread(target=self._run, name="limner-backfill", daemon=True)

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._tell(0, self._app.state.position)
        self._thread.start()

    def wait(self, seconds: float | None = None) -> bool:
        """Whether it has come to its end, after at most so long."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Give up; the next opening begins again."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        app = self._app
        try:
            beside = built(app.writer, self._empty, self._step)
            with app.writer.commit_lock:
                if not self._stop.is_set():
                    switch(app, beside)
                    remember(app)
        except Stopped:
            pass
        except LimnerError as error:
            self.error = error

    def _step(self, done: int, total: int) -> None:
        if self._stop.is_set():
            raise Stopped
        if time.monotonic() - self._told > TELL_SECONDS:
            self._tell(done, total)

    def _tell(self, done: int, total: int) -> None:
        self._told = time.monotonic()
        progress = {"facets": self.changed, "done": done, "total": total}
        with self._app.store.transaction():
            self._app.store.set_meta(BACKFILL, msgspec.json.encode(progress).decode())
