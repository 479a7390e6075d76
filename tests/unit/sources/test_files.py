import gzip
import importlib
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from limner.errors import InputError
from limner.events.raw import ITEM, USER, RawBatch, Refused
from limner.sources.columns import Kind
from limner.sources.files import read_file, read_rows, read_table


def read(
    path: Path, kind: Kind = "events", **options: Any
) -> tuple[list[dict[str, Any]], list[Refused]]:
    """All rows (without content) and all refusals."""
    refused: list[Refused] = []
    batches = list(read_file(path, kind=kind, refuse=refused.append, source="test", **options))
    return rows(batches), refused


def rows(batches: list[RawBatch]) -> list[dict[str, Any]]:
    tables = [batch.table.drop_columns(["content"]) for batch in batches]
    return [
        {name: value for name, value in row.items() if value is not None}
        for table in tables
        for row in table.to_pylist()
    ]


def contents(batches: list[RawBatch]) -> list[bytes]:
    return [value for batch in batches for value in batch.table.column("content").to_pylist()]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    def write_file(name: str, data: str | bytes) -> Path:
        path = tmp_path / name
        body = data.encode() if isinstance(data, str) else data
        if name.endswith(".gz"):
            body = gzip.compress(body)
        if name.endswith(".zst"):
            body = pa.compress(body, codec="zstd", asbytes=True)
        path.write_bytes(body)
        return path

    return write_file


pd: Any = importlib.import_module("pandas")  # it has no type stubs

Write = Callable[[str, str | bytes], Path]


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz", "a.csv.zst", "a.txt"])
def test_delimited(write: Write, delimiter: str, name: str) -> None:
    text = "\ufeffuser,sku,ts,event,colour\nu1, tea ,1706696430,view,red\nu2,milk,1706696431,buy,\n"
    got, refused = read(write(name, text.replace(",", delimiter)))
    assert refused == []
    assert got == [
        {"line": 2, "user_id": "u1", "item_id": "tea", "event_type": "view",
         "timestamp": "1706696430", "properties.colour": "red"},
        {"line": 3, "user_id": "u2", "item_id": "milk", "event_type": "buy",
         "timestamp": "1706696431"},
    ]  # fmt: skip


def test_bad_rows_are_refused_with_their_line_and_do_not_stop_the_file(write: Write) -> None:
    text = (
        b"user,sku,ts\n"  # 1
        b"u1,tea,1\n"  # 2
        b"u2,tea\n"  # 3 too short
        b'u3,"green\ntea, loose",3\n'  # 4 and 5
        b"\n"  # 6 blank
        b'u4,"a\nb",4,extra\n'  # 7 and 8, too long
        b"u5,caf\xe9,5\n"  # 9 no UTF-8
        b"u6,tea,6\n"  # 10
        b"u7,tea,7,x"  # 11 too long, at the end
    )
    for batch_rows in (1, 2, 1000):
        got, refused = read(write("a.csv", text), batch_rows=batch_rows)
        assert [(row["line"], row["user_id"]) for row in got] == [(2, "u1"), (4, "u3"), (10, "u6")]
        assert got[1]["item_id"] == "green\ntea, loose"
        assert sorted((r.line, r.rule) for r in refused) == [
            (3, "wrong_columns"), (7, "wrong_columns"), (9, "undecodable"), (11, "wrong_columns"),
        ]  # fmt: skip
        assert all(refusal.row == {} for refusal in refused)  # a bad row may hold a user's id
    assert "this row has 2 cells and the header 3" in min(refused, key=lambda r: r.line).reason


def test_line_numbers_hold_across_blocks(write: Write) -> None:
    lines = ["user,sku,ts"]
    lines += [f"u{i},x" if i % 97 == 5 else f"u{i},x,{i}" for i in range(60_000)]
    got, refused = read(write("a.csv", "\n".join(lines)), batch_rows=1000)
    assert len(got) + len(refused) == 60_000
    assert all(row["user_id"] == f"u{row['line'] - 2}" for row in got)
    assert [refusal.line for refusal in refused] == [i + 2 for i in range(60_000) if i % 97 == 5]


