"""Which keys the "newest" maps of users let go, so that one that comes back is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from limner.events.batch import I64

NOTHING: I64 = np.empty(0, dtype=np.int64)


class Spilled:
    """Row of a user → the keys that the user's map let go and has not taken in again.

    8 bytes a key, ascending; only users whose map overflowed have any. A set of keys is a monoid
    under union, so how many different keys there ever were, kept or let go, is exact in any order.
    """

    __slots__ = ("_base", "_own")

    def __init__(self) -> None:
        self._own: dict[int, I64] = {}
        self._base: tuple[I64, I64, I64] = (NOTHING, np.zeros(1, dtype=np.int64), NOTHING)
        """What was loaded: (rows ascending, where the keys of each begin, keys)."""

    def __bool__(self) -> bool:
        return bool(self._own) or len(self._base[0]) > 0

    def of(self, row: int) -> I64:
        """The keys of a user, ascending."""
        own = self._own.get(row)
        if own is not None:
            return own
        rows, starts, keys = self._base
        place = int(rows.searchsorted(row))
        if place == len(rows) or rows[place] != row:
            return NOTHING
        return keys[starts[place] : starts[place + 1]]

    def add(self, row: int, keys: npt.NDArray[Any]) -> int:
        """Add keys of a user, none twice; return how many are new."""
        known = self.of(row)
        self._own[row] = np.union1d(known, keys.astype(np.int64))
        return len(self._own[row]) - len(known)

    def take(self, row: int, keys: npt.NDArray[Any]) -> int:
        """Remove those of these keys, none twice, that are there; return how many."""
        known = self.of(row)
        place = known.searchsorted(keys)
        found = place[place < len(known)]
        found = found[known[found] == keys[place < len(known)]]
        if len(found):
            self._own[row] = np.delete(known, found)
        return len(found)

    def clear(self, rows: I64) -> None:
        """Forget the keys of these users."""
        for row in rows.tolist() if self else ():
            if len(self.of(row)):
                self._own[row] = NOTHING

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Everything, by name, for a snapshot."""
        rows = np.union1d(self._base[0], np.array(list(self._own), dtype=np.int64))
        parts = [self.of(row) for row in rows.tolist()]
        sizes = np.array([len(part) for part in parts], dtype=np.int64)
        keys = np.concatenate([NOTHING, *parts])
        starts = np.append(0, np.cumsum(sizes[sizes > 0]))
        return {"spilled.rows": rows[sizes > 0], "spilled.starts": starts, "spilled.keys": keys}

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take what `arrays` gave."""
        self._own = {}
        rows, starts, keys = (arrays[f"spilled.{name}"] for name in ("rows", "starts", "keys"))
        self._base = (rows, starts, keys)
