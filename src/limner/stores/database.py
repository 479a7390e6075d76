"""One SQLite file: the connection that writes, those that read, and the lock of the writer."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout

from limner.errors import StoreBusy, StoreCorrupt, StoreError, WipeDue

SCHEMA_VERSION = "1"
PROBE_SECONDS = 0.1
BUSY_SECONDS = 10.0
"""How long a connection waits for another that holds the file."""

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS segment (
    first INTEGER PRIMARY KEY,
    count INTEGER NOT NULL,
    min_time INTEGER,
    max_time INTEGER,
    hash BLOB NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS identity (
    pseudonym BLOB PRIMARY KEY,
    key_version INTEGER NOT NULL,
    sealed_id BLOB NOT NULL,
    wrapped_key BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS quarantine (
    id INTEGER PRIMARY KEY,
    content BLOB NOT NULL UNIQUE,
    place TEXT NOT NULL,
    line INTEGER NOT NULL,
    rule TEXT NOT NULL,
    reason TEXT NOT NULL,
    row TEXT NOT NULL,
    import_id INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS import (import_id INTEGER PRIMARY KEY, entry TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS shown (
    user BLOB NOT NULL,
    name TEXT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (name, user)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dead_letter (
    webhook TEXT NOT NULL,
    change INTEGER NOT NULL,
    user BLOB NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (webhook, change)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answer (
    key BLOB PRIMARY KEY,
    request BLOB NOT NULL,
    at INTEGER NOT NULL,
    status INTEGER NOT NULL,
    kind TEXT NOT NULL,
    body BLOB
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS answer_at ON answer (at);
CREATE TABLE IF NOT EXISTS change (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user BLOB NOT NULL,
    body BLOB NOT NULL
);
"""


class Database:
    """Connections to one SQLite file: one that writes, a pool of those that read.

    A reader sees what was committed when its statement began and never blocks the writer; inside
    a transaction, its own thread sees what it has written so far.
    """

    def __init__(self, path: Path, *, write: bool, holder: str) -> None:
        self.path = path
        self.writes = write
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
            for settle in self.on_commit:
                settle()
            if self._scrub:
                self._wipe()  # last, since a reader in another process may be in its way

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

    def writer(self) -> str:
        """A name of the one that now holds the write lock, unique to it; "" if none does."""
        if self._lock is None:
            probe = FileLock(_lock_file(self.path))
            try:
                probe.acquire(timeout=0)
            except Timeout:
                pass  # somebody holds it
            except OSError:
                return ""  # it cannot be written, so nobody here writes
            else:
                probe.release()
                return ""
        lines = _said(self.path)
        return lines[2] if len(lines) > 2 else ""

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
        if not made and self._writer is None:
            raise StoreError("this file is no store", where=str(self.path), mend="limner init")
        if self._writer is not None:  # of a store made earlier, those that came since
            with self.transaction() as connection:
                for statement in filter(str.strip, _TABLES.split(";")):
                    connection.execute(statement)
                connection.execute(
                    "INSERT OR IGNORE INTO meta VALUES ('schema', ?)", (SCHEMA_VERSION,)
                )
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
            raise WipeDue(
                "what was erased is gone from the store, but a reader keeps old bytes of it in "
                "the write-ahead log",
                where=f"{self.path}-wal",
                mend="end the reading process, then open the store once for writing",
            )
        self._writer.execute("DELETE FROM meta WHERE name = 'scrub'")


def _holder_file(path: Path) -> Path:
    return path.with_name(path.name + ".writer")


def _lock_file(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _said(path: Path) -> list[str]:
    """What the writer says of itself: its process id, what it is, a name unique to it."""
    try:
        return _holder_file(path).read_text("utf-8").splitlines()
    except OSError:
        return []


def _lock(path: Path, holder: str) -> FileLock:
    """The write lock of a store, with a text beside it that says who holds it."""
    lock = FileLock(_lock_file(path))
    try:
        # not at once: a reader that asks whether anybody writes holds it for a moment
        lock.acquire(timeout=PROBE_SECONDS, poll_interval=PROBE_SECONDS / 10)
    except Timeout:
        pid, who = (*_said(path), "unknown", "another process")[:2]
        raise StoreBusy(
            f"{who.strip()} (process {pid}) writes to this store, and there can be one writer",
            where=str(path),
            mend=f"stop process {pid}; or, if it is a server, use --url with its address",
        ) from None
    said = f"{os.getpid()}\n{' '.join(holder.split())}\n{uuid4().hex}\n"
    _holder_file(path).write_text(said, "utf-8")
    return lock
