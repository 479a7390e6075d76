"""Whose slots are due: a mark for each user and task, set from batches in whole columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from limner.events.arrays import Grow
from limner.events.batch import I64, Bool, EventBatch
from limner.events.log import Position
from limner.profile.events import Events
from limner.profile.refresh import Refresh
from limner.profile.state import ProfileState
from limner.profile.trigger import fired


class Pending:
    """The rows of a state that are due, by task.

    A task that has a `when` policy is due for users with an event that sets it off, any other for
    every user with an event. Marks are a byte a user and task, and hold nothing of the user; the
    log gives them back after a restart (`Following.recover`).
    """

    def __init__(self, state: ProfileState, tasks: Mapping[str, Refresh | None]) -> None:
        self.state = state
        self._tasks = tasks
        self._marks = {name: Grow(np.bool_, False) for name in tasks}

    def mark(self, first: Position, batch: EventBatch, tasks: Iterable[str] | None = None) -> I64:
        """Mark who is due through a batch that was folded; the distinct rows it touches."""
        codes, values = batch.codes("user_id")
        used = np.flatnonzero(np.bincount(codes + 1, minlength=len(values) + 1)[1:])
        row_of = np.full(len(values) + 1, -1, dtype=np.int64)  # the last place is that of code −1
        row_of[used] = self.state.rows.find([values[code] for code in used.tolist()])
        rows: I64 = row_of[used]
        rows = rows[rows >= 0]
        if len(rows):
            for name in self._tasks if tasks is None else tasks:
                policy = self._tasks[name]
                if policy is None or policy.mode != "when":
                    self.add(name, rows)
                elif policy.event_type in batch.codes("event_type")[1]:
                    self.add(name, self._fired(policy, first, batch, row_of[codes]))
        return rows

    def _fired(self, policy: Refresh, first: Position, batch: EventBatch, rows: I64) -> I64:
        codes, values = batch.codes("event_type")
        chosen = np.flatnonzero((codes == values.index(policy.event_type)) & (rows >= 0))
        part = batch.take(chosen)
        state = self.state
        events = Events(
            part,
            first + chosen,
            rows[chosen],
            state.catalog.intern(*part.codes("item_id")),
            state.catalog,
            state.words,
            state.timezone,
        )
        due: I64 = rows[chosen[fired(policy, events)]]
        return due

    def add(self, name: str, rows: I64) -> None:
        """Mark these rows."""
        marks = self._marks[name]
        marks.resize(self.state.rows.size)
        marks.view[rows] = True

    def has(self, name: str, row: int) -> bool:
        """Whether a row is due for a task."""
        marks: Bool = self._marks[name].view
        return 0 <= row < len(marks) and bool(marks[row])

    def take(self, name: str, row: int) -> bool:
        """Whether a row was due; it no longer is."""
        due = self.has(name, row)
        if due:
            self._marks[name].view[row] = False
        return due

    def rows(self, names: Iterable[str]) -> I64:
        """The rows that are due for any of these tasks, ascending."""
        found = [np.flatnonzero(self._marks[name].view) for name in names]
        return np.unique(np.concatenate(found)) if found else np.empty(0, dtype=np.int64)

    def clear(self, row: int) -> None:
        """Nothing is due any more for a row whose user is gone."""
        for name in self._marks:
            self.take(name, row)
