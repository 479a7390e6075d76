"""Tables for the label model: columns become numbers, and what that took is kept to do it again.

A column whose values are all numbers is numeric, any other is categorical; an empty cell, "?",
"NA", "n/a", "nan" and "null" are missing. Learned from training rows alone: mean and spread of a
number, the categories of a text. Nothing of a row is kept: a category is known by `LEAST_ROWS`
rows or more, and what is rarer counts as a new one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limner.errors import InputError, UsageError
from limner.events.batch import F64, I64
from limner.model.protocol import F32

MISSING = frozenset({"", "?", "na", "n/a", "nan", "null"})
LEAST_ROWS = 3
MOST_CATEGORIES = 255
EVEN = 1e-9
"""A spread of less than this share of the mean is one of rounding."""
FAR = 10.0
"""Spreads from the mean beyond which a number counts as no farther: little was learned there."""


@dataclass(frozen=True, slots=True)
class Feature:
    """How one column is read: a number, or with `categories` a text.

    A `spread` of 0 is that of a number that was always the same: it says nothing. `usual` stands
    for an ordinary value (the mean, or the code of the most frequent category).
    `missing`: whether training rows lacked it, so that lacking it says something.
    """

    name: str
    categories: tuple[str, ...] | None = None
    mean: float = 0.0
    spread: float = 1.0
    usual: float = 0.0
    missing: bool = False

    @property
    def width(self) -> int:
        """How many inputs it is for a network."""
        return (1 if self.categories is None else len(self.categories)) + self.missing


def column(array: Any, name: str, *, text: bool | None = None) -> pa.Array:
    """A column as float64, or as trimmed strings; null where missing.

    `text` says which; None: numbers if all values that are there are finite numbers.
    Raises InputError for values that are neither, UsageError for a text where numbers belong.
    """
    kind = array.type
    if pa.types.is_temporal(kind) and not pa.types.is_duration(kind):
        array = pc.cast(pc.cast(array, pa.timestamp("us")), pa.int64())
    elif pa.types.is_boolean(kind) and not text:
        array = pc.cast(array, pa.int8())
    elif pa.types.is_dictionary(kind):
        array = pc.cast(array, kind.value_type)
    elif pa.types.is_null(kind):
        array = pc.cast(array, pa.string())
    try:
        words = pc.utf8_trim_whitespace(pc.cast(array, pa.string()))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise InputError(
            f"column {name!r} holds {kind}, neither numbers nor texts",
            mend="leave it out, or write it as one value a row",
        ) from None
    gone = pc.is_in(pc.utf8_lower(words), pa.array(MISSING))
    if not text:
        plain = array if pa.types.is_floating(kind) or pa.types.is_integer(kind) else words
        try:
            numbers = pc.cast(pc.if_else(gone, None, plain), pa.float64(), safe=False)
            if text is False or pc.all(pc.is_finite(numbers), min_count=0).as_py():
                return _whole(pc.if_else(pc.is_finite(numbers), numbers, None))
        except pa.ArrowInvalid as error:
            if text is False:
                raise UsageError(
                    f"{name} is learned as a number: {error}", mend="give a number, or leave it out"
                ) from None
    return _whole(pc.if_else(gone, None, words))


def _whole(array: Any) -> pa.Array:
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def columns(
    table: pa.Table, names: Sequence[str], categorical: Collection[str] = ()
) -> dict[str, pa.Array]:
    """These columns of a table, by name. Raises UsageError for one that is not there."""
    need(table, [*names, *categorical])
    return {
        name: column(table[name], name, text=True if name in categorical else None)
        for name in names
    }


def need(table: pa.Table, names: Collection[str]) -> None:
    """Raise UsageError for a column that a table lacks or has twice."""
    for name in names:
        if table.schema.names.count(name) != 1:
            raise UsageError(
                f"there is no column {name!r}"
                if name not in table.schema.names
                else f"column {name!r} is there more than once",
                mend=f"the columns are {', '.join(table.schema.names)}",
            )


def described(given: Mapping[str, pa.Array], rows: I64) -> tuple[Feature, ...]:
    """What the training rows say of each column. A column without any value is left out."""
    found = (_described(name, array.take(pa.array(rows))) for name, array in given.items())
    return tuple(feature for feature in found if feature is not None)


def _described(name: str, array: pa.Array) -> Feature | None:
    lacking = array.null_count > 0
    if len(array) == array.null_count:
        return None
    if pa.types.is_floating(array.type):
        values = array.drop_null().to_numpy(zero_copy_only=False)
        mean, spread = float(values.mean()), float(values.std())
        if spread <= EVEN * abs(mean):
            spread = 0.0
        return Feature(name, None, mean, spread, mean, lacking)
    counts = sorted(
        (-one["counts"], one["values"]) for one in pc.value_counts(array.drop_null()).to_pylist()
    )
    known = sorted(text for n, text in counts[:MOST_CATEGORIES] if -n >= LEAST_ROWS)
    usual = known.index(counts[0][1]) if known else 0
    return Feature(name, tuple(known), usual=float(usual), missing=lacking)


def matrix(features: Sequence[Feature], given: Mapping[str, pa.Array]) -> F64:
    """Rows as numbers, (n, features): a category as its code, one past the last for a new one.

    NaN where missing; what training rows never lacked gets its usual value instead.
    """
    n = len(next(iter(given.values()))) if given else 0
    out = np.full((n, len(features)), np.nan)
    for place, feature in enumerate(features):
        array = given[feature.name]
        if feature.categories is None:
            out[:, place] = array.to_numpy(zero_copy_only=False)
        else:
            codes = pc.index_in(array, value_set=pa.array(feature.categories, pa.string()))
            codes = pc.fill_null(codes, len(feature.categories))
            out[:, place] = pc.if_else(array.is_valid(), codes, None).to_numpy(zero_copy_only=False)
        if not feature.missing:
            rows = out[:, place]
            rows[np.isnan(rows)] = feature.usual
    return out


def inputs(features: Sequence[Feature], rows: F64) -> F32:
    """The matrix as a network takes it, (n, Σ width): standardised numbers, one place a category.

    X_i = (X_i − μ_i)/σ_i; the mean where missing, which a place of its own tells.
    """
    out = np.zeros((len(rows), sum(feature.width for feature in features)), dtype=np.float32)
    start = 0
    for values, feature in zip(rows.T, features, strict=True):
        gone = np.isnan(values)
        if feature.categories is None:
            if feature.spread > 0:
                far = (values - feature.mean) / feature.spread
                out[:, start] = np.where(gone, 0.0, np.clip(far, -FAR, FAR))
        else:
            known = ~gone & (values < len(feature.categories))
            out[known.nonzero()[0], start + values[known].astype(np.int64)] = 1.0
        start += feature.width
        if feature.missing:
            out[:, start - 1] = gone
    return out


def canonical(given: Mapping[str, pa.Array]) -> I64:
    """An order of rows that depends on what they hold alone, not on how they came.

    Rows that hold the same are interchangeable.
    """
    table = pa.table(dict(given))
    keys = [(name, "ascending") for name in table.schema.names]
    return np.asarray(pc.sort_indices(table, sort_keys=keys).to_numpy(), dtype=np.int64)


def row(features: Sequence[Feature], values: Mapping[str, float | str | None]) -> F64:
    """One row as `matrix` gives it, (1, features), from values by name; missing where None.

    Raises UsageError for a text where a number belongs.
    """
    out = np.full((1, len(features)), np.nan)
    for place, feature in enumerate(features):
        value = values.get(feature.name)
        if feature.categories is None:
            found = _number(feature.name, value)
        else:
            text = "" if value is None else str(value).strip()
            if text.lower() in MISSING:
                found = np.nan
            elif text in feature.categories:
                found = float(feature.categories.index(text))
            else:
                found = float(len(feature.categories))
        out[0, place] = feature.usual if np.isnan(found) and not feature.missing else found
    return out


def _number(name: str, value: float | str | None) -> float:
    if value is None or (isinstance(value, str) and value.strip().lower() in MISSING):
        return np.nan
    try:
        found = float(value)
    except ValueError:
        raise UsageError(
            f"{name} = {value!r} is no number", mend="give a number, or nothing for a missing one"
        ) from None
    return found if np.isfinite(found) else np.nan
