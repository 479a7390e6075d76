from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.unit.model.small import shop, silent

from limner.errors import ModelError, NotFound
from limner.events.batch import DAY
from limner.model import registry
from limner.model.blend import (
    TASKS,
    Blend,
    Candidates,
    Task,
    candidate_ndcg,
    learn_weights,
    logit_weights,
    remove_seen,
    total,
)
from limner.model.protocol import Interactions, ItemFeatures
from limner.model.training import cutoff_of, fit_all, questions

DATA, FEATURES = shop()
NOW = 101 * DAY
HISTORIES = [DATA.history(user, NOW) for user in range(8)]


@pytest.fixture(scope="module")
def blend() -> Blend:
    return fit_all(DATA, FEATURES, progress=silent)


@pytest.mark.parametrize("task", TASKS)
def test_parts_sum_to_the_score_exactly(blend: Blend, task: Task) -> None:
    parts = blend.parts(HISTORIES, task)
    np.testing.assert_array_equal(total(parts), blend.score(HISTORIES, task))
    by_hand = np.sum(list(parts.values()), axis=0)
    np.testing.assert_allclose(by_hand, blend.score(HISTORIES, task), rtol=0, atol=1e-12)


def test_some_items_score_as_they_do_among_all(blend: Blend) -> None:
    some = [3, 50, 7]
    for name, scores in blend.parts(HISTORIES, "next", some).items():
        every = blend.parts(HISTORIES, "next")[name][:, some]
        np.testing.assert_allclose(scores, every, rtol=1e-6, atol=1e-6)  # float32 rounds


def test_weights_are_never_negative(blend: Blend) -> None:
    assert all(w >= 0 for parts in blend.weights.values() for w in parts.values())


def test_loaded_scores_are_the_saved_ones(blend: Blend, tmp_path: Path) -> None:
    blend.save(tmp_path / "blend")
    loaded = Blend.load(tmp_path / "blend")
    for task in TASKS:
        np.testing.assert_array_equal(loaded.score(HISTORIES, task), blend.score(HISTORIES, task))


@pytest.mark.parametrize("harm", ["cut", "alter", "remove"])
def test_a_damaged_artifact_is_refused(blend: Blend, tmp_path: Path, harm: str) -> None:
    blend.save(tmp_path)
    victim = tmp_path / "item_to_item" / "data.npy"
    content = victim.read_bytes()
    if harm == "cut":
        victim.write_bytes(content[:-8])
    elif harm == "alter":
        victim.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        victim.unlink()
    with pytest.raises(ModelError, match=r"data\.npy"):
        Blend.load(tmp_path)


def test_registry_publishes_and_goes_back(blend: Blend, tmp_path: Path) -> None:
    assert registry.load_current(tmp_path) is None
    registry.publish(tmp_path, blend, {"cutoff": 1})
    second = registry.publish(tmp_path, blend, {"cutoff": 2})
    assert [version.meta["cutoff"] for version in registry.versions(tmp_path)] == [1, 2]
    assert registry.current(tmp_path) == second.name == "000002"
    registry.set_current(tmp_path, "000001")
    loaded = registry.load_current(tmp_path)
    assert loaded is not None
    assert loaded[1].meta == {"cutoff": 1}
    with pytest.raises(NotFound):
        registry.set_current(tmp_path, "000009")
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == [
        "000001",
        "000002",
        "current",
    ]


def test_a_version_without_its_record_is_refused(blend: Blend, tmp_path: Path) -> None:
    version = registry.publish(tmp_path, blend, {})
    (version.folder / "version.json").unlink()
    with pytest.raises(ModelError, match=r"version\.json"):
        registry.load_current(tmp_path)


def test_weights_go_to_the_part_that_knows() -> None:
    rng = np.random.default_rng(0)
    truth = np.zeros((200, 30), dtype=bool)
    truth[np.arange(200), rng.integers(0, 30, 200)] = True
    scores = rng.normal(size=(200, 30, 2)).astype(np.float32)
    scores[..., 1] += 2.0 * truth
    found = Candidates(
        np.tile(np.arange(30), (200, 1)),
        scores,
        np.ones_like(truth),
        truth,
        np.ones(200, dtype=np.int64),
    )
    weights = learn_weights(found)
    assert weights[1] > 3 * weights[0]
    assert candidate_ndcg(found, weights).mean() > candidate_ndcg(found, np.array([1, 1])).mean()


