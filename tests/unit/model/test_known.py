from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.model.small import shop, silent

from limner.events.batch import DAY
from limner.metrics.splits import Truth
from limner.model.blend import LEAST, TASKS, Blend, Candidates, Task, learn_apart, total
from limner.model.frequency import Frequency
from limner.model.item_to_item import ItemToItem
from limner.model.known import AMOUNTS, LENGTH, VISIT, amount, forgotten, visits
from limner.model.popularity import Popularity
from limner.model.protocol import History, Model
from limner.model.training import weights_apart

DATA, FEATURES = shop()
NOW = 101 * DAY
PARTS: dict[str, Model] = {
    "popularity": Popularity(),
    "frequency": Frequency(),
    "item_to_item": ItemToItem(),
}
for _model in PARTS.values():
    _model.fit(DATA, FEATURES, progress=silent)
USUAL = {"popularity": 0.5, "frequency": 2.0, "item_to_item": 0.25}
ONE = {"popularity": 3.0, "frequency": 0.0, "item_to_item": 0.125}


def last(n: int, user: int = 0) -> History:
    """The newest n events of a user, the last of them an hour or more ago."""
    whole = DATA.history(user, NOW)
    return whole.without(np.arange(len(whole) - n))


@pytest.mark.parametrize(
    ("events", "known"),
    [
        (0, "nothing"),
        (1, "1 event"),
        (2, "2 events"),
        (3, "3 to 5 events"),
        (5, "3 to 5 events"),
        (6, None),
        (40, None),
    ],
)
def test_how_much_is_known_goes_by_the_number_of_events(events: int, known: str | None) -> None:
    assert amount(last(events)) == known


@pytest.mark.parametrize("events", [1, 4, 12])
def test_what_began_within_half_an_hour_is_a_visit(events: int) -> None:
    history = last(events)
    just = replace(history, times=np.full(events, NOW - LENGTH))
    assert amount(just) == VISIT
    assert amount(replace(just, times=just.times - 1)) == amount(history)


@given(name=st.sampled_from(list(AMOUNTS)), user=st.integers(0, 59), seed=st.integers(0, 99))
def test_of_who_is_forgotten_the_newest_events_are_left(name: str, user: int, seed: int) -> None:
    whole = DATA.history(user, NOW)
    left = forgotten(whole, name, np.random.default_rng(seed))
    assert amount(left) == name
    np.testing.assert_array_equal(left.items, whole.items[len(whole) - len(left) :])


def test_half_of_a_visit_is_known_and_half_is_to_come() -> None:
    cutoff = 50 * DAY
    truth, histories = visits(DATA, cutoff, np.random.default_rng(0))
    assert len(truth) == len(histories) == DATA.n_users
    for user, rest, history in zip(truth.users.tolist(), truth.items, histories, strict=True):
        assert amount(history) == VISIT
        assert history.times.min() >= cutoff
        rows = slice(*DATA.offsets[user : user + 2].tolist())
        basket = DATA.items[rows][DATA.groups[rows] == history.groups[0]]
        assert sorted([*history.items, *rest]) == sorted(set(basket.tolist()))


def test_without_baskets_or_sessions_there_are_no_visits() -> None:
    alone = replace(DATA, groups=np.full(len(DATA.items), -1, dtype=DATA.groups.dtype))
    truth, histories = visits(alone, 50 * DAY, np.random.default_rng(0))
    assert not len(truth) and not histories


def test_a_user_with_one_event_is_given_the_weights_of_one_event() -> None:
    blend = Blend(PARTS, {"next": USUAL, "new": USUAL, "next, 1 event": ONE})
    one, many = last(1), last(20)
    found = blend.parts([one, many], "next")
    for row, (history, weights) in enumerate([(one, ONE), (many, USUAL)]):
        for name, weight in weights.items():
            alone = PARTS[name].score([history])[0] * np.float64(weight)
            np.testing.assert_allclose(found[name][row], alone, rtol=1e-6)
    assert blend.weights_for(one, "new") == USUAL  # that task has none of its own
    assert blend.weights_for(last(2), "next") == USUAL


