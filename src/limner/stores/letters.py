"""What webhooks could not deliver: in a table of SQLite, and in memory."""

from __future__ import annotations

import msgspec

from limner.profile.shown import plain
from limner.profile.webhooks import Letter
from limner.stores.database import Database


class SqliteDeadLetters:
    """Letters in the table `dead_letter`."""

    name = "dead letters"

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, letter: Letter) -> None:
        """Keep a letter, in place of the one of the same webhook and change."""
        body = msgspec.json.encode(letter, enc_hook=plain)
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO dead_letter VALUES (?, ?, ?, ?)",
                (letter.webhook, letter.change.id, bytes.fromhex(letter.change.user), body),
            )

    def of(self, webhook: str) -> list[Letter]:
        """A webhook's letters, oldest change first."""
        if not self._database.query("SELECT 1 FROM sqlite_master WHERE name = 'dead_letter'"):
            return []  # a store that an older Limner made, opened for reading
        rows = self._database.query(
            "SELECT body FROM dead_letter WHERE webhook = ? ORDER BY change", webhook
        )
        return [msgspec.json.decode(body, type=Letter) for (body,) in rows]

    def drop(self, webhook: str, change: int) -> None:
        """It was delivered after all."""
        with self._database.transaction() as connection:
            connection.execute(
                "DELETE FROM dead_letter WHERE webhook = ? AND change = ?", (webhook, change)
            )

    def erase(self, user: bytes) -> int:
        """Remove a user's letters, with their bytes."""
        with self._database.transaction() as connection:
            done = connection.execute("DELETE FROM dead_letter WHERE user = ?", (user,))
            if done.rowcount:
                self._database.scrub()
            return done.rowcount

    def holds(self, user: bytes) -> bool:
        """Whether a letter about this pseudonym is kept."""
        sql = "SELECT 1 FROM dead_letter WHERE user = ? LIMIT 1"
        return bool(self._database.query(sql, user))


class MemoryDeadLetters:
    """Letters by webhook and change."""

    name = "dead letters"

    def __init__(self) -> None:
        self._letters: dict[tuple[str, int], Letter] = {}

    def put(self, letter: Letter) -> None:
        """Keep a letter, in place of the one of the same webhook and change."""
        self._letters[letter.webhook, letter.change.id] = letter

    def of(self, webhook: str) -> list[Letter]:
        """A webhook's letters, oldest change first."""
        return [self._letters[key] for key in sorted(self._letters) if key[0] == webhook]

    def drop(self, webhook: str, change: int) -> None:
        """It was delivered after all."""
        self._letters.pop((webhook, change), None)

    def erase(self, user: bytes) -> int:
        """Remove a user's letters."""
        gone = [key for key, each in self._letters.items() if each.change.user == user.hex()]
        for key in gone:
            del self._letters[key]
        return len(gone)

    def holds(self, user: bytes) -> bool:
        """Whether a letter about this pseudonym is kept."""
        return any(each.change.user == user.hex() for each in self._letters.values())
