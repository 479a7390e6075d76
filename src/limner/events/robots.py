"""Who is no person: too many different items in seconds, or too many events in a day."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from limner.events.batch import DAY, I64, SECOND, Bool
from limner.events.once import U64
from limner.events.scales import BINS, log_bins, robust

CELLS = 1 << 15
"""Cells of each of the two rows of a day's sketch."""

KEPT = 4_096
"""Events by hand that are remembered for the speed of those that follow."""

_MINUTE = 60 * SECOND


class Days:
    """How many events each user has on the newest day and the one before, and is usual in a day.

    A day is a count-min sketch (Cormode and Muthukrishnan 2005) of two rows of `CELLS`: it may
    count a user too high, by 1/32,768 of the day's events on average, never too low, and holds
    no user. What is usual is a histogram of the first row's cells over all days. An event older
    than the day before the newest one seen before it counts nowhere, so the state depends on the
    order of events alone, not on how they are grouped.
    """

    __slots__ = ("counts", "histogram", "newest")

    def __init__(self) -> None:
        self.newest = -(2**40)
        self.counts: npt.NDArray[np.int32] = np.zeros((2, 2, CELLS), dtype=np.int32)
        self.histogram: I64 = np.zeros(BINS, dtype=np.int64)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Days)
            and self.newest == other.newest
            and np.array_equal(self.histogram, other.histogram)
            and all(
                np.array_equal(self.counts[day % 2], other.counts[day % 2])
                for day in (self.newest, self.newest - 1)
            )
        )

    __hash__ = None  # type: ignore[assignment]  # changes as it observes

    def bound(self, *, cut: float, observed: int, least: int) -> float:
        """The most events a day that may be a person's: at least `least`; inf while unknown."""
        middle, limit = robust(self.histogram[None], cut=cut, least=observed)
        place = middle[0] + limit[0] + 1  # the lower edge of the first bin beyond
        return float(max(least, 10 ** (place / 16 - 6))) if np.isfinite(place) else np.inf

    def so_far(self, users: U64, days: I64) -> I64:
        """How many events each user has on each day, 0 for days that are not kept."""
        kept = (days <= self.newest) & (days >= self.newest - 1)
        first, second = _cells(users)
        slot = days % 2
        found = np.minimum(self.counts[slot, 0, first], self.counts[slot, 1, second])
        return np.where(kept, found, 0).astype(np.int64)

    def observe(self, users: U64, times: I64) -> None:
        """Count these events, in their order."""
        if not len(users):
            return
        days = times // DAY
        reached = np.maximum.accumulate(np.maximum(days, self.newest))
        fresh = days >= reached - 1
        if not fresh.all():
            users, days = users[fresh], days[fresh]
            if not len(users):
                return
        last = int(days.max())
        for day in [int(days[0])] if days[0] == last == days.min() else np.unique(days).tolist():
            if day > self.newest:
                for passed in range(max(self.newest + 1, day - 1), day + 1):
                    self.counts[passed % 2] = 0
                self.newest = day
            first, second = _cells(users[days == day])
            row = self.counts[day % 2]
            touched = np.unique(first) if len(first) > 1 else first
            before = row[0, touched]
            np.add.at(row[0], first, 1)
            np.add.at(row[1], second, 1)
            np.subtract.at(self.histogram, log_bins(before[before > 0].astype(np.float64))[1], 1)
            np.add.at(self.histogram, log_bins(row[0, touched].astype(np.float64))[1], 1)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The state as arrays."""
        return {
            "day": np.array([self.newest], dtype=np.int64),
            "day_counts": self.counts.copy(),
            "day_histogram": self.histogram.copy(),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Days:
        """What `arrays` gave. Raises ValueError if it is of another size."""
        days = cls()
        if arrays["day_counts"].shape != days.counts.shape:
            raise ValueError("the counts of days have another size than this version's")
        days.newest = int(arrays["day"][0])
        days.counts[:] = arrays["day_counts"]
        days.histogram[:] = arrays["day_histogram"]
        return days


class Recent:
    """The last `KEPT` events by hand, for the speed of what follows; in memory only."""

    __slots__ = ("items", "times", "users")

    def __init__(self) -> None:
        self.users: U64 = np.empty(0, dtype=np.uint64)
        self.times: I64 = np.empty(0, dtype=np.int64)
        self.items: I64 = np.empty(0, dtype=np.int64)

    def observe(self, users: U64, times: I64, items: I64) -> None:
        """Remember these, and forget the oldest."""
        self.users = np.concatenate([self.users, users])[-KEPT:]
        self.times = np.concatenate([self.times, times])[-KEPT:]
        self.items = np.concatenate([self.items, items])[-KEPT:]

    def too_fast(
        self,
        users: U64,
        times: I64,
        items: Callable[[], I64],
        *,
        most: int,
        seconds: float,
    ) -> Bool:
        """Which events are among `most` or more different items of a user within `seconds`.

        `items` gives a number for the item of each; it is asked only where some events lie dense
        enough. Events whose time is a whole minute are left out: that is how times without
        seconds look.
        """
        out = np.zeros(len(users), dtype=bool)
        if len(users) == 1 and len(self.users):  # as live events come
            same = self.users == users[0]
        else:
            same = np.isin(self.users, users)
        if len(users) + int(same.sum()) < most:
            return out
        exact = np.flatnonzero(times % _MINUTE != 0)
        user = np.concatenate([self.users[same], users[exact]])
        time = np.concatenate([self.times[same], times[exact]])
        old = int(same.sum())
        order = np.lexsort((time, user))
        user, time = user[order], time[order]
        span = int(seconds * SECOND)
        ends = np.arange(most - 1, len(user))
        starts = ends - (most - 1)
        dense = (user[ends] == user[starts]) & (time[ends] - time[starts] <= span)
        if not dense.any():
            return out
        item = np.concatenate([self.items[same], items()[exact]])[order]
        fast = np.zeros(len(user), dtype=bool)
        for first, last in _stretches(starts[dense], ends[dense]):
            counts: dict[int, int] = {}
            start = first
            for end in range(first, last + 1):
                counts[int(item[end])] = counts.get(int(item[end]), 0) + 1
                while time[end] - time[start] > span:
                    left = int(item[start])
                    counts[left] -= 1
                    if not counts[left]:
                        del counts[left]
                    start += 1
                if len(counts) >= most:
                    fast[start : end + 1] = True
        found = order[fast]
        out[exact[found[found >= old] - old]] = True
        return out


def numbered(codes: I64) -> I64:
    """The number of each row among those of its code, from 1.

    >>> numbered(np.array([7, 3, 7, 7])).tolist()
    [1, 1, 2, 3]
    """
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(codes)])
    sizes = np.diff(np.append(starts, len(codes)))
    out = np.empty(len(codes), dtype=np.int64)
    out[order] = np.arange(len(codes)) - np.repeat(starts, sizes) + 1
    return out


def _cells(users: U64) -> tuple[I64, I64]:
    """A user's cells. Pseudonyms are keyed hashes, so their bits are as good as any hash."""
    return (
        (users & np.uint64(CELLS - 1)).astype(np.int64),
        (users >> np.uint64(32) & np.uint64(CELLS - 1)).astype(np.int64),
    )


def _stretches(starts: I64, ends: I64) -> list[tuple[int, int]]:
    """Overlapping windows as one: (first, last) of each."""
    out: list[tuple[int, int]] = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], end)
        else:
            out.append((start, end))
    return out