@given(
    sizes=st.lists(st.integers(0, 12), min_size=1, max_size=6),
    task=st.sampled_from(TASKS),
    weights=st.lists(st.floats(0, 5), min_size=18, max_size=18),
)
def test_parts_sum_to_the_score_whatever_is_known(
    sizes: list[int], task: Task, weights: list[float]
) -> None:
    names = [*TASKS, *(f"{task}, {name}" for name in AMOUNTS)]
    table = np.reshape(weights, (6, 3))
    blend = Blend(PARTS, {n: dict(zip(PARTS, row, strict=True)) for n, row in zip(names, table)})  # noqa: B905
    histories = [last(n, user) for user, n in enumerate(sizes)]
    score = blend.score(histories, task)
    np.testing.assert_array_equal(total(blend.parts(histories, task)), score)
    for row, history in enumerate(histories):
        by_hand = sum(
            weight * PARTS[name].score([history])[0].astype(np.float64)
            for name, weight in blend.weights_for(history, task).items()
        )
        np.testing.assert_allclose(score[row], by_hand, rtol=1e-5, atol=1e-5)


def test_without_an_event_a_score_is_the_same_sum() -> None:
    blend = Blend(PARTS, {"next": USUAL, "new": USUAL, "next, 1 event": ONE})
    two, one = last(2), last(1)
    found = blend.parts([two, one], "next", like=two)
    alone = PARTS["popularity"].score([one])[0] * np.float64(USUAL["popularity"])
    np.testing.assert_allclose(found["popularity"][1], alone, rtol=1e-6)


def test_weights_are_saved_and_a_model_without_any_apart_still_loads(tmp_path: Path) -> None:
    histories = [last(1), last(20)]
    usual: dict[str, dict[str, float]] = {"next": USUAL, "new": USUAL}
    for number, weights in enumerate([usual, usual | {"next, 1 event": ONE}]):
        Blend(PARTS, weights).save(tmp_path / str(number))
        loaded = Blend.load(tmp_path / str(number))
        assert loaded.weights == weights
        np.testing.assert_array_equal(
            loaded.score(histories), Blend(PARTS, weights).score(histories)
        )


def answered(n: int, knows: int, seed: int = 0) -> Candidates:
    """20 candidates of each user, of which one comes true, and one of two parts knows which."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((n, 20), dtype=bool)
    truth[np.arange(n), rng.integers(0, 20, n)] = True
    scores = rng.normal(size=(n, 20, 2)).astype(np.float32)
    scores[..., knows] += 2.0 * truth
    return Candidates(
        np.tile(np.arange(20), (n, 1)), scores, np.ones_like(truth), truth, np.ones(n, np.int64)
    )


def test_who_is_ranked_better_beyond_doubt_has_weights_of_their_own() -> None:
    usual = np.array([1.0, 0.1])
    assert learn_apart(answered(400, knows=0), np.array([1.0, 0.0])) is None
    learned = learn_apart(answered(400, knows=1), usual)
    assert learned is not None
    assert learned[1] > 3 * learned[0]


def test_too_few_users_are_weighed_as_all_are() -> None:
    assert learn_apart(answered(LEAST - 1, knows=1), np.array([1.0, 0.0])) is None


def test_weights_apart_are_learned_from_histories_of_which_the_rest_is_forgotten() -> None:
    """What all are weighed by passes over what few events tell: who buys the same again."""
    asked = [DATA.history(user, 80 * DAY) for user in range(DATA.n_users)]
    truth = Truth(np.arange(len(asked)), [np.unique(history.items[-4:]) for history in asked])
    asked = [history.without(np.arange(len(history) - 4, len(history))) for history in asked]
    usual = {"next": {"popularity": 1.0, "frequency": 0.0, "item_to_item": 0.0}}
    visiting = visits(DATA, 50 * DAY, np.random.default_rng(0))
    found = weights_apart(PARTS, usual, (truth, asked), visiting, tasks=("next",), progress=silent)
    assert set(found) <= {f"next, {name}" for name in (*AMOUNTS, VISIT)}
    assert found["next, 3 to 5 events"]["frequency"] > 0
