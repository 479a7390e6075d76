"""Blocks of one capacity, each of which holds the entries of one user's map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from limner.events.arrays import Grow
from limner.events.batch import I64
from limner.profile.merge import Column

LEAST_FREE = 16_384
"""Empty entries that are worth closing up, if they are a sixteenth of all blocks besides."""


class Blocks:
    """All blocks of one capacity, each with `lost` numbers about what it let go."""

    __slots__ = ("capacity", "columns", "count", "free", "keys", "lost")

    def __init__(self, key_dtype: str, columns: Sequence[Column], capacity: int, lost: int) -> None:
        self.capacity = capacity
        self.keys = Grow(key_dtype, 0, capacity)
        self.count = Grow("i4", 0)
        self.columns = {
            column.name: Grow(column.dtype, column.identity, capacity * column.width)
            for column in columns
        }
        self.lost = Grow("f8", 0.0, lost)
        self.free: list[int] = []

    def _all(self) -> Iterator[Grow]:
        yield from (self.keys, self.count, self.lost, *self.columns.values())

    @property
    def live(self) -> int:
        """How many blocks are somebody's."""
        return self.keys.n - len(self.free)

    def take(self, n: int) -> I64:
        """Numbers of `n` empty blocks."""
        reused = [self.free.pop() for _ in range(min(n, len(self.free)))]
        start = self.keys.n
        stop = start + n - len(reused)
        for grown in self._all():
            grown.resize(stop)
        return np.array([*reused, *range(start, stop)], dtype=np.int64)

    def wipe(self, blocks: I64) -> None:
        """Empty these blocks; they may be taken again."""
        for grown in self._all():
            grown.data[blocks] = grown.fill
        self.free.extend(blocks.tolist())

    @property
    def worth_closing_up(self) -> bool:
        """Whether many blocks are empty."""
        free = len(self.free)
        return free * self.capacity >= LEAST_FREE and free * 16 >= self.keys.n

    def close_up(self, last: I64) -> I64:
        """Give back the room of the empty blocks; the blocks from `live` on, which are `last`,
        move into empty ones before them: where to.
        """
        stop, free = self.live, np.array(self.free)
        holes = np.sort(free[free < stop])
        for grown in self._all():
            grown.data[holes] = grown.data[last]
            grown.cut(stop)
        self.free = []
        return holes

    def widen(self, name: str, column: Column) -> None:
        """Keep a column in another type from now on."""
        wide = Grow(column.dtype, column.identity, self.capacity * column.width)
        wide.load(self.columns[name].view.astype(column.dtype))
        self.columns[name] = wide


def capacities(largest: int) -> list[int]:
    """Sizes of blocks, two to an octave and then four: a tenth of a large block is empty.

    >>> capacities(40)
    [1, 2, 3, 4, 6, 8, 12, 16, 20, 24, 28, 32, 40]
    """
    sizes = [1]
    while sizes[-1] < largest:
        octave = 1 << (sizes[-1].bit_length() - 1)
        sizes.append(min(sizes[-1] + max(octave // (4 if octave >= 16 else 2), 1), largest))
    return sizes


def present(sizes: npt.NDArray[Any]) -> list[int]:
    """The different size classes among these, −1 (no block yet) left out."""
    if len(sizes) < 8:
        return [size for size in set(sizes.tolist()) if size >= 0]
    return np.flatnonzero(np.bincount(sizes[sizes >= 0])).tolist()


def shaped(data: npt.NDArray[Any], column: Column) -> npt.NDArray[Any]:
    """(…, capacity × width) as (…, capacity, width), or as it is for width 1."""
    if column.width == 1:
        return data
    return data.reshape(*data.shape[:-1], -1, column.width)
