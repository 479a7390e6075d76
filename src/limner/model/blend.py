"""One score from several families: a weighted sum, so that it can be taken apart again (law 5).

total = Σ weight[task][part] · score[part]. Weights are non-negative and learned on a validation
period for each task: "next" (repeats count) and "new" (what the user already had is removed), and
of either once more for each amount that is known of a user (`model.known`), where that pays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import scipy  # its parts are loaded when used: opening a store should not wait for them

from limner.errors import ModelError
from limner.events.batch import F64, I32, I64, Bool
from limner.metrics.ranking import ndcg, top_k
from limner.metrics.splits import Truth
from limner.model.artifacts import read_json, seal, verify, write_json
from limner.model.content import Content
from limner.model.frequency import Frequency
from limner.model.item_to_item import ItemToItem
from limner.model.known import amount
from limner.model.linear import EASE, TRANSITIONS, Linear
from limner.model.policy import Policy
from limner.model.popularity import Popularity
from limner.model.protocol import F32, History, Interactions, ItemFeatures, Model, Progress
from limner.model.ridge import Ridge
from limner.model.sequence import SequenceModel
from limner.model.taste import Taste

Task = Literal["next", "new"]
TASKS: tuple[Task, ...] = ("next", "new")

_USERS = 32  # scored at once
LEAST = 50
"""Users with an answer that weights of their own are learned from."""

FAMILIES: dict[str, Callable[[], Model]] = {
    "popularity": Popularity,
    "frequency": Frequency,
    "item_to_item": ItemToItem,
    "ease": lambda: Linear(EASE),
    "transitions": lambda: Linear(TRANSITIONS),
    "taste": Taste,
    "discovery": Ridge,
    "content": Content,
    "sequence": SequenceModel,
    "policy": Policy,
}
"""Every family by the name of its part."""


@dataclass(frozen=True, slots=True)
class Blend:
    """Fitted families and the weight of each.

    `weights`: by task, "next" and "new", and by task and amount, such as "next, 1 event", where
    users of whom so much is known have weights of their own.
    """

    models: Mapping[str, Model]
    weights: Mapping[str, Mapping[str, float]]

    def weights_for(self, history: History, task: Task) -> Mapping[str, float]:
        """The weight of each part for a user of whom this is known."""
        return self.weights.get(f"{task}, {amount(history)}", self.weights[task])

    def weighing(
        self, histories: Sequence[History], task: Task, like: History | None = None
    ) -> dict[str, F64]:
        """The weight of each part for each history, (n,), of parts that have any.

        All are weighed as `like` would be, if given: what a user's score would be without an
        event is asked of the same sum.
        """
        each = [self.weights_for(history if like is None else like, task) for history in histories]
        table = {name: np.array([of.get(name, 0.0) for of in each]) for name in self.models}
        return {name: weights for name, weights in table.items() if weights.any()}

    def parts(
        self,
        histories: Sequence[History],
        task: Task = "next",
        items: npt.ArrayLike | None = None,
        like: History | None = None,
    ) -> dict[str, F64]:
        """What each part adds to the score, (n, n_items) or (n, len(items)), by part.

        Summed in the order of the mapping they are the score. Parts of weight 0 are left out.
        Already-chosen items are scored like others; removing them is the caller's filter.
        """
        chosen = None if items is None else np.asarray(items, dtype=np.int64)
        out: dict[str, F64] = {
            name: self.models[name].score(histories, chosen) * weight[:, None]
            for name, weight in self.weighing(histories, task, like).items()
        }
        if not out:
            name, model = next(iter(self.models.items()))
            out[name] = model.score(histories, chosen) * np.float64(0.0)
        return out

    def score(
        self,
        histories: Sequence[History],
        task: Task = "next",
        items: npt.ArrayLike | None = None,
    ) -> F64:
        """The sum of `parts`."""
        return total(self.parts(histories, task, items))

    def embed(self, histories: Sequence[History]) -> F32:
        """The vectors of all families side by side, (n, d); d = 0 if none has one."""
        return np.concatenate([model.embed(histories) for model in self.models.values()], axis=1)

    def refit(self, data: Interactions, features: ItemFeatures, *, progress: Progress) -> None:
        """Fit every family on `data` from nothing; the weights stay.

        For moving on by weeks: weights are learned for families as `fit` leaves them, and a
        sequence model that is only updated drifts from what they were learned for.
        """
        for name, model in self.models.items():
            progress(f"fitting {name}", 0, 1)
            model.fit(data, features, progress=progress)
            progress(f"fitting {name}", 1, 1)

    def update(self, data: Interactions, features: ItemFeatures, *, progress: Progress) -> None:
        """Update every family with `data`, which is all there is now; the weights stay."""
        for model in self.models.values():
            model.update(data, features, progress=progress)

    def save(self, folder: Path) -> None:
        """Write `blend.json`, a folder a part, and a manifest with a SHA-256 of every file."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, model in self.models.items():
            model.save(folder / name)
        weights = {task: dict(parts) for task, parts in self.weights.items()}
        write_json(
            folder / "blend.json", {"format": 1, "parts": list(self.models), "weights": weights}
        )
        seal(folder)

    @classmethod
    def load(cls, folder: Path) -> Blend:
        """Read what `save` wrote.

        Raises ModelError if a file is missing or differs from the manifest, MissingExtra if a
        part needs one that is not installed.
        """
        verify(folder)
        head = read_json(folder / "blend.json")
        if head.get("format") != 1:
            raise ModelError(
                f"format {head.get('format')!r} is not known",
                where=str(folder),
                mend="train again with this version: limner train",
            )
        models = {}
        for name in head["parts"]:
            if name not in FAMILIES:
                raise ModelError(f"part {name!r} is not known", where=str(folder))
            models[name] = FAMILIES[name]()
            models[name].load(folder / name)
        return cls(models, head["weights"])


