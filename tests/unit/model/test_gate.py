from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.errors import ConfigError
from limner.model.gate import GateConfig, judge

SMALL = GateConfig(least=2, tie=5, margin=0.05)


@st.composite
def asked(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(values of one, values of another, whose question each is)."""
    n = draw(st.integers(1, 40))
    value = st.sampled_from([0.0, 0.3, 0.5, 0.63, 1.0])
    one, other = (np.array(draw(st.lists(value, min_size=n, max_size=n))) for _ in range(2))
    return one, other, np.array(draw(st.lists(st.integers(0, 12), min_size=n, max_size=n)))


@settings(max_examples=60, deadline=None)
@given(asked(), st.floats(0.01, 0.3))
def test_what_is_worse_on_every_question_is_never_promoted(
    values: tuple[np.ndarray, np.ndarray, np.ndarray], step: float
) -> None:
    good, _, users = values
    assert not judge(good, good - step, users=users, config=SMALL).promoted
    assert not judge(good, good - step, users=users, config=replace(SMALL, margin=1.0)).promoted


@settings(max_examples=60, deadline=None)
@given(asked())
def test_of_two_never_each_is_promoted_over_the_other(
    values: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    one, other, users = values
    there = judge(one, other, users=users, config=SMALL)
    back = judge(other, one, users=users, config=SMALL)
    assert not (there.promoted and back.promoted)
    if there.difference is not None and back.difference is not None:
        assert there.difference.mean == pytest.approx(-back.difference.mean)
        assert there.difference.low == pytest.approx(-back.difference.high)


@settings(max_examples=60, deadline=None)
@given(asked(), st.integers(2, 30))
def test_nothing_is_decided_on_fewer_users_than_stated(
    values: tuple[np.ndarray, np.ndarray, np.ndarray], least: int
) -> None:
    one, other, users = values
    found = judge(one, other, users=users, config=replace(SMALL, least=least, tie=least))
    assert (found.outcome == "few") == (len(np.unique(users)) < least)
    assert not (found.outcome == "few" and found.promoted)


@settings(max_examples=60, deadline=None)
@given(asked())
def test_what_is_promoted_is_ahead_and_not_behind_by_more_than_the_margin(
    values: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    one, other, users = values
    found = judge(one, other, users=users, config=SMALL)
    if found.promoted:
        assert found.difference is not None
        assert found.difference.mean > 0
        assert found.difference.low > -SMALL.margin
        assert found.outcome == "win" or found.users >= SMALL.tie


def test_each_way_a_comparison_can_end() -> None:
    rng = np.random.default_rng(0)
    base, noise = rng.random(1_000), rng.normal(0, 0.02, 1_000)
    config = GateConfig(margin=0.005)

    def outcome(shift: float, n: int = 1_000, spread: float = 1.0) -> str:
        centred = (noise[:n] - noise[:n].mean()) * spread
        return judge(base[:n], base[:n] + centred + shift, config=config).outcome

    assert outcome(0.01) == "win"
    assert outcome(-0.01) == "worse"
    assert outcome(0.0005) == "tie"
    assert outcome(0.0005, n=300) == "unsure"  # too few users for a tie
    assert outcome(0.0005, spread=10) == "unsure"  # it may be far behind
    assert outcome(-0.0002) == "unsure"
    assert outcome(0.0) == "unsure"
    assert outcome(0.5, n=49) == "few"


def test_a_user_with_many_questions_is_one_user() -> None:
    """A hundred questions of one user say little; a lead that rests on one is no win."""
    users = np.repeat(np.arange(60), 20)
    old = np.zeros(1_200)
    new = np.where(users == 0, 1.0, -0.001)
    assert judge(old, new).outcome == "win"
    assert judge(old, new, users=users).outcome == "unsure"


def test_a_verdict_says_why() -> None:
    found = judge(np.zeros(60), np.ones(60))
    assert found.promoted
    assert found.reason == (
        "it is better beyond chance: NDCG@10 0.0000 → 1.0000, +1.0000 [+1.0000, +1.0000] over "
        "60 users"
    )
    assert judge([], []).reason == "0 of the 50 users it takes to decide have been asked"


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="2 and 3 values"):
        judge([0, 0, 0], [0, 0])
    with pytest.raises(ValueError, match="no number"):
        judge([0.0] * 60, [np.nan] * 60)
    wrong = ({"least": 1}, {"tie": 3}, {"margin": -0.1}, {"margin": 2.0}, {"level": 1.0})
    for given_ in wrong:
        with pytest.raises(ConfigError, match=next(iter(given_))):
            GateConfig(**given_).check("limner.toml [train.gate]")
