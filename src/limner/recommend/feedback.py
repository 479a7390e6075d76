"""What became of each item of the lists that were logged with contexts, as a bandit's sums.

The log is enough (law 3): an impression carries the context of each item as it was when the list
was made, and later events carry the list's id. So reading the log again gives the same sums.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np

from limner.events.batch import DAY, F64, I64, PROPERTY, EventBatch
from limner.recommend.bandit import Sums

LATENESS = 7 * DAY
"""How long after its horizon a list waits for events that came late."""


@dataclass(slots=True)
class _List:
    time: int
    items: list[str]
    contexts: F64
    rewards: F64
    """NaN until an item has one, or the horizon is over."""


class Feedback:
    """Rows of lists with their rewards, in the order of the log.

    An item's reward is the greatest `worth` of the events that carry the list's id, come at or
    after the list in the log, and happened within `horizon` µs of it; 0 once that is over. It
    counts from the first such event on. `worth`: an event type's reward, 0 for one that is none.
    """

    def __init__(
        self, width: int, worth: Callable[[str], float], horizon: int, half_life: float = 0.0
    ) -> None:
        self.sums = Sums(width, half_life)
        self._worth, self._horizon = worth, horizon
        self._lists: dict[str, _List] = {}
        self._open: list[tuple[int, str]] = []
        self._closed: list[tuple[int, str]] = []
        """Heaps of (time, list): when each is over, and when nothing late is waited for."""
        self._newest = 0

    def read(self, batch: EventBatch) -> None:
        """The next rows of the log."""
        ids = batch.array("recommendation_id")
        if ids.null_count == len(ids):
            return
        some = batch.take(ids.is_valid().to_numpy(zero_copy_only=False) & batch.live())
        names = ("recommendation_id", "event_type", "item_id")
        columns = [some.array(name).to_pylist() for name in names]
        for name in ("shown", "contexts"):
            known = name in some.properties
            columns.append(some.array(PROPERTY + name).to_pylist() if known else [None] * len(some))
        for key, kind, item, shown, contexts, time in zip(
            *columns, some.times().tolist(), strict=True
        ):
            self._newest = max(self._newest, time)
            if kind != "impression":
                self._follow(key, item, self._worth(kind), time)
            elif shown and contexts:
                self._begin(key, shown, contexts, time)

    def settle(self, now: int) -> Sums:
        """The sums as of `now` (µs): what has had no reward within the horizon has 0."""
        while self._open and self._open[0][0] <= max(now, self._newest):
            over, key = heapq.heappop(self._open)
            one = self._lists[key]
            rest = np.flatnonzero(np.isnan(one.rewards))
            one.rewards[rest] = 0.0
            self._add(one, rest)
            heapq.heappush(self._closed, (over + LATENESS, key))
        while self._closed and self._closed[0][0] < self._newest:
            del self._lists[heapq.heappop(self._closed)[1]]
        return self.sums

    def _begin(self, key: str, shown: str, contexts: str, time: int) -> None:
        items = msgspec.json.decode(shown, type=list[str])
        x = np.array(msgspec.json.decode(contexts, type=list[list[float]]), dtype=np.float64)
        if key in self._lists or x.shape != (len(items), self.sums.width):
            return  # of another version, whose contexts were others
        self._lists[key] = _List(time, items, x, np.full(len(items), np.nan))
        heapq.heappush(self._open, (time + self._horizon, key))

    def _follow(self, key: str, item: str | None, worth: float, time: int) -> None:
        one = self._lists.get(key)
        if one is None or not worth or item not in one.items:
            return
        over = one.time + self._horizon
        if not one.time <= time <= over or over + LATENESS < self._newest:
            return
        place = one.items.index(item)
        before = float(one.rewards[place])
        if np.isnan(before):
            one.rewards[place] = worth
            self._add(one, np.array([place]))
        elif worth > before or before == 0.0:
            one.rewards[place] = worth
            self.sums.reward(one.contexts[place], item, before, worth, one.time)

    def _add(self, one: _List, rows: I64) -> None:
        items = [one.items[row] for row in rows.tolist()]
        self.sums.add(one.contexts[rows], items, one.rewards[rows], one.time)
