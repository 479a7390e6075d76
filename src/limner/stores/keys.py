"""API keys in a store: a table of SQLite that any process may write to, and one in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from limner.errors import StoreError
from limner.privacy.access import ApiKey

BUSY_SECONDS = 10.0

TABLE = "CREATE TABLE IF NOT EXISTS api_key (name TEXT PRIMARY KEY, body TEXT NOT NULL)"


class SqliteApiKeys:
    """Keys in the table `api_key` of the file at `path`.

    Opens the file for each call, so that keys can be changed while a server holds the write lock:
    SQLite itself has the two take turns, for a millisecond.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def every(self) -> list[ApiKey]:
        """All keys by name."""
        with self._opened() as connection:
            if not connection.execute(
                "SELECT 1 FROM sqlite_master WHERE name = 'api_key'"
            ).fetchone():
                return []
            rows = connection.execute("SELECT body FROM api_key ORDER BY name").fetchall()
        return [msgspec.json.decode(body, type=ApiKey) for (body,) in rows]

    def add(self, key: ApiKey) -> bool:
        """Keep a key unless there is one of its name."""
        return self._write("INSERT OR IGNORE INTO api_key VALUES (?, ?)", key) > 0

    def save(self, key: ApiKey) -> None:
        """Replace the key of its name."""
        self._write("INSERT OR REPLACE INTO api_key VALUES (?, ?)", key)

    def _write(self, sql: str, key: ApiKey) -> int:
        with self._opened() as connection:
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA secure_delete=ON")
            connection.execute(TABLE)
            body = msgspec.json.encode(key).decode()
            return connection.execute(sql, (key.name, body)).rowcount

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        if not self._path.exists():
            raise StoreError("there is no store here", where=str(self._path), mend="limner init")
        try:
            connection = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode=rw",
                uri=True,
                timeout=BUSY_SECONDS,
                isolation_level=None,
            )
            try:
                yield connection
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise StoreError(
                f"SQLite cannot go on: {error}",
                where=str(self._path),
                mend="see that the file is a store and can be written to",
            ) from error


class MemoryApiKeys:
    """Keys for as long as the process lives."""

    def __init__(self) -> None:
        self._keys: dict[str, ApiKey] = {}

    def every(self) -> list[ApiKey]:
        """All keys by name."""
        return [self._keys[name] for name in sorted(self._keys)]

    def add(self, key: ApiKey) -> bool:
        """Keep a key unless there is one of its name."""
        return self._keys.setdefault(key.name, key) is key

    def save(self, key: ApiKey) -> None:
        """Replace the key of its name."""
        self._keys[key.name] = key