def test_bad_bytes_in_a_bad_row(write: Write) -> None:
    got, refused = read(write("a.csv", b"user,sku,ts\n\xff\xfe\xfa,1\nu1,tea,1\n"))
    assert [row["user_id"] for row in got] == ["u1"]
    assert [(refusal.line, refusal.rule) for refusal in refused] == [(2, "wrong_columns")]


def test_unreadable_files(write: Write, tmp_path: Path) -> None:
    cases: dict[str, tuple[str, bytes]] = {
        "empty": ("a.csv", b" \n"),
        "UTF-8": ("b.csv", "user,ts\nu,1\n".encode("utf-16")),
        "header is no UTF-8": ("c.csv", b"us\xe9r,ts\nu,1\n"),
        "first line is blank": ("d.csv", b"\nuser,ts\nu,1\n"),
        "cannot be read": ("e.csv.bz2", b"not compressed at all"),
        "the file cannot be read": ("e.jsonl.bz2", b"not compressed at all"),
        "ending": ("a.xlsx", b"PK"),
        "Parquet": ("a.parquet", b"PAR0"),
        "no rows": ("a.json", b"3"),
        "no such file": ("", b""),
    }
    for message, (name, body) in cases.items():
        path = write(name, body) if name else tmp_path / "none.csv"
        with pytest.raises(InputError, match=message):
            read(path)


def test_an_unclosed_quote_is_an_error_or_one_row_and_never_silent(write: Write) -> None:
    text = 'user,sku,ts\nu1,tea,1\nu2,"tea,2\n' + "u3,tea,3\n" * 30_000
    with pytest.raises(InputError, match="cannot be read as rows"):
        read(write("a.csv", text), batch_rows=100)


def test_column_types_are_decided_once_and_nothing_is_lost(write: Write) -> None:
    text = "user,ts,n,code,big,truth,late,word\n"
    text += "u1,1,1.5,007,12345678901234567,true,,a\n"
    text += "u2,2,2,12,1,FALSE,,1\n"
    text += "u3,3,many,8,2,maybe,4,2\n"
    text += "u4,4,08,9,3,true,x,\n"
    refused: list[Refused] = []
    path = write("a.csv", text)
    batches = list(read_file(path, kind="events", refuse=refused.append, source="t", batch_rows=2))
    assert len(batches) == 2 and not refused
    types = [{f.name: f.type for f in batch.table.schema} for batch in batches]
    for name in ("n", "code", "big", "truth", "word"):
        assert types[0][f"properties.{name}"] == types[1][f"properties.{name}"]
    assert types[0]["properties.n"] == pa.float64()
    assert types[0]["properties.truth"] == pa.bool_()
    assert types[0]["properties.code"] == types[0]["properties.big"] == pa.string()
    got = [{k: v for k, v in row.items() if k.startswith("prop")} for row in rows(batches)]
    assert got == [
        {"properties.n": 1.5, "properties.code": "007", "properties.big": "12345678901234567",
         "properties.truth": True, "properties.word": "a"},
        {"properties.n": 2.0, "properties.code": "12", "properties.big": "1",
         "properties.truth": False, "properties.word": "1"},
        {"properties.n.text": "many", "properties.code": "8", "properties.big": "2",
         "properties.truth.text": "maybe", "properties.late": "4", "properties.word": "2"},
        {"properties.n.text": "08", "properties.code": "9", "properties.big": "3",
         "properties.truth": True, "properties.late": "x"},
    ]  # fmt: skip


def test_known_headerless_files(write: Write) -> None:
    movielens = "196\t242\t3\t881250949\n186\t302\t4\t891717742\n"
    wanted = [
        {"line": 1, "user_id": "196", "item_id": "242", "value": "3", "timestamp": "881250949",
         "event_type": "rating"},
        {"line": 2, "user_id": "186", "item_id": "302", "value": "4", "timestamp": "891717742",
         "event_type": "rating"},
    ]  # fmt: skip
    assert read(write("u.data", movielens))[0] == wanted
    assert read(write("ratings.dat", movielens.replace("\t", "::")))[0] == wanted
    taobao = read(write("t.csv", "1,2268318,2520377,pv,1511544070\n"))[0]
    assert taobao == [
        {"line": 1, "user_id": "1", "item_id": "2268318", "event_type": "pv",
         "timestamp": "1511544070", "properties.category": "2520377"},
    ]  # fmt: skip
    mapped, _ = read(write("n.csv", "1,2,3\n4,5,6\n"), columns={"user_id": "2", "timestamp": "3"})
    assert [(row["user_id"], row["timestamp"], row["properties.1"]) for row in mapped] == [
        ("2", "3", 1.0), ("5", "6", 4.0),
    ]  # fmt: skip


