"""What ties one user to one item: how strongly, at what intervals, and together with what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from limner.events.batch import DAY, F64, I32, I64, SECOND
from limner.profile.words import length, listed

HALF_LIFE = 180 * DAY
SESSION = 30 * 60 * SECOND
"""The pause that ends a session, for events without a group."""

SHOWN = 5


@dataclass(frozen=True, slots=True)
class Together:
    """Another item of the same baskets or sessions.

    `lift` is how many times as often as if the two had nothing to do with each other.
    """

    item_id: str
    times: int
    lift: float


@dataclass(frozen=True, slots=True)
class Interaction:
    """A user's dealings with an item.

    `strength` is Σ w·m·2^(−age/half-life) with w the event type's weight and m the value's
    measure, log₂(1 + value ÷ the user's mean value of that type): 1 for an ordinary value, and
    where there is none. `interval` is the mean time between different sessions with the item in
    µs, None for one. Times are µs.
    """

    item_id: str
    events: int
    sessions: int
    strength: float
    first: int | None
    last: int | None
    interval: float | None
    together: tuple[Together, ...]
    text: str


def measures(values: F64, types: I32) -> F64:
    """log₂(1 + value ÷ the mean of its type), (n,); 1 where a value is missing or not positive."""
    out = np.ones(len(values))
    for code in np.unique(types).tolist():
        mine = (types == code) & (np.nan_to_num(values) > 0)
        if mine.any():
            out[mine] = np.log2(1 + values[mine] / values[mine].mean())
    return out


def interaction(
    item: int,
    name_of: Callable[[int], str],
    *,
    items: I32,
    times: I64,
    weights: F64,
    groups: I64,
    now: int,
    half_life: float = HALF_LIFE,
) -> Interaction:
    """A user's dealings with `item`, from their events in order of time.

    `items` are dense ids, `weights` the worth of each event (already times its measure, if its
    value is known), `groups` its basket or session, 0 for none: then a pause of 30 minutes
    tells sessions apart.
    """
    mine = (items == item).nonzero()[0]
    sessions = _sessions(times, groups)
    age = np.maximum(now - times[mine], 0) / half_life
    strength = float((weights[mine] * np.exp2(-age)).sum())
    with_it = np.unique(sessions[mine])
    interval = None
    if len(with_it) > 1:
        ends = [times[mine[sessions[mine] == session]].max() for session in with_it]
        interval = float(max(ends) - min(ends)) / (len(with_it) - 1)
    together = _together(item, name_of, items, sessions, with_it)
    return Interaction(
        item_id=name_of(item),
        events=len(mine),
        sessions=len(with_it),
        strength=strength,
        first=int(times[mine].min()) if len(mine) else None,
        last=int(times[mine].max()) if len(mine) else None,
        interval=interval,
        together=together,
        text=_said(len(mine), interval, together),
    )


def _sessions(times: I64, groups: I64) -> I64:
    """A number for each event's session."""
    if not len(times):
        return np.empty(0, dtype=np.int64)
    by_pause = np.cumsum(np.append(False, np.diff(times) > SESSION))
    _, by_group = np.unique(groups, return_inverse=True)
    grouped = groups != 0
    number: I64 = np.where(grouped, by_group + by_pause.max() + 1, by_pause)
    return number


def _together(
    item: int, name_of: Callable[[int], str], items: I32, sessions: I64, with_it: I64
) -> tuple[Together, ...]:
    pairs = np.unique(np.stack([sessions, items.astype(np.int64)], axis=1), axis=0)
    n = len(np.unique(sessions))
    counts = dict(zip(*np.unique(pairs[:, 1], return_counts=True), strict=True))
    shared = pairs[np.isin(pairs[:, 0], with_it) & (pairs[:, 1] != item) & (pairs[:, 1] >= 0)]
    found = zip(*np.unique(shared[:, 1], return_counts=True), strict=True)
    every = [
        Together(name_of(int(other)), int(times), float(times * n / (len(with_it) * counts[other])))
        for other, times in found
    ]
    every.sort(key=lambda other: (-other.times, -other.lift, other.item_id))
    return tuple(every[:SHOWN])


def _said(events: int, interval: float | None, together: tuple[Together, ...]) -> str:
    if not events:
        return "nothing yet"
    said = f"{events:,} event{'s' if events != 1 else ''}"
    if interval:
        said += f", about every {length(interval)}"
    often = [other.item_id for other in together if other.times > 1 and other.lift > 1][:2]
    return said + (f", often together with {listed(often)}" if often else "")
