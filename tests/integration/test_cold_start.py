"""Whoever and whatever is new, on generated data: lists against interests that are known.

A list is worth the mean share that its items' categories have of the user's true interests.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from limner.app import Limner
from limner.config import parse
from limner.events.batch import DAY
from limner.recommend.rank import Recommendations
from limner.sources import synthetic

SHOP = synthetic.Shop(
    events=9_000, users=150, items=240, categories=12, days=60, loyalty=1.0, season=0.0, seed=4
)
END = SHOP.start + SHOP.days * DAY
TASTES = synthetic.interests(SHOP, np.arange(SHOP.users), np.full(SHOP.users, END))
"""What each user likes, (users, categories): with this loyalty it never changes."""
LIKED = TASTES.argmax(axis=1)
ASKED = range(40)
THEMES = ("baking", "garden", "fishing", "music", "chess", "running", "cycling", "painting",
          "sewing", "camping", "reading", "sailing")  # fmt: skip


@pytest.fixture(scope="module")
def app() -> Iterator[Limner]:
    settings = {"store": "memory://", "clock": "events", "train": {"sequence": False}}
    with Limner.open(config=parse(settings)) as opened:
        about = [about_of(item % SHOP.categories) for item in range(SHOP.items)]
        described = synthetic.items(SHOP).append_column("description", pa.array(about))
        opened.import_file(described, kind="items")
        for user, liked in enumerate(LIKED.tolist()):
            opened.put_user(f"u{user}", {"club": f"club {liked}"}, at=SHOP.start)
        for part in synthetic.events(SHOP):
            opened.import_file(part)
        opened.train()
        yield opened


def worth(listed: Recommendations, taste: np.ndarray) -> float:
    """The mean share of the items' categories in a taste."""
    items = [int(item.item_id.removeprefix("i")) for item in listed.items]
    return float(taste[synthetic.category_of(SHOP, np.array(items))].mean())


def about_of(category: int) -> str:
    """What an item's text says."""
    theme = THEMES[category]
    return f"{theme}: a {theme} set for {theme} lovers"


def popular(app: Limner) -> float:
    listed = app.recommend("nobody", by="popular")
    return float(np.mean([worth(listed, TASTES[user]) for user in ASKED]))


def events_of(user: int, n: int) -> list[dict[str, object]]:
    """The first n choices of somebody with this user's taste."""
    rng = np.random.default_rng(user)
    categories = rng.choice(SHOP.categories, n, p=TASTES[user])
    items = categories + SHOP.categories * rng.integers(0, 5, n)
    return [
        {"item_id": f"i{item}", "event_type": "purchase", "timestamp": END + place}
        for place, item in enumerate(items.tolist())
    ]


def test_declared_attributes_alone(app: Limner) -> None:
    found = []
    for user in ASKED:
        app.put_user(f"declared {user}", {"club": f"club {LIKED[user]}"})
        listed = app.recommend(f"declared {user}")
        assert {part for item in listed.items for part in item.parts} == {"group"}
        found.append(worth(listed, TASTES[user]))
    assert np.mean(found) > 1.5 * popular(app)


def test_a_session_without_a_user(app: Limner) -> None:
    found = [worth(app.recommend_session(events_of(user, 3)), TASTES[user]) for user in ASKED]
    assert np.mean(found) > 2 * popular(app)


def test_the_first_second_and_third_event(app: Limner) -> None:
    found = np.zeros((4, len(ASKED)))
    for user in ASKED:
        found[0, user] = worth(app.recommend(f"new {user}"), TASTES[user])
        for place, event in enumerate(events_of(user, 3)):
            app.record([{"user_id": f"new {user}", **event}])
            found[place + 1, user] = worth(app.recommend(f"new {user}"), TASTES[user])
    first, one, two, three = found.mean(axis=1).tolist()
    assert one > 1.5 * first
    assert three > two > first


@pytest.mark.parametrize("text", [True, False])
def test_a_new_item_with_text_or_attributes_alone(app: Limner, text: bool) -> None:
    """Among 12 new items, one a category, that of the category liked best comes near the top."""
    said = [
        {"title": f"novelty no. {900 + category}", "description": about_of(category)}
        if text
        else {"category": f"category {category}", "type": f"kind {category * 8}"}
        for category in range(SHOP.categories)
    ]
    names = [f"novelty {text} {category}" for category in range(SHOP.categories)]
    for name, attributes in zip(names, said, strict=True):
        app.put_item(name, attributes)
    ranks = []
    for user in ASKED:
        named = ", ".join(f'"{name}"' for name in names)
        by = "portrait" if text else "content"
        listed = app.recommend(f"u{user}", 12, by=by, caps={}, filter=f"item_id in [{named}]")
        order = [names.index(item.item_id) for item in listed.items]
        ranks.append(order.index(int(LIKED[user])) + 1)
    if text:  # one word of many, in 64 numbers
        assert np.mean(ranks) < 0.7 * (SHOP.categories + 1) / 2
    else:  # three times what a random new item would do
        assert np.mean(np.array(ranks) == 1) > 3 / SHOP.categories


def test_an_empty_shop_says_how_to_fill_it() -> None:
    with Limner.open("memory://") as empty:
        for listed in (empty.recommend("u1"), empty.recommend_session([])):
            assert listed.items == ()
            assert "limner import --items" in listed.note
