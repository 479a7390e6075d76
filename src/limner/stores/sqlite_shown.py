"""What is shown between two refreshes, and the changes to be told, in two tables of SQLite."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from limner.profile.changes import Change
from limner.profile.shown import Row
from limner.stores.database import Database


class SqliteShown:
    """Contents in the table `shown`."""

    name = "shown slots"

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, rows: Sequence[Row]) -> None:
        """Keep these contents, in place of those of the same user and name."""
        if rows:
            with self._database.transaction() as connection:
                connection.executemany(
                    "INSERT OR REPLACE INTO shown (user, name, body) VALUES (?, ?, ?)", rows
                )

    def of(self, user: bytes, names: Collection[str]) -> dict[str, bytes]:
        """A user's contents by name, of these names."""
        marks = ", ".join("?" * len(names))
        sql = f"SELECT name, body FROM shown WHERE user = ? AND name IN ({marks})"
        return dict(self._database.query(sql, user, *names))

    def users(self, name: str) -> set[bytes]:
        """Who has a content of this name."""
        return {user for (user,) in self._database.query(_USERS, name)}

    def drop(self, name: str | None = None, users: Iterable[bytes] | None = None) -> None:
        """Remove the contents of a name (of every one), of these users (of all)."""
        with self._database.transaction() as connection:
            if users is None:
                connection.execute("DELETE FROM shown WHERE ?1 IS NULL OR name = ?1", (name,))
                return
            connection.executemany(
                "DELETE FROM shown WHERE user = ?1 AND (?2 IS NULL OR name = ?2)",
                ((user, name) for user in users),
            )

    def erase(self, user: bytes) -> int:
        """Remove all of a user's, with their bytes."""
        return _erase(self._database, "shown", user)

    def holds(self, user: bytes) -> bool:
        """Whether anything is kept of this pseudonym."""
        return bool(self._database.query("SELECT 1 FROM shown WHERE user = ? LIMIT 1", user))


class SqliteOutbox:
    """Changes in the table `change`."""

    name = "changes"

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, changes: Sequence[Change], *, keep: int) -> None:
        """Append changes under the next ids; keep the newest."""
        if not changes:
            return
        rows = [(bytes.fromhex(change.user), change.pack()) for change in changes]
        with self._database.transaction() as connection:
            connection.executemany("INSERT INTO change (user, body) VALUES (?, ?)", rows)
            connection.execute("DELETE FROM change WHERE id <= ?", (self.last() - keep,))
            dropped = max(self.dropped(), self.last() - keep)
            connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_DROPPED, dropped))

    def after(self, last: int, *, limit: int = 100) -> list[Change]:
        """The first changes with an id above `last`, ascending."""
        rows = self._database.query(
            "SELECT id, body FROM change WHERE id > ? ORDER BY id LIMIT ?", last, limit
        )
        return [Change.unpack(number, body) for number, body in rows]

    def last(self) -> int:
        """The highest id ever given."""
        rows = self._database.query("SELECT seq FROM sqlite_sequence WHERE name = 'change'")
        return int(rows[0][0]) if rows else 0

    def dropped(self) -> int:
        """The highest id that the bound has let go of."""
        rows = self._database.query("SELECT value FROM meta WHERE name = ?", _DROPPED)
        return int(rows[0][0]) if rows else 0

    def erase(self, user: bytes) -> int:
        """Remove a user's changes, with their bytes."""
        return _erase(self._database, "change", user)

    def holds(self, user: bytes) -> bool:
        """Whether a change of this pseudonym is kept."""
        return bool(self._database.query("SELECT 1 FROM change WHERE user = ? LIMIT 1", user))


_PUT = "INSERT OR REPLACE INTO shown (user, name, body) VALUES (?, ?, ?)"
_USERS = "SELECT user FROM shown WHERE name = ?"
_DROPPED = "changes dropped"


def _erase(database: Database, table: str, user: bytes) -> int:
    with database.transaction() as connection:
        done = connection.execute(f"DELETE FROM {table} WHERE user = ?", (user,))
        if done.rowcount:
            database.scrub()
        return done.rowcount
