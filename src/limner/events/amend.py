"""What rows of the log say of other rows: who is who, what was wrong, what was given back.

The log is never rewritten to correct it. A row of type `$alias` links an id that was used before
(`target_user_id`) to its user (`user_id`). An event whose `properties.corrects` names the id of
an earlier event of the same user stands in its place; of type `correction` it changes only the
fields it gives. A `retraction` (`properties.retracts`) takes an event out. A `refund` points at
its purchase by `properties.refunds`, or by `group_id` and item, and takes out what was given back:
by quantity, else by value, else all of it. `effective` reads a user's rows so.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from limner.events.batch import I32, I64, PROPERTY, Bool, EventBatch, concat, plain_text
from limner.events.raw import CORRECTION, EXPIRES, RESTS_ON, RETRACTION, TOPIC, USER
from limner.events.timestamps import to_micros

POINTERS = tuple(PROPERTY + name for name in ("corrects", "retracts", "refunds"))
_OWN = {
    "user_id", "event_type", "timestamp", "received_at", "digest", "check", "event_id", "source",
    "flags", "import_id", *POINTERS,
}  # fmt: skip
"""What a correction leaves as it was."""

_NOTHING = 1e-9
"""Less than any amount that is paid."""


def amending(batch: EventBatch) -> Bool:
    """Rows that say something of other rows of their user."""
    codes, types = batch.codes("event_type")
    mask = among(codes, types, (CORRECTION, RETRACTION))
    for name in POINTERS:
        if name in batch.table.column_names:
            mask = mask | pc.is_valid(batch.array(name)).to_numpy(zero_copy_only=False)
    if "refund" in types:
        grouped = np.flatnonzero(codes == types.index("refund"))
        groups, items = (batch.codes(name)[0][grouped] for name in ("group_id", "item_id"))
        mask[grouped[(groups >= 0) & (items >= 0)]] = True
    return mask


def effective(
    batch: EventBatch, positions: I64, *, at: int | None = None, refunds: bool = True
) -> tuple[I64, EventBatch]:
    """(positions, rows) as they are meant; `batch` has all rows of its users, in order.

    With `at` only what happened until then, refunds too, and no attribute that had expired.
    """
    changed: dict[int, dict[str, Any]] = {}
    alive = np.ones(len(batch), dtype=bool)
    rows = np.flatnonzero(amending(batch))
    if len(rows):
        changed = _amend(batch, rows, alive, at, refunds)
        alive &= ~_unfounded(batch, alive, changed)
    if at is not None:
        alive &= (batch.times() <= at) | _corrections(batch)
        alive &= ~_expired(batch, at)
    if alive.all() and not changed:
        return positions, batch
    plain = alive.copy()
    plain[list(changed)] = False
    own = np.flatnonzero(plain)
    out, places = batch.take(own), positions[own]
    moved = {
        row: now
        for row, now in changed.items()
        if alive[row] and (at is None or now["timestamp"] <= at)
    }
    if moved:
        out = concat([out, EventBatch.of(moved.values())])
        original = np.array([now["$position"] for now in moved.values()], dtype=np.int64)
        places = np.concatenate([places, positions[original]])
        order = np.argsort(places, kind="stable")
        out, places = out.take(order), places[order]
    return places, out


def _corrections(batch: EventBatch) -> Bool:
    """Rows whose own time says nothing: what they correct has one."""
    return among(*batch.codes("event_type"), (CORRECTION,))


def _unfounded(batch: EventBatch, alive: Bool, changed: Iterable[int]) -> Bool:
    """Topics that rest on a text which was taken out, or changed."""
    mask: Bool = among(*batch.codes("event_type"), (TOPIC,))
    if mask.any():
        stands = alive.copy()
        stands[list(changed)] = False
        there = {digest.hex() for digest in batch.take(stands).array("digest").to_pylist()}
        cited = texts_of(batch, PROPERTY + RESTS_ON)
        mask = mask & np.array([text not in there for text in cited])
    return mask


def expiry(batch: EventBatch) -> I64:
    """When each row's word ends (`properties.expires_at`, µs); the greatest time if never."""
    never = np.full(len(batch), np.iinfo(np.int64).max)
    name = PROPERTY + EXPIRES
    if name not in batch.table.column_names:
        return never
    array = batch.array(name)
    if pa.types.is_null(array.type):
        return never
    ends = to_micros(array)
    return np.where(ends.missing | ends.unreadable, never, ends.micros)


def _expired(batch: EventBatch, at: int) -> Bool:
    mask: Bool = among(*batch.codes("event_type"), (USER,)) & (expiry(batch) <= at)
    return mask


# -- amending, row by row ----------------------------------------------------------------------


