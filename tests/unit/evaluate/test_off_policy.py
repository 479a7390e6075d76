"""Off-policy estimates on bandits whose truth is known, and what each estimator promises."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.cli import cli
from limner.errors import InputError, ModelError, UsageError
from limner.evaluate.logged import read_log
from limner.evaluate.off_policy import (
    Logged,
    Spread,
    Terms,
    direct,
    doubly_robust,
    effective_rows,
    estimate,
    interval,
    ips,
    predict_rewards,
    snips,
    weights,
)
from limner.events.batch import F64

ACTIONS = 5


def softmax(scores: F64) -> F64:
    found: F64 = np.exp(scores - scores.max(axis=1, keepdims=True))
    found /= found.sum(axis=1, keepdims=True)
    return found


def bandit(seed: int, n: int, *, curved: float = 0.0) -> tuple[Logged, F64, float]:
    """A log, another policy's probabilities and its true value on these contexts.

    The chance of a reward is linear in context and action, and with `curved` not quite.
    """
    rng = np.random.default_rng(seed)
    contexts = rng.uniform(-1, 1, (n, 2))
    behaviour = softmax(contexts @ rng.normal(0, 0.7, (2, ACTIONS)))
    policy = softmax(contexts @ rng.normal(0, 0.7, (2, ACTIONS)) + rng.normal(0, 0.7, ACTIONS))
    chance = 0.4 + 0.15 * contexts @ rng.uniform(-1, 1, 2)[:, None]
    chance = chance + 0.08 * rng.uniform(-1, 1, ACTIONS)
    chance = chance + curved * np.sin(4 * contexts[:, :1] * np.arange(ACTIONS))
    actions = (rng.random((n, 1)) > behaviour.cumsum(axis=1)[:, :-1]).sum(axis=1)
    rewards = (rng.random(n) < chance[np.arange(n), actions]).astype(np.float64)
    propensities = behaviour[np.arange(n), actions]
    log = Logged(actions, rewards, propensities, ACTIONS, contexts=contexts)
    return log, policy, float((policy * chance).sum(axis=1).mean())


def test_unbiased_ones_hit_the_truth_on_the_mean_of_many_logs() -> None:
    missed: dict[str, list[float]] = {"ips": [], "doubly_robust": [], "snips": []}
    for seed in range(300):
        log, policy, truth = bandit(seed, 400, curved=0.2)
        weight = weights(log, policy[np.arange(len(log)), log.actions])
        missed["ips"].append(ips(log, weight).value - truth)
        missed["snips"].append(snips(log, weight).value - truth)
        corrected = doubly_robust(log, weight, predict_rewards(log, policy))
        missed["doubly_robust"].append(corrected.value - truth)
    for name, errors in missed.items():
        error = float(np.std(errors)) / np.sqrt(len(errors))
        assert abs(float(np.mean(errors))) < 3 * error, name
    assert np.std(missed["doubly_robust"]) < np.std(missed["ips"])
    assert np.std(missed["snips"]) < np.std(missed["ips"])


@pytest.mark.parametrize("spread", ["bootstrap", "normal"])
def test_intervals_hold_the_truth_as_often_as_they_say(spread: Spread) -> None:
    held = dict.fromkeys(("ips", "snips", "direct", "doubly_robust"), 0)
    for seed in range(200):
        log, policy, truth = bandit(1000 + seed, 400)
        log_estimate = estimate(log, policy, spread=spread, level=0.9, resamples=200)
        for name, found in log_estimate.values.items():
            held[name] += not found.excludes(truth)
    # 90 % of 200 are 180, give or take three standard deviations of 4.2
    assert all(167 <= count <= 193 for count in held.values()), held


def test_a_wrong_model_bends_direct_and_leaves_doubly_robust_right() -> None:
    missed: dict[str, list[float]] = {"direct": [], "doubly_robust": []}
    for seed in range(200):
        log, policy, truth = bandit(seed, 400)
        right = predict_rewards(log, policy)
        wrong = replace(right, expected=right.expected * 1.5, logged=right.logged * 1.5)
        weight = weights(log, policy[np.arange(len(log)), log.actions])
        missed["direct"].append(direct(wrong).value - truth)
        missed["doubly_robust"].append(doubly_robust(log, weight, wrong).value - truth)
    error = {name: np.std(found) / np.sqrt(len(found)) for name, found in missed.items()}
    assert np.mean(missed["direct"]) > 20 * error["direct"]
    assert abs(np.mean(missed["doubly_robust"])) < 3 * error["doubly_robust"]


def test_a_right_model_narrows_the_interval() -> None:
    log, policy, _ = bandit(3, 5_000)
    found = estimate(log, policy).values
    width = {name: one.high - one.low for name, one in found.items()}
    assert width["direct"] < width["doubly_robust"] < width["ips"]


@given(st.integers(0, 10_000), st.floats(-5, 5))
@settings(max_examples=30, deadline=None)
def test_snips_moves_with_the_rewards_and_stays_within_them(seed: int, shift: float) -> None:
    log, policy, _ = bandit(seed, 60)
    weight = weights(log, policy[np.arange(60), log.actions])
    found = snips(log, weight).value
    moved = snips(replace(log, rewards=log.rewards + shift), weight).value
    assert moved == pytest.approx(found + shift)
    assert log.rewards.min() <= found <= log.rewards.max()


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_the_logging_policy_is_worth_what_it_earned(seed: int) -> None:
    log, _, _ = bandit(seed, 60)
    found = estimate(log, log.propensities, resamples=50)
    assert found.values["ips"].mean == pytest.approx(log.rewards.mean())
    assert found.values["snips"].mean == pytest.approx(log.rewards.mean())
    assert found.effective_rows == pytest.approx(len(log))
    assert found.mean_weight == found.largest_weight == 1.0


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50), st.floats(0.01, 100))
def test_effective_rows_are_at_most_the_rows_and_know_no_scale(
    weight: list[float], scale: float
) -> None:
    found = effective_rows(np.array(weight))
    assert found <= len(weight) * (1 + 1e-9)
    assert found == pytest.approx(effective_rows(scale * np.array(weight)), rel=1e-6)
    assert effective_rows(np.full(7, scale)) == pytest.approx(7)


def test_one_row_with_all_the_weight_counts_one() -> None:
    assert effective_rows(np.array([0.0, 3.0, 0.0])) == 1.0


def test_a_model_of_nothing_leaves_ips() -> None:
    log, policy, _ = bandit(5, 300)
    weight = weights(log, policy[np.arange(300), log.actions])
    nothing = replace(
        predict_rewards(log, policy), expected=np.zeros(300), logged=np.zeros(300),
        influence=np.zeros(300),
    )  # fmt: skip
    assert doubly_robust(log, weight, nothing).value == pytest.approx(ips(log, weight).value)


def test_no_row_is_predicted_by_a_model_that_saw_it() -> None:
    log, policy, _ = bandit(11, 200)
    before = predict_rewards(log, policy)
    rewards = log.rewards.copy()
    rewards[0] += 100.0
    after = predict_rewards(replace(log, rewards=rewards), policy)
    assert after.logged[0] == before.logged[0]
    assert (after.logged != before.logged).any()


def test_the_influence_moves_no_estimate() -> None:
    log, policy, _ = bandit(11, 500)
    found = predict_rewards(log, policy)
    assert direct(found).value == pytest.approx(found.expected.mean())


def test_the_influence_is_what_a_row_moves() -> None:
    # as the plain reference: every row but one, learned again
    log, policy, _ = bandit(2, 300)
    found = predict_rewards(log, policy, folds=2)
    moved = []
    for row in range(60):
        rewards = log.rewards.copy()
        rewards[row] = 1 - rewards[row]
        again = predict_rewards(replace(log, rewards=rewards), policy, folds=2)
        moved.append((again.expected.sum() - found.expected.sum()) / (rewards[row] * 2 - 1))
    # a row's influence is its leverage times its error
    error = log.rewards[:60] - found.logged[:60]
    assert np.corrcoef(np.array(moved) * error, found.influence[:60])[0, 1] > 0.95


def test_rows_of_a_group_are_resampled_whole() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=500)
    alone = interval(Terms(values, np.ones(500)))
    fourfold = Terms(np.repeat(values, 4), np.ones(2000))
    together = interval(fourfold, groups=np.repeat(np.arange(500), 4))
    apart = interval(fourfold)
    assert (together.low, together.high) == pytest.approx((alone.low, alone.high))
    assert apart.high - apart.low < 0.6 * (alone.high - alone.low)


def test_normal_and_bootstrap_agree_on_many_rows() -> None:
    log, policy, _ = bandit(4, 8_000)
    for ours, theirs in zip(
        estimate(log, policy).values.values(),
        estimate(log, policy, spread="normal").values.values(),
        strict=True,
    ):
        assert ours.mean == theirs.mean
        assert ours.high - ours.low == pytest.approx(theirs.high - theirs.low, rel=0.08)


def test_without_the_policy_of_other_actions_two_are_told() -> None:
    log, policy, _ = bandit(4, 100)
    whole = estimate(log, policy, resamples=50)
    part = estimate(log, policy[np.arange(100), log.actions], resamples=50)
    assert list(part.values) == ["ips", "snips"]
    assert part.values["ips"] == whole.values["ips"]


def test_what_cannot_be_is_refused_by_its_row() -> None:
    log, policy, _ = bandit(4, 10)
    bad = log.propensities.copy()
    bad[3] = 0.0
    with pytest.raises(InputError, match="propensity") as refused:
        replace(log, propensities=bad)
    assert refused.value.where == "row 4"
    with pytest.raises(InputError, match="rewards has 9 rows"):
        replace(log, rewards=log.rewards[:9])
    with pytest.raises(InputError, match="not one of 0 to 1"):
        replace(log, n_actions=2, actions=np.full(10, 2))
    with pytest.raises(InputError, match="sum to 1"):
        estimate(log, policy * 0.9)
    with pytest.raises(InputError, match="shape"):
        estimate(log, policy[:, :3])
    with pytest.raises(InputError, match="nothing was logged"):
        Logged(np.empty(0, np.int64), np.empty(0), np.empty(0), 3)
    with pytest.raises(ModelError, match="never have shown"):
        estimate(log, np.zeros(10))


# -- a file ----------------------------------------------------------------------------------


def written(log: Logged, policy: F64, *, whole: bool = True) -> bytes:
    """The log as a file has it, items being named by their numbers."""
    assert log.contexts is not None
    return b"".join(
        json.dumps(
            {
                "item_id": int(log.actions[row]),
                "reward": log.rewards[row],
                "propensity": log.propensities[row],
                "policy": {str(item): chance for item, chance in enumerate(policy[row])}
                if whole
                else policy[row, log.actions[row]],
                "context": {"a": log.contexts[row, 0], "b": log.contexts[row, 1]},
            }
        ).encode()
        + b"\n"
        for row in range(len(log))
    )


@pytest.mark.parametrize("packed", [False, True])
def test_the_command_says_what_python_says(tmp_path: Path, packed: bool) -> None:
    log, policy, _ = bandit(6, 300)
    path = tmp_path / ("log.jsonl.gz" if packed else "log.jsonl")
    body = written(log, policy)
    path.write_bytes(gzip.compress(body) if packed else body)
    ran = CliRunner().invoke(cli, ["evaluate", "--protocol", "off-policy", str(path), "--json"])
    assert ran.exit_code == 0, ran.output
    said = json.loads(ran.output)
    wanted = estimate(log, policy)
    assert said["rows"] == 300
    assert said["effective_rows"] == pytest.approx(wanted.effective_rows)
    for name, found in wanted.values.items():
        assert said["values"][name]["mean"] == pytest.approx(found.mean, rel=1e-6)
        assert said["values"][name]["low"] == pytest.approx(found.low, rel=1e-6)


def test_the_command_shows_a_table(tmp_path: Path) -> None:
    log, policy, _ = bandit(6, 300)
    path = tmp_path / "log.jsonl"
    path.write_bytes(written(log, policy, whole=False))
    ran = CliRunner().invoke(cli, ["evaluate", "--protocol", "off-policy", str(path)])
    assert ran.exit_code == 0, ran.output
    assert "snips" in ran.output and "direct" not in ran.output
    assert f"{effective_rows(policy[np.arange(300), log.actions] / log.propensities):,.0f}" in (
        ran.output
    )


def test_words_positions_and_groups_are_read(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    rows = [
        {"item_id": "tea", "policy": {"tea": 1}, "position": 1, "group_id": "x"}
        | {"context": {"a": 2}},
        {"item_id": "milk", "policy": {"oil": 1.0}, "position": 2, "context": {"c": "cn"}},
        {"item_id": "tea", "policy": {"milk": 1.0}, "position": 1, "group_id": "x"},
        {"item_id": "tea", "policy": {"milk": 1.0}, "position": 1, "context": {"a": None}},
    ]  # fmt: skip
    path.write_text("\n".join(json.dumps({"reward": 0, "propensity": 0.5} | row) for row in rows))
    log, policy = read_log(path)
    assert log.n_actions == 3
    assert log.actions.tolist() == [0, 1, 0, 0]
    assert policy.tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 0]]
    assert log.positions is not None and log.positions.tolist() == [0, 1, 0, 0]
    assert log.groups is not None and log.groups.tolist() == [0, 1, 0, 2]
    assert log.contexts is not None and log.contexts.tolist() == [[2, 0], [0, 1], [0, 0], [0, 0]]


def test_a_line_that_is_no_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    good = b'{"item_id": "a", "reward": 1, "propensity": 0.5, "policy": 0.5}\n'
    path.write_bytes(good + b'{"item_id": "a"}\n')
    with pytest.raises(InputError, match="reward") as refused:
        read_log(path)
    assert refused.value.where.endswith("log.jsonl, line 2")
    path.write_bytes(good + good.replace(b'"policy": 0.5', b'"policy": {"a": 1}'))
    with pytest.raises(InputError, match="mapping here and a number elsewhere"):
        read_log(path)
    path.write_bytes(b"\n")
    with pytest.raises(InputError, match="no rows"):
        read_log(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_log(tmp_path / "none.jsonl")


def test_the_command_needs_a_file() -> None:
    ran = CliRunner().invoke(cli, ["evaluate", "--protocol", "off-policy"])
    assert isinstance(ran.exception, UsageError)
    assert "needs a file" in ran.exception.what
