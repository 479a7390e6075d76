"""All source columns of a row joined injectively: what the event's identity is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limner.sources.settle import text_column

_SEPARATOR, _ESCAPE = "\x1f", "\x1e"
_NULL = _ESCAPE + "n"


def head(kind: str, constants: Mapping[str, str], columns: Sequence[str] = ()) -> bytes:
    """Eight bytes that stand for what a row does not hold itself: columns, constants, kind."""
    said = msgspec.json.encode([kind, sorted(constants.items()), list(columns)])
    return hashlib.blake2b(said, digest_size=8).digest()


def joined(columns: Mapping[str, pa.Array], kind: str, constants: Mapping[str, str]) -> pa.Array:
    """A binary column; two rows are equal in it only if they are in all `columns`.

    Numbers, times and truths stand first as eight bytes each (little-endian) with a byte that
    tells null from 0; texts follow, each with separator and escape character escaped. `head`
    goes before, so that rows of differently named columns differ.
    """
    fixed: list[tuple[str, pa.Array]] = []
    texts: list[pa.Array] = []
    names = []
    for name, array in columns.items():
        code = _code(array.type)
        names.append(f"{name} {code}")
        if code == "text":
            if pa.types.is_list(array.type):
                array = text_column(array.to_pylist())
            texts.append(_escaped(array))
        else:
            fixed.append((code, array))
    n = len(next(iter(columns.values())))
    first = _block(head(kind, constants, names), fixed, n)
    if not texts:
        return first.cast(pa.binary())
    parts = [first.cast(pa.binary()), *(text.cast(pa.binary()) for text in texts)]
    return pc.binary_join_element_wise(
        *parts,
        pa.scalar(_SEPARATOR.encode(), pa.binary()),
        null_handling="replace",
        null_replacement=_NULL.encode(),
    )


def _code(kind: pa.DataType) -> str:
    if pa.types.is_floating(kind):
        return "float"
    if pa.types.is_integer(kind):
        return "unsigned" if pa.types.is_unsigned_integer(kind) else "integer"
    if pa.types.is_boolean(kind):
        return "truth"
    if pa.types.is_timestamp(kind):
        return f"time {kind.unit}"
    return "date" if pa.types.is_date(kind) else "text"


def _block(start: bytes, columns: Sequence[tuple[str, pa.Array]], n: int) -> pa.Array:
    """One fixed-width text of bytes a row: `start`, then nine bytes a column."""
    width = len(start) + 9 * len(columns)
    rows = np.empty((n, width), dtype=np.uint8)
    rows[:, : len(start)] = np.frombuffer(start, dtype=np.uint8)
    for index, (code, array) in enumerate(columns):
        at = len(start) + 9 * index
        rows[:, at] = pc.is_valid(array).to_numpy(zero_copy_only=False)
        if code == "float":
            numbers = pc.fill_null(array.cast(pa.float64()), 0.0)
            bits = numbers.to_numpy(zero_copy_only=False).astype("<f8", copy=False)
        else:
            if code == "truth":
                array = array.cast(pa.uint8())
            if code == "date":
                array = array.cast(pa.timestamp("ms"))
            wanted = pa.uint64() if code == "unsigned" else pa.int64()
            numbers = pc.fill_null(array.cast(wanted), 0)
            bits = numbers.to_numpy(zero_copy_only=False).astype("<i8", copy=False)
        rows[:, at + 1 : at + 9] = np.ascontiguousarray(bits).view(np.uint8).reshape(n, 8)
    buffer = pa.py_buffer(rows.tobytes())
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), n, [None, buffer])


def _escaped(array: pa.Array) -> pa.Array:
    """Text without a bare separator; most columns have none, and are only looked at."""
    data = array.buffers()[2]
    if data is None:
        return array
    letters = np.frombuffer(data, dtype=np.uint8)
    if not ((letters == ord(_SEPARATOR)) | (letters == ord(_ESCAPE))).any():
        return array
    array = pc.replace_substring(array, _ESCAPE, _ESCAPE + "e")
    return pc.replace_substring(array, _SEPARATOR, _ESCAPE + "s")
