"""The event log in SQLite: a table of segments, and what is kept in memory to find rows in it.

It is appended to once per commit and never through an index in random order: which digests are
there and where a user's rows lie is kept in memory, and built from the segments when first
asked for.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limner.errors import StoreCorrupt
from limner.events.batch import I64, Bool, EventBatch
from limner.events.log import Appended, Position
from limner.events.once import Seen, SortedRuns
from limner.stores.database import Database
from limner.stores.memory import checked
from limner.stores.segments import (
    IDENTITY,
    READ_ROWS,
    SEGMENT_ROWS,
    decode,
    emptied,
    encode,
    fingerprint,
    gathered,
    time_range,
    users_in,
    without_target,
)

SMALL_SEGMENTS = 512
"""So many segments since the last sealing, and the next commit merges the small ones."""
SMALL_ROWS = 1 << 14
"""Most rows of what a commit merges by the way; the rest waits for a quiet moment."""
CACHE_BYTES = 256 << 20
"""Most bytes of decoded segments that are kept for `events_of`."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment's place and its batches."""

    first: Position
    count: int
    hash: bytes
    batches: tuple[EventBatch, ...]


class SqliteLog:
    """The log in the table `segment`."""

    name: str = "event log"

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: Seen | None = None
        self._users = UserIndex()
        self._cache = SegmentCache(CACHE_BYTES)
        self._unsealed = 0
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
                    self._unsealed += 1
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

        The first call reads the users of the whole log; later ones only what was added.
        """
        with self._database.reading() as connection:
            return self._rows_of(connection, self._users.positions(connection, user), user)

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
            about = _positions_about(connection, user)
            self._rewrite(about, without_target)
            return gone + len(about)

    def holds(self, user: bytes) -> bool:
        """Whether any row is of this user or about them."""
        with self._database.reading() as connection:
            return bool(len(self.events_of(user)[0]) or len(_positions_about(connection, user)))

    def seal(self, *, most: int = SEGMENT_ROWS) -> None:
        """Merge neighbouring segments, to at most `most` rows each.

        A segment is merged with the one before it once it has as many rows, so a row is
        rewritten a logarithmic number of times. One transaction a merge: a writer waits for one
        at most.
        """
        self._unsealed = 0
        groups: list[tuple[int, Position, Position]] = []  # rows, first and last `first`
        for first, count in self._database.query("SELECT first, count FROM segment ORDER BY first"):
            groups.append((count, first, first))
            while len(groups) > 1 and groups[-2][0] <= groups[-1][0] <= most - groups[-2][0]:
                right, left = groups.pop(), groups.pop()
                groups.append((left[0] + right[0], left[1], right[2]))
        for _, first, last in groups:
            if first != last:
                self._merge(first, last)

    def _merge(self, first: Position, last: Position) -> None:
        """Make one segment of those from the one at `first` to the one at `last`."""
        where = "WHERE first BETWEEN ? AND ?"
        with self._database.transaction() as connection:
            rows = connection.execute(
                f"SELECT first, count, hash, body FROM segment {where} ORDER BY first",
                (first, last),
            ).fetchall()
            batches = [batch for row in rows for batch in _opened(row).batches]
            connection.execute(f"DELETE FROM segment {where}", (first, last))
            _insert(connection, first, batches)

    def _seal_if_many(self) -> None:
        if self._unsealed >= SMALL_SEGMENTS:
            self.seal(most=SMALL_ROWS)

    def _forget_indices(self) -> None:
        # Built again from what was committed; a failed transaction is too rare to undo in place.
        self._seen = None
        self._users.clear()

    def _digests(self, connection: sqlite3.Connection) -> Seen:
        if self._seen is None:
            self._seen = self._read_digests(connection)
        return self._seen

    def _read_digests(self, connection: sqlite3.Connection) -> Seen:
        seen = Seen()
        for first, _, hash_, body in connection.execute(
            "SELECT first, count, hash, body FROM segment ORDER BY first"
        ):
            for table in _tables(first, hash_, body, IDENTITY):
                if "digest" in table.column_names:
                    batch = EventBatch(table)
                    seen.add(batch.array("digest"), batch.array("check"))
        return seen

    def _between(self, start: Position, stop: Position) -> Iterator[tuple[Position, EventBatch]]:
        while start < stop:
            with self._database.reading() as connection:
                segment = self._cache.get(connection, start, keep=False)
            first = segment.first
            for batch in segment.batches:
                low, high = max(start, first), min(stop, first + len(batch))
                for place in range(low, high, READ_ROWS):
                    end = min(place + READ_ROWS, high)
                    yield place, batch.slice(place - first, end - first)
                first += len(batch)
            start = first

    def _rows_of(
        self, connection: sqlite3.Connection, positions: I64, user: bytes
    ) -> tuple[I64, EventBatch]:
        found, parts = [np.empty(0, np.int64)], []
        while len(positions):
            segment = self._cache.get(connection, int(positions[0]), keep=True)
            first = segment.first
            for batch in segment.batches:
                end = int(np.searchsorted(positions, first + len(batch)))
                here, positions = positions[:end], positions[end:]
                if len(here):
                    rows = batch.table.take(pa.array(here - first))
                    own = _equal(rows.column("user_id"), user)
                    if not own.all():  # the index may say too much
                        here, rows = here[own], rows.filter(pa.array(own))
                    found.append(here)
                    parts.append(rows)
                first += len(batch)
        return np.concatenate(found), gathered(parts)

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
            left, count = wanted, 0
            while len(left):
                segment = self._cache.get(connection, int(left[0]), keep=False)
                end = int(np.searchsorted(left, segment.first + segment.count))
                here, left = left[:end], left[end:]
                first, batches = segment.first, []
                for batch in segment.batches:
                    rows = np.zeros(len(batch), bool)
                    rows[here[(here >= first) & (here < first + len(batch))] - first] = True
                    count += int((rows & batch.live()).sum())
                    if forget and self._seen is not None:
                        self._seen.discard(batch.take(rows).array("digest"))
                    batches.append(change(batch, rows) if rows.any() else batch)
                    first += len(batch)
                connection.execute("DELETE FROM segment WHERE first = ?", (segment.first,))
                _insert(connection, segment.first, batches)
                self._cache.drop(segment.hash)
            if len(wanted):
                self._users.drop(wanted)
                self._database.scrub()
            return count


class SegmentCache:
    """Decoded segments by the hash of their bytes, least lately used first to go."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._kept: OrderedDict[bytes, tuple[int, tuple[EventBatch, ...]]] = OrderedDict()
        self._bytes = 0

    def get(self, connection: sqlite3.Connection, position: Position, *, keep: bool) -> Segment:
        """The segment of a position."""
        row = _segment_at(connection, position, "first, count, hash")
        with self._lock:
            kept = self._kept.get(row[2])
            if kept is not None:
                self._kept.move_to_end(row[2])
                return Segment(row[0], row[1], row[2], kept[1])
        # One statement, so that a sealing in between cannot part the place from the body.
        segment = _opened(_segment_at(connection, position, "first, count, hash, body"))
        if keep:
            size = sum(batch.table.nbytes for batch in segment.batches)
            with self._lock:
                if segment.hash not in self._kept:
                    self._kept[segment.hash] = (size, segment.batches)
                    self._bytes += size
                while self._bytes > self._limit and len(self._kept) > 1:
                    self._bytes -= self._kept.popitem(last=False)[1][0]
        return segment

    def drop(self, hash_: bytes) -> None:
        """Let go of one."""
        with self._lock:
            self._bytes -= self._kept.pop(hash_, (0, ()))[0]


