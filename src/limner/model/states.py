"""What a reading of live users found, kept so that an event costs a step and not a history.

A model that reads a history moment by moment, none of which sees a later one, has to read only
what is not as it was. What is kept is taken up where all that was read of an event is the same,
so it does not matter how a history came to differ: a late event, a correction, another user in
the same row.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

import numpy as np

from limner.events.batch import I64, Bool
from limner.model.moments import in_order, read_from, starts
from limner.model.protocol import F32, History


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a history that is read: its events, the moment of each from 0, and which open
    one. `told` (5, n): all that is read of each event, floats by their bits. `age` tells a user's
    histories apart: the newest place in the log, and how many events.
    """

    history: History
    told: I64
    place: I64
    opens: Bool
    age: tuple[int, int]

    @classmethod
    def of(cls, history: History, length: int) -> Window:
        """The last moments of a history that is not empty, `length` and some (see `read_from`)."""
        order = in_order(history.times, history.groups)
        opens = starts(np.zeros(len(history), dtype=np.int64), order, history.groups)
        age = int(history.positions.max()), len(history)
        first = opens.nonzero()[0]
        at = read_from(history.items[first], history.times[first], length)
        if at:
            opens, history = opens[first[at] :], history.since(int(first[at]))
        return cls(history, _told(history), np.cumsum(opens) - 1, opens, age)

    def __len__(self) -> int:
        """How many moments it has."""
        return int(self.place[-1]) + 1


def _told(h: History) -> I64:
    out = np.empty((5, len(h)), dtype=np.int64)
    out[0], out[1], out[2] = h.items, h.times, h.groups
    floats = out[3:].view(np.float64)
    floats[0], floats[1] = h.weights, np.nan if h.values is None else h.values
    return out


@dataclass(frozen=True, slots=True)
class Kept:
    """What a reading of a window found.

    `rows`: what later moments need of each, (blocks, moments, C), of none where the model cannot
    go on from there; `newest`: the state after the last, (D,); `edition`: of the items that it was
    read with.
    """

    told: I64
    place: I64
    age: tuple[int, int]
    rows: F32
    newest: F32
    edition: object

    def agrees(self, window: Window, edition: object, lasting: int) -> int:
        """How many leading moments of `window` need not be read: all of them, if the newest state
        holds too. Items from `lasting` on are what they were in their own edition only.
        """
        told = window.told
        n = min(told.shape[1], self.told.shape[1])
        same = (told[:, :n] == self.told[:, :n]).all(axis=0)
        if edition is not self.edition:
            same &= told[0, :n] < lasting
        agreed = n if same.all() else int(same.argmin())
        if agreed == told.shape[1] == self.told.shape[1]:
            return len(window)
        ends = [of[agreed] for of in (window.place, self.place) if agreed < len(of)]
        return int(min(*ends, len(window) - 1, self.rows.shape[1]))

    @property
    def bytes(self) -> int:
        """About what it takes in memory."""
        arrays = (self.told, self.place, self.rows, self.newest)
        return sum(array.nbytes for array in arrays) + 1000


class States:
    """`Kept` by the row of the user, of at most `most` bytes: who was not read longest goes."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.bytes = 0
        self._kept: OrderedDict[int, Kept] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, row: int) -> Kept | None:
        """What is kept of a user."""
        with self._lock:
            found = self._kept.get(row)
            if found is not None:
                self._kept.move_to_end(row)
            return found

    def put(self, row: int, kept: Kept) -> None:
        """Keep this of a user, unless what is there is of a newer or fuller history: of one as it
        is, where this is of the same as if something in it had not happened.
        """
        with self._lock:
            old = self._kept.get(row)
            if old is not None and old.age > kept.age:
                return
            self.bytes += kept.bytes - (old.bytes if old is not None else 0)
            self._kept[row] = kept
            self._kept.move_to_end(row)
            while self.bytes > self.most:
                _, gone = self._kept.popitem(last=False)
                self.bytes -= gone.bytes

    def clear(self) -> None:
        """Let go of everything."""
        with self._lock:
            self._kept.clear()
            self.bytes = 0
