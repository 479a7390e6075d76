"""Which row of the state belongs to which user: pseudonyms in an array, found by hashing.

A million users in a dict and a list take 200 bytes each and most of a second to build. Here a user
takes 16 bytes and 6 to 12 of an open-addressing table (linear probing, at most two thirds full;
Knuth, The Art of Computer Programming, 6.4), whole batches are looked up with a few numpy calls,
and both arrays are used as they lie in a snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from limner.events.arrays import Grow
from limner.events.batch import I64

_SMALLEST = 64
_EMPTY = -1
# odd constants of splitmix64 (Steele, Lea and Flood, 2014); pseudonyms are uniform already
_MIX, _SPREAD = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)

Arrays = Mapping[str, npt.NDArray[Any]]
NO_ROOM: Arrays = {}

Pseudonyms = npt.NDArray[np.uint64]
"""(n, 2): the two halves of each 16-byte pseudonym, as they lie in memory."""


class Rows(Mapping[bytes, int]):
    """Pseudonym → row, for rows 0, 1, 2 …; the row of a user who left goes to the next one.

    >>> rows = Rows()
    >>> rows.add([b"a" * 16, b"b" * 16, b"a" * 16]).tolist(), rows.remove(b"a" * 16)
    ([0, 1, 0], 0)
    >>> rows.add([b"c" * 16]).tolist(), dict(rows) == {b"b" * 16: 1, b"c" * 16: 0}
    ([0], True)
    """

    __slots__ = ("_free", "_keys", "_slots")

    def __init__(self) -> None:
        self._keys = Grow("u8", 0, 2)
        self._slots: npt.NDArray[np.int32] = np.full(_SMALLEST, _EMPTY, np.int32)
        self._free: list[int] = []

    def __len__(self) -> int:
        return self._keys.n - len(self._free)

    @property
    def size(self) -> int:
        """How many rows there are, those that users left included."""
        return self._keys.n

    @property
    def live(self) -> I64:
        """The rows of all users, ascending."""
        mask = np.ones(self.size, dtype=bool)
        mask[self._free] = False
        return mask.nonzero()[0]

    @property
    def keys_of(self) -> Pseudonyms:
        """The pseudonym of every row, zero where its user left; a view."""
        view: Pseudonyms = self._keys.view
        return view

    def key(self, row: int) -> bytes | None:
        """The pseudonym of a row; None if its user left."""
        return None if row in self._free else self._keys.data[row].tobytes()

    def __iter__(self) -> Iterator[bytes]:
        packed = self._keys.data[self.live].tobytes()
        return iter([packed[at : at + 16] for at in range(0, len(packed), 16)])

    def __getitem__(self, user: bytes) -> int:
        row = int(self._slots[self._slot(user)])
        if row == _EMPTY:
            raise KeyError(user)
        return row

    def _slot(self, user: bytes) -> int:
        """Where a pseudonym's row is in the table, or would be."""
        slots, keys = self._slots, self._keys.data
        wanted = _halves([user])
        slot = int(_homes(wanted, len(slots))[0])
        while (row := int(slots[slot])) != _EMPTY and keys[row].tobytes() != user:
            slot = (slot + 1) & (len(slots) - 1)
        return slot

    def find(self, users: Sequence[bytes]) -> I64:
        """The row of each pseudonym, −1 where there is none."""
        return self._find(_halves(users))

    def add(self, users: Sequence[bytes]) -> I64:
        """The row of each pseudonym; a new one gets a row."""
        if len(users) == 1 and (row := self.get(users[0])) is not None:
            return np.array([row])
        keys = _halves(users)
        rows = self._find(keys)
        new = (rows == -1).nonzero()[0]
        if len(new):
            # in the order of their arrival, so that the same log gives the same rows
            first, inverse = _firsts(keys[new])
            given = self._take(len(first))
            rows[new] = given[inverse]
            self._keys.data[given] = keys[new[first]]
            if 3 * len(self) > 2 * len(self._slots):
                self._slots = self._rebuilt()
            else:
                _insert(self._slots, self._keys.data, given)
        return rows

    def _take(self, n: int) -> I64:
        """`n` rows without a user."""
        reused = [self._free.pop() for _ in range(min(n, len(self._free)))]
        start = self.size
        self._keys.resize(start + n - len(reused))
        return np.array([*reused, *range(start, self.size)], dtype=np.int64)

    def remove(self, user: bytes) -> int | None:
        """Forget a pseudonym; the row that it had, or None."""
        slots = self._slots
        hole = self._slot(user)
        row = int(slots[hole])
        if row == _EMPTY:
            return None
        self._keys.data[row] = 0
        self._free.append(row)
        # whoever was put further on because this slot was taken moves up (Knuth, Algorithm R)
        slot = hole
        while (other := int(slots[slot := (slot + 1) & (len(slots) - 1)])) != _EMPTY:
            home = int(_homes(self._keys.data[other : other + 1], len(slots))[0])
            if (slot - home) & (len(slots) - 1) >= (slot - hole) & (len(slots) - 1):
                slots[hole], hole = other, slot
        slots[hole] = _EMPTY
        return row

    def _find(self, keys: Pseudonyms) -> I64:
        # the table first: whoever looks while another thread adds may miss what is just added,
        # and finds all that was there
        slots, known = self._slots, self._keys.data
        out = np.full(len(keys), -1, np.int64)
        slot, left = _homes(keys, len(slots)), np.arange(len(keys))
        while len(left):
            rows = slots[slot]
            there = ((rows != _EMPTY) & (rows < len(known))).nonzero()[0]
            left, slot, rows = left[there], slot[there], rows[there]
            same = (known[rows] == keys[left]).all(axis=1)
            out[left[same]] = rows[same]
            left, slot = left[~same], (slot[~same] + 1) & (len(slots) - 1)
        return out

    def _rebuilt(self) -> npt.NDArray[np.int32]:
        """A table of all users, at most two fifths full, so that it has room for some time."""
        room = len(self._slots)
        while 5 * len(self) > 2 * room:
            room *= 2
        slots = np.full(room, _EMPTY, np.int32)
        _insert(slots, self._keys.data, self.live)
        return slots

    # -- snapshots ---------------------------------------------------------------------------

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Everything, by name, for a snapshot."""
        return {
            "users": self._keys.view,
            "slots": self._slots,
            "free": np.array(self._free, dtype=np.int64),
        }

    def load(self, arrays: Arrays, rooms: Arrays = NO_ROOM) -> None:
        """Take what `arrays` gave; see `ProfileState.load`."""
        self._keys.load(arrays["users"], rooms.get("users"))
        self._slots = arrays["slots"]
        self._free = arrays["free"].tolist()


def _halves(users: Sequence[bytes]) -> Pseudonyms:
    return np.frombuffer(b"".join(users), np.uint64).reshape(-1, 2)


def _firsts(keys: Pseudonyms) -> tuple[I64, I64]:
    """(where each different key first comes, ascending; which of these each key is)."""
    everyone = np.arange(len(keys))
    if len(np.unique(keys[:, 0])) == len(keys):  # as nearly always
        return everyone, everyone
    _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    place = np.empty(len(first), np.int64)
    place[np.argsort(first)] = np.arange(len(first))
    return np.sort(first), place[inverse.reshape(-1)]


def _homes(keys: Pseudonyms, room: int) -> I64:
    """The place of each key in a table of `room` (a power of two) places."""
    mixed = (keys[:, 0] ^ (keys[:, 1] * _MIX)) * _SPREAD
    homes: I64 = (mixed >> np.uint64(65 - room.bit_length())).astype(np.int64)
    return homes


def _insert(slots: npt.NDArray[np.int32], keys: Pseudonyms, rows: I64) -> None:
    """Put rows whose keys are not there yet into a table, which has room for them."""
    slot = _homes(keys[rows], len(slots))
    while len(rows):
        vacant = (slots[slot] == _EMPTY).nonzero()[0]
        slots[slot[vacant]] = rows[vacant]  # of those who want one place, one gets it
        left = slots[slot] != rows
        rows, slot = rows[left], (slot[left] + 1) & (len(slots) - 1)
