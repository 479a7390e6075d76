from collections.abc import Mapping, Sequence

import pytest

from limner.errors import InputError, UsageError
from limner.sources.columns import Columns, Kind, map_columns


def found(
    names: Sequence[str],
    kind: Kind = "events",
    columns: Mapping[str, str] | None = None,
    constants: Mapping[str, str] | None = None,
) -> Columns:
    return map_columns(
        names, kind=kind, columns=columns or {}, constants=constants or {}, where="shop.csv"
    )


@pytest.mark.parametrize(
    ("names", "fields", "constants"),
    [
        (
            ["USER_ID", "ITEM_ID", "TIMESTAMP", "EVENT_TYPE", "EVENT_VALUE"],
            {
                "user_id": "USER_ID", "item_id": "ITEM_ID", "timestamp": "TIMESTAMP",
                "event_type": "EVENT_TYPE", "value": "EVENT_VALUE",
            },
            {},
        ),
        (
            ["household_id", "basket_id", "product_id", "quantity", "sales_value",
             "transaction_timestamp"],
            {
                "user_id": "household_id", "item_id": "product_id", "quantity": "quantity",
                "value": "sales_value", "timestamp": "transaction_timestamp",
                "group_id": "basket_id",
            },
            {"event_type": "purchase"},
        ),
        (
            ["userId", "movieId", "rating", "timestamp"],
            {"user_id": "userId", "item_id": "movieId", "value": "rating",
             "timestamp": "timestamp"},
            {"event_type": "rating"},
        ),
        (
            ["user_id:token", "item_id:token", "timestamp:float"],
            {"user_id": "user_id:token", "item_id": "item_id:token",
             "timestamp": "timestamp:float"},
            {"event_type": "interaction"},
        ),
        (
            ["timestamp", "visitorid", "event", "itemid", "transactionid"],
            {"user_id": "visitorid", "item_id": "itemid", "event_type": "event",
             "timestamp": "timestamp", "group_id": "transactionid"},
            {},
        ),
        (
            ["FeedbackType", "UserId", "ItemId", "Value", "Timestamp"],
            {"user_id": "UserId", "item_id": "ItemId", "event_type": "FeedbackType",
             "timestamp": "Timestamp", "value": "Value"},
            {},
        ),
        (
            ["specversion", "id", "source", "type", "time", "user", "item"],
            {"user_id": "user", "item_id": "item", "event_type": "type", "timestamp": "time",
             "event_id": "id"},
            {},
        ),
        (
            ["buyer", "seen_time", "session_id", "sku"],
            {"user_id": "buyer", "item_id": "sku", "timestamp": "seen_time",
             "group_id": "session_id"},
            {"event_type": "interaction"},
        ),
    ],
)  # fmt: skip
def test_common_headers_need_no_map(
    names: list[str], fields: dict[str, str], constants: dict[str, str]
) -> None:
    columns = found(names)
    assert columns.fields == fields
    assert columns.constants == constants
    rest = set(names) - set(fields.values())
    assert set(columns.properties.values()) == rest


def test_the_callers_map_wins_and_may_name_properties() -> None:
    columns = found(
        ["user", "owner", "sku", "ts", "colour"],
        columns={"user_id": "Owner", "properties.hue": "colour", "shade": "sku"},
        constants={"event_type": "view"},
    )
    assert columns.fields == {"user_id": "owner", "timestamp": "ts"}
    assert columns.properties == {"hue": "colour", "shade": "sku", "user": "user"}
    assert columns.constants == {"event_type": "view"}


def test_missing_columns_are_an_error_that_shows_the_map_to_give() -> None:
    with pytest.raises(InputError) as error:
        found(["who", "sku", "cost"])
    assert str(error.value) == (
        "shop.csv: no column is known to be the user or the time; the columns are who, sku, cost\n"
        "  to mend it: say which it is: --map user_id=COLUMN --map timestamp=COLUMN"
    )
    assert found(["who", "at"], columns={"user_id": "who", "timestamp": "at"}).properties == {}


def test_a_map_to_no_column_is_an_error() -> None:
    with pytest.raises(UsageError, match="there is no column 'byer'; the columns are buyer, ts"):
        found(["buyer", "ts"], columns={"user_id": "byer"})


def test_items_and_users() -> None:
    items = found(["id", "Name", "genres", "brand", "price", "date"], "items")
    assert items.fields == {"item_id": "id"}
    assert items.properties == {
        "title": "Name", "genres": "genres", "brand": "brand", "price": "price", "date": "date",
    }  # fmt: skip
    assert items.lists == {"genres"}
    users = found(["id", "name", "age", "timestamp"], "users")
    assert users.fields == {"user_id": "id", "timestamp": "timestamp"}
    assert users.properties == {"name": "name", "age": "age"}


def test_recbole_lists_and_titles() -> None:
    columns = found(["item_id:token", "movie_title:token_seq", "class:token_seq"], "items")
    assert columns.properties == {"title": "movie_title:token_seq", "class": "class:token_seq"}
    assert columns.lists == {"class"}


def test_no_column_is_lost_when_names_collide() -> None:
    columns = found(["user", "ts", "a:token", "a"])
    assert columns.properties == {"a": "a:token", "a_2": "a"}
