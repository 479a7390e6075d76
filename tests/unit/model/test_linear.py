from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.model.small import shop, silent

from limner.errors import ModelError
from limner.events.batch import DAY, F64
from limner.model.linear import EASE, TRANSITIONS, Linear, LinearConfig, solved, sums_of
from limner.model.moments import owners_of
from limner.model.protocol import F32, History, Interactions, ItemFeatures

DATA, FEATURES = shop()  # in baskets of several lines
NOTHING = ItemFeatures({}, {}, np.ones(0, dtype=bool))
NOW = 101 * DAY
HISTORIES = [DATA.history(user, NOW) for user in range(DATA.n_users)]
BOTH = pytest.mark.parametrize("config", [EASE, TRANSITIONS], ids=["ease", "transitions"])


def fitted(config: LinearConfig, data: Interactions = DATA) -> Linear:
    model = Linear(config)
    model.fit(data, NOTHING, progress=silent)
    return model


def map_of(model: Linear) -> F64:
    return np.asarray(model.map if isinstance(model.map, np.ndarray) else model.map.toarray())


def only(data: Interactions, users: set[int]) -> Interactions:
    """The rows of some users; the others have none."""
    owners = owners_of(data.offsets)
    keep = np.isin(owners, sorted(users))
    counts = np.bincount(owners[keep], minlength=data.n_users)
    return Interactions(
        np.concatenate([[0], np.cumsum(counts)]), data.items[keep], data.times[keep],
        data.weights[keep], data.groups[keep], data.positions[keep], data.n_items,
    )  # fmt: skip


def weigh(back: int, config: LinearConfig) -> float:
    return 1 / (1 + back / config.fade) if back < config.window else 0.0


def plain_examples(data: Interactions, config: LinearConfig) -> tuple[F64, F64]:
    """Φ and Y of the transitions, an example a moment, written out."""
    inputs, targets = [], []
    for user in range(data.n_users):
        rows = slice(data.offsets[user], data.offsets[user + 1])
        items, worth = data.items[rows], np.maximum(data.weights[rows], 0.0)
        basket = np.where(data.groups[rows] >= 0, data.groups[rows], -1 - np.arange(len(items)))
        moment = np.cumsum(np.diff(basket, prepend=basket[:1]) != 0)
        for now in range(1, int(moment.max(initial=-1)) + 1):
            x, y = np.zeros(data.n_items), np.zeros(data.n_items)
            for item, when, w in zip(items, moment, worth, strict=True):
                if when < now:
                    x[item] += w * weigh(now - 1 - int(when), config)
            chosen = (moment == now) & (worth > 0)
            for item, w in zip(items[chosen], worth[chosen], strict=True):
                y[item] += w / np.sqrt(chosen.sum())
            inputs.append(x)
            targets.append(y)
    return np.array(inputs), np.array(targets)


def plain_map(data: Interactions, config: LinearConfig) -> F64:
    n = data.n_items
    if config.sequential:
        x, y = plain_examples(data, config)
        gram = x.T @ x
        return np.linalg.solve(gram + config.ridge * np.trace(gram) / n * np.eye(n), x.T @ y)
    x = np.zeros((data.n_users, n))
    np.maximum.at(x, (owners_of(data.offsets), data.items), data.weights)
    gram = x.T @ x
    out = np.zeros((n, n))
    for j in range(n):  # each item regressed on all others
        others = np.delete(np.arange(n), j)
        some = gram[np.ix_(others, others)]
        some = some + config.ridge * np.trace(gram) / n * np.eye(n - 1)
        out[others, j] = np.linalg.solve(some, gram[others, j])
    return out


MIXED = replace(DATA, weights=np.random.default_rng(0).choice([1.0, 0.2, -1.0], len(DATA.items)))
SINGLE = replace(DATA, groups=np.full(len(DATA.items), -1))


@BOTH
@pytest.mark.parametrize("data", [DATA, MIXED, SINGLE], ids=["baskets", "weights", "single"])
@pytest.mark.parametrize("window", [3, 50])
def test_it_is_the_regression_written_out(
    config: LinearConfig, data: Interactions, window: int
) -> None:
    config = replace(config, window=window)
    np.testing.assert_allclose(
        map_of(fitted(config, data)), plain_map(data, config), atol=2e-6, rtol=1e-4
    )


@BOTH
@settings(max_examples=5, deadline=None)
@given(users=st.sets(st.integers(0, 59), min_size=1, max_size=20))
def test_who_is_taken_out_leaves_what_a_fit_without_them_gives(
    config: LinearConfig, users: set[int]
) -> None:
    rest = set(range(DATA.n_users)) - users
    taken = sums_of(MIXED, config, progress=silent).without(
        sums_of(only(MIXED, users), config, progress=silent)
    )
    never = sums_of(only(MIXED, rest), config, progress=silent)
    for name in ("gram", "cross"):
        apart = getattr(taken, name) - getattr(never, name)
        assert abs(apart).max() <= 1e-9
    assert taken.rows == never.rows
    one, two = (solved(sums, config, progress=silent) for sums in (taken, never))
    assert np.abs(one - two).max() <= 1e-9 * max(1.0, np.abs(two).max())


