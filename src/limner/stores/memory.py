"""The reference store: everything in plain Python containers, gone at the end of the process."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limner.errors import StoreError
from limner.events.amend import among
from limner.events.batch import I64, Bool, EventBatch, concat
from limner.events.log import Appended, Position
from limner.events.raw import Holding, Import, Refused
from limner.privacy.erasable import Erasable
from limner.privacy.identity import Sealed
from limner.stores.answered import MemoryAnswers
from limner.stores.keys import MemoryApiKeys
from limner.stores.letters import MemoryDeadLetters
from limner.stores.memory_shown import MemoryOutbox, MemoryShown
from limner.stores.refused import key_of, names, normal
from limner.stores.segments import READ_ROWS, compact, emptied, without_target


class MemoryStore:
    """A `Store` without files; for trying things out and for tests."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._undo: list[Callable[[], object]] = []
        self._depth = 0
        self._failed = False
        self._meta: dict[str, str] = {}
        self.log = MemoryLog(self)
        self.identities = MemoryIdentities(self)
        self.quarantine = MemoryQuarantine(self)
        self.imports = MemoryImports(self)
        self.shown = MemoryShown(self)
        self.outbox = MemoryOutbox(self)
        self.dead_letters = MemoryDeadLetters()
        self.answers = MemoryAnswers(self)
        self.api_keys = MemoryApiKeys()

    @property
    def erasables(self) -> Sequence[Erasable]:
        """All of the above but imports and answers, which name nobody."""
        return (
            self.log,
            self.identities,
            self.quarantine,
            self.shown,
            self.outbox,
            self.dead_letters,
        )

    @property
    def home(self) -> Path | None:
        """No folder."""
        return None

    @property
    def fresh(self) -> bool:
        """Always new."""
        return True

    def writer(self) -> str:
        """Whoever has it, for nobody else can."""
        return "memory"

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside happen, or none; other threads wait until it is over."""
        with self._lock:
            self._depth += 1
            try:
                yield
                if self._depth == 1 and self._failed:
                    raise StoreError("a part of this transaction failed, so all of it is undone")
            except BaseException:
                self._failed = True
                if self._depth == 1:
                    for undo in reversed(self._undo):
                        undo()
                raise
            finally:
                self._depth -= 1
                if not self._depth:
                    self._undo.clear()
                    self._failed = False

    @contextmanager
    def writing(self, undo: Callable[[], object]) -> Iterator[None]:
        """One write, and how to take it back."""
        with self.transaction():
            self._undo.append(undo)
            yield

    def get_meta(self, name: str) -> str | None:
        """A fact about the store, None if it was never set."""
        return self._meta.get(name)

    def set_meta(self, name: str, value: str) -> None:
        """Keep a fact about the store."""
        old = dict(self._meta)
        with self.writing(lambda: setattr(self, "_meta", old)):
            self._meta[name] = value

    def seal(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to release."""


