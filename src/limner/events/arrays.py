"""Small columnar things: a vocabulary of texts, an array that grows, hashes of many texts."""

from __future__ import annotations

import ctypes
import gc
import mmap
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import repeat
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from limner.events.batch import I32


class Vocabulary:
    """Texts and their codes 0, 1, 2 … in order of arrival.

    >>> words = Vocabulary()
    >>> words.encode(["tea", "milk", "tea"]).tolist(), words.values
    ([0, 1, 0], ['tea', 'milk'])
    """

    __slots__ = ("_codes", "values")

    def __init__(self, values: Iterable[str] = ()) -> None:
        self.values = list(values)
        self._codes = {value: code for code, value in enumerate(self.values)}

    def __len__(self) -> int:
        return len(self.values)

    def __contains__(self, value: str) -> bool:
        return value in self._codes

    def code(self, value: str) -> int:
        """The code of one text, −1 if unknown."""
        return self._codes.get(value, -1)

    def find(self, values: Sequence[str]) -> I32:
        """Codes of these texts, −1 where unknown."""
        return np.fromiter(map(self._codes.get, values, repeat(-1)), np.int32, len(values))

    def encode(self, values: Sequence[str]) -> I32:
        """Codes of these texts; new ones are added."""
        out = self.find(values)
        for index in (out < 0).nonzero()[0].tolist():
            value = values[index]
            code = self._codes.get(value)
            if code is None:
                code = self._codes[value] = len(self.values)
                self.values.append(value)
            out[index] = code
        return out

    def blank(self, codes: Iterable[int]) -> None:
        """Forget the texts of these codes for good; the codes of the others stay.

        >>> words = Vocabulary(["tea", "milk"])
        >>> words.blank([0])
        >>> words.values, words.code("tea"), words.code("milk")
        (['', 'milk'], -1, 1)
        """
        for code in codes:
            self._codes.pop(self.values[code], None)
            self.values[code] = ""

    def translate(self, codes: I32, values: Sequence[str]) -> I32:
        """Codes into `values` (−1 for null) as codes of this vocabulary, −1 kept.

        Only values that some code uses are added.
        """
        if not len(codes):
            return codes
        here = np.zeros(len(values) + 1, dtype=bool)
        here[codes] = True
        if here[:-1].all():
            return np.append(self.encode(values), np.int32(-1))[codes]
        used = here[:-1].nonzero()[0]
        table = np.full(len(values) + 1, -1, dtype=np.int32)
        table[used] = self.encode([values[code] for code in used.tolist()])
        return table[codes]


MAPPED = 1 << 18
"""Bytes from which on an array that grows has pages of its own."""


def _room(shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """An array whose content is undefined, and takes no memory until it is written to.

    What `numpy.empty` gives may be pages that were used before, which take memory from the start;
    pages of its own are fresh, and go back to the system with the array.
    """
    size = prod(shape) * dtype.itemsize
    if size < MAPPED or not hasattr(mmap, "MAP_ANONYMOUS"):
        return np.empty(shape, dtype)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(pages, dtype, prod(shape)).reshape(shape)


def give_back() -> None:
    """Give the system what Arrow and malloc keep of memory that is no longer used.

    After much work that may be most of what a process holds, some of it in cycles of objects.
    Takes up to some 0.1 s a GB.
    """
    gc.collect()
    pa.default_memory_pool().release_unused()
    with suppress(AttributeError, OSError, TypeError):  # glibc's own; elsewhere there is none
        ctypes.CDLL(None).malloc_trim(0)


class Grow:
    """A numpy array with room at the end; `data[:n]` is the content.

    It grows by half, so appends are amortised O(1). What is not content yet was never touched,
    and so takes no memory; content that is new holds `fill`.
    """

    __slots__ = ("data", "fill", "n")

    def __init__(self, dtype: npt.DTypeLike, fill: Any = 0, width: int | None = None) -> None:
        shape = (0,) if width is None else (0, width)
        self.data: npt.NDArray[Any] = np.empty(shape, dtype=dtype)
        self.fill = fill
        self.n = 0

    @property
    def view(self) -> npt.NDArray[Any]:
        """The content, without copying."""
        return self.data[: self.n]

    def resize(self, n: int) -> None:
        """Make the content `n` long; never shrinks."""
        if n <= self.n:
            return
        if n > len(self.data):
            self.reserve(max(n, len(self.data) + len(self.data) // 2, 16))
        self.data[self.n : n] = self.fill
        self.n = n

    def reserve(self, n: int) -> None:
        """Have room for `n` without touching it; the content stays."""
        if n > len(self.data):
            data = _room((n, *self.data.shape[1:]), self.data.dtype)
            data[: self.n] = self.data[: self.n]
            self.data = data

    def cut(self, n: int) -> None:
        """Make the content `n` long and give back the room behind it, but for an eighth."""
        data = _room((n + n // 8, *self.data.shape[1:]), self.data.dtype)
        data[:n] = self.data[:n]
        self.data, self.n = data, n

    def widen(self, dtype: npt.DTypeLike) -> None:
        """Have the elements be of another type, which takes all of them."""
        data = _room(self.data.shape, np.dtype(dtype))
        data[: self.n] = self.view
        self.data = data

    def load(self, data: npt.NDArray[Any], room: npt.NDArray[Any] | None = None) -> None:
        """Take an array as the content; `room` is the same memory and what is free behind it."""
        self.data = data if room is None else room
        self.n = len(data)


def mixed(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea and Flood, 2014): a good hash of 64 bits."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def text_hashes(texts: pa.Array) -> npt.NDArray[np.uint64]:
    """A 64-bit hash of each text of a string array without nulls; the same in every run.

    The sum of the mixed 8-byte words of a text, each with its place, mixed with its length: some
    tens of nanoseconds a text. Not for texts that an adversary would have collide.

    >>> text_hashes(pa.array(["tea", "milk", "tea"]))[[0, 2]].tolist()
    [15643007916649723744, 15643007916649723744]
    """
    if not len(texts):
        return np.empty(0, dtype=np.uint64)
    _, offsets, body = texts.buffers()
    ends = np.frombuffer(offsets, np.int32)[texts.offset :][: len(texts) + 1].astype(np.int64)
    sizes = np.diff(ends)
    words = np.maximum((sizes + 7) // 8, 1)
    first = np.cumsum(words) - words
    padded = np.zeros(8 * int(words.sum()), dtype=np.uint8)
    place = np.repeat(8 * first - (ends[:-1] - ends[0]), sizes) + np.arange(ends[-1] - ends[0])
    padded[place] = np.frombuffer(body or b"", np.uint8)[ends[0] : ends[-1]]
    number = (np.arange(len(padded) // 8) - np.repeat(first, words) + 1).astype(np.uint64)
    parts = mixed(padded.view("<u8") + number * _GOLDEN)
    return mixed(np.add.reduceat(parts, first) + sizes.astype(np.uint64) * _GOLDEN)
