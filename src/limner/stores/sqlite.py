"""The default store: one SQLite file, one writer, any number of readers beside it.

The log is a table of segments (see `segments`), appended to once per commit and never through
an index in random order: which digests are there and where a user's rows lie is kept in memory,
and built from the segments when first asked for.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock, Timeout

from limner.errors import StoreBusy, StoreCorrupt, StoreError
from limner.events.batch import I64, EventBatch
from limner.events.log import Appended, Position
from limner.events.once import Seen, SortedRuns
from limner.events.raw import Import, Refused
from limner.privacy.erasable import Erasable
from limner.privacy.identity import Sealed
from limner.stores.memory import checked
from limner.stores.refused import names, pack, unpack
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

SCHEMA_VERSION = "1"
SMALL_SEGMENTS = 512
"""So many segments since the last sealing, and the next commit merges the small ones."""
SMALL_ROWS = 1 << 14
"""Most rows of what a commit merges by the way; the rest waits for a quiet moment."""
CACHE_BYTES = 256 << 20
"""Most bytes of decoded segments that are kept for `events_of`."""
BUSY_SECONDS = 10.0

_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE segment (
    first INTEGER PRIMARY KEY,
    count INTEGER NOT NULL,
    min_time INTEGER,
    max_time INTEGER,
    hash BLOB NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE identity (
    pseudonym BLOB PRIMARY KEY,
    key_version INTEGER NOT NULL,
    sealed_id BLOB NOT NULL,
    wrapped_key BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY,
    content BLOB NOT NULL UNIQUE,
    place TEXT NOT NULL,
    line INTEGER NOT NULL,
    rule TEXT NOT NULL,
    reason TEXT NOT NULL,
    row TEXT NOT NULL,
    import_id INTEGER NOT NULL
);
CREATE TABLE import (import_id INTEGER PRIMARY KEY, entry TEXT NOT NULL);
"""


