"""The rows that were refused: to look at, to mend and readmit, or to give up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from limner.errors import NotFound, UsageError
from limner.events.batch import PROPERTY
from limner.events.raw import RawBatch, Refused
from limner.privacy.admit import PrivacyConfig, column_of
from limner.privacy.identity import Sealed
from limner.profile.writer import Recorded
from limner.sources.columns import Columns, target_of
from limner.sources.rows import to_raw

if TYPE_CHECKING:
    from limner.app.limner import Limner

_USERS = ("user_id", "target_user_id")
_IDENTITY = ("digest", "check")
_KEPT = (*_IDENTITY, "sealed", "source")
"""What a held row keeps beside its fields."""

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Readmitted:
    """What became of held rows that went through the door again.

    `added` are in the log and the portraits, `repeated` were there already; both have left the
    quarantine. `refused` stay in it, each with its new reason.
    """

    added: int
    repeated: int
    refused: tuple[Refused, ...]


class Refusals:
    """The quarantine of an open store; rows come with the product's own user ids."""

    def __init__(self, app: Limner) -> None:
        self._app = app
        self._held = app.store.quarantine

    def counts(self) -> dict[str, int]:
        """How many rows each rule holds."""
        return self._held.counts()

    def rows(
        self,
        *,
        limit: int | None = 100,
        import_id: int | None = None,
        rule: str | None = None,
    ) -> list[Refused]:
        """The newest rows, newest first: of one import, or refused by one rule."""
        found = self._held.rows(limit=limit, import_id=import_id, rule=rule)
        return [disclosed(self._app, row) for row in found]

    def row(self, row_id: int) -> Refused:
        """One row by its number. Raises NotFound."""
        return disclosed(self._app, self._chosen([row_id])[0])

    def readmit(
        self,
        ids: Sequence[int] = (),
        *,
        rule: str | None = None,
        import_id: int | None = None,
        change: Fields | None = None,
        corrected: Sequence[Fields] = (),
    ) -> Readmitted:
        """Send held rows through the door again, corrected or under other rules.

        Chosen by number, rule or import; `change` sets the same fields in all of them.
        `corrected` are rows of their own: each names its `row_id` and the fields that change. A
        field is one of an event's, or a property; None takes it away. A row that is admitted
        counts as what it would have been: same event, same import, and leaves the quarantine.
        Raises NotFound for a number that is not held, UsageError if nothing is chosen.
        """
        changes = {_number(row): _targets(row) for row in corrected}
        common = _targets(change or {})
        rows = self._chosen([*ids, *changes], rule, import_id)
        ready = [_ready(self._app, row, common | changes.get(row.row_id, {})) for row in rows]
        # rows of one batch share what a batch has once
        ready.sort(key=lambda one: (repr(one.shared), one.held.row_id))
        parts = [
            self._record(list(group)) for _, group in groupby(ready, key=lambda one: one.shared)
        ]
        return Readmitted(
            sum(part.added for part in parts),
            sum(part.repeated for part in parts),
            tuple(self.row(row.line) for part in parts for row in part.refused),
        )

    def drop(
        self,
        ids: Sequence[int] = (),
        *,
        rule: str | None = None,
        import_id: int | None = None,
    ) -> int:
        """Give rows up for good; return how many. The same rows, read again, are not held again.

        Raises NotFound for a number that is not held, UsageError if nothing is chosen.
        """
        rows = self._chosen(ids, rule, import_id)
        with self._app.writer.commit_lock, self._app.store.transaction():
            return self._held.settle([row.row_id for row in rows])

    def _chosen(
        self, ids: Sequence[int], rule: str | None = None, import_id: int | None = None
    ) -> list[Refused]:
        if not ids and rule is None and import_id is None:
            raise UsageError(
                "no row is chosen",
                mend="name rows by number, by rule or by import: limner quarantine list",
            )
        rows = self._held.rows(limit=None, import_id=import_id, rule=rule, ids=ids or None)
        lacking = sorted(set(ids) - {row.row_id for row in rows})
        if lacking:
            raise NotFound(
                f"no refused row has the number {', '.join(map(str, lacking))}",
                mend="see the numbers with: limner quarantine list",
            )
        return rows

    def _record(self, rows: Sequence[_Ready]) -> Recorded:
        shared = rows[0].shared
        return self._app.writer.record(
            _batch(rows),
            import_id=shared.import_id,
            policy=shared.policy,
            within=partial(self._settle, shared.import_id, [one.held for one in rows]),
            hold=False,
        )

    def _settle(self, import_id: int, rows: Sequence[Refused], recorded: Recorded) -> None:
        """What the quarantine and the ledger say once the rows are recorded."""
        again = {row.line: row for row in recorded.refused}
        for row_id, row in again.items():
            self._held.replace(row_id, row)
        self._held.settle([row.row_id for row in rows if row.row_id not in again])
        ledger = self._app.store.imports
        entry = {one.import_id: one for one in ledger.entries()}.get(import_id)
        if entry is not None:
            ledger.save(
                replace(
                    entry,
                    added=entry.added + recorded.added,
                    repeated=entry.repeated + recorded.repeated,
                    refused=max(entry.refused - recorded.added - recorded.repeated, 0),
                )
            )


