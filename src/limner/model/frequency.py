"""What a user will do again: the odds that an item of their own history comes next.

A logistic regression over how often, how recently and how regularly the user chose the item, how
readily everyone repeats it, and whether it is in season. It learns from moments in the past, each
seen as it stood then; on data without repeats it learns that nothing is repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from limner.events.batch import DAY, F64, I64
from limner.model.artifacts import read_arrays, write_arrays
from limner.model.moments import moments, owners_of, ranges
from limner.model.protocol import F32, History, Interactions, ItemFeatures, Progress

_FLOOR = 1e-3  # chance below which a repeat is not told apart from anything else
_GROUP_PRIOR = 20.0


@dataclass(frozen=True, slots=True)
class FrequencyConfig:
    """`questions`: past moments learned from, in all; `window_days`: how far back in a user's time
    they lie; `half_lives_days`: of the decayed counts; `prior`: strength of an item's mean repeat
    rate; `negatives`: items not repeated that are learned from, at most.
    """

    questions: int = 6000
    window_days: float = 30.0
    half_lives_days: tuple[float, float, float] = (7.0, 30.0, 120.0)
    prior: float = 30.0
    ridge: float = 1.0
    negatives: int = 300_000
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Pairs:
    """Each (history, item) once, with what tells how likely it is to come again."""

    owner: I64
    item: I64
    columns: F64  # (n, features)


class Frequency:
    """log(1 + P(the user chooses the item next) / 0.001) for items of the history, else 0."""

    def __init__(self, config: FrequencyConfig | None = None) -> None:
        self.config = config or FrequencyConfig()
        self.coefficients: F64 = np.zeros(0)
        self.item_table: F64 = np.zeros((0, 3))

    @property
    def name(self) -> str:
        """`frequency`."""
        return "frequency"

    def fit(self, data: Interactions, features: ItemFeatures, *, progress: Progress) -> None:
        """Learn the odds by Newton's method on each user's recent past."""
        now = int(data.times.max(initial=0)) + 1
        owners = owners_of(data.offsets)
        asked, when, labels = self._questions(data, owners)
        # Item rates for learning come from before the questions, so no label is in its own input.
        start = now - int(self.config.window_days * DAY)
        past = data.times < start
        if not past.any() or not len(asked):
            past = np.zeros(len(owners), dtype=bool)
        self.item_table = self._items(owners[past], data, past, start)
        if len(asked):
            first, last = data.offsets[asked], np.zeros(len(asked), dtype=np.int64)
            for row, (user, at) in enumerate(zip(asked, when, strict=True)):
                stop = int(data.offsets[user + 1])
                last[row] = first[row] + np.searchsorted(data.times[first[row] : stop], at)
            lengths = last - first
            rows = ranges(first, last)
            pairs = self._pairs(
                np.repeat(np.arange(len(asked)), lengths),
                data.items[rows].astype(np.int64),
                data.times[rows],
                data.groups[rows],
                data.weights[rows],
                when,
            )
            keys = pairs.owner * data.n_items + pairs.item
            truth = np.isin(keys, labels)
            # Every repeat, and a sample of what was not repeated that stands for the rest.
            share = min(1.0, self.config.negatives / max(1, int((~truth).sum())))
            rng = np.random.default_rng(self.config.seed)
            kept = np.flatnonzero(truth | (rng.random(len(truth)) < share))
            self.coefficients = _logistic(
                pairs.columns[kept],
                truth[kept].astype(np.float64),
                np.where(truth[kept], 1.0, 1.0 / share),
                self.config.ridge,
            )
        else:
            self.coefficients = np.zeros(0)
        everything = np.ones(len(owners), dtype=bool)
        self.item_table = self._items(owners, data, everything, now)

    def update(self, data: Interactions, features: ItemFeatures, *, progress: Progress) -> None:
        """Learn again; it takes seconds."""
        self.fit(data, features, progress=progress)

    def embed(self, histories: Sequence[History]) -> F32:
        """No vector."""
        return np.zeros((len(histories), 0), dtype=np.float32)

    def score(self, histories: Sequence[History], items: I64 | None = None) -> F32:
        """Scores (n, n_items) or (n, len(items))."""
        n_items = len(self.item_table)
        out = np.zeros((len(histories), n_items if items is None else len(items)), dtype=np.float32)
        lengths = np.array([len(history) for history in histories], dtype=np.int64)
        if not lengths.sum() or not len(self.coefficients):
            return out
        pairs = self._pairs(
            np.repeat(np.arange(len(histories)), lengths),
            np.concatenate([history.items for history in histories]).astype(np.int64),
            np.concatenate([history.times for history in histories]),
            np.concatenate([history.groups for history in histories]),
            np.concatenate([history.weights for history in histories]),
            np.array([history.now for history in histories], dtype=np.int64),
        )
        chance = _sigmoid(pairs.columns @ self.coefficients)
        found = np.log1p(chance / _FLOOR)
        if items is None:
            out[pairs.owner, pairs.item] = found
            return out
        for column, item in enumerate(items.tolist()):
            of = pairs.item == item
            out[pairs.owner[of], column] = found[of]
        return out

    def save(self, folder: Path) -> None:
        """Write coefficients and item rates."""
        arrays = {"coefficients": self.coefficients, "items": self.item_table}
        write_arrays(folder, arrays, {"config": asdict(self.config)})

    def load(self, folder: Path) -> None:
        """Read what `save` wrote."""
        arrays, meta = read_arrays(folder, ("coefficients", "items"))
        config = meta["config"]
        config["half_lives_days"] = tuple(config["half_lives_days"])
        self.config = FrequencyConfig(**config)
        self.coefficients, self.item_table = arrays["coefficients"], arrays["items"]

    # ------------------------------------------------------------ inside

    def _questions(self, data: Interactions, owners: I64) -> tuple[I64, I64, I64]:
        """(users, times asked, keys question · n_items + item of what came next).

        A question, to a user drawn at random, is put at an even chance of time within the user's
        last `window_days`, so long waits are met as often as in life, and its answer is the
        user's next moment.
        """
        rng = np.random.default_rng(self.config.seed)
        moment = moments(owners, data.times, data.groups)
        asked: list[int] = []
        when: list[int] = []
        labels: list[I64] = []
        window = int(self.config.window_days * DAY)
        several = np.flatnonzero(np.diff(data.offsets) >= 2)
        each = min(8, -(-self.config.questions // max(1, len(several))))
        drawn = rng.permutation(np.repeat(several, each))[: self.config.questions]
        for user in np.sort(drawn):
            start, stop = int(data.offsets[user]), int(data.offsets[user + 1])
            times = data.times[start:stop]
            if times[0] == times[-1]:
                continue
            earliest = max(int(times[0]) + 1, int(times[-1]) - window)
            at = int(rng.integers(earliest, int(times[-1]) + 1))
            row = int(np.searchsorted(times, at))
            end = int(np.searchsorted(moment[start:stop], moment[start + row], side="right"))
            labels.append(
                len(asked) * np.int64(data.n_items) + data.items[start + row : start + end]
            )
            asked.append(int(user))
            when.append(at)
        return (
            np.array(asked, dtype=np.int64),
            np.array(when, dtype=np.int64),
            np.concatenate(labels) if labels else np.zeros(0, dtype=np.int64),
        )

    def _items(self, owners: I64, data: Interactions, rows: np.ndarray, now: int) -> F64:
        """(n_items, 3): log odds of a repeat, log count, and season (recent against usual)."""
        n = data.n_items
        if not rows.any():
            return np.zeros((n, 3))
        items, times = data.items[rows].astype(np.int64), data.times[rows]
        moment = moments(owners, times, data.groups[rows])
        key = owners * n + items
        order = np.lexsort((moment, key))
        key, moment, ordered = key[order], moment[order], owners[order]
        distinct = np.ones(len(key), dtype=bool)
        distinct[1:] = (key[1:] != key[:-1]) | (moment[1:] != moment[:-1])
        opens = np.ones(len(key), dtype=bool)
        opens[1:] = key[1:] != key[:-1]
        last_moment = np.zeros(data.n_users, dtype=np.int64)
        np.maximum.at(last_moment, ordered, moment)
        item = key % n
        repeats = np.bincount(item[distinct & ~opens], minlength=n)
        chances = np.bincount(
            item[opens], (last_moment[ordered] - moment)[opens].astype(np.float64), minlength=n
        )
        overall = (repeats.sum() + 1.0) / (chances.sum() + 10.0)
        rate = (repeats + self.config.prior * overall) / (chances + self.config.prior)
        count = np.bincount(items, minlength=n).astype(np.float64)
        recent = np.bincount(items, np.exp2((times - now) / (14.0 * DAY)), minlength=n)
        usual = np.bincount(items, np.exp2((times - now) / (180.0 * DAY)), minlength=n)
        season = np.log((recent + 0.5) / (usual + 0.5 * usual.sum() / max(recent.sum(), 1e-9)))
        season += np.log(usual.sum() / max(recent.sum(), 1e-9))
        rate = np.clip(rate, 1e-6, 1 - 1e-6)
        return np.stack([np.log(rate / (1 - rate)), np.log1p(count), season], axis=1)

    def _pairs(self, owner: I64, item: I64, time: I64, group: I64, weight: F64, now: I64) -> Pairs:
        """Columns for each (history, item); rows sorted by owner, then time."""
        n = np.int64(len(self.item_table))
        moment = moments(owner, time, group)
        n_owners = len(now)
        first_moment = np.full(n_owners, len(moment), dtype=np.int64)
        last_moment = np.full(n_owners, -1, dtype=np.int64)
        np.minimum.at(first_moment, owner, moment)
        np.maximum.at(last_moment, owner, moment)
        sizes = np.bincount(owner, minlength=n_owners)
        key = owner * n + item
        order = np.argsort(key, kind="stable")
        key, moment, time, weight = key[order], moment[order], time[order], weight[order]
        fresh = np.ones(len(key), dtype=bool)  # one row a moment
        fresh[1:] = (key[1:] != key[:-1]) | (moment[1:] != moment[:-1])
        amount = np.add.reduceat(weight, np.flatnonzero(fresh)) if len(key) else weight
        key, moment, time = key[fresh], moment[fresh], time[fresh]
        amount = np.clip(amount, 0.0, 1.0)
        opens = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
        closes = np.append(opens[1:], len(key)) - 1
        who = key[opens] // n
        what = key[opens] % n
        age = (now[key // n] - time) / DAY
        count = (closes - opens + 1).astype(np.float64)
        decayed = [
            np.add.reduceat(amount * np.exp2(-age / half), opens)
            for half in self.config.half_lives_days
        ]
        since_first = (last_moment[who] - moment[opens] + 1).astype(np.float64)
        since_last = (last_moment[who] - moment[closes]).astype(np.float64)
        recency = age[closes]
        tenure = age[opens]
        visits = (last_moment - first_moment + 1)[who].astype(np.float64)
        basket = sizes[who] / visits
        # A gap is a user's typical wait for this item, drawn towards their whole time with it.
        gap = (tenure - recency + tenure) / (count + 1.0)
        overdue = np.log((recency + 0.5) / (gap + 0.5))
        rate = (count - 1.0 + 0.2) / (since_first + 2.0)
        log_rate = np.log(rate)
        table = self.item_table[what]
        columns = np.stack(
            [
                np.ones(len(who)),
                np.log(count),
                *(np.log(part + 0.01) for part in decayed),
                log_rate,
                np.log1p(since_last),
                np.log1p(recency),
                overdue,
                overdue**2,
                np.log(basket),
                np.log(visits),
                table[:, 0],
                table[:, 1],
                table[:, 2],
                table[:, 0] * np.log(count),
                table[:, 0] * np.log1p(since_last),
                (count == 1.0).astype(np.float64),
                log_rate * np.log1p(since_last),
            ],
            axis=1,
        )
        return Pairs(who, what, columns)


def _sigmoid(x: F64) -> F64:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(x, -30.0, 30.0))))


def _logistic(columns: F64, truth: F64, weight: F64, ridge: float) -> F64:
    """Coefficients by Newton's method on standardised columns; the constant is unpenalised."""
    mean, spread = columns.mean(axis=0), columns.std(axis=0)
    mean[0], spread[0] = 0.0, 1.0
    spread[spread < 1e-9] = 1.0
    x = (columns - mean) / spread
    beta = np.zeros(x.shape[1])
    share = np.clip((truth @ weight) / weight.sum(), 1e-6, 1 - 1e-6)
    beta[0] = np.log(share / (1 - share))
    penalty = np.full(len(beta), ridge)
    penalty[0] = 1e-6
    for _ in range(12):
        p = _sigmoid(x @ beta)
        gradient = x.T @ (weight * (truth - p)) - penalty * beta
        curvature = (x * (weight * p * (1 - p))[:, None]).T @ x + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        beta += np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < 1e-5:
            break
    out = beta / spread
    out[0] = beta[0] - float((beta[1:] * mean[1:] / spread[1:]).sum())
    return np.asarray(out)
