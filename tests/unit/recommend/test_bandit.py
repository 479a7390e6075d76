"""The bandit: sums in any order, the posterior of a plain ridge regression, honest propensities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.errors import ConfigError
from limner.events.batch import DAY, F64, I64
from limner.recommend.bandit import ITEM, NOISE, NOISE_ROWS, Beliefs, Posterior, Sums
from limner.recommend.explore import (
    Exploration,
    ExploreConfig,
    Kind,
    chosen,
    picked,
    woven,
)

D, ITEMS = 4, 7
Rows = tuple[F64, list[str], F64, I64]


def drawn(seed: int, n: int = 40) -> Rows:
    rng = np.random.default_rng(seed)
    times = rng.integers(0, 400, n) * DAY
    items = [f"i{item}" for item in rng.integers(0, ITEMS, n)]
    return rng.normal(size=(n, D)).round(3), items, rng.integers(0, 2, n).astype(float), times


def summed(rows: Rows, order: Any, half_life: float) -> Sums:
    out = Sums(D, half_life)
    contexts, items, rewards, times = rows
    for row in order:
        out.add(contexts[[row]], [items[row]], rewards[[row]], int(times[row]))
    return out


def plain(rows: Rows, half_life: float) -> tuple[F64, F64, float]:
    """(mean, covariance / σ², σ²) of θ and all item constants: ridge with a column an item."""
    contexts, items, rewards, times = rows
    weight = 2.0 ** ((times - times.max()) / half_life) if half_life else np.ones(len(times))
    own = np.array(items)[:, None] == [f"i{item}" for item in range(ITEMS)]
    x = np.hstack([contexts, own.astype(float)])
    penalty = np.diag([1.0] * D + [ITEM] * ITEMS)
    covariance = np.linalg.inv(penalty + x.T @ (weight[:, None] * x))
    mean = covariance @ (x.T @ (weight * rewards))
    left = (weight * (rewards - x @ mean) ** 2).sum() + mean @ penalty @ mean
    noise = (NOISE * NOISE_ROWS + left) / (NOISE_ROWS + weight.sum())
    return mean, covariance, float(noise)


@pytest.mark.parametrize("half_life", [0.0, 30.0 * DAY])
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_any_order_and_grouping_gives_the_same_sums(half_life: float, seed: int) -> None:
    rows, rng = drawn(seed), np.random.default_rng(seed)
    whole = Posterior.of(summed(rows, range(40), half_life))
    cuts = np.array_split(rng.permutation(40), 3)
    parts = [summed(rows, part, half_life) for part in cuts]
    a, b, c = (parts[i] for i in rng.permutation(3))
    for merged in (a.merge(b).merge(c), c.merge(a.merge(b)), Sums(D, half_life).merge(a).merge(b)
                   .merge(c)):  # fmt: skip
        again = Posterior.of(merged)
        np.testing.assert_allclose(again.mean, whole.mean, rtol=1e-9, atol=1e-12)
        assert again.noise == pytest.approx(whole.noise, rel=1e-9)
        contexts, items = rows[0][:9], rows[1][:9]
        np.testing.assert_allclose(
            again.of_items(contexts, items).sd, whole.of_items(contexts, items).sd, rtol=1e-9
        )


@pytest.mark.parametrize("half_life", [0.0, 30.0 * DAY])
@pytest.mark.parametrize("seed", range(5))
def test_the_posterior_is_that_of_a_ridge_regression_with_a_column_an_item(
    half_life: float, seed: int
) -> None:
    rows = drawn(seed)
    found = Posterior.of(summed(rows, range(40), half_life))
    mean, covariance, noise = plain(rows, half_life)
    np.testing.assert_allclose(found.mean, mean[:D], rtol=1e-8)
    assert found.noise == pytest.approx(noise, rel=1e-9)
    contexts = np.random.default_rng(seed).normal(size=(ITEMS, D))
    beliefs = found.of_items(contexts, [f"i{item}" for item in range(ITEMS)])
    x = np.hstack([contexts, np.eye(ITEMS)])
    np.testing.assert_allclose(beliefs.mean, x @ mean, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(beliefs.sd**2, noise * ((x @ covariance) * x).sum(axis=1), rtol=1e-8)
    never = found.of_items(contexts[:1], ["never shown"])
    assert never.own[0] ** 2 == pytest.approx(found.noise / ITEM)


def test_a_reward_that_grows_is_as_if_it_had_been_so_at_once() -> None:
    contexts, items, rewards, times = drawn(1)
    late, whole = Sums(D, 20.0 * DAY), Sums(D, 20.0 * DAY)
    for row in range(40):
        late.add(contexts[[row]], [items[row]], np.zeros(1), int(times[row]))
        whole.add(contexts[[row]], [items[row]], rewards[[row]], int(times[row]))
    for row in range(40):
        late.reward(contexts[row], items[row], 0.0, float(rewards[row]), int(times[row]))
    a, b = Posterior.of(late), Posterior.of(whole)
    np.testing.assert_allclose(a.mean, b.mean, rtol=1e-9)
    assert a.noise == pytest.approx(b.noise, rel=1e-9)


def test_what_was_believed_stays_so_when_rows_come_with_new_items() -> None:
    rows = drawn(2)
    sums = summed(rows, range(40), 0.0)
    found = Posterior.of(sums)
    before = found.of_items(rows[0][:2], ["i0", "new"])
    sums.add(rows[0][:1], ["new"], np.ones(1), 0)
    after = found.of_items(rows[0][:2], ["i0", "new"])
    np.testing.assert_array_equal(after.mean, before.mean)
    np.testing.assert_array_equal(after.sd, before.sd)


def test_draws_have_the_mean_and_the_covariance_of_the_posterior() -> None:
    rows = drawn(3)
    beliefs = Posterior.of(summed(rows, range(40), 0.0)).of_items(rows[0][:5], rows[1][:5])
    drawn_ = beliefs.drawn(200_000, 2.0, np.random.default_rng(0))
    np.testing.assert_allclose(drawn_.mean(axis=0), beliefs.mean, atol=0.01)
    covariance = 4 * (beliefs.root @ beliefs.root.T + np.diag(beliefs.own**2))
    np.testing.assert_allclose(np.cov(drawn_.T), covariance, atol=0.02)


def greedy_under_caps(values: F64, slots: int, kinds: list[Kind]) -> list[int]:
    """The plain way to pick one row."""
    room = [np.append(kind.room, 99) for kind in kinds]
    out: list[int] = []
    for place in np.argsort(-values, kind="stable").tolist():
        codes = [kind.codes[place] for kind in kinds]
        if len(out) < slots and all(has[c] > 0 for has, c in zip(room, codes, strict=True)):
            out.append(place)
            for has, code in zip(room, codes, strict=True):
                has[code] -= 1
    return out + [-1] * (slots - len(out))


@given(seed=st.integers(0, 2**32 - 1), slots=st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_picks_are_the_best_that_caps_leave(seed: int, slots: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(6, 12))
    kinds = [Kind(rng.integers(0, 4, 12), rng.integers(-1, 3, 3)) for _ in range(2)]
    expected = [greedy_under_caps(row, slots, kinds) for row in values]
    assert picked(values, slots, kinds).tolist() == expected


@given(seed=st.integers(0, 2**32 - 1), slots=st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_propensities_sum_to_the_slots_and_are_the_same_again(seed: int, slots: int) -> None:
    rng = np.random.default_rng(seed)
    beliefs = Beliefs(rng.normal(size=9), rng.normal(size=(9, 3)), rng.random(9))
    for policy in ("thompson", "linucb"):
        config = ExploreConfig(policy, draws=50)
        found, propensity = chosen(beliefs, slots, [], config, np.random.default_rng(seed))
        again, same = chosen(beliefs, slots, [], config, np.random.default_rng(seed))
        assert found.tolist() == again.tolist()
        assert propensity.tolist() == same.tolist()
        assert propensity.sum() == pytest.approx(slots)
        assert (propensity[found] >= (1 / 50 if policy == "thompson" else 1.0)).all()


def test_a_propensity_is_how_often_the_item_is_chosen() -> None:
    rng = np.random.default_rng(5)
    beliefs = Beliefs(rng.normal(size=8) * 0.5, rng.normal(size=(8, 3)) * 0.5, np.full(8, 0.5))
    config = ExploreConfig("thompson", draws=10)
    counts, said = np.zeros(8), np.zeros(8)
    for seed in range(3000):
        found, propensity = chosen(beliefs, 2, [], config, np.random.default_rng(seed))
        counts[found] += 1
        said += propensity
    np.testing.assert_allclose(said / 3000, counts / 3000, atol=0.03)


def exploration(config: ExploreConfig, key: str = "ab12") -> Exploration:
    sums = Sums(1)
    rng = np.random.default_rng(0)
    for item in range(30):
        sums.add(np.ones((2, 1)), [f"i{item}"] * 2, rng.random(2), 0)
    ids = [f"i{item}" for item in range(40)]
    return Exploration(config, Posterior.of(sums), lambda i: np.ones((len(i), 1)), ids, key)


@given(
    key=st.integers(0, 2**64), share=st.floats(0, 1), floor=st.floats(0, 3), first=st.integers(0, 3)
)
@settings(max_examples=60, deadline=None)
def test_guard_rails_hold(key: int, share: float, floor: float, first: int) -> None:
    config = ExploreConfig("thompson", share=share, floor=floor, draws=20)
    score = np.linspace(10, 0, 40)
    values = {item: item % 5 for item in range(40)}
    greedy = [item for item in range(40) if item // 5 < 2]
    listed, propensity = exploration(config, f"{key:x}").listed(
        greedy, range(first, 40), first, score, 1.0, [(values, 2)]
    )
    assert len(listed) == len(set(listed))
    assert listed[:first] == greedy[:first]
    assert len(set(listed) - set(greedy)) <= share * len(greedy)
    assert min(score[listed]) >= score[greedy[-1]] - floor - 1e-9
    of = [values[item] for item in listed]
    assert max(of.count(value) for value in of) <= 2
    kept = greedy[: len(greedy) - min(config.slots(len(greedy)), len(greedy) - first)]
    assert [item for item in listed if item in kept] == kept
    assert propensity.keys() == set(listed)


def test_linucb_takes_what_is_least_sure_of_equals() -> None:
    sums = Sums(1)
    for n, item in ((50, "i0"), (2, "i1"), (20, "i2")):
        sums.add(np.ones((n, 1)), [item] * n, np.full(n, 0.5), 0)
    asked = Exploration(
        ExploreConfig("linucb", share=0.5, spread=3.0),
        Posterior.of(sums),
        lambda items: np.ones((len(items), 1)),
        ["i0", "i1", "i2"],
        "1",
    )
    listed, propensity = asked.listed([0, 2], [0, 2, 1], 0, np.zeros(3), 1.0, [])
    assert set(listed) == {0, 1}
    assert propensity == {0: 1.0, 1: 1.0}


def test_explored_items_stand_anywhere_after_the_first() -> None:
    places = np.zeros(6)
    for seed in range(600):
        listed = woven([0, 1, 2, 3], [8, 9], 1, np.random.default_rng(seed))
        assert listed[0] == 0
        assert [item for item in listed if item < 8] == [0, 1, 2, 3]
        assert [item for item in listed if item >= 8] == [8, 9]
        places[listed.index(8)] += 1
        places[listed.index(9)] += 1
    np.testing.assert_allclose(places[1:] / 600, 2 / 5, atol=0.07)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"share": 1.5}, "share = 1.5 is no share"),
        ({"floor": -1.0}, "floor = -1.0 is no width"),
        ({"draws": 3}, "draws = 3 is too small"),
        ({"within": 0}, "within = 0 is too small"),
        ({"horizon": "soon"}, "horizon"),
        ({"rewards": {"click": float("nan")}}, "rewards.click"),
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ExploreConfig(**wrong).check("recommend.explore")
