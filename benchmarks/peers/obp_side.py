"""The side of `python -m benchmarks.off_policy` that runs where obp is installed.

Reads a log and a policy from the .npz that is named, and writes one JSON line to stdout: estimates
with their 95 % bootstrap intervals, and its authors' table of Bernoulli Thompson sampling for the
campaign that is named (items × positions).
"""

import json
import sys
import time
from importlib.metadata import version

import numpy as np
from obp.ope import (
    DirectMethod,
    DoublyRobust,
    InverseProbabilityWeighting,
    OffPolicyEvaluation,
    RegressionModel,
    SelfNormalizedInverseProbabilityWeighting,
)
from obp.policy import BernoulliTS
from sklearn.linear_model import LogisticRegression

log = np.load(sys.argv[1])
n, actions = log["policy"].shape
positions = int(log["positions"].max()) + 1
policy = np.repeat(log["policy"][:, :, None], positions, axis=2)
feedback = {
    "n_rounds": n,
    "n_actions": actions,
    "context": log["contexts"],
    "action": log["actions"],
    "reward": log["rewards"].astype(int),
    "pscore": log["propensities"],
    "position": log["positions"],
}
started = time.perf_counter()
model = RegressionModel(
    n_actions=actions,
    len_list=positions,
    base_model=LogisticRegression(max_iter=1000, random_state=0),
)
predicted = model.fit_predict(
    context=feedback["context"],
    action=feedback["action"],
    reward=feedback["reward"],
    position=feedback["position"],
    pscore=feedback["pscore"],
    n_folds=3,
    random_state=0,
)
ESTIMATORS = [
    InverseProbabilityWeighting(),
    SelfNormalizedInverseProbabilityWeighting(),
    DirectMethod(),
    DoublyRobust(),
]
judge = OffPolicyEvaluation(bandit_feedback=feedback, ope_estimators=ESTIMATORS)
values = judge.estimate_policy_values(action_dist=policy, estimated_rewards_by_reg_model=predicted)
spread = judge.estimate_intervals(
    action_dist=policy,
    estimated_rewards_by_reg_model=predicted,
    n_bootstrap_samples=int(sys.argv[3]),
    random_state=0,
)
prior = BernoulliTS(
    n_actions=actions, len_list=positions, is_zozotown_prior=True, campaign=sys.argv[2],
    random_state=12345,
).compute_batch_action_dist(n_sim=100000, n_rounds=1)  # fmt: skip
out = {"version": version("obp"), "seconds": round(time.perf_counter() - started, 2)}
for name, value in values.items():
    bounds = {key: float(bound) for key, bound in spread[name].items()}
    out[name] = {"estimate": float(value), **bounds}
terms = DoublyRobust()._estimate_round_rewards(
    reward=feedback["reward"],
    action=feedback["action"],
    position=feedback["position"],
    pscore=feedback["pscore"],
    action_dist=policy,
    estimated_rewards_by_reg_model=predicted,
)
out["dr"]["standard_error"] = float(terms.std(ddof=1) / np.sqrt(n))
out["prior"] = prior[0].tolist()
print(json.dumps(out))
