"""What users with such a history newly chose next: a sequential ridge regression.

Past moments are asked what each user's next basket held that the user never had. The answer is
learned as a linear function of the history then, seen in taste's directions: for questions of
features φ = (1, vector of the history), targets y (1/√k at each of the k new items) and weights w,

    B = (Φᵀ W Φ + λ I)⁻¹ Φᵀ W Y,    score = φ · B in units of its spread,

the constant unpenalised (Hoerl and Kennard 1970). Taste tells what lies together in histories,
this what comes after them. Closed form, and linear in the history, so it says exactly what each
event adds. Things nobody ever repeats are all new; where nobody takes anything new there is
nothing to learn, and the score is 0 for everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import scipy  # its parts are loaded when used: opening a store should not wait for them

from limner.events.batch import DAY, F64, I64
from limner.model.artifacts import read_arrays, write_arrays
from limner.model.moments import owners_of, ranges, starts
from limner.model.popularity import first_times
from limner.model.products import products
from limner.model.protocol import F32, History, Interactions, ItemFeatures, Progress
from limner.model.taste import Taste, TasteConfig, spread


@dataclass(frozen=True, slots=True)
class RidgeConfig:
    """`moments`: how often the past is asked, every `every_days` back from the newest event (more
    closely where there is less past); `window_days`: the next basket counts if it begins within;
    `half_life_days`: of a question's weight; `ridge`: λ; `questions`: learned from, at most.
    """

    moments: int = 20
    every_days: float = 6.0
    window_days: float = 14.0
    half_life_days: float = 60.0
    ridge: float = 10.0
    questions: int = 60_000
    seed: int = 0
    taste: TasteConfig = field(default_factory=TasteConfig)


@dataclass(frozen=True, slots=True)
class Asked:
    """Questions to the past, ascending by moment: what did `users[q]` newly choose next at
    `at[moment[q]]` (µs)? Answers are rows of the interactions: `rows` of question `answers`.
    """

    at: I64  # (moments,), ascending
    users: I64  # (q,)
    moment: I64  # (q,)
    rows: I64
    answers: I64  # ascending


class Ridge:
    """φ · B, in units of its spread over histories and items.

    Holds two tables of float32, rank × items × 4 bytes each: taste's directions and B.
    """

    def __init__(self, config: RidgeConfig | None = None) -> None:
        self.config = config or RidgeConfig()
        self.taste = Taste(self.config.taste)
        self.coefficients: F32 = np.zeros((0, 1), dtype=np.float32)
        none: F32 = np.zeros(0, dtype=np.float32)
        self._parts: tuple[F32, F32, F32] = none, none, none

    @property
    def name(self) -> str:
        """`discovery`, after what it tells."""
        return "discovery"

    def fit(self, data: Interactions, features: ItemFeatures, *, progress: Progress) -> None:
        """Learn from questions to the past of all of `data`: one product and one small solve."""
        self.taste = Taste(self.config.taste)
        self.taste.fit(data, features, progress=progress)
        asked = questions(data, self.config)
        seen = self.seen(data, asked)
        self.coefficients = np.zeros((data.n_items, seen.shape[1]), dtype=np.float32)
        if not len(seen):
            return
        age = (data.times.max() + 1 - asked.at[asked.moment]) / DAY
        weighted = seen * np.exp2(-age / self.config.half_life_days)[:, None]
        penalty = np.full(seen.shape[1], self.config.ridge)
        penalty[0] = 0.0
        solved = np.linalg.solve(weighted.T @ seen + np.diag(penalty), weighted.T)
        new = np.bincount(asked.answers, minlength=len(seen))
        targets = scipy.sparse.csr_matrix(
            (1.0 / np.sqrt(new[asked.answers]), (data.items[asked.rows], asked.answers)),
            shape=(data.n_items, len(seen)),
            dtype=np.float32,
        )
        self.coefficients = targets @ np.ascontiguousarray(solved.T, dtype=np.float32)
        self.coefficients /= spread(seen, self.coefficients)

    def update(self, data: Interactions, features: ItemFeatures, *, progress: Progress) -> None:
        """Learn again; it takes seconds."""
        self.fit(data, features, progress=progress)

    def embed(self, histories: Sequence[History]) -> F32:
        """No vector of its own: a user's vector is taste's."""
        return np.zeros((len(histories), 0), dtype=np.float32)

    def score(self, histories: Sequence[History], items: I64 | None = None) -> F32:
        """Scores (n, n_items) or (n, len(items)).

        For an empty history, what everyone newly chooses.
        """
        base, table = self._apart()
        if items is not None:
            base, table = base[items], table[items]
        out = products(self.taste.embed(histories), table)
        out += base
        return out

    def _apart(self) -> tuple[F32, F32]:
        """What everyone newly chooses (N,), and the rest (N, d), each as it lies in a product."""
        of, base, table = self._parts
        if of is not self.coefficients:
            of = self.coefficients
            base, table = of[:, 0].copy(), np.ascontiguousarray(of[:, 1:])
            self._parts = of, base, table
        return base, table

    def attribute(self, history: History, items: I64) -> F64:
        """What each event adds to each item's score beyond that of an empty history, (k, n)."""
        return self.taste.shares(history, self.coefficients[items, 1:])

    def save(self, folder: Path) -> None:
        """Write coefficients and configuration, and the directions in a folder of their own."""
        write_arrays(folder, {"coefficients": self.coefficients}, {"config": asdict(self.config)})
        self.taste.save(folder / "taste")

    def load(self, folder: Path) -> None:
        """Read what `save` wrote."""
        arrays, meta = read_arrays(folder, ("coefficients",))
        taste = TasteConfig(**meta["config"].pop("taste"))
        self.config = RidgeConfig(**meta["config"], taste=taste)
        self.coefficients = arrays["coefficients"]
        self.taste = Taste(taste)
        self.taste.load(folder / "taste")

    def seen(self, data: Interactions, asked: Asked) -> F64:
        """φ of each question, (q, 1 + rank): 1, then the vector of the user's history then.

        Goes through time once: from one moment to the next every decayed count, and so every
        vector before it is brought to length 1, fades by one factor, and only what came between
        is added. So a question costs what is new since the one before, not the whole history.
        """
        users, who = np.unique(asked.users, return_inverse=True)
        first, last = data.offsets[users], data.offsets[users + 1]
        rows = ranges(first, last)
        owners = np.repeat(np.arange(len(users)), last - first)
        items, times, weights = data.items[rows], data.times[rows], data.weights[rows]
        keys, pair = np.unique(owners * np.int64(data.n_items) + items, return_inverse=True)
        owner, item = keys // data.n_items, keys % data.n_items  # of each pair
        order = np.argsort(np.searchsorted(asked.at, times, side="right"), kind="stable")
        ends = np.searchsorted(np.sort(times), asked.at, side="left")
        amount = np.zeros(len(keys))
        vectors = np.zeros((len(users), self.taste.directions.shape[1]), dtype=np.float32)
        out = np.ones((len(asked.users), 1 + vectors.shape[1]))
        half_life = self.taste.config.half_life_days * DAY
        for place, at in enumerate(asked.at):
            if place:
                fade = np.exp2((asked.at[place - 1] - at) / half_life)
                amount *= fade
                vectors *= np.float32(np.sqrt(fade))
            fresh = order[ends[place - 1] if place else 0 : ends[place]]
            worth = self.taste.worth(times[fresh], weights[fresh], int(at))
            touched, back = np.unique(pair[fresh], return_inverse=True)
            before = np.sqrt(amount[touched])
            amount[touched] += np.bincount(back, worth, minlength=len(touched))
            grown = (np.sqrt(amount[touched]) - before) * self.taste.inverse[item[touched]]
            vectors += (
                scipy.sparse.csr_matrix(
                    (grown.astype(np.float32), (owner[touched], item[touched])),
                    shape=(len(users), data.n_items),
                )
                @ self.taste.directions
            )
            lengths = np.sqrt(np.bincount(owner, amount, minlength=len(users)))
            now = asked.moment == place
            out[now, 1:] = vectors[who[now]] / np.maximum(lengths[who[now]], 1e-9)[:, None]
        return out


