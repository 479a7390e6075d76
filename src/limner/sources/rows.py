"""JSON-like rows, one mapping each, to columns."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any
from uuid import UUID

import msgspec
import numpy as np
import pyarrow as pa

from limner.events.batch import PROPERTY
from limner.events.raw import RawBatch, Refused
from limner.sources.columns import Columns, Kind, map_columns
from limner.sources.content import head
from limner.sources.settle import Settled, json_column, text_column
from limner.sources.shape import shaped

_MANY = 64
"""Properties from which on a batch is taken to be sparse."""

MAX_DEPTH = 16
"""How deep a row may nest; a deeper one is refused."""

Row = dict[str, Any]


def batches(
    rows: Iterable[tuple[int, Any]],
    *,
    kind: Kind,
    columns: Mapping[str, str],
    constants: Mapping[str, str],
    where: str,
    source: str,
    batch_rows: int,
    refuse: Callable[[Refused], None],
) -> Iterator[RawBatch]:
    """Rows with their line numbers, in batches of at most `batch_rows`.

    A row that is no mapping, or nests deeper than `MAX_DEPTH`, goes to `refuse`. An object under
    `properties` is flattened into properties; any other object is kept as JSON text. Columns are
    found in the first batch; keys that appear later add to them.
    Raises InputError if the needed columns are not in the first batch.
    """
    settled: Settled | None = None
    known: Columns | None = None
    names: list[str] = []
    for chunk in _chunks(rows, batch_rows):
        good: list[Row] = []
        lines: list[int] = []
        for line, row in chunk:
            problem = fault(row)
            if problem:
                refuse(Refused(where, line, "bad_row", problem, {}))
            else:
                good.append(row)
                lines.append(line)
        if not good:
            continue
        flat = [flattened(row) for row in good]
        seen = dict.fromkeys(chain.from_iterable(flat))
        new = [name for name in seen if name not in names]
        if known is None or new:
            names += new
            known = _mapped(names, kind, columns, constants, where)
        if settled is None:
            settled = Settled(known.lists, guess=False)
        yield to_raw(good, flat, lines, known, settled, kind=kind, where=where, source=source)


_NOT_TEXT = object()
"""In the place of a row with half a character, a lone surrogate, which no encoding can keep."""


def numbered(data: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    """Rows with their numbers, from 1; mappings with their values as plain ones."""
    for line, row in enumerate(data, 1):
        try:
            plain = simple(row) if isinstance(row, Mapping) else row
        except UnicodeEncodeError:
            plain = _NOT_TEXT
        yield line, plain


def fault(row: Any) -> str | None:
    """What is wrong with a row as a whole, or None."""
    if row is _NOT_TEXT:
        return "a text holds half a character (a lone surrogate); to mend it: decode it anew"
    if not isinstance(row, dict):
        return "this is no object; to mend it: send {...} with user_id, event_type, …"
    if _deeper(row, MAX_DEPTH):
        return f"this nests deeper than {MAX_DEPTH} levels; to mend it: flatten it"
    return None


def flattened(row: Row) -> Row:
    """The row with the members of its `properties` object beside its other members.

    >>> flattened({"user_id": "u1", "properties": {"colour": "red"}})
    {'user_id': 'u1', 'properties.colour': 'red'}
    """
    inner = row.get("properties")
    if not isinstance(inner, dict):
        return row
    out = {key: value for key, value in row.items() if key != "properties"}
    for key, value in inner.items():
        out[PROPERTY + key] = value
    return out


def to_raw(
    rows: Sequence[Row],
    flat: Sequence[Row],
    lines: Sequence[int],
    columns: Columns,
    settled: Settled | None,
    *,
    kind: Kind,
    where: str,
    source: str,
    added: Sequence[bytes] | None = None,
) -> RawBatch:
    """Rows and the same rows flattened, as a batch.

    A row's content is its JSON with sorted keys, so that the order of keys does not matter,
    then what `added` says of it.
    """
    start = head(kind, columns.constants)
    encode = msgspec.json.Encoder(order="sorted").encode
    if added is None:
        content = pa.array([start + encode(row) for row in rows], pa.binary())
    else:
        pairs = zip(rows, added, strict=True)
        content = pa.array([start + encode(row) + more for row, more in pairs], pa.binary())
    amounts = {columns.fields.get(name) for name in ("value", "quantity")}
    time = columns.fields.get("timestamp")
    fields = set(columns.fields.values())
    arrays: dict[str, pa.Array] = {}
    if len(columns.properties) > _MANY:
        arrays |= _scattered(flat, set(columns.properties.values()) - fields)
    for name in [*columns.fields.values(), *columns.properties.values()]:
        if name in arrays:
            continue
        values = [row.get(name) for row in flat]
        if name == time and all(value is None or type(value) is int for value in values):
            arrays[name] = _integers(values)
        elif name in fields and name not in amounts:
            arrays[name] = text_column(values)
        else:
            arrays[name] = json_column(values)
    return shaped(
        arrays,
        columns,
        kind=kind,
        lines=np.asarray(lines, dtype=np.int64),
        where=where,
        source=source,
        settled=settled,
        content=content,
    )


def _scattered(flat: Sequence[Row], names: Collection[str]) -> dict[str, pa.Array]:
    """Columns of which most rows have few, in a time that goes by the values that are there."""
    found: dict[str, tuple[list[int], list[Any]]] = {name: ([], []) for name in names}
    for place, row in enumerate(flat):
        for name, value in row.items():
            if name in found and value is not None:
                places, values = found[name]
                places.append(place)
                values.append(value)
    out = {}
    for name, (places, values) in found.items():
        which = np.full(len(flat), -1, dtype=np.int64)
        which[places] = np.arange(len(values))
        out[name] = json_column(values).take(pa.array(which, mask=which < 0))
    return out


def _integers(values: Sequence[Any]) -> pa.Array:
    try:
        return pa.array(values, pa.int64())
    except (OverflowError, pa.ArrowInvalid):
        return text_column(values)


def simple(row: Mapping[str, Any]) -> Row:
    """A mapping of Python values as plain JSON values: times as ISO text, NaN as null."""
    plain: Row = msgspec.json.decode(msgspec.json.encode(dict(row), enc_hook=_plain_value))
    return plain


def _plain_value(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, datetime.datetime | datetime.date | decimal.Decimal | UUID):
        return str(value)
    return str(value)


def _mapped(
    names: Sequence[str],
    kind: Kind,
    columns: Mapping[str, str],
    constants: Mapping[str, str],
    where: str,
) -> Columns:
    """`map_columns`, with the flattened properties kept out of the guessing."""
    outer = [name for name in names if not name.startswith(PROPERTY)]
    mapped = set(columns.values())
    outer += [name for name in names if name.startswith(PROPERTY) and name in mapped]
    found = map_columns(outer, kind=kind, columns=columns, constants=constants, where=where)
    for name in names:
        if name.startswith(PROPERTY) and name not in mapped:
            found.properties.setdefault(name.removeprefix(PROPERTY), name)
    return found


def _chunks(rows: Iterable[tuple[int, Any]], size: int) -> Iterator[list[tuple[int, Any]]]:
    chunk: list[tuple[int, Any]] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _deeper(value: Any, levels: int) -> bool:
    """Whether a dict or list nests deeper than `levels`."""
    if levels == 0:
        return True
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, dict | list) and _deeper(inner, levels - 1):
            return True
    return False
