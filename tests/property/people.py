"""Apps over a small random world, and what two of them must say alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from limner.app import Limner
from limner.config import parse
from limner.events.batch import DAY, SECOND
from limner.profile import portrait
from limner.profile.population import Population
from limner.recommend.scorer import history_of
from limner.testing.laws import alike

Row = dict[str, Any]
START = 1_700_000_000 * SECOND

ITEMS: list[Row] = [
    {"item_id": f"i{n}", "category": f"c{n % 3}", "type": f"t{n % 4}", "brand": f"b{n % 2}",
     "department": "d", "price": float(n + 1)}
    for n in range(6)
]  # fmt: skip


def opened(store: str = "memory:", **more: Any) -> Limner:
    given: dict[str, Any] = {"store": store, "clock": "events", "train": {"sequence": False}}
    app = Limner.open(config=parse(given | more))
    if not app.state.position:
        app.import_file(ITEMS, kind="items")
    return app


def events(users: Sequence[str], *, max_size: int = 24) -> st.SearchStrategy[list[Row]]:
    """Events of these users over two months, in any order; each with an id of its own."""
    row = st.fixed_dictionaries(
        {
            "user_id": st.sampled_from(users),
            "item_id": st.integers(0, 5).map(lambda n: f"i{n}"),
            "event_type": st.sampled_from(["purchase", "purchase", "view", "add_to_cart"]),
            "timestamp": st.integers(0, 60 * 24).map(lambda h: START + h * DAY // 24),
            "value": st.integers(1, 2000).map(lambda cents: cents / 100),
            "quantity": st.integers(1, 4).map(float),
            "group_id": st.integers(0, 6).map(lambda n: f"g{n}"),
            "discount": st.sampled_from([0.0, 0.5]),
        }
    )
    lists = st.lists(row, min_size=1, max_size=max_size)
    return lists.map(lambda rows: [row | {"event_id": f"e{n}"} for n, row in enumerate(rows)])


def seen(app: Limner, user: str, **when: Any) -> Any:
    """Everything the facets say of a user, and the history that models read, by ids."""
    at = when.get("at", START + 90 * DAY)
    if when:
        state = app.writer.as_of(app.keys.pseudonym(user), at, when.get("known_at"))
        row = 0 if len(state) else -1
    else:
        state, row = app.state, app.known_row(user)
    said = replace(portrait.read(state, row, Population(), at, user_id=user), as_of=0)
    history = history_of(state, row, at)
    items = [state.catalog.ids.values[item] for item in history.items.tolist()]
    # positions and the hash of a group are no part of what was done
    return said, list(zip(items, history.times.tolist(), history.weights.tolist(), strict=True))


def same(one: Any, other: Any) -> None:
    """Raise AssertionError, saying where, unless alike."""
    for name, slots in one[0].sections().items():
        others = other[0].sections()[name]
        assert list(slots) == list(others)
        for slot, value in slots.items():
            assert alike(value, others[slot]), f"{name}.{slot}: {value} and {others[slot]}"
    key = sorted
    assert key(one[1]) == key(other[1])
    assert np.all(np.diff([time for _, time, _ in one[1]]) >= 0)
