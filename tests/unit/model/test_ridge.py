from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.model.small import shop, silent

from limner.events.batch import DAY
from limner.model.moments import owners_of
from limner.model.protocol import Interactions, ItemFeatures
from limner.model.ridge import Asked, Ridge, RidgeConfig, questions
from limner.model.taste import TasteConfig, spread
from limner.model.training import questions as first_baskets

DATA, FEATURES = shop()
NOTHING = ItemFeatures({}, {}, np.ones(0, dtype=bool))
CONFIG = RidgeConfig(ridge=2.0, taste=TasteConfig(rank=6))


def fitted(data: Interactions = DATA, config: RidgeConfig = CONFIG) -> Ridge:
    model = Ridge(config)
    model.fit(data, NOTHING, progress=silent)
    return model


MODEL = fitted()


def made(rows: Sequence[tuple[int, float, int, int]], users: int, items: int) -> Interactions:
    """Interactions of (user, day, item, group)."""
    rows = sorted(rows)
    table = np.array([(user, group, item) for user, _, item, group in rows]).reshape(-1, 3)
    counts = np.bincount(table[:, 0].astype(np.int64), minlength=users)
    return Interactions(
        np.concatenate([[0], np.cumsum(counts)]),
        table[:, 2].astype(np.int32),
        np.array([int(day * DAY) for _, day, _, _ in rows], dtype=np.int64),
        np.ones(len(rows)),
        table[:, 1].astype(np.int64),
        np.arange(len(rows)),
        items,
    )


def plainly(data: Interactions, asked: Asked) -> list[tuple[int, int, list[int]]]:
    """(user, moment, what they newly chose) one question at a time, by the rule of evaluation."""
    out = []
    for place, at in enumerate(asked.at.tolist()):
        truth, histories = first_baskets(data, at, before=at + 14 * DAY)
        for user, items, history in zip(truth.users, truth.items, histories, strict=True):
            new = np.setdiff1d(items, history.items).tolist()
            if new:
                out.append((int(user), place, new))
    return out


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 99))
def test_questions_are_those_of_evaluation(seed: int) -> None:
    data, _ = shop(users=20, items=30, seed=seed)
    asked = questions(data, CONFIG)
    items = [
        sorted(data.items[asked.rows[asked.answers == q]].tolist()) for q in range(len(asked.users))
    ]
    assert len(items) > 50
    found = zip(asked.users.tolist(), asked.moment.tolist(), items, strict=True)
    assert sorted(found) == sorted(plainly(data, asked))


def test_what_a_question_shows_is_the_history_until_then() -> None:
    asked = questions(DATA, CONFIG)
    histories = [
        DATA.history(int(user), int(asked.at[moment]))
        for user, moment in zip(asked.users, asked.moment, strict=True)
    ]
    seen = MODEL.seen(DATA, asked)
    assert (seen[:, 0] == 1).all()
    np.testing.assert_allclose(seen[:, 1:], MODEL.taste.embed(histories), atol=1e-6)


def test_coefficients_are_those_of_least_squares() -> None:
    """Against a plain reference: dense, and the penalty as rows of its own."""
    asked = questions(DATA, CONFIG)
    answers = plainly(DATA, asked)
    histories = [DATA.history(user, int(asked.at[place])) for user, place, _ in answers]
    features = np.concatenate([np.ones((len(answers), 1)), MODEL.taste.embed(histories)], axis=1)
    targets = np.zeros((len(answers), DATA.n_items))
    for row, (_, _, new) in enumerate(answers):
        targets[row, new] = 1 / np.sqrt(len(new))
    age = (DATA.times.max() + 1 - asked.at[[place for _, place, _ in answers]]) / DAY
    root = np.sqrt(0.5 ** (age / CONFIG.half_life_days))[:, None]
    penalty = np.sqrt(CONFIG.ridge) * np.eye(features.shape[1])[1:]
    expected, *_ = np.linalg.lstsq(
        np.concatenate([features * root, penalty]),
        np.concatenate([targets * root, np.zeros((len(penalty), DATA.n_items))]),
        rcond=None,
    )
    expected /= (features @ expected).std()
    np.testing.assert_allclose(MODEL.coefficients, expected.T, atol=2e-4)


@settings(max_examples=40, deadline=None)
@given(user=st.integers(0, 59), item=st.integers(0, 79), now=st.integers(20, 300))
def test_it_says_exactly_what_each_event_adds(user: int, item: int, now: int) -> None:
    history = DATA.history(user, now * DAY)
    parts = MODEL.attribute(history, np.array([item]))[0]
    assert parts.shape == (len(history),)
    empty = history.without(np.arange(len(history)))
    beyond = float(MODEL.score([history])[0, item] - MODEL.score([empty])[0, item])
    assert parts.sum() == pytest.approx(beyond, rel=1e-4, abs=1e-5)


