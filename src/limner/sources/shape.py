"""From a source's own columns to a `RawBatch`: fields under their names, properties beside."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limner.events.batch import I64, PROPERTY
from limner.events.raw import ITEM, USER, RawBatch
from limner.events.typed import blank_in
from limner.sources.columns import Columns, Kind
from limner.sources.content import joined
from limner.sources.settle import Settled, text_column

_AMOUNTS = ("value", "quantity", "timestamp")


def shaped(
    source_columns: Mapping[str, pa.Array],
    columns: Columns,
    *,
    kind: Kind,
    lines: I64,
    where: str,
    source: str,
    settled: Settled | None = None,
    content: pa.Array | None = None,
) -> RawBatch:
    """The rows of `source_columns` as `columns` reads them.

    Ids and other texts become dictionary columns, trimmed, blank is null; times and amounts stay
    as they are. With `settled` (formats that do not say types) text properties get a type.
    `content` is joined from all source columns unless given.
    """
    n = len(lines)
    out: dict[str, pa.Array] = {"line": pa.array(lines, pa.int64())}
    if content is None:
        content = joined(source_columns, kind, columns.constants)
    out["content"] = content
    for field, column in columns.fields.items():
        if column not in source_columns:
            continue
        array = source_columns[column]
        if field in _AMOUNTS:
            out[field] = array
        elif field == "event_id":
            out[field] = _text(array)
        else:
            out[field] = _words(array)
    for name, column in columns.properties.items():
        if column not in source_columns:
            continue
        array = source_columns[column]
        if settled is None:
            out[PROPERTY + name] = array
            continue
        split = " " if column.endswith(":token_seq") else "|"
        for typed_name, typed in settled(name, array, split=split):
            out[PROPERTY + typed_name] = typed
    for field, value in columns.constants.items():
        if field in _AMOUNTS:
            out[field] = pa.array([value], pa.string()).take(_zeros(n))
        else:
            out[field] = pa.DictionaryArray.from_arrays(_zeros(n), pa.array([value], pa.string()))
    if kind != "events":
        word = ITEM if kind == "items" else USER
        out["event_type"] = pa.DictionaryArray.from_arrays(_zeros(n), pa.array([word]))
    return RawBatch(pa.table(out), where, source)


def plain_array(array: pa.Array) -> pa.Array:
    """A column in one of few types: no views, large offsets, dictionaries or nesting.

    Text is string, lists are lists of text, other nested values are JSON text; numbers, truths,
    times and dates stay; binary is text in hexadecimal.
    """
    kind = array.type
    if pa.types.is_dictionary(kind):
        array = array.cast(kind.value_type)
        kind = array.type
    if pa.types.is_string(kind) or pa.types.is_primitive(kind) or pa.types.is_boolean(kind):
        return array.cast(pa.string()) if pa.types.is_time(kind) else array
    if pa.types.is_null(kind):
        return array.cast(pa.string())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = kind.value_type
        if pa.types.is_primitive(inner) or pa.types.is_string(inner) or _other_text(inner):
            return array.cast(pa.list_(pa.string()))
    if _other_text(kind) or pa.types.is_decimal(kind):
        return array.cast(pa.string())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        values = array.to_pylist()
        return pa.array([None if v is None else v.hex() for v in values], pa.string())
    return text_column(array.to_pylist())


def _other_text(kind: pa.DataType) -> bool:
    view = getattr(pa.types, "is_string_view", None)
    return bool(pa.types.is_large_string(kind) or (view and view(kind)))


def _text(array: pa.Array) -> pa.Array:
    """Ids as text, the same for 900, 900.0 and "900"."""
    if pa.types.is_string(array.type):
        return array
    if pa.types.is_list(array.type):
        return text_column(array.to_pylist())
    if pa.types.is_floating(array.type):
        array = pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)
        exact = pc.fill_null(array, 0.0).to_numpy(zero_copy_only=False)
        if (np.abs(exact) < 2.0**53).all() and (exact == np.floor(exact)).all():
            array = array.cast(pa.int64())  # Arrow writes large floats as 1e+15
    return array.cast(pa.string())


def _words(array: pa.Array) -> pa.Array:
    """A dictionary column, its values trimmed; blank is null."""
    if pa.types.is_floating(array.type):
        array = _text(array)
    if pa.types.is_list(array.type):
        array = _text(array)
    encoded = array.dictionary_encode()
    values = _text(encoded.dictionary)
    trimmed = pc.utf8_trim_whitespace(values)
    if trimmed.equals(values) and blank_in(values) < 0:
        return pa.DictionaryArray.from_arrays(encoded.indices, values)
    blank = pa.scalar(None, pa.string())
    trimmed = pc.if_else(pc.equal(trimmed, ""), blank, trimmed)
    return trimmed.take(encoded.indices).dictionary_encode()


def _zeros(n: int) -> pa.Array:
    return pa.array(np.zeros(n, dtype=np.int32))
