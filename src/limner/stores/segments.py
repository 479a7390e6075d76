"""How batches lie in a store: one blob of Arrow IPC streams a segment.

A segment holds the rows of one commit, or of many after sealing. Rows whose properties have
other types than their neighbours' get a stream of their own, so nothing is converted.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from itertools import groupby

import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc

from limner.errors import StoreCorrupt
from limner.events.batch import PROPERTY, SCHEMA, Bool, EventBatch, concat

SEGMENT_ROWS = 1 << 12
"""Most rows of a segment: so many that it compresses, so few that one is read for a single row."""

READ_ROWS = 1 << 16
"""Most rows of a batch that `read` yields."""

CELLS = 1 << 23
"""Most cells (rows times properties) of a batch, so that many properties make no huge one."""

IDENTITY = ("digest", "check")
_FIXED = frozenset(SCHEMA.names)
_ALONE = ipc.IpcReadOptions(use_threads=False)  # handing a segment to threads costs 5 times it
_PLAIN_BELOW = 256  # rows; compressing smaller buffers costs time and saves nothing


def encode(batches: Sequence[EventBatch]) -> bytes:
    """Batches as one blob; columns without a value are left out."""
    sink = io.BytesIO()
    for batch in batches if len(batches) == 1 else joined(batches):
        table = batch.table
        full = [name for name in table.column_names if table.column(name).null_count < len(table)]
        table = compact(table.select(full or ["event_type"]))
        options = ipc.IpcWriteOptions(compression="lz4" if len(table) >= _PLAIN_BELOW else None)
        with ipc.new_stream(sink, table.schema, options=options) as writer:
            writer.write_table(table)
    return sink.getvalue()


def decode(body: bytes, columns: Sequence[str] | None = None) -> list[pa.Table]:
    """The tables of a blob, one a stream; with `columns`, only those (and only if there).

    Raises StoreCorrupt if it is no such blob.
    """
    tables = []
    buffer, start = pa.py_buffer(body), 0
    try:
        while start < len(body):
            source = pa.BufferReader(buffer.slice(start))
            reader = ipc.open_stream(source, options=_ALONE)
            if columns is not None:
                wanted = [reader.schema.get_field_index(name) for name in columns]
                source = pa.BufferReader(buffer.slice(start))
                reader = ipc.open_stream(
                    source,
                    options=ipc.IpcReadOptions(
                        # a column that is always there, for the number of rows
                        included_fields=[index for index in wanted if index >= 0] or [0],
                        use_threads=False,
                    ),
                )
            tables.append(reader.read_all())
            start += source.tell()
    except (pa.ArrowException, OSError) as error:
        raise StoreCorrupt(f"a segment does not decode: {error}") from None
    return tables


def fingerprint(body: bytes) -> bytes:
    """SHA-256, the fastest sound hash here (1.7 GB/s)."""
    return sha256(body).digest()


def time_range(batches: Sequence[EventBatch]) -> tuple[int | None, int | None]:
    """The first and last event time, None where no row has one."""
    low, high = None, None
    for batch in batches:
        given = batch.array("timestamp")
        given = given.drop_null() if given.null_count else given
        if len(given):
            times = given.to_numpy(zero_copy_only=False)
            first, last = int(times.min()), int(times.max())
            low = first if low is None else min(low, first)
            high = last if high is None else max(high, last)
    return low, high


def compact(table: pa.Table) -> pa.Table:
    """The same rows, with dictionaries that hold only the values they use.

    What a dictionary holds beside them may be of other users, and must not outlive them.
    """
    for index, field in enumerate(table.schema):
        if not pa.types.is_dictionary(field.type) or not len(table):
            continue
        column = table.column(index)
        array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        size = len(array.dictionary)
        if size == len(array) == 1 and not array.null_count:
            continue
        indices = array.indices.fill_null(size) if array.null_count else array.indices
        codes = indices.to_numpy(zero_copy_only=False)
        if len(codes) * 16 < size:
            used, places = np.unique(codes, return_inverse=True)
            used = used[used < size]
        else:
            flags = np.zeros(size + 1, bool)
            flags[codes] = True
            if flags[:size].all():
                continue
            used, places = np.flatnonzero(flags[:size]), (np.cumsum(flags) - 1)[codes]
        indices = pa.array(places.astype(np.int32), mask=codes == size)
        values = array.dictionary.take(pa.array(used))
        column = pa.DictionaryArray.from_arrays(indices, values)
        table = table.set_column(index, field.name, column)
    return table


def gathered(parts: Sequence[pa.Table]) -> EventBatch:
    """A few rows of each of many segments as one batch.

    They are plain in between: to unify large dictionaries costs more than to encode few rows.
    """
    batches = []
    for schema, group in groupby(parts, key=lambda table: table.schema):
        table = pa.concat_tables(group)
        columns = {}
        for field in schema:
            column = table.column(field.name)
            if pa.types.is_dictionary(field.type):
                plain = column.cast(field.type.value_type).combine_chunks()
                columns[field.name] = plain.dictionary_encode()
            else:
                columns[field.name] = column
        batches.append(EventBatch(pa.table(columns)))
    return concat(batches)


def merged_batches(tables: Sequence[pa.Table]) -> list[EventBatch]:
    """Small tables of neighbouring segments as few batches, in order."""
    return [gathered(list(alike)) for _, alike in groupby(tables, key=lambda table: table.schema)]


def emptied(batch: EventBatch, rows: Bool, *, forget: bool) -> EventBatch:
    """The batch with these rows null but for `digest` and `check`; with `forget`, those too."""
    return _without(batch, rows, lambda name: forget or name not in IDENTITY)


def without_target(batch: EventBatch, rows: Bool) -> EventBatch:
    """The batch with `target_user_id` null in these rows."""
    return _without(batch, rows, lambda name: name == "target_user_id")


def users_in(tables: Sequence[pa.Table], column: str) -> Iterator[tuple[int, pa.Array]]:
    """(first row, dictionary array) of a user column, for each table that has it."""
    start = 0
    for table in tables:
        if column in table.column_names:
            yield start, table.column(column).combine_chunks()
        start += len(table)


def _without(batch: EventBatch, rows: Bool, affects: Callable[[str], bool]) -> EventBatch:
    # Taking from what is kept, rather than masking, so that no old value lies under a null.
    kept = pa.array(~rows)
    places = pa.array(np.cumsum(~rows) - 1, mask=rows)
    table = batch.table
    for index, name in enumerate(table.column_names):
        if affects(name):
            column = table.column(index).combine_chunks().filter(kept).take(places)
            table = table.set_column(index, table.schema.field(index), column)
    return EventBatch(compact(table))


def together(tables: Sequence[pa.Table]) -> Iterator[EventBatch]:
    """Tables of neighbouring segments as few batches, in order; `joined`, for many of one kind."""
    batches = []
    for _, group in groupby(tables, key=lambda table: table.schema):
        alike = list(group)
        whole = pa.concat_tables(alike).unify_dictionaries() if len(alike) > 1 else alike[0]
        batches.append(EventBatch(whole))
    return joined(batches) if len(batches) > 1 else iter(batches)


def joined(batches: Sequence[EventBatch]) -> Iterator[EventBatch]:
    """Neighbours end to end wherever their properties agree in type, up to `CELLS`."""
    group: list[EventBatch] = []
    rows, types = 0, dict[str, pa.DataType]()
    for batch in batches:
        own = {
            field.name: field.type
            for field, column in zip(batch.table.schema, batch.table.columns, strict=True)
            if field.name.startswith(PROPERTY) and column.null_count < len(batch)
        }
        other = any(types.get(name, kind) != kind for name, kind in own.items())
        if group and (other or (rows + len(batch)) * len(types | own) > CELLS):
            yield concat(group)
            group, rows, types = [], 0, {}
        bare = [n for n in batch.table.column_names if n in own or n in _FIXED]
        group.append(EventBatch(batch.table.select(bare)))
        rows += len(batch)
        types |= own
    if group:
        yield concat(group)
