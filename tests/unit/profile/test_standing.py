"""Quintiles, segments and clusters: who stands where among all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from limner.config import parse
from limner.errors import ConfigError
from limner.events.batch import DAY, EventBatch
from limner.events.raw import ITEM
from limner.profile import clusters, facets, portrait
from limner.profile.population import Population, PopulationConfig
from limner.profile.standing import SEGMENTS
from limner.profile.state import ProfileState
from limner.profile.survey import survey

CONFIG = parse({})
NOW = 20_000 * DAY
KINDS = ("tea", "coffee", "bread", "soap")


def shop(users: int, *, seed: int = 1) -> ProfileState:
    """Users who each buy of one kind; the higher a user's number, the later, oftener and more."""
    chance = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = [
        {"item_id": kind, "event_type": ITEM, "timestamp": 0, "properties.category": kind}
        for kind in KINDS
    ]
    for user in range(users):
        liked = KINDS[user % len(KINDS)]
        for visit in range(1 + user * 10 // users):
            kind = liked if chance.random() < 0.9 else str(chance.choice(KINDS))
            rows.append(
                {
                    "user_id": user.to_bytes(16, "big"),
                    "event_type": "purchase",
                    "timestamp": NOW - (users - user) * DAY // 2 - visit * DAY,
                    "item_id": kind,
                    "group_id": f"{user}.{visit}",
                    "value": 1.0 + user,
                }
            )
    state = ProfileState(facets.build(CONFIG.facet))
    state.fold(0, EventBatch.of(rows))
    return state


def seen(state: ProfileState, found: Population, user: int, now: int = NOW) -> portrait.Portrait:
    return portrait.read(state, state.rows[user.to_bytes(16, "big")], found, now, user_id="")


def test_every_pair_of_quintiles_has_one_segment() -> None:
    cells = [(r, fm) for recency, worth, _ in SEGMENTS.values() for r in recency for fm in worth]
    assert sorted(cells) == [(r, fm) for r in "12345" for fm in "12345"]


def test_a_fifth_of_users_is_in_each_quintile() -> None:
    state = shop(100)
    found = survey(state, NOW, CONFIG.population)
    for path in ("behaviour.recency_quintile", "value.monetary_quintile"):
        slots = [seen(state, found, user).slot(path) for user in range(100)]
        values = [slot.value for slot in slots if slot is not None]
        assert values == [1.0] * 20 + [2.0] * 20 + [3.0] * 20 + [4.0] * 20 + [5.0] * 20
    best, worst = seen(state, found, 99), seen(state, found, 0)
    assert [best.value["rfm"].value, worst.value["rfm"].value] == ["champions", "hibernating"]
    assert [best.value["tier"].value, worst.value["tier"].value] == ["top", "low"]
    assert "lately, often and for much" in best.value["rfm"].text
    on = best.behaviour["days_since_last_purchase"], best.behaviour["visits"], best.value["spend"]
    assert best.value["rfm"].confidence == min(slot.confidence for slot in on)


def test_who_waits_as_all_do_stays_in_the_quintile_of_the_survey() -> None:
    state = shop(100)
    found = survey(state, NOW, CONFIG.population)
    later = seen(state, found, 70, NOW + 60 * DAY).behaviour["recency_quintile"]
    assert later.value == 4.0


def test_who_comes_after_the_survey_has_a_place_too() -> None:
    state = shop(100)
    found = survey(state, NOW, CONFIG.population)
    row = {
        "user_id": b"n" * 16,
        "event_type": "purchase",
        "timestamp": NOW,
        "item_id": "soap",
        "group_id": "new",
        "value": 1.0,
    }
    state.fold(state.position, EventBatch.of([row]))
    new = portrait.read(state, state.rows[b"n" * 16], found, NOW, user_id="")
    assert new.behaviour["recency_quintile"].value == 5.0
    assert new.value["tier"].value == "low"
    assert "soap" in new.interests["cluster"].value


def test_clusters_are_the_kinds_that_users_like_and_are_named_by_them() -> None:
    state = shop(400)
    found = survey(state, NOW, CONFIG.population)
    assert found.clusters is not None
    groups = found.clusters.groups
    assert sum(group.users for group in groups) == 400
    liked = {group.name.partition(",")[0] for group in groups}
    assert liked == set(KINDS)
    right = sum(
        KINDS[user % 4] in str(seen(state, found, user).interests["cluster"].value)
        for user in range(400)
    )
    assert right >= 0.97 * 400
    for group in groups:
        best = group.marks[0]
        assert best.key in group.name
        assert best.index == pytest.approx(100 * best.share / best.overall)


def test_a_survey_is_the_same_whatever_the_order_of_rows_and_the_names_of_users() -> None:
    one = survey(shop(200), NOW, CONFIG.population)
    state = shop(200)
    other = state.scratch()
    for user, row in sorted(state.rows.items(), reverse=True):
        other.absorb(other.row_of([user[::-1]]), state, np.array([row]))
    other.position = state.position
    two = survey(other, NOW, CONFIG.population)
    assert one.clusters is not None and two.clusters is not None
    for first, second in zip(one.clusters.groups, two.clusters.groups, strict=True):
        assert (first.name, first.users) == (second.name, second.users)
        assert [m.key for m in first.marks] == [m.key for m in second.marks]
        np.testing.assert_allclose([m.index for m in first.marks], [m.index for m in second.marks])
    assert one.quantiles.keys() == two.quantiles.keys()
    kept = Population.of_tables(one.tables())
    assert kept.clusters is not None
    assert (kept.position, kept.at, kept.users) == (one.position, NOW, 200)
    assert kept.clusters.groups == one.clusters.groups
    np.testing.assert_array_equal(kept.clusters.centroids, one.clusters.centroids)


def test_users_who_lean_to_nothing_make_no_clusters() -> None:
    rows: list[dict[str, Any]] = [
        {"item_id": "tea", "event_type": ITEM, "timestamp": 0, "properties.category": "tea"}
    ]
    rows += [
        {
            "user_id": user.to_bytes(16, "big"),
            "event_type": "dislike",
            "timestamp": NOW,
            "item_id": "tea",
        }
        for user in range(30)
    ]
    state = ProfileState(facets.build(CONFIG.facet))
    state.fold(0, EventBatch.of(rows))
    assert survey(state, NOW, CONFIG.population).clusters is None


def test_a_target_group_index_is_the_share_there_over_the_share_among_all() -> None:
    marks = clusters.marks_of(["a", "b", "c"], np.array([0.6, 0.1, 0.0]), np.array([0.3, 0.2, 0.0]))
    assert [(mark.key, round(mark.index)) for mark in marks] == [("a", 200), ("b", 50)]


def test_what_is_compared_must_be_there() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'value\.spend'"):
        survey(shop(30), NOW, PopulationConfig(monetary="value.spent"))
    none = survey(shop(30), NOW, PopulationConfig())
    assert none.clusters is None
    assert "rfm" not in seen(shop(30), none, 3).value
