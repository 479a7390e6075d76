"""How contributions merge: the five commutative operations that facets are made of (law 1).

A `Column` names an operation, and the operation says how two values become one. Each is
commutative and associative with an identity, so any order and any grouping gives the same state:

    sum     a + b                                                   identity 0
    min     the smaller                                             identity +limit
    max     the larger                                              identity −limit
    decay   Σ v·2^(−(T−t)/h), kept as (value, T): the older side    identity 0 at −limit
            is scaled to the newer time
    latest  the value with the greatest (time, position)            identity at −limit

`decay` and `latest` need the time of each contribution. It is kept once for all such columns of
a row or entry: in the column named "t" (with "p", the position, where there is a `latest`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from limner.events.batch import I64, Bool

Operation = Literal["sum", "min", "max", "decay", "latest"]
Values = dict[str, npt.NDArray[Any]]

NEVER = np.iinfo(np.int64).min
"""The time of nothing: the identity of `max`, `decay` and `latest`."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a facet's state.

    `width` values a row; for `decay` one value per half-life in `half_lives` (µs). `few` says
    that a float is one of few numbers, as the worths of types of event are: a map then keeps a
    code for each.
    """

    name: str
    op: Operation
    dtype: str = "f8"
    width: int = 1
    half_lives: tuple[float, ...] = ()
    few: bool = False

    @property
    def identity(self) -> float | int:
        """What merging with changes nothing."""
        if self.op in ("sum", "decay"):
            return 0
        if self.op == "latest":
            return -1
        dtype = np.dtype(self.dtype)
        limits: Any = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
        limit = limits.max if self.op == "min" else limits.min
        return int(limit) if dtype.kind in "iu" else float(limit)


TIME = Column("t", "max", "i8")
POSITION = Column("p", "max", "i8")


def scaled(values: npt.NDArray[Any], age: npt.NDArray[Any], column: Column) -> npt.NDArray[Any]:
    """`values` (n,) or (n, width) after another `age` µs (n,)."""
    if values.ndim == 1:
        factor = np.exp2(age / -column.half_lives[0])
    else:
        factor = np.exp2(age[:, None] / -np.asarray(column.half_lives))
    out: npt.NDArray[Any] = values * factor
    return out


def decayed(values: Values, column: Column, now: int | I64) -> npt.NDArray[Any]:
    """A decayed column of rows or entries as of `now` (µs), float64; their times are in "t"."""
    age = np.maximum(now - values["t"].astype(np.float64), 0)
    return scaled(values[column.name].astype(np.float64), age, column)


def reduce_groups(columns: Sequence[Column], values: Values, order: I64, starts: I64) -> Values:
    """Contributions merged within groups: rows `order[starts[g]:starts[g + 1]]` become row g."""
    if len(starts) == len(order):  # nothing to merge
        return {column.name: values[column.name][order] for column in columns}
    sizes = np.diff(np.append(starts, len(order)))
    out: Values = {}
    by_name = {column.name: column for column in columns}
    newest = None
    if "t" in by_name:
        times = values["t"][order]
        out["t"] = np.maximum.reduceat(times, starts)
        age = np.repeat(out["t"], sizes) - times
    for column in columns:
        if column.name == "t":
            continue
        given = values[column.name][order]
        if column.op == "sum":
            out[column.name] = np.add.reduceat(given, starts, axis=0, dtype=given.dtype)
        elif column.op == "min":
            out[column.name] = np.minimum.reduceat(given, starts, axis=0)
        elif column.op == "max":
            if column.name != "p":
                out[column.name] = np.maximum.reduceat(given, starts, axis=0)
        elif column.op == "decay":
            out[column.name] = np.add.reduceat(
                scaled(given.astype(np.float64), age, column), starts, axis=0
            )
        elif column.op == "latest":
            if newest is None:
                newest = _newest_rows(values["t"], values["p"], order, starts, sizes)
            out[column.name] = values[column.name][newest]
    if "p" in by_name:
        if newest is None:
            newest = _newest_rows(values["t"], values["p"], order, starts, sizes)
        out["p"] = values["p"][newest]
    return out


def group_starts(keys: npt.NDArray[Any]) -> I64:
    """Where the groups of equal values in a sorted array begin."""
    fresh = np.ones(len(keys), dtype=bool)
    np.not_equal(keys[1:], keys[:-1], out=fresh[1:])
    return fresh.nonzero()[0]


def _newest_rows(
    times: npt.NDArray[Any], places: npt.NDArray[Any], order: I64, starts: I64, sizes: I64
) -> I64:
    group = np.repeat(np.arange(len(starts)), sizes)
    by_time = np.lexsort((places[order], times[order], group))
    last: I64 = order[by_time[np.cumsum(sizes) - 1]]
    return last


def merge(columns: Sequence[Column], kept: Values, new: Mapping[str, npt.NDArray[Any]]) -> Values:
    """`kept` and `new`, row by row, as one; the monoid's operation on many rows at once."""
    out: Values = {}
    later: Bool | None = None
    ages: tuple[npt.NDArray[Any], npt.NDArray[Any]] | None = None
    if "t" in kept:
        out["t"] = np.maximum(kept["t"], new["t"])
    if "p" in kept:
        later = (new["t"] > kept["t"]) | ((new["t"] == kept["t"]) & (new["p"] > kept["p"]))
        out["p"] = np.where(later, new["p"], kept["p"])
    for column in columns:
        name = column.name
        if name in ("t", "p"):
            continue
        a, b = kept[name], new[name]
        if column.op == "sum":
            out[name] = a + b
        elif column.op == "min":
            out[name] = np.minimum(a, b)
        elif column.op == "max":
            out[name] = np.maximum(a, b)
        elif column.op == "decay":
            if ages is None:
                ages = _age(out["t"], kept["t"]), _age(out["t"], new["t"])
            out[name] = scaled(a, ages[0], column) + scaled(b, ages[1], column)
        elif later is not None:
            out[name] = np.where(later if a.ndim == 1 else later[:, None], b, a)
    return out


def _age(now: npt.NDArray[Any], then: npt.NDArray[Any]) -> npt.NDArray[Any]:
    # float first: NEVER is so far back that an integer difference would overflow
    return now.astype(np.float64) - then.astype(np.float64)
