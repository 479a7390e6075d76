"""Audiences: which users' slots meet a condition, over all of them at once.

A field of a condition (`limner.events.expression`) is `SECTION.SLOT`, a key where a slot has
several, and what of it is meant: `interests.category["COFFEE"].weight`, `value.spend.percentile`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

import numpy as np

from limner.errors import ExpressionError
from limner.events.arrays import Vocabulary
from limner.events.batch import F64, I64, Bool
from limner.events.expression import Field, Node, Part, parse, problem, unknown, walk
from limner.events.log import Position
from limner.events.matching import Column, matches, numbers
from limner.profile.clusters import marks_of
from limner.profile.facet import SECTIONS
from limner.profile.facets.affinity import Affinity
from limner.profile.offered import key_words
from limner.profile.population import Mark, Population
from limner.profile.rows import Pseudonyms
from limner.profile.standing import everything, graded
from limner.profile.state import ProfileState
from limner.profile.users import CHUNK, SlotColumn, Users

Lock = AbstractContextManager[object]

OF_A_SLOT = ("confidence", "changed_at", "events", "percentile", "tier")
"""What can be asked of a slot beside its value."""
PROBED = 1_000


@dataclass(frozen=True, slots=True)
class Audience:
    """The users who met a condition at `at` (µs), among `of` users, by the log before `as_of`.

    `pseudonyms` in ascending order. `notes` say what in the condition nobody has. `index`: what
    the audience leans to, by target-group index, if that was asked.
    """

    pseudonyms: Pseudonyms
    of: int
    at: int
    as_of: Position
    notes: tuple[str, ...] = ()
    index: tuple[Mark, ...] = ()

    def __len__(self) -> int:
        return len(self.pseudonyms)

    def page(self, limit: int, after: bytes = b"") -> list[bytes]:
        """At most `limit` pseudonyms that follow one; the first ones after none."""
        start = 0
        if after:
            high, low = self.pseudonyms.byteswap().T  # as numbers that are ordered like the bytes
            first, second = np.frombuffer(after, dtype=">u8").astype(np.uint64)
            begin, end = high.searchsorted(first), high.searchsorted(first, "right")
            start = int(begin + low[begin:end].searchsorted(second, "right"))
        return self.part(start, limit)

    def part(self, start: int, size: int) -> list[bytes]:
        """At most `size` pseudonyms from a place on."""
        packed = self.pseudonyms[start : start + size].tobytes()
        return [packed[at : at + 16] for at in range(0, len(packed), 16)]


def find(
    state: ProfileState,
    population: Population,
    now: int,
    where: str,
    *,
    index: str = "",
    lock: Lock | None = None,
) -> Audience:
    """The users who meet `where`; with `index` also what they lean to in that slot.

    Users are judged in chunks, each under the lock, so each as they are at one moment. Raises
    ExpressionError, with the column, for what cannot be read, is not there or cannot be compared.
    """
    return _Search(state, population, now, where, index, lock or nullcontext()).found()


@dataclass(slots=True)
class _Search:
    state: ProfileState
    population: Population
    now: int
    where: str
    index: str
    lock: Lock
    tree: Node = field(init=False)
    wanted: set[str] = field(init=False)
    present: dict[str, bool] = field(default_factory=dict)
    """Each key that was asked for → whether anybody has it."""
    near: dict[str, Vocabulary | None] = field(default_factory=dict)
    examples: dict[str, SlotColumn] = field(default_factory=dict)

    def read(self) -> None:
        """Take the condition apart."""
        self.tree = parse(self.where)
        fields = [node for node in walk(self.tree) if isinstance(node, Field)]
        self.wanted = {_path(node) for node in fields if len(node.parts) > 1}

    def found(self) -> Audience:
        self.read()
        with self.lock:
            rows, position = self.state.rows.live, self.state.position
            self._probe(rows)
            leaning = _Leaning.of(self.state, self.index) if self.index else None
        parts = []
        for start in range(0, len(rows), CHUNK):
            with self.lock:
                users = Users(self.state, rows[start : start + CHUNK], self.population, self.now)
                mask = self._matched(users)
                keys = self.state.rows.keys_of[users.rows[mask]]
                parts.append(keys[keys.any(axis=1)])
                if leaning is not None:
                    leaning.add(users, mask)
        every = np.concatenate(parts) if parts else np.empty((0, 2), dtype=np.uint64)
        return Audience(
            every[_ascending(every)],
            len(rows),
            self.now,
            position,
            self._notes(),
            leaning.marks() if leaning is not None else (),
        )

    def _probe(self, rows: I64) -> None:
        """Judge a few, so that what is wrong with the condition is known before all are."""
        some = rows[:: max(len(rows) // PROBED, 1)]
        users = Users(self.state, some, self.population, self.now)
        offer = everything(users, self.wanted)
        self.examples = {path: offer[path]() for path in self.wanted if path in offer}
        self._matched(users)

    def _matched(self, users: Users) -> Bool:
        offer = everything(users, self.wanted)
        read: dict[str, SlotColumn] = {}

        def slot_of(path: str) -> SlotColumn:
            if path not in read:
                found = offer[path]() if path in offer else None
                read[path] = found or _nobody(self.examples[path], len(users))
            return read[path]

        def resolve(node: Field) -> Column:
            section, *rest = node.parts
            if section.text not in SECTIONS or section.keyed:
                raise unknown(section, "section", SECTIONS)
            if not rest:
                raise problem(f"{section.text} is a section", node.at,
                              f"name a slot: {section.text}.NAME")  # fmt: skip
            path = _path(node)
            if path not in offer and path not in self.examples:
                names = [p.partition(".")[2] for p in offer if p.startswith(section.text + ".")]
                raise unknown(rest[0], f"slot of {section.text}", names)
            return self._column(node, path, slot_of(path), rest[1:], users)

        mask = matches(self.tree, resolve)
        return np.broadcast_to(mask, len(users))

    def _column(
        self, node: Field, path: str, slot: SlotColumn, rest: list[Part], users: Users
    ) -> Column:
        if rest and rest[0].keyed:
            return self._of_key(path, slot, rest)
        if len(rest) > 1:
            raise problem(f"nothing follows {rest[0].text}", rest[1].at)
        if not rest:
            if slot.value is None:
                raise problem(f"{node} has several keys", node.at, f'name one: {node}["…"]')
            return slot.value
        what = rest[0].text
        if what == "confidence":
            return numbers(slot.confidence, slot.known)
        if what == "events":
            return numbers(slot.events, slot.known)
        if what == "changed_at":
            return Column("time", slot.newest, slot.known)
        numeric = slot.value is not None and slot.value.kind == "number"
        if what in ("percentile", "tier") and slot.value is not None and numeric:
            name = path.partition(".")[2]
            places = self.population.percentiles(name, slot.value.values)
            places = np.where(slot.value.known, places, np.nan)
            return numbers(places, slot.known) if what == "percentile" else graded(places)
        known = OF_A_SLOT if numeric else OF_A_SLOT[:3]
        raise unknown(rest[0], f"part of {path}", known)

    def _of_key(self, path: str, slot: SlotColumn, rest: list[Part]) -> Column:
        if slot.keyed is None:
            raise problem(f"{path} has no keys", rest[0].at)
        key = rest[0].text
        columns = slot.keyed(key)
        what = rest[1].text if len(rest) > 1 else ""
        if what not in columns or len(rest) > 2:
            raise unknown(rest[min(len(rest) - 1, 2)], f"part of a key of {path}",
                          [name for name in columns if name])  # fmt: skip
        column = columns[what]
        there = column.known if column.present is None else column.present
        asked = f"{path}[{key!r}]"
        self.present[asked] = self.present.get(asked, False) or bool(there.any())
        self.near[asked] = slot.names
        return column

    def _notes(self) -> tuple[str, ...]:
        out = []
        for asked, there in self.present.items():
            if not there:
                words = self.near[asked]
                key = asked.partition("[")[2][1:-2]
                known = [text for text in (words.values if words is not None else ()) if text]
                close = get_close_matches(key, known, 1) if len(known) < 50_000 else []
                meant = f"; did you mean {close[0]!r}?" if close and close[0] != key else ""
                out.append(f"nobody has {asked}{meant}")
        return tuple(out)


class Judge:
    """A condition of which users are judged again and again, as they change."""

    def __init__(self, where: str) -> None:
        """Raises ExpressionError if it cannot be read."""
        self.where = where
        parse(where)
        self._search: _Search | None = None

    def of(self, users: Users) -> Bool:
        """Who of these meets it. Where it names what nobody has yet, nobody does."""
        search = self._search
        if search is None or search.state is not users.state:
            search = self.renew(users.state, users.population, users.now)
        search.population, search.now = users.population, users.now
        try:
            return search._matched(users)
        except ExpressionError:
            return np.zeros(len(users), dtype=bool)

    def renew(self, state: ProfileState, population: Population, now: int) -> _Search:
        """Look anew at what slots users have; from time to time, for it takes milliseconds."""
        search = _Search(state, population, now, self.where, "", nullcontext())
        search.read()
        with suppress(ExpressionError):
            search._probe(state.rows.live)
        self._search = search
        return search


def _ascending(pseudonyms: Pseudonyms) -> I64:
    """The order of pseudonyms by their bytes; their second half seldom matters."""
    high, low = pseudonyms.byteswap().T
    order = np.argsort(high)
    if (np.diff(high[order]) == 0).any():
        order = np.lexsort((low, high))
    return order


def _path(node: Field) -> str:
    return ".".join(part.text for part in node.parts[:2])


def _nobody(like: SlotColumn, n: int) -> SlotColumn:
    """A slot that none of these users has."""
    none = np.zeros(n, dtype=bool)

    def emptied(column: Column) -> Column:
        return replace(column, values=np.zeros(n, column.values.dtype), known=none, present=none)

    keyed = like.keyed
    return replace(
        like,
        known=none,
        value=None if like.value is None else emptied(like.value),
        events=np.zeros(n),
        newest=np.zeros(n, dtype=np.int64),
        confidence=np.zeros(n),
        keyed=None
        if keyed is None
        else lambda key: {name: emptied(column) for name, column in keyed(key).items()},
    )


# -- what a group leans to ---------------------------------------------------------------------


class _Leaning:
    """Shares of keys (or of texts) in a group and among all, each user counting alike."""

    def __init__(self, path: str, facet: Affinity | None, words: Vocabulary | None) -> None:
        self.path = path
        self.facet = facet
        self.words = words
        self.group = self.every = 0
        self.shares: F64 = np.zeros((2, 0))

    @classmethod
    def of(cls, state: ProfileState, path: str) -> _Leaning:
        found = {
            f"{facet.config.section}.{facet.name}": facet
            for facet in state.facets
            if isinstance(facet, Affinity)
        }
        if path in found:
            return cls(path, found[path], key_words(found[path].keys, state.vocabulary))
        users = Users(state, state.rows.live[:PROBED], Population(), 0)
        offer = everything(users, [path])
        known = [*found, "basic.NAME", "value.rfm", "interests.cluster"]
        if path not in offer and not path.startswith(("value.", "interests.")):
            raise unknown(Part(path, False, 0), "slot that an index can be of", known)
        return cls(path, None, None)

    def add(self, users: Users, mask: Bool) -> None:
        if self.facet is not None:
            owner, keys, values = users.entries(self.facet.name)
            weight = np.maximum(self.facet.weights_of(values, users.now)[:, 1], 0)
            total = np.bincount(owner, weights=weight, minlength=len(users))
            share, known = weight / np.maximum(total[owner], 1e-300), total > 0
        else:
            offer = everything(users, [self.path])
            value = offer[self.path]().value if self.path in offer else None
            if value is None or value.words is None:
                raise problem(f"an index of {self.path} cannot be made", 0,
                              "name a slot of shares or of texts")  # fmt: skip
            self.words, known = value.words, value.known
            owner = known.nonzero()[0]
            keys, share = value.values[owner], np.ones(len(owner))
        self.every += int(known.sum())
        self.group += int((known & mask).sum())
        size = max(int(keys.max(initial=-1)) + 1, self.shares.shape[1])
        grown = np.zeros((2, size))
        grown[:, : self.shares.shape[1]] = self.shares
        grown[0] += np.bincount(keys, weights=share, minlength=size)
        inside = mask[owner]
        grown[1] += np.bincount(keys[inside], weights=share[inside], minlength=size)
        self.shares = grown

    def marks(self) -> tuple[Mark, ...]:
        """The keys by their index, highest first; those of less than 0.1 % of all left out."""
        if self.words is None or not self.group:
            return ()
        overall, inside = self.shares[0] / max(self.every, 1), self.shares[1] / self.group
        texts = self.words.values
        chosen = [k for k in (overall >= 0.001).nonzero()[0].tolist() if texts[k]]
        return tuple(marks_of([texts[k] for k in chosen], inside[chosen], overall[chosen]))
