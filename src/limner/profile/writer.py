"""The one writer: admit, clean, append, fold, and only then acknowledge.

Whoever records puts rows in line and asks for the writer's lock; who gets it commits everything
that is in line as one micro-batch (group commit), so a commit is small under light load and large
under heavy load, and nobody waits for more than the commit before their own.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import pyarrow as pa

from limner.catalog.catalog import Catalog
from limner.errors import StoreError
from limner.events.batch import F64, I32, I64, Bool, EventBatch, concat
from limner.events.clean import clean
from limner.events.log import EventLog, Position
from limner.events.meant import Amendments, Meant
from limner.events.norms import Norms
from limner.events.raw import ALIAS, Quarantine, RawBatch, Refused
from limner.events.rules import BITS, CleanConfig
from limner.privacy.admit import Admitted, Occurrences, PrivacyConfig, admit
from limner.privacy.identity import IdentityTable, Sealed
from limner.privacy.keys import Keys
from limner.profile.events import RESERVED
from limner.profile.merge import NEVER
from limner.profile.state import ProfileState

ONE_BY_ONE = 64
"""Users up to which a refold looks each one up; beyond, it reads the log once for all."""

SLICE = 20_000
"""Events folded between two chances for readers: some tens of milliseconds at the most."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of rows: `added` lie in the log, durably, and are in the portraits.

    `repeated` were there before and changed nothing (law 2). `as_of` is the log's next position
    after them. `found` counts what cleaning said, by rule.
    """

    added: int
    repeated: int
    refused: tuple[Refused, ...]
    as_of: Position
    found: Counter[str] = field(default_factory=Counter)

    @property
    def rows(self) -> int:
        """How many rows came."""
        return self.added + self.repeated + len(self.refused)


@dataclass(slots=True)
class _Ticket:
    rows: RawBatch | Admitted
    occurrences: Occurrences
    import_id: int
    refused: tuple[Refused, ...]
    within: Callable[[Recorded], None] | None = None
    hold: bool = True
    policy: PrivacyConfig | None = None
    result: Recorded | None = None
    error: BaseException | None = None


class Follower(Protocol):
    """Somebody who is told of every commit."""

    def seen(self, first: Position, batch: EventBatch) -> None:
        """A batch was folded; called with the writer's lock."""
        ...

    def leave(self, row: int) -> None:
        """The user of a row (−1: of none) is about to give it up; called with the lock."""
        ...

    def refolded(self, users: Collection[bytes]) -> None:
        """These users were folded again from the log; called with the commit lock."""
        ...

    def committed(self, *, live: bool) -> None:
        """A commit is done, `live` or one of an import; called with the commit lock."""
        ...


@dataclass(frozen=True, slots=True)
class _Good:
    """A ticket's rows after cleaning."""

    ticket: _Ticket
    where: str
    batch: EventBatch
    lines: I64
    refused: list[Refused]
    found: Counter[str]