def disclosed(app: Limner, refused: Refused) -> Refused:
    """A refused row as people may see it: own user ids, and no trace of how it is kept."""
    return replace(
        refused,
        row={
            name: value
            for name, value in _open(app, refused).items()
            if name not in (*_IDENTITY, "sealed")
        },
    )


def _open(app: Limner, refused: Refused) -> dict[str, Any]:
    """The row with the product's own user ids."""
    row = dict(refused.row)
    seals = row.get("sealed", {})
    for name in _USERS:
        if row.get(name):
            own = app.own_id(row[name])
            if own is None and name in seals:
                own = app.keys.unseal(Sealed.read(bytes.fromhex(row[name]), seals[name]))
            row[name] = own
    return row


@dataclass(frozen=True, slots=True)
class _Shared:
    """What all rows of a batch have in common."""

    where: str
    source: str
    import_id: int
    identified: bool
    policy: PrivacyConfig


@dataclass(frozen=True, slots=True)
class _Ready:
    """A held row, its fields as they shall be, and what it shares with others."""

    held: Refused
    fields: dict[str, Any]
    shared: _Shared


def _ready(app: Limner, held: Refused, change: Fields) -> _Ready:
    row = _open(app, held)
    own = {name: value for name, value in row.items() if name not in _KEPT}
    fields = {n: v for n, v in {**own, **change}.items() if v is not None}
    # what the policy took away it took before the row was held: it is asked about news only
    policy = PrivacyConfig(
        {
            name: what
            for name, what in app.config.privacy.fields.items()
            if column_of(name) in change
        }
    )
    source = str(change.get("source") or row.get("source") or "file")
    fields.pop("source", None)
    identified = "digest" in row and "event_id" not in change
    return _Ready(held, fields, _Shared(held.where, source, held.import_id, identified, policy))


def _batch(rows: Sequence[_Ready]) -> RawBatch:
    """Rows that share one source as they would come from it, each under its number as line."""
    names = list(dict.fromkeys(name for one in rows for name in one.fields))
    columns = Columns(
        fields={name: name for name in names if not name.startswith(PROPERTY)},
        properties={n.removeprefix(PROPERTY): n for n in names if n.startswith(PROPERTY)},
        constants={},
        lists=frozenset(),
    )
    fields = [one.fields for one in rows]
    shared = rows[0].shared
    raw = to_raw(
        fields, fields, [one.held.row_id for one in rows], columns, None,
        kind="events", where=shared.where, source=shared.source,
    )  # fmt: skip
    if not shared.identified:
        return raw
    held = [one.held.row for one in rows]
    digests = pa.array([bytes.fromhex(row["digest"]) for row in held], pa.binary(16))
    checks = pa.array([row.get("check") or 0 for row in held], pa.uint64())
    table = raw.table.append_column("digest", digests).append_column("check", checks)
    return replace(raw, table=table)


def _number(row: Fields) -> int:
    number = row.get("row_id")
    if isinstance(number, int) and not isinstance(number, bool):
        return number
    raise UsageError(
        f"a corrected row has row_id {number!r}",
        mend='begin each with the number that limner quarantine list gives it: {"row_id": 7, …}',
    )


def _targets(change: Fields) -> dict[str, Any]:
    """Changed fields under the names of columns; an object under `properties` is opened."""
    inner = change.get("properties")
    flat = {**change, **(inner if isinstance(inner, Mapping) else {})}
    return {
        name if name == "source" else target_of(name): value
        for name, value in flat.items()
        if name not in ("row_id", "properties")
    }