class UserIndex:
    """Where each user's rows lie: (first half of the pseudonym, position), 16 bytes a row.

    It catches up with the log when it is asked. It may name too many rows (of a user with the
    same first half, or since blanked), so whoever reads them checks.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs = SortedRuns()
        self._upto: Position = 0

    def clear(self) -> None:
        """Start again from nothing."""
        with self._lock:
            self._runs, self._upto = SortedRuns(), 0

    def positions(self, connection: sqlite3.Connection, user: bytes) -> I64:
        """Positions of a user's rows, as far as this connection sees the log."""
        with self._lock:
            head = self._catch_up(connection)
            runs = self._runs.rows(_halves([user])[0])
        found: I64 = np.sort(np.concatenate([np.empty(0, np.int64), *(run[1] for run in runs)]))
        return found[found < head]

    def drop(self, positions: I64) -> None:
        """Let go of these positions."""
        with self._lock:
            self._runs.keep([~np.isin(run[1], positions) for run in self._runs.runs])

    def _catch_up(self, connection: sqlite3.Connection) -> Position:
        """Index what this connection sees and the index does not have; its head."""
        head = _head(connection)
        if head <= self._upto:
            return head
        keys, places = [], []
        for first, hash_, body in connection.execute(
            "SELECT first, hash, body FROM segment "
            "WHERE first + count > ? AND first < ? ORDER BY first",
            (self._upto, head),
        ):
            tables = _tables(first, hash_, body, ["user_id"])
            for start, column in users_in(tables, "user_id"):
                codes = pc.fill_null(column.indices, -1).to_numpy(zero_copy_only=False)
                rows = np.flatnonzero(codes >= 0)
                places_ = first + start + rows
                new = (places_ >= self._upto) & (places_ < head)
                keys.append(_halves(column.dictionary.to_pylist())[codes[rows[new]]])
                places.append(places_[new])
        if keys:
            self._runs.add(np.concatenate(keys), np.concatenate(places))
        self._upto = head
        return head