def test_recbole_atomic_files(write: Write) -> None:
    inter = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t2\t5\t889493691\n"
    [row], _ = read(write("m.inter", inter))
    assert (row["user_id"], row["value"], row["event_type"]) == ("1", "5", "rating")
    item = 'item_id:token\tmovie_title:token_seq\tclass:token_seq\n1\t"Heat" (1995)\tCrime War\n'
    [row], _ = read(write("m.item", item), kind="items")
    assert row == {
        "line": 2, "item_id": "1", "event_type": ITEM, "properties.title": '"Heat" (1995)',
        "properties.class": ["Crime", "War"],
    }  # fmt: skip


def test_items_and_users(write: Write) -> None:
    text = 'item_id,title,genres,tags,price\n7,Tea,a|b |,"[""x"", ""y|z""]",3\n8,007,,[],\n'
    got, _ = read(write("items.csv", text), kind="items")
    assert got[0] == {
        "line": 2, "item_id": "7", "event_type": ITEM, "properties.title": "Tea",
        "properties.genres": ["a", "b"], "properties.tags": ["x", "y|z"], "properties.price": 3.0,
    }  # fmt: skip
    assert got[1]["properties.title"] == "007"
    got, _ = read(write("users.csv", "user_id,age\nu1,65+\nu2,\n"), kind="users")
    assert got == [
        {"line": 2, "user_id": "u1", "event_type": USER, "properties.age": "65+"},
        {"line": 3, "user_id": "u2", "event_type": USER},
    ]


GORSE = {"FeedbackType": "like", "UserId": "u1", "ItemId": "i1", "Timestamp": "2024-01-31"}


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson.gz", "a.json"])
def test_json_lines(write: Write, name: str) -> None:
    good = {**GORSE, "properties": {"n": 1, "tags": ["a", "b"], "deep": {"x": [1]}}, "other": "1"}
    bad = "{" if name != "a.json" else '{"a":}'
    text = "\n".join([json.dumps(good), "", bad, "[1]", json.dumps({**GORSE, "Value": 2})])
    got, refused = read(write(name, text))
    assert got == [
        {"line": 1, "user_id": "u1", "item_id": "i1", "event_type": "like",
         "timestamp": "2024-01-31", "properties.n": 1.0, "properties.tags": ["a", "b"],
         "properties.deep": '{"x":[1]}', "properties.other": "1"},
        {"line": 5, "user_id": "u1", "item_id": "i1", "event_type": "like",
         "timestamp": "2024-01-31", "value": 2.0},
    ]  # fmt: skip
    assert [(refusal.line, refusal.rule) for refusal in refused] == [
        (3, "bad_json"),
        (4, "bad_row"),
    ]


@pytest.mark.parametrize("body", [[GORSE], {"events": [GORSE]}, GORSE])
def test_json_documents(write: Write, body: Any) -> None:
    [row], refused = read(write("a.json", json.dumps(body, indent=1)))
    assert row["user_id"] == "u1" and not refused


def test_json_types_do_not_flip_and_late_keys_are_kept(write: Write) -> None:
    events = [{**GORSE, "n": 1}, {**GORSE, "n": "x", "late": "1"}, {**GORSE, "n": 2.5, "late": 2}]
    path = write("a.jsonl", "\n".join(map(json.dumps, events)))
    got, _ = read(path, batch_rows=1)
    assert [(r.get("properties.n"), r.get("properties.n.text")) for r in got] == [
        (1.0, None), (None, "x"), (2.5, None),
    ]  # fmt: skip
    assert [row.get("properties.late") for row in got] == [None, "1", "2"]


