"""The default store: one SQLite file, one writer, any number of readers beside it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from limner.events.raw import Holding, Import, Refused
from limner.privacy.erasable import Erasable
from limner.privacy.identity import Sealed
from limner.stores.answered import SqliteAnswers
from limner.stores.database import Database
from limner.stores.keys import SqliteApiKeys
from limner.stores.letters import SqliteDeadLetters
from limner.stores.refused import held_since, key_of, names, pack, unpack
from limner.stores.sqlite_log import SqliteLog
from limner.stores.sqlite_shown import SqliteOutbox, SqliteShown


class SqliteStore:
    """A `Store` in the file at `path`; `holder` says in the lock who writes.

    Raises StoreBusy if another process writes to it, StoreError if it is to be read and is not
    there or was made by a newer Limner, StoreCorrupt if the file is no such store.
    """

    def __init__(self, path: Path, *, write: bool = True, holder: str = "limner") -> None:
        self.path = path
        self._database = Database(path, write=write, holder=holder)
        self.log = SqliteLog(self._database, self.home / "lookup")
        self.identities = SqliteIdentities(self._database)
        self.quarantine = SqliteQuarantine(self._database)
        self.imports = SqliteImports(self._database)
        self.shown = SqliteShown(self._database)
        self.outbox = SqliteOutbox(self._database)
        self.dead_letters = SqliteDeadLetters(self._database)
        self.answers = SqliteAnswers(self._database)
        self.api_keys = SqliteApiKeys(path)
        if write:
            self.log.sweep()

    @property
    def erasables(self) -> Sequence[Erasable]:
        """All of the above but imports, answers and API keys, which name nobody."""
        return (
            self.log,
            self.identities,
            self.quarantine,
            self.shown,
            self.outbox,
            self.dead_letters,
        )

    @property
    def home(self) -> Path:
        """The folder beside the file; made by whoever first puts something there."""
        return self.path.with_suffix(".data")

    @property
    def fresh(self) -> bool:
        """Whether nothing was in the store when it was opened: no keys known, no rows."""
        return self._database.fresh

    def writer(self) -> str:
        """A name of the one that now holds the write lock; "" if none does."""
        return self._database.writer()

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
        self.log.join()
        self._database.close()


AT_ONCE = 1_000
"""Rows of a statement: each gives other threads the interpreter once, and waits to have it back."""


class SqliteIdentities:
    """Sealed identities in the table `identity`."""

    name = "identity table"

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, rows: Sequence[Sealed]) -> None:
        """Keep rows whose pseudonym is new."""
        if not rows:
            return
        # in the table's order: neighbours lie in the same page
        ordered = sorted((r.pseudonym, r.key_version, r.sealed_id, r.wrapped_key) for r in rows)
        with self._database.transaction() as connection:
            for start in range(0, len(ordered), AT_ONCE):
                part = ordered[start : start + AT_ONCE]
                places = ", ".join(["(?, ?, ?, ?)"] * len(part))
                connection.execute(
                    f"INSERT OR IGNORE INTO identity VALUES {places}", [*chain(*part)]
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

    def add(self, refused: Sequence[Refused], *, import_id: int = 0, now: int = 0) -> list[Refused]:
        """Keep rows that are neither held nor settled; return them."""
        new = []
        if refused:
            with self._database.transaction() as connection:
                for row in refused:
                    done = connection.execute(
                        "INSERT OR IGNORE INTO quarantine"
                        "(content, place, line, rule, reason, row, import_id) "
                        "VALUES (?, ?, ?, ?, ?, ?, ?)",
                        (key_of(row), row.where, row.line, row.rule, row.reason, pack(row.row, now),
                         import_id),
                    )  # fmt: skip
                    if done.rowcount:
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
        found = self._database.query(
            "SELECT place, line, rule, reason, row, id, import_id FROM quarantine "
            "WHERE line >= 0 AND (?1 IS NULL OR import_id = ?1) AND (?2 IS NULL OR rule = ?2) "
            "AND (?3 IS NULL OR id IN (SELECT value FROM json_each(?3))) "
            "ORDER BY id DESC LIMIT ?4",
            import_id,
            rule,
            None if ids is None else msgspec.json.encode(list(ids)).decode(),
            -1 if limit is None else limit,
        )
        return [
            Refused(where, line, rule, reason, unpack(row), row_id, own, held_since(row))
            for where, line, rule, reason, row, row_id, own in found
        ]

    def counts(self) -> dict[str, int]:
        """How many rows each rule holds."""
        sql = "SELECT rule, count(*) FROM quarantine WHERE line >= 0 GROUP BY rule"
        return dict(self._database.query(sql))

    def holdings(self) -> dict[str, Holding]:
        """What each rule has refused so far."""
        rows = self._database.query(
            "SELECT rule, sum(line >= 0), count(*), max(coalesce(row ->> '$.held_at', 0)) "
            "FROM quarantine GROUP BY rule"
        )
        return {rule: Holding(held, ever, last) for rule, held, ever, last in rows}

    def replace(self, row_id: int, refused: Refused) -> None:
        """A held row was refused anew."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE quarantine SET rule = ?, reason = ?, row = json_set(?, '$.held_at', "
                "row ->> '$.held_at') WHERE id = ? AND line >= 0",
                (refused.rule, refused.reason, pack(refused.row), row_id),
            )

    def settle(self, ids: Sequence[int]) -> int:
        """Let rows go, but for what they are known by."""
        with self._database.transaction() as connection:
            return self._blank(connection, ids)

    def forget(self, import_id: int) -> int:
        """Remove all rows of an import that is undone."""
        with self._database.transaction() as connection:
            done = connection.execute("DELETE FROM quarantine WHERE import_id = ?", (import_id,))
            if done.rowcount:
                self._database.scrub()
            return done.rowcount

    def erase(self, user: bytes) -> int:
        """Remove the user's rows, and rows about them, with their bytes.

        What a row with an identity is known by stays, as in the log, so that reading it again
        brings nobody back.
        """
        with self._database.transaction() as connection:
            gone = self._of(user)
            self._blank(connection, [row_id for row_id, row in gone if row.get("digest")])
            connection.executemany(
                "DELETE FROM quarantine WHERE id = ?",
                ((row_id,) for row_id, row in gone if not row.get("digest")),
            )
            if gone:
                self._database.scrub()
            return len(gone)

    def holds(self, user: bytes) -> bool:
        """Whether there is a row of this user or about them."""
        return bool(self._of(user))

    @staticmethod
    def _blank(connection: sqlite3.Connection, ids: Sequence[int]) -> int:
        done = connection.executemany(
            "UPDATE quarantine SET place = '', line = -1, reason = '', "
            "row = json_object('held_at', row ->> '$.held_at') WHERE id = ? AND line >= 0",
            ((row_id,) for row_id in ids),
        )
        return max(done.rowcount, 0)

    def _of(self, user: bytes) -> list[tuple[int, dict[str, Any]]]:
        rows = self._database.query(
            "SELECT id, row FROM quarantine WHERE line >= 0 AND instr(row, ?)", user.hex()
        )
        found = [(row_id, unpack(row)) for row_id, row in rows]
        return [(row_id, row) for row_id, row in found if names(row, user)]


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
