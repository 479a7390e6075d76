"""Questions put to models: what did a user do next, given what came before it.

Every protocol is a way of making them. What a user already had is not asked for, so an item
counts once a user: when they first had it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from limner.events.batch import F64, I64, Bool
from limner.metrics.ranking import ranks
from limner.metrics.splits import leave_one_out
from limner.model.moments import owners_of, starts
from limner.model.popularity import first_times
from limner.model.protocol import History, Interactions


@dataclass(frozen=True, slots=True)
class Asked:
    """Question q: user `users[q]`, whose context is rows `first[q]:last[q]` of `data`, asks at
    `now[q]` (µs), and the answer is item `truth[q]`.
    """

    data: Interactions
    users: I64
    first: I64
    last: I64
    now: I64
    truth: I64

    def __len__(self) -> int:
        return len(self.users)

    def histories(self, start: int = 0, stop: int | None = None) -> list[History]:
        """The contexts of questions `start:stop`."""
        data = self.data
        stop = len(self) if stop is None else min(stop, len(self))
        out = []
        for q in range(start, stop):
            rows = slice(int(self.first[q]), int(self.last[q]))
            out.append(
                History(
                    data.items[rows], data.times[rows], data.weights[rows],
                    data.groups[rows], data.positions[rows], int(self.now[q]),
                    None if data.values is None else data.values[rows],
                )
            )  # fmt: skip
        return out

    def take(self, rows: I64 | Bool) -> Asked:
        """Some of the questions."""
        return Asked(
            self.data, self.users[rows], self.first[rows], self.last[rows],
            self.now[rows], self.truth[rows],
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Split:
    """What is learned from, what chooses (hyper-parameters, blend), and what is measured.

    `known` is what a live system would have learned from when the test is asked: `learned` and
    the answers of the validation.
    """

    learned: Interactions
    validation: Asked
    known: Interactions
    test: Asked


def first_only(data: Interactions) -> Interactions:
    """Each user's first event with each item, and nothing of no or negative weight."""
    wanted = data.where(data.weights > 0)
    keep = np.zeros(len(wanted.items), dtype=bool)
    keep[first_times(wanted)] = True
    return wanted.where(keep)


def leave_last_out(data: Interactions, *, query_time: bool = False) -> Split:
    """Per user, in stable order: the last item tests, the one before it validates.

    The context of the test holds the validation item. Users with fewer than three items are only
    learned from. A question is asked right after the context's last event, or with `query_time`
    when the answer came.
    """
    data = first_only(data)
    train, validation, test = leave_one_out(data.offsets)
    owners = owners_of(data.offsets)
    known = np.ones(len(owners), dtype=bool)
    known[test] = False
    return Split(
        data.where(train),
        asked_of(data, owners[validation], validation, query_time=query_time),
        data.where(known),
        asked_of(data, owners[test], test, query_time=query_time),
    )


def asked_of(data: Interactions, users: I64, rows: I64, *, query_time: bool) -> Asked:
    """Questions for what `rows` hold; the context is all of the user's rows before."""
    first = data.offsets[users]
    now = data.times[rows] if query_time else data.times[np.maximum(rows - 1, first)] + 1
    return Asked(data, users, first, rows, now, data.items[rows].astype(np.int64))


def split_in_time(data: Interactions, *, share: float = 0.1) -> Split:
    """One global cutoff for all: the last `share` of time is asked, and the same before it.

    Every later event of every user is a question with the context up to that moment; a user
    without any context is not asked.
    """
    data = first_only(data)
    start, end = (int(data.times.min()), int(data.times.max())) if len(data.times) else (0, 0)
    cutoff = int(end - share * (end - start))
    validation = int(cutoff - share * (cutoff - start))
    return Split(
        data.before(validation),
        between(data, validation, cutoff),
        data.before(cutoff),
        between(data, cutoff, end + 1),
    )


def between(data: Interactions, start: int, stop: int) -> Asked:
    """Every event from `start` to before `stop` as a question asked when it came, by time.

    The context is strictly earlier: what came at the same moment (the rest of a basket) is not
    known yet.
    """
    owners = owners_of(data.offsets)
    rows = np.flatnonzero((data.times >= start) & (data.times < stop))
    rows = rows[np.argsort(data.times[rows], kind="stable")]
    asked = asked_of(data, owners[rows], rows, query_time=True)
    opens = starts(owners, data.times, np.zeros_like(data.times))
    moment = np.maximum.accumulate(np.where(opens, np.arange(len(owners)), 0))
    asked = replace(asked, last=moment[rows])
    return asked.take(asked.last > asked.first)


def ranks_of(
    scores: npt.NDArray[np.floating[Any]], histories: Sequence[History], truth: I64
) -> F64:
    """The rank of each answer among the whole catalogue without what the context holds.

    `scores` (n, n_items) is changed: what was seen becomes −∞. Ties count half (law: a constant
    score ranks everything in the middle). An answer that is −∞ itself has the last rank.
    Raises ValueError for a score that is no number.
    """
    if np.isnan(scores).any():
        raise ValueError("a score is no number")
    for row, history in enumerate(histories):
        scores[row, history.items] = -np.inf
    found = ranks(scores, truth)
    lost = scores[np.arange(len(truth)), truth] == -np.inf
    return np.where(lost, float(scores.shape[1]), found)
