"""Where a user stands among all: percentiles, tiers, and independence of arrival."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from limner.events.batch import DAY, EventBatch
from limner.profile import portrait
from limner.profile.facet import FacetConfig
from limner.profile.facets import build
from limner.profile.population import Population
from limner.profile.state import ProfileState
from limner.profile.survey import survey

NOW = 20_000 * DAY
SPEND = build([FacetConfig("spend", "sum", "value")])


def spent(amounts: dict[int, float]) -> ProfileState:
    rows: list[dict[str, Any]] = [
        {
            "user_id": user.to_bytes(16, "big"),
            "event_type": "purchase",
            "timestamp": NOW,
            "value": amount,
        }
        for user, amount in amounts.items()
    ]
    state = ProfileState(SPEND)
    state.fold(0, EventBatch.of(rows))
    return state


def place(state: ProfileState, user: int) -> tuple[float | None, str | None]:
    population = survey(state, NOW)
    row = state.rows[user.to_bytes(16, "big")]
    slot = portrait.read(state, row, population, NOW, user_id="").value["spend"]
    return slot.percentile, slot.tier


def test_a_percentile_is_the_share_of_users_below() -> None:
    state = spent({user: float(user) for user in range(1, 101)})
    for user, tier in ((1, "low"), (30, "low"), (50, "middle"), (80, "high"), (100, "top")):
        share, named = place(state, user)
        assert share == pytest.approx((user - 0.5) / 100, abs=0.01)
        assert named == tier


def test_users_alike_are_all_in_the_middle() -> None:
    state = spent(dict.fromkeys(range(50), 7.0))
    assert place(state, 3) == (0.5, "middle")


def test_few_users_have_no_places() -> None:
    assert place(spent({user: float(user) for user in range(19)}), 3) == (None, None)


def test_nobody_and_a_user_without_a_row() -> None:
    state = ProfileState(SPEND)
    population = survey(state, NOW)
    assert (population.users, population.quantiles) == (0, {})
    assert portrait.read(state, -1, population, NOW, user_id="x").sections() == {
        name: {} for name in ("basic", "behaviour", "interests", "value")
    }


def test_quantiles_are_exact_and_do_not_depend_on_arrival() -> None:
    amounts = {user: float(user) for user in range(3_001)}
    one, other = spent(amounts), spent(dict(reversed(list(amounts.items()))))
    grids = [survey(state, NOW).quantiles["spend"] for state in (one, other)]
    np.testing.assert_array_equal(grids[0], grids[1])
    np.testing.assert_allclose(grids[0], np.linspace(0, 3_000, 201))


def test_many_percentiles_are_as_one() -> None:
    population = survey(spent({user: float(user % 30) for user in range(100)}), NOW)
    values = np.array([-1.0, 0.0, 7.5, 8.0, 29.0, 99.0])
    one = [population.percentile("spend", value) for value in values.tolist()]
    assert population.percentiles("spend", values).tolist() == one
    assert np.isnan(population.percentiles("nothing", values)).all()
    assert np.isnan(Population().percentiles("spend", values)).all()
