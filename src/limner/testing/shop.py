"""A small shop with tastes and habits, generated from a seed; for tests and examples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from limner.events.batch import DAY, SECOND

START = 1_704_067_200 * SECOND  # 2024-01-01 UTC
KINDS = ("coffee", "tea", "bread", "cheese", "soap", "cat food", "apples", "paper")


@dataclass(frozen=True, slots=True)
class Shop:
    """Tables under the names of Limner's own columns."""

    items: pa.Table
    users: pa.Table
    events: pa.Table


def shop(users: int = 60, items: int = 80, trips: int = 20, *, seed: int = 0) -> Shop:
    """A shop whose users each like two kinds of things and buy their favourites again.

    `trips` is the mean number of visits a user over a year; a visit has one to five lines.
    """
    rng = np.random.default_rng(seed)
    kind = np.arange(items) % len(KINDS)
    price = np.round(np.exp(rng.normal(1.0, 0.5, items)), 2)
    catalog = pa.table(
        {
            "item_id": [f"i{number}" for number in range(items)],
            "title": [f"{KINDS[k]} no. {number}" for number, k in enumerate(kind)],
            "type": [KINDS[k] for k in kind],
            "category": ["food" if k < 4 or k == 6 else "household" for k in kind],
            "department": ["grocery"] * items,
            "brand": ["store brand" if number % 3 == 0 else "maker" for number in range(items)],
            "price": price,
        }
    )
    people = pa.table(
        {
            "user_id": [f"u{number}" for number in range(users)],
            "age": [["18-34", "35-54", "55+"][number % 3] for number in range(users)],
        }
    )
    rows: dict[str, list[object]] = {
        name: []
        for name in ("user_id", "item_id", "event_type", "timestamp", "value", "quantity",
                     "basket_id", "discount", "event_id")
    }  # fmt: skip
    popularity = 1 / np.arange(1, items + 1) ** 0.8
    for user in range(users):
        liked = rng.choice(len(KINDS), 2, replace=False)
        taste = popularity * np.where(np.isin(kind, liked), 8.0, 1.0)
        favourites = rng.choice(items, 4, replace=False, p=taste / taste.sum())
        for trip in range(1 + rng.poisson(trips)):
            moment = START + int(rng.uniform(0, 365 * DAY))
            for _ in range(1 + rng.integers(5)):
                again = rng.random() < 0.5
                item = int(rng.choice(favourites if again else items, p=None if again
                                      else taste / taste.sum()))  # fmt: skip
                quantity = int(1 + rng.poisson(0.3))
                off = round(float(price[item]) * quantity * 0.1, 2) if rng.random() < 0.2 else 0.0
                rows["user_id"].append(f"u{user}")
                rows["item_id"].append(f"i{item}")
                rows["event_type"].append("purchase")
                rows["timestamp"].append(moment)
                rows["value"].append(round(float(price[item]) * quantity - off, 2))
                rows["quantity"].append(quantity)
                rows["basket_id"].append(f"u{user}b{trip}")
                rows["discount"].append(off)
                rows["event_id"].append(f"e{len(rows['event_id'])}")
    table = pa.table(rows)
    return Shop(catalog, people, table.sort_by("timestamp"))
