"""What follows a commit: `when` policies fire, changes are told, and kept slots are refreshed.

The state has every event already. Here is decided what is *shown* of it and what is told to
others, from marks of who is due. A small commit is followed before it is acknowledged; after a
large one (an import) the users are only marked, and a thread of its own, or the next timed
refresh, takes them in small portions between commits.

What was done up to which position lies in the store, so that after a crash the log says who is
due again; doing it twice changes nothing, since what is told is a difference from what is kept.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol, TypeGuard, cast

import msgspec
import numpy as np

import limner.profile.columns  # noqa: F401 (says how facets are read of many users)
from limner.errors import StoreError
from limner.events.arrays import Grow
from limner.events.batch import F64, I64, EventBatch
from limner.events.log import Position
from limner.profile.audience import Judge
from limner.profile.changes import (
    CALM,
    LEAST_EVENTS,
    Change,
    ChangesConfig,
    Drifting,
    News,
    Outbox,
    Said,
    differences,
    shifted,
)
from limner.profile.facet import Reader, Slot
from limner.profile.offered import offered, vectorised
from limner.profile.pending import Pending
from limner.profile.population import Population, StateView
from limner.profile.refresh import Refresh
from limner.profile.shown import Row, Shown, ShownTable
from limner.profile.users import CHUNK, Users
from limner.profile.writer import Writer

LIVE = 64
"""Users of a commit up to which it is followed before it is acknowledged; `MANY` where a thread
follows, which takes those of several commits at once.
"""

MANY = 4
"""Users from which on reading in columns is faster than one by one."""

NEAR = 1e-6
"""How far a drift read in columns may lie from the one read alone: sums in another order."""

PORTION = 128
"""Users taken at a time while catching up: some 6 milliseconds between chances for others."""

POLITE = 3.0
"""How many times as long as a portion took others are left alone with the machine, if any asked."""

CHANGES = "$changes"
"""The task of telling what changed; all others are named by their facet."""

AUDIENCES = "audiences"
"""Where the store keeps which conditions its members are of."""

FOLLOWED = "followed"
"""Where the store keeps up to which position each task is done."""

_log = logging.getLogger(__name__)


class Keeps(Protocol):
    """What of a store is needed here."""

    @property
    def shown(self) -> ShownTable:
        """What is shown of users between two refreshes."""
        ...

    @property
    def outbox(self) -> Outbox:
        """The changes that others can subscribe to."""
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """All writes inside are durable together at its end, or none is."""
        ...

    def get_meta(self, name: str) -> str | None:
        """A fact about the store."""
        ...

    def set_meta(self, name: str, value: str) -> None:
        """Keep a fact about the store."""
        ...


@dataclass(slots=True)
class _Found:
    """What a portion comes to: to be written in one transaction."""

    changes: list[Change] = field(default_factory=list)
    shown: list[Row] = field(default_factory=list)
    calm: list[tuple[str, bytes]] = field(default_factory=list)
    bits: list[tuple[str, int, bool]] = field(default_factory=list)
    taken: list[tuple[str, int]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.changes or self.shown or self.calm)


class Following:
    """Follows the commits of a writer for all policies that are not `on_read`."""

    def __init__(
        self,
        writer: Writer,
        store: Keeps,
        policies: Mapping[str, Refresh],
        config: ChangesConfig,
        *,
        population: Callable[[], Population],
        now: Callable[[], int],
        more: Sequence[Reader] = (),
        audiences: Mapping[str, str] | None = None,
    ) -> None:
        """`more`: what is read of users beside what the state reads.

        `audiences`: name → the condition of those whose coming and going is told.
        """
        self._audiences = {name: Judge(where) for name, where in (audiences or {}).items()}
        self.news = News()
        self.kept = [name for name, policy in policies.items() if policy.kept]
        """The facets of which what is shown is kept between refreshes."""
        self._writer = writer
        self._store = store
        self._policies = policies
        self._config = config
        self._population = population
        self._now = now
        self._at_event = [name for name, p in policies.items() if p.mode == "on_event"]
        self._drifting: list[str] = []
        self._more = tuple(more)
        self._definitions = {one.name: repr(one) for one in (*writer.state.readers, *more)}
        self._tasks: dict[str, Refresh | None] = {
            name: policy for name, policy in policies.items() if policy.kept
        }
        if self._at_event or config.shift or config.turn or audiences:
            self._tasks[CHANGES] = None
        self._live_tasks = [n for n, p in self._tasks.items() if p is None or p.mode == "when"]
        self._touched: list[I64] = []
        self._behind = False
        self._due = threading.Event()
        self._ended = False
        self._thread: threading.Thread | None = None
        self._keys = self._task_keys()
        self._known: dict[str, int] = {}
        self._done: dict[str, Position] = {}

    def _task_keys(self) -> dict[str, str]:
        """Task → its name in the store: another for another policy or another definition."""
        out = {}
        for name, policy in self._tasks.items():
            said = [policy.text, self._definitions[name]] if policy else self._at_event
            digest = hashlib.blake2b(repr(said).encode(), digest_size=6).hexdigest()
            out[name] = f"{name} {digest}"
        return out

    def _over(self, writer: Writer) -> None:
        """Begin with a state: its rows have no marks yet, and all shifts are looked up."""
        state = writer.state
        self._readers: dict[str, Reader] = {one.name: one for one in (*state.readers, *self._more)}
        self._drifting = [f.name for f in state.facets if _drifts(f) and self._threshold(f)]
        self._pending = Pending(state, self._tasks)
        kept = [*map(_shift, self._drifting), *map(_audience, self._audiences)]
        self._bits = {name: Grow(np.bool_, False) for name in kept}
        for name, bits in self._bits.items():
            bits.resize(state.rows.size)
            bits.view[self._rows(self._store.shown.users(name))] = True
        self._behind = any(self._done[name] < state.position for name in self._live_tasks)
        self._recovered = all(done >= state.position for done in self._done.values())
        self._touched.clear()

    def attach(self) -> None:
        """Follow the writer from now on: its state has taken in the whole log.

        What is shown by a policy or a definition that is no longer configured is let go.
        """
        self._known = msgspec.json.decode(self._store.get_meta(FOLLOWED) or "{}")
        self._done = {name: self._known.get(key, 0) for name, key in self._keys.items()}
        stale = {key.rpartition(" ")[0] for key in self._known.keys() - set(self._keys.values())}
        for name in stale - {CHANGES}:
            self._store.shown.drop(name)
        self._begin_audiences()
        self._over(self._writer)
        self._writer.follower = self

    # -- following the writer ----------------------------------------------------------------

    def seen(self, first: Position, batch: EventBatch) -> None:
        """A batch was folded; the caller holds the writer's lock."""
        if not self._tasks:
            return
        if self._pending.state is not self._writer.state:
            self._over(self._writer)
        self._touched.append(self._pending.mark(first, batch))

    def refolded(self, users: Collection[bytes]) -> None:
        """These users were folded again; the caller holds the writer's commit lock."""
        if self._tasks and users:
            with self._writer.lock:
                if self._pending.state is not self._writer.state:
                    self._over(self._writer)
                self._touched.append(self._mark(users))

    def _mark(self, users: Collection[bytes]) -> I64:
        """Mark users for every task but triggers, which wait for an event."""
        rows = self._rows(users)
        for name, policy in self._tasks.items():
            if policy is None or policy.mode != "when":
                self._pending.add(name, rows)
        return rows

    def _rows(self, users: Collection[bytes]) -> I64:
        """Rows of those of these users who have one."""
        if not users:
            return np.empty(0, dtype=np.int64)
        rows = self._writer.state.rows.find(list(users))
        return rows[rows >= 0]

    def committed(self, *, live: bool) -> None:
        """A commit is done; the caller holds the writer's commit lock.

        Never raises: the rows are durable. What fails is tried again by the thread.
        """
        if self._tasks and self._pending.state is not self._writer.state:
            self._touched.clear()  # built anew: the log says who is due
            self._behind = True
            self._due.set()
        if not self._touched:
            return
        rows = self._touched[0] if len(self._touched) == 1 else np.concatenate(self._touched)
        self._touched.clear()
        if not live or len(rows) > (LIVE if self._thread is None else MANY):
            self._behind = True
            self._due.set()
            return
        try:
            self._take(np.unique(rows), self._live_tasks)
        except Exception:
            _log.exception("what follows a commit failed; it will be tried again")
            self._behind = True
            self._due.set()
            return
        if not self._behind:
            position = self._writer.state.position
            self._done.update((name, position) for name in self._live_tasks)

    def _take(self, rows: I64, tasks: list[str]) -> int:
        """Do these tasks for those of these rows that are due; how many users were due."""
        found = _Found()
        with self._writer.lock:
            state = self._writer.state
            if self._pending.state is not state:
                self._over(self._writer)
                return 0
            now, population = self._now(), self._population()
            drifting = self._drifting_of(rows, population, now)
            for row in rows.tolist():
                due = [name for name in tasks if self._pending.take(name, row)]
                user = state.rows.key(row)
                if due and user is not None:
                    found.taken.extend((name, row) for name in due)
                    view = StateView(state, row, population)
                    self._look(user, row, view, due, drifting[row], now, found)
            changed = [row for name, row in found.taken if name == CHANGES]
            self._look_for_members(np.array(changed, dtype=np.int64), now, found)
            position = state.position
        if not found:
            return len({row for _, row in found.taken})
        try:
            with self._store.transaction():
                self._write(found)
                if not self._behind:
                    self._done.update((name, position) for name in self._live_tasks)
                    self._save()
        except BaseException:
            for name, row in found.taken:
                self._pending.add(name, np.array([row]))
            raise
        self._told(found)
        return len({row for _, row in found.taken})

    def _write(self, found: _Found) -> None:
        """Keep what was found, within a transaction."""
        self._store.shown.put(found.shown)
        for name, user in found.calm:
            self._store.shown.drop(name, [user])
        self._store.outbox.add(found.changes, keep=self._config.keep)

    def _told(self, found: _Found) -> None:
        """What was found is durable."""
        for name, row, bit in found.bits:
            bits = self._bits[name]
            bits.resize(row + 1)
            bits.view[row] = bit
        if found.changes:
            self.news.tell()

    # -- audiences ---------------------------------------------------------------------------

    def _look_for_members(self, rows: I64, now: int, found: _Found) -> None:
        """Who of these came to an audience or left it; the caller holds the writer's lock."""
        if not self._audiences or not len(rows):
            return
        state = self._writer.state
        users = Users(state, np.unique(rows), self._population(), now)
        for name, judge in self._audiences.items():
            kept, where = _audience(name), Said(judge.where, judge.where)
            bits = self._bits[kept]
            bits.resize(int(users.rows[-1]) + 1)
            meets = judge.of(users)
            for at in np.flatnonzero(meets != bits.view[users.rows]).tolist():
                row, user = int(users.rows[at]), state.rows.key(int(users.rows[at]))
                if user is None:
                    continue
                comes = bool(meets[at])
                found.changes.append(
                    Change(0, "audience_entered" if comes else "audience_left", user.hex(),
                           f"audiences.{name}", None if comes else where,
                           where if comes else None, state.position, now)
                )  # fmt: skip
                found.bits.append((kept, row, comes))
                if comes:
                    found.shown.append((user, kept, b""))
                else:
                    found.calm.append((kept, user))

    def review(self) -> int:
        """Look at all users, some of whom time alone brings or takes; how many changes it found.

        In chunks, between commits.
        """
        with self._writer.lock:
            state, changes = self._writer.state, 0
            for judge in self._audiences.values():
                judge.renew(state, self._population(), self._now())
        live = state.rows.live
        for start in range(0, len(live) if self._audiences else 0, CHUNK):
            with self._writer.commit_lock:
                found = _Found()
                with self._writer.lock:
                    if self._pending.state is not state or self._ended:
                        break
                    self._look_for_members(live[start : start + CHUNK], self._now(), found)
                if found:
                    with self._store.transaction():
                        self._write(found)
                    self._told(found)
                    changes += len(found.changes)
        return changes

    def _begin_audiences(self) -> None:
        """Take those who meet a condition that is new as its members, without telling of them."""
        known = msgspec.json.decode(self._store.get_meta(AUDIENCES) or "{}")
        wanted = {name: judge.where for name, judge in self._audiences.items()}
        if known == wanted:
            return
        state, population, now = self._writer.state, self._population(), self._now()
        with self._store.transaction():
            for name in known:
                if known[name] != wanted.get(name):
                    self._store.shown.drop(_audience(name))
            live = state.rows.live
            for name, judge in self._audiences.items():
                if known.get(name) == judge.where:
                    continue
                for start in range(0, len(live), CHUNK):
                    users = Users(state, live[start : start + CHUNK], population, now)
                    keys = map(state.rows.key, users.rows[judge.of(users)].tolist())
                    rows = [(key, _audience(name), b"") for key in keys if key is not None]
                    self._store.shown.put(rows)
            self._store.set_meta(AUDIENCES, msgspec.json.encode(wanted).decode())

    def _drifting_of(
        self, rows: I64, population: Population, now: int
    ) -> Mapping[int, Sequence[str]]:
        """For each row the facets whose drift may have crossed its threshold, either way.

        Of many users it is read in columns, and few of them are to be looked at one by one.
        """
        if len(rows) < MANY:
            return dict.fromkeys(rows.tolist(), self._drifting)
        users = Users(self._writer.state, rows, population, now)
        near: dict[int, list[str]] = {row: [] for row in rows.tolist()}
        for name in self._drifting:
            facet: Drifting = self._readers[name]  # type: ignore[assignment]
            drift = drifts(facet, users)
            bits = self._bits[_shift(name)].view
            was = np.zeros(len(rows), dtype=bool)
            known = rows < len(bits)
            was[known] = bits[rows[known]]
            threshold = self._threshold(facet)
            moved = np.where(was, drift < CALM * threshold + NEAR, drift >= threshold - NEAR)
            for row in rows[moved].tolist():
                near[row].append(name)
        return near

    def _look(
        self,
        user: bytes,
        row: int,
        view: StateView,
        due: list[str],
        drifting: Sequence[str],
        now: int,
        found: _Found,
    ) -> None:
        position = self._writer.state.position
        if CHANGES in due:
            for name in drifting:
                self._look_for_shift(name, user, row, view, now, found)
        named = [*(name for name in due if name != CHANGES), *self._at_event * (CHANGES in due)]
        if not named:
            return
        before = self._store.shown.of(user, named)
        for name in named:
            if name not in self._readers:  # while a facet that is new is being backfilled
                continue
            slots = tuple(self._readers[name].read(view, now))
            old = Shown.unpack(before[name]).slots if name in before else ()
            changed = differences(old, slots) if name in before or name in self._at_event else []
            found.changes.extend(
                Change(0, "portrait_changed", user.hex(), _path(a or b), Said.of(a), Said.of(b),
                       position, now)
                for a, b in changed
            )  # fmt: skip
            if changed or name in self.kept:
                found.shown.append((user, name, Shown(slots, now, position).pack()))

    def _threshold(self, facet: Drifting) -> float:
        return float(getattr(self._config, facet.shifts_at))

    def _look_for_shift(
        self, name: str, user: bytes, row: int, view: StateView, now: int, found: _Found
    ) -> None:
        facet: Drifting = self._readers[name]  # type: ignore[assignment]
        if int(view.fixed(facet.rests_on)["n"][0]) < LEAST_EVENTS:
            return
        bits = self._bits[_shift(name)].view
        was = row < len(bits) and bool(bits[row])
        drift = facet.drift(view, now)
        threshold = self._threshold(facet)
        if not was and drift >= threshold:
            where, before, after = shifted(self._readers[name].read(view, now))
            found.changes.append(
                Change(0, "interest_shift", user.hex(), where, before, after,
                       self._writer.state.position, now, drift)
            )  # fmt: skip
            found.shown.append((user, _shift(name), b"%.3f" % drift))
            found.bits.append((_shift(name), row, True))
        elif was and drift < CALM * threshold:
            found.calm.append((_shift(name), user))
            found.bits.append((_shift(name), row, False))

    # -- catching up -------------------------------------------------------------------------

    def recover(self) -> None:
        """Mark again who is due by the log, after a start or when the state was built anew."""
        with self._writer.lock:
            if self._pending.state is not self._writer.state:
                self._over(self._writer)
            if self._recovered:
                return
            pending, head = self._pending, self._writer.state.position
        start = min(self._done.values(), default=head)
        for first, batch in self._writer.log.read(start, head):
            with self._writer.lock:
                stop = first + len(batch)
                meant = self._writer.amendments.follow(batch)
                pending.mark(first, meant, [n for n, done in self._done.items() if done < stop])
        with self._writer.lock:
            self._recovered = self._pending is pending

    def drain(self) -> int:
        """Follow what was left by large commits; how many users there were."""
        return self._work(self._live_tasks)

    def refresh(self, name: str) -> int:
        """Bring what is shown of a facet up to date; how many users had news since the last time.

        Users are taken in portions, between commits.
        """
        return self._work([name])

    def _work(self, tasks: list[str]) -> int:
        if not tasks:
            return 0
        users = 0
        while True:
            self.recover()
            with self._writer.commit_lock, self._writer.lock:
                pending, position = self._pending, self._writer.state.position
                rows = pending.rows(tasks)
            for start in range(0, len(rows), PORTION):
                if self._ended:
                    raise StoreError(
                        "stopped before it was done", mend="it goes on at the next start"
                    )
                began = time.monotonic()
                with self._writer.commit_lock:
                    users += self._take(rows[start : start + PORTION], tasks)
                if self._writer.wanted:
                    time.sleep(POLITE * (time.monotonic() - began))
            with self._writer.commit_lock:
                if self._pending is pending and self._recovered:
                    self._done.update((name, position) for name in tasks)
                    if self._behind and tasks == self._live_tasks:
                        self._behind = bool(len(pending.rows(tasks)))
                    self._save()
                    return users

    def forget(self, name: str) -> None:
        """What is shown of a facet or label holds for nobody any more: all are due."""
        with self._writer.commit_lock:
            self._store.shown.drop(name)
            with self._writer.lock:
                if name in self._tasks:
                    self._pending.add(name, self._writer.state.rows.live)

    def _save(self) -> None:
        known = {self._keys[name]: done for name, done in self._done.items()}
        if known != self._known:
            self._store.set_meta(FOLLOWED, msgspec.json.encode(known).decode())
            self._known = known

    def start(self) -> None:
        """Catch up in a thread from now on, whenever there is something to."""
        if self._thread is None and self._tasks:
            self._thread = threading.Thread(target=self._run, name="limner-follow", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        self._due.set()
        while True:
            self._due.wait()
            self._due.clear()
            if self._ended:
                return
            try:
                self.drain()
            except Exception:
                if self._closing():
                    return
                _log.exception("following the log failed; it will be tried again")
                time.sleep(1.0)
                self._due.set()

    def _closing(self) -> bool:
        return self._ended

    def close(self) -> None:
        """End the thread, and keep how far everything is done."""
        self._ended = True
        self._due.set()
        if self._thread is not None:
            self._thread.join()
        with self._writer.commit_lock:
            if not self._behind:
                self._done.update((n, self._writer.state.position) for n in self._live_tasks)
            self._save()

    # -- removing ----------------------------------------------------------------

    def leave(self, row: int) -> None:
        """The user of a row (−1: of none) is erased: nothing is due for it any more."""
        self._pending.clear(row)
        for bits in self._bits.values():
            if 0 <= row < len(bits.view):
                bits.view[row] = False

    def again(self, users: Collection[bytes] | None = None) -> None:
        """The past of these users (of all) was changed: what is kept of them holds no longer.

        Their kept slots are read anew until the next refresh, and what changed is told.
        """
        with self._writer.commit_lock:
            with self._store.transaction():
                for name in self.kept:
                    self._store.shown.drop(name, users)
            with self._writer.lock:
                if self._pending.state is not self._writer.state:
                    self._over(self._writer)
                self._mark(self._writer.state.rows if users is None else users)
                if users is None:
                    timed = [n for n, p in self._tasks.items() if p is None or p.mode != "when"]
                    self._done.update(dict.fromkeys(timed, 0))
                self._behind = True
            self._save()
        self._due.set()


def _drifts(facet: object) -> TypeGuard[Drifting]:
    return callable(getattr(facet, "drift", None))


def drifts(facet: Drifting, users: Users) -> F64:
    """How far each of these users' recent interest is from the lasting one, 0 where unknown."""
    reader = cast(Reader, facet)
    offers = offered(reader, users) if vectorised(reader) else {}
    for path, read in offers.items():
        if path.endswith(f".{facet.name}_drift"):
            slot = read()
            assert slot.value is not None
            return np.where(slot.known, slot.value.values, 0.0)
    now, views = users.now, (StateView(users.state, row, users.population) for row in users.rows)
    return np.array([facet.drift(view, now) for view in views])


def _shift(name: str) -> str:
    return f"shift {name}"


def _audience(name: str) -> str:
    return f"audience {name}"


def _path(slot: Slot | None) -> str:
    assert slot is not None
    return f"{slot.section}.{slot.name}"
