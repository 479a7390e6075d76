"""A sequence model of several members: one score, one vector, one artifact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.unit.model.small import shop, silent

from limner.events.batch import DAY, F64
from limner.model.blend import Blend
from limner.model.entering import entered
from limner.model.network import SequenceConfig
from limner.model.protocol import F32, ItemFeatures
from limner.model.sequence import SequenceModel

torch = pytest.importorskip("torch")

DATA, FEATURES = shop()
NOW = 101 * DAY
THREE = SequenceConfig(depth=1, passes=2, members=3)
HISTORIES = [DATA.history(user, NOW) for user in range(8)]


@pytest.fixture(scope="module")
def model() -> SequenceModel:
    out = SequenceModel(THREE)
    out.fit(DATA, FEATURES, progress=silent)
    return out


def normalised(logits: F32 | F64) -> F64:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    out: F64 = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)) + np.log(80)
    return out


def test_members_differ_by_their_seed_alone_and_the_first_is_the_model_without_others(
    model: SequenceModel,
) -> None:
    alone = SequenceModel(SequenceConfig(depth=1, passes=2))
    alone.fit(DATA, FEATURES, progress=silent)
    np.testing.assert_array_equal(model.vectors, alone.vectors)
    assert [other.config.seed for other in model.others] == [1000, 2000]
    assert not np.allclose(model.vectors, model.others[0].vectors)
    assert model.parameters == 3 * alone.parameters


def test_the_score_is_the_mean_of_the_members_scores_and_still_log_odds(
    model: SequenceModel,
) -> None:
    scores = model.score(HISTORIES)
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 80.0, rtol=1e-4)
    members = [
        normalised(member._embed(HISTORIES) @ member.vectors.T + member.bias)
        for member in (model, *model.others)
    ]
    np.testing.assert_allclose(scores, normalised(np.mean(members, axis=0)), atol=1e-4)


def test_all_scores_follow_from_the_user_vector(model: SequenceModel) -> None:
    members = [model, *model.others]
    u = model.embed(HISTORIES)
    assert u.shape == (8, 3 * THREE.width)
    items = np.concatenate([member.vectors for member in members], axis=1) / 3
    bias = np.mean([member.bias for member in members], axis=0)
    wanted = normalised(u @ items.T + bias)
    np.testing.assert_allclose(model.score(HISTORIES), wanted, atol=1e-4)
    some = np.array([3, 70, 11])
    np.testing.assert_allclose(model.score(HISTORIES, some), wanted[:, some], atol=1e-4)


def test_what_is_loaded_answers_and_learns_on_as_what_was_saved(
    model: SequenceModel, tmp_path: Path
) -> None:
    fitted = SequenceModel(THREE)
    fitted.fit(DATA.before(60 * DAY), FEATURES, progress=silent)
    fitted.save(tmp_path)
    loaded = SequenceModel()
    loaded.load(tmp_path)
    assert loaded.config == THREE
    np.testing.assert_array_equal(loaded.score(HISTORIES), fitted.score(HISTORIES))
    before = fitted.others[1].vectors.copy()
    for one in (fitted, loaded):
        one.update(DATA, FEATURES, progress=silent)
    assert not np.allclose(fitted.others[1].vectors, before)
    np.testing.assert_array_equal(loaded.score(HISTORIES), fitted.score(HISTORIES))


def test_attribution_is_how_the_common_score_moves(model: SequenceModel) -> None:
    history = HISTORIES[3]
    found = model.attribute(history, np.array([7]))[0]
    members = [model, *model.others]
    reads = [member._read([history]) for member in members]
    step = 1e-2

    def score(row: int, factor: float) -> float:
        logits = []
        for member, read in zip(members, reads, strict=True):
            events = read.events.detach().clone()
            events[row] *= factor
            with torch.no_grad():
                state = member._after(read, events).double().numpy()
            logits.append(state @ member.vectors.T.astype(float) + member.bias)
        return float(normalised(np.mean(logits, axis=0))[0, 7])

    kept = len(history) - len(reads[0].events)
    for row in range(len(reads[0].events)):
        slope = (score(row, 1 + step) - score(row, 1 - step)) / (2 * step)
        assert found[kept + row] == pytest.approx(slope, rel=0.05, abs=2e-3)


def test_an_item_that_came_after_the_fit_is_scored_by_all(model: SequenceModel) -> None:
    new = ItemFeatures({"category": np.array([0], np.int32)}, FEATURES.values, np.ones(1, bool))
    wide = entered(Blend({"sequence": model}, {"next": {}, "new": {}}), 80, new).models["sequence"]
    assert wide.score(HISTORIES).shape == (8, 81)
    assert wide.embed(HISTORIES).shape == (8, 3 * THREE.width)


def test_what_comes_next_is_told_by_all(model: SequenceModel) -> None:
    (told,) = model.next(HISTORIES[:1])
    assert sum(told.kinds.values()) == pytest.approx(1.0)


def test_progress_says_which_member_is_trained() -> None:
    said: set[str] = set()
    SequenceModel(SequenceConfig(depth=1, passes=1, members=2)).fit(
        DATA, FEATURES, progress=lambda stage, done, total: said.add(stage)
    )
    assert said == {"training the sequence model, 1 of 2", "training the sequence model, 2 of 2"}
