"""The one writer: admit, clean, append, fold, and only then acknowledge.

Whoever records puts rows in line and waits for a turn; who gets it commits everything that is in
line as one micro-batch (group commit), so a commit is small under light load and large under heavy
load. Few rows are live events and go first; many rows are taken in pieces while live events come.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from time import monotonic, sleep
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
from limner.events.pieces import cut
from limner.events.raw import ALIAS, Quarantine, RawBatch, Refused
from limner.events.rules import BITS, CleanConfig
from limner.privacy.admit import Admitted, Occurrences, PrivacyConfig, admit
from limner.privacy.identity import IdentityTable, Sealed
from limner.privacy.keys import Keys
from limner.profile.events import RESERVED
from limner.profile.merge import NEVER
from limner.profile.state import ProfileState
from limner.profile.turns import Turns, Watched
from limner.profile.watching import Watch, unwatched

_log = logging.getLogger(__name__)

LIVE = 64
"""Rows up to which a ticket is of live events, which go before others."""

LIVE_FOR = 1.0
"""Seconds after a live event in which more are expected, and nobody holds them up."""

PIECE = 128
"""Rows of a longer ticket that are taken in one turn while live events come."""

REFOLDED = 32
"""Users folded again who are put in their places in one turn."""

SLICE = 131_072
"""Events folded at once while nobody reads: half a second at the most."""

SLICE_READ = 4_096
"""Events folded between two chances for readers, once one had to wait: some 20 milliseconds."""


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
    again: tuple[int, ...] = field(default=(), compare=False)
    """The lines of those that are repeated."""

    @property
    def rows(self) -> int:
        """How many rows came."""
        return self.added + self.repeated + len(self.refused)

    def plus(self, later: Recorded) -> Recorded:
        """What became of these rows and of later ones."""
        return Recorded(
            self.added + later.added,
            self.repeated + later.repeated,
            self.refused + later.refused,
            later.as_of,
            self.found + later.found,
            self.again + later.again,
        )


@dataclass(slots=True)
class _Owed:
    """What a commit leaves to be folded again from the log: users, and whoever touched items."""

    users: set[bytes] = field(default_factory=set)
    items: set[int] = field(default_factory=set)

    def add(self, other: _Owed) -> None:
        self.users |= other.users
        self.items |= other.items

    def __bool__(self) -> bool:
        return bool(self.users or self.items)


@dataclass(slots=True)
class _Ticket:
    rows: Admitted
    import_id: int
    refused: tuple[Refused, ...]
    within: Callable[[Recorded], None] | None = None
    hold: bool = True
    owed: _Owed = field(default_factory=_Owed)
    result: Recorded | None = None
    error: BaseException | None = None


@dataclass(slots=True)
class _Waiting:
    """Rows of an import that are durable and not yet folded; `counted` among the norms or not."""

    first: Position
    batch: EventBatch
    counted: bool = False


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
    lock: Watched = field(default_factory=Watched)
    commit_lock: Turns = field(default_factory=Turns)
    follower: Follower | None = None
    watch: Watch = unwatched
    """Told of each commit while it is done."""
    _line: list[_Ticket] = field(default_factory=list)
    _line_lock: threading.Lock = field(default_factory=threading.Lock)
    _live_at: float = -LIVE_FOR
    """When a live event came last, by `monotonic`."""
    _waiting: _Waiting | None = None
    """Rows of an import that are durable, and that the state is to take in next."""
    _settling: list[set[bytes]] = field(default_factory=list)
    """Users being folded again at this moment who had no event since that began."""

    def __post_init__(self) -> None:
        self.commit_lock.arriving = self._arrive

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
        together: bool = False,
        policy: PrivacyConfig | None = None,
    ) -> Recorded:
        """Take rows in; return when they are durable and visible.

        Without `settle` the rows are durable on return, and visible before the turn of whoever
        writes next, while the next rows are being written, or at `settle`: for imports. Users with
        late events are visible as far as a merge can take them until then. `refused` are
        rows of the same source that could not even be read: they go to quarantine in the same
        transaction. `within` is called inside that transaction with what will be true when it
        ends, for whoever keeps a book of it; without `hold` what is refused is left to it, else
        it goes to quarantine; `policy` stands for the writer's own. Rows that come `together` are
        live events of several callers: one commit, before those that take longer.

        While live events come, more than `PIECE` rows are taken in as several transactions;
        `within` is called in each with the sum so far. Raises what the store raises; then nothing
        was changed but by the pieces before, and the same rows sent again add the others (law 2).
        """
        occurrences = occurrences or Occurrences()
        admitted = rows
        if isinstance(admitted, RawBatch):
            admitted = admit(admitted, self.keys, policy or self.policy, occurrences)
        if together or (settle and len(admitted.raw) <= LIVE):
            return self._record_live(_Ticket(admitted, import_id, tuple(refused), within, hold))
        done, owed, start = Recorded(0, 0, (), 0), _Owed(), 0
        whole = None
        while True:
            began = monotonic()
            with self.commit_lock if settle else self.commit_lock.leaving():
                part, stop = admitted, len(admitted.raw)
                if start or (stop > PIECE and self._live):
                    whole = whole or replace(admitted, raw=cut(admitted.raw))
                    stop = min(start + PIECE, stop) if self._live else stop
                    part = whole.part(start, stop)
                told = within and partial(_told, within, done)
                first = () if start else tuple(refused)
                ticket = _Ticket(part, import_id, first, told, hold)
                self._commit([ticket], behind=not settle)
                if self.follower is not None:
                    self.follower.committed(live=settle)
            owed.add(ticket.owed)
            done, start = done.plus(_result(ticket)), stop
            if start >= len(admitted.raw):
                break
            if self._live:  # half of the time is for live events
                sleep(monotonic() - began)
        if settle and owed:
            self._settle_followed(owed)
        return done

    def _record_live(self, ticket: _Ticket) -> Recorded:
        self._live_at = monotonic()
        with self._line_lock:
            self._line.append(ticket)
        with self.commit_lock.quick():
            if ticket.result is None and ticket.error is None:
                with self._line_lock:
                    tickets, self._line = self._line, []
                self._commit(tickets)
            if self.follower is not None and not ticket.owed:
                self.follower.committed(live=True)
        if ticket.owed:
            self._settle_followed(ticket.owed)
        return _result(ticket)

    @property
    def wanted(self) -> bool:
        """Whether live events come at present, or readers had to wait of late."""
        return self._live or self.lock.waited(LIVE_FOR)

    @property
    def _live(self) -> bool:
        """Whether live events come at present."""
        return monotonic() - self._live_at < LIVE_FOR

    def _settle_followed(self, owed: _Owed) -> None:
        self._settle(owed)
        if self.follower is not None:
            with self.commit_lock:
                self.follower.committed(live=True)

    @property
    def meant(self) -> Meant:
        """The log as it is meant: under its users, with what was amended as it should be."""
        return Meant(self.log, self.amendments)

    def _commit(self, tickets: list[_Ticket], *, behind: bool = False) -> None:
        if self._waiting is not None and not self._waiting.counted:
            # the next rows are judged by these
            self.norms.observe(self._waiting.first, self._waiting.batch, self._kinds)
            self._waiting.counted = True
        good: list[_Good] = []
        identities: dict[bytes, Sealed] = {}
        linked: dict[bytes, bytes] = {}
        for ticket in tickets:
            try:
                admitted = ticket.rows
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
            with self.watch("commit"):
                self._append(good, identities, behind=behind)

    @contextmanager
    def _folding(self) -> Iterator[None]:
        """Meanwhile a thread folds what waits, which needs nothing of the store."""
        thread = threading.Thread(target=self._fold_waiting, name="limner-fold")
        thread.start()
        try:
            yield
        finally:
            thread.join()

    def _fold_waiting(self) -> None:
        """Fold what waits. Never raises: a state that fails to is built anew by the next commit."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            try:
                self._fold(waiting.first, waiting.batch, counted=waiting.counted)
            except Exception:
                _log.exception("rows of an import could not be folded; the state is built anew")
                self.broken = True

    def take_in(self) -> None:
        """Have the state take in what an import left waiting."""
        with self.commit_lock:
            pass

    def _arrive(self) -> None:
        """What whoever has a turn finds done: the state has taken in what is in the log."""
        if self._waiting is not None:
            self._fold_waiting()
            if self.broken:
                self.rebuild()
            if self.follower is not None:
                self.follower.committed(live=False)

    def _append(
        self, good: list[_Good], identities: dict[bytes, Sealed], *, behind: bool = False
    ) -> None:
        try:
            whole = concat([one.batch for one in good])
            with self._folding() if behind else nullcontext(), self.transaction():
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
        if behind and self._may_wait(fresh) and self.state.position == appended.first:
            self._waiting = _Waiting(appended.first, fresh)
            for ticket, result in results:
                ticket.result = replace(result, as_of=appended.first + len(fresh))
            return
        try:
            owed = self._follow(appended.first, fresh)
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
            ticket.owed = owed
            ticket.result = replace(result, as_of=self.state.position)

    def _may_wait(self, batch: EventBatch) -> bool:
        """Whether the next rows can be judged before these are folded: items, links do matter."""
        return not self.broken and not {*RESERVED} & {*batch.codes("event_type")[1]}

    def _follow(self, first: Position, batch: EventBatch) -> _Owed:
        """Fold what was appended; a state that a failure left half folded is built anew."""
        try:
            if self.broken or self.state.position != first:
                self.rebuild()
                return _Owed()
            return self._fold(first, batch)
        except Exception:
            if not self.broken:
                self.broken = True
                self.rebuild()
                return _Owed()
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
            lock=Watched(),
            commit_lock=Turns(),
            follower=None,
            _waiting=None,
            _settling=[],
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
            again: tuple[int, ...] = ()
            if repeated:
                known = ~kept[rows] & ~conflict[rows]
                again = tuple(one.lines[known].tolist())
            yield one.ticket, Recorded(added, repeated, tuple(refused), 0, found, again)

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

    def _fold(self, first: Position, batch: EventBatch, *, counted: bool = False) -> _Owed:
        owed = _Owed()
        stop = 0
        while stop < len(batch):
            start = stop
            stop = min(start + (SLICE_READ if self.lock.waited(LIVE_FOR) else SLICE), len(batch))
            part = batch if stop - start == len(batch) else batch.slice(start, stop)
            with self.lock:
                learned = self.amendments.learn(part, first + start)
                for user, into in learned.joined:
                    if self.follower is not None:
                        self.follower.leave(self.state.rows.get(user, -1))
                    if self.state.join(user, into):
                        owed.users.add(into)
                owed.users |= learned.owed
                meant = self.amendments.follow(part)
                folded = self.state.fold(first + start, meant)
                users = [self.state.rows.key(row) for row in folded.late_users]
                owed.users.update(user for user in users if user is not None)
                owed.items.update(folded.late_items)
                self.state.owed_users |= owed.users
                self.state.owed_items |= owed.items
                if self._settling:
                    here = users_in(meant).union(*learned.joined)
                    for settling in self._settling:
                        settling -= here
                if self.follower is not None:
                    self.follower.seen(first + start, meant)
            self.lock.let_in()
        if not counted:
            # what is in the log is counted once, so that a repeated import changes no flag
            self.norms.observe(first, batch, self._kinds)
        return owed

    def settle(self) -> None:
        """Fold whoever is owed it again from the log: late users, and users of late items."""
        self._settle(_Owed(self.state.owed_users, self.state.owed_items))

    def _settle(self, asked: _Owed) -> None:
        """Settle what is owed of this."""
        with self.commit_lock:
            state, position = self.state, self.state.position
            items = asked.items & state.owed_items
        # who has an event of such an item later has it with the right version
        found = self._users_of(items, position) if items else set()
        with self.commit_lock:
            if self.state is not state:
                return  # built anew meanwhile: nothing is owed from before
            state.owed_users |= found
            state.owed_items -= items
            due = sorted((asked.users | found) & state.owed_users)
        for _ in range(2):
            due = self._refold_beside(due)
        with self.commit_lock:  # who has one event after the other
            left = [user for user in due if user in self.state.owed_users]
            self.refold(left)
            self._settled(left)

    def _settle_now(self) -> None:
        """Settle all that is owed, with nobody beside: a start should not wait for turns."""
        with self.commit_lock:
            state = self.state
            if state.owed_items:
                state.owed_users |= self._users_of(state.owed_items, state.position)
            state.owed_items.clear()
            owed = sorted(state.owed_users)
            self.refold(owed)
            self._settled(owed)

    def _settled(self, users: Sequence[bytes]) -> None:
        if users and self.follower is not None:
            self.follower.refolded(users)
        self.state.owed_users.difference_update(users)

    def _refold_beside(self, users: Sequence[bytes]) -> list[bytes]:
        """Fold these users again while others commit; return those who had events meanwhile.

        The log is read without a turn, as far as it reached when that began.
        """
        due = list(users)
        if not due:
            return []
        calm = set(due)
        with self.commit_lock:
            state, rewritten, stop = self.state, self.rewritten, self.state.position
            self._settling.append(calm)
        try:
            beside = self.folded_again(due, stop)  # one pass: many have a segment in common
            size = REFOLDED if self._live else len(due)
            for start in range(0, len(due), size):
                with self.commit_lock:
                    if self.state is not state or self.rewritten != rewritten:
                        return due[start:]
                    now = [user for user in due[start : start + size] if user in calm]
                    now = [user for user in now if user in state.owed_users]
                    self._replace(now, beside)
                    self._settled(now)
        finally:
            with self.commit_lock:
                self._settling = [one for one in self._settling if one is not calm]
        return [user for user in due if user in state.owed_users]

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
        self._settle_now()
        return head - start

    def _users_of(self, items: set[int], stop: Position) -> set[bytes]:
        """The users who have an event with one of these items before `stop`."""
        names = pa.array([self.state.catalog.ids.values[item] for item in items], pa.string())
        found: set[bytes] = set()
        for _, batch in self.log.read(0, stop):
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

        They are built beside the live state, and put in their places at once.
        """
        if users:
            self._replace(users, self.folded_again(users, self.state.position))

    def _replace(self, users: Sequence[bytes], beside: ProfileState) -> None:
        if not users:
            return
        with self.lock:
            rows, others = self.state.rows.find(users), beside.rows.find(users)
            self.state.clear(rows[rows >= 0])
            both = (rows >= 0) & (others >= 0)
            if both.any():
                self.state.absorb(rows[both], beside, others[both])

    def folded_again(self, users: Sequence[bytes], stop: Position) -> ProfileState:
        """These users in a state of their own, from all their rows of the log before `stop`."""
        with self.lock:
            beside = self.state.scratch()
        for positions, batch in self.meant.read(stop, users=set(users)):
            for start in range(0, len(batch), SLICE):
                part = slice(start, min(start + SLICE, len(batch)))
                with self.lock:  # the catalog and the words are shared with the live state
                    beside.fold_users(
                        batch.slice(part.start, part.stop), positions[part], refolding=True
                    )
        return beside

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


def _told(within: Callable[[Recorded], None], done: Recorded, result: Recorded) -> None:
    within(done.plus(result))


def _result(ticket: _Ticket) -> Recorded:
    if ticket.error is not None:
        raise ticket.error
    assert ticket.result is not None
    return ticket.result


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
