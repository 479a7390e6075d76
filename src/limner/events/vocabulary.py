"""The names of event types: one vocabulary inside, the field's many names at the door."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from limner.events.raw import ALIAS, CORRECTION, DELETE_ITEM, ITEM, RETRACTION, TOPIC, USER

RESERVED = frozenset({ITEM, USER, DELETE_ITEM, ALIAS, TOPIC})
"""Types that say what items and users are, not behaviour; `canonical` leaves them as they are."""

# Each canonical type with the names it goes by elsewhere, in this order where they exist: GA4,
# Segment, Snowplow, Google Retail, Recombee, Taobao, then what people write by hand. Names that
# only differ in case, spaces, underscores or hyphens are one name. Where one vendor name could
# be two types it stands at the more common one: Google's `search` is a search (not also an
# impression), Segment's "Product Reviewed" a review.
_NAMES: dict[str, tuple[str, ...]] = {
    "impression": (
        "view_item_list", "Product List Viewed", "list_view", "category-page-view",
        "impressions", "exposure", "expose", "show", "shown", "ad impression", "view promotion",
    ),
    "click": (
        "select_item", "Product Clicked", "list_click", "clicks", "clicked", "clk", "tap",
        "select promotion", "select content",
    ),
    "view": (
        "view_item", "Product Viewed", "product_view", "detail-page-view", "DetailView", "pv",
        "views", "viewed", "item view", "detail", "visit", "read", "watch", "listen",
    ),
    "add_to_cart": (
        "Product Added", "CartAddition", "cart", "add cart", "added to cart", "basket add",
        "add to basket",
    ),
    "remove_from_cart": ("Product Removed", "removed from cart", "remove from basket"),
    "checkout": ("begin_checkout", "Checkout Started", "start checkout"),
    "bookmark": (
        "add_to_wishlist", "Product Added to Wishlist", "fav", "favorite", "favourite",
        "favorites", "save", "saved", "collect", "wishlist", "add to favorites",
    ),
    "remove_bookmark": (
        "remove_from_wishlist", "Product Removed from Wishlist", "unfavorite", "unfavourite",
        "unbookmark", "unsave",
    ),
    "purchase": (
        "Order Completed", "transaction", "purchase-complete", "buy", "purchases", "purchased",
        "bought", "order", "sale",
    ),
    "refund": ("Order Refunded", "refunded", "return", "returned"),
    "coupon_redemption": (
        "Coupon Applied", "redeem coupon", "coupon redeemed", "redeem", "redemption",
        "coupon redeem",
    ),
    "rating": ("rate", "rated", "ratings", "stars"),
    "review": ("Product Reviewed", "reviewed", "comment"),
    "play": (
        "video_start", "Video Playback Started", "media-play", "start", "played", "plays",
        "Video Content Started",
    ),
    "progress": ("video_progress", "ViewPortion", "Video Content Playing", "media-progress"),
    "complete": (
        "video_complete", "Video Playback Completed", "media-complete", "completed", "finish",
        "finished", "Video Content Completed",
    ),
    "search": ("Products Searched", "site_search", "view_search_results", "searched", "query"),
    "like": ("thumbs up", "liked", "upvote", "likes"),
    "dislike": ("thumbs down", "disliked", "downvote", "not interested"),
    "share": ("Product Shared", "social", "shared", "forward", "repost"),
    "follow": ("followed", "subscribe"),
    "unfollow": ("unfollowed", "unsubscribe"),
    "session_start": ("session begin", "start session"),
    "session_end": ("session stop", "end session"),
    "consent": ("consent given", "consent updated"),
    "interaction": ("interact", "interacted"),
    ALIAS: ("alias", "merge users", "link users"),
    CORRECTION: ("corrected", "event correction"),
    RETRACTION: ("retract", "retracted", "event retraction"),
}  # fmt: skip


def _fold(name: str) -> str:
    """What two names must share to be one: letters and digits, case ignored."""
    return re.sub(r"[\s_\-]+", "", name).casefold()


_CANONICAL = {_fold(alias): name for name, aliases in _NAMES.items() for alias in (name, *aliases)}

TYPES: frozenset[str] = frozenset(_NAMES)
"""The canonical types. `interaction` is an event whose source does not tell its kind."""

NEEDS_ITEM: frozenset[str] = frozenset(
    {
        "click", "view", "add_to_cart", "remove_from_cart", "bookmark", "remove_bookmark",
        "purchase", "refund", "rating", "review", "play", "progress", "complete", "like",
        "dislike", "interaction", ITEM, DELETE_ITEM,
    }
)  # fmt: skip
"""Types that say nothing without an item. An impression may be of a campaign, a coupon of none."""

DEFAULT_UNIT: Mapping[str, str] = MappingProxyType(
    {
        "add_to_cart": "money", "remove_from_cart": "money", "checkout": "money",
        "purchase": "money", "refund": "money", "coupon_redemption": "money",
        "rating": "stars", "review": "stars",
        "play": "seconds", "progress": "seconds", "complete": "share",
    }
)  # fmt: skip
"""What `value` measures where the source does not say: money, stars, seconds, or a share of 1."""

UNITS: Mapping[str, tuple[str, float]] = MappingProxyType(
    {
        "money": ("money", 1.0), "cents": ("money", 0.01), "cent": ("money", 0.01),
        "pence": ("money", 0.01), "minor": ("money", 0.01), "分": ("money", 0.01),
        "seconds": ("seconds", 1.0), "s": ("seconds", 1.0), "sec": ("seconds", 1.0),
        "ms": ("seconds", 0.001), "milliseconds": ("seconds", 0.001),
        "min": ("seconds", 60.0), "minutes": ("seconds", 60.0), "hours": ("seconds", 3600.0),
        "share": ("share", 1.0), "percent": ("share", 0.01), "%": ("share", 0.01),
        "stars": ("stars", 1.0),
    }
)  # fmt: skip
"""Units that a value may come in: the one it is kept in, and how much of that it is.

