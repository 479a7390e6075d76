"""What is taken out again: an undone import, an erased user, what is kept no longer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np
import pyarrow as pa

from limner.app import forgetting, topics
from limner.app.forgetting import REMOVED_AT, Forgotten
from limner.errors import NotFound, WipeDue
from limner.events.amend import amending, among, expiry, texts_of
from limner.events.batch import I64, PROPERTY, Bool, EventBatch
from limner.events.raw import DELETE_ITEM, EXPIRES, RESTS_ON_TYPE, TOPIC, USER
from limner.events.timestamps import to_micros
from limner.events.vocabulary import RESERVED
from limner.model.protocol import Progress
from limner.profile.facet import duration
from limner.profile.merge import NEVER
from limner.profile.writer import users_in

if TYPE_CHECKING:
    from limner.app.limner import Limner

ERASED_SINCE = "erased since training"
"""What the store remembers so that `status` can say that a model is due."""

REFOLD_AT_MOST = 500
"""Users up to which an undo refolds them one by one; beyond, everything is replayed."""


@dataclass(frozen=True, slots=True)
class Erased:
    """What `erase` removed, by the name of what held it, and whether each is clean now."""

    removed: Mapping[str, int]
    clean: Mapping[str, bool]
    retrain: bool
    """Whether parts of the model in use that had learned from the user are due for training."""
    model: Forgotten | None = None
    """What became of the model in use; None if there is none."""


def undo_import(app: Limner, import_id: int, *, progress: Progress) -> int:
    """`Limner.undo_import`."""
    entries = {entry.import_id: entry for entry in app.store.imports.entries()}
    entry = entries.get(import_id)
    if entry is None or entry.undone_at is not None:
        undoable = [i for i, e in entries.items() if e.undone_at is None]
        raise NotFound(
            f"import {import_id} is not there to undo",
            mend=f"imports that can be undone: {undoable}",
        )
    with app.writer.commit_lock:
        positions, users, shared, named = app.writer.positions_of_import(import_id)
        app.snapshots.drop()
        with _removing(app) as due:
            app.store.set_meta(REMOVED_AT, str(app.state.position))
            gone = app.store.log.blank(positions, forget=True)
            app.store.quarantine.forget(import_id)
            app.store.imports.save(replace(entry, undone_at=app._clock()))
            left = _leave(app, users)
        if shared or len(left) > REFOLD_AT_MOST:
            app._rebuild(progress)
            topics.forget_rare(app)
        else:
            _without(app, left, named)
    if due:
        raise due[0]
    return gone


@dataclass(frozen=True, slots=True)
class Expired:
    """What `expire` took out: rows of the log, of so many users, and items of the lists."""

    rows: int
    users: int
    items: int


def expire(app: Limner, *, progress: Progress) -> Expired:
    """`Limner.expire`."""
    now = app.now()
    with app.writer.commit_lock:
        items = _end_items(app, now)
        positions: list[I64] = []
        users: set[bytes] = set()
        named: set[int] = set()
        head = app.state.position
        for first, batch in app.store.log.read(0, head):
            rows = np.flatnonzero(_over(batch, app.config.retention, now))
            if len(rows):
                part = batch.take(rows)
                positions.append(first + rows)
                users.update(users_in(part))
                named |= app.state.catalog.resting_on(part)
            progress("retention", first + len(batch), head)
        if not positions:
            return Expired(0, 0, items)
        app.snapshots.drop()
        with _removing(app) as due:
            app.store.set_meta(REMOVED_AT, str(app.state.position))
            gone = app.store.log.blank(np.concatenate(positions))
            left = _leave(app, users)
        _without(app, left, named)
    if due:
        raise due[0]
    return Expired(gone, len(users), items)


def _over(batch: EventBatch, retention: Mapping[str, str], now: int) -> Bool:
    """Rows that are kept no longer: too old for their type, or declared until a time gone by.

    What amends other rows stays as long as any of them may.
    """
    codes, types = batch.codes("event_type")
    limits = {name: now - int(duration(length)) for name, length in retention.items()}
    rest = limits.get("all", NEVER)
    own = [NEVER if name in RESERVED else limits.get(name, rest) for name in types]
    over: Bool = batch.times() < np.array([*own, NEVER], dtype=np.int64)[codes]
    topics = np.flatnonzero(among(codes, types, (TOPIC,)))
    if len(topics):  # as long as the text that it rests on
        of = texts_of(batch.take(topics), PROPERTY + RESTS_ON_TYPE)
        over[topics] = batch.times()[topics] < [limits.get(kind or "", rest) for kind in of]
    amends = amending(batch)
    if amends.any():
        over[amends] = batch.times()[amends] < min([rest, *limits.values()])
    declared = np.array([*(name == USER for name in types), False])[codes]
    over |= declared & (expiry(batch) <= now)
    return over


def _end_items(app: Limner, now: int) -> int:
    """Take items out of lists whose newest version says that it ends by now."""
    catalog = app.state.catalog
    if EXPIRES not in catalog.attributes:
        return 0
    ends = to_micros(pa.array(catalog.words[EXPIRES].values, pa.string()), tz=app.config.timezone)
    over = np.append(~(ends.missing | ends.unreadable) & (ends.micros <= now), False)
    codes = catalog.codes_now(EXPIRES)
    rows = np.flatnonzero(over[codes] & ~catalog.deleted.view)
    told = [
        {
            "item_id": catalog.ids.values[item],
            "event_type": DELETE_ITEM,
            "timestamp": int(ends.micros[codes[item]]),
            "event_id": uuid4().hex,
        }
        for item in rows.tolist()
    ]
    return app.record(told, source="retention").added if told else 0


def _leave(app: Limner, users: set[bytes]) -> list[bytes]:
    """Part from those of these users who have no row left; who has is to be folded again."""
    left = {user for user in users if app.store.log.holds(user)}
    for user in users - left:
        app.store.identities.delete(user)
        app.store.shown.erase(user)
        app.store.outbox.erase(user)
        with app.writer.lock:
            app.following.leave(app.state.rows.get(user, -1))
            app.state.erase(user)
    return sorted({app.writer.amendments.user(user) for user in left})


def _let_go(app: Limner) -> None:
    """Have the model in use let go of what it keeps of users, who are few and read again at once:
    what it found of one who is gone, or of an event that is, may not stay.
    """
    if app._scorer is not None:
        app._scorer.let_go()


def _without(app: Limner, left: list[bytes], named: set[int]) -> None:
    """Bring all that follows from the log up to date: rows of users who are `left` were removed,
    and rows that items which are `named` rested on.
    """
    app.writer.refold(left)
    with app.writer.lock:
        _let_go(app)
    app.writer.settle()  # whoever had a tie to a user who is gone
    topics.forget_rare(app)
    app.writer.recount_items(named)
    app.following.again(left)
    app.relearning.begin()
    app.refresh_population()
    app.save_snapshot(wait=False)


def erase(app: Limner, user_id: str) -> Erased:
    """`Limner.erase`."""
    user = app.keys.pseudonym(user_id)
    if not any(part.holds(user) for part in app.erasables()):
        app.known_row(user_id)
    with app.publishing:  # a model that learned from the user comes into use before this or never
        learned = forgetting.contribution(app, user)
        removed, clean, due = _erase(app, user)
        model = forgetting.forget(app, learned)
        if model is not None and model.due:
            app.store.set_meta(ERASED_SINCE, str(app.erased_since_training() + 1))
    if due:
        raise due[0]
    return Erased(removed, clean, retrain=model is not None and bool(model.due), model=model)


def _erase(app: Limner, user: bytes) -> tuple[dict[str, int], dict[str, bool], list[WipeDue]]:
    """Remove a user from all that keeps data: (removed, clean, what is still to be wiped)."""
    with app.writer.commit_lock:
        members = app.writer.amendments.members(user)
        named: set[int] = set()
        for one in members:
            named |= app.state.catalog.resting_on(app.store.log.events_of(one)[1])
        removed: Counter[str] = Counter()
        with _removing(app) as due:
            for part in (*app.store.erasables, app.snapshots):
                removed[part.name] += sum(part.erase(one) for one in members)
            app.store.answers.blank()  # they may quote what was sent
        with app.writer.lock:
            for one in members:
                app.following.leave(app.state.rows.get(one, -1))
            removed[app.state.name] += sum(app.state.erase(one) for one in members)
            removed[app.writer.amendments.name] += app.writer.amendments.erase(user)
            _let_go(app)
        app.writer.settle()  # whoever had a tie to the user
        topics.forget_rare(app)
        app.writer.recount_items(named)
        clean = {part.name: not any(map(part.holds, members)) for part in app.erasables()}
        app.relearning.begin()
        app.refresh_population()
        app.save_snapshot(wait=False)
    return dict(removed), clean, due


@contextmanager
def _removing(app: Limner) -> Iterator[list[WipeDue]]:
    """A transaction that removes rows, and with them maybe users.

    That old bytes are still to be wiped is no reason to leave the state behind the log: it is
    put in the list, to be raised when all is done.
    """
    due: list[WipeDue] = []
    try:
        app.writer.rewritten += 1
        with app.store.transaction():
            app.relearning.ask()
            yield due
    except WipeDue as error:
        due.append(error)
