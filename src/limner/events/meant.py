"""The log as it is meant: each row under the user it belongs to, and what was amended amended.

Whatever reads the log for an answer (a refold, a portrait of the past, evidence, training) reads
it through `Meant`. `Amendments` is what must be known for that beside the rows themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from limner.events.amend import POINTERS, amending, among, effective, texts_of
from limner.events.batch import I64, SCHEMA, EventBatch, concat
from limner.events.log import EventLog, Position
from limner.events.raw import ALIAS

Key = tuple[str, ...]
"""What an amending row points at: ("id", event id), or ("line", group, item)."""


@dataclass(frozen=True, slots=True)
class Link:
    """Since `position` the log says that `old` was `user`."""

    position: Position
    old: bytes
    user: bytes


@dataclass(frozen=True, slots=True)
class Learned:
    """What a batch told: users who are now part of another, and users to fold again."""

    joined: list[tuple[bytes, bytes]]
    owed: set[bytes]


class Amendments:
    """Who is who, and which users have rows that amend others, as far as the log was read.

    Derived from the log like all state, and kept in snapshots beside it.
    """

    name = "identity links"

    def __init__(self) -> None:
        self._above: dict[bytes, bytes] = {}
        """A linked pseudonym → one nearer to its user."""
        self._links: dict[bytes, list[Link]] = {}
        """A user → all links of its group."""
        self._awaited: dict[bytes, set[Key]] = {}
        """A user with amending rows → what these point at."""

    # -- who is who --------------------------------------------------------------------------

    def user(self, pseudonym: bytes) -> bytes:
        """The user that a pseudonym belongs to, itself if it is linked to none."""
        above = self._above
        if pseudonym not in above:
            return pseudonym
        found = pseudonym
        while found in above:
            found = above[found]
        while above.get(pseudonym, found) != found:  # the next look-up is one step
            above[pseudonym], pseudonym = found, above[pseudonym]
        return found

    def users(self, pseudonyms: Sequence[bytes]) -> Sequence[bytes]:
        """The user of each pseudonym."""
        return [self.user(one) for one in pseudonyms] if self._above else pseudonyms

    def members(self, pseudonym: bytes, known_at: Position | None = None) -> list[bytes]:
        """All pseudonyms of one user, itself first; by the links told before `known_at`."""
        links = self._links.get(self.user(pseudonym), [])
        if known_at is not None:
            links = [link for link in links if link.position < known_at]
        found, ends = [pseudonym], {pseudonym}
        beside: dict[bytes, list[bytes]] = {}
        for link in links:
            beside.setdefault(link.old, []).append(link.user)
            beside.setdefault(link.user, []).append(link.old)
        for one in found:
            for other in beside.get(one, []):
                if other not in ends:
                    ends.add(other)
                    found.append(other)
        return found

    def refused(self, batch: EventBatch, tentative: dict[bytes, bytes]) -> dict[int, str]:
        """Row → why its alias cannot be; those that can be are added to `tentative`."""
        out: dict[int, str] = {}
        for row, old, user in _aliases(batch):
            old_user, new_user = (self._tried(one, tentative) for one in (old, user))
            if old == user:
                out[row] = "an id cannot be an alias of itself; to mend it: name the id before"
            elif old_user == new_user:
                continue
            elif old_user != old:
                out[row] = (
                    "the id is linked to another user already; to mend it: link the two users, "
                    "or erase the one that is wrong"
                )
            else:
                tentative[old] = new_user
        return out

    def _tried(self, pseudonym: bytes, tentative: Mapping[bytes, bytes]) -> bytes:
        found = self.user(pseudonym)
        while found in tentative:
            found = self.user(tentative[found])
        return found

    def follow(self, batch: EventBatch) -> EventBatch:
        """The batch with each row under the user it belongs to."""
        if not self._above:
            return batch
        for name in ("user_id", "target_user_id"):
            codes, values = batch.codes(name)
            if any(value in self._above for value in values):
                users = [self.user(value) for value in values]
                places = {user: place for place, user in enumerate(dict.fromkeys(users))}
                table = np.array([places[user] for user in users] + [-1], dtype=np.int32)
                moved = table[codes]
                column = pa.DictionaryArray.from_arrays(
                    pa.array(moved, mask=moved < 0), pa.array(list(places), pa.binary(16))
                )
                index = batch.table.column_names.index(name)
                batch = EventBatch(batch.table.set_column(index, SCHEMA.field(name), column))
        return batch

    # -- what the log says -------------------------------------------------------------------

    def learn(self, batch: EventBatch, first: Position) -> Learned:
        """Take in rows of the log, in order; `first` is the position of the first one."""
        joined: list[tuple[bytes, bytes]] = []
        owed: set[bytes] = set()
        for row, old, user in _aliases(batch):
            link = Link(first + row, old, user)
            below, above = self.user(old), self.user(user)
            if below == above:
                self._links.setdefault(above, []).append(link)
                continue
            self._above[below] = above
            self._links[above] = [
                *self._links.get(above, []), *self._links.pop(below, []), link,
            ]  # fmt: skip
            joined.append((below, above))
            if below in self._awaited or above in self._awaited:
                keys = self._awaited.pop(below, set())
                self._awaited.setdefault(above, set()).update(keys)
                owed.add(above)
        rows = np.flatnonzero(amending(batch))
        if len(rows):
            for user, keys in _pointed(batch, rows):
                self._awaited.setdefault(self.user(user), set()).update(keys)
                owed.add(self.user(user))
        if self._awaited:
            owed |= self._hit(batch)
        # whoever joined another later in the batch is owed under that name
        return Learned(joined, {self.user(user) for user in owed})

    def _hit(self, batch: EventBatch) -> set[bytes]:
        """Users with a row that an amending row points at: it may have come first."""
        codes, values = batch.codes("user_id")
        here = set(values)
        mine = here & self._awaited.keys()
        mine.update(one for one in here & self._above.keys() if self.user(one) in self._awaited)
        if not mine:
            return set()
        rows = np.flatnonzero(among(codes, values, mine))
        out: set[bytes] = set()
        part = batch.take(rows)
        ids, groups, items = (texts_of(part, name) for name in ("event_id", "group_id", "item_id"))
        for code, event_id, group, item in zip(
            codes[rows].tolist(), ids, groups, items, strict=True
        ):
            user = self.user(values[code])
            awaited = self._awaited[user]
            if ("id", event_id or "") in awaited or ("line", group or "", item or "") in awaited:
                out.add(user)
        return out

    def amended(self) -> Set[bytes]:
        """Users with rows that amend others."""
        return self._awaited.keys()

    # -- erasing, keeping --------------------------------------------------------------------

    def holds(self, user: bytes) -> bool:
        """Whether anything here names this pseudonym."""
        return user in self._above or user in self._links or user in self._awaited

    def erase(self, user: bytes) -> int:
        """Forget a user with all links of the group; how many links that were."""
        root = self.user(user)
        members = self.members(root)
        gone = self._links.pop(root, [])
        for member in members:
            self._above.pop(member, None)
            self._awaited.pop(member, None)
        return len(gone)

    def copy(self) -> Amendments:
        """As it is now, for a reader beside the writer."""
        out = Amendments()
        out._above = dict(self._above)
        out._links = {user: list(links) for user, links in self._links.items()}
        out._awaited = {user: set(keys) for user, keys in self._awaited.items()}
        return out

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All of it as arrays by name, for a snapshot."""
        every = (link for group in self._links.values() for link in group)
        links = sorted(every, key=lambda link: link.position)
        awaited = sorted(self._awaited)
        keys = msgspec.json.encode([sorted(self._awaited[user]) for user in awaited])
        return {
            "links.position": np.array([link.position for link in links], dtype=np.int64),
            "links.users": _packed(part for link in links for part in (link.old, link.user)),
            "awaited.users": _packed(awaited),
            "awaited.keys": np.frombuffer(keys, dtype=np.uint8),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Amendments:
        """What `arrays` gave. Raises KeyError if it is of a snapshot before there were links."""
        out = cls()
        users = _unpacked(arrays["links.users"])
        pairs = zip(users[::2], users[1::2], strict=True)
        for position, (old, user) in zip(arrays["links.position"].tolist(), pairs, strict=True):
            below, above = out.user(old), out.user(user)
            links = out._links.pop(below, []) if below != above else []
            out._links[above] = [*out._links.get(above, []), *links, Link(position, old, user)]
            if below != above:
                out._above[below] = above
        keys = msgspec.json.decode(arrays["awaited.keys"].tobytes(), type=list[set[Key]])
        out._awaited = dict(zip(_unpacked(arrays["awaited.users"]), keys, strict=True))
        return out


@dataclass(frozen=True, slots=True)
class Meant:
    """The log as it is meant: under its users, with what was amended as it should have been."""

    log: EventLog
    amendments: Amendments

    def events_of(
        self,
        user: bytes,
        *,
        at: int | None = None,
        known_at: Position | None = None,
        refunds: bool = True,
    ) -> tuple[I64, EventBatch]:
        """A user's rows under all their ids, with positions: as of event time `at` (µs), from
        what lay in the log before `known_at`. Without `refunds` these take nothing out.
        """
        found = [self.log.events_of(one) for one in self.amendments.members(user, known_at)]
        positions, batch = found[0]
        if len(found) > 1:
            positions = np.concatenate([places for places, _ in found])
            batch = concat([rows for _, rows in found])
            order = np.argsort(positions)
            positions, batch = positions[order], self.amendments.follow(batch.take(order))
        if known_at is not None and len(positions) and positions[-1] >= known_at:
            positions, batch = positions[positions < known_at], batch.take(positions < known_at)
        return effective(batch, positions, at=at, refunds=refunds)

    def read(
        self, stop: Position, *, users: Set[bytes] | None = None, refunds: bool = True
    ) -> Iterator[tuple[I64, EventBatch]]:
        """(positions, rows) of these users, or all, before `stop`; in order for each user.

        Without `refunds` these take nothing out: what was given back later had been bought.
        """
        amended = self.amendments.amended()
        aside: list[tuple[I64, EventBatch]] = []
        for positions, raw in self._rows(stop, users):
            batch = self.amendments.follow(raw)
            mine = among(*batch.codes("user_id"), amended)
            if mine.any():
                aside.append((positions[mine], batch.take(mine)))
                batch, positions = batch.take(~mine), positions[~mine]
            if len(batch):
                yield positions, batch
        if aside:
            positions = np.concatenate([places for places, _ in aside])
            yield effective(concat([rows for _, rows in aside]), positions, refunds=refunds)

    def _rows(self, stop: Position, users: Set[bytes] | None) -> Iterator[tuple[I64, EventBatch]]:
        if users is None:
            for first, batch in self.log.read(0, stop):
                yield np.arange(first, first + len(batch)), batch
            return
        own = {member for user in users for member in self.amendments.members(user)}
        for positions, batch in self.log.rows_of(own):
            before = positions < stop
            if before.any():
                yield positions[before], batch.take(before)


def _aliases(batch: EventBatch) -> Iterator[tuple[int, bytes, bytes]]:
    """(row, the id before, its user) of each alias."""
    codes, types = batch.codes("event_type")
    if ALIAS not in types:
        return
    users, known = batch.codes("user_id")
    before, others = batch.codes("target_user_id")
    for row in np.flatnonzero(codes == types.index(ALIAS)).tolist():
        if users[row] >= 0 and before[row] >= 0:
            yield row, others[before[row]], known[users[row]]


def _pointed(batch: EventBatch, rows: I64) -> Iterator[tuple[bytes, set[Key]]]:
    part = batch.take(rows)
    users, values = part.codes("user_id")
    pointers = [texts_of(part, name) for name in POINTERS]
    groups, items = texts_of(part, "group_id"), texts_of(part, "item_id")
    types = texts_of(part, "event_type")
    for row, code in enumerate(users.tolist()):
        if code < 0:
            continue
        keys: set[Key] = {("id", text) for column in pointers if (text := column[row])}
        if types[row] == "refund" and not keys:
            keys.add(("line", groups[row] or "", items[row] or ""))
        yield values[code], keys


def _packed(users: Any) -> npt.NDArray[np.uint8]:
    return np.frombuffer(b"".join(users), dtype=np.uint8)


def _unpacked(array: npt.NDArray[Any]) -> list[bytes]:
    body = array.tobytes()
    return [body[place : place + 16] for place in range(0, len(body), 16)]
