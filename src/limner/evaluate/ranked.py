"""Fit, ask, rank the whole catalogue, compare: protocols that know one answer a question.

No sampled negatives: every item is ranked but those in the context (−∞). Ties count half. Models
and blend learn from `Split.learned`, the blend's weights from the validation's answers; the test
is read once, if at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from limner.errors import ModelError
from limner.evaluate.asked import Asked, Split, ranks_of
from limner.evaluate.baselines import Scorer
from limner.events.batch import F64, I64
from limner.metrics.intervals import Interval, bootstrap_interval, paired_bootstrap
from limner.metrics.splits import Truth
from limner.model.blend import candidates, learn_weights
from limner.model.protocol import History, Interactions, ItemFeatures, Model, Progress
from limner.model.sequence import SequenceModel

METRICS = ("hit_rate", "ndcg")
QUESTIONS = 6_000
"""At most so many answers of the validation teach the blend its weights."""
_USERS = 128  # scored at once

Table = npt.NDArray[np.floating[Any]]
Fit = Callable[[Interactions], Scorer]
Make = Callable[[int], Mapping[str, Model]]
"""New models, by name, for a seed."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured, HR and NDCG at `k`: the mean over seeds of each question's value.

    `systems[name][metric]` on the test, each with its 95 % bootstrap interval over users;
    `differences[name][metric]`: `main` minus that system on the same questions, paired;
    `best_baseline`: by NDCG. `validation[name][metric]`: means only. `by_seed[name][metric]`: the
    means of each seed. `weights`: the blend's, of each seed. `windows` (prequential only): `start`
    and `stop` (µs), `questions`, and `systems[name][metric]`. `seconds[name]`: of fitting (and of
    the blend, learning weights), a seed. `test` is False where only the validation was read.
    """

    protocol: str
    data: Mapping[str, Any]
    main: str
    baselines: Sequence[str]
    k: int
    seeds: Sequence[int]
    refit: bool
    query_time: bool
    test: bool
    questions: int
    systems: Mapping[str, Mapping[str, Interval]]
    differences: Mapping[str, Mapping[str, Interval]]
    validation: Mapping[str, Mapping[str, float]]
    by_seed: Mapping[str, Mapping[str, Sequence[float]]]
    weights: Sequence[Mapping[str, float]]
    windows: Sequence[Mapping[str, Any]] = ()
    seconds: Mapping[str, float] = field(default_factory=dict, compare=False)

    @property
    def best_baseline(self) -> str | None:
        """The baseline with the highest NDCG on the test."""
        measured = [name for name in self.baselines if name in self.systems]
        return max(measured, key=lambda name: self.systems[name]["ndcg"].mean, default=None)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "best_baseline": self.best_baseline}


def measure(
    split: Split,
    features: ItemFeatures,
    *,
    protocol: str,
    about: Mapping[str, Any],
    make: Make,
    baselines: Mapping[str, Fit],
    seeds: Sequence[int] = (0,),
    refit: bool = False,
    query_time: bool = False,
    test: bool = True,
    k: int = 10,
    progress: Progress,
) -> Report:
    """Fit all on what is learned from, choose on the validation, and read the test once.

    With `refit`, models and baselines learn from `split.known` before the test is asked; the
    weights stay. With `test` False the test is not read. A model without a seed in its config is
    fitted once for all seeds. Deterministic for the seeds.
    Raises ModelError if there is nothing to ask or a model's scores are no numbers.
    """
    if not len(split.validation) or not len(split.test):
        raise ModelError(
            "there is nothing to ask", mend="three items a user are needed, or a longer time"
        )
    seconds: dict[str, float] = {}
    asked = split.test if test else split.validation
    on_test: dict[str, list[F64]] = {}
    on_validation: dict[str, list[F64]] = {}
    for name, fit in baselines.items():
        progress(f"fitting {name}", 0, 1)
        started = time.perf_counter()
        scorer = fit(split.learned)
        seconds[name] = time.perf_counter() - started
        progress(f"fitting {name}", 1, 1)
        on_validation[name] = [ranks_by({name: scorer}, {}, split.validation, progress)[name]]
        if test:
            scorer = fit(split.known) if refit else scorer
            on_test[name] = [ranks_by({name: scorer}, {}, asked, progress)[name]]
    weights: list[Mapping[str, float]] = []
    models: dict[str, Model] = {}
    for seed in seeds:
        models = {
            name: models[name] if name in models and not _seeded(model) else model
            for name, model in make(seed).items()
        }
        fitted = [name for name, m in models.items() if weights and not refit and not _seeded(m)]
        fit_models(
            models, split.learned, features, keep=fitted, held=split.validation,
            seconds=seconds, progress=progress,
        )  # fmt: skip
        started = time.perf_counter()
        weights.append(learn_blend(models, split.validation, seed=seed, progress=progress))
        seconds["blend"] = seconds.get("blend", 0.0) + time.perf_counter() - started
        collect(on_validation, models, weights[-1], split.validation, progress)
        if test:
            if refit:
                fit_models(models, split.known, features, seconds={}, progress=progress)
            collect(on_test, models, weights[-1], asked, progress)
    seconds["blend"] = seconds.get("blend", 0.0) / max(1, len(seeds))
    return compared(
        on_test,
        on_validation,
        users=split.test.users,
        protocol=protocol,
        data=about,
        main=main_of(models),
        baselines=list(baselines),
        k=k,
        seeds=list(seeds),
        refit=refit,
        query_time=query_time,
        test=test,
        questions=len(asked),
        weights=weights,
        seconds=seconds,
    )


def compared(
    on_test: Mapping[str, Sequence[F64]],
    on_validation: Mapping[str, Sequence[F64]],
    *,
    users: I64,
    main: str,
    k: int,
    **said: Any,
) -> Report:
    """The report of each system's ranks, a run over the same questions for each seed.

    `users`: whose question of the test each is.
    """
    values = {name: [values_of(found, k) for found in runs] for name, runs in on_test.items()}
    means = {
        name: {metric: np.mean([one[metric] for one in by_seed], axis=0) for metric in METRICS}
        for name, by_seed in values.items()
    }
    return Report(
        main=main,
        k=k,
        systems={
            name: {m: bootstrap_interval(v, users=users) for m, v in by_metric.items()}
            for name, by_metric in means.items()
        },
        differences={
            name: {
                metric: paired_bootstrap(means[main][metric], by_metric[metric], users=users)
                for metric in METRICS
            }
            for name, by_metric in means.items()
            if main and name != main
        },
        validation={
            name: {
                metric: float(np.mean([values_of(found, k)[metric].mean() for found in runs]))
                for metric in METRICS
            }
            for name, runs in on_validation.items()
        },
        by_seed={
            name: {metric: [float(one[metric].mean()) for one in by_seed] for metric in METRICS}
            for name, by_seed in values.items()
        },
        **said,
    )


def main_of(models: Mapping[str, Model]) -> str:
    """What is compared with all others: the blend, or the one model there is."""
    return "blend" if len(models) > 1 else next(iter(models), "")


def learn_blend(
    models: Mapping[str, Model], asked: Asked, *, seed: int = 0, progress: Progress
) -> dict[str, float]:
    """Each model's weight in a sum of scores, learned on (some of) these questions' answers."""
    if len(models) < 2:
        return dict.fromkeys(models, 1.0)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(asked))[:QUESTIONS])
    some = asked.take(chosen)
    found = candidates(models, some.histories(), _answers(some), tasks=("new",), progress=progress)
    learned = learn_weights(found["new"])
    return {name: float(w) for name, w in zip(models, learned, strict=True)}


def _answers(asked: Asked) -> Truth:
    return Truth(asked.users, list(asked.truth.astype(np.int32)[:, None]))


def _seeded(model: Model) -> bool:
    return hasattr(getattr(model, "config", None), "seed")


def fit_models(
    models: Mapping[str, Model],
    data: Interactions,
    features: ItemFeatures,
    *,
    keep: Collection[str] = (),
    held: Asked | None = None,
    seconds: dict[str, float],
    progress: Progress,
) -> None:
    """Fit all but those to `keep`; how long each took goes into `seconds`.

    What trains in passes ends by the answers of `held`, without learning them.
    """
    for name, model in models.items():
        if name in keep:
            continue
        started = time.perf_counter()
        progress(f"fitting {name}", 0, 1)
        if isinstance(model, SequenceModel) and held is not None:
            told = held.histories(), _answers(held)
            model.fit(data, features, progress=progress, held=told)
        else:
            model.fit(data, features, progress=progress)
        progress(f"fitting {name}", 1, 1)
        seconds[name] = time.perf_counter() - started


def collect(
    into: dict[str, list[F64]],
    models: Mapping[str, Model],
    weights: Mapping[str, float],
    asked: Asked,
    progress: Progress,
) -> None:
    """Add to `into` the ranks by each model and by their blend."""
    scorers = {name: model.score for name, model in models.items()}
    blended = weights if len(models) > 1 else {}
    for name, found in ranks_by(scorers, blended, asked, progress).items():
        into.setdefault(name, []).append(found)


def ranks_by(
    scorers: Mapping[str, Scorer], weights: Mapping[str, float], asked: Asked, progress: Progress
) -> dict[str, F64]:
    """The rank of each answer by each scorer and, where there are weights, by their blend."""
    names = [*(["blend"] if weights else []), *scorers]
    out: dict[str, list[F64]] = {name: [np.zeros(0)] for name in names}
    for start in range(0, len(asked), _USERS):
        progress(f"ranking for {', '.join(scorers)}", start, len(asked))
        histories = asked.histories(start, start + _USERS)
        truth = asked.truth[start : start + _USERS]
        tables: dict[str, Table] = {n: np.array(score(histories)) for n, score in scorers.items()}
        if weights:
            blended = np.zeros(next(iter(tables.values())).shape)
            for name, weight in weights.items():
                if weight:
                    blended += tables[name] * np.float64(weight)
            tables = {"blend": blended, **tables}
        for name, table in tables.items():
            out[name].append(_judged(name, table, histories, truth))
    progress(f"ranking for {', '.join(scorers)}", len(asked), len(asked))
    return {name: np.concatenate(found) for name, found in out.items()}


def _judged(name: str, table: Table, histories: Sequence[History], truth: I64) -> F64:
    try:
        return ranks_of(table, histories, truth)
    except ValueError as error:
        raise ModelError(str(error), where=name, mend="look at what it learned from") from error


def values_of(ranks: F64, k: int) -> dict[str, F64]:
    """HR@k and NDCG@k of each question with one answer at a (maybe halved) rank."""
    hit = ranks <= k
    return {
        "hit_rate": hit.astype(np.float64),
        "ndcg": np.where(hit, 1.0 / np.log2(1.0 + ranks), 0.0),
    }
