"""Vectors of items made together, against the definition item by item."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.catalog.catalog import Catalog, hash64
from limner.catalog.vectors import F32, WIDTH, HashedVectors
from limner.events.batch import EventBatch
from limner.events.raw import ITEM
from limner.events.tokens import tokens

WORDS = ("green tea", "black tea", "cup", "a red cup of tea")
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "title": st.sampled_from(WORDS),
    "description": st.sampled_from(WORDS),
    "brand": st.sampled_from(["koi", "ren"]),
    "price": st.sampled_from([0.0, 1.5, 9.99, 120.0]),
    "tags": st.lists(st.sampled_from(["new", "warm", "bio"]), min_size=1, max_size=3, unique=True),
}
ITEMS = st.lists(st.fixed_dictionaries({}, optional=VALUES), min_size=1, max_size=8)


def catalog_of(described: list[dict[str, Any]]) -> Catalog:
    out = Catalog()
    rows = [
        {"event_type": ITEM, "item_id": f"i{n}", "timestamp": 1}
        | {f"properties.{name}": value for name, value in one.items()}
        for n, one in enumerate(described)
    ]
    out.put(EventBatch.of(rows), np.arange(len(rows)))
    return out


def direction(feature: str) -> list[int]:
    bits = hash64(feature) % 2**64
    return [1 if bits >> place & 1 else -1 for place in range(WIDTH)]


def defined(item: str, described: dict[str, Any]) -> np.ndarray[Any, Any]:
    total = np.zeros(WIDTH)
    for name, value in described.items():
        if name in ("title", "description"):
            found = [f"word={word}" for word in tokens(value)]
        elif isinstance(value, float):
            found = [f"{name}~{np.sign(value) * np.round(np.log2(abs(value) + 1)):g}"]
        else:
            found = [f"{name}={each}" for each in (value if isinstance(value, list) else [value])]
        for feature in found:
            total += np.array(direction(feature)) * len(found) ** -0.5
    if not total.any() and not described:
        total += np.array(direction(f"id={item}"))
    return total / max(float(np.linalg.norm(total)), 1e-12)


def asked(catalog: Catalog, items: list[int]) -> F32:
    which = np.array(items, dtype=np.int32)
    return HashedVectors().of(catalog, which, catalog.current.view[which])


@settings(max_examples=50, deadline=None)
@given(ITEMS)
def test_vectors_are_as_defined_and_do_not_depend_on_what_else_is_asked(
    described: list[dict[str, Any]],
) -> None:
    catalog = catalog_of(described)
    every = asked(catalog, [*range(len(described)), 0])  # one of them twice
    for item, one in enumerate(described):
        np.testing.assert_array_equal(every[item], asked(catalog, [item])[0])
        np.testing.assert_allclose(every[item], defined(f"i{item}", one), atol=1e-6)
    np.testing.assert_array_equal(every[-1], every[0])
