"""Whether a new version may take the place of the one in use: never worse, as far as can be told.

Both are asked the same questions about the newest events before either has learned them
(prequential, Dawid 1984), and each question's NDCG@10 is compared, paired, over users.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from limner.errors import ConfigError
from limner.metrics.intervals import Interval, paired_bootstrap

Outcome = Literal["few", "win", "tie", "unsure", "worse"]


@dataclass(frozen=True, slots=True)
class GateConfig:
    """What it takes to be promoted. NDCG@10 is judged, which lies between 0 and 1.

    `least`: users that must have been asked for anything to be decided; `tie`: users it takes to
    promote a version that is no certain win; such a one is ahead in the mean and, with confidence
    `level`, behind by no more than `margin`.
    """

    least: int = 50
    tie: int = 500
    margin: float = 0.005
    level: float = 0.95

    def check(self, where: str) -> None:
        """Refuse what means nothing. Raises ConfigError."""
        for name, wrong, mend in (
            ("least", self.least < 2, "use 2 or more"),
            ("tie", self.tie < self.least, "use gate.least or more"),
            ("margin", not 0 <= self.margin <= 1, "use 0 to 1"),
            ("level", not 0.5 <= self.level < 1, "use .5 to less than 1, such as .95"),
        ):
            if wrong:
                value = getattr(self, name)
                raise ConfigError(f"{name} = {value} means nothing", where=where, mend=mend)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate says: whether to promote the candidate, and why in words.

    `incumbent` and `candidate`: mean NDCG@10 over `questions` of `users`; `difference`: candidate
    minus incumbent with its interval at the gate's level. None where nothing was asked.
    """

    promoted: bool
    outcome: Outcome
    reason: str
    questions: int
    users: int
    incumbent: float | None = None
    candidate: float | None = None
    difference: Interval | None = None


def judge(
    incumbent: npt.ArrayLike,
    candidate: npt.ArrayLike,
    *,
    users: npt.ArrayLike | None = None,
    config: GateConfig | None = None,
    seed: int = 0,
) -> Verdict:
    """Compare one value a question, higher being better, of the version in use and a new one.

    `users`: whose each question is; each its own if not given. Promotes on a win (the interval of
    the difference lies above 0), or on a tie as `GateConfig` says; else the incumbent stays. Of
    two versions it never promotes each over the other. Deterministic for a seed.
    Raises ValueError for values of different lengths or that are no numbers.
    """
    config = config or GateConfig()
    ours, theirs = np.asarray(candidate, dtype=float), np.asarray(incumbent, dtype=float)
    asked = np.arange(len(ours)) if users is None else np.asarray(users)
    if not len(ours) == len(theirs) == len(asked):
        raise ValueError(f"{len(ours)} and {len(theirs)} values of {len(asked)} questions")
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        raise ValueError("a value is no number")
    n = len(np.unique(asked))
    if n < config.least:
        reason = f"{n} of the {config.least} users it takes to decide have been asked"
        return Verdict(False, "few", reason, len(ours), n)
    found = paired_bootstrap(ours, theirs, users=asked, seed=seed, level=config.level)
    outcome, reason = _decided(found, n, config)
    return Verdict(
        outcome in ("win", "tie"),
        outcome,
        f"{reason}: NDCG@10 {theirs.mean():.4f} → {ours.mean():.4f}, {found.mean:+.4f} "
        f"[{found.low:+.4f}, {found.high:+.4f}] over {n:,} users",
        len(ours),
        n,
        float(theirs.mean()),
        float(ours.mean()),
        found,
    )


def _decided(found: Interval, users: int, config: GateConfig) -> tuple[Outcome, str]:
    if found.mean > 0 and found.low > 0:
        return "win", "it is better beyond chance"
    if found.mean < 0 and found.high < 0:
        return "worse", "it is worse beyond chance"
    if found.low <= -config.margin:
        return "unsure", f"it may be behind by more than {config.margin:g}"
    if found.mean <= 0:
        return "unsure", "it is not ahead"
    if users < config.tie:
        return "unsure", f"it is ahead within chance, and a tie takes {config.tie:,} users"
    return "tie", f"it is ahead within chance, and behind by no more than {config.margin:g}"
