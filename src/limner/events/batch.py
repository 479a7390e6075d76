"""Events, one at a time and in columns.

`Event` is what a user of the library sees; `EventBatch` is the same in Arrow columns, as it is
written to the log and folded into portraits. Column names are the field names of `Event`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

PROPERTY = "properties."
"""Prefix of the columns that hold an event's properties, one typed column a property."""

SECOND = 1_000_000
DAY = 86_400 * SECOND
"""Times are integers of microseconds since 1970-01-01 UTC, everywhere inside Limner."""

_TEXT = pa.dictionary(pa.int32(), pa.string())
_USER = pa.dictionary(pa.int32(), pa.binary(16))

SCHEMA = pa.schema(
    [
        ("user_id", _USER),  # pseudonym, 16 bytes
        ("item_id", _TEXT),
        ("event_type", _TEXT),  # null in a row that was erased or undone
        ("timestamp", pa.int64()),  # event time, µs
        ("received_at", pa.int64()),  # processing time, µs
        ("digest", pa.binary(16)),  # keyed digest of the event's identity (law 2)
        ("check", pa.uint64()),  # keyed digest of its content
        ("event_id", pa.string()),
        ("source", _TEXT),
        ("value", pa.float64()),
        ("unit", _TEXT),
        ("quantity", pa.float64()),
        ("group_id", _TEXT),
        ("recommendation_id", _TEXT),
        ("target_user_id", _USER),
        ("tz", _TEXT),
        ("flags", pa.uint32()),  # bits of the cleaning rules that flagged the row
        ("import_id", pa.int32()),  # 0 for live events
    ]
)
"""Columns that every batch has, in this order; property columns follow."""

_NAMES = SCHEMA.names
_TYPES = dict(zip(_NAMES, SCHEMA.types, strict=True))


@dataclass(frozen=True, slots=True)
class Event:
    """What a user did, when.

    `timestamp` is event time and `received_at` processing time, both µs since 1970 UTC; `value`
    is in `unit` (money, stars, seconds, share); `group_id` is the session or basket. `position`
    is the event's place in the log. Inside Limner `user_id` is the pseudonym in hexadecimal.
    """

    user_id: str
    event_type: str
    timestamp: int
    item_id: str | None = None
    event_id: str | None = None
    source: str | None = None
    value: float | None = None
    unit: str | None = None
    quantity: float | None = None
    group_id: str | None = None
    recommendation_id: str | None = None
    target_user_id: str | None = None
    tz: str | None = None
    received_at: int = 0
    position: int = -1
    properties: Mapping[str, Any] = field(default_factory=dict)


