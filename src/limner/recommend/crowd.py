"""What all users' histories say of the items: what is popular, trending, new, chosen together.

One pass over the live state, kept while it is about right. Nothing of it is written anywhere, so
a user who is erased is gone from it with the next question (law 6).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np
import scipy  # its parts are loaded when used: opening a store should not wait for them

from limner.events.batch import DAY, F64, I32, I64, Bool
from limner.profile.facets import HISTORY
from limner.profile.state import ProfileState

HALF_LIFE = 28 * DAY
"""Age at which an event counts half for what is popular, and in a user's tastes."""
NEWEST = 7 * DAY
"""The days whose rate is compared with that of as many before."""
SURE = 5.0
"""Events that a rate starts from, in both: so few of them are no trend."""
KEPT = 3_600_000_000
"""µs after which what is kept is counted anew."""
MOST = 5_000_000
"""Events that are read; of more, those of every second, third … user."""
PORTION = 5_000
"""Users that are read at a time beside whoever asks: some milliseconds."""
BOUGHT = 1.0
"""Weight from which on an event is a purchase or its like, and not only a look."""
REPEATED = 0.1
"""Share of buyers who bought again from which on repeats count."""
BUYERS = 20.0
"""Buyers' worth of the share over all things that a category's starts from."""


@dataclass(frozen=True)
class Crowd:
    """The histories of all users at `now` (µs): event i is of user `rows[i]` with `items[i]`.

    `worth`: its weight by its type, at least 0. Arrays per item are in the catalog's ids.
    """

    now: int
    removals: int
    position: int
    n_rows: int
    n_items: int
    rows: I64
    items: I32
    times: I64
    worth: F64
    groups: I64
    described: I64

    def counts(self, weights: F64) -> F64:
        """Sums of weights of events by item, (n_items,)."""
        return np.bincount(self.items, weights, minlength=self.n_items).astype(np.float64)

    @cached_property
    def recent(self) -> F64:
        """The worth of each event as of now, by the half-life."""
        age = np.maximum(self.now - self.times.astype(np.float64), 0)
        worth: F64 = self.worth * np.exp2(-age / HALF_LIFE)
        return worth

    @cached_property
    def of_late(self) -> F64:
        """The decayed events of each item."""
        return self.counts(self.recent)

    @cached_property
    def popular(self) -> F64:
        """The log(1 + decayed events) of each item."""
        out: F64 = np.log1p(self.of_late)
        return out

    @cached_property
    def velocity(self) -> F64:
        """The log of the rate of each item in the newest days over that of as many days before."""
        age = self.now - self.times
        newest = self.counts(self.worth * ((age >= 0) & (age < NEWEST)))
        before = self.counts(self.worth * ((age >= NEWEST) & (age < 2 * NEWEST)))
        out: F64 = np.log((newest + SURE) / (before + SURE))
        return out

    @cached_property
    def since(self) -> I64:
        """When each item came (µs): described or first chosen, whichever was before; 0: unknown."""
        out = self.described.copy()
        np.minimum.at(out, self.items, self.times)
        out[(out == np.iinfo(np.int64).max) | (out <= 0)] = 0
        return out

    @cached_property
    def chosen(self) -> scipy.sparse.csr_matrix:
        """Users × items: log(1 + decayed events), rows of length 1 (n_rows, n_items).

        Items are damped by the root of how many chose them, so that what everybody has makes
        nobody alike.
        """
        shape = (self.n_rows, self.n_items)
        out = scipy.sparse.csr_matrix((self.recent, (self.rows, self.items)), shape=shape)
        out.sum_duplicates()
        out.data = np.log1p(out.data)
        out = (out @ scipy.sparse.diags(self.damping)).tocsr()
        length = np.sqrt(np.asarray(out.multiply(out).sum(axis=1)).ravel())
        return (scipy.sparse.diags(1.0 / np.maximum(length, 1e-12)) @ out).tocsr()

    @cached_property
    def damping(self) -> F64:
        """1/√(1 + users who chose it) of each item."""
        out: F64 = 1.0 / np.sqrt(1.0 + self.choosers)
        return out

    @cached_property
    def choosers(self) -> F64:
        """How many users chose each item."""
        return np.bincount(self.pairs % self.n_items, minlength=self.n_items).astype(np.float64)

    @cached_property
    def pairs(self) -> I64:
        """Different (user, item) as row · n_items + item, ascending."""
        return np.unique(self.rows * np.int64(self.n_items) + self.items)

    def repeats(self, codes: I32) -> Bool:
        """For each item whether things of its kind are bought again, given each item's code.

        The share of (user, item) bought once that were bought again on another day, per code,
        starting from the share over all things; −1 has that of all.
        """
        bought = self.worth >= min(BOUGHT, self.worth.max(initial=0.0))
        keys = self.rows[bought] * np.int64(self.n_items) + self.items[bought]
        days = self.times[bought] // DAY
        once, place = np.unique(keys, return_inverse=True)
        first, last = np.full(len(once), np.iinfo(np.int64).max), np.zeros(len(once), np.int64)
        np.minimum.at(first, place, days)
        np.maximum.at(last, place, days)
        again = (last > first).astype(np.float64)
        overall = (again.sum() + REPEATED) / (len(again) + 1.0)
        size = int(codes.max(initial=-1)) + 2  # the last place is for −1
        codes = np.where(codes < 0, size - 1, codes).astype(np.int32)
        kinds = codes[once % max(self.n_items, 1)]
        n, came = (np.bincount(kinds, of, minlength=size) for of in (np.ones(len(again)), again))
        share = (came + BUYERS * overall) / (n + BUYERS)
        share[-1] = overall
        return np.asarray(share[codes] >= REPEATED)


