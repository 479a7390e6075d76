"""The fields of an event and the names that sources have for them; needs no library."""

from __future__ import annotations

import re
from functools import lru_cache

FIELDS = (
    "user_id", "item_id", "event_type", "timestamp", "event_id", "value", "unit",
    "quantity", "group_id", "recommendation_id", "target_user_id", "tz",
)  # fmt: skip
"""The fields of an event that a column can be; all other columns are properties."""

NAMES: dict[str, tuple[str, ...]] = {
    "user_id": (
        "userid", "user", "uid", "customerid", "customer", "householdid", "visitorid",
        "memberid", "accountid", "clientid", "learnerid", "studentid", "patientid",
        "subjectid", "reviewerid", "buyerid", "profileid", "distinctid", "anonymousid",
        "userpseudoid", "personid", "username", "userkey", "visitor", "buyer",
    ),
    "item_id": (
        "itemid", "item", "iid", "productid", "product", "sku", "movieid", "asin", "articleid",
        "newsid", "videoid", "songid", "trackid", "bookid", "courseid", "contentid", "adid",
        "offerid", "goodsid", "merchandiseid", "stockcode", "isin", "parentasin", "businessid",
        "recipeid", "clickarticleid", "itemkey", "productcode", "fundid",
    ),
    "event_type": (
        "eventtype", "event", "eventname", "action", "actiontype", "behavior", "behaviour",
        "behaviortype", "behaviourtype", "feedbacktype", "interactiontype", "activity", "verb",
    ),
    "timestamp": (
        "timestamp", "time", "ts", "eventtime", "eventtimestamp", "datetime", "createdat",
        "date", "unixtime", "unixreviewtime", "timestampms", "timestampus", "createtime",
        "occurredat", "transactiontimestamp", "transactiondate", "purchasedate", "orderdate",
        "invoicedate", "clicktimestamp", "redemptiondate", "visittime", "reviewtime",
        "creationtimestamp", "sentat", "eventdate", "ratedat", "addedat", "updatedat",
    ),
    "event_id": ("eventid", "messageid", "insertid"),
    "value": (
        "value", "eventvalue", "salesvalue", "revenue", "amount", "totalprice", "linetotal",
        "price", "rating", "overall", "score", "stars",
    ),
    "unit": ("unit", "valueunit"),
    "quantity": ("quantity", "qty", "units", "count"),
    "group_id": (
        "groupid", "basketid", "orderid", "sessionid", "session", "invoice", "invoiceno",
        "invoiceid", "transactionid", "cartid", "visitid", "gasessionid",
    ),
    "recommendation_id": ("recommendationid",),
    "target_user_id": ("targetuserid", "targetuser", "followeeid", "previousid", "previoususerid"),
    "tz": ("tz", "timezone"),
}  # fmt: skip
"""Names each field goes by, best first; case, spaces, underscores, hyphens and dots are ignored."""


def fold(name: str) -> str:
    """A column name without case, spaces, underscores, hyphens, dots and RecBole's type.

    >>> fold("USER_ID"), fold("userId"), fold("user_id:token")
    ('userid', 'userid', 'userid')
    """
    return re.sub(r"[\s_\-.]+", "", plain(name)).casefold()


@lru_cache(maxsize=4096)
def field_of(name: str) -> tuple[str, int] | None:
    """The field of an event that a column of this name is, and how good a name it is (0: best).

    >>> field_of("userId"), field_of("price"), field_of("colour")
    (('user_id', 0), ('value', 7), None)
    """
    folded = fold(name)
    for target in FIELDS:
        if folded in NAMES[target]:
            return target, NAMES[target].index(folded)
    return None


def plain(name: str) -> str:
    """A column name without the type that RecBole's atomic files add to it.

    >>> plain("user_id:token")
    'user_id'
    """
    return re.sub(r":(token|token_seq|float|float_seq)$", "", name.strip())
