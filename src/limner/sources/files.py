"""Files and tables in memory, read in a stream of `RawBatch`."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from limner.errors import InputError
from limner.events.batch import as_text
from limner.events.raw import RawBatch, Refused
from limner.sources import delimited, rows
from limner.sources.columns import Kind, map_columns
from limner.sources.rows import flattened
from limner.sources.settle import Settled, text_column
from limner.sources.shape import plain_array, shaped

Refuse = Callable[[Refused], None]

BATCH_ROWS = 131_072
"""Rows of a batch: so many that numpy's calls, a few hundred a batch, cost little each."""
"""Called with each row that cannot be read, so that it can be put into quarantine."""

_DELIMITED = (".csv", ".tsv", ".txt", ".tab", *delimited.UNQUOTED)
_PARQUET = (".parquet", ".pq")
_LINES = (".jsonl", ".ndjson", ".jsonlines")
_JSON = (".json",)
_LISTS = ("events", "items", "users", "batch", "data")

FORMATS = (*_DELIMITED, *_PARQUET, *_LINES, *_JSON)
"""Endings of the files that `read_file` reads; .gz, .zst and .bz2 may follow (not Parquet)."""


def read_file(
    path: str | Path,
    *,
    kind: Kind,
    refuse: Refuse,
    columns: Mapping[str, str] | None = None,
    constants: Mapping[str, str] | None = None,
    source: str,
    batch_rows: int = BATCH_ROWS,
) -> Iterator[RawBatch]:
    """Read a file of events, items or users; never holds more than a few batches.

    CSV, TSV, RecBole's and MovieLens' text files, Parquet, JSON Lines, and JSON (a list, or an
    object with a list under `events`, `items` or `users`; read whole). `columns` maps fields or
    properties to source columns, `constants` to one value for all rows; what neither names is
    found by name (`map_columns`), and all that is left is a property. Rows that cannot be read
    go to `refuse` and do not stop the file.
    Raises InputError if the file, or the columns it must have, cannot be found or read.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("there is no such file", where=str(path), mend="check the path")
    try:
        yield from _read(path, kind, columns or {}, constants or {}, source, batch_rows, refuse)
    except OSError as error:  # no right to read it, or a broken compression
        raise InputError(
            f"the file cannot be read: {error}", where=str(path), mend="check or write it again"
        ) from error


def _read(
    path: Path,
    kind: Kind,
    columns: Mapping[str, str],
    constants: Mapping[str, str],
    source: str,
    batch_rows: int,
    refuse: Refuse,
) -> Iterator[RawBatch]:
    name, _ = delimited.split_name(path)
    if name.endswith(_PARQUET):
        tables = _parquet(path, batch_rows)
        yield from _from_tables(tables, kind, columns, constants, str(path), source, batch_rows)
    elif name.endswith((*_LINES, *_JSON)):
        reader = _json_lines if name.endswith(_LINES) else _json_document
        yield from rows.batches(
            reader(path, refuse),
            kind=kind,
            columns=columns,
            constants=constants,
            where=str(path),
            source=source,
            batch_rows=batch_rows,
            refuse=refuse,
        )
    elif name.endswith(_DELIMITED):
        yield from _delimited(path, kind, columns, constants, source, batch_rows, refuse)
    else:
        raise InputError(
            "the file's ending names no known format",
            where=str(path),
            mend=f"use one of {', '.join(FORMATS)}",
        )


def read_rows(
    data: Iterable[Mapping[str, Any]],
    *,
    kind: Kind,
    refuse: Refuse,
    columns: Mapping[str, str] | None = None,
    constants: Mapping[str, str] | None = None,
    source: str,
    where: str = "rows",
    batch_rows: int = BATCH_ROWS,
) -> Iterator[RawBatch]:
    """Read mappings, one a row; as `read_file` in all else. Lines count from 1."""
    return rows.batches(
        rows.numbered(data),
        kind=kind,
        columns=columns or {},
        constants=constants or {},
        where=where,
        source=source,
        batch_rows=batch_rows,
        refuse=refuse,
    )


def read_table(
    data: Any,
    *,
    kind: Kind,
    columns: Mapping[str, str] | None = None,
    constants: Mapping[str, str] | None = None,
    source: str,
    where: str = "table",
    batch_rows: int = BATCH_ROWS,
) -> Iterator[RawBatch]:
    """Read a pyarrow Table or any DataFrame with the Arrow PyCapsule interface.

    That is, with `__arrow_c_stream__`: pandas 2.2 and later, polars, and others. No row can be
    unreadable here. Raises InputError if `data` is none of these, or lacks needed columns.
    """
    if isinstance(data, pa.Table):
        tables: Iterable[pa.Table] = [data]
    elif hasattr(data, "__arrow_c_stream__"):
        reader = pa.RecordBatchReader.from_stream(data)
        tables = (pa.Table.from_batches([batch]) for batch in reader)
    else:
        raise InputError(
            f"{type(data).__name__} is no table",
            where=where,
            mend="give a pyarrow Table, a pandas (2.2 or later) or polars DataFrame, or mappings",
        )
    return _from_tables(tables, kind, columns or {}, constants or {}, where, source, batch_rows)


def _from_tables(
    tables: Iterable[pa.Table],
    kind: Kind,
    columns: Mapping[str, str],
    constants: Mapping[str, str],
    where: str,
    source: str,
    batch_rows: int,
) -> Iterator[RawBatch]:
    found = None
    line = 1
    for table in tables:
        names = [name for name in table.column_names if not name.startswith("__index_level_")]
        if found is None:
            found = map_columns(names, kind=kind, columns=columns, constants=constants, where=where)
        for start in range(0, table.num_rows, batch_rows):
            part = table.slice(start, batch_rows).combine_chunks()
            arrays = {name: plain_array(_chunk(part.column(name))) for name in names}
            lines = np.arange(line, line + part.num_rows, dtype=np.int64)
            line += part.num_rows
            yield shaped(arrays, found, kind=kind, lines=lines, where=where, source=source)


def _chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _parquet(path: Path, batch_rows: int) -> Iterator[pa.Table]:
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=batch_rows, use_threads=False):
                yield pa.Table.from_batches([batch])
    except pa.ArrowInvalid as error:
        raise InputError(
            f"this is no Parquet file: {error}", where=str(path), mend="write it again"
        ) from error


def _delimited(
    path: Path,
    kind: Kind,
    columns: Mapping[str, str],
    constants: Mapping[str, str],
    source: str,
    batch_rows: int,
    refuse: Refuse,
) -> Iterator[RawBatch]:
    dialect = delimited.sniff(path, kind)
    names = [name for name in dialect.names if name is not None]
    found = map_columns(names, kind=kind, columns=columns, constants=constants, where=str(path))
    settled = Settled(found.lists)
    for arrays, lines in delimited.read(path, dialect, batch_rows=batch_rows, refuse=refuse):
        if len(lines):
            yield shaped(
                arrays,
                found,
                kind=kind,
                lines=lines,
                where=str(path),
                source=source,
                settled=settled,
            )


def _open(path: Path) -> io.BufferedReader:
    stream = pa.input_stream(str(path), compression=delimited.split_name(path)[1])
    return io.BufferedReader(stream)


def _json_lines(path: Path, refuse: Refuse) -> Iterator[tuple[int, Any]]:
    decode = msgspec.json.Decoder().decode
    with _open(path) as stream:
        for line, text in enumerate(stream, 1):
            if line == 1:
                text = text.removeprefix(b"\xef\xbb\xbf")
            text = text.strip()
            if not text:
                continue
            try:
                yield line, decode(text)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                reason = f"this line is no JSON ({error}); to mend it: one object a line"
                refuse(Refused(str(path), line, "bad_json", reason, {}))


def _json_document(path: Path, refuse: Refuse) -> Iterator[tuple[int, Any]]:
    with _open(path) as stream:
        body = stream.read()
    try:
        document = msgspec.json.decode(body.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Many tools write JSON Lines under the name .json.
        yield from _json_lines(path, refuse)
        return
    if isinstance(document, dict):
        inner = [document[name] for name in _LISTS if isinstance(document.get(name), list)]
        document = inner[0] if inner else [document]
    if not isinstance(document, list):
        raise InputError(
            "this JSON holds no rows", where=str(path), mend="a list of objects is expected"
        )
    yield from enumerate(document, 1)


def sample(path: str | Path, *, kind: Kind, rows: int = 10_000) -> dict[str, pa.Array]:
    """The first rows of a file: column → values as text. Raises InputError as `read_file`."""
    return next(_texts(Path(path), kind, rows, lambda _: None), {})


def whole(path: str | Path) -> pa.Table:
    """All of a file that need not hold events, as a table of texts.

    Raises InputError as `read_file`, and for a row that cannot be read: no quarantine keeps it.
    """

    def refuse(row: Refused) -> None:
        raise InputError(
            row.reason, where=f"{row.where}, line {row.line}", mend="mend the row, or take it out"
        )

    parts = [pa.table(part) for part in _texts(Path(path), "users", 100_000, refuse)]
    table = pa.concat_tables(parts, promote_options="default") if parts else pa.table({})
    if not len(table):
        raise InputError("the file has no rows", where=str(path), mend="give a file with rows")
    return table


def _texts(path: Path, kind: Kind, rows: int, refuse: Refuse) -> Iterator[dict[str, pa.Array]]:
    """The columns of a file as text, at most `rows` rows at a time."""
    if not path.is_file():
        raise InputError("there is no such file", where=str(path), mend="check the path")
    name, _ = delimited.split_name(path)
    try:
        if name.endswith(_PARQUET):
            for table in _parquet(path, rows):
                yield {
                    column: as_text(plain_array(_chunk(table.column(column))))
                    for column in table.column_names
                }
        elif name.endswith((*_LINES, *_JSON)):
            reader = _json_lines if name.endswith(_LINES) else _json_document
            read = (row for _, row in reader(path, refuse))
            while part := list(islice(read, rows)):
                found = [flattened(row) for row in part if isinstance(row, dict)]
                names = dict.fromkeys(chain.from_iterable(found))
                yield {column: text_column([row.get(column) for row in found]) for column in names}
        elif name.endswith(_DELIMITED):
            dialect = delimited.sniff(path, kind)
            some = False
            for arrays, _ in delimited.read(path, dialect, batch_rows=rows, refuse=refuse):
                some = True
                yield arrays
            if not some:
                yield {n: pa.array([], pa.string()) for n in dialect.names if n is not None}
        else:
            raise InputError(
                "the file's ending names no known format",
                where=str(path),
                mend=f"use one of {', '.join(FORMATS)}",
            )
    except OSError as error:
        raise InputError(
            f"the file cannot be read: {error}", where=str(path), mend="check or write it again"
        ) from error
