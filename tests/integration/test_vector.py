"""The vector U of portraits: when it follows the events, and which model it is of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.app import Limner
from limner.app.learning import lesson_of
from limner.config import Config, parse
from limner.errors import ConfigError
from limner.events.batch import DAY
from limner.model.network import value_bucket
from limner.profile.facets.history import octaves, worths
from limner.recommend.scorer import _translated, history_of
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


def test_what_is_served_is_what_training_reads(trained: Path) -> None:
    """Items, times, kinds, baskets and values: U and scores of the live state are the batch's."""
    with opened(trained, "on_read") as app:
        at = START + 380 * DAY
        app.record(
            [
                {"user_id": "u3", "item_id": f"i{n}", "event_type": "purchase", "timestamp": at,
                 "value": value}
                for n, value in enumerate((0.3, 900.0, None, 12.0, 1e6))
            ]
        )  # fmt: skip
        scorer = app.scorer()
        assert scorer is not None
        lesson = lesson_of(app)
        numbers = {item: n for n, item in enumerate(scorer._item_ids)}
        moved = np.array([numbers[item] for item in lesson.item_ids], dtype=np.int32)
        data = replace(lesson.data, items=moved[lesson.data.items])
        model = scorer._blend.models["sequence"]
        assert data.values is not None and np.isfinite(data.values).mean() > 0.9
        for number, user in enumerate(lesson.users):
            batch = data.history(number, app.now() + 1)
            live = history_of(app.state, app.state.rows[user], app.now() + 1)
            live = _translated(live, scorer._fitted[0])[0]
            assert live.values is not None and batch.values is not None
            np.testing.assert_array_equal(value_bucket(live.values), value_bucket(batch.values))
            np.testing.assert_array_equal(model.embed([live]), model.embed([batch]))
            np.testing.assert_array_equal(model.score([live]), model.score([batch]))
            blind = model.embed([replace(live, values=None)])
            assert np.abs(blind - model.embed([live])).max() > 1e-6  # they do count
        asked = [{"item_id": "i1", "event_type": "purchase", "timestamp": at}]
        plain, dear = (app.recommend_session([event], 5, by="sequence")
                       for event in (asked[0], {**asked[0], "value": "900"}))  # fmt: skip
        assert [item.score for item in plain.items] != [item.score for item in dear.items]


@given(st.lists(st.floats(allow_infinity=False), min_size=1))
def test_a_value_kept_to_a_power_of_two_is_read_as_it_was(values: list[float]) -> None:
    told = np.array(values)
    np.testing.assert_array_equal(value_bucket(worths(octaves(told))), value_bucket(told))


def test_a_policy_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.vector"):
        settings(tmp_path, "evry 1h")
