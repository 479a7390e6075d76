"""What comes in: events and items as they happen, and whole files."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limner.events.log import Position
from limner.events.raw import Import, ImportLedger, RawBatch, Refused
from limner.model.protocol import Progress
from limner.privacy.admit import Admitted, Occurrences
from limner.profile.writer import Recorded
from limner.sources import beside, payloads, reading
from limner.sources import rows as given
from limner.sources.columns import Kind

if TYPE_CHECKING:
    from limner.app.limner import Limner


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