def total(parts: Mapping[str, F64]) -> F64:
    """The sum of parts in the order of the mapping."""
    arrays = list(parts.values())
    out = arrays[0].copy()
    for array in arrays[1:]:
        out += array
    return out


# ---------------------------------------------------------------- learning the weights


@dataclass(frozen=True, slots=True)
class Candidates:
    """Scored candidates of each user: `scores` (n, c, parts), padding marked in `valid` (n, c)."""

    items: I64  # (n, c)
    scores: F32  # (n, c, parts)
    valid: Bool  # (n, c)
    truth: Bool  # (n, c), candidates that came true
    sizes: I64  # (n,), true items whether or not among the candidates

    def take(self, rows: Bool) -> Candidates:
        """Those of some users."""
        return Candidates(
            self.items[rows],
            self.scores[rows],
            self.valid[rows],
            self.truth[rows],
            self.sizes[rows],
        )


def candidates(
    models: Mapping[str, Model],
    histories: Sequence[History],
    truth: Truth,
    *,
    depth: int = 50,
    tasks: Sequence[Task] = TASKS,
    progress: Progress,
) -> dict[Task, Candidates]:
    """For each task the union of every part's first `depth` items, for users with a truth.

    For "new", what the user already had is neither a candidate nor true.
    """
    rows: dict[Task, list[tuple[I64, F32, Bool, int]]] = {task: [] for task in tasks}
    for start in range(0, len(histories), _USERS):
        progress("scoring the validation period", start, len(histories))
        some = histories[start : start + _USERS]
        tables = [np.array(model.score(some)) for model in models.values()]
        for task in tasks:
            true = truth.items[start : start + _USERS]
            if task == "new":
                true = remove_seen(some, true, tables)
            lists = [top_k(table, depth) for table in tables]
            for row in range(len(some)):
                if not len(true[row]):
                    continue
                chosen = np.unique(np.concatenate([ranked[row] for ranked in lists]))
                chosen = chosen[chosen >= 0]
                scores = np.stack([table[row, chosen] for table in tables], axis=1)
                rows[task].append((chosen, scores, np.isin(chosen, true[row]), len(true[row])))
    progress("scoring the validation period", len(histories), len(histories))
    return {task: _padded(found, len(models)) for task, found in rows.items()}


def remove_seen(
    histories: Sequence[History],
    truth: Sequence[I32],
    tables: Sequence[npt.NDArray[np.floating[Any]]],
) -> list[I32]:
    """Set what each user already had to −inf in `tables`, in place; the truth without it."""
    for row, history in enumerate(histories):
        for table in tables:
            table[row, history.items] = -np.inf
    return [
        np.setdiff1d(items, history.items).astype(np.int32)
        for items, history in zip(truth, histories, strict=True)
    ]


def _padded(rows: list[tuple[I64, F32, Bool, int]], parts: int) -> Candidates:
    wide = max((len(row[0]) for row in rows), default=1)
    n = len(rows)
    out = Candidates(
        np.full((n, wide), -1, dtype=np.int64),
        np.zeros((n, wide, parts), dtype=np.float32),
        np.zeros((n, wide), dtype=bool),
        np.zeros((n, wide), dtype=bool),
        np.array([row[3] for row in rows], dtype=np.int64),
    )
    for place, (items, scores, true, _) in enumerate(rows):
        out.items[place, : len(items)] = items
        out.scores[place, : len(items)] = scores
        out.truth[place, : len(items)] = true
        out.valid[place, : len(items)] = True
    return out


def learn_weights(found: Candidates, *, pull: float = 1.0, seed: int = 0) -> F64:
    """Non-negative weights of the parts for one task.

    The conditional logit (`logit_weights`), or the search on NDCG@10 that starts from it
    (`searched_weights`) where that is better beyond doubt: fitted on one half of the users and
    judged on the other, both ways, its mean gain must exceed two standard errors. NDCG is what
    counts, but it moves in steps, and where few things come true a search follows the noise.
    """
    logit = logit_weights(found, pull=pull)

    def searched(some: Candidates) -> F64:
        return searched_weights(some, logit_weights(some, pull=pull))

    better = _better(found, searched, lambda some: logit_weights(some, pull=pull), seed)
    return searched_weights(found, logit) if better else logit