def _insert(connection: sqlite3.Connection, first: Position, batches: list[EventBatch]) -> None:
    body = encode(batches)
    count = sum(len(batch) for batch in batches)
    connection.execute(
        "INSERT INTO segment VALUES (?, ?, ?, ?, ?, ?)",
        (first, count, *time_range(batches), fingerprint(body), body),
    )


def _head(connection: sqlite3.Connection) -> Position:
    row = connection.execute(
        "SELECT first + count FROM segment ORDER BY first DESC LIMIT 1"
    ).fetchone()
    return int(row[0]) if row else 0


def _segment_at(
    connection: sqlite3.Connection, position: Position, columns: str
) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = connection.execute(
        f"SELECT {columns} FROM segment WHERE first <= ? ORDER BY first DESC LIMIT 1", (position,)
    ).fetchone()
    if row is None or row[0] + row[1] <= position:
        raise StoreCorrupt(
            f"the log has no segment with position {position}", mend="restore it from a backup"
        )
    return row


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
    batches = tuple(EventBatch(table) for table in _tables(first, hash_, body))
    if sum(len(batch) for batch in batches) != count:
        raise StoreCorrupt(
            f"the log's segment at position {first} should have {count} rows",
            mend="restore the store from a backup",
        )
    return Segment(first, count, hash_, batches)


def _positions_about(connection: sqlite3.Connection, user: bytes) -> I64:
    """Positions of rows whose target is this user; reads that column of the whole log."""
    found = [np.empty(0, np.int64)]
    for first, hash_, body in connection.execute("SELECT first, hash, body FROM segment"):
        tables = _tables(first, hash_, body, ["target_user_id"])
        for start, column in users_in(tables, "target_user_id"):
            found.append(first + start + np.flatnonzero(_equal(column, user)))
    return np.sort(np.concatenate(found))


def _equal(column: pa.Array | pa.ChunkedArray, user: bytes) -> Any:
    same = pc.equal(column.cast(pa.binary(16)), pa.scalar(user, pa.binary(16)))
    return pc.fill_null(same, False).to_numpy(zero_copy_only=False)


def _halves(pseudonyms: Sequence[bytes]) -> Any:
    return np.frombuffer(b"".join(pseudonyms), ">u8")[::2].astype(np.uint64)
