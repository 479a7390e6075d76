"""Some users read at once: what `View` is for one user, in columns.

A `SlotColumn` is one slot of many users. Population passes and audiences are made of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from limner.events.arrays import Vocabulary
from limner.events.batch import DAY, F64, I64, Bool
from limner.events.matching import Column, numbers
from limner.profile.facet import Entry, Facet, Reader, Slot
from limner.profile.merge import NEVER, Values
from limner.profile.population import Population, StateView
from limner.profile.state import ProfileState

CHUNK = 32_768
"""Users read in one go: large enough for numpy, small enough that a writer hardly waits."""

Keyed = Callable[[str], Mapping[str, Column]]


@dataclass(frozen=True, slots=True)
class SlotColumn:
    """One slot of many users: every array has a place for each, and holds where `known`.

    `value` is a column of numbers or texts, or `keyed` gives for a key the columns that a slot
    of entries has for it; under "" what the key stands for alone. `names` are the keys there are.
    """

    known: Bool
    value: Column | None
    events: npt.NDArray[Any]
    newest: I64
    confidence: F64
    facet: str
    keyed: Keyed | None = None
    names: Vocabulary | None = None


Offer = Mapping[str, Callable[[], SlotColumn]]
"""Slot as "section.name" → what reads it."""


class Users:
    """Some users of a state at a moment, in the order of `rows`."""

    def __init__(self, state: ProfileState, rows: I64, population: Population, now: int) -> None:
        self.state = state
        self.rows = rows
        self.population = population
        self.now = now
        near = len(rows) > 0 and rows[-1] - rows[0] == len(rows) - 1
        # a range is copied in a third of the time that picking rows takes
        self._at: Any = slice(int(rows[0]), int(rows[-1]) + 1) if near else rows
        self._read: dict[str, list[list[Slot]]] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def fixed(self, facet: str, *columns: str) -> tuple[npt.NDArray[Any], ...]:
        """These fixed columns of a facet, (n,) or (n, width) each."""
        records = self.state.records
        return tuple(records[f"{facet}.{name}"][self._at].copy() for name in columns)

    def state_of(self, facet: Facet, *columns: str) -> Values:
        """How many events a facet has and the newest one's time, and these fixed columns of it."""
        names = ("n", "t", *columns)
        return dict(zip(names, self.fixed(facet.name, *names), strict=True))

    def entries(self, facet: str) -> tuple[I64, npt.NDArray[Any], Values]:
        """(users, keys, columns) of the entries of a facet's map."""
        return self.state.pools[facet].every(self.rows)

    def vocabulary(self, path: str) -> Vocabulary:
        """The texts behind the codes of a path."""
        return self.state.vocabulary(path)

    def age(self, times: npt.NDArray[Any]) -> F64:
        """How long before now, in µs; 0 for what is ahead."""
        return np.maximum(self.now - times.astype(np.float64), 0.0)

    def slots(self, facet: Reader) -> list[list[Slot]]:
        """Each user's slots of a facet, read one by one."""
        if facet.name not in self._read:
            self._read[facet.name] = [
                facet.read(StateView(self.state, row, self.population), self.now)
                for row in self.rows.tolist()
            ]
        return self._read[facet.name]

    def confidence(
        self, n: npt.NDArray[Any], newest: npt.NDArray[Any], half_life: float | None = None
    ) -> F64:
        """As `facet.confidence`, which has the formula, of many."""
        effective = n * np.exp2(-self.age(newest) / (half_life or 365 * DAY))
        return np.where(effective > 0, effective / (effective + 5), 0.0)


def read_one_by_one(facet: Reader, users: Users) -> Offer:
    """The slots of any facet, by its own `read` of each user: right, and slow for many users."""
    read = users.slots(facet)
    paths: dict[str, list[Slot | None]] = {}
    for index, slots in enumerate(read):
        for slot in slots:
            paths.setdefault(f"{slot.section}.{slot.name}", [None] * len(read))[index] = slot
    return {path: partial(_gathered, facet.name, found) for path, found in paths.items()}


def _gathered(facet: str, slots: list[Slot | None]) -> SlotColumn:
    """Slots of one name as a column; None where a user has none."""
    known = np.array([slot is not None for slot in slots], dtype=bool)
    given = [slot for slot in slots if slot is not None]

    def column(of: Callable[[Slot], float]) -> F64:
        out = np.zeros(len(slots))
        out[known] = [of(slot) for slot in given]
        return out

    value: Column | None = None
    keyed: Keyed | None = None
    if all(isinstance(slot.value, str) for slot in given):
        words = Vocabulary()
        codes = np.full(len(slots), -1, dtype=np.int32)
        codes[known] = words.encode([slot.value for slot in given])
        value = Column("text", codes, known, words)
    elif all(isinstance(slot.value, int | float) for slot in given):
        value = numbers(column(lambda slot: float(slot.value)), known)
    else:
        keyed = partial(_of_key, slots, known)
    newest = np.full(len(slots), NEVER)
    newest[known] = [NEVER if slot.changed_at is None else slot.changed_at for slot in given]
    return SlotColumn(
        known,
        value,
        column(lambda slot: slot.events),
        newest,
        column(lambda slot: slot.confidence),
        facet,
        keyed,
    )


def _of_key(slots: list[Slot | None], known: Bool, key: str) -> Mapping[str, Column]:
    names = ("", "weight", "share", "recent_share", "against_all")
    found = {name: np.zeros(len(slots)) for name in names}
    present = np.zeros(len(slots), dtype=bool)
    for index, slot in enumerate(slots):
        if slot is None:
            continue
        if isinstance(slot.value, Mapping):
            if key in slot.value:
                present[index], found[""][index] = True, slot.value[key]
        elif key in slot.value:
            present[index], found[""][index] = True, slot.value.count(key)
        else:
            entry = next((e for e in slot.value if isinstance(e, Entry) and e.key == key), None)
            if entry is not None:
                present[index] = True
                for name in names[1:]:
                    given = getattr(entry, name)
                    found[name][index] = np.nan if given is None else given
                found[""][index] = entry.share
    return {
        name: replace(numbers(values, known), present=present) for name, values in found.items()
    }