def learn_apart(found: Candidates, weights: F64, *, seed: int = 0) -> F64 | None:
    """Weights of their own for some of all users, None where `weights`, those of all, will do.

    That is unless `learn_weights` of these users rank better beyond doubt, judged as it judges,
    and there are `LEAST` of them.
    """
    if len(found.sizes) < LEAST or not _better(found, learn_weights, lambda _: weights, seed):
        return None
    return learn_weights(found, seed=seed)


Learn = Callable[[Candidates], F64]


def _better(found: Candidates, ours: Learn, theirs: Learn, seed: int) -> bool:
    """Whether what one way learns from half of the users ranks the other half better, beyond two
    standard errors of the mean gain, both ways.
    """
    half = np.random.default_rng(seed).permutation(len(found.sizes)) % 2 == 0
    gains = []
    for learn, judge in ((half, ~half), (~half, half)):
        some, others = found.take(learn), found.take(judge)
        if not some.truth.any() or not others.truth.any():
            return False
        gains.append(candidate_ndcg(others, ours(some)) - candidate_ndcg(others, theirs(some)))
    gain = np.concatenate(gains)
    return bool(gain.mean() > 2.0 * gain.std() / np.sqrt(len(gain)))


def logit_weights(found: Candidates, *, pull: float = 1.0) -> F64:
    """The conditional logit (McFadden 1974): the softmax over a user's candidates of what came
    true, pulled towards equal weights as if by `pull` users, so that a shop with few users keeps
    sensible ones.
    """
    parts = found.scores.shape[2]
    prior = _equal(found)
    if not found.truth.any():
        return prior

    share = found.truth / np.maximum(found.sizes, 1)[:, None]
    mass = share.sum(axis=1)

    def loss(unit: F64) -> tuple[float, F64]:
        weights = unit * prior
        value = (found.scores @ weights.astype(np.float32)).astype(np.float64)
        value[~found.valid] = -np.inf
        value -= value.max(axis=1, keepdims=True)
        chance = np.exp(value)
        norm = chance.sum(axis=1, keepdims=True)
        chance /= norm
        finite = np.where(found.valid, value, 0.0)
        nll = float((np.log(norm[:, 0]) * mass).sum() - (share * finite).sum())
        slope = np.einsum("nc,ncp->p", (chance * mass[:, None] - share), found.scores)
        nll += pull * float(((unit - 1.0) ** 2).sum())
        return nll, slope * prior + 2 * pull * (unit - 1.0)

    fitted = scipy.optimize.minimize(
        loss, np.ones(parts), jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * parts
    )
    weights: F64 = fitted.x * prior
    return weights


def searched_weights(found: Candidates, start: F64) -> F64:
    """A coordinate search on mean NDCG@10, from `start` and from the best part alone."""
    prior = _equal(found)
    alone = [np.where(np.arange(len(prior)) == part, prior, 0.0) for part in range(len(prior))]
    ends = [
        _search(found, start, prior),
        _search(found, max(alone, key=lambda one: candidate_ndcg(found, one).mean()), prior),
    ]
    return max(ends, key=lambda end: candidate_ndcg(found, end).mean())


def _equal(found: Candidates) -> F64:
    """Weights under which every part spreads alike; 0 for a part that tells nothing apart."""
    parts = found.scores.shape[2]
    spread = found.scores[found.valid].std(axis=0) if found.valid.any() else np.ones(parts)
    equal: F64 = 0.5 / np.maximum(spread.astype(np.float64), 1e-3)
    return np.where(spread > 1e-6, equal, 0.0)


def _search(found: Candidates, weights: F64, prior: F64) -> F64:
    """Coordinate search on NDCG@10; a step must gain more than noise would."""

    def quality(trial: F64) -> float:
        return float(candidate_ndcg(found, trial).mean())

    best = quality(weights)
    for step in (2.0, 1.4, 1.15):
        for part in range(len(weights)):
            for factor in (step, 1.0 / step, 0.0):
                trial = weights.copy()
                trial[part] = (weights[part] or prior[part] * 0.1) * factor
                value = quality(trial)
                if value > best * 1.002:
                    best, weights = value, trial
    return weights


def candidate_ndcg(found: Candidates, weights: F64, k: int = 10) -> F64:
    """NDCG@k of each user when the candidates are ranked by these weights."""
    value = found.scores @ weights.astype(np.float32)
    value[~found.valid] = -np.inf
    width = min(k, value.shape[1])
    best = np.argpartition(-value, width - 1, axis=1)[:, :width]
    order = np.argsort(-np.take_along_axis(value, best, axis=1), axis=1, kind="stable")
    best = np.take_along_axis(best, order, axis=1)
    return ndcg(np.take_along_axis(found.truth, best, axis=1), found.sizes, k)
