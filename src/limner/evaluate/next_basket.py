"""How well the next basket is predicted, against baselines, without a look at the future.

One global cutoff. Models see only what came strictly before it; the truth is each user's first
basket (or session, or single event) at or after it; the whole catalogue is ranked. Two tasks:
"next" counts repeats, "new" removes what the user already had from ranking and truth alike.
Weights are learned the same way at an earlier cutoff, and the test period is read once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from limner.errors import ModelError
from limner.evaluate.baselines import Scorer, baselines
from limner.events.batch import F64
from limner.metrics.intervals import Interval, bootstrap_interval, paired_bootstrap
from limner.metrics.ranking import hit_rate, hits, ndcg, recall, top_k
from limner.metrics.splits import Truth
from limner.model.blend import TASKS, Blend, Task, remove_seen
from limner.model.protocol import History, Interactions, ItemFeatures, Model, Progress
from limner.model.training import cutoff_of, fit_before, questions

METRICS = ("hit_rate", "ndcg", "recall")
_USERS = 32  # scored at once

Table = npt.NDArray[np.floating[Any]]
Results = dict[str, dict[str, dict[str, F64]]]
"""task → system → metric → one value a user."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured. Times in µs; `systems[task][system][metric]` and, for each baseline,
    `differences[task][baseline][metric]`: blend minus baseline over the same users, paired.
    """

    cutoff: int
    validation_cutoff: int
    k: int
    seed: int
    events: int
    items: int
    users: dict[str, int]
    weights: Mapping[str, Mapping[str, float]]
    systems: dict[str, dict[str, dict[str, Interval]]]
    differences: dict[str, dict[str, dict[str, Interval]]]
    seconds: dict[str, float] = field(default_factory=dict, compare=False)

    @property
    def beats_baselines(self) -> bool:
        """Whether every paired difference lies above zero with its whole interval."""
        lows = [
            interval.low
            for by_system in self.differences.values()
            for by_metric in by_system.values()
            for interval in by_metric.values()
        ]
        return bool(lows) and all(low > 0 for low in lows)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Report:
        """The report that `to_json` gave; what could not be measured is NaN again."""
        return msgspec.convert(_unclean(value), cls)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; what could not be measured is null."""
        cleaned = _clean(asdict(self))
        assert isinstance(cleaned, dict)
        return {**cleaned, "beats_baselines": self.beats_baselines}


def evaluate_next_basket(
    interactions: Interactions,
    features: ItemFeatures,
    *,
    cutoff: int | None = None,
    validation_cutoff: int | None = None,
    models: dict[str, Model] | None = None,
    k: int = 10,
    seed: int = 0,
    progress: Progress,
) -> Report:
    """Fit before the cutoff, predict what came next, compare. Deterministic for a seed.

    Without cutoffs, the last tenth of the events is tested and the last tenth before it
    validates. `models` replaces the families (by name). Raises ModelError if nothing came before
    the cutoffs.
    """
    return fit_and_measure(
        interactions,
        features,
        cutoff=cutoff,
        validation_cutoff=validation_cutoff,
        models=models,
        k=k,
        seed=seed,
        progress=progress,
    )[0]


def fit_and_measure(
    interactions: Interactions,
    features: ItemFeatures,
    *,
    cutoff: int | None = None,
    validation_cutoff: int | None = None,
    models: dict[str, Model] | None = None,
    k: int = 10,
    seed: int = 0,
    progress: Progress,
) -> tuple[Report, Blend]:
    """The same, with the blend that was measured: it has seen nothing from the cutoff on.

    What training uses: a blend is measured before it learns the rest.
    """
    test = cutoff_of(interactions) if cutoff is None else cutoff
    past = interactions.before(test)
    validation = cutoff_of(past) if validation_cutoff is None else validation_cutoff
    if validation >= test or not (past.times < validation).any():
        raise ModelError(
            "nothing to learn from before the cutoffs",
            mend="choose a later --cutoff, and a validation cutoff before it",
        )
    seconds = {}
    started = time.perf_counter()
    blend = fit_before(
        past, features, cutoff=validation, models=models, seed=seed, progress=progress
    )
    seconds["fit_and_blend"] = time.perf_counter() - started
    started = time.perf_counter()
    blend.refit(past, features, progress=progress)
    seconds["fit_to_cutoff"] = time.perf_counter() - started
    started = time.perf_counter()
    truth, histories = questions(interactions, test)
    results = measure(blend, baselines(past), truth, histories, k=k, progress=progress)
    report = Report(
        cutoff=test,
        validation_cutoff=validation,
        k=k,
        seed=seed,
        events=len(past.items),
        items=past.n_items,
        users={task: len(results[task]["blend"]["ndcg"]) for task in TASKS},
        weights=blend.weights,
        systems={
            task: {
                system: {m: bootstrap_interval(v, seed=seed) for m, v in by_metric.items()}
                for system, by_metric in by_system.items()
            }
            for task, by_system in results.items()
        },
        differences={
            task: {
                system: {
                    m: paired_bootstrap(by_system["blend"][m], by_metric[m], seed=seed)
                    for m in METRICS
                }
                for system, by_metric in by_system.items()
                if system in BASELINES
            }
            for task, by_system in results.items()
        },
        seconds=seconds,
    )
    seconds["evaluate"] = time.perf_counter() - started
    return report, blend


