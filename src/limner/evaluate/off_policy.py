"""What a policy would have earned, estimated from what another one logged.

Rows are what was shown: in a context, at a position, an action (an item) that the logging policy
chose with a known probability, its propensity, and the reward that came. A policy is a matrix of
probabilities, a row for each logged row and a column for each action. Four estimates:

- **ips**, inverse propensity scores: rewards, weighted by policy / propensity. Unbiased.
- **snips**, the same, divided by the sum of the weights: a little bias, less spread; a constant
  added to all rewards is added to the estimate.
- **direct**: a model of the reward, asked about what the policy would show. Little spread, but as
  wrong as the model is.
- **doubly_robust**: the model, corrected by the weighted errors that it makes on the logged rows.
  Unbiased where the propensities are right, whatever the model says, and tighter than `ips` where
  the model is any good.

Each is a ratio of sums over rows (`Terms`), so that one interval serves all.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from limner.errors import InputError, ModelError
from limner.events.batch import F64, I64
from limner.metrics.intervals import Interval

Spread = Literal["bootstrap", "normal"]
_CELLS = 4_000_000  # resampled counts held at once
_PENALTIES = np.logspace(6, -2, 33)  # of equals, the most careful is taken


@dataclass(frozen=True, slots=True)
class Logged:
    """What was shown and what came of it, a row for each item shown; all arrays of n rows.

    `actions` are numbered 0 … `n_actions` − 1; `propensities` are the logging policy's
    probabilities of what it showed, in (0, 1]; `contexts` (n, d) and `positions` are what the model
    of the reward may know beside the action; rows of one of the `groups` (a list, a user) belong
    together: they are resampled whole and share a fold.
    Raises InputError for a row that cannot be.
    """

    actions: I64
    rewards: F64
    propensities: F64
    n_actions: int
    contexts: F64 | None = None
    positions: I64 | None = None
    groups: I64 | None = None

    def __post_init__(self) -> None:
        n = len(self.actions)
        if not n:
            raise InputError("nothing was logged", mend="give at least one row")
        for name in ("rewards", "propensities", "contexts", "positions", "groups"):
            column = getattr(self, name)
            if column is not None and len(column) != n:
                raise InputError(f"{name} has {len(column)} rows and actions has {n}",
                                 mend="give one value a row")  # fmt: skip
        _check(
            (self.actions >= 0) & (self.actions < self.n_actions),
            f"an action is not one of 0 to {self.n_actions - 1}",
            "number the actions from 0",
        )
        _check(np.isfinite(self.rewards), "a reward is no number", "leave the row out")
        _check(
            (self.propensities > 0) & (self.propensities <= 1),
            "a propensity is not above 0 and at most 1",
            "log the probability with which the item was chosen for its place",
        )
        if self.contexts is not None:
            _check(np.isfinite(self.contexts).all(axis=1), "a context holds no number", "fill it")

    def __len__(self) -> int:
        return len(self.actions)


@dataclass(frozen=True, slots=True)
class Terms:
    """An estimate as a ratio of sums over rows: Σ `top` / Σ `bottom`, each of n values."""

    top: F64
    bottom: F64

    @property
    def value(self) -> float:
        """The estimate. NaN if nothing has weight."""
        below = float(self.bottom.sum())
        return float(self.top.sum()) / below if below else float("nan")


@dataclass(frozen=True, slots=True)
class Predicted:
    """What the model of the reward says, for each of n rows.

    `expected`: the reward of what the policy would show; `logged`: that of what was shown, by a
    model that has not seen the row; `influence`: what the row, as one to learn from, moves the sum
    of `expected` by, summing to 0.
    """

    expected: F64
    logged: F64
    influence: F64


@dataclass(frozen=True, slots=True)
class Estimates:
    """The value of a policy by each estimator, and how far the log can be trusted to tell.

    `effective_rows`: how many rows of the policy's own would tell as much as the weighted ones;
    `mean_weight` is near 1 unless the policy shows what the log never or hardly ever did, or
    propensities are wrong; `logged_mean`: the mean reward that the log itself had.
    """

    rows: int
    effective_rows: float
    mean_weight: float
    largest_weight: float
    logged_mean: float
    values: dict[str, Interval]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def weights(log: Logged, chosen: F64) -> F64:
    """Policy / propensity of what was shown (n,), `chosen` being the policy's probability of it."""
    return chosen / log.propensities


def effective_rows(weight: F64) -> float:
    """(Σw)² / Σw², n if all are equal (Kish 1965, Survey Sampling, 11.2). 0 if all are 0.

    >>> effective_rows(np.array([2.0, 2.0, 2.0]))
    3.0
    """
    squares = float((weight**2).sum())
    return float(weight.sum()) ** 2 / squares if squares else 0.0


