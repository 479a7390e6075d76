"""How the columns of a map are kept in fewer bytes than they are told in.

The time of a decayed sum is only what it is told as of. Where nothing else asks for times, and no
half-life is under an hour, a time is kept to the minute, and the sums as of that minute. Other
times are kept in seconds until one comes that is no whole second. A float that is one of few
numbers is kept as a code. Integers take the bytes that the greatest of them needs (`wide_enough`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from limner.events.batch import I64, SECOND
from limner.profile.merge import Column, Values, scaled

MINUTE = 60 * SECOND
HOUR = 60 * MINUTE


class Compact:
    """Columns as they are `told`, and as they are `kept`.

    `unit` is what times are kept in (µs), `numbers` the numbers behind the codes of each column
    of few, in order of arrival.
    """

    __slots__ = ("_sorted", "columns", "kept", "minutes", "numbers", "unit")

    def __init__(self, columns: Sequence[Column], *, minutes: bool) -> None:
        """The shortest way to keep these; times to the minute only where `minutes` allows it."""
        lives = [life for column in columns for life in column.half_lives]
        others = {column.op for column in columns if column.name != "t"} - {"decay", "sum"}
        self.minutes = minutes and bool(lives) and not others and min(lives) >= HOUR
        self.unit = MINUTE if self.minutes else SECOND
        self.columns = tuple(columns)
        self.numbers = {c.name: np.empty(0, c.dtype) for c in columns if c.few}
        self._sorted = {name: np.empty(0, np.int64) for name in self.numbers}
        self._say_kept()

    def _say_kept(self) -> None:
        self.kept = tuple(
            replace(
                column,
                dtype="i4" if column.few else column.dtype,
                half_lives=tuple(life / self.unit for life in column.half_lives),
            )
            for column in self.columns
        )

    def too_coarse(self, values: Values) -> bool:
        """Whether these hold times that the unit cannot say."""
        if self.unit != SECOND or "t" not in values:
            return False
        return bool((values["t"] // SECOND * SECOND != values["t"]).any())

    def refine(self) -> None:
        """Keep times in µs from now on."""
        self.unit = 1
        self._say_kept()

    def short(self, values: Values) -> Values:
        """Contributions as they are kept."""
        out = dict(values)
        if "t" in values and self.unit != 1:
            out["t"] = values["t"] // self.unit
        if self.minutes:
            ahead = out["t"] * MINUTE - values["t"]
            for column in self.columns:
                if column.op == "decay":
                    out[column.name] = scaled(values[column.name], ahead, column)
        for name in self.numbers:
            out[name] = self._codes(name, values[name])
        return out

    def told(self, values: Values) -> Values:
        """What is kept as it is told: in the types of the columns, with times in µs."""
        out: Values = {}
        for column in self.columns:
            data = values[column.name]
            if column.few:
                out[column.name] = self.numbers[column.name][data]
            else:
                out[column.name] = data.astype(column.dtype, copy=False)
        if "t" in out and self.unit != 1:
            out["t"] = out["t"] * self.unit
        return out

    def _codes(self, name: str, given: npt.NDArray[Any]) -> I64:
        """The codes of these numbers; new ones are added."""
        known, order = self.numbers[name], self._sorted[name]
        if len(known):
            place = np.minimum(np.searchsorted(known, given, sorter=order), len(known) - 1)
            codes: I64 = order[place]
            if (known[codes] == given).all():
                return codes
        new = np.setdiff1d(given, known)
        if np.isnan(new).any():
            raise ValueError(f"column {name!r} is of few numbers, and NaN is none")
        self.take_numbers(name, np.concatenate([known, new]))
        return self._codes(name, given)

    def take_numbers(self, name: str, numbers: npt.NDArray[Any]) -> None:
        """These are the numbers behind the codes of a column."""
        self.numbers[name] = numbers
        self._sorted[name] = np.argsort(numbers)


SPANS = {
    np.dtype(name): (int(np.iinfo(name).min), int(np.iinfo(name).max))
    for name in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")
}
"""The least and the greatest integer of each type, narrow types of a kind first."""


def narrow(dtype: str) -> str:
    """The narrowest type of the same kind."""
    kind = np.dtype(dtype).kind
    return kind + "1" if kind in "iu" else dtype


def wide_enough(dtype: np.dtype[Any], values: npt.NDArray[Any]) -> np.dtype[Any]:
    """The narrowest type of the kind of an integer type, not narrower, that takes these too."""
    if not values.size:
        return dtype
    if values.size == 1:  # as a live event brings it
        least = most = int(values.flat[0])
    else:
        least, most = int(values.min()), int(values.max())
    low, high = SPANS[dtype]
    if low <= least and most <= high:
        return dtype
    return next(
        wide
        for wide, span in SPANS.items()
        if wide.kind == dtype.kind and span[0] <= min(low, least) and max(high, most) <= span[1]
    )
