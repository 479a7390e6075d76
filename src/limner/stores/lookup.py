"""Finding rows in the log without reading it: by user, and by digest.

Most of it lies in mapped files (`runs`), which sealing makes; what was appended since is kept in
memory, and read from the log when first asked for.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limner.events.batch import I64, EventBatch
from limner.events.log import Position
from limner.events.once import U64, Run, Seen, SortedRuns, checks_of, halves
from limner.stores import runs
from limner.stores.database import Database
from limner.stores.runs import Manifest
from limner.stores.segments import IDENTITY, users_in

USERS = ("user_id", "target_user_id")
"""The columns by which rows are found: whose they are, and whom they are about."""

Tables = Callable[[sqlite3.Connection, Position, Position, Sequence[str]],
                  Iterator[tuple[Position, list[pa.Table]]]]  # fmt: skip
"""Reads some columns of all segments that have rows between two positions."""


class Lookup:
    """Where each user's rows lie, 16 bytes a row, and which digests there are, 24 bytes a row.

    Users are found by the first half of the pseudonym, so what is found may be too much: of
    another user, or blanked since. Whoever reads the rows checks.
    """

    def __init__(self, database: Database, folder: Path, tables: Tables) -> None:
        self._database = database
        self._folder = folder
        self._tables = tables
        self._lock = threading.Lock()
        self._text: str | None = None
        self._manifest = Manifest()
        self._users: list[Run] = []
        self._digests: list[Run] = []
        self._sound = not database.writes
        """Whether the files are taken as they are: who only reads may look at one user alone."""
        self._tail = SortedRuns()
        self._from: Position = 0
        self._upto: Position = 0
        self._stale: set[str] = set()
        """Files that hold no more once the transaction is through."""

    def positions(
        self, connection: sqlite3.Connection, users: Collection[bytes], head: Position
    ) -> I64:
        """Positions below `head` of rows that may be of these users or about them, ascending."""
        keys = np.unique(halves_of(users))
        with self._lock:
            self._refresh(connection)
            self._catch_up(connection, head)
            found = [run[1] for run in (*_rows(self._users, keys), *self._tail.rows(keys))]
        every: I64 = np.unique(np.concatenate([np.empty(0, np.int64), *found]))
        return every[every < head]

    def seen(self, connection: sqlite3.Connection, head: Position) -> Seen:
        """The digests of all rows below `head`."""
        with self._lock:
            self._refresh(connection)
            seen, start = Seen(self._digests), self._manifest.upto
        for first, tables in self._tables(connection, start, head, IDENTITY):
            for table in _since(start, first, tables):
                if "digest" in table.column_names:
                    seen.add(_whole(table["digest"]), _whole(table["check"]))
        return seen

    def follow(self, connection: sqlite3.Connection, first: Position, batch: EventBatch) -> None:
        """Have many rows that were just appended at `first` quick to find, while they are here."""
        with self._lock:
            self._refresh(connection)
            self._catch_up(connection, first)
            self._reach(first + len(batch), iter([(first, [batch.table])]))

    def remove(
        self,
        connection: sqlite3.Connection,
        positions: I64,
        *,
        about: bytes | None = None,
        forget: Seen | None = None,
    ) -> None:
        """Let go of these rows, or with `about` only of their being about this user.

        `forget` is what is left of the digests, if some of them are to go. Called in the
        transaction that changes the rows; the old files go when it is through.
        """
        key = None if about is None else halves_of([about])[0]

        def left(run: Run) -> Any:
            gone = np.isin(run[1], positions)
            return ~(gone if key is None else gone & (run[0] == key))

        with self._lock:
            self._refresh(connection)
            users = []
            for file, run in zip(self._manifest.users, self._users, strict=True):
                mask = left(run)
                if not mask.all():
                    rest = tuple(column[mask] for column in run)
                    file = runs.write(self._folder, "users", len(rest[0]), [rest])
                users.append(file)
            digests = list(self._manifest.digests)
            if forget is not None:
                for place, (old, new) in enumerate(zip(self._digests, forget.base, strict=True)):
                    if len(old[0]) != len(new[0]):
                        digests[place] = runs.write(self._folder, "digests", len(new[0]), [new])
            self._tail.keep([left(run) for run in self._tail.runs])
            self._save(
                connection,
                Manifest(
                    self._manifest.upto,
                    self._manifest.change + 1,
                    tuple(file for file in users if file.rows),
                    tuple(file for file in digests if file.rows),
                ),
            )

    def extend(
        self,
        head: Callable[[sqlite3.Connection], Position],
        at_least: int,
        changed: Callable[[], None],
    ) -> None:
        """Move what is not in files yet into files, if it is so many rows; call `changed` then.

        The work is done beside the writer, and what holds is changed in a short transaction;
        where rows were removed meanwhile, it is left for another time.
        """
        with self._database.reading() as connection:
            stop = head(connection)
            with self._lock:
                self._refresh(connection)
                before, manifest = self._text, self._manifest
                old = {"users": self._users, "digests": self._digests}
            if stop - manifest.upto < at_least:
                return
            tail = self._collect(connection, manifest.upto, stop)
        after = Manifest(
            stop,
            manifest.change,
            runs.grown(self._folder, "users", manifest.users, old["users"], tail[0]),
            runs.grown(self._folder, "digests", manifest.digests, old["digests"], tail[1]),
        )
        with self._database.transaction() as connection, self._lock:
            if self._read(connection) == before:
                self._save(connection, after)
                changed()
            else:
                self._stale |= _names(after) - _names(manifest)

    def sweep(self) -> None:
        """Remove files that do not hold; only where nobody writes any."""
        with self._lock, self._database.reading() as connection:
            runs.remove(self._folder, keep=_names(_manifest(self._read(connection))))

    def settle(self) -> None:
        """Remove files that the transaction which is through has replaced."""
        if self._stale:
            with self._lock:
                runs.remove(self._folder, self._stale)
                self._stale = set()

    def clear(self) -> None:
        """Forget what is in memory: a transaction was undone."""
        with self._lock:
            self._text, self._manifest = None, Manifest()
            self._users, self._digests = [], []
            self._tail, self._from, self._upto = SortedRuns(), 0, 0
            self._stale = set()

    def _read(self, connection: sqlite3.Connection) -> str:
        row = connection.execute("SELECT value FROM meta WHERE name = 'runs'").fetchone()
        return str(row[0]) if row else "{}"

    def _save(self, connection: sqlite3.Connection, manifest: Manifest) -> None:
        self._stale |= _names(self._manifest) - _names(manifest)
        text = msgspec.json.encode(manifest).decode()
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('runs', ?)", (text,))

    def _refresh(self, connection: sqlite3.Connection) -> None:
        """Map the files that hold for this connection."""
        for _ in range(3):  # the writer may replace those being opened
            text = self._read(connection)
            if text == self._text:
                return
            manifest = _manifest(text)
            verify = not self._sound
            users = runs.mapped(self._folder, "users", manifest.users, verify=verify)
            digests = runs.mapped(self._folder, "digests", manifest.digests, verify=verify)
            if users is not None and digests is not None:
                break
        else:  # gone or damaged: all of it is in the log
            manifest, users, digests = Manifest(change=manifest.change), [], []
        self._sound = True
        self._text, self._manifest, self._users, self._digests = text, manifest, users, digests

    def _catch_up(self, connection: sqlite3.Connection, head: Position) -> None:
        """Have the tail reach from where the files end up to `head`."""
        start = self._manifest.upto
        if self._from <= start <= self._upto:
            if self._from < start:  # the rest is in files now
                self._tail.keep([np.asarray(run[1] >= np.int64(start)) for run in self._tail.runs])
        else:
            self._tail, self._upto = SortedRuns(), start
        self._from = start
        if head > self._upto:
            self._reach(head, self._tables(connection, self._upto, head, USERS))

    def _reach(self, head: Position, segments: Iterator[tuple[Position, list[pa.Table]]]) -> None:
        """Have the tail reach up to `head`; `segments` have all rows from where it ended."""
        for key, place in self._users_of(self._upto, head, segments):
            self._tail.add(key, place)
        self._upto = head

    def _users_of(
        self, start: Position, stop: Position, segments: Iterator[tuple[Position, list[pa.Table]]]
    ) -> Iterator[tuple[U64, I64]]:
        """(key, position) of the rows from `start` to `stop`, of whom they name."""
        for first, tables in segments:
            for name in USERS:
                for begin, column in users_in(tables, name):
                    codes = pc.fill_null(column.indices, -1).to_numpy(zero_copy_only=False)
                    rows = np.flatnonzero(codes >= 0)
                    places = first + begin + rows
                    new = (places >= start) & (places < stop)
                    if new.any():
                        keys = halves_of(column.dictionary.to_pylist())
                        yield keys[codes[rows[new]]], places[new]

    def _collect(
        self, connection: sqlite3.Connection, start: Position, stop: Position
    ) -> tuple[Run, Run]:
        """The rows from `start` to `stop` as a run of each kind, not yet sorted."""
        segments = list(self._tables(connection, start, stop, (*USERS, *IDENTITY)))
        users = [(np.empty(0, np.uint64), np.empty(0, np.int64)),
                 *self._users_of(start, stop, iter(segments))]  # fmt: skip
        digests: list[Run] = [tuple(np.empty(0, np.uint64) for _ in range(3))]
        for first, tables in segments:
            for table in _since(start, first, tables):
                if "digest" in table.column_names:
                    valid = table.filter(pc.is_valid(table["digest"]))
                    digests.append(
                        (*halves(_whole(valid["digest"])), checks_of(_whole(valid["check"])))
                    )
        return _joined(users), _joined(digests)


def halves_of(pseudonyms: Collection[bytes]) -> Any:
    """The first half of each pseudonym as a number."""
    return np.frombuffer(b"".join(pseudonyms), ">u8")[::2].astype(np.uint64)


def _manifest(text: str) -> Manifest:
    return msgspec.json.decode(text, type=Manifest)


def _names(manifest: Manifest) -> set[str]:
    return {file.name for file in (*manifest.users, *manifest.digests)}


def _rows(mapped: Sequence[Run], keys: U64) -> list[Run]:
    found = SortedRuns()
    found.runs = list(mapped)
    return found.rows(keys)


def _since(start: Position, first: Position, tables: Sequence[pa.Table]) -> Iterator[pa.Table]:
    """The tables of a segment at `first`, without rows before `start`."""
    for table in tables:
        skip = min(max(start - first, 0), len(table))
        if skip < len(table):
            yield table.slice(skip)
        first += len(table)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _joined(parts: Sequence[Run]) -> Run:
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))
