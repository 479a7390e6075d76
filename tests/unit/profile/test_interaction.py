"""Strength, interval and company of an item, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from limner.events.batch import DAY
from limner.profile.interaction import HALF_LIFE, Interaction, interaction, measures

NOW = 20_000 * DAY
MINUTE = DAY // 1440


def found(rows: list[tuple[int, int, float, int]], item: int = 0) -> Interaction:
    """Of rows (item, time, weight, group)."""
    items, times, weights, groups = (np.array(column) for column in zip(*rows, strict=True))
    return interaction(
        item,
        lambda code: f"i{code}",
        items=items.astype(np.int32),
        times=times.astype(np.int64),
        weights=weights.astype(np.float64),
        groups=groups.astype(np.int64),
        now=NOW,
    )


def test_strength_sums_weights_that_fade() -> None:
    half = int(HALF_LIFE)
    seen = found([(0, NOW - half, 1.0, 1), (0, NOW, 0.2, 2), (1, NOW, 1.0, 2)])
    assert seen.strength == pytest.approx(0.7)
    assert (seen.events, seen.sessions, seen.first, seen.last) == (2, 2, NOW - half, NOW)
    assert seen.interval == half


def test_events_of_one_basket_are_one_meeting() -> None:
    rows = [(0, NOW - 9 * DAY, 1.0, 7), (0, NOW - 9 * DAY, 1.0, 7), (0, NOW, 1.0, 8)]
    assert found(rows).interval == 9 * DAY
    assert found(rows[:2]).interval is None


def test_without_groups_a_pause_tells_sessions_apart() -> None:
    rows = [(n % 2, NOW - DAY + n * 20 * MINUTE, 1.0, 0) for n in range(4)]
    seen = found([*rows, (2, NOW, 1.0, 0)])
    assert (seen.sessions, [other.item_id for other in seen.together]) == (1, ["i1"])


def test_company_is_counted_with_how_far_it_is_from_chance() -> None:
    rows = [(0, NOW, 1.0, 1), (1, NOW, 1.0, 1), (0, NOW, 1.0, 2), (1, NOW, 1.0, 2)]
    rows += [(2, NOW, 1.0, 2), (2, NOW, 1.0, 3), (3, NOW, 1.0, 4)]
    seen = found(rows)
    first, second = seen.together
    assert (first.item_id, first.times, first.lift) == ("i1", 2, 2.0)
    assert (second.item_id, second.times, second.lift) == ("i2", 1, 1.0)
    assert seen.text == "2 events, often together with i1"


def test_an_item_the_user_never_met() -> None:
    seen = found([(0, NOW, 1.0, 1)], item=5)
    assert (seen.events, seen.strength, seen.together, seen.text) == (0, 0, (), "nothing yet")


def test_a_value_is_measured_against_its_type() -> None:
    values, types = np.array([1.0, 3.0, 5.0, np.nan, -2.0]), np.array([0, 0, 1, 1, 1])
    assert measures(values, types.astype(np.int32)) == pytest.approx(
        [np.log2(1.5), np.log2(2.5), 1, 1, 1]
    )