def test_scores_are_in_units_of_their_spread() -> None:
    asked = questions(DATA, CONFIG)
    histories = [
        DATA.history(int(user), int(asked.at[moment]))
        for user, moment in zip(asked.users, asked.moment, strict=True)
    ]
    assert MODEL.score(histories).std() == pytest.approx(1.0, rel=1e-3)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 9), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_the_spread_is_that_of_the_product(n: int, items: int, rank: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors, table = rng.normal(size=(n, rank)), rng.normal(size=(items, rank))
    expected = (vectors @ table.T).std() if rank and n * items > 1 else 1.0
    assert spread(vectors, table.astype(np.float32)) == pytest.approx(expected, rel=1e-3)


def test_it_tells_what_comes_next_from_what_came_before() -> None:
    """A phone, later its case, and never the other way round: directions alone cannot tell."""
    rng = np.random.default_rng(0)
    phone, case = 0, 1
    rows = []
    for user in range(300):
        start = rng.uniform(0, 80)
        if user % 2:
            rows += [(user, start, phone, -1), (user, start + rng.uniform(1, 10), case, -1)]
        rows += [(user, rng.uniform(0, 90), int(rng.integers(2, 12)), -1) for _ in range(4)]
    data = made(rows, 300, 12)
    model = fitted(data, RidgeConfig(taste=TasteConfig(rank=8)))
    has_phone = made([(0, 89, phone, -1)], 1, 12).history(0, 90 * DAY)
    has_case = made([(0, 89, case, -1)], 1, 12).history(0, 90 * DAY)
    after_phone, after_case = model.score([has_phone, has_case])
    nothing = model.score([has_phone.without([0])])[0]
    assert np.argmax(after_phone) == case
    assert after_phone[case] - nothing[case] > 5 * (after_case[phone] - nothing[phone])


ODD = {
    "one event": made([(0, 1, 0, -1)], 1, 1),
    "one event a user": made([(u, u, u % 3, -1) for u in range(9)], 9, 3),
    "one user": made([(0, d, d % 4, d) for d in range(40)], 1, 4),
    "all at one time": made([(u, 5, i, -1) for u in range(4) for i in range(3)], 4, 3),
    "one item": made([(u, d, 0, -1) for u in range(4) for d in range(9)], 4, 1),
    "some without events": made([(3, d, d % 5, -1) for d in range(30)], 8, 9),
    "two days": made([(u, d / 9, (u + d) % 7, -1) for u in range(5) for d in range(18)], 5, 7),
    "no users": made([], 0, 4),
}


@pytest.mark.parametrize("name", ODD)
def test_it_refuses_nothing_odd(name: str, tmp_path: Path) -> None:
    data = ODD[name]
    model = fitted(data)
    histories = [data.history(user, 100 * DAY) for user in range(data.n_users)]
    scores = model.score(histories)
    assert scores.shape == (data.n_users, data.n_items)
    assert np.isfinite(scores).all()
    model.save(tmp_path)
    again = Ridge()
    again.load(tmp_path)
    assert again.config == model.config
    np.testing.assert_array_equal(again.score(histories), scores)


def test_where_little_time_has_passed_moments_lie_closer() -> None:
    asked = questions(ODD["two days"], CONFIG)
    assert len(asked.users)
    assert (np.diff(asked.at) < DAY / 8).all()


def test_where_nobody_takes_anything_new_it_says_nothing() -> None:
    same = [(user, day, user % 5, -1) for user in range(10) for day in range(0, 90, 3)]
    data = made(same, 10, 5)
    model = fitted(data)
    assert not model.score([data.history(0, 100 * DAY)]).any()


def test_what_is_never_repeated_is_all_new() -> None:
    once = [(user, item * 9.0, (item + user) % 10, -1) for user in range(30) for item in range(10)]
    data = made(once, 30, 10)
    asked = questions(data, CONFIG)
    assert len(asked.users) >= 30 * 9
    assert np.isfinite(fitted(data).score([data.history(0, 50 * DAY)])).all()


def test_refunds_are_no_answers() -> None:
    weights = np.where(np.arange(len(DATA.items)) % 3 == 0, -1.0, 1.0)
    mixed = replace(DATA, weights=weights)
    asked = questions(mixed, CONFIG)
    assert len(asked.users)
    assert (mixed.weights[asked.rows] > 0).all()
    assert np.isfinite(fitted(mixed).coefficients).all()


def test_too_many_questions_are_drawn_from() -> None:
    some = questions(DATA, replace(CONFIG, questions=100))
    every = questions(DATA, CONFIG)
    assert len(some.users) == 100 < len(every.users)
    assert len(np.unique(some.answers)) == 100
    assert set(zip(some.users, some.moment, strict=True)) < set(
        zip(every.users, every.moment, strict=True)
    )
    assert (owners_of(DATA.offsets)[some.rows] == some.users[some.answers]).all()
