"""How the columns of a map are kept in fewer bytes than they are told in.

The time of a decayed sum is only what it is told as of. Where nothing else asks for times, and no
half-life is under an hour, a time is kept to the minute in 4 bytes, and the sums as of that minute.
Positions take 4 bytes until the log has 2^31 rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from limner.events.batch import SECOND
from limner.profile.merge import POSITION, Column, Values, scaled

MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
INT32 = 2**31 - 1
"""What 4 bytes hold: 4,083 years of minutes either way, two thousand million positions."""


@dataclass(frozen=True, slots=True)
class Compact:
    """Columns as they are `told`, and as they are `kept`."""

    columns: tuple[Column, ...]
    kept: tuple[Column, ...]
    minutes: bool

    @classmethod
    def of(cls, columns: Sequence[Column], *, minutes: bool) -> Compact:
        """The shortest way to keep these; times to the minute only where `minutes` allows it."""
        lives = [life for column in columns for life in column.half_lives]
        others = {column.op for column in columns if column.name != "t"} - {"decay", "sum"}
        minutes = minutes and bool(lives) and not others and min(lives) >= HOUR
        kept = tuple(_short(column, minutes) for column in columns)
        return cls(tuple(columns), kept, minutes)

    @property
    def long(self) -> bool:
        """Whether positions take 8 bytes."""
        return POSITION in self.kept

    def widened(self) -> Compact:
        """The same with positions in 8 bytes."""
        return replace(self, kept=tuple(POSITION if c.name == "p" else c for c in self.kept))

    def short(self, values: Values) -> Values:
        """Contributions as they are kept."""
        if "p" in values:
            return values if self.long else {**values, "p": values["p"].astype(np.int32)}
        if not self.minutes:
            return values
        minutes = np.clip(values["t"] // MINUTE, -INT32, INT32)
        ahead = minutes * MINUTE - values["t"]
        out: Values = {"t": minutes.astype(np.int32)}
        for column in self.columns:
            if column.name != "t":
                given = values[column.name]
                decays = column.op == "decay"
                out[column.name] = scaled(given, ahead, column) if decays else given
        return out

    def told(self, values: Values) -> Values:
        """What is kept, with times in µs and positions in 8 bytes."""
        if "p" in values:
            return {**values, "p": values["p"].astype(np.int64)}
        if self.minutes:
            return {**values, "t": values["t"].astype(np.int64) * MINUTE}
        return values


def _short(column: Column, minutes: bool) -> Column:
    if column == POSITION or (minutes and column.name == "t"):
        return replace(column, dtype="i4")
    if minutes:
        return replace(column, half_lives=tuple(life / MINUTE for life in column.half_lives))
    return column
