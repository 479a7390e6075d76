"""The state of all users' facets, in memory, and the fold that keeps it.

A user is a row. All fixed columns of all facets of a row lie together in one packed record, so
that an event touches few cache lines whatever the number of users; keyed maps lie in pools.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from limner.catalog.catalog import Catalog
from limner.errors import OutOfOrder
from limner.events.arrays import Grow, Vocabulary
from limner.events.batch import DAY, F64, I64, EventBatch
from limner.events.log import Position
from limner.events.raw import DELETE_ITEM, ITEM
from limner.profile import merging
from limner.profile.events import TARGET, Events, vocabulary
from limner.profile.facet import COUNTED, Facet, Lifted, Reader
from limner.profile.facets.label import Label
from limner.profile.merge import NEVER, Column, Values, decayed, group_starts, merge, reduce_groups
from limner.profile.pool import Pool
from limner.profile.rows import NO_ROOM, Arrays, Rows

LATENESS = 7 * DAY
ARRAYS = 6
"""Which arrays a snapshot of a state holds, and what they mean."""


@dataclass(frozen=True, slots=True)
class Folded:
    """What a fold leaves to do: users to fold again from the log.

    `late_users`: rows with an event later than `lateness` behind their newest one that no merge
    can take in exactly, because a bounded map of theirs has let something go.
    `late_items`: items whose earlier events now mean something else; whoever touched them.
    """

    late_users: list[int]
    late_items: list[int]


@dataclass(frozen=True, slots=True)
class _Plan:
    """How fixed columns of a facet merge: where they lie within a record (None: numpy merges)."""

    columns: tuple[Column, ...]
    spec: I64 | None
    lives: F64


class ProfileState:
    """Every user's facets, the catalog they are read with, and the position they reflect."""

    def __init__(
        self,
        facets: Sequence[Facet],
        *,
        timezone: str = "UTC",
        lateness: int = LATENESS,
        catalog: Catalog | None = None,
        words: dict[str, Vocabulary] | None = None,
        labels: Sequence[Label] = (),
    ) -> None:
        self.facets = tuple(facets)
        self.labels = tuple(labels)
        """What models say of users, read from the facets: nothing is folded for them."""
        self.timezone = timezone
        self.lateness = lateness
        self.catalog = catalog if catalog is not None else Catalog()
        self.words: dict[str, Vocabulary] = words if words is not None else {}
        self.position: Position = 0
        self.removals = 0
        """How often something was taken out; whoever keeps what was read looks at it."""
        self._newest: int | None = NEVER
        self.rows = Rows()
        self.owed_users: set[bytes] = set()
        self.owed_items: set[int] = set()
        """Who is to be folded again from the log, and whoever touched which items."""
        fields: list[tuple[str, str, tuple[int, ...]]] = [("newest", "i8", ())]
        for facet in self.facets:
            for column in (*COUNTED, *facet.columns):
                shape = () if column.width == 1 else (column.width,)
                fields.append((f"{facet.name}.{column.name}", column.dtype, shape))
        self._columns = {facet.name: (*COUNTED, *facet.columns) for facet in self.facets}
        self._fields = {
            name: {column.name: f"{name}.{column.name}" for column in columns}
            for name, columns in self._columns.items()
        }
        self._dtype = np.dtype(fields)
        self._identity = np.zeros(1, dtype=self._dtype)
        self._identity["newest"] = NEVER
        for facet in self.facets:
            for column in (*COUNTED, *facet.columns):
                self._identity[f"{facet.name}.{column.name}"] = column.identity
        self._records = Grow(self._dtype)
        self._records.fill = self._identity[0]
        self.pools = {facet.name: Pool(facet.map) for facet in self.facets if facet.map is not None}
        self._plans: dict[tuple[str, ...], _Plan] = {}
        self._bytes: npt.NDArray[np.uint8] = np.empty(0, dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def newest_event(self) -> int:
        """Time of the newest event of all users, `NEVER` without any."""
        if self._newest is None:
            self._newest = int(self.records["newest"].max(initial=NEVER))
        return self._newest

    @property
    def bytes_per_row(self) -> int:
        """Size of a user's fixed part."""
        return int(self._dtype.itemsize)

    @property
    def records(self) -> npt.NDArray[Any]:
        """The packed rows: field `FACET.COLUMN` is one column of all users."""
        return self._records.view

    def row_of(self, users: Sequence[bytes]) -> I64:
        """Rows of these pseudonyms; a new user gets one."""
        out = self.rows.add(users)
        self._records.resize(self.rows.size)
        for pool in self.pools.values():
            pool.resize(self.rows.size)
        return out

    # -- folding -----------------------------------------------------------------------------

    def fold(self, first: Position, batch: EventBatch) -> Folded:
        """Merge `batch`, whose first row lies at `first`, into the state.

        One pass, O(len(batch)). Raises OutOfOrder if `first` is not the state's next position.
        """
        if first != self.position:
            raise OutOfOrder(f"the batch starts at {first}, the state is at {self.position}")
        late_items = self._catalog_part(batch, np.arange(first, first + len(batch)))
        late_users = self.fold_users(batch, np.arange(first, first + len(batch)))
        self.position = first + len(batch)
        return Folded(late_users, late_items)

    def _catalog_part(self, batch: EventBatch, positions: I64) -> list[int]:
        codes, values = batch.codes("event_type")
        about_items = [code for code, value in enumerate(values) if value in (ITEM, DELETE_ITEM)]
        if not about_items:
            return []
        rows = np.flatnonzero(np.isin(codes, about_items))
        late: set[int] = set()
        # in runs of one kind: what comes later in the log holds, however the log is batched
        for run in np.split(rows, np.flatnonzero(np.diff(codes[rows])) + 1):
            part = batch.take(run)
            if not len(run):
                continue
            if values[codes[run[0]]] == ITEM:
                late.update(self.catalog.put(part, positions[run]).tolist())
            else:
                self.catalog.delete(part)
        return sorted(late)

    def fold_users(
        self, batch: EventBatch, positions: I64, *, refolding: bool = False
    ) -> list[int]:
        """Merge the rows that belong to users; return the rows of users with late events.

        With `refolding` nothing is late and the catalog's record of event times stays as it is.
        """
        codes, values = batch.codes("user_id")
        users = np.flatnonzero(codes >= 0)
        if not len(users):
            return []
        used = np.unique(codes[users])
        row_of_code = np.empty(len(values), dtype=np.int64)
        row_of_code[used] = self.row_of([values[code] for code in used.tolist()])
        rows = row_of_code[codes[users]]
        order = np.argsort(rows, kind="stable")
        chosen = users[order]
        whole = len(chosen) == len(batch) and bool((chosen[1:] > chosen[:-1]).all())
        item_codes, item_ids = batch.codes("item_id")
        items = self.catalog.intern(item_codes[chosen], item_ids)
        events = Events(
            batch, positions[chosen], rows[order], items, self.catalog, self.words, self.timezone,
            at=None if whole else chosen,
        )  # fmt: skip
        if not refolding:
            ordinary = events.ordinary
            self.catalog.touch(items[ordinary], events.time[ordinary])
        late = self._note_times(events, refolding)
        for facet in self.facets:
            self._merge_fixed(facet, events, facet.lift(events))
        return late

    def _note_times(self, events: Events, refolding: bool) -> list[int]:
        starts = group_starts(events.row)
        rows = events.row[starts]
        times = np.where(events.ordinary, events.time, NEVER)
        newest = np.maximum.reduceat(times, starts)
        kept = self.records["newest"]
        late: list[int] = []
        if not refolding:
            before = kept[events.row]
            behind = (before != NEVER) & (times != NEVER) & (times < before - self.lateness)
            late = [row for row in sorted(set(events.row[behind].tolist())) if self._bounded(row)]
        kept[rows] = np.maximum(kept[rows], newest)
        self._newest = max(self.newest_event, int(newest.max()))
        return late

    def _bounded(self, row: int) -> bool:
        """Whether a map of this user ever overflowed; without that any delay merges exactly."""
        return any(pool.overflowed(row) for pool in self.pools.values())

    def _merge_fixed(self, facet: Facet, events: Events, lifted: Lifted) -> None:
        touched = lifted.touched
        if not len(touched):
            return
        rows = events.row[touched]
        values: Values = {"t": events.time[touched], **lifted.fixed}
        plan = self._plan(facet.name, lifted.scattered)
        if plan.spec is not None and merging.compiled is not None:
            if self._bytes.base is not self._records.data:
                self._bytes = self._records.data.view(np.uint8)
            merging.compiled.merge_fixed(
                self._bytes, self.bytes_per_row, rows, plan.spec, plan.lives,
                merging.given(plan.columns, values),
            )  # fmt: skip
        else:
            values["n"] = np.ones(len(touched), dtype=np.uint32)
            starts = group_starts(rows)
            reduced = reduce_groups(plan.columns, values, np.arange(len(touched)), starts)
            self._merge_rows(facet.name, plan.columns, rows[starts], reduced)
        for name, (place, given) in lifted.scattered.items():
            adds = any(c.name == name and c.op == "sum" for c in self._columns[facet.name])
            at = np.add.at if adds else np.maximum.at
            at(self.records[f"{facet.name}.{name}"], (rows, place), given)
        if lifted.entries is not None:
            index, keys, entries = lifted.entries
            self.pools[facet.name].add(events.row[index], keys, entries)

    def _plan(self, name: str, scattered: Collection[str]) -> _Plan:
        """How a facet's fixed columns merge, but for those of which an event touches one place."""
        key = (name, *scattered)
        plan = self._plans.get(key)
        if plan is None:
            columns = tuple(c for c in self._columns[name] if c.name not in scattered)
            spec = None
            if merging.takes(columns):
                fields: Mapping[str, Any] = self._dtype.fields or {}
                kept = [fields[self._fields[name][column.name]] for column in columns]
                spec = merging.spec(
                    columns, [one[0].base for one in kept], [one[1] for one in kept]
                )
            plan = self._plans[key] = _Plan(columns, spec, merging.lives(columns))
        return plan

    def _merge_rows(self, name: str, columns: Sequence[Column], rows: I64, values: Values) -> None:
        fields, records = self._fields[name], self.records
        kept = {column.name: records[fields[column.name]][rows] for column in columns}
        for column, merged in merge(columns, kept, values).items():
            records[fields[column]][rows] = merged

    def absorb(self, rows: I64, other: ProfileState, other_rows: I64) -> None:
        """Merge another state's users into these rows, none twice, each into the one in its place.

        The states share catalog and words.
        """
        taken = other.records[other_rows]
        for facet in self.facets:
            columns = self._columns[facet.name]
            values = {column.name: taken[f"{facet.name}.{column.name}"] for column in columns}
            self._merge_rows(facet.name, columns, rows, values)
            if facet.name in self.pools:
                self.pools[facet.name].absorb(rows, other.pools[facet.name], other_rows)
        newest = self.records["newest"]
        newest[rows] = np.maximum(newest[rows], taken["newest"])

    def join(self, user: bytes, into: bytes) -> bool:
        """Merge one user into another and give up the first's row.

        True if the other must be folded again from the log, since a bounded map let something
        go: it then holds what the merge kept, within its stated error.
        """
        if user in self.owed_users:
            self.owed_users.remove(user)
            self.owed_users.add(into)
        if user not in self.rows:
            return False
        row, gone = self.row_of([into]), np.array([self.rows[user]])
        self.absorb(row, self, gone)
        self.clear(gone)
        self.rows.remove(user)
        return self._bounded(int(row[0]))

    def clear(self, rows: I64) -> None:
        """Make these rows, none twice, the identity again."""
        if (self.records["newest"][rows] == self._newest).any():
            self._newest = None
        self.records[rows] = self._identity[0]
        for pool in self.pools.values():
            pool.clear(rows)

    @property
    def name(self) -> str:
        """What an erasure receipt calls it."""
        return "portraits"

    def erase(self, user: bytes) -> int:
        """Drop a user and everything kept of them; 1 if there was one."""
        row = self.rows.remove(user)
        self.removals += 1
        self.owed_users.discard(user)
        self._forget_target(user)
        if row is None:
            return 0
        self.clear(np.array([row]))
        self._forget_texts()
        return 1

    def _forget_target(self, user: bytes) -> None:
        """Blank the user in the ties of others, who are owed a fold without them."""
        known = self.words.get(TARGET)
        code = known.code(user.hex()) if known is not None else -1
        if known is None or code < 0:
            return
        for pool in self.pools.values():
            if ("key", TARGET) in pool.spec.texts:
                rows, keys, _ = pool.every()
                tied = map(self.rows.key, np.unique(rows[keys == code]).tolist())
                self.owed_users.update(user for user in tied if user is not None)
        known.blank([code])

    def _forget_texts(self) -> None:
        """Blank the texts that no user's map holds any more; those of items are nobody's own."""
        held: dict[str, set[int]] = {}
        for pool in self.pools.values():
            own = [(what, path) for what, path in pool.spec.texts if path in self.words]
            if own:
                _, keys, values = pool.every()
                for what, path in own:
                    codes = np.unique(keys if what == "key" else values[what]).tolist()
                    held.setdefault(path, set()).update(codes)
        for path, codes in held.items():
            vocabulary = self.words[path]
            vocabulary.blank(
                code for code, text in enumerate(vocabulary.values) if text and code not in codes
            )

    def holds(self, user: bytes) -> bool:
        """Whether the state has a row of this pseudonym, or a tie of somebody's to it."""
        known = self.words.get(TARGET)
        return user in self.rows or (known is not None and user.hex() in known)

    def scratch(self) -> ProfileState:
        """An empty state that shares this one's facets, catalog and words."""
        return ProfileState(
            self.facets,
            timezone=self.timezone,
            lateness=self.lateness,
            catalog=self.catalog,
            words=self.words,
            labels=self.labels,
        )

    def anew(self, facets: Sequence[Facet] | None = None) -> ProfileState:
        """An empty state, of other facets if given, whose items and words bear the same numbers."""
        out = ProfileState(
            self.facets if facets is None else facets,
            timezone=self.timezone,
            lateness=self.lateness,
            labels=self.labels,
        )
        out.catalog = self.catalog.anew()
        out.words = {path: Vocabulary(words.values) for path, words in self.words.items()}
        return out

    @property
    def readers(self) -> tuple[Reader, ...]:
        """Whatever gives slots: the facets, then the labels."""
        return (*self.facets, *self.labels)

    # -- reading -----------------------------------------------------------------------------

    def fixed(self, facet: str, row: int) -> Values:
        """A facet's fixed columns of one user, as arrays of length 1."""
        record = self.records[row : row + 1]
        return {name: record[field] for name, field in self._fields[facet].items()}

    def vocabulary(self, path: str) -> Vocabulary:
        """The texts behind the codes of a path."""
        return vocabulary(path, self.catalog, self.words)

    def totals(self, facet: str, now: int, rows: I64 | None = None) -> tuple[I64, F64]:
        """Over all users, or those of `rows`: (keys ascending, sums of a map's numeric columns).

        Decayed to `now`.
        """
        pool = self.pools[facet]
        _, keys, values = pool.every(rows)
        if keys.dtype.itemsize <= 4:  # codes, which lie close together
            least = int(keys.min(initial=0))
            there = np.bincount(keys.astype(np.int64) - least) > 0
            unique = np.flatnonzero(there) + least
            inverse = (np.cumsum(there) - 1)[keys.astype(np.int64) - least]
        else:
            unique, inverse = np.unique(keys, return_inverse=True)
        sums: list[Any] = []
        for column in pool.spec.columns:
            if column.op not in ("sum", "decay"):
                continue
            given = decayed(values, column, now) if column.op == "decay" else values[column.name]
            data = given.astype(np.float64).reshape(len(keys), column.width)
            sums.extend(
                np.bincount(inverse, weights=data[:, place], minlength=len(unique))
                for place in range(data.shape[1])
            )
        table = np.stack(sums, axis=1) if sums else np.zeros((len(unique), 0))
        return unique.astype(np.int64), table

    # -- snapshots ---------------------------------------------------------------------------

    @property
    def layout(self) -> str:
        """What the arrays mean: a snapshot of another layout is not loaded but replayed."""
        maps: Mapping[str, Any] = {name: repr(pool.spec) for name, pool in self.pools.items()}
        # a facet that is a dataclass says its whole definition: which events, weighed how
        facets = [
            repr(facet) if is_dataclass(facet) else type(facet).__qualname__
            for facet in self.facets
        ]
        return repr((ARRAYS, self._dtype.descr, sorted(maps.items()), self.timezone, facets))

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All arrays by name, for a snapshot."""
        out: dict[str, npt.NDArray[Any]] = {
            # as bytes: a snapshot knows plain types only
            "records": self.records.view(np.uint8).reshape(len(self.records), self.bytes_per_row),
            **self.rows.arrays(),
            "owed_users": np.frombuffer(b"".join(sorted(self.owed_users)), dtype=np.uint8),
            "owed_items": np.array(sorted(self.owed_items), dtype=np.int64),
        }
        for name, pool in self.pools.items():
            for key, array in pool.arrays().items():
                out[f"pool.{name}.{key}"] = array
        return out

    def load(self, arrays: Arrays, rooms: Arrays = NO_ROOM) -> None:
        """Take what `arrays` gave; they may be memory-mapped copy-on-write.

        `rooms` has the same arrays with what is free behind them, where something is: what comes
        goes there, so that the first new user copies nothing.
        """
        records, room = (
            None if found is None else found.view(self._dtype).reshape(-1)
            for found in (arrays["records"], rooms.get("records"))
        )
        assert records is not None
        self._records.load(records, room)
        self._newest = None
        self.rows.load(arrays, rooms)
        owed = arrays["owed_users"].tobytes()
        self.owed_users = {owed[place : place + 16] for place in range(0, len(owed), 16)}
        self.owed_items = set(arrays["owed_items"].tolist())
        for name, pool in self.pools.items():
            pool.load(*(_under(f"pool.{name}.", given) for given in (arrays, rooms)))


def _under(prefix: str, arrays: Arrays) -> Arrays:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