def questions(data: Interactions, config: RidgeConfig) -> Asked:
    """Moments of the past at which a user with a history next chose something never had.

    An answer is the next basket or session, or the next event where there are none, as
    `limner.metrics.splits.first_group_after` reads it; events of no or negative weight (a
    refund, a dislike) are history, but no answer. Drawn at random where there are too many.
    """
    end = int(data.times.max(initial=0)) + 1
    past = end - int(data.times.min(initial=end))
    step = min(int(config.every_days * DAY), past // (config.moments + 1))
    at = end - step * np.arange(config.moments, 0, -1)
    owners = owners_of(data.offsets)
    wanted = np.flatnonzero(data.weights > 0)
    runs = np.flatnonzero(starts(owners, np.where(data.groups >= 0, 0, data.times), data.groups))
    runs = np.append(runs, len(owners))
    new = np.zeros(len(owners), dtype=bool)
    new[first_times(data)] = True
    new_rows = np.flatnonzero(new & (data.weights > 0))
    found = []
    for place, now in enumerate(at):
        before = np.concatenate([[0], np.cumsum(data.times < now)])[data.offsets]
        stop = data.offsets[:-1] + np.diff(before)
        known = stop > data.offsets[:-1]
        user, stop = np.flatnonzero(known), stop[known]
        first = np.append(wanted, len(owners))[np.searchsorted(wanted, stop)]
        soon = first < data.offsets[user + 1]
        user, first = user[soon], first[soon]
        soon = data.times[first] < now + config.window_days * DAY
        user, first = user[soon], first[soon]
        last = np.minimum(runs[np.searchsorted(runs, first, side="right")], data.offsets[user + 1])
        low, high = np.searchsorted(new_rows, first), np.searchsorted(new_rows, last)
        some = high > low
        found.append(np.stack([user[some], np.full(int(some.sum()), place), low[some], high[some]]))
    user, moment, low, high = np.concatenate(found, axis=1)
    if len(user) > config.questions:
        drawn = np.random.default_rng(config.seed).permutation(len(user))[: config.questions]
        drawn.sort()
        user, moment, low, high = user[drawn], moment[drawn], low[drawn], high[drawn]
    return Asked(
        at, user, moment, new_rows[ranges(low, high)], np.repeat(np.arange(len(user)), high - low)
    )
