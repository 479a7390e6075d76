"""Two small columnar containers: a vocabulary of texts and an array that grows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

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

    def encode(self, values: Sequence[str]) -> I32:
        """Codes of these texts; new ones are added."""
        codes = self._codes
        out = np.empty(len(values), dtype=np.int32)
        for index, value in enumerate(values):
            code = codes.get(value)
            if code is None:
                code = codes[value] = len(self.values)
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
        if len(values) > len(codes):
            used = np.unique(codes)
            used = used[used >= 0]
            table = np.full(len(values) + 1, -1, dtype=np.int32)
            table[used] = self.encode([values[code] for code in used])
            return table[codes]
        return np.append(self.encode(values), np.int32(-1))[codes]


class Grow:
    """A numpy array with room at the end; `data[:n]` is the content.

    Doubling keeps appends amortised O(1); new room is filled with `fill`.
    """

    __slots__ = ("data", "fill", "n")

    def __init__(self, dtype: npt.DTypeLike, fill: Any = 0, width: int | None = None) -> None:
        shape = (0,) if width is None else (0, width)
        self.data: npt.NDArray[Any] = np.full(shape, fill, dtype=dtype)
        self.fill = fill
        self.n = 0

    @property
    def view(self) -> npt.NDArray[Any]:
        """The content, without copying."""
        return self.data[: self.n]

    def resize(self, n: int) -> None:
        """Make the content `n` long; never shrinks."""
        if n > len(self.data):
            room = max(n, len(self.data) + len(self.data) // 2, 16)
            data = np.empty((room, *self.data.shape[1:]), dtype=self.data.dtype)
            data[: self.n] = self.data[: self.n]
            data[self.n :] = self.fill
            self.data = data
        self.n = max(self.n, n)

    def load(self, data: npt.NDArray[Any]) -> None:
        """Take an array as the content."""
        self.data = data
        self.n = len(data)