@dataclass(slots=True)
class Writer:
    """Keeps the log and the state in step; readers of the state hold `lock`."""

    log: EventLog
    identities: IdentityTable
    quarantine: Quarantine
    transaction: Callable[[], AbstractContextManager[None]]
    keys: Keys
    policy: PrivacyConfig
    rules: CleanConfig
    state: ProfileState
    norms: Norms
    clock: Callable[[], int]
    amendments: Amendments = field(default_factory=Amendments)
    group_by: str = "type"
    """The item attribute whose values amounts are compared within, for outliers."""
    rewritten: int = 0
    """How often rows were removed from the log: what was read before may hold them."""
    broken: bool = False
    """Whether the state is half folded: a fold failed, and so did building it anew."""
    lock: threading.RLock = field(default_factory=threading.RLock)
    commit_lock: threading.RLock = field(default_factory=threading.RLock)
    follower: Follower | None = None
    _line: list[_Ticket] = field(default_factory=list)
    _line_lock: threading.Lock = field(default_factory=threading.Lock)

    def record(
        self,
        rows: RawBatch | Admitted,
        *,
        occurrences: Occurrences | None = None,
        import_id: int = 0,
        refused: Sequence[Refused] = (),
        settle: bool = True,
        within: Callable[[Recorded], None] | None = None,
        hold: bool = True,
        policy: PrivacyConfig | None = None,
    ) -> Recorded:
        """Take rows in; return when they are durable and visible.

        Without `settle`, users with late events are visible as far as a merge can take them,
        until `settle` is called: for imports, whose rows may be in any order. `refused` are
        rows of the same source that could not even be read: they go to quarantine in the same
        transaction. `within` is called inside that transaction with what will be true when it
        ends, for whoever keeps a book of it; without `hold` what is refused is left to it, else
        it goes to quarantine; `policy` stands for the writer's own. Raises what the store raises;
        then nothing was changed.
        """
        ticket = _Ticket(
            rows, occurrences or Occurrences(), import_id, tuple(refused), within, hold, policy
        )
        with self._line_lock:
            self._line.append(ticket)
        with self.commit_lock:
            if ticket.result is None and ticket.error is None:
                with self._line_lock:
                    tickets, self._line = self._line, []
                self._commit(tickets)
            if settle and (self.state.owed_users or self.state.owed_items):
                self.settle()
            if self.follower is not None:
                self.follower.committed(live=settle)
        if ticket.error is not None:
            raise ticket.error
        assert ticket.result is not None
        return ticket.result

    @property
    def meant(self) -> Meant:
        """The log as it is meant: under its users, with what was amended as it should be."""
        return Meant(self.log, self.amendments)

    def _commit(self, tickets: list[_Ticket]) -> None:
        good: list[_Good] = []
        identities: dict[bytes, Sealed] = {}
        linked: dict[bytes, bytes] = {}
        for ticket in tickets:
            try:
                admitted = ticket.rows
                if isinstance(admitted, RawBatch):
                    policy = ticket.policy or self.policy
                    admitted = admit(admitted, self.keys, policy, ticket.occurrences)
                cleaned = clean(
                    admitted.raw,
                    now=self.clock(),
                    config=self.rules,
                    norms=self.norms,
                    kinds=self._kinds,
                    prices=self._prices,
                )
            except Exception as error:  # one caller's rows must not fail the others'
                ticket.error = error
                continue
            batch = cleaned.batch
            if ticket.import_id:
                batch = batch.with_column(
                    "import_id", np.full(len(batch), ticket.import_id, dtype=np.int32)
                )
            wrong = self.amendments.refused(batch, linked)
            lines = cleaned.lines
            no_alias = _refused(admitted.raw.where, batch, lines, "conflicting_alias", wrong)
            if wrong:
                kept = np.setdiff1d(np.arange(len(batch)), list(wrong))
                batch, lines = batch.take(kept), lines[kept]
            new = admitted.identities(self.keys, self._named)
            identities.update((sealed.pseudonym, sealed) for sealed in new)
            refused = [*ticket.refused, *cleaned.refused, *no_alias]
            found = cleaned.found + Counter(row.rule for row in (*ticket.refused, *no_alias))
            good.append(_Good(ticket, admitted.raw.where, batch, lines, refused, found))
        if good:
            self._append(good, identities)

    def _append(self, good: list[_Good], identities: dict[bytes, Sealed]) -> None:
        try:
            whole = concat([one.batch for one in good])
            with self.transaction():
                appended = self.log.append(whole)
                fresh = whole.take(appended.kept)
                # only of users with a row that is new: a repeated row brings nobody back (law 6)
                there = users_in(fresh) if identities else set()
                new = {user: row for user, row in identities.items() if user in there}
                self.identities.add(list(new.values()))
                results = list(
                    self._results(good, whole, appended.kept, appended.conflict, new, identities)
                )
                for ticket, result in results:
                    if result.refused and ticket.hold:
                        self.quarantine.add(
                            result.refused, import_id=ticket.import_id, now=self.clock()
                        )
                    if ticket.within is not None:
                        ticket.within(result)
        except BaseException as error:
            if len(good) > 1 and isinstance(error, Exception) and not isinstance(error, StoreError):
                for one in good:  # whose rows it was fails alone
                    self._append([one], identities)
                return
            for one in good:
                one.ticket.error = error
            return
        try:
            self._follow(appended.first, fresh)
        except Exception as error:
            failed = StoreError(
                f"the rows are in the log, but the portraits cannot take them in ({error!r})",
                mend="open the store anew; if that fails too, undo the import they came with",
            )
            failed.__cause__ = error
            for ticket, _ in results:
                ticket.error = failed
            return
        for ticket, result in results:
            ticket.result = replace(result, as_of=self.state.position)

    def _follow(self, first: Position, batch: EventBatch) -> None:
        """Fold what was appended; a state that a failure left half folded is built anew."""
        try:
            if self.broken or self.state.position != first:
                self.rebuild()
            else:
                self._fold(first, batch)
        except Exception:
            if not self.broken:
                self.broken = True
                self.rebuild()
                return
            raise

    def rebuild(self, progress: Callable[[int, int], None] | None = None) -> None:
        """The state anew from the log, built beside the live one, which readers see until then.

        Nothing may be removed from the log meanwhile: hold `commit_lock`.
        """
        old = self.state
        empty = ProfileState(old.facets, timezone=old.timezone, lateness=old.lateness)
        beside = self.beside(empty)
        beside.catch_up(progress)
        self.take_over(beside)

    def beside(self, empty: ProfileState) -> Writer:
        """A writer of the same log with a state of its own, to be caught up beside this one."""
        return replace(
            self,
            state=empty,
            norms=Norms(),
            amendments=Amendments(),
            broken=False,
            lock=threading.RLock(),
            commit_lock=threading.RLock(),
            follower=None,
        )

    def take_over(self, beside: Writer) -> None:
        """Put what was built beside in the place of the live state, at once."""
        with self.commit_lock:
            beside.catch_up()
            with self.lock:
                self.state, self.norms = beside.state, beside.norms
                self.amendments, self.broken = beside.amendments, False

    def _named(self, users: Sequence[bytes]) -> Bool:
        """Which pseudonyms have an identity for certain: those who have a portrait."""
        return self.state.rows.find(self.amendments.users(users)) >= 0

    def _results(
        self,
        good: Sequence[_Good],
        whole: EventBatch,
        kept: Bool,
        conflict: Bool,
        new: Mapping[bytes, Sealed],
        identities: Mapping[bytes, Sealed],
    ) -> Iterator[tuple[_Ticket, Recorded]]:
        start = 0
        for one in good:
            rows = slice(start, start + len(one.batch))
            start += len(one.batch)
            refused, found = one.refused, one.found
            clashes = np.flatnonzero(conflict[rows])
            if len(clashes):
                reason = (
                    "this event id is in the log with other content; to mend it: send it under "
                    "a new id that corrects the first: corrects = the id"
                )
                clashing = _refused(
                    one.where,
                    one.batch,
                    one.lines,
                    "conflicting_id",
                    dict.fromkeys(clashes.tolist(), reason),
                )
                # the row of that identity is in the log: this one cannot be readmitted under it
                refused = [*refused, *map(_nameless, clashing)]
                found = found + Counter(conflicting_id=len(clashes))
            if found.keys() & BITS.keys():  # a row that repeats another is touched no more
                found = _of_kept(found, whole.array("flags")[rows.start : rows.stop], kept[rows])
            added = int(kept[rows].sum())
            repeated = len(one.batch) - added - len(clashes)
            refused = [self._holdable(row, new, identities) for row in refused]
            yield one.ticket, Recorded(added, repeated, tuple(refused), 0, found)

    def _holdable(
        self, refused: Refused, new: Mapping[bytes, Sealed], identities: Mapping[bytes, Sealed]
    ) -> Refused:
        """The row as it may be kept, with its users' sealed ids if no identity is kept of them.

        A row that was in the log once names only users who have an identity: if it was erased,
        being refused does not bring them back (law 6).
        """
        row = dict(refused.row)
        for name in ("user_id", "target_user_id"):
            user = row.get(name)
            key = bytes.fromhex(user) if isinstance(user, str) else user
            if key is None or key in new or self.identities.get(key) is not None:
                continue
            sealed = identities.get(key)
            digest = row.get("digest")
            if sealed is None or digest is None or self._logged(digest):
                del row[name]
            else:
                row["sealed"] = {**row.get("sealed", {}), name: sealed.spelled()}
        return replace(refused, row=row)

    def _logged(self, digest: str) -> bool:
        return bool(self.log.knows(pa.array([bytes.fromhex(digest)], pa.binary(16)))[0])

    def _kinds(self, items: list[str]) -> I32:
        """Item texts → codes of their kind, for outliers; −1 where unknown."""
        catalog: Catalog = self.state.catalog
        with self.lock:
            known = catalog.ids.find(items)
            versions = catalog.versions_at(known, np.full(len(known), self.clock()))
            out = np.full(len(items), -1, dtype=np.int32)
            rows, codes = catalog.codes_at(self.group_by, versions)
            out[rows] = codes
        return out

    def _prices(self, items: list[str], codes: I64, times: I64) -> F64:
        """What these items cost at these times, as far as the catalog says."""
        catalog: Catalog = self.state.catalog
        with self.lock:
            known = catalog.ids.find(items)
            return catalog.numbers_at("price", catalog.versions_at(known[codes], times))

    # -- the state follows the log -----------------------------------------------------------

    def _fold(self, first: Position, batch: EventBatch) -> None:
        for start in range(0, len(batch), SLICE):
            part = batch.slice(start, min(start + SLICE, len(batch)))
            with self.lock:
                learned = self.amendments.learn(part, first + start)
                for user, into in learned.joined:
                    if self.follower is not None:
                        self.follower.leave(self.state.rows.get(user, -1))
                    if self.state.join(user, into):
                        self.state.owed_users.add(into)
                self.state.owed_users.update(learned.owed)
                meant = self.amendments.follow(part)
                folded = self.state.fold(first + start, meant)
                users = [self.state.rows.key(row) for row in folded.late_users]
                self.state.owed_users.update(user for user in users if user is not None)
                self.state.owed_items.update(folded.late_items)
                if self.follower is not None:
                    self.follower.seen(first + start, meant)
        # what is in the log is counted once, so that a repeated import changes no flag
        self.norms.observe(first, batch, self._kinds)

    def settle(self) -> None:
        """Fold whoever is owed it again from the log: late users, and users of late items."""
        with self.commit_lock:
            if self.state.owed_items:
                self.state.owed_users.update(self._users_of(self.state.owed_items))
            self.refold(sorted(self.state.owed_users))
            if self.follower is not None:
                self.follower.refolded(self.state.owed_users)
            self.state.owed_items.clear()
            self.state.owed_users.clear()

    def catch_up(
        self, progress: Callable[[int, int], None] | None = None, stop: Position | None = None
    ) -> int:
        """Fold what the log has (up to `stop`) and the state has not; return how many rows.

        What `progress` raises ends it (law 3).
        """
        start, head = self.state.position, self.log.head() if stop is None else stop
        for first, batch in self.log.read(start, head):
            self._fold(first, batch)
            if progress is not None:
                progress(first + len(batch) - start, head - start)
        self.settle()
        return head - start

    def _users_of(self, items: set[int]) -> set[bytes]:
        """The users who have an event with one of these items."""
        names = pa.array([self.state.catalog.ids.values[item] for item in items], pa.string())
        found: set[bytes] = set()
        for _, batch in self.log.read(0, self.state.position):
            codes, values = batch.codes("item_id")
            wanted = np.isin(codes, np.flatnonzero(np.isin(values, names.to_pylist())))
            users, known = batch.codes("user_id")
            chosen = np.unique(users[wanted & (users >= 0)]).tolist()
            found.update(known[code] for code in chosen)
        return found

    def recount_items(self, items: set[int]) -> None:
        """Find anew when these items had their last event; drop those that no row names."""
        if not items:
            return
        catalog = self.state.catalog
        texts = {catalog.ids.values[item]: item for item in items}
        last: dict[int, int] = {}
        for _, batch in self.log.read(0, self.state.position):
            codes, values = batch.codes("item_id")
            known = np.array([*(texts.get(value, -1) for value in values), -1], dtype=np.int64)
            mine = known[codes]
            rows = np.flatnonzero(mine >= 0)
            if not len(rows):
                continue
            kinds, types = batch.codes("event_type")
            reserved = np.array([*(kind in RESERVED for kind in types), False])[kinds[rows]]
            times = np.where(reserved, NEVER, batch.times()[rows])
            for item, time in zip(mine[rows].tolist(), times.tolist(), strict=True):
                last[item] = max(last.get(item, NEVER), time)
        with self.lock:
            for item, time in last.items():
                catalog.last_event.view[item] = time
            catalog.forget(item for item in items.difference(last) if not catalog.has_version(item))

    def refold(self, users: Sequence[bytes]) -> None:
        """Rebuild these users from the log: what no merge can do (law 1).

        They are built beside the live state, and each is put in its place at once; many of them
        in one pass over the log.
        """
        if not users:
            return
        beside = self.folded_again(users)
        for user in users:
            with self.lock:
                row = self.state.rows.get(user)
                if row is not None:
                    self.state.clear(row)
                    if user in beside.rows:
                        self.state.absorb(row, beside, beside.rows[user])

    def folded_again(self, users: Sequence[bytes]) -> ProfileState:
        """These users in a state of their own, from all their rows of the log."""
        with self.lock:
            beside = self.state.scratch()
        if len(users) <= ONE_BY_ONE:
            for user in users:
                positions, batch = self.meant.events_of(user, known_at=self.state.position)
                self._refold_into(beside, batch, positions)
        else:
            for positions, batch in self.meant.read(self.state.position, users=set(users)):
                self._refold_into(beside, batch, positions)
        return beside

    def _refold_into(self, beside: ProfileState, batch: EventBatch, positions: I64) -> None:
        with self.lock:  # the catalog and the words are shared with the live state
            beside.fold_users(batch, positions, refolding=True)

    def as_of(self, user: bytes, at: int, known_at: Position | None = None) -> ProfileState:
        """A state of this user alone from the events up to `at` that lay before `known_at`."""
        stop = self.state.position if known_at is None else known_at
        positions, batch = self.meant.events_of(user, at=at, known_at=stop)
        with self.lock:
            past = self.state.scratch()
            past.catalog = past.catalog.known_at(stop)
            past.fold_users(batch, positions, refolding=True)
            past.position = stop
        return past

    def positions_of_import(self, import_id: int) -> tuple[I64, set[bytes], bool, set[int]]:
        """Where an import's rows lie, whose they are, whether items or links are among them,
        which others depend on, and which items rest on them.
        """
        found: list[I64] = []
        users: set[bytes] = set()
        shared = False
        named: set[int] = set()
        for first, batch in self.log.read():
            mask = np.nan_to_num(batch.numbers("import_id")) == import_id
            rows = np.flatnonzero(mask & batch.live())
            if len(rows):
                found.append(first + rows)
                codes, _ = batch.codes("user_id")
                part = batch.take(rows)
                users.update(users_in(part))
                named |= self.state.catalog.resting_on(part)
                shared = (
                    shared or bool((codes[rows] < 0).any()) or ALIAS in part.codes("event_type")[1]
                )
        positions = np.concatenate(found) if found else np.empty(0, dtype=np.int64)
        return positions, users, shared, named


