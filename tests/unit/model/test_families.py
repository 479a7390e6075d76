from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.model.small import shop, silent

from limner.errors import ModelError
from limner.events.batch import DAY
from limner.model.frequency import Frequency
from limner.model.item_to_item import ItemToItem
from limner.model.moments import moments
from limner.model.popularity import Popularity
from limner.model.protocol import History, Model
from limner.model.taste import Taste
from limner.model.training import families

DATA, FEATURES = shop()
NOW = 101 * DAY
HISTORIES = [DATA.history(user, NOW) for user in range(DATA.n_users)]
NAMES = list(families(FEATURES))
CATEGORY = FEATURES.codes["category"]


@pytest.fixture(scope="module")
def fitted() -> dict[str, Model]:
    models = families(FEATURES)
    for model in models.values():
        model.fit(DATA, FEATURES, progress=silent)
    return models


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_finite_one_row_a_history(fitted: dict[str, Model], name: str) -> None:
    scores = fitted[name].score(HISTORIES)
    assert scores.shape == (60, 80)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    assert fitted[name].name == name


@pytest.mark.parametrize("name", NAMES)
def test_one_history_scores_as_it_does_among_others(fitted: dict[str, Model], name: str) -> None:
    alone = fitted[name].score(HISTORIES[7:8])
    np.testing.assert_allclose(alone[0], fitted[name].score(HISTORIES)[7], atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_history_is_scored(fitted: dict[str, Model], name: str) -> None:
    empty = HISTORIES[0].without(np.arange(len(HISTORIES[0])))
    assert np.isfinite(fitted[name].score([empty])).all()
    assert fitted[name].embed([empty]).shape[0] == 1


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_learns_the_same(fitted: dict[str, Model], name: str) -> None:
    again = families(FEATURES)[name]
    again.fit(DATA, FEATURES, progress=silent)
    np.testing.assert_array_equal(again.score(HISTORIES[:3]), fitted[name].score(HISTORIES[:3]))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_loaded_scores_as_what_was_saved(
    fitted: dict[str, Model], name: str, tmp_path: Path
) -> None:
    fitted[name].save(tmp_path)
    loaded = families(FEATURES)[name]
    loaded.load(tmp_path)
    np.testing.assert_array_equal(loaded.score(HISTORIES), fitted[name].score(HISTORIES))
    assert not list(tmp_path.glob("*.pkl"))


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_a_model_error(
    fitted: dict[str, Model], name: str, tmp_path: Path
) -> None:
    fitted[name].save(tmp_path)
    for path in [*tmp_path.glob("*.npy"), *tmp_path.glob("*.safetensors")]:
        path.unlink()
    with pytest.raises(ModelError):
        families(FEATURES)[name].load(tmp_path)


@pytest.mark.parametrize("name", ["item_to_item", "content", "sequence"])
def test_a_taste_is_learned(fitted: dict[str, Model], name: str) -> None:
    """Items of the category a user likes score higher than the others, for most users."""
    if name not in fitted:
        pytest.importorskip("torch")
    scores = fitted[name].score(HISTORIES)
    liked = np.array([scores[u, u % 4 == CATEGORY].mean() for u in range(60)])
    other = np.array([scores[u, u % 4 != CATEGORY].mean() for u in range(60)])
    assert (liked > other).mean() > 0.9


def test_favourites_come_before_what_was_bought_once(fitted: dict[str, Model]) -> None:
    scores = fitted["frequency"].score(HISTORIES)
    right = 0
    for row, history in enumerate(HISTORIES):
        items, counts = np.unique(history.items, return_counts=True)
        right += scores[row, items[counts >= 4]].mean() > scores[row, items[counts == 1]].mean()
    assert right > 54


def test_frequency_gives_nothing_to_what_was_never_chosen(fitted: dict[str, Model]) -> None:
    never = np.setdiff1d(np.arange(80), HISTORIES[0].items)
    assert (fitted["frequency"].score(HISTORIES[:1])[0, never] == 0).all()


def test_without_repeats_frequency_stays_quiet() -> None:
    owners = np.repeat(np.arange(DATA.n_users), np.diff(DATA.offsets))
    _, first = np.unique(owners * 80 + DATA.items, return_index=True)
    first = np.sort(first)
    counts = np.bincount(owners[first], minlength=DATA.n_users)
    once = replace(
        DATA,
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        items=DATA.items[first],
        times=DATA.times[first],
        weights=DATA.weights[first],
        groups=DATA.groups[first],
        positions=DATA.positions[first],
    )
    model = Frequency()
    model.fit(once, FEATURES, progress=silent)
    assert model.score([once.history(0, NOW)]).max() < np.log1p(0.05 / 1e-3)


@settings(max_examples=40, deadline=None)
@given(user=st.integers(0, 59), item=st.integers(0, 79), now=st.integers(20, 300))
def test_attributions_of_item_to_item_sum_to_the_score(user: int, item: int, now: int) -> None:
    model = _companion()
    history = DATA.history(user, now * DAY)
    shares = model.attribute(history, np.array([item]))[0]
    assert shares.shape == (len(history),)
    assert (shares >= 0).all()
    score = float(model.score([history])[0, item])
    assert shares.sum() == pytest.approx(score, rel=1e-5, abs=1e-6)


def test_an_event_that_pulls_is_missed_when_it_is_removed() -> None:
    model = _companion()
    history = HISTORIES[5]
    item = int(np.setdiff1d(np.flatnonzero(CATEGORY == 1), history.items)[0])
    shares = model.attribute(history, np.array([item]))[0]
    strongest = np.flatnonzero(history.items == history.items[int(np.argmax(shares))])
    before = model.score([history])[0, item]
    assert model.score([history.without(strongest)])[0, item] < before


_FITTED: list[ItemToItem] = []


def _companion() -> ItemToItem:
    if not _FITTED:
        _FITTED.append(ItemToItem())
        _FITTED[0].fit(DATA, FEATURES, progress=silent)
    return _FITTED[0]


def test_neighbours_never_include_the_item_itself() -> None:
    model = _companion()
    for item in range(80):
        near, similarity = model.neighbours(item)
        assert item not in near
        assert (np.diff(similarity) <= 0).all()


def test_recent_events_count_more_in_popularity() -> None:
    model = Popularity()
    model.fit(DATA, FEATURES, progress=silent)
    table = model.score(HISTORIES[:1])[0]
    age = (DATA.times.max() - DATA.times) / DAY
    expected = np.log1p(np.bincount(DATA.items, 0.5 ** (age / 14.0), minlength=80))
    np.testing.assert_allclose(table, expected, rtol=1e-5)


def test_taste_says_exactly_what_each_event_adds(fitted: dict[str, Model]) -> None:
    model = fitted["taste"]
    assert isinstance(model, Taste)
    for history in HISTORIES[:10]:
        scores = model.score([history])[0]
        for item in (0, 7, int(history.items[0])):
            parts = model.attribute(history, np.array([item]))[0]
            assert parts.shape == (len(history),)
            assert parts.sum() == pytest.approx(float(scores[item]), rel=1e-4, abs=1e-5)


def test_lines_of_one_basket_have_no_order(fitted: dict[str, Model]) -> None:
    """However the lines of each basket are ordered, every family says the same."""
    history = HISTORIES[3]
    shuffle = np.random.default_rng(0).permutation(len(history))
    order = shuffle[np.argsort(history.times[shuffle], kind="stable")]
    other = History(
        history.items[order],
        history.times[order],
        history.weights[order],
        history.groups[order],
        history.positions[order],
        history.now,
    )
    assert not np.array_equal(other.items, history.items)
    for model in fitted.values():
        np.testing.assert_allclose(model.score([other]), model.score([history]), atol=1e-4)


def test_events_without_groups_are_moments_of_their_own() -> None:
    alone = np.full(3, -1)
    assert moments(np.zeros(3, dtype=np.int64), np.array([1, 2, 3]), alone).tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", NAMES)
def test_what_was_taken_back_leaves_finite_scores(name: str) -> None:
    """Refunds and dislikes have negative weights; some items end below nothing."""
    weights = np.where(np.arange(len(DATA.items)) % 3 == 0, -1.0, 0.5)
    mixed = replace(DATA, weights=weights)
    model = families(FEATURES)[name]
    model.fit(mixed, FEATURES, progress=silent)
    assert np.isfinite(model.score([mixed.history(user, NOW) for user in range(20)])).all()
