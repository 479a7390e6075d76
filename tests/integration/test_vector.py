"""The vector U of portraits: when it follows the events, and which model it is of."""

from __future__ import annotations

import shutil
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
from limner.model.sequence import SequenceModel
from limner.model.states import States
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


def states_of(app: Limner) -> States:
    """What the sequence model in use keeps of users."""
    scorer = app.scorer()
    assert scorer is not None
    model = scorer._blend.models["sequence"]
    assert isinstance(model, SequenceModel) and model._states is not None
    return model._states


def test_what_the_model_keeps_of_users_follows_them_and_ends_with_them(
    trained: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "copy"))
    with opened(folder, "on_read") as app, opened_without_states(trained, tmp_path) as plain:
        for n in range(3):
            for one in (app, plain):
                one.record({**another("u1", 10 + n), "event_id": f"k{n}"})
            kept, whole = (one.portrait("u1").vector for one in (app, plain))
            np.testing.assert_allclose(kept, whole, rtol=1e-5, atol=1e-5)
            app.portrait("u2")
        assert len(states_of(app)) == 2
        app.erase("u1")
        assert len(states_of(app)) == 0  # that of others is read again
        app.portrait("u2")
        assert states_of(app).get(app._row("u2")) is not None
        before = states_of(app)
        app._rebuild(lambda *_: None)
        assert states_of(app) is not before and len(states_of(app)) == 0


def opened_without_states(trained: Path, tmp_path: Path) -> Limner:
    folder = Path(shutil.copytree(trained, tmp_path / "plain"))
    return Limner.open(config=replace(settings(folder, "on_read"), states_mb=0))
