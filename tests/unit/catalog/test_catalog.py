"""The catalog: versions, attributes and what a late version reports, against a plain dict."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.catalog.catalog import Catalog, hash64
from limner.events.batch import I32, I64, EventBatch
from limner.events.raw import ITEM
from limner.profile.events import vocabulary
from limner.profile.state import ProfileState

Row = dict[str, Any]


def put(catalog: Catalog, *rows: Row, at: int = 0) -> list[str]:
    """Put versions; the ids of the items reported late."""
    batch = EventBatch.of({"event_type": ITEM} | row for row in rows)
    late = catalog.put(batch, np.arange(at, at + len(rows)))
    return [catalog.ids.values[item] for item in late.tolist()]


def touch(catalog: Catalog, item: str, time: int) -> None:
    catalog.touch(items(catalog, [item]), np.array([time]))


def items(catalog: Catalog, ids: list[str]) -> I32:
    return catalog.intern(np.arange(len(ids), dtype=np.int32), ids)


def texts_at(catalog: Catalog, name: str, item: str, times: list[int]) -> list[list[str]]:
    found: list[list[str]] = [[] for _ in times]
    which = np.repeat(items(catalog, [item]), len(times))
    rows, codes = catalog.codes_at(name, catalog.versions_at(which, np.array(times)))
    for row, code in zip(rows.tolist(), codes.tolist(), strict=True):
        found[row].append(catalog.words[name].values[code])
    return found


def version(item: str, time: int, **attributes: Any) -> Row:
    return {"item_id": item, "timestamp": time} | {
        f"properties.{k}": v for k, v in attributes.items()
    }


def test_the_version_valid_at_event_time_is_read_and_the_first_holds_backwards() -> None:
    catalog = Catalog()
    put(catalog, version("a", 10, brand="old"), version("a", 20, brand="new"))
    assert texts_at(catalog, "brand", "a", [0, 10, 19, 20, 99]) == [
        ["old"],
        ["old"],
        ["old"],
        ["new"],
        ["new"],
    ]


def test_versions_of_one_time_are_settled_by_position() -> None:
    for order in (1, -1):
        catalog = Catalog()
        batch = EventBatch.of(
            [{"event_type": ITEM} | version("a", 10, brand=b) for b in ("first", "second")]
        )
        rows = np.arange(2)[::order].copy()
        catalog.put(batch.take(rows), rows)
        assert texts_at(catalog, "brand", "a", [10]) == [["second"]]


def test_an_unknown_item_and_an_unknown_attribute_have_no_value() -> None:
    catalog = Catalog()
    assert catalog.versions_at(np.array([-1], np.int32), np.array([0])).tolist() == [-1]
    put(catalog, version("a", 10, brand="x"))
    assert texts_at(catalog, "brand", "b", [10]) == [[]]
    assert texts_at(catalog, "colour", "a", [10]) == [[]]
    assert catalog.describe(1) == {}


def test_an_attribute_first_seen_later_is_empty_in_earlier_versions() -> None:
    catalog = Catalog()
    put(catalog, version("a", 10, brand="x"))
    put(catalog, version("b", 10, brand="y", colour="red"), at=1)
    assert texts_at(catalog, "colour", "a", [10]) == [[]]
    assert texts_at(catalog, "colour", "b", [10]) == [["red"]]
    put(catalog, version("c", 10, brand="z"), at=2)
    assert texts_at(catalog, "colour", "c", [10]) == [[]]


def test_lists_give_every_value_once_and_the_first_stands_for_the_item() -> None:
    catalog = Catalog()
    put(
        catalog,
        version("a", 0, tags=["x", "y", "x"]),
        version("b", 0, tags=["z"]),
        version("c", 0, tags=[]),
    )
    assert texts_at(catalog, "tags", "a", [5]) == [["x", "y"]]
    assert texts_at(catalog, "tags", "b", [5]) == [["z"]]
    assert texts_at(catalog, "tags", "c", [5]) == [[]]
    words = catalog.words["tags"].values
    assert [words[code] if code >= 0 else None for code in catalog.codes_now("tags")] == [
        "x",
        "z",
        None,
    ]
    assert catalog.describe(0) == {"tags": ["x", "y"]}


def test_numbers_are_read_as_numbers_and_as_keys() -> None:
    catalog = Catalog()
    put(catalog, version("a", 0, price=2.5, size=3), version("b", 0, price=None, size=4))
    versions = catalog.versions_at(items(catalog, ["a", "b", "nowhere"]), np.zeros(3, np.int64))
    assert catalog.numbers_at("price", versions).tolist()[0] == 2.5
    assert np.isnan(catalog.numbers_at("price", versions)[1:]).all()
    assert texts_at(catalog, "size", "a", [0]) == [["3"]]
    assert catalog.describe(0) == {"price": 2.5, "size": 3.0}


@pytest.mark.parametrize(
    ("known", "event", "new", "late"),
    [
        ([], None, 10, False),  # described before anything happened
        ([], 5, 10, True),  # had events before its first version
        ([10], 15, 20, False),  # a version for the future only
        ([10], 15, 12, True),  # dated before an event
        ([10], 15, 15, True),  # at the very time of an event
        ([10], 3, 5, True),  # a new first version holds backwards, so over the event too
        ([10], None, 5, False),
    ],
)
def test_a_version_that_changes_what_an_earlier_event_meant_is_reported(
    known: list[int], event: int | None, new: int, late: bool
) -> None:
    catalog = Catalog()
    for time in known:
        put(catalog, version("a", time, brand="x"))
    if event is not None:
        touch(catalog, "a", event)
    assert put(catalog, version("a", new, brand="y"), at=9) == (["a"] if late else [])


def test_what_comes_last_in_the_log_decides_whether_an_item_is_gone() -> None:
    def rows(*kinds: str) -> list[Row]:
        return [{"event_type": k, "item_id": "a", "timestamp": 0} for k in kinds]

    for kinds, gone in ((["$item", "$delete_item"], True), (["$delete_item", "$item"], False)):
        state = ProfileState([])
        state.fold(0, EventBatch.of(rows(*kinds)))
        assert state.catalog.deleted.view.tolist() == [gone]
        assert state.catalog.available().tolist() == [not gone]
        split = ProfileState([])
        for place, kind in enumerate(kinds):
            split.fold(place, EventBatch.of(rows(kind)))
        assert split.catalog.deleted.view.tolist() == [gone]


def test_a_deleted_item_keeps_its_past() -> None:
    catalog = Catalog()
    put(catalog, version("a", 0, brand="x"))
    catalog.delete(EventBatch.of([{"item_id": "a", "event_type": "$delete_item", "timestamp": 5}]))
    assert not catalog.available()[0]
    assert texts_at(catalog, "brand", "a", [9]) == [["x"]]


def test_a_row_without_an_item_touches_no_item() -> None:
    catalog = Catalog()
    put(catalog, version("a", 0, brand="x"))
    nowhere = {"item_id": None, "timestamp": 5, "properties.brand": "y"}
    put(catalog, nowhere, at=1)
    catalog.delete(EventBatch.of([nowhere | {"event_type": "$delete_item"}]))
    assert catalog.describe(0) == {"brand": "x"}
    assert catalog.available().tolist() == [True]


def test_items_seen_or_described_are_available() -> None:
    catalog = Catalog()
    items(catalog, ["named only", "seen"])
    touch(catalog, "seen", 7)
    put(catalog, version("described", 0, brand="x"))
    assert catalog.available().tolist() == [False, True, True]


def test_an_attribute_that_is_only_asked_for_is_none() -> None:
    catalog = Catalog()
    put(catalog, version("a", 0, brand="x"))
    vocabulary("item.colour", catalog, {})
    assert catalog.attributes == ["brand"]
    assert catalog.describe(0) == {"brand": "x"}


def test_hashes_do_not_depend_on_arrival() -> None:
    one, other = Catalog(), Catalog()
    items(one, ["a", "b", "c"])
    items(other, ["c", "a"])
    items(other, ["b"])
    for text in "abc":
        codes = one.ids.code(text), other.ids.code(text)
        assert int(one.hashes.view[codes[0]]) == int(other.hashes.view[codes[1]]) == hash64(text)


# -- against a dict ----------------------------------------------------------------------------

VERSIONS = st.lists(
    st.fixed_dictionaries(
        {
            "item_id": st.sampled_from("abcde"),
            "timestamp": st.integers(0, 12),
            "properties.brand": st.sampled_from([None, "x", "y"]),
            "properties.tags": st.none() | st.lists(st.sampled_from("pqr"), max_size=3),
            "properties.price": st.none() | st.integers(0, 9).map(float),
        }
    ),
    max_size=25,
)


def reference(rows: list[Row], item: str, time: int) -> Row:
    versions = sorted((r["timestamp"], p) for p, r in enumerate(rows) if r["item_id"] == item)
    if not versions:
        return {}
    place = bisect_right(versions, (time, len(rows)))
    return rows[versions[max(place - 1, 0)][1]]


@settings(max_examples=60, deadline=None)
@given(rows=VERSIONS, cuts=st.sets(st.integers(0, 25), max_size=3), again=st.booleans())
def test_every_item_at_every_time_is_what_a_dict_says(
    rows: list[Row], cuts: set[int], again: bool
) -> None:
    catalog = Catalog()
    start = 0
    for stop in [*sorted(c for c in cuts if c < len(rows)), len(rows)]:
        if stop > start:
            put(catalog, *rows[start:stop], at=start)
        start = max(start, stop)
    if again:
        catalog = Catalog.of_tables(*catalog.tables())
        rows = [*rows, version("a", 6, brand="after") | {"properties.tags": ["p", "q"]}]
        put(catalog, rows[-1], at=len(rows) - 1)
    queries = [(item, time) for item in "abcdef" for time in range(-1, 14)]
    ids = items(catalog, [item for item, _ in queries])
    times: I64 = np.array([time for _, time in queries], dtype=np.int64)
    versions = catalog.versions_at(ids, times)
    prices = catalog.numbers_at("price", versions)
    for index, (item, time) in enumerate(queries):
        wanted = reference(rows, item, time)
        brand, tags = wanted.get("properties.brand"), wanted.get("properties.tags")
        assert texts_at(catalog, "brand", item, [time]) == [[brand] if brand else []]
        assert texts_at(catalog, "tags", item, [time]) == [list(dict.fromkeys(tags or []))]
        price = wanted.get("properties.price")
        assert np.isnan(prices[index]) if price is None else prices[index] == price
