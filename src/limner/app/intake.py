"""What comes in: events and items as they happen, and whole files."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from limner.events.log import Position
from limner.events.raw import STRIDE, Import, ImportLedger, RawBatch, Refused
from limner.model.protocol import Progress
from limner.privacy.admit import Admitted, Occurrences
from limner.profile.writer import Recorded
from limner.sources import beside, payloads, reading
from limner.sources import rows as given
from limner.sources.columns import Kind

if TYPE_CHECKING:
    from limner.app.limner import Limner


LOT = 4_096
"""Events of several requests that are one commit at the most."""

Body = tuple[bytes, str]
"""A request's body and its content type."""
Outcome = Recorded | Exception


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did, in the end."""

    entry: Import
    seconds: float
    """From the file to the durable log and folded portraits."""
    surveying: float
    """Seconds of sealing the log and surveying all users after it."""
    refused: tuple[Refused, ...]
    """The first hundred; all of them are in quarantine."""

    @property
    def found(self) -> Mapping[str, int]:
        """How often each cleaning rule spoke."""
        return self.entry.found

    @property
    def rate(self) -> float:
        """Rows a second, from file to durable log and folded portraits."""
        return self.entry.rows / self.seconds if self.seconds else 0.0


def record(app: Limner, events: Any, *, source: str, kind: Kind, import_id: int) -> Recorded:
    """`Limner.record`."""
    unreadable: list[Refused] = []
    batches: Iterable[RawBatch]
    if kind == "events" and reading.are_rows(events):
        batches, unreadable = payloads.numbered_events(
            given.numbered([events] if isinstance(events, Mapping) else events),
            where="record",
            now=app.now(),
            source=source,
            received=app.received(),
        )
    else:
        batches = reading.read(events, kind, source, unreadable.append, {}, {})
    occurrences = Occurrences()
    parts = []
    for raw in batches:
        parts.append(app.writer.record(raw, occurrences=occurrences, import_id=import_id))
        app.keep_start_quick()
    if unreadable:
        with app.store.transaction():
            app.store.quarantine.add(unreadable, now=app.received())
    return _sum(parts, unreadable, app.state.position)


def record_bodies(app: Limner, bodies: Sequence[Body], *, where: str) -> list[Outcome]:
    """The events of several requests in one commit: what became of each, in their order.

    A request that cannot be read, or whose rows fail, fails alone.
    """
    return _record_bodies(app, bodies, where, app.now(), app.received())


def _record_bodies(
    app: Limner, bodies: Sequence[Body], where: str, now: int, received: int
) -> list[Outcome]:
    batches, unreadable, failed = payloads.parse_together(
        bodies, where=where, now=now, received=received
    )
    unreadable = _known_by(app, unreadable, bodies)
    occurrences = Occurrences(STRIDE)
    parts: list[tuple[RawBatch, Recorded]] = []
    try:
        for raw in batches:
            held = _Held(app)
            recorded = app.writer.record(
                raw, occurrences=occurrences, hold=False, within=held, together=len(raw) <= LOT
            )
            parts.append((raw, recorded))
            app.keep_start_quick()
        if unreadable:
            with app.writer.commit_lock, app.store.transaction():
                app.store.quarantine.add(_own_lines(unreadable), now=app.received())
    except Exception as error:
        if len(bodies) == 1:
            return [error]
        # what is in the log already changes nothing when it comes again (law 2)
        return [
            _record_bodies(app, [body], where, now, received + place)[0]
            for place, body in enumerate(bodies)
        ]
    return [
        failed.get(place) or part for place, part in enumerate(_by_body(parts, unreadable, bodies))
    ]


def _known_by(app: Limner, unreadable: Sequence[Refused], bodies: Sequence[Body]) -> list[Refused]:
    """Rows with a digest of their bodies, so that the same line of another body is another row."""
    digests = {
        place: app.keys.digests([bodies[place][0]], person=b"refused body", size=8).hex()
        for place in {row.line // STRIDE for row in unreadable}
    }
    return [replace(row, row={"body": digests[row.line // STRIDE]}) for row in unreadable]


@dataclass(slots=True)
class _Held:
    """Puts what is refused into quarantine, in the commit that it is refused in."""

    app: Limner
    done: int = 0

    def __call__(self, recorded: Recorded) -> None:
        refused = recorded.refused[self.done :]
        self.done = len(recorded.refused)
        if refused:
            self.app.store.quarantine.add(_own_lines(refused), now=self.app.received())


def _own_lines(refused: Iterable[Refused]) -> list[Refused]:
    """Rows under their numbers in their own bodies."""
    return [replace(row, line=row.line % STRIDE) for row in refused]


def _by_body(
    parts: Sequence[tuple[RawBatch, Recorded]], unreadable: Sequence[Refused], bodies: Sized
) -> list[Recorded]:
    """What became of each body's rows."""
    n, stride = len(bodies), STRIDE
    rows, again = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    as_of = np.zeros(n, dtype=np.int64)
    refused: list[list[Refused]] = [[] for _ in range(n)]
    for row in unreadable:
        refused[row.line // stride].append(row)
    for raw, recorded in parts:
        of = raw.table["line"].to_numpy() // stride
        rows += np.bincount(of, minlength=n)
        as_of[of] = np.maximum(as_of[of], recorded.as_of)
        if recorded.again:
            again += np.bincount(np.array(recorded.again) // stride, minlength=n)
        for row in recorded.refused:
            refused[row.line // stride].append(row)
            rows[row.line // stride] -= 1
    return [
        Recorded(int(rows[k] - again[k]), int(again[k]), tuple(_own_lines(refused[k])),
                 int(as_of[k]))
        for k in range(n)
    ]  # fmt: skip


def import_file(
    app: Limner,
    path: str | Path | Any,
    *,
    kind: Kind,
    columns: Mapping[str, str],
    constants: Mapping[str, str],
    source: str,
    where: str | None,
    progress: Progress,
) -> Imported:
    """`Limner.import_file`."""
    name = where or (str(path) if isinstance(path, str | Path) else "table")
    started = time.perf_counter()
    unreadable: deque[Refused] = deque()
    rows: Iterator[RawBatch | Admitted]
    if beside.worth_it(path):
        rows = beside.admitted(
            path, kind=kind, source=source, columns=columns, constants=constants, where=name,
            keys=app.keys, policy=app.writer.policy, refuse=unreadable.append,
        )  # fmt: skip
    else:
        rows = reading.read(path, kind, source, unreadable.append, columns, constants, name)
    batches: Iterator[RawBatch | Admitted] = reading.ahead(rows)
    first = next(batches, None)  # a file that cannot be read leaves no entry
    entry = app.store.imports.start(name, app._clock())
    shown: list[Refused] = []
    occurrences = Occurrences()
    total = reading.row_count(path)
    try:
        for batch in chain([first], batches) if first is not None else ():
            bad = [unreadable.popleft() for _ in range(len(unreadable))]
            recorded = app.writer.record(
                batch,
                occurrences=occurrences,
                import_id=entry.import_id,
                refused=bad,
                settle=False,
                within=partial(_save_added, app.store.imports, entry),
            )
            entry = _added(entry, recorded)
            shown.extend(recorded.refused[: 100 - len(shown)])
            progress(kind, entry.rows, total)
            app.keep_start_quick()
    finally:  # whatever ended it: what is durable is visible
        app.writer.take_in()
    progress("late rows", entry.rows, total)
    app.writer.settle()
    if unreadable:
        last = Recorded(0, 0, tuple(unreadable), 0, Counter(row.rule for row in unreadable))
        entry = _added(entry, last)
        with app.store.transaction():
            app.store.quarantine.add(last.refused, import_id=entry.import_id, now=app.received())
            app.store.imports.save(entry)
        shown.extend(last.refused[: 100 - len(shown)])
    folded = time.perf_counter()
    app.store.seal()
    app.renew_population()
    entry = replace(entry, finished_at=app._clock())
    app.store.imports.save(entry)
    return Imported(entry, folded - started, time.perf_counter() - folded, tuple(shown))


def _save_added(imports: ImportLedger, entry: Import, recorded: Recorded) -> None:
    imports.save(_added(entry, recorded))


def _added(entry: Import, recorded: Recorded) -> Import:
    return replace(
        entry,
        rows=entry.rows + recorded.rows,
        added=entry.added + recorded.added,
        repeated=entry.repeated + recorded.repeated,
        refused=entry.refused + len(recorded.refused),
        found=Counter(entry.found) + recorded.found,
    )


def _sum(parts: list[Recorded], unreadable: list[Refused], position: Position) -> Recorded:
    found: Counter[str] = Counter(refusal.rule for refusal in unreadable)
    for part in parts:
        found.update(part.found)
    return Recorded(
        sum(part.added for part in parts),
        sum(part.repeated for part in parts),
        (*unreadable, *(row for part in parts for row in part.refused)),
        max([position, *(part.as_of for part in parts)]),
        found,
    )