class MemoryLog:
    """Batches in a list, digests in a dictionary."""

    name: str = "event log"

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._batches: list[EventBatch] = []
        self._head = 0
        self._checks: dict[bytes, int] = {}

    def head(self) -> Position:
        """The position that the next row will get."""
        with self._store._lock:
            return self._head

    def append(self, batch: EventBatch) -> Appended:
        """Write the rows whose digest is new."""
        digests = batch.array("digest").to_pylist()
        checks = [check or 0 for check in batch.array("check").to_pylist()]
        if None in digests:
            raise ValueError("every row of a batch needs a digest; privacy.admit gives it one")
        kept, conflict = np.zeros(len(batch), bool), np.zeros(len(batch), bool)
        added: list[bytes] = []
        with self._store.transaction():
            before, head = self._batches, self._head

            def undo() -> None:
                self._batches, self._head = before, head
                for digest in added:
                    del self._checks[digest]

            with self._store.writing(undo):
                for row, (digest, check) in enumerate(zip(digests, checks, strict=True)):
                    known = self._checks.get(digest)
                    if known is None:
                        kept[row] = True
                        self._checks[digest] = check
                        added.append(digest)
                    else:
                        conflict[row] = known != check
                if added:
                    self._batches = [*before, EventBatch(compact(batch.take(kept).table))]
                    self._head = head + len(added)
        return Appended(head, kept, conflict)

    def knows(self, digests: pa.Array) -> Bool:
        """Whether the log has each digest."""
        with self._store._lock:
            return np.array([digest in self._checks for digest in digests.to_pylist()], bool)

    def read(
        self, start: Position = 0, stop: Position | None = None
    ) -> Iterator[tuple[Position, EventBatch]]:
        """Rows from `start` up to `stop` as they are now."""
        with self._store._lock:
            return _between(self._batches, start, self._head if stop is None else stop)

    def events_of(self, user: bytes) -> tuple[I64, EventBatch]:
        """All rows of one user with their positions."""
        return self._rows_of(user, "user_id")

    def rows_of(self, users: Collection[bytes]) -> Iterator[tuple[I64, EventBatch]]:
        """All rows of these users with their positions, a batch at a time."""
        return _of_users(self.read(), users)

    def blank(self, positions: I64, *, forget: bool = False) -> int:
        """Empty these rows; with `forget`, their digests too."""
        return self._rewrite(
            positions,
            lambda batch, rows: emptied(batch, rows, forget=forget),
            forget=forget,
        )

    def erase(self, user: bytes) -> int:
        """Blank the user's rows, and take the user out of rows about them."""
        with self._store.transaction():
            own, _ = self.events_of(user)
            gone = self.blank(own)
            about, _ = self._rows_of(user, "target_user_id")
            self._rewrite(about, without_target)
            return gone + len(about)

    def holds(self, user: bytes) -> bool:
        """Whether any row is of this user or about them."""
        return any(len(self._rows_of(user, name)[0]) for name in ("user_id", "target_user_id"))

    def _rows_of(self, user: bytes, column: str) -> tuple[I64, EventBatch]:
        positions, parts = [np.empty(0, np.int64)], []
        for first, batch in self.read():
            values = batch.array(column).dictionary_decode()
            rows = np.flatnonzero(pc.fill_null(pc.equal(values, user), False))
            if len(rows):
                positions.append(first + rows)
                parts.append(batch.take(rows))
        return np.concatenate(positions), EventBatch(compact(concat(parts).table))

    def _rewrite(
        self, positions: I64, change: Callable[..., EventBatch], *, forget: bool = False
    ) -> int:
        with self._store._lock:
            wanted = checked(positions, self.head())
            batches, checks = list(self._batches), dict(self._checks)

            def undo() -> None:
                self._batches, self._checks = batches, checks

            with self._store.writing(undo):
                count, first, changed = 0, 0, []
                for batch in batches:
                    rows = np.zeros(len(batch), bool)
                    rows[wanted[(wanted >= first) & (wanted < first + len(batch))] - first] = True
                    first += len(batch)
                    count += int((rows & batch.live()).sum())
                    if forget:
                        for digest in batch.take(rows).array("digest").to_pylist():
                            self._checks.pop(digest, None)
                    changed.append(change(batch, rows) if rows.any() else batch)
                self._batches = changed
                return count


class MemoryIdentities:
    """Sealed identities by pseudonym."""

    name = "identity table"

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._rows: dict[bytes, Sealed] = {}

    def add(self, rows: Sequence[Sealed]) -> None:
        """Keep rows whose pseudonym is new."""
        new = [row for row in rows if row.pseudonym not in self._rows]
        if new:
            with self._changing():
                for row in new:
                    self._rows.setdefault(row.pseudonym, row)

    def get(self, pseudonym: bytes) -> Sealed | None:
        """The row of one pseudonym."""
        with self._store._lock:
            return self._rows.get(pseudonym)

    def known(self) -> set[bytes]:
        """Every pseudonym in the table."""
        with self._store._lock:
            return set(self._rows)

    def delete(self, pseudonym: bytes) -> bool:
        """Remove a row; whether there was one."""
        with self._changing():
            return self._rows.pop(pseudonym, None) is not None

    def erase(self, user: bytes) -> int:
        """`delete`, as a count."""
        return int(self.delete(user))

    def holds(self, user: bytes) -> bool:
        """Whether there is a row."""
        return self.get(user) is not None

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self._store._lock:
            old = dict(self._rows)
            with self._store.writing(lambda: setattr(self, "_rows", old)):
                yield


