"""What is learned from and what is predicted: cuts in time, with nothing of the future (law 4).

Arrays follow `limner.model.protocol.Interactions`: rows sorted by user, then time, and user u's
rows are `offsets[u]:offsets[u + 1]`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from limner.events.batch import I32, I64, Bool


@dataclass(frozen=True, slots=True)
class Truth:
    """What each user did next: user `users[i]` did `items[i]` (distinct ids, ascending)."""

    users: I64
    items: list[I32]

    def __len__(self) -> int:
        return len(self.users)

    def take(self, keep: Bool) -> Truth:
        """The users where `keep` is true."""
        rows = np.flatnonzero(keep)
        return Truth(self.users[rows], [self.items[row] for row in rows])


def first_group_after(
    offsets: I64, items: I32, times: I64, groups: I64, cutoff: int, *, before: int | None = None
) -> Truth:
    """Each user's first basket or session at or after `cutoff` (µs), and strictly before `before`.

    It is the group of the user's first event then; an event without a group (−1) stands alone.
    Users with nothing in the span are left out.
    """
    users: list[int] = []
    found: list[I32] = []
    for user in range(len(offsets) - 1):
        start, stop = int(offsets[user]), int(offsets[user + 1])
        if before is not None:
            stop = start + int(np.searchsorted(times[start:stop], before, side="left"))
        first = start + int(np.searchsorted(times[start:stop], cutoff, side="left"))
        if first >= stop:
            continue
        group = groups[first]
        if group >= 0:
            basket = items[first:stop][groups[first:stop] == group]
        else:
            basket = items[first : first + 1]
        users.append(user)
        found.append(np.unique(basket))
    return Truth(np.array(users, dtype=np.int64), found)


def leave_one_out(offsets: I64) -> tuple[Bool, I64, I64]:
    """(train, validation, test) rows: a user's last event tests, the one before validates.

    Row indices, one a user; users with fewer than three events stay in training whole. Order
    among events of equal time is the order of the rows, so the split is stable.
    """
    counts = np.diff(offsets)
    last = offsets[1:][counts >= 3] - 1
    train = np.ones(int(offsets[-1]), dtype=bool)
    train[last] = False
    train[last - 1] = False
    return train, last - 1, last
