"""Predict, reveal, update: quality as a live system would have it, window by window.

Events come in the order of time. Each is predicted from what its user had done until then, and is
then part of the user's context; at every window's start the models and baselines learn all that
came before it (`Model.update`). The blend's weights are learned once, before the first window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from limner.errors import ModelError
from limner.evaluate.asked import between, first_only, split_in_time
from limner.evaluate.ranked import (
    METRICS,
    Fit,
    Make,
    Report,
    collect,
    compared,
    fit_models,
    learn_blend,
    main_of,
    ranks_by,
    values_of,
)
from limner.events.batch import F64
from limner.model.protocol import Interactions, ItemFeatures, Progress


def replayed(
    data: Interactions,
    features: ItemFeatures,
    *,
    about: Mapping[str, Any],
    make: Make,
    baselines: Mapping[str, Fit],
    share: float,
    windows: int,
    seeds: Sequence[int],
    test: bool,
    k: int,
    progress: Progress,
) -> Report:
    """The last `share` of time in `windows` of equal length, each learned before the next.

    Raises ModelError if there is nothing to ask.
    """
    data = first_only(data)
    split = split_in_time(data, share=share)
    if not len(split.validation) or not len(split.test):
        raise ModelError("there is nothing to ask", mend="a longer time is needed")
    start = int(split.test.now.min())
    edges = np.linspace(start, int(data.times.max()) + 1, windows + 1).astype(np.int64)
    spans = list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)) if test else []
    on_test: dict[str, list[F64]] = {}
    on_validation: dict[str, list[F64]] = {}
    weights: list[Mapping[str, float]] = []
    seconds: dict[str, float] = {}
    for name, fit in baselines.items():
        scorer = {name: fit(split.learned)}
        on_validation[name] = [ranks_by(scorer, {}, split.validation, progress)[name]]
        found = []
        for first, stop in spans:
            scorer = {name: fit(data.before(first))}
            found.append(ranks_by(scorer, {}, between(data, first, stop), progress)[name])
        if test:
            on_test[name] = [np.concatenate(found)]
    main = ""
    for seed in seeds:
        models = dict(make(seed))
        main = main_of(models)
        fit_models(models, split.learned, features, seconds=seconds, progress=progress)
        weights.append(learn_blend(models, split.validation, seed=seed, progress=progress))
        collect(on_validation, models, weights[-1], split.validation, progress)
        runs: dict[str, list[F64]] = {}
        for number, (first, stop) in enumerate(spans):
            progress("windows", number, len(spans))
            past = data.before(first)
            if number == 0:
                fit_models(models, past, features, seconds={}, progress=progress)
            else:
                for model in models.values():
                    model.update(past, features, progress=progress)
            collect(runs, models, weights[-1], between(data, first, stop), progress)
        for name, parts in runs.items():
            on_test.setdefault(name, []).append(np.concatenate(parts))
    return compared(
        on_test,
        on_validation,
        users=split.test.users,
        protocol="prequential",
        data=about,
        main=main,
        baselines=list(baselines),
        k=k,
        seeds=list(seeds),
        refit=True,
        query_time=True,
        test=test,
        questions=len(split.test) if test else len(split.validation),
        weights=weights,
        windows=_windows(on_test, [len(between(data, *span)) for span in spans], spans, k),
        seconds=seconds,
    )


def _windows(
    ranks: Mapping[str, Sequence[F64]],
    sizes: Sequence[int],
    spans: Sequence[tuple[int, int]],
    k: int,
) -> list[dict[str, Any]]:
    """What each window's questions gave, the mean over seeds."""
    edges = np.concatenate([[0], np.cumsum(sizes)]).astype(int)
    out = []
    for number, (start, stop) in enumerate(spans):
        rows = slice(edges[number], edges[number + 1])
        systems = {
            name: {
                metric: float(np.mean([values_of(run[rows], k)[metric] for run in runs]))
                for metric in METRICS
            }
            for name, runs in ranks.items()
            if sizes[number]
        }
        out.append({"start": start, "stop": stop, "questions": sizes[number], "systems": systems})
    return out
