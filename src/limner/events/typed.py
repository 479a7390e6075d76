"""The columns of a raw batch, each read as one of the types that the log keeps."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limner.events.batch import F64, I32, LARGEST, PROPERTY, SCHEMA, Bool
from limner.events.raw import STRIDE, RawBatch
from limner.events.rules import CleanConfig
from limner.events.timestamps import Times, to_micros

_TEXT = SCHEMA.field("item_id").type

REPEATED = "repeated"
"""A column of the pieces of a batch: whether an earlier row of the whole has the same content."""


class Typed:
    """The columns of a raw batch, each read as one of the types that `SCHEMA` wants."""

    def __init__(self, raw: RawBatch) -> None:
        self.table = raw.table
        self.names = frozenset(raw.table.column_names)
        self.n = int(raw.table.num_rows)

    def __len__(self) -> int:
        return self.n

    def column(self, name: str) -> pa.Array:
        """One column as a single array."""
        column = self.table.column(name)
        if column.num_chunks == 1:
            return column.chunk(0)
        if column.num_chunks == 0:
            return pa.array([], column.type)
        return column.combine_chunks()

    def _has(self, name: str) -> bool:
        return name in self.names and not pa.types.is_null(self.table.schema.field(name).type)

    def nulls(self, name: str) -> pa.Array:
        """A column of nothing."""
        return pa.nulls(self.n, SCHEMA.field(name).type)

    def text(self, name: str) -> pa.Array:
        """A dictionary column; blank text is null."""
        if not self._has(name):
            return self.nulls(name)
        return encoded(self.column(name))

    def plain_text(self, name: str) -> pa.Array:
        """A column of text."""
        if not self._has(name):
            return self.nulls(name)
        array = self.column(name)
        if pa.types.is_dictionary(array.type):
            array = array.cast(array.type.value_type)
        return _cast(array, pa.string())

    def binary(self, name: str) -> pa.Array:
        """A column of pseudonyms, 16 bytes each."""
        if not self._has(name):
            return self.nulls(name)
        array = self.column(name)
        wanted = SCHEMA.field(name).type
        if array.type == wanted:
            return array
        if not pa.types.is_dictionary(array.type):
            array = array.dictionary_encode()
        return pa.DictionaryArray.from_arrays(
            array.indices.cast(pa.int32()), array.dictionary.cast(wanted.value_type)
        )

    def times(self, config: CleanConfig) -> Times:
        """The event times, read as `config` says."""
        if not self._has("timestamp"):
            none = np.zeros(self.n, dtype=bool)
            return Times(np.zeros(self.n, dtype=np.int64), ~none, none, none)
        array = self.column("timestamp")
        return to_micros(array, tz=config.tz, time_format=config.time_format)

    def number(self, name: str) -> tuple[F64, Bool]:
        """(numbers, NaN where missing; where there is something that is no finite number)."""
        if not self._has(name):
            return np.full(self.n, np.nan), np.zeros(self.n, dtype=bool)
        return _read_numbers(self.column(name))

    def boundless(self) -> Bool:
        """Rows with a property that is infinite or beyond `LARGEST`; integers may be ids."""
        out = np.zeros(self.n, dtype=bool)
        for field in self.table.schema:
            if field.name.startswith(PROPERTY) and pa.types.is_floating(field.type):
                number = self.column(field.name).to_numpy(zero_copy_only=False)
                out |= np.abs(number) > LARGEST
        return out

    def received(self, now: int) -> pa.Array:
        """The times of receipt, `now` where none is given."""
        if not self._has("received_at"):
            return pa.array(np.full(self.n, now, dtype=np.int64))
        return pc.fill_null(self.column("received_at").cast(pa.int64()), now)

    def digest(self) -> pa.Array:
        """The identities."""
        if not self._has("digest"):
            return self.nulls("digest")
        return _cast(self.column("digest"), pa.binary(16))

    def check(self) -> pa.Array:
        """The digests of content."""
        if not self._has("check"):
            return self.nulls("check")
        return _cast(self.column("check"), pa.uint64())

    def sources(self, usual: str) -> pa.Array:
        """The source of each row, `usual` where it names none."""
        if not self._has("source"):
            return self.constant(usual)
        own = self.text("source").cast(pa.string())
        return pc.fill_null(own, usual).dictionary_encode()

    def constant(self, text: str) -> pa.Array:
        """A column of one text."""
        indices = pa.array(np.zeros(self.n, dtype=np.int32))
        return pa.DictionaryArray.from_arrays(indices, pa.array([text], pa.string()))

    def own_units(self) -> pa.Array | None:
        """The units that the rows give themselves."""
        return self.text("unit") if self._has("unit") else None

    def repeated(self, asked: Bool) -> Bool:
        """Of the rows `asked`, those without an event id whose content an earlier row has."""
        if not asked.any():
            return np.zeros(self.n, dtype=bool)
        return self.again() & asked

    def again(self) -> Bool:
        """The rows without an event id whose content an earlier row of the batch has.

        Of rows of several requests (`STRIDE`), an earlier one of the same request.
        """
        if self._has(REPEATED):  # a piece of a batch, which was asked as a whole
            known: Bool = self.column(REPEATED).to_numpy(zero_copy_only=False)
            return known
        out = np.zeros(self.n, dtype=bool)
        name = "check" if self._has("check") else "content"
        if not self._has(name) or self.n < 2:
            return out
        content = self.column(name)
        codes = content.to_numpy(zero_copy_only=False)
        if name == "content":
            codes = content.dictionary_encode().indices.to_numpy(zero_copy_only=False)
        ordered = np.sort(codes)  # several times faster than finding the places
        if (ordered[1:] != ordered[:-1]).all():
            return out
        if self._has("line"):
            bodies = self.column("line").to_numpy(zero_copy_only=False) // STRIDE
            if (bodies != bodies[0]).any():
                content_of = np.unique(codes, return_inverse=True)[1]
                codes = content_of + bodies * np.int64(self.n)
        first = np.unique(codes, return_index=True)[1]
        out[:] = True
        out[first] = False
        if self._has("event_id"):
            out &= pc.is_null(self.column("event_id")).to_numpy(zero_copy_only=False)
        return out


def missing(array: pa.Array) -> Bool:
    """Rows without a value."""
    if array.null_count == 0:
        return np.zeros(len(array), dtype=bool)
    mask: Bool = pc.is_null(array).to_numpy(zero_copy_only=False)
    return mask


def dictionary(codes: I32, values: list[str]) -> pa.Array:
    """Codes into texts as a column; below 0 is null."""
    indices = pa.array(codes, mask=codes < 0)
    return pa.DictionaryArray.from_arrays(indices, pa.array(values, pa.string()))


def nullable(numbers: F64) -> pa.Array:
    """Numbers as a column; NaN is null."""
    return pa.array(numbers, mask=np.isnan(numbers))


def _cast(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    """`array.cast`, but free where there is nothing to do: live events come one by one."""
    return array if array.type == wanted else array.cast(wanted)


def blank_in(values: pa.Array) -> int:
    """Where the empty text is among these, −1 if it is not.

    Few are looked at here: Arrow's search starts by handing out work to threads.
    """
    if len(values) > 64:
        return int(pc.index(values, "").as_py())
    texts = values.to_pylist()
    return texts.index("") if "" in texts else -1


def encoded(array: pa.Array) -> pa.Array:
    """As dictionary<int32, string>; blank text is null."""
    if not pa.types.is_dictionary(array.type):
        array = _cast(array, pa.string()).dictionary_encode()
    values = _cast(array.dictionary, pa.string())
    blank = blank_in(values)
    if blank < 0 and array.type == _TEXT:
        return array
    indices = _cast(array.indices, pa.int32())
    if blank >= 0:
        codes = pc.fill_null(indices, -1).to_numpy(zero_copy_only=False)
        indices = pa.array(codes, mask=(codes < 0) | (codes == blank))
    return pa.DictionaryArray.from_arrays(indices, values)


def compact(column: pa.ChunkedArray) -> pa.Array:
    """A dictionary column without the values that no row uses."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], column.type)
    codes = pc.fill_null(array.indices, -1).to_numpy(zero_copy_only=False)
    used = np.zeros(len(array.dictionary) + 1, dtype=bool)
    used[codes] = True
    used[-1] = False
    translate = np.append(np.cumsum(used[:-1]) - 1, -1).astype(np.int32)
    codes = translate[codes]
    indices = pa.array(codes, mask=codes < 0)
    return pa.DictionaryArray.from_arrays(indices, array.dictionary.filter(pa.array(used[:-1])))


