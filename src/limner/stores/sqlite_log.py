"""The event log in SQLite: a table of segments.

It is appended to once per commit and never through an index in random order: which digests are
there and where a user's rows lie is kept beside it (`lookup`).
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from limner.errors import LimnerError, StoreCorrupt
from limner.events.amend import among
from limner.events.batch import I64, Bool, EventBatch
from limner.events.log import Appended, Position
from limner.events.once import Seen
from limner.stores.database import Database
from limner.stores.lookup import Lookup
from limner.stores.memory import checked
from limner.stores.segments import (
    READ_ROWS,
    SEGMENT_ROWS,
    compact,
    decode,
    emptied,
    encode,
    fingerprint,
    gathered,
    merged_batches,
    time_range,
    together,
    without_target,
)

SMALL_SEGMENTS = 512
"""So many small segments since the last sealing, and the next commit merges them."""
LOOKUP_ROWS = 1 << 14
"""Rows since the last sealing from which on sealing makes them quick to find."""
SPILL_ROWS = 1 << 20
"""So many rows since then, and the next commit does it: they are kept in memory till then."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment's place and its rows."""

    first: Position
    count: int
    tables: tuple[pa.Table, ...]

    @property
    def batches(self) -> list[EventBatch]:
        """The rows with all columns that a batch has."""
        return [EventBatch(table) for table in self.tables]


