"""What is shown between two refreshes, and the changes to be told, in plain containers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from limner.profile.changes import Change
from limner.profile.shown import Row


class _Store(Protocol):
    def transaction(self) -> AbstractContextManager[None]:
        """All writes inside happen, or none."""
        ...

    def writing(self, undo: Callable[[], object]) -> AbstractContextManager[None]:
        """One write, and how to take it back."""
        ...


class MemoryShown:
    """Contents by user and name."""

    name = "shown slots"

    def __init__(self, store: _Store) -> None:
        self._store = store
        self._rows: dict[bytes, dict[str, bytes]] = {}

    def put(self, rows: Sequence[Row]) -> None:
        """Keep these contents, in place of those of the same user and name."""
        with self._changing() as kept:
            for user, name, body in rows:
                kept[user] = {**kept.get(user, {}), name: body}

    def of(self, user: bytes, names: Collection[str]) -> dict[str, bytes]:
        """A user's contents by name, of these names."""
        with self._store.transaction():
            rows = self._rows.get(user, {})
            return {name: body for name, body in rows.items() if name in names}

    def users(self, name: str) -> set[bytes]:
        """Who has a content of this name."""
        with self._store.transaction():
            return {user for user, rows in self._rows.items() if name in rows}

    def drop(self, name: str | None = None, users: Iterable[bytes] | None = None) -> None:
        """Remove the contents of a name (of every one), of these users (of all)."""
        with self._changing() as kept:
            for user in list(kept) if users is None else users:
                rows = kept.pop(user, {})
                left = {own: body for own, body in rows.items() if name not in (None, own)}
                if left:
                    kept[user] = left

    def erase(self, user: bytes) -> int:
        """Remove all of a user's."""
        with self._changing() as kept:
            return len(kept.pop(user, {}))

    def holds(self, user: bytes) -> bool:
        """Whether anything is kept of this pseudonym."""
        return user in self._rows

    @contextmanager
    def _changing(self) -> Iterator[dict[bytes, dict[str, bytes]]]:
        with self._store.transaction():
            old = dict(self._rows)
            with self._store.writing(lambda: setattr(self, "_rows", old)):
                yield self._rows


class MemoryOutbox:
    """Changes in order."""

    name = "changes"

    def __init__(self, store: _Store) -> None:
        self._store = store
        self._kept: list[tuple[int, str, bytes]] = []
        self._last = 0
        self._dropped = 0

    def add(self, changes: Sequence[Change], *, keep: int) -> None:
        """Append changes under the next ids; keep the newest."""
        with self._store.transaction():
            old = (self._kept, self._last, self._dropped)

            def undo() -> None:
                self._kept, self._last, self._dropped = old

            with self._store.writing(undo):
                numbered = [
                    (number, change.user, change.pack())
                    for number, change in enumerate(changes, old[1] + 1)
                ]
                self._last += len(changes)
                self._dropped = max(self._dropped, self._last - keep)
                self._kept = [row for row in [*old[0], *numbered] if row[0] > self._dropped]

    def after(self, last: int, *, limit: int = 100) -> list[Change]:
        """The first changes with an id above `last`, ascending."""
        with self._store.transaction():
            found = [row for row in self._kept if row[0] > last][:limit]
        return [Change.unpack(number, body) for number, _, body in found]

    def last(self) -> int:
        """The highest id ever given."""
        return self._last

    def dropped(self) -> int:
        """The highest id that the bound has let go of."""
        return self._dropped

    def erase(self, user: bytes) -> int:
        """Remove a user's changes."""
        with self._store.transaction():
            old = self._kept
            with self._store.writing(lambda: setattr(self, "_kept", old)):
                self._kept = [row for row in old if row[1] != user.hex()]
                return len(old) - len(self._kept)

    def holds(self, user: bytes) -> bool:
        """Whether a change of this pseudonym is kept."""
        return any(own == user.hex() for _, own, _ in self._kept)