def asked(n: int, seed: int, *, crowded: bool) -> Candidates:
    """30 candidates of each user, one of them true, and two parts that know of it.

    `crowded`: the second part is loudest about items that never come true, so the likelihood
    trusts it less than a ranking should.
    """
    rng = np.random.default_rng(seed)
    truth = np.zeros((n, 30), dtype=bool)
    truth[np.arange(n), rng.integers(0, 30, n)] = True
    scores = rng.normal(size=(n, 30, 2)).astype(np.float32)
    scores[:, :, 0] += 0.5 * truth
    scores[:, :, 1] += (3.0 if crowded else 0.5) * truth
    if crowded:
        loud = (rng.random((n, 30)) < 0.04) & ~truth
        scores[loud, 1] += 60.0
    return Candidates(
        np.broadcast_to(np.arange(30), (n, 30)).copy(),
        scores,
        np.ones((n, 30), dtype=bool),
        truth,
        np.ones(n, dtype=np.int64),
    )


def test_noise_does_not_move_the_weights_off_the_likelihood() -> None:
    for seed in range(4):
        found = asked(400, seed, crowded=False)
        assert learn_weights(found).tolist() == logit_weights(found).tolist()


def test_a_better_ranking_beyond_doubt_is_taken() -> None:
    found, fresh = asked(1500, 0, crowded=True), asked(1500, 1, crowded=True)
    learned, logit = learn_weights(found), logit_weights(found)
    assert candidate_ndcg(fresh, learned).mean() > 1.2 * candidate_ndcg(fresh, logit).mean()


def test_with_nothing_to_learn_from_the_weights_are_even() -> None:
    found = Candidates(
        np.arange(4)[None, :],
        np.array([[[0, 0], [1, 2], [2, 4], [3, 6]]], dtype=np.float32),
        np.ones((1, 4), dtype=bool),
        np.zeros((1, 4), dtype=bool),
        np.ones(1, dtype=np.int64),
    )
    weights = learn_weights(found)
    assert weights[0] == pytest.approx(2 * weights[1])


def test_what_a_user_had_is_neither_ranked_nor_true() -> None:
    table = np.zeros((8, 80))
    truth = remove_seen(HISTORIES, [np.arange(80, dtype=np.int32)] * 8, [table])
    for row, history in enumerate(HISTORIES):
        assert not set(truth[row]) & set(history.items.tolist())
        assert (table[row] == -np.inf).sum() == len(set(history.items.tolist()))


def test_questions_leave_out_users_without_a_past() -> None:
    cutoff = cutoff_of(DATA)
    truth, histories = questions(DATA, cutoff)
    assert len(truth) == len(histories) > 0
    assert all(len(history) and history.times.max() < cutoff for history in histories)


def test_nothing_to_learn_from_says_how_to_mend_it() -> None:
    none = Interactions(
        np.zeros(1, dtype=np.int64),
        np.zeros(0, dtype=np.int32),
        np.zeros(0, dtype=np.int64),
        np.zeros(0),
        np.zeros(0, dtype=np.int64),
        np.zeros(0, dtype=np.int64),
        0,
    )
    with pytest.raises(ModelError, match="limner import"):
        fit_all(none, ItemFeatures({}, {}, np.zeros(0, dtype=bool)), progress=silent)


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from limner.errors import MissingExtra
from limner.model.sequence import SequenceModel
from limner.model.training import fit_all
from tests.unit.model.small import shop, silent
data, features = shop(users=20)
blend = fit_all(data, features, progress=silent)
assert "sequence" not in blend.models and "sequence" not in blend.weights["next"]
width = blend.models["taste"].directions.shape[1]
assert blend.embed([data.history(0, 10**15)]).shape == (1, width)
try:
    SequenceModel()
except MissingExtra as error:
    assert "limner[model]" in str(error)
else:
    raise AssertionError("no error")
"""


def test_without_pytorch_the_blend_lacks_the_sequence_part() -> None:
    root = Path(__file__).parents[3]
    subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH],
        check=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