def _amend(
    batch: EventBatch, rows: I64, alive: Bool, at: int | None, refunds: bool
) -> dict[int, dict[str, Any]]:
    """Clear `alive` where a row is taken out; return the rows that are changed, by row.

    A changed row has the place of what it stands for under "$position".
    """
    users, _ = batch.codes("user_id")
    types = texts_of(batch, "event_type")
    pointers = [texts_of(batch, name) for name in POINTERS]
    where = _Where(batch, users, {text for column in pointers for text in column if text})
    involved: dict[int, dict[str, Any]] = {}

    def involve(places: Iterable[int]) -> None:
        new = [row for row in dict.fromkeys(places) if row not in involved]
        for row, found in zip(new, batch.take(new).to_pylist() if new else (), strict=True):
            involved[row] = {**found, "$position": row}

    def content(row: int) -> dict[str, Any]:
        involve([row])
        return involved[row]

    changed: dict[int, dict[str, Any]] = {}
    stands: dict[int, int] = {}
    """A row that was corrected → the one in its place, −1 where it was retracted."""

    def standing(row: int) -> int:
        while row in stands:
            row = stands[row]
        return row

    begun: set[int] = set()

    def amend(row: int) -> None:
        corrects, retracts, _ = (column[row] for column in pointers)
        kind = types[row]
        if row in begun or not (kind in (CORRECTION, RETRACTION) or corrects or retracts):
            return
        begun.add(row)
        found = where.event(row, corrects or retracts)
        if found is not None:
            amend(found)  # what is amended may itself amend another, told later
        if kind in (CORRECTION, RETRACTION):
            alive[row] = False
        target = -1 if found is None else standing(found)
        if target < 0 or target == row:
            return
        alive[target] = False
        if kind == RETRACTION or (retracts and not corrects):
            alive[row] = False
            stands[target] = -1
            return
        stands[target] = row
        if kind == CORRECTION:
            alive[row] = True
            told = {k: v for k, v in content(row).items() if v is not None and k not in _OWN}
            told.pop("$position")
            involved[row] = changed[row] = {**content(target), **told}

    for row in rows.tolist():
        amend(row)
    if refunds:
        times = batch.times()
        given_back = [
            row
            for row in rows.tolist()
            if types[row] == "refund" and alive[row] and (at is None or times[row] <= at)
        ]
        if given_back:
            lines = _lines(batch, users, types, alive, changed, given_back)
            involve(given_back)
            pairs: list[tuple[int, list[int]]] = []
            for row in given_back:
                pointer = pointers[2][row]
                found = where.event(row, pointer)
                bought = [standing(found)] if found is not None else []
                if not pointer:
                    bought = lines.get((int(users[row]), *_line(content(row))), [])
                pairs.append((row, [place for place in bought if place >= 0]))
            involve(place for _, bought in pairs for place in bought if alive[place])
            for row, bought in pairs:
                left = {place: content(place) for place in bought if alive[place]}
                _give_back(content(row), left, alive, changed)
    return changed


class _Where:
    """Where the events lie that are pointed at, by user and id."""

    def __init__(self, batch: EventBatch, users: npt.NDArray[Any], wanted: set[str]) -> None:
        ids = batch.array("event_id")
        rows = np.flatnonzero(
            pc.is_in(ids, pa.array(sorted(wanted), pa.string())).to_numpy(zero_copy_only=False)
        )
        self._users = users
        self._sources, _ = batch.codes("source")
        self._found: dict[tuple[int, str], list[int]] = {}
        for row, text in zip(rows.tolist(), ids.take(pa.array(rows)).to_pylist(), strict=True):
            self._found.setdefault((int(users[row]), text), []).append(row)

    def event(self, row: int, pointer: str | None) -> int | None:
        """The event that `row` points at: of its own source, else of the only one with the id."""
        found = [r for r in self._found.get((int(self._users[row]), pointer or ""), []) if r != row]
        own = [r for r in found if self._sources[r] == self._sources[row]]
        if own:
            return own[0]
        return found[0] if len(found) == 1 else None


def _line(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["group_id"] or "", row["item_id"] or ""


def _lines(
    batch: EventBatch,
    users: npt.NDArray[Any],
    types: list[str | None],
    alive: Bool,
    changed: Mapping[int, Mapping[str, Any]],
    given_back: list[int],
) -> dict[tuple[int, str, str], list[int]]:
    """(user, group, item) → its purchases, oldest first."""
    groups, items = texts_of(batch, "group_id"), texts_of(batch, "item_id")
    asked = {(int(users[row]), groups[row] or "", items[row] or "") for row in given_back}
    found: dict[tuple[int, str, str], list[int]] = {}
    for row in np.flatnonzero(alive).tolist():
        now = changed.get(row)
        if (now["event_type"] if now else types[row]) != "purchase":
            continue
        line = _line(now) if now else (groups[row] or "", items[row] or "")
        if (int(users[row]), *line) in asked and line[0] and line[1]:
            found.setdefault((int(users[row]), *line), []).append(row)
    times = batch.times()
    for rows in found.values():
        rows.sort(key=lambda row: (changed.get(row, {}).get("timestamp", times[row]), row))
    return found


def _give_back(
    refund: Mapping[str, Any],
    bought: Mapping[int, dict[str, Any]],
    alive: Bool,
    changed: dict[int, dict[str, Any]],
) -> None:
    """Take what a refund gives back out of its purchases, the oldest first."""
    quantity, value = refund["quantity"] or 0.0, refund["value"] or 0.0
    left = quantity or value
    for row, purchase in bought.items():
        had = (purchase["quantity"] or 1.0) if quantity else (purchase["value"] or 0.0)
        taken = min(left, had) if left else had
        if had - taken <= _NOTHING or not had:
            alive[row] = False
        else:
            worth = purchase["value"]
            if quantity:
                less = value * taken / quantity if value else (worth or 0.0) * taken / had
                purchase["quantity"] = had - taken
            else:
                less = taken
            if worth is not None:
                purchase["value"] = max(worth - less, 0.0)
            changed[row] = purchase
        if quantity or value:
            left -= taken
            if left <= _NOTHING:
                return


# -- small things ------------------------------------------------------------------------------


def texts_of(batch: EventBatch, name: str) -> list[str | None]:
    """A column as plain texts."""
    if name not in batch.table.column_names:
        return [None] * len(batch)
    codes, values = batch.codes(name)
    words = [plain_text(value) for value in values]
    return [words[code] if code >= 0 else None for code in codes.tolist()]


def among(codes: I32, values: list[Any], wanted: Container[Any]) -> Bool:
    """Rows whose value is one of these."""
    found = [place for place, value in enumerate(values) if value in wanted]
    chosen = np.zeros(len(values) + 1, dtype=bool)  # the last place is that of code −1
    chosen[found] = True
    mask: Bool = chosen[codes]
    return mask