class MemoryQuarantine:
    """Refused rows by number; one that was settled has line −1."""

    name = "quarantine"

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._rows: dict[int, Refused] = {}
        self._known: dict[bytes, int] = {}
        self._last = 0

    def add(self, refused: Sequence[Refused], *, import_id: int = 0, now: int = 0) -> list[Refused]:
        """Keep rows that are neither held nor settled; return them."""
        new = []
        if refused:
            with self._changing():
                for row in refused:
                    key = key_of(row)
                    if key not in self._known:
                        self._last += 1
                        self._known[key] = self._last
                        self._rows[self._last] = replace(
                            normal(row), row_id=self._last, import_id=import_id, held_at=now
                        )
                        new.append(row)
        return new

    def rows(
        self,
        *,
        limit: int | None = 100,
        import_id: int | None = None,
        rule: str | None = None,
        ids: Sequence[int] | None = None,
    ) -> list[Refused]:
        """The newest rows held, newest first."""
        with self._store._lock:
            newest = [row for row in reversed(self._rows.values()) if row.line >= 0]
        found = [
            row
            for row in newest
            if (import_id is None or row.import_id == import_id)
            and (rule is None or row.rule == rule)
            and (ids is None or row.row_id in ids)
        ]
        return found[:limit]

    def counts(self) -> dict[str, int]:
        """How many rows each rule holds."""
        return dict(Counter(row.rule for row in self.rows(limit=None)))

    def holdings(self) -> dict[str, Holding]:
        """What each rule has refused so far."""
        found: dict[str, list[Refused]] = {}
        with self._store._lock:
            for row in self._rows.values():
                found.setdefault(row.rule, []).append(row)
        return {
            rule: Holding(
                sum(row.line >= 0 for row in rows), len(rows), max(row.held_at for row in rows)
            )
            for rule, rows in found.items()
        }

    def replace(self, row_id: int, refused: Refused) -> None:
        """A held row was refused anew."""
        with self._changing():
            old = self._rows.get(row_id)
            if old is not None and old.line >= 0:
                new = normal(refused)
                self._rows[row_id] = replace(old, rule=new.rule, reason=new.reason, row=new.row)

    def settle(self, ids: Sequence[int]) -> int:
        """Let rows go, but for what they are known by."""
        with self._changing():
            held = [row for row in self.rows(limit=None) if row.row_id in set(ids)]
            for row in held:
                self._rows[row.row_id] = replace(row, where="", line=-1, reason="", row={})
            return len(held)

    def forget(self, import_id: int) -> int:
        """Remove all rows of an import that is undone."""
        with self._store._lock:
            return self._remove([r for r in self._rows.values() if r.import_id == import_id])

    def erase(self, user: bytes) -> int:
        """Remove the user's rows, and rows about them; what they are known by may stay."""
        with self._store.transaction():
            theirs = [row for row in self.rows(limit=None) if names(row.row, user)]
            self.settle([row.row_id for row in theirs if row.row.get("digest")])
            self._remove([row for row in theirs if not row.row.get("digest")])
            return len(theirs)

    def holds(self, user: bytes) -> bool:
        """Whether there is a row of this user or about them."""
        return any(names(row.row, user) for row in self.rows(limit=None))

    def _remove(self, rows: Sequence[Refused]) -> int:
        gone = {row.row_id for row in rows}
        with self._changing():
            self._rows = {n: row for n, row in self._rows.items() if n not in gone}
            self._known = {key: n for key, n in self._known.items() if n not in gone}
        return len(gone)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self._store._lock:
            rows, known = dict(self._rows), dict(self._known)

            def undo() -> None:
                self._rows, self._known = rows, known

            with self._store.writing(undo):
                yield


class MemoryImports:
    """Imports by id."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._entries: dict[int, Import] = {}

    def start(self, where: str, now: int) -> Import:
        """Open a new entry with the next id, from 1."""
        with self._store._lock:
            entry = Import(max(self._entries, default=0) + 1, where, now)
            self.save(entry)
        return entry

    def save(self, entry: Import) -> None:
        """Replace the entry of the same id."""
        with self._store._lock:
            old = dict(self._entries)
            with self._store.writing(lambda: setattr(self, "_entries", old)):
                self._entries[entry.import_id] = entry

    def entries(self) -> list[Import]:
        """All entries, oldest first."""
        with self._store._lock:
            return [self._entries[import_id] for import_id in sorted(self._entries)]


def checked(positions: I64, head: Position) -> I64:
    """Positions sorted, each once. Raises ValueError if one is not in the log."""
    wanted = np.unique(np.asarray(positions, np.int64))
    if len(wanted) and (wanted[0] < 0 or wanted[-1] >= head):
        raise ValueError(f"positions {wanted[0]} to {wanted[-1]} are not all in a log of {head}")
    return wanted


def _of_users(
    found: Iterator[tuple[Position, EventBatch]], users: Collection[bytes]
) -> Iterator[tuple[I64, EventBatch]]:
    for first, batch in found:
        rows = np.flatnonzero(among(*batch.codes("user_id"), users))
        if len(rows):
            yield first + rows, EventBatch(compact(batch.take(rows).table))


def _between(
    batches: list[EventBatch], start: Position, stop: Position
) -> Iterator[tuple[Position, EventBatch]]:
    first = 0
    for batch in batches:
        low, high = max(start, first), min(stop, first + len(batch))
        for place in range(low, high, READ_ROWS):
            yield place, batch.slice(place - first, min(place + READ_ROWS, high) - first)
        first += len(batch)