class SqliteLog:
    """The log in the table `segment`."""

    name: str = "event log"

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._seen: Seen | None = None
        self._lookup = Lookup(database, folder, _columns)
        self._small = 0
        self._unsealed = 0
        self._beside: threading.Thread | None = None
        database.on_rollback.append(self._forget_indices)
        database.on_commit.append(self._seal_if_many)

    def head(self) -> Position:
        """The position that the next row will get."""
        with self._database.reading() as connection:
            return _head(connection)

    def append(self, batch: EventBatch) -> Appended:
        """Write the rows whose digest is new; durable on return, or with the transaction."""
        with self._database.transaction() as connection:
            seen = self._digests(connection)
            digest, check = batch.array("digest"), batch.array("check")
            kept, conflict = seen.sift(digest, check)
            first = _head(connection)
            if kept.any():
                rows = batch.take(kept)
                seen.add(rows.array("digest"), rows.array("check"))
                for start in range(0, len(rows), SEGMENT_ROWS):
                    stop = min(start + SEGMENT_ROWS, len(rows))
                    part = rows if stop - start == len(rows) else rows.slice(start, stop)
                    _insert(connection, first + start, [part])
                    self._small += stop - start < SEGMENT_ROWS
                self._unsealed += len(rows)
                if len(rows) >= SEGMENT_ROWS:
                    self._lookup.follow(connection, first, rows)
            return Appended(first, kept, conflict)

    def knows(self, digests: pa.Array) -> Bool:
        """Whether the log has each digest."""
        with self._database.transaction() as connection:
            return self._digests(connection).has(digests)

    def read(
        self, start: Position = 0, stop: Position | None = None
    ) -> Iterator[tuple[Position, EventBatch]]:
        """Rows from `start` up to `stop` as far as the log goes now."""
        head = self.head()
        return self._between(max(start, 0), head if stop is None else min(stop, head))

    def events_of(self, user: bytes) -> tuple[I64, EventBatch]:
        """All rows of one user with their positions.

        Rows since the last sealing are made quick to find by the first call; later ones read only
        what was added.
        """
        with self._database.reading() as connection:
            return self._rows_of(connection, user, "user_id")

    def rows_of(self, users: Collection[bytes]) -> Iterator[tuple[I64, EventBatch]]:
        """All rows of these users with their positions, in order, in batches of a bounded size."""
        with self._database.reading() as connection:
            found = self._lookup.positions(connection, users, _head(connection))
        return self._in_parts(found, users)

    def blank(self, positions: I64, *, forget: bool = False) -> int:
        """Empty these rows for good; with `forget`, their digests too."""
        return self._rewrite(
            positions, lambda batch, rows: emptied(batch, rows, forget=forget), forget=forget
        )

    def erase(self, user: bytes) -> int:
        """Blank the user's rows, and take the user out of rows about them."""
        with self._database.transaction() as connection:
            own, _ = self.events_of(user)
            gone = self.blank(own)
            about, rows = self._rows_of(connection, user, "target_user_id")
            self._rewrite(about, without_target)
            if len(about):  # unless they are of somebody who is found by the same half
                others = [key != user[:8] for key in _first_halves(rows.array("user_id"))]
                self._lookup.remove(connection, about[np.array(others)], about=user)
            return gone + len(about)

    def holds(self, user: bytes) -> bool:
        """Whether any row is of this user or about them."""
        with self._database.reading() as connection:
            return any(
                len(self._rows_of(connection, user, name)[0])
                for name in ("user_id", "target_user_id")
            )

    def seal(self) -> None:
        """Merge small neighbouring segments, and make what is new quick to find.

        A segment is merged with the one before it once it has as many rows, so a row is
        rewritten a logarithmic number of times. What is merged is made ready beside the writer,
        and takes the place of its parts in a short transaction.
        """
        self.join()
        self._tidy()
        self._unsealed = 0
        self._lookup.extend(_head, LOOKUP_ROWS, self._forget_digests)

    def _tidy(self) -> None:
        """Merge small neighbouring segments."""
        self._small = 0
        groups: list[tuple[int, Position, Position]] = []  # rows, first and last `first`
        for first, count in self._database.query("SELECT first, count FROM segment ORDER BY first"):
            groups.append((count, first, first))
            while (
                len(groups) > 1 and groups[-2][0] <= groups[-1][0] <= SEGMENT_ROWS - groups[-2][0]
            ):
                right, left = groups.pop(), groups.pop()
                groups.append((left[0] + right[0], left[1], right[2]))
        for _, first, last in groups:
            if first != last:
                self._merge(first, last)

    def join(self) -> None:
        """Wait for what is done beside the writer."""
        if self._beside is not None:
            self._beside.join()

    def sweep(self) -> None:
        """Remove what an earlier opening left half done."""
        self._lookup.sweep()

    def _merge(self, first: Position, last: Position) -> None:
        """Make one segment of those from the one at `first` to the one at `last`.

        If any of them was changed meanwhile they stay, for another time.
        """
        where = "FROM segment WHERE first BETWEEN ? AND ?"
        rows = self._database.query(
            f"SELECT first, count, hash, body {where} ORDER BY first", first, last
        )
        tables = [table for row in rows for table in _opened(row).tables]
        merged = _row(first, merged_batches(tables))
        with self._database.transaction() as connection:
            now = connection.execute(
                f"SELECT first, count, hash {where} ORDER BY first", (first, last)
            ).fetchall()
            if now == [row[:3] for row in rows]:
                connection.execute(f"DELETE {where}", (first, last))
                connection.execute(_INSERT, merged)

    def _seal_if_many(self) -> None:
        self._lookup.settle()
        many = self._small >= SMALL_SEGMENTS or self._unsealed >= SPILL_ROWS
        if many and not (self._beside and self._beside.is_alive()):
            self._beside = threading.Thread(
                target=self._seal_beside, name="limner-seal", daemon=True
            )
            self._beside.start()

    def _seal_beside(self) -> None:
        # what fails here (a full disk) is tried again, and raised, by the next sealing
        with suppress(LimnerError, OSError):
            if self._small >= SMALL_SEGMENTS:
                self._tidy()
            if self._unsealed >= SPILL_ROWS:
                self._unsealed = 0
                self._lookup.extend(_head, LOOKUP_ROWS, self._forget_digests)

    def _forget_indices(self) -> None:
        # Built again from what was committed; a failed transaction is too rare to undo in place.
        self._seen = None
        self._lookup.clear()

    def _forget_digests(self) -> None:
        self._seen = None  # most of it is in files now; the rest is read again

    def _digests(self, connection: sqlite3.Connection) -> Seen:
        if self._seen is None:
            self._seen = self._lookup.seen(connection, _head(connection))
        return self._seen

    def _between(self, start: Position, stop: Position) -> Iterator[tuple[Position, EventBatch]]:
        while start < stop:
            with self._database.reading() as connection:
                segments = [
                    _opened(row)
                    for row in connection.execute(
                        f"SELECT first, count, hash, body FROM segment WHERE first >= {_AT} "
                        "ORDER BY first LIMIT ?",
                        (start, READ_ROWS // SEGMENT_ROWS),
                    )
                ]
            if not segments:
                raise _no_segment(start)
            first = segments[0].first
            for batch in together([table for segment in segments for table in segment.tables]):
                low, high = max(start, first), min(stop, first + len(batch))
                for place in range(low, high, READ_ROWS):
                    end = min(place + READ_ROWS, high)
                    yield place, batch.slice(place - first, end - first)
                first += len(batch)
            start = first

    def _in_parts(
        self, positions: I64, users: Collection[bytes]
    ) -> Iterator[tuple[I64, EventBatch]]:
        for start in range(0, len(positions), READ_ROWS):
            with self._database.reading() as connection:
                part = positions[start : start + READ_ROWS]
                found = self._rows_at(connection, part, users, "user_id")
            if len(found[0]):
                yield found

    def _rows_of(
        self, connection: sqlite3.Connection, user: bytes, column: str
    ) -> tuple[I64, EventBatch]:
        found = self._lookup.positions(connection, [user], _head(connection))
        return self._rows_at(connection, found, [user], column)

    def _rows_at(
        self, connection: sqlite3.Connection, left: I64, users: Collection[bytes], column: str
    ) -> tuple[I64, EventBatch]:
        """The rows at these positions that have one of these users in a column."""
        found, parts = [np.empty(0, np.int64)], []
        while len(left):
            segment = _opened(_segment_at(connection, int(left[0])))
            first = segment.first
            for table in segment.tables:
                end = int(np.searchsorted(left, first + len(table)))
                here, left = left[:end], left[end:]
                if len(here) and column in table.column_names:
                    found.append(here)
                    parts.append(table.take(pa.array(here - first)))
                first += len(table)
        positions, batch = np.concatenate(found), gathered(parts)
        own = among(*batch.codes(column), users)
        if not own.all():  # what is found may be too much
            positions, batch = positions[own], EventBatch(compact(batch.take(own).table))
        return positions, batch

    def _rewrite(
        self,
        positions: I64,
        change: Callable[[EventBatch, Any], EventBatch],
        *,
        forget: bool = False,
    ) -> int:
        """Change the rows at these positions; how many were not empty before."""
        with self._database.transaction() as connection:
            wanted = checked(positions, _head(connection))
            seen = self._digests(connection) if forget else None
            left, count, gone = wanted, 0, []
            while len(left):
                segment = _opened(_segment_at(connection, int(left[0])))
                end = int(np.searchsorted(left, segment.first + segment.count))
                here, left = left[:end], left[end:]
                first, batches = segment.first, []
                for batch in segment.batches:
                    rows = np.zeros(len(batch), bool)
                    rows[here[(here >= first) & (here < first + len(batch))] - first] = True
                    count += int((rows & batch.live()).sum())
                    if forget:
                        gone.append(batch.take(rows).array("digest"))
                    batches.append(change(batch, rows) if rows.any() else batch)
                    first += len(batch)
                connection.execute("DELETE FROM segment WHERE first = ?", (segment.first,))
                _insert(connection, segment.first, batches)
            if len(wanted):
                if seen is not None:
                    seen.discard(pa.concat_arrays(gone))
                if change is not without_target:
                    self._lookup.remove(connection, wanted, forget=seen)
                self._database.scrub()
            return count


_INSERT = "INSERT INTO segment VALUES (?, ?, ?, ?, ?, ?)"


def _insert(connection: sqlite3.Connection, first: Position, batches: list[EventBatch]) -> None:
    connection.execute(_INSERT, _row(first, batches))


def _row(first: Position, batches: list[EventBatch]) -> tuple[Any, ...]:
    """A segment as its table's row."""
    body = encode(batches)
    count = sum(len(batch) for batch in batches)
    return first, count, *time_range(batches), fingerprint(body), body


def _head(connection: sqlite3.Connection) -> Position:
    row = connection.execute(
        "SELECT first + count FROM segment ORDER BY first DESC LIMIT 1"
    ).fetchone()
    return int(row[0]) if row else 0


_AT = "(SELECT max(first) FROM segment WHERE first <= ?)"
"""The segment of a position, as SQL."""


def _segment_at(connection: sqlite3.Connection, position: Position) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = connection.execute(
        f"SELECT first, count, hash, body FROM segment WHERE first = {_AT}", (position,)
    ).fetchone()
    if row is None or row[0] + row[1] <= position:
        raise _no_segment(position)
    return row


def _no_segment(position: Position) -> StoreCorrupt:
    return StoreCorrupt(
        f"the log has no segment with position {position}", mend="restore it from a backup"
    )


def _columns(
    connection: sqlite3.Connection, start: Position, stop: Position, columns: Sequence[str]
) -> Iterator[tuple[Position, list[pa.Table]]]:
    """Some columns of all segments that have rows from `start` to `stop`, each with its place."""
    for first, hash_, body in connection.execute(
        "SELECT first, hash, body FROM segment WHERE first + count > ? AND first < ? "
        "ORDER BY first",
        (start, stop),
    ):
        yield first, _tables(first, hash_, body, columns)


def _tables(
    first: Position, hash_: bytes, body: bytes, columns: Sequence[str] | None = None
) -> list[pa.Table]:
    if fingerprint(body) != hash_:
        raise StoreCorrupt(
            f"the log's segment at position {first} does not match its hash",
            mend="restore the store from a backup",
        )
    return decode(body, columns)


def _opened(row: tuple[Any, ...]) -> Segment:
    first, count, hash_, body = row
    tables = tuple(_tables(first, hash_, body))
    if sum(len(table) for table in tables) != count:
        raise StoreCorrupt(
            f"the log's segment at position {first} should have {count} rows",
            mend="restore the store from a backup",
        )
    return Segment(first, count, tables)


def _first_halves(users: pa.Array) -> list[bytes | None]:
    return [user and user[:8] for user in users.to_pylist()]
