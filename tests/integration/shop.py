"""A small shop for the tests of CLI and HTTP: 30 items of 5 kinds, 40 users, 90 days."""

from __future__ import annotations

import csv
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

KINDS = ("tea", "coffee", "bread", "fruit", "soap")
START = datetime(2024, 3, 1, tzinfo=UTC)


def write(folder: Path) -> None:
    """Write items.csv, users.csv and events.csv (with three rows that must be refused)."""
    chance = random.Random(7)
    _rows(
        folder / "items.csv",
        ("item_id", "title", "department", "category", "type", "brand", "price"),
        [
            (f"{kind}-{n}", f"{kind.title()} no. {n}", "food" if kind != "soap" else "home", kind,
             f"{kind} {n % 3}", ("Oma", "Private")[n % 2], 2 + n)
            for kind in KINDS
            for n in range(6)
        ],
    )  # fmt: skip
    _rows(
        folder / "users.csv",
        ("user_id", "age", "household"),
        [(f"u{n}", str(20 + n), ("single", "family")[n % 2]) for n in range(40)],
    )
    events: list[tuple[object, ...]] = []
    for user in range(40):
        liked = KINDS[user % 5]
        for trip in range(12):
            day = START + timedelta(days=trip * 7 + chance.random() * 5)
            for _ in range(3):
                kind = liked if chance.random() < 0.7 else chance.choice(KINDS)
                n = chance.choice((0, 0, 0, 1, 2, 3, 4, 5))
                what = "purchase" if chance.random() < 0.8 else "view"
                price = 2 + n if what == "purchase" else ""
                events.append(
                    (f"u{user}", f"{kind}-{n}", what, day.isoformat(), price, f"b{user}.{trip}")
                )
    events.sort(key=lambda row: str(row[3]))
    events += [
        ("", "tea-0", "view", START.isoformat(), "", ""),
        ("u1", "tea-0", "view", "yesterday", "", ""),
        ("u1", "tea-0", "purchase", START.isoformat(), "two", ""),
    ]
    names = ("user_id", "item_id", "event_type", "timestamp", "value", "basket_id")
    _rows(folder / "events.csv", names, events)


def _rows(path: Path, names: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([names, *rows])
