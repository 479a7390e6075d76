"""How sure a mean is: percentile bootstrap over users (Efron 1979), seeded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from limner.events.batch import F64

_CELLS = 4_000_000  # resampled values held at once


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the interval that holds it with the stated confidence.

    >>> Interval(0.2, 0.1, 0.3).excludes(0.0)
    True
    """

    mean: float
    low: float
    high: float

    def excludes(self, value: float) -> bool:
        """Whether `value` lies outside the interval."""
        return not self.low <= value <= self.high


def bootstrap_interval(
    values: npt.ArrayLike,
    *,
    users: npt.ArrayLike | None = None,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """The mean of one value a user, with its percentile bootstrap interval.

    With `users`, the user of each value, a user may have several: users are resampled whole, as
    what one user does is alike. Deterministic for a seed. NaN throughout if there are no values.
    """
    sample = np.asarray(values, dtype=np.float64)
    if len(sample) == 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    mean = float(sample.mean())
    sizes: F64 | None = None
    if users is not None and len(np.unique(users)) < len(sample):
        _, owner = np.unique(np.asarray(users), return_inverse=True)
        sizes = np.bincount(owner).astype(np.float64)
        sample = np.bincount(owner, sample).astype(np.float64)
    n = len(sample)
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    step = max(1, _CELLS // n)
    for start in range(0, resamples, step):
        stop = min(resamples, start + step)
        drawn = rng.integers(0, n, size=(stop - start, n))
        counts = n if sizes is None else sizes[drawn].sum(axis=1)
        means[start:stop] = sample[drawn].sum(axis=1) / counts
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high))


def paired_bootstrap(
    ours: npt.ArrayLike,
    theirs: npt.ArrayLike,
    *,
    users: npt.ArrayLike | None = None,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """The mean difference `ours − theirs` over the same users, with its interval.

    Users are resampled whole, so what is easy for both cancels out; a difference is shown when
    the interval excludes zero. `users` as in `bootstrap_interval`. Raises ValueError if the two
    are not of one length.
    """
    a, b = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"paired values differ in shape: {a.shape} and {b.shape}")
    return bootstrap_interval(a - b, users=users, seed=seed, resamples=resamples, level=level)