_NO_NUMBER = frozenset({"", "nan", "null", "none", "na", "n/a", "-"})


def _read_numbers(array: pa.Array) -> tuple[F64, Bool]:
    kind = array.type
    if pa.types.is_dictionary(kind):
        inner, bad = _read_numbers(array.dictionary)
        codes = pc.fill_null(array.indices, -1).to_numpy(zero_copy_only=False)
        return np.append(inner, np.nan)[codes], np.append(bad, False)[codes]
    if pa.types.is_string(kind):
        try:
            array = array.cast(pa.float64())
        except pa.ArrowInvalid:  # some are no numbers: read each distinct text once
            encoded = array.dictionary_encode()
            texts = [text.strip() for text in encoded.dictionary.to_pylist()]
            read = np.array([_number(text) for text in texts], dtype=np.float64)
            blank = np.array([text.lower() in _NO_NUMBER for text in texts], dtype=bool)
            bad = ~np.isfinite(read) & ~blank
            codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
            read[bad] = np.nan
            return np.append(read, np.nan)[codes], np.append(bad, False)[codes]
    elif not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        if not (pa.types.is_decimal(kind) or pa.types.is_boolean(kind)):
            return np.full(len(array), np.nan), ~missing(array)
        array = array.cast(pa.int8()) if pa.types.is_boolean(kind) else array
    if not pa.types.is_float64(array.type):
        array = array.cast(pa.float64(), safe=False)
    # Arrow gives NaN for the nulls of a float column.
    numbers: F64 = array.to_numpy(zero_copy_only=False)
    bad = np.isinf(numbers)
    return (np.where(bad, np.nan, numbers) if bad.any() else numbers), bad


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def settled(array: pa.Array) -> pa.Array:
    """A property in one of the types the log keeps.

    float64, int64, bool, dictionary text or list of text; times and dates become ISO text, an
    integer beyond int64 becomes text, and whatever else there is becomes its text.
    """
    kind = array.type
    if pa.types.is_floating(kind):
        return _cast(array, pa.float64())
    if pa.types.is_uint64(kind) and pc.any(pc.greater(array, 2**63 - 1)).as_py():
        return array.cast(pa.string()).dictionary_encode()
    if pa.types.is_integer(kind):
        return array.cast(pa.int64())
    if pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return array
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return array.cast(pa.list_(pa.string()))
    if pa.types.is_decimal(kind):
        return array.cast(pa.float64())
    return encoded(array)