class SqliteStore:
    """A `Store` in the file at `path`; `holder` says in the lock who writes.

    Raises StoreBusy if another process writes to it, StoreError if it is to be read and is not
    there or was made by a newer Limner, StoreCorrupt if the file is no such store.
    """

    def __init__(self, path: Path, *, write: bool = True, holder: str = "limner") -> None:
        self.path = path
        self._database = Database(path, write=write, holder=holder)
        self.log = SqliteLog(self._database)
        self.identities = SqliteIdentities(self._database)
        self.quarantine = SqliteQuarantine(self._database)
        self.imports = SqliteImports(self._database)

    @property
    def erasables(self) -> Sequence[Erasable]:
        """Log, identities and quarantine."""
        return (self.log, self.identities, self.quarantine)

    @property
    def home(self) -> Path | None:
        """The folder beside the file; made by whoever first puts something there."""
        return self.path.with_suffix(".data")

    @property
    def fresh(self) -> bool:
        """Whether nothing was in the store when it was opened: no keys known, no rows."""
        return self._database.fresh

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside are durable together at its end, or none is."""
        with self._database.transaction():
            yield

    def get_meta(self, name: str) -> str | None:
        """A fact about the store, None if it was never set."""
        rows = self._database.query("SELECT value FROM meta WHERE name = ?", name)
        return str(rows[0][0]) if rows else None

    def set_meta(self, name: str, value: str) -> None:
        """Keep a fact about the store."""
        with self._database.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def seal(self) -> None:
        """Merge small segments; for quiet moments. Positions and rows stay as they are."""
        self.log.seal()

    def close(self) -> None:
        """Release files and the write lock."""
        self._database.close()


class Database:
    """Connections to one SQLite file: one that writes, a pool of those that read.

    A reader sees what was committed when its statement began and never blocks the writer; inside
    a transaction, its own thread sees what it has written so far.
    """

    def __init__(self, path: Path, *, write: bool, holder: str) -> None:
        self.path = path
        self.fresh = False
        self.on_rollback: list[Callable[[], None]] = []
        self.on_commit: list[Callable[[], None]] = []
        self._writing = threading.RLock()
        self._owner: int | None = None
        self._failed = False
        self._scrub = False
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        self._lock: FileLock | None = None
        self._writer: sqlite3.Connection | None = None
        if not write and not path.exists():
            raise StoreError("there is no store here", where=str(path), mend="limner init")
        if write:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(path, holder)
        try:
            made = path.exists() and path.stat().st_size > 0 and self._check()
            if write:
                self._writer = self._connect(write=True)
            self._settle(made)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """The writing connection, inside a transaction; a nested one joins the outer."""
        self._check_open()
        if self._writer is None:
            raise StoreError(
                "the store was opened for reading only",
                where=str(self.path),
                mend="open it with write=True, or send the change to the server that writes",
            )
        with self._writing, self._spoken():
            if self._owner is not None:
                try:
                    yield self._writer
                except BaseException:
                    self._failed = True
                    raise
                return
            self._failed = self._scrub = False
            self._writer.execute("BEGIN IMMEDIATE")
            self._owner = threading.get_ident()
            try:
                yield self._writer
                if self._failed:
                    raise StoreError("a part of this transaction failed, so all of it is undone")
                if self._scrub:  # and still due, should the process end before it is done
                    self._writer.execute("INSERT OR REPLACE INTO meta VALUES ('scrub', 'due')")
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                for drop in self.on_rollback:
                    drop()
                raise
            finally:
                self._owner = None
            if self._scrub:
                self._wipe()
            for settle in self.on_commit:
                settle()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection to read with."""
        if self._writer is not None and self._owner == threading.get_ident():
            yield self._writer
            return
        self._check_open()
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connect(write=False)
        try:
            with self._spoken():
                yield connection
        finally:
            self._idle.append(connection)
            self._close_idle()

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of a SELECT."""
        with self.reading() as connection:
            return connection.execute(sql, values).fetchall()

    def scrub(self) -> None:
        """Have the end of this transaction wipe what it deleted from all files."""
        self._scrub = True

    def close(self) -> None:
        """Close every connection and let go of the lock."""
        with self._writing:
            self._closed = True
            self._close_idle()
            if self._writer is not None:
                self._writer.close()
                self._writer = None
            if self._lock is not None:
                _holder_file(self.path).unlink(missing_ok=True)
                self._lock.release()
                self._lock = None

    def _close_idle(self) -> None:
        while self._closed and self._idle:
            self._idle.pop().close()

    def _connect(self, *, write: bool) -> sqlite3.Connection:
        with self._spoken():
            connection = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode={'rwc' if write else 'ro'}",
                uri=True,
                timeout=BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,  # the pool hands a connection to one thread at a time
            )
            try:
                if write:
                    connection.execute("PRAGMA journal_mode=WAL")
                    connection.execute("PRAGMA synchronous=FULL")
                    connection.execute("PRAGMA secure_delete=ON")
            except sqlite3.Error:
                connection.close()
                raise
            return connection

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the store is closed", where=str(self.path))

    def _check(self) -> bool:
        """Whether the file is a store; refuse one of another version or another program."""
        tables = {name for (name,) in self.query("SELECT name FROM sqlite_master")}
        if not tables:
            return False
        if not {"meta", "segment", "identity"} <= tables:
            raise StoreError(
                "this is another program's database",
                where=str(self.path),
                mend="name another file for the store",
            )
        ((version,),) = self.query("SELECT value FROM meta WHERE name = 'schema'")
        if version != SCHEMA_VERSION:
            raise StoreError(
                f"the store has schema {version}, and this Limner reads {SCHEMA_VERSION}",
                where=str(self.path),
                mend="pip install --upgrade limner",
            )
        return True

    def _settle(self, made: bool) -> None:
        """Make the tables of a new file; finish what an earlier opening left."""
        if not made:
            if self._writer is None:
                raise StoreError("this file is no store", where=str(self.path), mend="limner init")
            with self.transaction() as connection:
                for statement in filter(str.strip, _TABLES.split(";")):
                    connection.execute(statement)
                connection.execute("INSERT INTO meta VALUES ('schema', ?)", (SCHEMA_VERSION,))
        facts = dict(self.query("SELECT name, value FROM meta"))
        if "scrub" in facts and self._writer is not None:
            self._wipe()
        # A first opening that ended before it had keys counts for nothing.
        self.fresh = "keys" not in facts and not self.query("SELECT 1 FROM segment LIMIT 1")

    @contextmanager
    def _spoken(self) -> Iterator[None]:
        """Turn what SQLite raises into a StoreError."""
        try:
            yield
        except sqlite3.OperationalError as error:  # locked, full, not writable
            raise StoreError(
                f"SQLite cannot go on: {error}",
                where=str(self.path),
                mend="see that the disk has space, the folder can be written to, and that no "
                "other program holds the file",
            ) from error
        except sqlite3.DatabaseError as error:
            raise StoreCorrupt(
                f"SQLite cannot read the store: {error}",
                where=str(self.path),
                mend="restore it from a backup, or name another file",
            ) from error

    def _wipe(self) -> None:
        """Rebuild the file without its free space, and empty the write-ahead log.

        `secure_delete` alone is not enough: where a page was split, the copy it leaves behind
        stays (seen for about one deleted row in a hundred).
        """
        assert self._writer is not None
        self._writer.execute("VACUUM")
        busy, _, _ = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise StoreBusy(
                "what was erased is gone from the store, but a reader keeps old bytes of it in "
                "the write-ahead log",
                where=f"{self.path}-wal",
                mend="end the reading process, then open the store once for writing",
            )
        self._writer.execute("DELETE FROM meta WHERE name = 'scrub'")


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
            if self._seen is None:
                self._seen = self._read_digests(connection)
            digest, check = batch.array("digest"), batch.array("check")
            kept, conflict = self._seen.sift(digest, check)
            first = _head(connection)
            if kept.any():
                rows = batch.take(kept)
                self._seen.add(rows.array("digest"), rows.array("check"))
                for start in range(0, len(rows), SEGMENT_ROWS):
                    stop = min(start + SEGMENT_ROWS, len(rows))
                    part = rows if stop - start == len(rows) else rows.slice(start, stop)
                    _insert(connection, first + start, [part])
                    self._unsealed += 1
            return Appended(first, kept, conflict)

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


class SqliteIdentities:
    """Sealed identities in the table `identity`."""

    name = "identity table"

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, rows: Sequence[Sealed]) -> None:
        """Keep rows whose pseudonym is new."""
        if not rows:
            return
        with self._database.transaction() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO identity VALUES (?, ?, ?, ?)",
                ((r.pseudonym, r.key_version, r.sealed_id, r.wrapped_key) for r in rows),
            )

    def get(self, pseudonym: bytes) -> Sealed | None:
        """The row of one pseudonym."""
        rows = self._database.query("SELECT * FROM identity WHERE pseudonym = ?", pseudonym)
        return Sealed(*rows[0]) if rows else None

    def known(self) -> set[bytes]:
        """Every pseudonym in the table."""
        return {row[0] for row in self._database.query("SELECT pseudonym FROM identity")}

    def delete(self, pseudonym: bytes) -> bool:
        """Remove a row and its bytes; whether there was one."""
        with self._database.transaction() as connection:
            done = connection.execute("DELETE FROM identity WHERE pseudonym = ?", (pseudonym,))
            if done.rowcount:
                self._database.scrub()
            return done.rowcount > 0

    def erase(self, user: bytes) -> int:
        """`delete`, as a count."""
        return int(self.delete(user))

    def holds(self, user: bytes) -> bool:
        """Whether there is a row."""
        return self.get(user) is not None


class SqliteQuarantine:
    """Refused rows in the table `quarantine`."""

    name = "quarantine"

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, refused: list[Refused], *, import_id: int = 0) -> None:
        """Keep rows that are not there yet."""
        if not refused:
            return
        rows = []
        for row in refused:
            packed = pack(row.row)
            key = msgspec.json.encode([row.where, row.line, row.rule, packed])
            content = blake2b(key, digest_size=16).digest()
            rows.append((content, row.where, row.line, row.rule, row.reason, packed, import_id))
        with self._database.transaction() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO quarantine"
                "(content, place, line, rule, reason, row, import_id) VALUES (?, ?, ?, ?, ?, ?, ?)",
                rows,
            )

    def rows(self, *, limit: int = 100, import_id: int | None = None) -> list[Refused]:
        """The newest refused rows, newest first."""
        found = self._database.query(
            "SELECT place, line, rule, reason, row FROM quarantine "
            "WHERE ?1 IS NULL OR import_id = ?1 ORDER BY id DESC LIMIT ?2",
            import_id,
            limit,
        )
        return [
            Refused(where, line, rule, reason, unpack(row))
            for where, line, rule, reason, row in found
        ]

    def counts(self) -> dict[str, int]:
        """How many rows each rule refused."""
        sql = "SELECT rule, count(*) FROM quarantine GROUP BY rule"
        return dict(self._database.query(sql))

    def erase(self, user: bytes) -> int:
        """Remove the user's rows, and rows about them, with their bytes."""
        with self._database.transaction() as connection:
            gone = self._of(user)
            connection.executemany("DELETE FROM quarantine WHERE id = ?", ((i,) for i in gone))
            if gone:
                self._database.scrub()
            return len(gone)

    def holds(self, user: bytes) -> bool:
        """Whether there is a row of this user or about them."""
        return bool(self._of(user))

    def _of(self, user: bytes) -> list[int]:
        rows = self._database.query(
            "SELECT id, row FROM quarantine WHERE instr(row, ?)", user.hex()
        )
        return [id_ for id_, row in rows if names(unpack(row), user)]


