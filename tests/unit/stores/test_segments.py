from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from limner.errors import StoreCorrupt
from limner.events.batch import EventBatch
from limner.stores import segments
from limner.stores.segments import compact, decode, emptied, encode, time_range, without_target
from limner.testing.contracts import ANN, BEN, batch, row

WIDE = EventBatch.of([row(n, (ANN, BEN)[n % 2], properties_size=f"s{n}") for n in range(1000)])


def test_a_blob_holds_its_rows() -> None:
    assert [EventBatch(table) for table in decode(encode([WIDE]))] == [WIDE]
    assert decode(encode([])) == []


def test_a_large_blob_is_compressed() -> None:
    assert len(encode([WIDE])) < WIDE.table.nbytes / 2


def test_one_column_is_read_alone() -> None:
    body = encode([batch(row(1, tz="UTC")), WIDE])
    assert [table.column_names for table in decode(body, ["digest"])] == [["digest"]]
    first = decode(encode([batch(row(1))]), ["tz"])
    assert ["tz" in table.column_names for table in first] == [False]
    assert len(first[0]) == 1


def test_properties_that_agree_in_type_share_a_stream() -> None:
    parts = [batch(row(n, properties_size=size)) for n, size in enumerate(["M", "L", None, 38, 39])]
    assert [len(table) for table in decode(encode(parts))] == [3, 2]


@pytest.mark.parametrize("cut", [1, 100, 4000])
def test_what_is_no_blob_is_corrupt(cut: int) -> None:
    with pytest.raises(StoreCorrupt, match="does not decode"):
        decode(encode([WIDE])[:-cut] + b"x")


def test_dictionaries_hold_what_is_used() -> None:
    few = compact(WIDE.table.slice(10, 2))
    assert EventBatch(few) == WIDE.slice(10, 12)
    for name in ("item_id", "user_id", "event_type"):
        column = few.column(name).combine_chunks()
        assert sorted(column.dictionary.to_pylist()) == sorted(set(column.to_pylist()))
    small = (
        pa.array(["a", "b", "c"]).dictionary_encode().cast(pa.dictionary(pa.int8(), pa.string()))
    )
    table = compact(pa.table({"properties.x": small}).slice(1, 1))
    assert table.column(0).combine_chunks().dictionary.to_pylist() == ["b"]


def test_emptied_rows_leave_the_others_alone() -> None:
    rows = np.arange(1000) % 3 == 0
    left = emptied(WIDE, rows, forget=False)
    assert left.take(~rows) == WIDE.take(~rows)
    assert left.array("digest") == WIDE.array("digest")
    assert left.live().tolist() == (~rows).tolist()
    assert emptied(WIDE, rows, forget=True).array("digest").null_count == rows.sum()
    about = batch(row(1, target_user_id=BEN), row(2, target_user_id=ANN))
    gone = without_target(about, np.array([True, False]))
    assert gone.array("target_user_id").to_pylist() == [None, ANN]
    assert gone.array("user_id").to_pylist() == [ANN, ANN]


def test_the_range_of_times() -> None:
    assert time_range([WIDE]) == (1_700_000_000_000_000, 1_700_000_000_000_999)
    assert time_range([batch(row(1, timestamp=None)), batch(row(2, timestamp=7))]) == (7, 7)
    assert time_range([]) == (None, None)


def test_segments_of_many_properties_stay_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [batch(row(n) | {f"properties.p{n}": float(n)}) for n in range(40)]
    [whole] = segments.joined(parts)
    monkeypatch.setattr(segments, "CELLS", 50)
    several = list(segments.joined(parts))
    assert len(several) > 4
    assert max(len(each) * len(each.properties) for each in several) <= 50
    assert [
        {name: value for name, value in found.items() if value is not None}
        for each in several
        for found in each.to_pylist()
    ] == [
        {name: value for name, value in found.items() if value is not None}
        for found in whole.to_pylist()
    ]
