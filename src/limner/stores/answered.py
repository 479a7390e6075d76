"""What requests that carry a key of their own were answered, so that a repeat is answered alike.

A request is known by keyed digests, so nothing here names a user; but an answer may quote what
was sent, so with every erasure all answers go, and that they were given stays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from limner.stores.database import Database
    from limner.stores.memory import MemoryStore

KEPT_FOR = 86_400_000_000
"""µs for which an answer is kept: a day."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer given `at` (µs): its request's digest, its status and body; None where it went."""

    request: bytes
    at: int
    status: int
    kind: str
    body: bytes | None


class Answers(Protocol):
    """Keeps answers for a day, by the digest of their requests' key."""

    def get(self, key: bytes, now: int) -> Answered | None:
        """The answer to the request of this key, if it was given in the day before `now` (µs)."""
        ...

    def put(self, key: bytes, answer: Answered) -> None:
        """Keep an answer, and let go of those that are a day older."""
        ...

    def blank(self) -> int:
        """Forget what every answer said; how many there were."""
        ...


class SqliteAnswers:
    """Answers in the table `answer`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, key: bytes, now: int) -> Answered | None:
        """The answer that was given, if it is not a day old."""
        rows = self._database.query(
            "SELECT request, at, status, kind, body FROM answer WHERE key = ? AND at > ?",
            key, now - KEPT_FOR,
        )  # fmt: skip
        return Answered(*rows[0]) if rows else None

    def put(self, key: bytes, answer: Answered) -> None:
        """Keep an answer; those that are a day older go."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM answer WHERE at <= ?", (answer.at - KEPT_FOR,))
            connection.execute(
                "INSERT OR REPLACE INTO answer (key, request, at, status, kind, body) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (key, answer.request, answer.at, answer.status, answer.kind, answer.body),
            )

    def blank(self) -> int:
        """Forget what every answer said, and its bytes."""
        with self._database.transaction() as connection:
            done = connection.execute("UPDATE answer SET body = NULL WHERE body IS NOT NULL")
            if done.rowcount:
                self._database.scrub()
            return max(done.rowcount, 0)


class MemoryAnswers:
    """Answers in a dictionary."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._kept: dict[bytes, Answered] = {}

    def get(self, key: bytes, now: int) -> Answered | None:
        """The answer that was given, if it is not a day old."""
        found = self._kept.get(key)
        return found if found is not None and found.at > now - KEPT_FOR else None

    def put(self, key: bytes, answer: Answered) -> None:
        """Keep an answer; those that are a day older go."""
        old = self._kept
        with self._store.writing(lambda: setattr(self, "_kept", old)):
            left = {k: one for k, one in old.items() if one.at > answer.at - KEPT_FOR}
            self._kept = {**left, key: answer}

    def blank(self) -> int:
        """Forget what every answer said."""
        old = self._kept
        with self._store.writing(lambda: setattr(self, "_kept", old)):
            self._kept = {key: replace(one, body=None) for key, one in old.items()}
            return sum(one.body is not None for one in old.values())