Any other unit (a currency such as EUR) is kept as it is.
"""

BY_HAND: frozenset[str] = frozenset(
    {
        "click", "view", "add_to_cart", "remove_from_cart", "bookmark", "remove_bookmark",
        "rating", "review", "play", "like", "dislike", "share", "search", "interaction",
    }
)  # fmt: skip
"""Types of which a person does one at a time; a list shows, and a till books, many at once."""

DEFAULT_WEIGHT: Mapping[str, float] = MappingProxyType(
    {
        "purchase": 1.0, "rating": 0.7, "review": 0.7, "complete": 0.7, "checkout": 0.6,
        "add_to_cart": 0.5, "bookmark": 0.5, "like": 0.5, "follow": 0.5, "share": 0.5,
        "coupon_redemption": 0.3, "play": 0.3, "progress": 0.3, "click": 0.2,
        "interaction": 0.2, "view": 0.1, "search": 0.1, "impression": 0.0, "consent": 0.0,
        "session_start": 0.0, "session_end": 0.0, "remove_from_cart": -0.3,
        "remove_bookmark": -0.3, "refund": -0.5, "unfollow": -0.5, "dislike": -1.0,
        ITEM: 0.0, USER: 0.0, DELETE_ITEM: 0.0, ALIAS: 0.0, CORRECTION: 0.0, RETRACTION: 0.0,
        TOPIC: 0.0,
    }
)  # fmt: skip
"""The worth of an event as a sign of interest in its item, from −1 (against) to 1 (for).

A purchase is the measure, 1. The others stand in the order of the effort or cost they take,
which is how implicit feedback is commonly weighed (Hu, Koren and Volinsky 2008 raise confidence
with observed effort); an impression shows what the product did, not what the user wants, so 0.
They are starting points, which a domain file may set and a fit may improve.
"""


def canonical(name: str, aliases: Mapping[str, str] | None = None) -> str:
    """The canonical type that `name` stands for; an unknown name is kept, stripped.

    `aliases` (own name → canonical) is asked first. Case, spaces, underscores and hyphens do
    not matter.

    >>> canonical("Order Completed"), canonical("DETAIL_PAGE-VIEW"), canonical(" level up ")
    ('purchase', 'view', 'level up')
    >>> canonical("level-up", {"Level up": "complete"})
    'complete'
    """
    return canonical_all([name], aliases)[0]


def canonical_all(names: Iterable[str], aliases: Mapping[str, str] | None = None) -> list[str]:
    """`canonical` of each name; meant for the few values of a dictionary column."""
    own = {_fold(key): value for key, value in (aliases or {}).items()}
    out = []
    for name in names:
        stripped = name.strip()
        if stripped in RESERVED:
            out.append(stripped)
            continue
        key = _fold(stripped)
        out.append(own.get(key) or _CANONICAL.get(key) or stripped)
    return out


def known_names() -> list[str]:
    """Every name that `canonical` knows, without case, spaces, underscores and hyphens."""
    return list(_CANONICAL)
