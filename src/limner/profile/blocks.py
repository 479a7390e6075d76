"""Blocks of one capacity, each of which holds the entries of one user's map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from limner.events.arrays import Grow
from limner.events.batch import I64
from limner.profile.compact import narrow
from limner.profile.merge import Column, Values

LEAST_FREE = 2_048
"""Empty entries that are worth closing up, if they are a sixteenth of all blocks besides."""


class Blocks:
    """All blocks of one capacity, each with `lost` numbers about what it let go.

    Integers lie in the narrowest type that takes them, and whoever writes wider ones widens it
    before; behind the first `count` entries of a block is nothing that means anything.
    """

    __slots__ = ("capacity", "columns", "count", "free", "keys", "lost")

    def __init__(self, key_dtype: str, columns: Sequence[Column], capacity: int, lost: int) -> None:
        self.capacity = capacity
        self.keys = Grow(narrow(key_dtype), 0, capacity)
        self.count = Grow("u1" if capacity < 256 else "i4", 0)
        self.columns = {
            column.name: Grow(narrow(column.dtype), 0, capacity * column.width)
            for column in columns
        }
        self.lost = Grow("f8", 0.0, lost)
        self.free = Grow("i4")

    def _all(self) -> Iterator[Grow]:
        yield from (self.keys, self.count, self.lost, *self.columns.values())

    @property
    def live(self) -> int:
        """How many blocks are somebody's."""
        return self.keys.n - self.free.n

    def take(self, n: int) -> I64:
        """Numbers of `n` empty blocks."""
        kept = max(self.free.n - n, 0)
        reused = self.free.view[kept:].astype(np.int64)
        self.free.n = kept
        start = self.keys.n
        stop = start + n - len(reused)
        for grown in self._all():
            grown.resize(stop)
        return np.concatenate([reused, np.arange(start, stop)])

    def reserve(self, more: int) -> None:
        """Have room for so many more blocks, or half of what there is, if that is more."""
        for grown in self._all():
            grown.reserve(grown.n + max(more, grown.n // 2, 16))

    @property
    def space(self) -> int:
        """How many blocks there is room for."""
        return min(len(grown.data) for grown in self._all())

    def used(self, blocks: int, free: int) -> None:
        """So many blocks are in use or free by now, and so many are free."""
        for grown in self._all():
            grown.n = blocks
        self.free.n = free

    def wipe(self, blocks: I64) -> None:
        """Empty these blocks; they may be taken again."""
        for grown in self._all():
            grown.data[blocks] = grown.fill
        kept = self.free.n
        self.free.resize(kept + len(blocks))
        self.free.data[kept : self.free.n] = blocks

    @property
    def worth_closing_up(self) -> bool:
        """Whether many blocks are empty."""
        free = self.free.n
        return free * self.capacity >= LEAST_FREE and free * 16 >= self.keys.n

    def close_up(self, last: I64) -> I64:
        """Give back the room of the empty blocks; the blocks from `live` on, which are `last`,
        move into empty ones before them: where to.
        """
        stop, free = self.live, self.free.view
        holes = np.sort(free[free < stop])
        for grown in self._all():
            grown.data[holes] = grown.data[last]
            grown.cut(stop)
        self.free = Grow("i4")
        return holes

    def put(
        self,
        blocks: npt.NDArray[Any] | int,
        places: npt.NDArray[Any] | slice,
        columns: Sequence[Column],
        values: Values,
    ) -> None:
        """Write entries' columns, by block and place within it."""
        for column in columns:
            grown, given = self.columns[column.name], values[column.name]
            if isinstance(blocks, int):
                shaped(grown.data[blocks], column)[places] = given
            else:
                shaped(grown.data, column)[blocks, places] = given

    def copy(self, blocks: I64, source: Blocks, before: I64) -> None:
        """Take over the entries of blocks of a smaller capacity."""
        self.count.data[blocks] = source.count.data[before]
        pairs = ((self.columns[name], source.columns[name]) for name in self.columns)
        for mine, theirs in ((self.keys, source.keys), *pairs):
            mine.data[blocks, : theirs.data.shape[1]] = theirs.data[before]

    def refine(self, unit: int) -> None:
        """Have times count a unit as so many."""
        times = self.columns["t"]
        times.data[: times.n] *= unit


def capacities(largest: int) -> list[int]:
    """Sizes of blocks: two to an octave, four from 16 on and eight from 64 on, so that little of a
    large block is empty.

    >>> capacities(90)
    [1, 2, 3, 4, 6, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 72, 80, 88, 90]
    """
    sizes = [1]
    while sizes[-1] < largest:
        octave = 1 << (sizes[-1].bit_length() - 1)
        sizes.append(
            min(
                sizes[-1] + max(octave // (8 if octave >= 64 else 4 if octave >= 16 else 2), 1),
                largest,
            )
        )
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
