import pytest

from limner.events.raw import DELETE_ITEM, ITEM, USER
from limner.events.vocabulary import (
    DEFAULT_UNIT,
    DEFAULT_WEIGHT,
    NEEDS_ITEM,
    RESERVED,
    TYPES,
    canonical,
    canonical_all,
)

# The alias table of the field: each vendor's own spelling.
VENDORS = {
    "impression": ["view_item_list", "Product List Viewed", "list_view", "category-page-view"],
    "click": ["select_item", "Product Clicked", "list_click"],
    "view": ["view_item", "Product Viewed", "product_view", "detail-page-view", "DetailView", "pv"],
    "add_to_cart": ["add_to_cart", "Product Added", "add-to-cart", "CartAddition", "cart"],
    "remove_from_cart": ["remove_from_cart", "Product Removed"],
    "bookmark": ["add_to_wishlist", "Product Added to Wishlist", "Bookmark", "fav"],
    "purchase": ["Order Completed", "transaction", "purchase-complete", "Purchase", "buy"],
    "refund": ["refund", "Order Refunded"],
    "rating": ["Rating"],
    "review": ["Product Reviewed"],
    "play": ["video_start", "Video Playback Started", "media-play"],
    "progress": ["video_progress", "ViewPortion"],
    "complete": ["video_complete", "media-complete"],
    "search": ["search", "Products Searched", "site_search"],
    "share": ["share", "Product Shared", "social"],
    "coupon_redemption": ["redeem coupon", "Coupon Redemption"],
}


@pytest.mark.parametrize("wanted", VENDORS)
def test_vendor_names_are_known(wanted: str) -> None:
    assert {canonical(name) for name in VENDORS[wanted]} == {wanted}


@pytest.mark.parametrize("name", ["Add To Cart", "ADD-TO-CART", "addToCart", " add_to_cart "])
def test_spelling_does_not_matter(name: str) -> None:
    assert canonical(name) == "add_to_cart"


def test_canonical_names_stand_for_themselves() -> None:
    assert canonical_all(sorted(TYPES)) == sorted(TYPES)


def test_unknown_names_are_kept_stripped() -> None:
    assert canonical("  Level Up ") == "Level Up"


def test_own_aliases_win() -> None:
    assert canonical_all(["pv", "visit"], {"PV": "impression"}) == ["impression", "view"]


def test_reserved_types_pass_untouched() -> None:
    assert canonical_all([ITEM, USER, DELETE_ITEM], {"item": "view"}) == [ITEM, USER, DELETE_ITEM]


def test_every_type_has_a_weight_within_one() -> None:
    assert set(DEFAULT_WEIGHT) == TYPES | RESERVED
    assert all(-1 <= weight <= 1 for weight in DEFAULT_WEIGHT.values())
    assert DEFAULT_WEIGHT["purchase"] == 1 and DEFAULT_WEIGHT["impression"] == 0
    assert DEFAULT_WEIGHT["dislike"] == -1


def test_units_and_needs_are_of_known_types() -> None:
    assert set(DEFAULT_UNIT) <= TYPES
    assert set(DEFAULT_UNIT.values()) == {"money", "stars", "seconds", "share"}
    assert NEEDS_ITEM <= TYPES | RESERVED