@BOTH
def test_forgetting_works_after_loading_too(config: LinearConfig, tmp_path: Path) -> None:
    model = fitted(config)
    model.save(tmp_path / "one")
    again = Linear(EASE)
    again.load(tmp_path / "one")
    assert again.config == config and again.name == model.name
    np.testing.assert_array_equal(again.score(HISTORIES), model.score(HISTORIES))
    again.save(tmp_path / "two")
    again.forget(only(DATA, {3, 5}), progress=silent)
    rest = fitted(config, only(DATA, set(range(60)) - {3, 5}))
    np.testing.assert_allclose(again.score(HISTORIES), rest.score(HISTORIES), rtol=1e-5, atol=1e-6)
    third = Linear(EASE)
    third.load(tmp_path / "two")
    np.testing.assert_array_equal(third.score(HISTORIES), model.score(HISTORIES))
    with pytest.raises(ModelError, match="fit the model first"):
        Linear(config).forget(DATA, progress=silent)


@BOTH
def test_what_events_add_sums_to_the_score_and_is_what_leaves_with_the_oldest(
    config: LinearConfig,
) -> None:
    model = fitted(config, MIXED)
    history = MIXED.history(7, NOW)
    for item in (0, 17, int(history.items[-1])):
        parts = model.attribute(history, np.array([item]))[0]
        assert parts.sum() == pytest.approx(float(model.score([history])[0, item]), abs=1e-5)
        # without the oldest moment nothing else is nearer or farther
        first = np.flatnonzero(history.times == history.times[0])
        rest = model.score([history.without(first)])[0, item]
        assert parts[first].sum() == pytest.approx(
            float(model.score([history])[0, item] - rest), abs=1e-5
        )


@BOTH
def test_many_items_keep_the_strongest_and_a_large_enough_head_loses_nothing(
    config: LinearConfig, tmp_path: Path
) -> None:
    dense = map_of(fitted(config))
    used = int((dense != 0).any(axis=1).sum())
    sparse = fitted(replace(config, solved=DATA.n_items - 1, neighbours=6))
    assert not isinstance(sparse.map, np.ndarray)
    counts = np.diff(sparse.map.indptr)
    assert counts.max() <= 6
    assert used == DATA.n_items
    # the items solved together are solved as before, as good as all
    head = np.argsort(-sums_of(DATA, config, progress=silent).gram.diagonal(), kind="stable")[:-1]
    rows = head[:5]
    for row in rows:
        strong = sparse.map[row].indices
        inside = strong[np.isin(strong, head)]
        np.testing.assert_allclose(
            sparse.map[row, inside].toarray()[0], dense[row, inside], rtol=0.2, atol=2e-3
        )
        weakest = np.abs(sparse.map[row].data).min()
        others = np.setdiff1d(head, strong)
        assert (np.abs(dense[row, others]) <= weakest * 1.2 + 2e-3).all()
    sparse.save(tmp_path)
    again = Linear(config)
    again.load(tmp_path)
    np.testing.assert_array_equal(again.score(HISTORIES), sparse.score(HISTORIES))
    parts = sparse.attribute(HISTORIES[0], np.array([4]))[0]
    assert parts.sum() == pytest.approx(float(sparse.score(HISTORIES[:1])[0, 4]), abs=1e-5)


def test_transitions_tell_before_from_after() -> None:
    rng = np.random.default_rng(1)
    rows = []
    for _ in range(200):
        noise = rng.integers(2, 12, size=6).tolist()
        at = int(rng.integers(0, 5))
        rows.append([*noise[:at], 0, 1, *noise[at:]])
    counts = [len(row) for row in rows]
    data = Interactions(
        np.concatenate([[0], np.cumsum(counts)]),
        np.array([item for row in rows for item in row], dtype=np.int32),
        np.concatenate([np.arange(n) * DAY for n in counts]),
        np.ones(sum(counts)),
        np.full(sum(counts), -1),
        np.arange(sum(counts)),
        12,
    )
    model = fitted(TRANSITIONS, data)

    def after(*items: int) -> F32:
        n = len(items)
        history = History(
            np.array(items, dtype=np.int32), np.arange(n) * DAY, np.ones(n),
            np.full(n, -1), np.arange(n), n * DAY,
        )  # fmt: skip
        scores: F32 = model.score([history])[0]
        return scores

    assert np.argmax(after(5, 0)) == 1
    assert after(5, 0)[1] > after(0, 5)[1] > after(0, 5, 6, 7)[1]  # the moment passes
    assert after(5, 0)[1] > 2 * after(5, 1)[0]


@BOTH
def test_nothing_to_learn_from_says_nothing(config: LinearConfig) -> None:
    nothing = only(DATA, set())
    for data in (nothing, replace(DATA, weights=np.full(len(DATA.items), -1.0))):
        model = fitted(config, data)
        assert not model.score(HISTORIES[:3]).any()
        assert model.score([]).shape == (0, DATA.n_items)
    sparse = fitted(replace(config, solved=10), nothing)
    assert not sparse.score(HISTORIES[:2]).any()