def ips(log: Logged, weight: F64) -> Terms:
    """Mean of w r (Horvitz and Thompson 1952; for policies Precup et al. 2000)."""
    return Terms(weight * log.rewards, np.ones(len(log)))


def snips(log: Logged, weight: F64) -> Terms:
    """Σ w r / Σ w (Swaminathan and Joachims 2015, The self-normalized estimator)."""
    return Terms(weight * log.rewards, weight)


def direct(predicted: Predicted) -> Terms:
    """Mean of q(x, π) (Dudík et al. 2011, section 2.1).

    The influence of rows on the model sums to 0, so it leaves the estimate alone and widens its
    interval by what the model does not know.
    """
    return Terms(predicted.expected + predicted.influence, np.ones(len(predicted.expected)))


def doubly_robust(log: Logged, weight: F64, predicted: Predicted) -> Terms:
    """Mean of q(x, π) + w (r − q(x, a)) (Dudík et al. 2011, section 2.2).

    As the model of each row has not seen it, what the model does not know is of second order here
    (Chernozhukov et al. 2018), and the terms' own spread is the estimate's.
    """
    corrected = predicted.expected + weight * (log.rewards - predicted.logged)
    return Terms(corrected, np.ones(len(log)))


def predict_rewards(log: Logged, policy: F64, *, folds: int = 5, seed: int = 0) -> Predicted:
    """A ridge regression of the reward on action, position and context, cross-fitted.

    Each fold is predicted by a model of the others (Chernozhukov et al. 2018). Its penalty is the
    one with the least generalised cross-validation error on the rows it learns from (Golub, Heath
    and Wahba 1979). The influence is that of least squares, Z'(X'X + λ)⁻¹ x e (Huber 1967).
    Takes 8 bytes × n × (actions + positions + contexts), twice. Deterministic for a seed.
    Raises ModelError if there are fewer than two groups of rows.
    """
    beside = _beside(log)
    shown = np.zeros((len(log), log.n_actions))
    shown[np.arange(len(log)), log.actions] = 1.0
    seen, asked = np.hstack([beside, shown]), np.hstack([beside, policy])
    fold = _folds(log, folds, seed)
    expected, logged, influence = (np.empty(len(log)) for _ in range(3))
    influence[:] = 0.0
    for number in range(int(fold.max()) + 1):
        out = fold == number
        x, r = seen[~out], log.rewards[~out]
        centre, mean = x.mean(axis=0), float(r.mean())
        beta, inverse = _ridge(x - centre, r - mean)
        expected[out] = mean + (asked[out] - centre) @ beta
        logged[out] = mean + (seen[out] - centre) @ beta
        error = r - mean - (x - centre) @ beta
        pull = (asked[out] - centre).sum(axis=0) @ inverse
        moved = ((x - centre) @ pull + out.sum() / len(r)) * error
        influence[~out] += moved - moved.mean()
    return Predicted(expected, logged, influence)


