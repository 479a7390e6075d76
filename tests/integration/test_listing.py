"""Lists: families by name, conditions, steps on record, scenarios, and whoever is new."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from limner.app import Limner
from limner.config import parse
from limner.errors import ConfigError, ExpressionError, UsageError
from limner.recommend.families import LIVE
from limner.testing.shop import shop

SHOP = shop(users=60, items=60, trips=20, seed=3)
SCENARIOS = {
    "home": {"diversity": 0.5, "freshness": 0.5, "boosts": {'type == "soap"': 2.0}},
    "cart": {"n": 4, "repeats": False, "filter": "price < 3", "pinned": ["i7", "i3"]},
}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limner]:
    folder = tmp_path_factory.mktemp("listing")
    settings = {
        "store": f"sqlite:///{folder / 'shop.db'}",
        "clock": "events",
        "train": {"sequence": False},
        "scenario": SCENARIOS,
    }
    with Limner.open(config=parse(settings)) as opened:
        opened.import_file(SHOP.items, kind="items")
        opened.import_file(SHOP.users, kind="users")
        opened.import_file(SHOP.events)
        opened.refresh_population()
        opened.train()
        yield opened


def said(app: Limner, item_id: str) -> dict[str, object]:
    return app.state.catalog.describe(app.state.catalog.ids.code(item_id))


def test_each_family_alone_is_its_own_score(app: Limner) -> None:
    families = app.families()
    assert set(LIVE) < set(families)
    assert {"item_to_item", "ease", "frequency"} <= set(families)
    for name in families:
        listed = app.recommend("u1", by=name, n=12, repeats=True)
        assert listed.items, name
        assert all(set(item.parts) == {name} for item in listed.items)
        assert (listed.model is None) == (name in LIVE)


def test_several_families_add_up_as_the_blend_weighs_them(app: Limner) -> None:
    learned = app.families()
    listed = app.recommend("u1", by=["item_to_item", "neighbours"], repeats=True, caps={})
    alone = {i.item_id: i.score for i in app.recommend("u1", 60, by="item_to_item", repeats=True,
                                                       caps={}).items}  # fmt: skip
    weight = learned["item_to_item"]["next"]
    for item in listed.items:
        assert sum(item.parts.values()) == pytest.approx(item.score, rel=1e-12)
        if weight:
            assert item.parts["item_to_item"] == pytest.approx(weight * alone[item.item_id])


def test_a_family_that_is_not_there_is_an_error_that_names_the_nearest(app: Limner) -> None:
    with pytest.raises(UsageError, match="trending"):
        app.recommend("u1", by="trendin")
    with Limner.open("memory://") as empty, pytest.raises(UsageError, match="limner train"):
        empty.recommend("u1", by="ease")


@pytest.mark.parametrize(
    "condition",
    ["price < 3", 'type == "tea" or category == "food"', "not bought", 'type in ["soap", "tea"]',
     'had and item.price * 2 > 4', 'type["tea"]', "age >= 0"],
)  # fmt: skip
def test_what_is_listed_meets_the_filter_and_the_rest_is_counted(
    app: Limner, condition: str
) -> None:
    from limner.recommend.conditions import met
    from limner.recommend.scorer import history_of

    listed = app.recommend("u2", 60, filter=condition, repeats=True, caps={})
    history = history_of(app.state, app.known_row("u2"), app.now())
    mask = met(condition, app.state, history)
    ids = app.state.catalog.ids
    assert {item.item_id for item in listed.items} == {ids.values[i] for i in np.flatnonzero(mask)}
    assert listed.removed.get(f"filter {condition}", 0) == (~mask).sum()


def test_declared_attributes_stand_in_conditions(app: Limner) -> None:
    assert app.recommend("u0", filter='user.age == "18-34"').items
    assert not app.recommend("u1", filter='user.age == "18-34"').items


def test_a_filter_that_leaves_nothing_says_so(app: Limner) -> None:
    listed = app.recommend("u1", filter="price < 0")
    assert listed.items == ()
    assert "filter price < 0 removes 60 of 60" in listed.note
    with pytest.raises(ExpressionError, match="did you mean 'price'"):
        app.recommend("u1", filter="prise < 1")
    with pytest.raises(ExpressionError, match="column"):
        app.recommend("u1", filter="price <")


def test_boosts_and_freshness_are_parts_of_the_sum(app: Limner) -> None:
    plain = app.recommend("u1", 60, repeats=True, caps={})
    boosted = app.recommend("u1", 60, repeats=True, caps={}, boosts={'type == "soap"': 9.0},
                            freshness=1.0)  # fmt: skip
    for item in boosted.items:
        assert sum(item.parts.values()) == pytest.approx(item.score, rel=1e-12)
    first = [said(app, item.item_id)["type"] for item in boosted.items]
    assert first[: first.count("soap")] == ["soap"] * first.count("soap")
    spread = np.std([item.score for item in plain.items])
    assert boosted.items[0].parts['boost type == "soap"'] == pytest.approx(9 * spread)


def test_each_step_is_on_record_from_the_score_to_the_rank(app: Limner) -> None:
    asked = {"diversity": 0.6, "pinned": ["i50", "i11"], "caps": {"type": 2}, "repeats": True}
    everything = app.recommend("u4", 60, repeats=True, caps={})
    by_score = {item.item_id: item.rank for item in everything.items}
    listed = app.recommend("u4", 10, **asked)  # type: ignore[arg-type]
    assert [item.item_id for item in listed.items[:2]] == ["i50", "i11"]
    moved = set()
    for item in listed.items:
        rank = by_score[item.item_id]
        for step in item.steps:
            assert step.before == rank
            assert step.before != step.after
            rank = step.after
            moved.add(step.name)
        assert rank == item.rank
    assert moved >= {"pinned", "diversity"}
    kinds = [said(app, item.item_id)["type"] for item in listed.items[2:]]
    assert max(map(kinds.count, kinds)) <= 2


def test_diversity_makes_lists_less_alike(app: Limner) -> None:
    from limner.recommend.retrieval import vectors_for

    def alike(diversity: float) -> float:
        found = []
        for user in range(0, 60, 6):
            listed = app.recommend(f"u{user}", caps={}, diversity=diversity)
            codes = app.state.catalog.ids.find([item.item_id for item in listed.items])
            vectors = vectors_for(app.state, codes)
            found.append((vectors @ vectors.T).mean())
        return float(np.mean(found))

    assert alike(0.8) < alike(0.4) < alike(0.0)


def test_scenarios_have_settings_of_their_own_over_which_a_request_goes(app: Limner) -> None:
    cart = app.recommend("u1", scenario="cart")
    assert cart.scenario == "cart"
    assert len(cart.items) <= 4
    assert "already had" in cart.removed
    assert all(float(str(said(app, i.item_id)["price"])) < 3 for i in cart.items)
    assert len(app.recommend("u1", 2, scenario="cart").items) == 2
    both = app.recommend("u1", scenario="cart", filter='category == "food"')
    assert {"filter price < 3", 'filter category == "food"'} <= set(both.removed)
    with pytest.raises(UsageError, match="did you mean 'cart'"):
        app.recommend("u1", scenario="card")
    why = app.why("u1", "i7", scenario="home")
    assert 'boost type == "soap"' in why.parts


def test_settings_that_mean_nothing_are_refused() -> None:
    for bad in ({"diversity": 2.0}, {"n": 0}, {"boosts": {"price <": 1.0}}):
        with pytest.raises(UsageError):
            parse({"scenario": {"home": bad}})
    with pytest.raises(ConfigError, match="did you mean 'pinned'"):
        parse({"scenario": {"home": {"pined": []}}})


def test_repeats_are_learned_by_category() -> None:
    """Tea is bought every week, a film once: tea comes again, the film does not."""
    day = 86_400_000_000
    start = 1_704_067_200_000_000
    rows = [
        {"user_id": f"u{u}", "item_id": item, "event_type": "purchase",
         "timestamp": start + (7 * week + u % 5) * day}
        for u in range(30)
        for week in range(4)
        for item in (f"tea{u % 3}", f"film{(u + week) % 8}")
    ]  # fmt: skip
    with Limner.open(config=parse({"store": "memory://", "clock": "events"})) as app:
        for n in range(12):
            app.put_item(f"tea{n}", {"category": "tea"}, at=start)
            app.put_item(f"film{n}", {"category": "film"}, at=start)
        app.record(rows)
        ids = {item.item_id for item in app.recommend("u0", 24, caps={}).items}
        assert "tea0" in ids
        assert not ids & {"film0", "film1", "film2", "film3"}
        assert "film4" in ids
        assert len(app.recommend("u0", 24, caps={}, repeats=True).items) == 24


def test_trending_is_the_rate_of_the_newest_days_against_the_days_before() -> None:
    day = 86_400_000_000
    now = 1_704_067_200_000_000
    counts = {"rising": (30, 2), "steady": (40, 40), "falling": (2, 30), "rare": (1, 0)}
    rows = [
        {"user_id": f"u{n}", "item_id": item, "event_type": "purchase",
         "timestamp": now - age * day - n}
        for item, both in counts.items()
        for age, many in zip((2, 10), both, strict=True)
        for n in range(many)
    ]  # fmt: skip
    with Limner.open("memory://", clock=lambda: now) as app:
        app.record(rows)
        listed = app.recommend("nobody", by="trending")
        assert [i.item_id for i in listed.items] == ["rising", "rare", "steady", "falling"]
        assert listed.items[0].score == pytest.approx(np.log(35 / 7))


# -- whoever is new ----------------------------------------------------------------------------


def test_who_declared_the_same_is_followed_before_the_first_event() -> None:
    rows = [
        {"user_id": f"{group}{n}", "item_id": f"{group}-{n % 4}", "event_type": "purchase"}
        for group, users in (("cat", 10), ("dog", 30))
        for n in range(users)
    ]
    with Limner.open("memory://") as app:
        for row in rows:
            app.put_user(row["user_id"], {"pet": row["user_id"][:3]})
        app.record(rows)
        app.put_user("new", {"pet": "cat"})
        listed = app.recommend("new", 4, caps={})
        assert {item.item_id[:3] for item in listed.items} == {"cat"}
        assert "declared the same" in listed.note
        assert {i.item_id[:3] for i in app.recommend("nobody", 4, caps={}).items} == {"dog"}
        assert {i.item_id[:3] for i in app.recommend("new", 4, by="group").items} == {"cat"}


@pytest.mark.parametrize("trained", [True, False])
def test_the_first_second_and_third_event_each_move_the_list(app: Limner, trained: bool) -> None:
    def share(opened: Limner, user: str, kind: str) -> float:
        listed = opened.recommend(user, 10, caps={}, by=None if trained else ["portrait"])
        catalog = opened.state.catalog
        kinds = [catalog.describe(catalog.ids.code(i.item_id))["type"] for i in listed.items]
        return kinds.count(kind) / len(kinds)

    user = f"new {trained}"
    shares = [share(app, user, "cheese")]
    for item in ("i3", "i11", "i19"):  # all of them cheese
        app.record([{"user_id": user, "item_id": item, "event_type": "purchase"}])
        shares.append(share(app, user, "cheese"))
    assert shares[1] > shares[0]
    assert shares[3] >= shares[1]
    assert shares[3] >= 0.3


def test_a_new_item_of_which_only_attributes_are_known_is_reached(app: Limner) -> None:
    app.put_item("fresh tea", {"title": "tea no. 99", "type": "tea", "category": "food"})
    app.record([{"user_id": "tea lover", "item_id": f"i{n}", "event_type": "purchase"}
                for n in (1, 9, 17)])  # fmt: skip
    near = [i.item_id for i in app.recommend("tea lover", 20, by="portrait", caps={}).items]
    assert "fresh tea" in near
    assert app.recommend("tea lover", 1, by="new").items[0].item_id == "fresh tea"


def test_an_erased_user_is_gone_from_what_others_are_told() -> None:
    rows = [{"user_id": f"u{n}", "item_id": item, "event_type": "purchase"}
            for n in range(3) for item in ("a", f"only {n}")]  # fmt: skip
    with Limner.open("memory://") as app:
        app.record(rows)
        scores = {i.item_id: i.score for i in app.recommend("u0", by="neighbours").items}
        assert scores["only 2"] > 0
        app.erase("u2")
        after = {i.item_id: i.score for i in app.recommend("u0", by="neighbours").items}
        assert after.get("only 2", 0.0) == 0.0


# -- what was shown ----------------------------------------------------------------------------


def test_a_logged_list_is_one_impression_and_what_follows_is_due_to_it() -> None:
    rows = [{"user_id": f"u{n}", "item_id": f"i{n % 7}", "event_type": "purchase"}
            for n in range(40)]  # fmt: skip
    settings = {"store": "memory://", "scenario": {"home": {"n": 3}}}
    with Limner.open(config=parse(settings)) as app:
        app.record(rows)
        before = app.state.position
        app.recommend("u1")
        assert app.state.position == before
        listed = [app.recommend("u1", scenario="home", log=True) for _ in range(2)]
        other = app.recommend("u2", log=True)
        assert app.state.position == before + 3
        event = app.evidence("u1", "behaviour.shown")[0]
        assert event.recommendation_id == listed[1].recommendation_id
        assert event.properties["propensity"] == "[1.0,1.0,1.0]"
        first, _, last = listed[0].items
        for item, what in ((first, "click"), (first, "purchase"), (last, "click")):
            app.record([{"user_id": "u1", "item_id": item.item_id, "event_type": what,
                         "recommendation_id": listed[0].recommendation_id}])  # fmt: skip
        app.record([{"user_id": "u1", "item_id": "elsewhere", "event_type": "click",
                     "recommendation_id": listed[0].recommendation_id}])  # fmt: skip
        found = app.attribution()
        assert found.unknown == 1
        none, home = found.outcomes
        assert (none.scenario, none.lists, none.shown, none.events) == ("", 1, len(other.items), {})
        assert (home.scenario, home.lists, home.shown) == ("home", 2, 6)
        assert home.events == {"click": 2, "purchase": 1}
        assert home.rates == {"click": 0.5, "purchase": 0.5}


def test_what_is_passed_over_fades_and_comes_back() -> None:
    from limner.recommend.recommend import ignored
    from limner.recommend.scorer import history_of

    day = 86_400_000_000
    now = [1_704_067_200_000_000]
    rows = [{"user_id": f"u{n}", "item_id": f"i{n % 9}", "event_type": "purchase"}
            for n in range(60)]  # fmt: skip
    settings = parse({"store": "memory://", "recommend": {"fade": 1.0, "n": 3}})
    with Limner.open(config=settings, clock=lambda: now[0]) as app:
        app.record(rows)

        def fading() -> dict[str, float]:
            listed = app.recommend("u0", 9)
            for item in listed.items:
                assert sum(item.parts.values()) == pytest.approx(item.score, abs=1e-12)
            return {i.item_id: i.parts.get("passed over", 0.0) for i in listed.items}

        assert set(fading().values()) == {0.0}
        shown = [item.item_id for item in app.recommend("u0", log=True).items]
        app.recommend("u0", log=True, filter=f'item_id == "{shown[0]}"')
        once = fading()
        assert once[shown[0]] < once[shown[1]] < 0
        assert {once[item] for item in once if item not in shown} == {0.0}
        app.record([{"user_id": "u0", "item_id": shown[1], "event_type": "click"}])
        assert fading()[shown[1]] == 0.0

        def times(item: str) -> float:
            history = history_of(app.state, app.known_row("u0"), app.now())
            found = ignored(app.state, history)
            assert found is not None
            return float(found[app.state.catalog.ids.code(item)])

        assert times(shown[0]) == pytest.approx(2.0)
        now[0] += 7 * day
        assert times(shown[0]) == pytest.approx(1.0)
        assert app.recommend("nobody").items[0].parts.keys() == {"popularity"}


# -- beside an item, and without a user --------------------------------------------------------


def test_a_session_is_answered_as_a_user_with_these_events_and_leaves_no_trace(
    app: Limner,
) -> None:
    now = app.now()
    events = [{"item_id": f"i{n}", "event_type": "purchase", "timestamp": now - n * 1_000_000}
              for n in (3, 11, 2)]  # fmt: skip
    before = app.state.position
    asked = app.recommend_session(events, 8, explain=True)
    assert app.state.position == before
    assert asked.user_id == ""
    app.record([{**event, "user_id": "same events"} for event in events])
    same = app.recommend("same events", 8)
    assert [i.item_id for i in asked.items] == [i.item_id for i in same.items]
    assert [i.score for i in asked.items] == pytest.approx([i.score for i in same.items])
    named = {place for i in asked.items for reason in i.reasons for place in reason.events}
    assert named and named <= {1, 2, 3}
    assert len(app.recommend_session([], 5).items) == 5
    assert asked.refused == ()


def test_a_session_says_which_of_its_events_it_does_not_rest_on(app: Limner) -> None:
    good = {"item_id": "i3", "event_type": "purchase"}
    others: list[Any] = [
        good,
        "no event",
        {**good, "item_id": "never heard of"},
        {"event_type": "purchase"},
        {"item_id": "i3"},
        {**good, "timestamp": "the day before yesterday"},
        {**good, "event_type": "consent"},
        good,
    ]
    asked = app.recommend_session(others, 5)
    alone = app.recommend_session([good, good], 5)
    assert [(row.line, row.rule) for row in asked.refused] == [
        (2, "bad_row"), (3, "unknown_item"), (4, "missing_item"), (5, "missing_type"),
        (6, "bad_time"), (7, "no_weight"),
    ]  # fmt: skip
    assert all(row.reason for row in asked.refused)
    assert [i.item_id for i in asked.items] == [i.item_id for i in alone.items]


def test_what_is_alike_adds_up_and_what_is_new_has_neighbours_too(app: Limner) -> None:
    found = app.similar("i1", 8)
    assert [i.score for i in found.items] == sorted((i.score for i in found.items), reverse=True)
    for item in found.items:
        assert sum(item.parts.values()) == pytest.approx(item.score)
        assert item.item_id != "i1"
    app.put_item("unseen tea", {"title": "tea no. 100", "type": "tea", "category": "food"})
    kinds = [said(app, item.item_id)["type"] for item in app.similar("unseen tea", 4).items]
    assert kinds.count("tea") >= 3
    assert {said(app, i.item_id)["type"] for i in app.similar("i1", filter='type == "soap"').items
            } == {"soap"}  # fmt: skip


def test_what_was_bought_together_is_counted_by_basket() -> None:
    baskets = [["tea", "honey"]] * 6 + [["tea", "soap"]] + [["soap", "milk"]] * 5 + [["milk"]] * 8
    rows = [{"user_id": f"u{n % 5}", "item_id": item, "event_type": "purchase", "group_id": f"b{n}"}
            for n, basket in enumerate(baskets) for item in basket]  # fmt: skip
    with Limner.open("memory://") as app:
        app.record(rows)
        honey, soap = app.similar("tea", by="together").items
        assert (honey.item_id, honey.times) == ("honey", 6)
        assert honey.lift == pytest.approx(6 * 20 / (7 * 6))
        assert (soap.item_id, soap.times) == ("soap", 1)
        assert honey.score == pytest.approx(6 / np.sqrt(10 * 9))
