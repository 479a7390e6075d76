"""What is shown of users between two refreshes, kept beside the log and erased with the user."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import msgspec
import numpy as np

from limner.events.log import Position
from limner.profile.facet import Entry, Slot

Row = tuple[bytes, str, bytes]
"""A pseudonym, the name of what is shown, and its content."""


class ShownTable(Protocol):
    """Keeps one content for each user and name; an `Erasable` too."""

    @property
    def name(self) -> str:
        """What a receipt calls it."""
        ...

    def put(self, rows: Sequence[Row]) -> None:
        """Keep these contents, in place of those of the same user and name."""
        ...

    def of(self, user: bytes, names: Collection[str]) -> dict[str, bytes]:
        """A user's contents by name, of these names."""
        ...

    def users(self, name: str) -> set[bytes]:
        """Who has a content of this name."""
        ...

    def drop(self, name: str | None = None, users: Iterable[bytes] | None = None) -> None:
        """Remove the contents of a name (of every one), of these users (of all)."""
        ...

    def erase(self, user: bytes) -> int:
        """Remove all of a user's; return how many there were."""
        ...

    def holds(self, user: bytes) -> bool:
        """Whether anything is kept of this pseudonym."""
        ...


@dataclass(frozen=True, slots=True)
class Shown:
    """A facet's slots as they were read at `refreshed_at` (µs) from the log before `as_of`."""

    slots: tuple[Slot, ...]
    refreshed_at: int
    as_of: Position

    def pack(self) -> bytes:
        """As JSON."""
        return msgspec.json.encode(self, enc_hook=plain)

    @classmethod
    def unpack(cls, body: bytes) -> Shown:
        """What `pack` wrote; each slot says when it was refreshed."""
        found = msgspec.json.decode(body, type=cls)
        return replace(
            found,
            slots=tuple(
                replace(
                    slot,
                    value=_entries(slot.value),
                    refreshed_at=found.refreshed_at,
                    as_of=found.as_of,
                )
                for slot in found.slots
            ),
        )


def shown_of(table: ShownTable, user: bytes, names: Collection[str]) -> dict[str, tuple[Slot, ...]]:
    """The slots of facets of these names as they were last refreshed; without those never."""
    if not names:
        return {}
    return {name: Shown.unpack(body).slots for name, body in table.of(user, names).items()}


def _entries(value: Any) -> Any:
    """A list of ranked things is one of entries again; any other value stays as it is."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        try:
            return msgspec.convert(value, list[Entry])
        except msgspec.ValidationError:
            return value
    return value


def plain(value: object) -> object:
    """A number of numpy as one of Python, for JSON."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be kept")
