"""What is taken out again: an import that is undone, a user who is erased."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from limner.errors import NotFound, WipeDue
from limner.model.protocol import Progress

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
    """Whether a model in use had learned from the user: it is due for training anew."""


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
            gone = app.store.log.blank(positions, forget=True)
            app.store.quarantine.forget(import_id)
            app.store.imports.save(replace(entry, undone_at=app._clock()))
            left = [user for user in users if app.store.log.holds(user)]
            # whoever has refused rows of other imports can still be told from them
            refused = [row.row for row in app.store.quarantine.rows(limit=None)]
            held = {row.get(name) for row in refused for name in ("user_id", "target_user_id")}
            for user in users.difference(left):
                if user.hex() in held:
                    continue
                app.store.identities.delete(user)
        with app.writer.lock:
            for user in users.difference(left):
                app.state.erase(user)
        if shared or len(left) > REFOLD_AT_MOST:
            app._rebuild(progress)
        else:
            app.writer.refold(sorted({app.writer.amendments.user(user) for user in left}))
            app.writer.recount_items(named)
            app.refresh_population()
            app.save_snapshot()
    if due:
        raise due[0]
    return gone


def erase(app: Limner, user_id: str) -> Erased:
    """`Limner.erase`."""
    user = app.keys.pseudonym(user_id)
    if not any(part.holds(user) for part in app.erasables()):
        app.known_row(user_id)
    with app.writer.commit_lock:
        members = app.writer.amendments.members(user)
        named: set[int] = set()
        for one in members:
            named |= app.state.catalog.resting_on(app.store.log.events_of(one)[1])
        removed: Counter[str] = Counter()
        with _removing(app) as due:
            for part in (*app.store.erasables, app.snapshots):
                removed[part.name] += sum(part.erase(one) for one in members)
        with app.writer.lock:
            removed[app.state.name] += sum(app.state.erase(one) for one in members)
            removed[app.writer.amendments.name] += app.writer.amendments.erase(user)
        app.writer.recount_items(named)
        clean = {part.name: not any(map(part.holds, members)) for part in app.erasables()}
        app.refresh_population()
        app.save_snapshot()
        model = app.scorer() is not None
        if model:
            app.store.set_meta(ERASED_SINCE, str(app.erased_since_training() + 1))
    if due:
        raise due[0]
    return Erased(dict(removed), clean, retrain=model)


@contextmanager
def _removing(app: Limner) -> Iterator[list[WipeDue]]:
    """A transaction that removes rows, and with them maybe users.

    That old bytes are still to be wiped is no reason to leave the state behind the log: it is
    put in the list, to be raised when all is done.
    """
    due: list[WipeDue] = []
    try:
        with app.store.transaction():
            yield due
    except WipeDue as error:
        due.append(error)
