from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.unit.model.small import shop, silent

from limner.events.batch import DAY
from limner.model.protocol import Interactions, ItemFeatures
from limner.model.sequence import (
    Moments,
    SequenceConfig,
    SequenceModel,
    batch_of,
    chunks,
    encode,
    new_params,
)

torch = pytest.importorskip("torch")

DATA, FEATURES = shop()
NOW = 101 * DAY
SMALL = SequenceConfig(depth=1, passes=2)


def cycle(users: int = 80, length: int = 20, n: int = 30) -> tuple[Interactions, ItemFeatures]:
    """Whoever has item i takes i + 1 next: order is all there is to learn."""
    start = np.arange(users) % n
    items = (start[:, None] + np.arange(length)) % n
    times = np.tile(np.arange(length) * DAY, users)
    total = users * length
    data = Interactions(
        np.arange(users + 1) * length,
        items.ravel().astype(np.int32),
        times,
        np.ones(total),
        np.full(total, -1),
        np.arange(total),
        n,
    )
    return data, ItemFeatures({}, {}, np.ones(n, dtype=bool))


def test_order_is_learned() -> None:
    data, features = cycle()
    model = SequenceModel(SequenceConfig(passes=30, weight_decay=0.0, repeat_weight=1.0))
    model.fit(data, features, progress=silent)
    histories = [data.history(user, 10 * DAY) for user in range(30)]
    best = model.score(histories).argmax(axis=1)
    assert (best == [(h.items[-1] + 1) % 30 for h in histories]).mean() > 0.9


def test_sampled_softmax_learns_it_too() -> None:
    data, features = cycle()
    config = SequenceConfig(
        passes=30, weight_decay=0.0, repeat_weight=1.0, full_softmax_below=0, negatives=10
    )
    model = SequenceModel(config)
    model.fit(data, features, progress=silent)
    histories = [data.history(user, 10 * DAY) for user in range(30)]
    best = model.score(histories).argmax(axis=1)
    assert (best == [(h.items[-1] + 1) % 30 for h in histories]).mean() > 0.9


def test_scores_are_log_odds_against_chance() -> None:
    model = SequenceModel(SMALL)
    model.fit(DATA, FEATURES, progress=silent)
    scores = model.score([DATA.history(user, NOW) for user in range(5)])
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 80.0, rtol=1e-4)


def test_no_moment_sees_a_later_one() -> None:
    config = SequenceConfig()
    torch.manual_seed(0)
    params = new_params(config, 5, {})
    for tensor in params.values():
        tensor += 0.1 * torch.randn(tensor.shape)
    tokens = torch.randn(1, 6, config.width)
    minutes = torch.arange(6, dtype=torch.float64)[None] * 60
    valid = torch.ones(1, 6, dtype=torch.bool)
    one = encode(params, config, tokens, minutes, valid)
    tokens[:, 4:] = 9.0
    two = encode(params, config, tokens, minutes, valid)
    torch.testing.assert_close(one[:, :4], two[:, :4])
    assert not torch.allclose(one[:, 4:], two[:, 4:])


def test_chunks_target_every_moment_but_the_first_once() -> None:
    moments = Moments.of(DATA, 1.0)
    for length in (2, 5, 100):
        targets = np.concatenate(
            [np.arange(first + 1, first + count) for first, count in chunks(moments, length)]
        )
        firsts = np.flatnonzero(np.diff(moments.owner, prepend=-1))
        expected = np.setdiff1d(np.arange(len(moments.owner)), firsts)
        assert sorted(targets.tolist()) == expected.tolist()


def test_a_batch_pairs_each_moment_with_the_items_of_the_next() -> None:
    moments = Moments.of(DATA, 1.0)
    batch = batch_of(moments, chunks(moments, 100)[:2])
    length = batch.minutes.shape[1]
    for token in (0, 3, length + 2):
        moment = chunks(moments, 100)[token // length, 0] + token % length
        rows = slice(moments.first[moment + 1], moments.first[moment + 2])
        assert sorted(batch.pair_item[batch.pair_token == token]) == sorted(moments.items[rows])


def test_update_takes_in_new_items_and_values() -> None:
    """With no pass of training, what was known is as it was, however values are numbered now."""
    model = SequenceModel(replace(SMALL, update_passes=0))
    model.fit(DATA.before(60 * DAY), FEATURES, progress=silent)
    known = model.vectors.copy()
    grown = replace(DATA, n_items=82)
    features = ItemFeatures(
        {"category": np.append(FEATURES.codes["category"] + 1, [0, 3]).astype(np.int32)},
        {"category": ["olives", *FEATURES.values["category"]]},  # renumbered, and one is new
        np.ones(82, dtype=bool),
    )
    model.update(grown, features, progress=silent)
    np.testing.assert_array_equal(model.vectors[:80], known)
    assert (model.vectors[80] == 0).all()
    fruit = model.attributes["category"].index("fruit")
    np.testing.assert_array_equal(
        model.vectors[81], model.params["attribute.category"][fruit].numpy()
    )
    assert model.attributes["category"][-1] == "olives"


def test_update_learns_from_what_is_newer() -> None:
    model = SequenceModel(SMALL)
    model.fit(DATA.before(60 * DAY), FEATURES, progress=silent)
    assert model.trained_to < 60 * DAY
    before = model.vectors.copy()
    model.update(DATA, FEATURES, progress=silent)
    assert model.trained_to == int(DATA.times.max())
    assert not np.array_equal(model.vectors, before)
    assert np.isfinite(model.score([DATA.history(0, NOW)])).all()


def test_a_loaded_model_updates_as_the_saved_one_does(tmp_path: Path) -> None:
    """Two attributes, named out of alphabetical order, of different sizes."""
    codes = {"type": FEATURES.codes["category"], "brand": (FEATURES.codes["category"] % 2)}
    values = {"type": FEATURES.values["category"], "brand": ["own", "other"]}
    features = ItemFeatures(codes, values, FEATURES.available)
    model = SequenceModel(SMALL)
    model.fit(DATA.before(60 * DAY), features, progress=silent)
    model.save(tmp_path)
    loaded = SequenceModel()
    loaded.load(tmp_path)
    for one in (model, loaded):
        one.update(DATA, features, progress=silent)
    np.testing.assert_array_equal(loaded.vectors, model.vectors)