def interval(
    terms: Terms,
    *,
    groups: I64 | None = None,
    spread: Spread = "bootstrap",
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """An estimate with the interval that holds the truth with the stated confidence.

    `bootstrap`: percentiles of resampled groups (Efron 1979), deterministic for a seed, so that
    all estimates of one log see the same resamples; `normal`: the delta method for a ratio.
    Without `groups` every row is its own.
    """
    both = np.column_stack([terms.top, terms.bottom])
    if groups is not None:
        _, owner = np.unique(groups, return_inverse=True)
        both = np.column_stack([np.bincount(owner, column) for column in both.T])
    n, value = len(both), terms.value
    if not np.isfinite(value):
        return Interval(value, value, value)
    if spread == "normal":
        moved = (both[:, 0] - value * both[:, 1]) / both[:, 1].mean()
        half = NormalDist().inv_cdf((1 + level) / 2) * float(moved.std(ddof=1)) / np.sqrt(n)
        return Interval(value, value - half, value + half)
    rng = np.random.default_rng(seed)
    sums = np.empty((resamples, 2))
    step = max(1, _CELLS // n)
    for start in range(0, resamples, step):
        drawn = rng.integers(0, n, size=(min(step, resamples - start), n))
        counts = np.array([np.bincount(row, minlength=n) for row in drawn], dtype=np.float64)
        sums[start : start + len(drawn)] = counts @ both
    kept = sums[sums[:, 1] > 0]
    low, high = np.quantile(kept[:, 0] / kept[:, 1], [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def estimate(
    log: Logged,
    policy: F64,
    *,
    predicted: Predicted | None = None,
    spread: Spread = "bootstrap",
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> Estimates:
    """The value of `policy`, the mean reward a shown item would have had, from `log`.

    `policy` is (n, actions), rows summing to 1; or (n,), its probabilities of what was shown: then
    only `ips` and `snips` can be told. `predicted`: what another model of the reward says, instead
    of the ridge regression of `predict_rewards`.
    Raises InputError if probabilities are none, ModelError if the policy shows nothing that was
    logged.
    """
    chosen = _chosen(log, policy)
    weight = weights(log, chosen)
    if not weight.any():
        raise ModelError(
            "the policy would never have shown what was logged, so the log says nothing of it",
            mend="use a log of a policy that tries everything now and then",
        )
    found = {"ips": ips(log, weight), "snips": snips(log, weight)}
    if policy.ndim == 2:
        predicted = predicted or predict_rewards(log, policy, seed=seed)
        found["direct"] = direct(predicted)
        found["doubly_robust"] = doubly_robust(log, weight, predicted)
    return Estimates(
        rows=len(log),
        effective_rows=effective_rows(weight),
        mean_weight=float(weight.mean()),
        largest_weight=float(weight.max()),
        logged_mean=float(log.rewards.mean()),
        values={
            name: interval(
                terms,
                groups=log.groups,
                spread=spread,
                seed=seed,
                resamples=resamples,
                level=level,
            )
            for name, terms in found.items()
        },
    )


def _chosen(log: Logged, policy: F64) -> F64:
    """The policy's probability of what was shown. Raises InputError if they are none."""
    wanted = (len(log), log.n_actions) if policy.ndim == 2 else (len(log),)
    if policy.shape != wanted:
        raise InputError(f"the policy has the shape {policy.shape}, the log asks for {wanted}",
                         mend="give a probability for each row and action")  # fmt: skip
    table = policy if policy.ndim == 2 else policy[:, None]
    known = np.isfinite(table).all(axis=1) & (table >= 0).all(axis=1) & (table <= 1).all(axis=1)
    _check(known, "a probability of the policy is not between 0 and 1", "give probabilities")
    if policy.ndim == 1:
        return policy
    _check(
        np.abs(table.sum(axis=1) - 1) < 1e-6,
        "the policy's probabilities do not sum to 1",
        "give every action's, and divide them by their sum",
    )
    return table[np.arange(len(log)), log.actions]


def _check(good: npt.ArrayLike, what: str, mend: str) -> None:
    """Raise InputError that names the first row that is not good."""
    if not np.all(good):
        raise InputError(what, where=f"row {int(np.argmin(good)) + 1}", mend=mend)


def _beside(log: Logged) -> F64:
    """What the model knows beside the action: contexts of variance 1, and positions, 0 or 1."""
    parts = [np.empty((len(log), 0))]
    if log.contexts is not None:
        scale = log.contexts.std(axis=0)
        parts.append((log.contexts - log.contexts.mean(axis=0)) / np.where(scale > 0, scale, 1.0))
    if log.positions is not None:
        parts.append((log.positions[:, None] == np.unique(log.positions)).astype(np.float64))
    return np.hstack(parts)


def _folds(log: Logged, folds: int, seed: int) -> I64:
    """The fold of each row; rows of one group share theirs."""
    groups = np.arange(len(log)) if log.groups is None else log.groups
    _, owner = np.unique(groups, return_inverse=True)
    n = int(owner.max()) + 1
    if n < 2:
        raise ModelError("a model of the reward needs two rows of different groups",
                         mend="log more, or ask for ips and snips alone")  # fmt: skip
    places = np.random.default_rng(seed).permutation(n)
    return (places % min(folds, n))[owner].astype(np.int64)


def _ridge(x: F64, r: F64) -> tuple[F64, F64]:
    """Coefficients and (X'X + λ)⁻¹ of centred columns and rewards, λ by the least GCV error."""
    size, turned = np.linalg.eigh(x.T @ x)
    size = np.maximum(size, 0.0)
    along = turned.T @ (x.T @ r)
    total, n = float(r @ r), len(r)

    def error(penalty: float) -> float:
        shrunk = along / (size + penalty)
        left = total - 2 * float(shrunk @ along) + float((shrunk**2) @ size)
        free = n - 1 - float((size / (size + penalty)).sum())
        return left / free**2 if free > 0 else np.inf

    penalty = min(_PENALTIES, key=error)
    inverse = (turned / (size + penalty)) @ turned.T
    return inverse @ (x.T @ r), inverse