def _of_kept(found: Counter[str], flags: pa.Array, kept: Bool) -> Counter[str]:
    """What was found, the flags counted on the rows that the log took."""
    of_kept = flags.to_numpy(zero_copy_only=False)[kept]
    counts = Counter({rule: n for rule, n in found.items() if rule not in BITS})
    counts.update({rule: int(np.count_nonzero(of_kept & bit)) for rule, bit in BITS.items()})
    return +counts


def _refused(
    where: str, batch: EventBatch, lines: I64, rule: str, wrong: Mapping[int, str]
) -> list[Refused]:
    """Rows of a clean batch that are refused after all: row → why, and how to mend it."""
    out = []
    for row, reason in wrong.items():
        [content] = batch.take([row]).to_pylist()
        digest = content.pop("digest").hex()
        fields = {k: v for k, v in content.items() if v is not None and k != "check"}
        out.append(Refused(where, int(lines[row]), rule, reason, {**fields, "digest": digest}))
    return out


def _nameless(refused: Refused) -> Refused:
    return replace(refused, row={k: v for k, v in refused.row.items() if k != "digest"})


def users_in(batch: EventBatch) -> set[bytes]:
    """The pseudonyms that a batch names."""
    out: set[bytes] = set()
    for column in ("user_id", "target_user_id"):
        codes, values = batch.codes(column)
        out.update(values[code] for code in np.unique(codes[codes >= 0]).tolist())
    return out
