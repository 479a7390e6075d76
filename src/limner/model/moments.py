"""Events that happened at one moment: the unit in which time passes for the models.

All lines of a basket carry one time and one group, and no order among them is known. So models
that use order see a moment (equal user, time and group) as one step, and a basket is neither
ten visits nor a sequence. Without groups or ties every event is its own moment.
"""

from __future__ import annotations

import numpy as np

from limner.events.batch import I32, I64, Bool
from limner.model.protocol import History


def moments(owners: I64, times: I64, groups: I64) -> I64:
    """The 0-based number of each row's moment, ascending; rows are sorted by owner, then time.

    >>> moments(np.array([0, 0, 0, 1]), np.array([5, 5, 9, 9]), np.array([1, 1, 2, 2]))
    array([0, 0, 1, 2])
    """
    if len(times) == 0:
        return np.zeros(0, dtype=np.int64)
    return np.cumsum(starts(owners, times, groups)) - 1


def starts(owners: I64, times: I64, groups: I64) -> Bool:
    """Which rows open a new moment."""
    opens = np.ones(len(times), dtype=bool)
    opens[1:] = (
        (owners[1:] != owners[:-1]) | (times[1:] != times[:-1]) | (groups[1:] != groups[:-1])
    )
    return opens


def in_order(times: I64, groups: I64) -> I64:
    """Times by which only a basket or session is a moment of several events.

    Other events keep their order: clocks tick in seconds, and what has one time in a file was
    still done one by one. Half of MovieLens-100K's ratings share their second with another of the
    same user.

    >>> times, groups = np.array([5, 5, 5, 5]), np.array([-1, -1, 2, 2])
    >>> moments(np.zeros(4), in_order(times, groups), groups)
    array([0, 1, 2, 2])
    """
    return np.where(groups >= 0, times, np.arange(len(times)))


def read_from(items: I32, times: I64, length: int) -> int:
    """The moment from which on a history is read of which the last `length` moments are to be.

    `items` and `times` of the first event of each moment. All of it up to a quarter more than
    `length`; of a longer one, from one of that quarter on: the one with the least hash, after
    Schleimer et al. (2003). Whatever comes next, it mostly is the same one, so that what was found
    of the moments since then still holds; a window of `length` moments moves with each.

    >>> items, times = np.arange(300, dtype=np.int32), np.arange(300)
    >>> [read_from(items[:n], times[:n], 100) for n in (100, 101, 102, 150, 151, 300)]
    [0, 0, 0, 37, 37, 196]
    """
    most = length + length // 4
    first = len(times) - most
    if first <= 0:
        return 0
    some = slice(first, len(times) - length + 1)
    mixed = times[some].astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= items[some].astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)
    mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return first + int(mixed.argmin())


def owners_of(offsets: I64) -> I64:
    """The user of each row."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def ranges(first: I64, last: I64) -> I64:
    """All of `first[i]:last[i]`, laid end to end.

    >>> ranges(np.array([3, 7]), np.array([5, 8]))
    array([3, 4, 7])
    """
    lengths = last - first
    shift = np.repeat(first - np.cumsum(lengths) + lengths, lengths)
    rows: I64 = np.arange(int(lengths.sum())) + shift
    return rows


def ordered_unique_counts(keys: I64) -> tuple[I64, I64]:
    """(first index, length) of each run of equal neighbours in sorted `keys`."""
    if len(keys) == 0:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    return first, np.diff(np.append(first, len(keys)))


def flatten(histories: list[History]) -> tuple[I64, I64]:
    """(owner of each event, now of each history) of histories laid end to end."""
    lengths = np.array([len(history) for history in histories], dtype=np.int64)
    return (
        np.repeat(np.arange(len(histories)), lengths),
        np.array([history.now for history in histories], dtype=np.int64),
    )