def crowd(state: ProfileState, now: int) -> Crowd:
    """What all histories say, counted anew if it is not about right.

    That is, if the log has grown by a hundredth, an hour has passed, or something was taken out.
    """
    known = _kept.get(state)
    if known is None or known.removals != state.removals or not _right(known, state, now, 1.0):
        known = _kept[state] = _counted(state, now, nullcontext(), state.rows.size)
    if known.n_items != len(state.catalog):  # nobody has done anything yet with what came
        described = state.catalog.described_from().copy()
        known = _kept[state] = replace(known, n_items=len(state.catalog), described=described)
    return known


def renew(state: ProfileState, now: int, lock: AbstractContextManager[object]) -> bool:
    """Count anew beside whoever asks, halfway to when they would have to; whether it was.

    The lock is taken for `PORTION` users at a time. Nothing is counted that nobody asked for yet.
    """
    with lock:
        known = _kept.get(state)
        if known is None or _right(known, state, now, 0.5):
            return False
    out = _counted(state, now, lock, PORTION)
    for name in known.__dict__.keys() & {"of_late", "popular", "velocity", "since", "chosen"}:
        getattr(out, name)  # what was asked for of the one before
    with lock:
        if (len(state.catalog), state.removals) != (out.n_items, out.removals):
            return False
        _kept[state] = out
    return True


def _right(known: Crowd, state: ProfileState, now: int, part: float) -> bool:
    """Whether what was counted is about right, to a part of what is let pass."""
    grown = state.position - known.position
    return 0 <= grown <= known.position * part / 100 and abs(now - known.now) < KEPT * part


def _counted(
    state: ProfileState, now: int, lock: AbstractContextManager[object], portion: int
) -> Crowd:
    pool = state.pools[HISTORY]
    with lock:
        position, size = state.position, state.rows.size
        n_items, removals = len(state.catalog), state.removals
        described = state.catalog.described_from().copy()
    every = position // MOST + 1
    chosen = np.arange(0, size, every)
    parts = []
    for start in range(0, max(len(chosen), 1), max(portion, 1)):
        some = chosen[start : start + portion]
        with lock:
            rows, items, values = pool.every(some)
        # what came meanwhile of items is counted the next time
        old = np.flatnonzero(items < n_items)
        parts.append(
            (
                some[rows[old]],
                items[old].astype(np.int32),
                values["t"][old].astype(np.int64),
                np.maximum(values["w"][old].astype(np.float64), 0.0),
                values["group"][old].astype(np.int64),
            )
        )
    rows, items, times, worth, groups = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    return Crowd(
        now, removals, position, size, n_items, rows, items, times, worth, groups, described
    )


def repeating(state: ProfileState, kind: str, now: int) -> Bool:
    """For each item whether things of its kind (an attribute) are bought again in this shop.

    Counted anew once the log has grown by a fifth or items came: habits change slowly.
    """
    key = (kind, len(state.catalog), state.catalog.versions, state.removals)
    known = _repeating.get(state)
    if known is None or known[0] != key or not 0 <= state.position - known[1] <= known[1] // 5:
        found = crowd(state, now).repeats(state.catalog.codes_now(kind))
        known = _repeating[state] = key, state.position, found
    return known[2]


_repeating: WeakKeyDictionary[ProfileState, tuple[object, int, Bool]] = WeakKeyDictionary()
_kept: WeakKeyDictionary[ProfileState, Crowd] = WeakKeyDictionary()