TABLE = pa.table(
    {
        "user": pa.array([900, 901, None]),
        "item": pa.array([17850.0, 2.0, None]),
        "ts": pa.array([datetime(2024, 1, 31)] * 3, pa.timestamp("ns")),
        "price": [1.5, 2.5, None],
        "kind": pa.array(["buy", "buy", None], pa.large_string()).dictionary_encode(),
        "tags": pa.array([["a"], [], None], pa.large_list(pa.large_string())),
        "deep": pa.array([{"x": 1}, None, {"x": 2}]),
    }
)
COLUMNS: Mapping[str, str] = {"event_type": "kind"}


class Frame:
    """Any DataFrame with the Arrow PyCapsule interface."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return TABLE.__arrow_c_stream__(requested_schema)


def check_table(batches: list[RawBatch]) -> None:
    got = rows(batches)
    assert [row["line"] for row in got] == [1, 2, 3]
    first = {name: value for name, value in got[0].items() if name != "timestamp"}
    assert first == {
        "line": 1, "user_id": "900", "item_id": "17850", "event_type": "buy", "value": 1.5,
        "properties.tags": ["a"], "properties.deep": '{"x":1}',
    }  # fmt: skip
    assert "user_id" not in got[2]


def test_parquet_tables_and_frames(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(TABLE, path)
    refused: list[Refused] = []
    for size in (1, 2, 100):
        batches = read_file(
            path, kind="events", refuse=refused.append, columns=COLUMNS, source="t",
            batch_rows=size,
        )  # fmt: skip
        check_table(list(batches))
        for data in (TABLE, Frame(), pa.concat_tables([TABLE.slice(0, 1), TABLE.slice(1)])):
            read_data = read_table(
                data, kind="events", columns=COLUMNS, source="t", batch_rows=size
            )
            check_table(list(read_data))
    with pytest.raises(InputError, match="int is no table"):
        list(read_table(3, kind="events", source="t"))


def test_pandas() -> None:
    frame = pd.DataFrame(
        {"user": ["u1", "u2"], "ts": pd.to_datetime(["2024-01-31", "2024-02-01"]), "n": [1, 2]},
        index=[5, 9],
    )
    got = rows(list(read_table(frame, kind="events", source="t")))
    assert [(row["user_id"], row["properties.n"]) for row in got] == [("u1", 1), ("u2", 2)]
    assert set(got[0]) == {"line", "user_id", "timestamp", "event_type", "properties.n"}


def test_mappings() -> None:
    refused: list[Refused] = []
    data: list[Any] = [
        {"user_id": 7, "item_id": np.int64(8), "timestamp": datetime(2024, 1, 31), "value": 1.5},
        "no row",
        {"user_id": "u", "timestamp": 1, "value": float("nan"), "deep": {"a": {}}},
    ]
    got = rows(list(read_rows(data, kind="events", refuse=refused.append, source="t")))
    assert [(row["line"], row["user_id"], row["timestamp"]) for row in got] == [
        (1, "7", "2024-01-31T00:00:00"), (3, "u", "1"),
    ]  # fmt: skip
    assert got[0]["item_id"] == "8" and "value" not in got[1]
    assert got[1]["properties.deep"] == '{"a":{}}'
    assert [(refusal.line, refusal.rule) for refusal in refused] == [(2, "bad_row")]


def test_constants_and_content(write: Write) -> None:
    text = "user,sku,ts\nu1,tea,1\nu1,tea,1\nu1,tea,2\n"
    path = write("a.csv", text)
    refused: list[Refused] = []

    def content(**constants: str) -> list[bytes]:
        batches = read_file(
            path, kind="events", refuse=refused.append, source="t", constants=constants
        )
        return contents(list(batches))

    bought, viewed = content(event_type="purchase"), content(event_type="view")
    assert bought[0] == bought[1] != bought[2]
    assert not set(bought) & set(viewed)  # the same lines as another type are other events
    [row, *_], _ = read(path, constants={"event_type": "view", "value": "3", "shop": "north"})
    assert (row["event_type"], row["value"]) == ("view", "3")
    assert row["properties.shop"] == "north"
