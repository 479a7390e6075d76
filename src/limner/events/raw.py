"""Rows as a source delivers them: canonical column names, values still as they came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

ITEM = "$item"
"""Event type of an item version: its attributes are the row's properties."""
USER = "$user"
"""Event type of a user's declared attributes: they are the row's properties."""
DELETE_ITEM = "$delete_item"
"""Event type that ends an item."""
ALIAS = "$alias"
"""Event type that links the id a user had before (`target_user_id`) to the user."""
TOPIC = "$topic"
"""Event type of what a language model takes a user's text to say: a topic, and for (`value` 1) or
against (−1) it; at the time of that text."""
PROPOSED = "proposed"
"""Property of such a row: the topic."""
RESTS_ON = "rests_on"
"""Property of such a row: the digest of the event whose text it rests on, in hexadecimal."""
RESTS_ON_TYPE = "rests_on_type"
"""Property of such a row: the type of that event, as long as which it is kept."""
CORRECTION = "correction"
"""Event type that changes fields of the event that its property `corrects` names."""
RETRACTION = "retraction"
"""Event type that takes out the event that its property `retracts` names."""
EXPIRES = "expires_at"
"""Property of an item or of declared attributes: when they end."""


STRIDE = 1 << 20
"""Of rows of several requests: a row's line is its number in its own plus this times the place of
the request."""


@dataclass(frozen=True, slots=True)
class RawBatch:
    """Rows of one source under canonical names, before admission and cleaning.

    `table` has any of the columns of `SCHEMA` but `digest`, `check`, `flags` and `import_id`,
    under those names, of any type a file format yields (usually text), and properties as
    `properties.NAME` (also of any type). Two columns are always there: `line`, int64, the
    1-based row or line in `where`; and `content`, binary, all source columns of the row joined
    injectively, from which the event's identity is made (law 2). After admission `user_id` and
    `target_user_id` are 16-byte pseudonyms, and `digest` and `check` have taken the place of
    `content`. `where` names the file or request, for messages; `source` is part of an event's
    identity when it carries an id of its own.
    """

    table: pa.Table
    where: str
    source: str

    def __len__(self) -> int:
        return int(self.table.num_rows)


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that was not admitted, why, and how to mend it; kept in quarantine.

    `row` holds the row's fields after admission, so no user id in clear text: pseudonyms, and
    under `sealed` the ids of users whom the identity table does not have. It also holds the
    row's `digest` and `check`, if it could be read at all: a corrected row is the same event.
    `row_id`, `import_id` and `held_at` are the quarantine's: its number there, the import it came
    with (0: none), and when (µs).
    """

    where: str
    line: int
    rule: str
    reason: str
    row: dict[str, Any]
    row_id: int = field(default=0, compare=False)
    import_id: int = field(default=0, compare=False)
    held_at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class RefusedEvent:
    """An event that was refused: its number in the request, from 1, and how to mend it."""

    line: int
    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class Holding:
    """What a rule has refused: rows held now, rows ever (settled ones too), and when last (µs)."""

    held: int
    ever: int
    last: int


class Quarantine(Protocol):
    """Keeps refused rows and their reasons, each under a number that is never used again.

    A row is known by its digest and check or, if it could not be read, by its place, rule and
    content. What is settled leaves nothing behind but that: read again, it is not held again.
    """

    def add(self, refused: Sequence[Refused], *, import_id: int = 0, now: int = 0) -> list[Refused]:
        """Keep these rows, refused at `now` (µs); return those not held or settled before."""
        ...

    def rows(
        self,
        *,
        limit: int | None = 100,
        import_id: int | None = None,
        rule: str | None = None,
        ids: Sequence[int] | None = None,
    ) -> list[Refused]:
        """The newest rows held, newest first: of an import, by a rule, or of these numbers."""
        ...

    def counts(self) -> dict[str, int]:
        """How many rows each rule holds."""
        ...

    def holdings(self) -> dict[str, Holding]:
        """What each rule has refused so far; rows of undone imports do not count."""
        ...

    def replace(self, row_id: int, refused: Refused) -> None:
        """A held row was refused anew: its rule, reason and fields change, its place stays."""
        ...

    def settle(self, ids: Sequence[int]) -> int:
        """Let rows go that were admitted or given up; return how many were held."""
        ...

    def forget(self, import_id: int) -> int:
        """Remove all rows of an import that is undone, settled ones too; return how many."""
        ...


@dataclass(frozen=True, slots=True)
class Import:
    """One run of `limner import`: where it came from and what became of its rows."""

    import_id: int
    where: str
    started_at: int
    finished_at: int | None = None
    rows: int = 0
    added: int = 0
    repeated: int = 0
    refused: int = 0
    undone_at: int | None = None
    found: Mapping[str, int] = field(default_factory=dict)
    """How many rows each cleaning rule refused or touched."""


class ImportLedger(Protocol):
    """The list of imports, so that each can be undone."""

    def start(self, where: str, now: int) -> Import:
        """Open a new entry with the next id, from 1."""
        ...

    def save(self, entry: Import) -> None:
        """Replace the entry of the same id."""
        ...

    def entries(self) -> list[Import]:
        """All entries, oldest first."""
        ...
