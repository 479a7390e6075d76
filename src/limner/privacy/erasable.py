"""What everything that persists must be able to do (law 6)."""

from __future__ import annotations

from typing import Protocol


class Erasable(Protocol):
    """Something that keeps data of users, on disk or in memory, and can let go of one."""

    @property
    def name(self) -> str:
        """What a receipt calls it."""
        ...

    def erase(self, user: bytes) -> int:
        """Remove what is kept of this pseudonym, for good; return how many records went."""
        ...

    def holds(self, user: bytes) -> bool:
        """Whether any read path still returns this pseudonym; what `verify` asks."""
        ...
