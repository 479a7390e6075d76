"""What cleaning has learned from the log: what is usual, and what its rules have touched."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from limner.events.batch import F64, I32, I64, Bool, EventBatch
from limner.events.log import Position
from limner.events.once import U64, halves
from limner.events.robots import KEPT, Days, Recent
from limner.events.rules import BITS
from limner.events.scales import MEASURES, Scales
from limner.events.vocabulary import BY_HAND, RESERVED

Kinds = Callable[[list[str]], I32]
"""Item ids → codes of their groups (say, of their category), −1 for unknown."""

Prices = Callable[[list[str], I64, I64], F64]
"""(item ids, codes into them, times) → what each cost then, NaN where unknown."""

_WIDTH = 32


@dataclass(frozen=True, slots=True)
class Touched:
    """How many events of the log a rule has touched, and the last of them."""

    n: int
    last: int
    """When it was received, µs."""
    position: Position


class Norms:
    """What follows from the log for cleaning; built by `observe`, and built anew by a replay.

    `scales`: the usual amounts; `days`: the usual number of events a day; and how many events
    carry each flag. In any grouping of the same rows in their order, it comes out the same.
    """

    __slots__ = ("_touched", "days", "recent", "scales")

    def __init__(self) -> None:
        self.scales = Scales()
        self.days = Days()
        self.recent = Recent()
        self._touched: I64 = np.zeros((_WIDTH, 3), dtype=np.int64)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Norms)
            and self.scales == other.scales
            and self.days == other.days
            and np.array_equal(self._touched, other._touched)
        )

    __hash__ = None  # type: ignore[assignment]  # changes as it observes

    def observe(self, first: Position, batch: EventBatch, kinds: Kinds | None = None) -> None:
        """Count a clean batch whose first row lies at `first`; of item and user versions, none."""
        types, names = batch.codes("event_type")
        rows = np.flatnonzero((types >= 0) & ~of_types(types, names, RESERVED))
        if not len(rows):
            return
        places, inverse = self.scales.places(
            names, types[rows], groups_of(batch.array("item_id"), kinds)[rows]
        )
        for measure in MEASURES:
            self.scales.observe(measure, places, inverse, batch.numbers(measure)[rows])
        users, times = user_keys(batch.array("user_id")), batch.times()
        self.days.observe(users[rows], times[rows])
        hand = rows[of_types(types[rows], names, BY_HAND)]
        if len(hand):
            last = hand[-KEPT:]
            self.recent.observe(users[last], times[last], item_keys(batch.array("item_id"), last))
        self._count(first, batch)

    def _count(self, first: Position, batch: EventBatch) -> None:
        given = batch.array("flags")
        given = given.fill_null(0) if given.null_count else given
        flags = given.to_numpy(zero_copy_only=False)
        if not flags.any():
            return
        received = batch.times("received_at")
        for bit in BITS.values():
            rows = np.flatnonzero(flags & bit)
            if len(rows):
                place = bit.bit_length() - 1
                n, last, _ = self._touched[place].tolist()
                newest = max(last, int(received[rows].max()))
                self._touched[place] = (n + len(rows), newest, first + int(rows[-1]))

    def touched(self) -> dict[str, Touched]:
        """What each rule that keeps rows has touched, by its name."""
        return {
            rule: Touched(*self._touched[bit.bit_length() - 1].tolist())
            for rule, bit in BITS.items()
        }

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The state as arrays, for a snapshot."""
        return {**self.scales.arrays(), **self.days.arrays(), "touched": self._touched.copy()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Norms:
        """What `arrays` gave. Raises ValueError if it is another version's."""
        norms = cls()
        norms.scales = Scales.from_arrays(arrays)
        norms.days = Days.from_arrays(arrays)
        norms._touched[:] = arrays["touched"]
        return norms


def of_types(types: I32, names: list[str], wanted: frozenset[str] | set[str]) -> Bool:
    """Rows whose type is one of these."""
    mask: Bool = np.array([*(name in wanted for name in names), False], dtype=bool)[types]
    return mask


def groups_of(items: pa.Array, kinds: Kinds | None) -> I64:
    """The group of each row's item, −1 for none or unknown."""
    if kinds is None or not len(items.dictionary):
        return np.full(len(items), -1, dtype=np.int64)
    codes = codes_of(items)
    groups: I64 = np.append(kinds(items.dictionary.to_pylist()), -1).astype(np.int64)[codes]
    return groups


def user_keys(users: pa.Array) -> U64:
    """Half of each row's pseudonym as a number, 0 for none."""
    if not len(users.dictionary):
        return np.zeros(len(users), dtype=np.uint64)
    values = users.dictionary  # as a rule of this type already, and a cast takes its time
    keys, _ = halves(values if values.type == pa.binary(16) else values.cast(pa.binary(16)))
    return np.append(keys, np.uint64(0))[codes_of(users)]


def item_keys(items: pa.Array, rows: I64) -> I64:
    """A number for the item of each of these rows; the same in this process only."""
    codes = codes_of(items)[rows]
    unique, inverse = np.unique(codes, return_inverse=True)
    values = items.dictionary
    keys = [hash(values[code].as_py()) if code >= 0 else 0 for code in unique.tolist()]
    return np.array(keys, dtype=np.int64)[inverse]


def codes_of(array: pa.Array) -> I32:
    """The codes of a dictionary column, −1 where null."""
    indices = array.indices
    if indices.null_count:
        indices = pc.fill_null(indices, -1)
    codes: I32 = indices.to_numpy(zero_copy_only=False)
    return codes