BASELINES = ("most popular", "own most frequent", "item-to-item")


def measure(
    blend: Blend,
    others: Mapping[str, Scorer],
    truth: Truth,
    histories: Sequence[History],
    *,
    k: int = 10,
    progress: Progress,
) -> Results:
    """Each metric of each user, for the blend, every baseline, and every part on its own.

    Users with nothing true in a task are left out of it.
    """
    values: dict[str, dict[str, list[F64]]] = {task: {} for task in TASKS}
    for start in range(0, len(histories), _USERS):
        progress("evaluating", start, len(histories))
        some = histories[start : start + _USERS]
        parts = {name: model.score(some) for name, model in blend.models.items()}
        tables = {name: np.array(score(some)) for name, score in others.items()}
        tables |= {f"part: {name}": np.array(scores) for name, scores in parts.items()}
        for task in TASKS:
            blended = np.zeros_like(next(iter(tables.values())), dtype=np.float32)
            for name, weight in blend.weighing(some, task).items():
                blended += parts[name] * weight[:, None].astype(np.float32)
            ranked_by: dict[str, Table] = {"blend": blended, **tables}
            true = truth.items[start : start + _USERS]
            if task == "new":
                true = remove_seen(some, true, list(ranked_by.values()))
            sizes = np.array([len(items) for items in true], dtype=np.int64)
            for system, table_ in ranked_by.items():
                found = hits(top_k(table_, k), true)
                one = np.stack([hit_rate(found, k), ndcg(found, sizes, k), recall(found, sizes, k)])
                values[task].setdefault(system, []).append(one[:, sizes > 0])
    progress("evaluating", len(histories), len(histories))
    names = ["blend", *others, *(f"part: {name}" for name in blend.models)]
    out: Results = {}
    for task in TASKS:
        out[task] = {}
        for system in names:
            joined = np.concatenate([np.zeros((3, 0)), *values[task].get(system, [])], axis=1)
            out[task][system] = dict(zip(METRICS, joined, strict=True))
    return out


def ndcg_of(
    blend: Blend,
    truth: Truth,
    histories: Sequence[History],
    task: Task,
    *,
    k: int = 10,
    progress: Progress,
) -> F64:
    """NDCG@k of each question by a blend alone; NaN where nothing is true in the task."""
    values = [np.zeros(0)]
    for start in range(0, len(histories), _USERS):
        progress("asking what is new", start, len(histories))
        some = histories[start : start + _USERS]
        scores = blend.score(some, task)
        true = truth.items[start : start + _USERS]
        if task == "new":
            true = remove_seen(some, true, [scores])
        sizes = np.array([len(items) for items in true], dtype=np.int64)
        found = ndcg(hits(top_k(scores, k), true), sizes, k)
        values.append(np.where(sizes > 0, found, np.nan))
    progress("asking what is new", len(histories), len(histories))
    return np.concatenate(values)


def table(report: Report) -> str:
    """The report as plain text, one block a task: means, intervals, and the blend's lead."""
    titles: dict[Task, str] = {
        "next": "next basket (repeats count)",
        "new": "new to the user (what they already had is removed)",
    }
    lines = []
    for task, title in titles.items():
        lines.append(f"{title}: {report.users[task]:,} users, {report.items:,} items ranked")
        head = [f"{metric.replace('_', ' ')}@{report.k}" for metric in METRICS]
        lines.append("  " + f"{'':26}" + "".join(f"{name:>24}" for name in head))
        for system, by_metric in report.systems[task].items():
            cells = [_cell(by_metric[metric]) for metric in METRICS]
            lines.append("  " + f"{system:26}" + "".join(f"{cell:>24}" for cell in cells))
        lines.append("  the blend's lead, paired, 95 % interval")
        for system, by_metric in report.differences[task].items():
            cells = [_cell(by_metric[metric], sign="+") for metric in METRICS]
            lines.append("  " + f"over {system:21}" + "".join(f"{cell:>24}" for cell in cells))
        lines.append("")
    return "\n".join(lines)


def _cell(interval: Interval, sign: str = "") -> str:
    if math.isnan(interval.mean):
        return "–"
    return f"{interval.mean:{sign}.4f} [{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]"


def _clean(value: object) -> object:
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, Mapping):
        return {str(key): _clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    return value


def _unclean(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _unclean(inner) for key, inner in value.items()}
    return math.nan if value is None else value
