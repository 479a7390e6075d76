"""The event log's contract. `testing.contracts` holds the suite that every backend passes."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from limner.events.batch import I64, Bool, EventBatch

Position = int
"""A place in the log: the number of rows before it. Positions are dense and never reused."""


@dataclass(frozen=True, slots=True)
class Appended:
    """What an append did, row by row of the batch it was given.

    `kept[i]`: row i was new and is in the log. `conflict[i]`: its identity is in the log with
    other content, so it was refused. Neither: it was there already, and nothing changed.
    The kept rows lie at `first`, `first + 1`, …
    """

    first: Position
    kept: Bool
    conflict: Bool


class EventLog(Protocol):
    """The durable, ordered record of all that changes an answer."""

    def head(self) -> Position:
        """The position that the next row will get."""
        ...

    def append(self, batch: EventBatch) -> Appended:
        """Write the rows whose `digest` is new (law 2), in order; MUST be durable on return.

        Rows that repeat a digest within the batch count as seen twice too. Called inside
        `Store.transaction()`, durability comes with the end of the transaction.
        """
        ...

    def knows(self, digests: pa.Array) -> Bool:
        """For each digest of a `binary(16)` array without nulls: whether the log has it."""
        ...

    def read(
        self, start: Position = 0, stop: Position | None = None
    ) -> Iterator[tuple[Position, EventBatch]]:
        """Rows from `start` up to `stop` in order, in batches of a bounded size.

        Each comes with its first position. Blanked rows are included (their `event_type` is
        null), so that positions stay dense. MUST NOT see rows appended after the call began.
        """
        ...

    def events_of(self, user: bytes) -> tuple[I64, EventBatch]:
        """All rows of one user with their positions, in order of position."""
        ...

    def rows_of(self, users: Collection[bytes]) -> Iterator[tuple[I64, EventBatch]]:
        """All rows of these users with their positions, in order, in batches of a bounded size.

        MUST NOT see rows appended after the call began.
        """
        ...

    def holds(self, user: bytes) -> bool:
        """Whether any row names this user, as the one who did it or its target."""
        ...

    def blank(self, positions: I64, *, forget: bool = False) -> int:
        """Empty these rows for good; return how many were not empty before.

        Every column but `digest` and `check` becomes null, in the log and in every index of it,
        and no byte of the old content stays in the store's files. The digests stay, so that a
        re-import does not bring the rows back (law 6); with `forget` they go too, so that the
        same rows may be imported again.
        """
        ...
