"""The vector U of portraits: when it follows the events, and which model it is of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from limner.app import Limner
from limner.config import Config, parse
from limner.errors import ConfigError
from limner.events.batch import DAY
from limner.testing.shop import START, shop

pytest.importorskip("torch")


def settings(folder: Path, vector: str) -> Config:
    store = f"sqlite:///{folder / 'shop.db'}"
    return parse({"store": store, "clock": "events", "train": {"vector": vector}})


def opened(folder: Path, vector: str) -> Limner:
    return Limner.open(config=settings(folder, vector))


def another(user: str, n: int) -> dict[str, Any]:
    return {
        "user_id": user,
        "item_id": f"i{n}",
        "event_type": "purchase",
        "timestamp": START + (400 + n) * DAY,
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    with opened(folder, "on_read") as app:
        made = shop(users=20, items=20, trips=6)
        app.import_file(made.items, kind="items")
        app.record(made.events)
        app.train()
    return folder


def test_a_vector_follows_its_policy_and_says_when(trained: Path) -> None:
    with opened(trained, "on_read") as app:
        user = "u1"
        fresh = app.portrait(user)
        assert len(fresh.vector) >= 64 and fresh.vector_at is None
        app.record(another(user, 1))
        assert app.portrait(user).vector != fresh.vector

    with opened(trained, "every 1h") as app:
        assert app.portrait(user).vector_at is None  # never refreshed yet
        assert app.jobs().run("vector").outcome == "done"
        kept = app.portrait(user)
        assert kept.vector_at is not None and len(kept.vector) == len(fresh.vector)
        app.record(another(user, 2))
        assert app.portrait(user).vector == kept.vector
        app.jobs().run("vector")
        again = app.portrait(user)
        assert again.vector != kept.vector and again.vector_at is not None

    with opened(trained, "every 1h") as app:  # survives a restart
        assert app.portrait(user).vector == again.vector
        old = app.portrait(user).model
        app.train()
        anew = app.portrait(user)
        assert anew.model != old and anew.vector_at is None  # the old one is not shown
        assert "20 users" in app.jobs().run("vector").said
        assert app.portrait(user).vector_at is not None
        app.erase(user)
        assert not app.store.shown.holds(app.keys.pseudonym(user))


def test_a_policy_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.vector"):
        settings(tmp_path, "evry 1h")
