"""Synthetic users of five latent groups, with four features each and the best accuracy there is.

The table of the classic example of a label model: click rate, browsing seconds, purchases and
comments. How the features of each group are distributed is known, so the probability of each group
given the features is too (Bayes), and the accuracy of always saying the likeliest is the highest
that any model can reach on average.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
from scipy import stats

from limner.events.batch import F64, I64

FEATURES: Mapping[str, str] = {
    "X1": "click rate, 0 to 1",
    "X2": "browsing seconds a visit",
    "X3": "purchases a month",
    "X4": "comments so far",
}
LABEL = "label"


@dataclass(frozen=True, slots=True)
class Group:
    """A latent group: its share of users, and how its features are distributed, independently.

    `clicks` are the two parameters of a beta distribution, `seconds` the median and the standard
    deviation of the logarithm of a log-normal one, `purchases` and `comments` the mean and the
    size of negative binomial ones.
    """

    name: str
    share: float
    clicks: tuple[float, float]
    seconds: tuple[float, float]
    purchases: tuple[float, float]
    comments: tuple[float, float]

    def sample(self, n: int, random: np.random.Generator) -> F64:
        """Features of `n` users, (n, 4)."""
        median, sigma = self.seconds
        return np.stack(
            [
                random.beta(*self.clicks, n).round(4),
                random.lognormal(np.log(median), sigma, n).round(1),
                random.negative_binomial(*_sized(self.purchases), n),
                random.negative_binomial(*_sized(self.comments), n),
            ],
            axis=1,
        )

    def log_density(self, x: F64) -> F64:
        """Of features (n, 4), up to what all groups have in common; (n,)."""
        median, sigma = self.seconds
        inside = np.clip(x[:, 0], 5e-5, 1 - 5e-5)  # where rounding reached an end
        density: F64 = (
            stats.beta.logpdf(inside, *self.clicks)
            + stats.norm.logpdf(np.log(np.maximum(x[:, 1], 0.05)), np.log(median), sigma)
            + stats.nbinom.logpmf(x[:, 2], *_sized(self.purchases))
            + stats.nbinom.logpmf(x[:, 3], *_sized(self.comments))
        )
        return density


def _sized(given: tuple[float, float]) -> tuple[float, float]:
    """Mean and size of a negative binomial distribution as numpy and scipy take it: (n, p)."""
    mean, size = given
    return size, size / (size + mean)


GROUPS = (
    Group("browser", 0.30, (2.0, 5.0), (150, 0.7), (1.0, 2.0), (4, 1.5)),
    Group("bargain hunter", 0.25, (4.0, 4.0), (260, 0.6), (3.5, 4.0), (9, 2.0)),
    Group("loyal buyer", 0.20, (5.0, 3.0), (240, 0.6), (9.0, 6.0), (14, 2.0)),
    Group("reviewer", 0.15, (5.0, 2.5), (420, 0.5), (4.0, 4.0), (45, 4.0)),
    Group("enthusiast", 0.10, (8.0, 2.0), (520, 0.5), (10.0, 6.0), (80, 5.0)),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """Users (columns `FEATURES` and `LABEL`) and the best accuracy that can be reached on them.

    `attainable` is the mean probability of the likeliest group.
    """

    table: pa.Table
    attainable: float

    def write(self, path: Path) -> None:
        """As CSV."""
        pcsv.write_csv(self.table, path, pcsv.WriteOptions(quoting_style="needed"))


def sample(n: int, seed: int = 0) -> Sample:
    """`n` users; the same for the same seed."""
    random = np.random.default_rng(seed)
    codes = random.choice(len(GROUPS), n, p=[group.share for group in GROUPS])
    x = np.zeros((n, len(FEATURES)))
    for code, group in enumerate(GROUPS):
        rows = np.flatnonzero(codes == code)
        x[rows] = group.sample(len(rows), random)
    return Sample(_table(x, codes), float(posterior(x).max(axis=1).mean()))


def posterior(x: F64) -> F64:
    """The probability of each group given features (n, 4); (n, groups)."""
    logs = np.stack([np.log(group.share) + group.log_density(x) for group in GROUPS], axis=1)
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    out: F64 = powers / powers.sum(axis=1, keepdims=True)
    return out


def _table(x: F64, codes: I64) -> pa.Table:
    columns: dict[str, pa.Array] = dict(zip(FEATURES, map(pa.array, x.T), strict=True))
    for name in ("X3", "X4"):
        columns[name] = columns[name].cast(pa.int64())
    names = pa.array([group.name for group in GROUPS])
    return pa.table({**columns, LABEL: names.take(pa.array(codes))})
