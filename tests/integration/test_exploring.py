"""Lists that explore: slots, steps and propensities on record, rewards learned from the log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from limner.app import Limner
from limner.config import parse
from limner.errors import ConfigError, UsageError
from limner.events.batch import DAY, PROPERTY
from limner.recommend.bandit import Posterior, Sums
from limner.recommend.contexts import CONTEXT, WIDTH
from limner.recommend.rank import Recommendations
from limner.testing.shop import shop

SHOP = shop(users=30, items=60, trips=8, seed=3)
HOUR = 3_600_000_000


def settings(folder: Path, **explore: object) -> dict[str, object]:
    return {
        "store": f"sqlite:///{folder / 'shop.db'}",
        "clock": "events",
        "recommend": {"repeats": True, "explore": {"policy": "thompson", **explore}},
        "scenario": {"sure": {"explore": {"policy": "linucb", "share": 0.5}}},
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Limner.open(config=parse(settings(tmp_path))) as app:
        app.import_file(SHOP.items, kind="items")
        app.import_file(SHOP.events)
    return tmp_path


@pytest.fixture
def app(folder: Path) -> Iterator[Limner]:
    with Limner.open(config=parse(settings(folder))) as opened:
        yield opened


def say(app: Limner, listed: Recommendations, place: int, kind: str, after: int) -> None:
    app.record([{
        "user_id": listed.user_id, "item_id": listed.items[place].item_id, "event_type": kind,
        "timestamp": listed.at + after, "recommendation_id": listed.recommendation_id,
    }])  # fmt: skip


def believed(app: Limner) -> Posterior:
    return app.exploring.posterior(app.config.recommend.explore)


def rows(app: Limner) -> float:
    [read] = app.exploring._read.values()
    return read.feedback.sums.rows


def test_a_list_that_is_not_logged_does_not_explore(app: Limner) -> None:
    listed = app.recommend("u1")
    assert all(item.propensity == 1.0 for item in listed.items)
    assert not any(step.name == "explore" for item in listed.items for step in item.steps)


def test_slots_steps_and_propensities_are_on_record(app: Limner) -> None:
    plain = [item.item_id for item in app.recommend("u1").items]
    seen = set()
    for _ in range(8):
        listed = app.recommend("u1", log=True)
        less = [item for item in listed.items if item.propensity < 1.0]
        seen |= {item.item_id for item in less}
        assert len(listed.items) == 10
        assert len(less) <= 2
        assert sum(item.propensity == 1.0 for item in listed.items) >= 8
        for item in listed.items:
            for before, step in zip(item.steps, item.steps[1:], strict=False):
                assert step.before == before.after
            assert not item.steps or item.steps[-1].after == item.rank
    assert len(seen) > 2
    assert seen - set(plain)


def test_what_is_logged_is_what_was_said(app: Limner) -> None:
    listed = app.recommend("u3", log=True)
    [batch] = [
        batch
        for _, batch in app.store.log.read(app.state.position - 1, app.state.position)
        if len(batch)
    ]
    said = {
        name: msgspec.json.decode(batch.array(PROPERTY + name).to_pylist()[0])
        for name in ("shown", "propensity", "contexts")
    }
    assert said["shown"] == [item.item_id for item in listed.items]
    assert said["propensity"] == [item.propensity for item in listed.items]
    assert np.shape(said["contexts"]) == (10, WIDTH)
    assert all(row[CONTEXT.index("one")] == 1.0 for row in said["contexts"])
    plain = app.recommend("u3", scenario="sure", log=True)
    assert all(item.propensity == 1.0 for item in plain.items)


def test_a_reward_counts_at_once_and_its_absence_after_the_horizon(app: Limner) -> None:
    listed = app.recommend("u1", log=True)
    believed(app)
    assert rows(app) == 0.0
    say(app, listed, 0, "view", HOUR)
    say(app, listed, 0, "purchase", 2 * HOUR)
    say(app, listed, 1, "purchase", 2 * DAY)  # past the horizon, as all else is now
    first = believed(app)
    assert rows(app) == 10.0
    [read] = app.exploring._read.values()
    assert read.feedback.sums.squares == pytest.approx(1.0)
    item = [listed.items[0].item_id, listed.items[1].item_id]
    one = np.zeros((2, WIDTH))
    one[:, 0] = 1.0
    high, low = first.of_items(one, item).mean
    assert high > low


def test_read_again_from_the_log_it_is_the_same(folder: Path, app: Limner) -> None:
    rng = np.random.default_rng(0)
    for number in range(12):
        listed = app.recommend(f"u{number}", log=True)
        believed(app)  # in pieces, as it comes
        for place in np.flatnonzero(rng.random(10) < 0.3).tolist():
            say(app, listed, place, "click", HOUR * (1 + place))
    live, gone = believed(app), rows(app)
    app.close()
    with Limner.open(config=parse(settings(folder))) as again:
        replayed = believed(again)
        assert rows(again) == pytest.approx(gone)
        np.testing.assert_allclose(replayed.mean, live.mean, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(replayed.root, live.root, rtol=1e-9, atol=1e-12)
        assert replayed.noise == pytest.approx(live.noise, rel=1e-9)


def test_who_is_erased_has_taught_nothing(app: Limner) -> None:
    listed = app.recommend("u1", log=True)
    say(app, listed, 0, "purchase", HOUR)
    nothing = Posterior.of(Sums(WIDTH))
    assert not np.allclose(believed(app).mean, nothing.mean)
    app.erase("u1")
    np.testing.assert_array_equal(believed(app).mean, nothing.mean)


def test_what_is_chosen_again_and_again_is_listed_more(app: Limner) -> None:
    """One item that nobody would be shown by score is always bought when shown."""
    config = app.config.recommend
    wide = replace(config.explore, floor=50.0, share=0.5, horizon="1h", within=60)
    app.config = replace(app.config, recommend=replace(config, explore=wide, caps={}, fade=0.0))
    worst = app.recommend("u2", 60).items[-1].item_id
    shown = []
    for number in range(60):
        listed = app.recommend(f"u{number % 30}", log=True)
        ids = [item.item_id for item in listed.items]
        shown.append(worst in ids)
        place = ids.index(worst) if worst in ids else 0
        say(app, listed, place, "purchase" if worst in ids else "search", HOUR // 2)
        app.record([{"user_id": "u29", "event_type": "search", "timestamp": listed.at + 2 * HOUR}])
    assert sum(shown[40:]) > 15
    assert sum(shown[40:]) > sum(shown[:20])


def test_a_wrong_setting_says_how_to_mend_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'policy'"):
        parse(settings(tmp_path, polisy="off"))
    with pytest.raises(ConfigError, match=r"explore\.share = 2"):
        parse(settings(tmp_path, share=2.0))
    with pytest.raises(ConfigError, match="thomson"):
        parse(settings(tmp_path, policy="thomson"))


def test_the_policy_learns_from_logged_lists_and_is_a_family_of_its_own(app: Limner) -> None:
    pytest.importorskip("torch")
    from limner.app.learning import lesson_of, publish
    from limner.app.rewarding import decisions, with_policy
    from limner.model.blend import Blend
    from limner.model.network import SequenceConfig
    from limner.model.sequence import SequenceModel

    first = app.recommend("u1", log=True)
    say(app, first, 2, "click", HOUR)
    say(app, first, 2, "purchase", 2 * HOUR)
    second = app.recommend("u2", log=True, scenario="sure")
    lesson = lesson_of(app)
    found = decisions(app, lesson)
    assert len(found) == 20
    assert found.rewards.tolist() == [0.0, 0.0, 1.0, *[0.0] * 17]
    ids = [lesson.item_ids[item] for item in found.items.tolist()]
    assert ids == [item.item_id for listed in (first, second) for item in listed.items]
    for item, chance in zip(first.items, found.propensities[:10].tolist(), strict=True):
        assert chance == pytest.approx(item.propensity / 10) or item.propensity == 1.0
    assert np.isnan(found.propensities[10:]).all()
    assert len(found.histories[0]) > 0
    assert found.histories[0].times.max() < first.at
    trunk = SequenceModel(SequenceConfig(depth=1, passes=1))
    trunk.fit(lesson.data, lesson.attributes, progress=lambda *_: None)
    blend = Blend({"sequence": trunk}, {"next": {"sequence": 1.0}, "new": {"sequence": 1.0}})
    publish(
        app, with_policy(app, blend, lesson, lambda *_: None), lesson, made="trained", parents=[]
    )
    plain, policy = app.recommend("u1", by="sequence"), app.recommend("u1", by="policy")
    assert app.families()["policy"] == {"next": 0.0, "new": 0.0}
    assert {part for item in policy.items for part in item.parts} == {"policy", "passed over"}
    assert [item.score for item in policy.items] != [item.score for item in plain.items]
    with pytest.raises(UsageError, match=r"train\.sequence"):
        with_policy(app, Blend({}, blend.weights), lesson, lambda *_: None)