class EventBatch:
    """Admitted, clean events in Arrow columns: `SCHEMA`, then `properties.*`.

    Immutable. One chunk a column, so a numpy view costs nothing.
    Raises ValueError if a column of `SCHEMA` has another type.
    """

    __slots__ = ("_codes", "table")

    def __init__(self, table: pa.Table) -> None:
        self._codes: dict[str, tuple[I32, list[Any]]] = {}
        names = table.column_names  # asked once: Arrow makes the list anew each time
        properties = sorted(n for n in names if n.startswith(PROPERTY))
        wanted = _NAMES + properties
        if names != wanted:
            for name in _NAMES:
                if name not in names:
                    table = table.append_column(name, pa.nulls(len(table), _TYPES[name]))
            table = table.select(wanted)
        if any(column.num_chunks != 1 for column in table.columns):
            table = table.combine_chunks()
        for name, found in zip(_NAMES, table.schema.types, strict=False):
            if found != _TYPES[name]:
                raise ValueError(f"column {name} is {found}, not {_TYPES[name]}")
        self.table = table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EventBatch) and self.to_pylist() == other.to_pylist()

    __hash__ = None  # type: ignore[assignment]  # equal by content, so unhashable

    @property
    def properties(self) -> list[str]:
        """Names of the properties that have a column."""
        return [
            name.removeprefix(PROPERTY)
            for name in self.table.column_names
            if name.startswith(PROPERTY)
        ]

    def array(self, name: str) -> pa.Array:
        """One column as an Arrow array; all null if the batch has no such property."""
        index = self.table.schema.get_field_index(name)
        if index < 0:
            return pa.nulls(len(self))
        column = self.table.column(index)
        return column.chunk(0) if column.num_chunks else pa.array([], column.type)

    def numbers(self, name: str, missing: float = np.nan) -> F64:
        """A numeric column as float64, nulls (and text that is no number) as `missing`."""
        return as_numbers(self.array(name), missing)

    def times(self, name: str = "timestamp") -> I64:
        """A time column as int64 µs; 0 where null."""
        column = self.array(name)
        if column.null_count:
            column = pc.fill_null(column, 0)
        array: I64 = column.to_numpy(zero_copy_only=False)
        return array

    def codes(self, name: str) -> tuple[I32, list[Any]]:
        """A dictionary column as (codes, values): int32 codes into `values`, −1 where null.

        Made once for a batch, since all who read it ask for the same few columns.
        """
        if name not in self._codes:
            self._codes[name] = as_codes(self.array(name))
        return self._codes[name]

    def live(self) -> Bool:
        """Rows that were neither erased nor undone."""
        mask: Bool = pc.is_valid(self.array("event_type")).to_numpy(zero_copy_only=False)
        return mask

    def take(self, rows: npt.ArrayLike) -> EventBatch:
        """The rows at these indices (or where this mask is true), in that order."""
        index = np.asarray(rows)
        if index.dtype == bool:
            if index.all():
                return self
            return EventBatch(self.table.filter(pa.array(index)))
        return EventBatch(self.table.take(pa.array(index)))

    def slice(self, start: int, stop: int) -> EventBatch:
        """Rows `start` to `stop`, without copying."""
        return EventBatch(self.table.slice(start, stop - start))

    def with_column(self, name: str, values: Any) -> EventBatch:
        """The same batch with one column of `SCHEMA` replaced."""
        index = self.table.column_names.index(name)
        return EventBatch(
            self.table.set_column(index, name, pa.array(values, SCHEMA.field(name).type))
        )

    def to_pylist(self) -> list[dict[str, Any]]:
        """Rows as dictionaries; for tests and small reads."""
        rows: list[dict[str, Any]] = self.table.to_pylist()
        return rows

    def events(self, positions: Sequence[int] | I64 | None = None) -> list[Event]:
        """Rows as `Event` objects, erased ones left out; for people, not for hot paths."""
        names = set(Event.__slots__) & set(SCHEMA.names)
        out = []
        for index, row in enumerate(self.to_pylist()):
            if row["event_type"] is None:
                continue
            fields = {name: row[name] for name in names if row[name] is not None}
            for user in ("user_id", "target_user_id"):
                if user in fields:
                    fields[user] = fields[user].hex()
            properties = {
                name.removeprefix(PROPERTY): value
                for name, value in row.items()
                if name.startswith(PROPERTY) and value is not None
            }
            place = int(positions[index]) if positions is not None else -1
            out.append(Event(**fields, properties=properties, position=place))
        return out

    @classmethod
    def empty(cls) -> EventBatch:
        """A batch of no rows."""
        return cls(SCHEMA.empty_table())

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> EventBatch:
        """A batch from mappings whose keys are columns; `user_id` is the 16-byte pseudonym.

        For tests and replay: no cleaning and no admission happens here.
        """
        data = list(rows)
        names = SCHEMA.names + sorted({k for row in data for k in row if k.startswith(PROPERTY)})
        columns: dict[str, pa.Array] = {}
        for name in names:
            values = [row.get(name) for row in data]
            if name not in SCHEMA.names:
                columns[name] = pa.array(values)
                continue
            wanted = SCHEMA.field(name).type
            plain = wanted.value_type if pa.types.is_dictionary(wanted) else wanted
            array = pa.array(values, plain)
            columns[name] = array.dictionary_encode() if plain is not wanted else array
        return cls(pa.table(columns))