class SqliteImports:
    """Imports in the table `import`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def start(self, where: str, now: int) -> Import:
        """Open a new entry with the next id, from 1."""
        with self._database.transaction() as connection:
            (last,) = connection.execute(
                "SELECT coalesce(max(import_id), 0) FROM import"
            ).fetchone()
            entry = Import(last + 1, where, now)
            self.save(entry)
            return entry

    def save(self, entry: Import) -> None:
        """Replace the entry of the same id."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO import VALUES (?, ?)",
                (entry.import_id, msgspec.json.encode(entry).decode()),
            )

    def entries(self) -> list[Import]:
        """All entries, oldest first."""
        rows = self._database.query("SELECT entry FROM import ORDER BY import_id")
        return [msgspec.json.decode(text, type=Import) for (text,) in rows]


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


def _holder_file(path: Path) -> Path:
    return path.with_name(path.name + ".writer")


def _lock(path: Path, holder: str) -> FileLock:
    """The write lock of a store, with a text beside it that says who holds it."""
    lock = FileLock(path.with_name(path.name + ".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        try:
            pid, who = _holder_file(path).read_text("utf-8").split("\n", 1)
        except (OSError, ValueError):
            pid, who = "unknown", "another process"
        raise StoreBusy(
            f"{who.strip()} (process {pid}) writes to this store, and there can be one writer",
            where=str(path),
            mend=f"stop process {pid}; or, if it is a server, use --url with its address",
        ) from None
    _holder_file(path).write_text(f"{os.getpid()}\n{holder}\n", "utf-8")
    return lock
