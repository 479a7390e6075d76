"""The policy head: the gradient of the paper, and rewards instead of what was shown most."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.unit.model.small import silent

from limner.errors import ModelError
from limner.events.batch import DAY, F64, I64
from limner.model.blend import Blend
from limner.model.network import SequenceConfig
from limner.model.policy import Decisions, Policy, PolicyConfig, _new, log_policy, policy_loss
from limner.model.protocol import History, Interactions, ItemFeatures
from limner.model.sequence import SequenceModel

torch = pytest.importorskip("torch")

N, TRIED = 8, 1500
NOW = 10 * DAY
FEATURES = ItemFeatures({}, {}, np.ones(N, dtype=bool))


def had(item: int) -> History:
    one = np.array([item])
    return History(one.astype(np.int32), np.array([9 * DAY]), np.ones(1), -one, one, NOW)


def reference(log_pi: F64, items: I64, rewards: F64, behaviour: F64, k: int, cap: float) -> F64:
    """The gradient of the loss in the logits, row by row, by the formula."""
    out = np.zeros_like(log_pi)
    for row, item in enumerate(items.tolist()):
        pi = np.exp(log_pi[row])
        weight = min(pi[item] / behaviour[row], cap)
        several = k * (1 - pi[item]) ** (k - 1)
        towards = (np.arange(len(pi)) == item) - pi
        out[row] = -weight * several * rewards[row] * towards / len(items)
    return out


@pytest.mark.parametrize(("k", "cap"), [(1, 1e9), (1, 2.0), (5, 1e9), (5, 1.0)])
def test_the_gradient_is_that_of_the_formula(k: int, cap: float) -> None:
    rng = np.random.default_rng(k)
    logits = torch.from_numpy(rng.normal(size=(20, N)) * 2).requires_grad_()
    items, rewards = rng.integers(0, N, 20), rng.normal(size=20)
    behaviour = rng.uniform(0.01, 1.0, 20)
    loss = policy_loss(
        logits.log_softmax(dim=1), torch.from_numpy(items), torch.from_numpy(rewards),
        torch.from_numpy(np.log(behaviour)), k=k, cap=cap,
    )  # fmt: skip
    loss.backward()  # type: ignore[no-untyped-call]
    log_pi = logits.detach().log_softmax(dim=1).numpy()
    expected = reference(log_pi, items, rewards, behaviour, k, cap)
    assert logits.grad is not None
    np.testing.assert_allclose(logits.grad.numpy(), expected, rtol=1e-9)


def logged(*, propensities: bool) -> tuple[Decisions, Interactions]:
    """Whoever had item 0 was shown item 2 nine times in ten, which earned in 3 cases of 10, and
    else item 3, which earned in 8; whoever had item 1 item 5, and else 4. What earned was taken.
    """
    rng = np.random.default_rng(0)
    owner = rng.integers(0, 2, TRIED)
    often = rng.random(TRIED) < 0.9
    items = np.where(owner == 0, np.where(often, 2, 3), np.where(often, 5, 4)).astype(np.int32)
    rewards = (rng.random(TRIED) < np.where(often, 0.3, 0.8)).astype(float)
    chance = np.where(often, 0.9, 0.1) if propensities else np.full(TRIED, np.nan)
    taken = np.flatnonzero(rewards)
    rows = np.stack([owner[taken], items[taken]], axis=1).ravel()
    data = Interactions(
        np.arange(len(taken) + 1) * 2,
        rows.astype(np.int32),
        np.tile([8 * DAY, 9 * DAY], len(taken)),
        np.ones(len(rows)),
        np.full(len(rows), -1),
        np.arange(len(rows)),
        N,
    )
    return Decisions([had(0), had(1)], owner, items, rewards, chance), data


@pytest.fixture(scope="module")
def trunk() -> SequenceModel:
    model = SequenceModel(SequenceConfig(depth=1, passes=12, holdout=0.0))
    model.fit(logged(propensities=True)[1], FEATURES, progress=silent)
    return model


@pytest.mark.parametrize("propensities", [True, False])
def test_it_shows_what_earns_where_imitation_shows_what_was_shown(
    trunk: SequenceModel, propensities: bool
) -> None:
    assert trunk.score([had(0), had(1)]).argmax(axis=1).tolist() == [2, 5]
    config = PolicyConfig(k=1, passes=25, rate=0.005)
    policy = Policy(trunk, config)
    policy.learn(logged(propensities=propensities)[0], progress=silent)
    assert policy.score([had(0), had(1)]).argmax(axis=1).tolist() == [3, 4]
    wrong = Policy(trunk, PolicyConfig(k=1, passes=25, rate=0.005, cap=1e-3))  # no correction left
    wrong.learn(logged(propensities=propensities)[0], progress=silent)
    assert wrong.score([had(0), had(1)]).argmax(axis=1).tolist() == [2, 5]


def test_with_longer_lists_what_is_second_best_is_in_them(trunk: SequenceModel) -> None:
    def second(k: int) -> float:
        policy = Policy(trunk, PolicyConfig(k=k, passes=25, rate=0.005))
        policy.learn(logged(propensities=True)[0], progress=silent)
        return float(np.sort(policy.score([had(0)])[0])[-2])

    assert second(8) > second(1) + 0.5


def test_what_was_shown_is_estimated(trunk: SequenceModel) -> None:
    policy = Policy(trunk, PolicyConfig(k=1, passes=25))
    policy.learn(logged(propensities=False)[0], progress=silent)
    states = torch.from_numpy(trunk.embed([had(0), had(1)]))
    found = log_policy(policy.behaviour, states, *policy._plain()).exp().numpy()
    np.testing.assert_allclose(found[[0, 0, 1, 1], [2, 3, 5, 4]], [0.9, 0.1, 0.9, 0.1], atol=0.03)


def test_before_it_learns_it_is_the_plain_model_and_the_trunk_stays(trunk: SequenceModel) -> None:
    policy = Policy(trunk)
    policy.params = _new(trunk)
    histories = [had(0), had(3)]
    np.testing.assert_allclose(policy.score(histories), trunk.score(histories), atol=1e-5)
    before = {name: tensor.clone() for name, tensor in trunk.params.items()}
    policy.learn(logged(propensities=True)[0], progress=silent)
    assert all(torch.equal(before[name], tensor) for name, tensor in trunk.params.items())


def test_it_is_saved_as_a_part_of_a_blend(trunk: SequenceModel, tmp_path: Path) -> None:
    policy = Policy(trunk, PolicyConfig(passes=2))
    policy.learn(logged(propensities=True)[0], progress=silent)
    Blend({"sequence": trunk, "policy": policy}, {"new": {"sequence": 1.0}, "next": {}}).save(
        tmp_path
    )
    loaded = Blend.load(tmp_path).models["policy"]
    np.testing.assert_allclose(loaded.score([had(0)]), policy.score([had(0)]), atol=1e-5)
    (tmp_path / "policy" / "policy.json").write_text('{"q": 1}')
    with pytest.raises(ModelError, match="limner train"):
        Policy().load(tmp_path / "policy")


def test_of_a_model_with_several_members_it_stands_on_the_first() -> None:
    several = SequenceModel(SequenceConfig(depth=1, passes=1, members=2))
    several.fit(logged(propensities=True)[1], FEATURES, progress=silent)
    policy = Policy(several, PolicyConfig(passes=1))
    policy.learn(logged(propensities=True)[0], progress=silent)
    assert policy.score([had(0)]).shape == (1, N)


def test_a_log_without_rewards_is_refused(trunk: SequenceModel) -> None:
    none = Decisions(
        [had(0)], np.zeros(1, np.int64), np.zeros(1, np.int32), np.zeros(1), np.ones(1)
    )
    with pytest.raises(ModelError, match="recommendation_id"):
        Policy(trunk).learn(none, progress=silent)