def as_codes(array: pa.Array) -> tuple[I32, list[Any]]:
    """(codes, values) of an Arrow array: int32 codes into `values`, −1 where null."""
    if pa.types.is_nested(array.type):
        array = as_text(array).dictionary_encode()
    elif not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    elif len(array.dictionary) > 2 * len(array):
        # a slice drags along the dictionary of the whole: keep what it uses
        array = array.cast(array.type.value_type).dictionary_encode()
    indices = pc.fill_null(array.indices, -1) if array.indices.null_count else array.indices
    codes: I32 = indices.to_numpy(zero_copy_only=False)
    return codes.astype(np.int32, copy=False), array.dictionary.to_pylist()


def as_text(array: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """An Arrow column of any type as text; lists and objects as their JSON.

    >>> as_text(pa.array([["a", "b"], None])).to_pylist()
    ['["a", "b"]', None]
    """
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if not pa.types.is_nested(array.type):
        return array.cast(pa.string())
    texts = [
        None if value is None else json.dumps(value, ensure_ascii=False, default=str)
        for value in array.to_pylist()
    ]
    return pa.array(texts, pa.string())


def plain_text(value: Any) -> str | None:
    """A value as the text people write: whole numbers without a fraction; null stays null.

    >>> plain_text(25.0), plain_text(2.5), plain_text("tea"), plain_text(True)
    ('25', '2.5', 'tea', 'true')
    """
    if value is None:
        return None
    if isinstance(value, bool):  # as Arrow writes it
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


LARGEST = 1e30
"""Beyond it a number measures nothing; below it sums of its third powers stay finite."""


def as_numbers(array: pa.Array, missing: float = np.nan) -> F64:
    """An Arrow array as float64; null, and what is no number within `LARGEST`, become `missing`."""
    if pa.types.is_null(array.type) or pa.types.is_nested(array.type):
        return np.full(len(array), missing)
    if pa.types.is_dictionary(array.type):
        codes, values = as_codes(array)
        table = np.append([_number(value, missing) for value in values], missing)
        return np.asarray(table[codes], dtype=np.float64)
    if not (_is_number(array.type) or pa.types.is_boolean(array.type)):
        return np.array([_number(value, missing) for value in array.to_pylist()], dtype=np.float64)
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.int8())
    if array.type != pa.float64():
        array = array.cast(pa.float64())
    if array.null_count:
        array = pc.fill_null(array, missing)
    numbers: F64 = array.to_numpy(zero_copy_only=False)
    beyond = np.abs(numbers) > LARGEST
    return np.where(beyond, missing, numbers) if beyond.any() else numbers


def _number(value: object, missing: float) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return missing
    return missing if abs(number) > LARGEST else number


def concat(batches: Sequence[EventBatch]) -> EventBatch:
    """Batches end to end; a property whose type differs between them becomes text."""
    filled = [batch for batch in batches if len(batch)]
    if len(filled) < 2:
        return filled[0] if filled else EventBatch.empty()
    tables = [batch.table for batch in filled]
    types: dict[str, pa.DataType] = {}
    for table in tables:
        for field_ in table.schema:
            known = types.get(field_.name)
            if known is None or pa.types.is_null(known):
                types[field_.name] = field_.type
            elif known != field_.type and not pa.types.is_null(field_.type):
                types[field_.name] = _common(known, field_.type)
    unified = []
    for table in tables:
        own = dict(zip(table.column_names, table.columns, strict=True))
        columns = []
        for name, wanted in types.items():
            column = own.get(name)
            if column is None:
                column = pa.nulls(len(table), wanted)
            elif column.type != wanted:
                column = _cast(column, wanted)
            columns.append(column)
        unified.append(pa.table(columns, names=list(types)))
    return EventBatch(pa.concat_tables(unified).unify_dictionaries())


def _is_number(type_: pa.DataType) -> bool:
    return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_))


def _common(a: pa.DataType, b: pa.DataType) -> pa.DataType:
    return pa.float64() if _is_number(a) and _is_number(b) else _TEXT


def _cast(column: pa.ChunkedArray, wanted: pa.DataType) -> pa.ChunkedArray:
    if wanted == _TEXT and not pa.types.is_null(column.type):
        text = as_text(column)
        text = text if isinstance(text, pa.ChunkedArray) else pa.chunked_array([text])
        return text.dictionary_encode()
    return column.cast(wanted)
