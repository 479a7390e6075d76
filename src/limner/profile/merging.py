"""The compiled way of merging (`_merging.c`), where it was built; numpy's way does the same.

It goes through contributions one by one, in place, while other threads have the interpreter. What
it leaves to do is rare, and done by the plain way.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from limner.events.batch import F64, I64
from limner.profile.merge import Column, Values

compiled: ModuleType | None
"""The extension, or None: then everything is merged by numpy."""
try:
    from limner.profile import _merging as compiled
except ImportError:  # no compiler was there when it was installed
    compiled = None

OPERATIONS = {"sum": 0, "min": 1, "max": 2, "decay": 3, "latest": 4}
TYPES = {np.dtype(name): n for n, name in enumerate("i1 i2 i4 i8 u1 u2 u4 u8 f4 f8".split())}
MOST_COLUMNS = 16
MOST_NUMBERS = 64
PLAIN, ROOM = 1, 2
"""Why an entry was left: it takes the plain way, or there was no room in the next class."""


def takes(columns: Sequence[Column]) -> bool:
    """Whether the compiled way can merge these columns."""
    return (
        compiled is not None
        and len(columns) <= MOST_COLUMNS
        and sum(column.width for column in columns) <= MOST_NUMBERS
        and all(np.dtype(column.dtype) in TYPES for column in columns)
    )


def spec(columns: Sequence[Column], dtypes: Sequence[np.dtype[Any]], at: Sequence[int]) -> I64:
    """Columns as the compiled way reads them: kept as these types, at these places."""
    rows = []
    for column, dtype, place in zip(columns, dtypes, at, strict=True):
        marks = 8 * (column.name == "t") | 16 * (column.name == "p")
        floats = dtype.kind == "f"
        rows.append((OPERATIONS[column.op] | marks, column.width, TYPES[dtype], place, int(floats)))
    return np.array(rows, dtype=np.int64).reshape(-1, 5)


def lives(columns: Sequence[Column]) -> F64:
    """The half-lives of the decayed columns, one after another."""
    found = [life for column in columns if column.op == "decay" for life in column.half_lives]
    return np.array(found, dtype=np.float64)


def given(columns: Sequence[Column], values: Values) -> tuple[npt.NDArray[Any] | None, ...]:
    """Contributions as the compiled way reads them: int64 or float64, without gaps.

    What is not among `values` is one for each.
    """
    return tuple(
        None
        if (found := values.get(column.name)) is None
        else np.ascontiguousarray(found, np.float64 if column.dtype[0] == "f" else np.int64)
        for column in columns
    )
