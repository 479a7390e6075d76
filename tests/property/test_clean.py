"""Reading and cleaning lose nothing, whatever comes in."""

import csv
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.events.batch import PROPERTY, SCHEMA
from limner.events.clean import Cleaned, clean
from limner.events.norms import Norms
from limner.events.raw import RawBatch, Refused
from limner.events.rules import CleanConfig
from limner.sources.content import joined
from limner.sources.files import read_file, read_rows

NOW = 1_706_700_000_000_000
HEADER = ["user", "item", "event", "time", "value", "quantity", "extra", "note"]

text = st.text(st.characters(codec="utf-8", exclude_characters="\x00\x1a"), max_size=6)
cell = st.one_of(
    text,
    st.sampled_from(["", "1", "-1", "0", "007", "true", "2024-01-31", "03/04/2024", "view", "buy",
                     "1706696430", "nan", "inf", "a|b", '["x"]', '"', "\n", "1e400"]),
)  # fmt: skip
table = st.lists(st.lists(cell, min_size=1, max_size=9), max_size=30)
value = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)


def admitted(raw: RawBatch) -> RawBatch:
    """What admission does, as far as cleaning can tell."""
    columns = raw.table
    if "user_id" in columns.column_names:
        texts = columns.column("user_id").cast(pa.string()).to_pylist()
        users = pa.array(
            [None if user is None else user.encode()[:16].ljust(16) for user in texts],
            pa.binary(16),
        )
        columns = columns.set_column(columns.column_names.index("user_id"), "user_id", users)
    return RawBatch(columns, raw.where, raw.source)


def cleaned(batches: list[RawBatch]) -> list[Cleaned]:
    norms = Norms()
    return [clean(admitted(raw), now=NOW, config=CleanConfig(), norms=norms) for raw in batches]


def check(batches: list[RawBatch], refused: list[Refused], lines: list[int]) -> None:
    """Each line is kept or refused, once; the kept have the schema's types."""
    done = cleaned(batches)
    kept = [
        line
        for raw, out in zip(batches, done, strict=True)
        for line in raw.table.column("line").to_pylist()
        if line not in {refusal.line for refusal in out.refused}
    ]
    assert len(kept) == sum(len(out.batch) for out in done)
    for out in done:
        refused += out.refused
        for name in SCHEMA.names:
            assert out.batch.table.schema.field(name).type == SCHEMA.field(name).type
        for name in ("user_id", "event_type", "timestamp", "received_at"):
            assert out.batch.array(name).null_count == 0
        assert np.isfinite(out.batch.numbers("value", missing=0)).all()
        assert np.isfinite(out.batch.numbers("quantity", missing=0)).all()
        json.dumps([refusal.row for refusal in out.refused])  # fits a quarantine of JSON
    assert sorted(kept + [refusal.line for refusal in refused]) == lines
    assert all(refusal.reason for refusal in refused)


def write_csv(rows: list[list[str]]) -> tuple[str, list[int]]:
    """(text, line on which each row starts)."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(HEADER)
    lines = []
    for row in rows:
        lines.append(out.getvalue().count("\n") + 1)
        writer.writerow(row)
    return out.getvalue(), lines


@settings(deadline=None, max_examples=60)
@given(table, st.integers(1, 8))
def test_every_line_of_a_csv_is_kept_or_refused(rows: list[list[str]], size: int) -> None:
    body, lines = write_csv(rows)
    blank = {
        line
        for line, row in zip(lines, rows, strict=True)
        if (len(row) == len(HEADER) and not any(row))
    }
    refused: list[Refused] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        path.write_bytes(body.encode())
        batches = list(
            read_file(path, kind="events", refuse=refused.append, source="t", batch_rows=size)
        )
    check(batches, refused, [line for line in lines if line not in blank])
    texts = dict(zip(lines, rows, strict=True))
    for raw in batches:  # a property is in its column, or beside it as text
        for row in raw.table.to_pylist():
            for name, place in (("extra", 6), ("note", 7)):
                said = texts[row["line"]][place]
                beside = row.get(f"{PROPERTY}{name}.text")
                own = row.get(PROPERTY + name)
                if said.strip() and said != "[]":
                    assert (own is None) != (beside is None)
                    if isinstance(own, str):
                        assert own == said
                    assert beside is None or beside == said
    types: dict[str, pa.DataType] = {}
    for raw in batches:  # and the column's type never changes
        for column in raw.table.schema:
            if column.name.startswith(PROPERTY) and not pa.types.is_null(column.type):
                assert types.setdefault(column.name, column.type) == column.type


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"user": st.just("u") | value, "time": st.just(1706696430) | value},
            optional={
                "item": value, "event": st.just("view") | value, "value": value,
                "quantity": value, "note": value, "properties": value,
            },
        ),
        max_size=12,
    ),
    st.integers(1, 5),
)  # fmt: skip
def test_every_row_of_any_json_is_kept_or_refused(rows: list[dict[str, Any]], size: int) -> None:
    refused: list[Refused] = []
    batches = list(
        read_rows(rows, kind="events", refuse=refused.append, source="t", batch_rows=size)
    )
    check(batches, refused, list(range(1, len(rows) + 1)))


@given(st.lists(st.tuples(*[st.none() | st.text("ab\x1e\x1fn", max_size=3)] * 3), max_size=20))
def test_content_is_injective(rows: list[tuple[str | None, ...]]) -> None:
    columns = {
        name: pa.array([row[place] for row in rows], pa.string())
        for place, name in enumerate("xyz")
    }
    content = joined(columns, "events", {}).to_pylist()
    assert len(set(content)) == len(set(rows))


@given(
    st.lists(
        st.tuples(
            st.none() | st.integers(0, 2), st.none() | st.sampled_from([0.0, 1.5]),
            st.none() | st.booleans(), st.none() | st.sampled_from(["", "\x00", "a"]),
        ),
        max_size=30,
    )
)  # fmt: skip
def test_content_of_typed_columns_is_injective(rows: list[tuple[Any, ...]]) -> None:
    kinds = [pa.int32(), pa.float32(), pa.bool_(), pa.string()]
    columns = {
        str(place): pa.array([row[place] for row in rows], kind) for place, kind in enumerate(kinds)
    }
    content = joined(columns, "events", {}).to_pylist()
    assert len(set(content)) == len(set(rows))


def test_content_tells_columns_kinds_and_constants_apart() -> None:
    column = pa.array(["1"])
    said = {
        joined(columns, kind, constants)[0].as_py()
        for columns in ({"a": column}, {"b": column}, {"a": pa.array([1])})
        for kind in ("events", "items")
        for constants in ({}, {"event_type": "view"})
    }
    assert len(said) == 12
