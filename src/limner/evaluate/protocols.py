"""The protocols by name: leave one out, one cutoff in time, and predict – reveal – update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from limner.errors import UsageError
from limner.evaluate.asked import leave_last_out, split_in_time
from limner.evaluate.baselines import one_answer
from limner.evaluate.prequential import replayed
from limner.evaluate.ranked import Fit, Make, Report, measure
from limner.model.protocol import Interactions, ItemFeatures, Model, Progress
from limner.model.training import families


def loo(
    data: Interactions,
    features: ItemFeatures,
    *,
    name: str = "",
    timed: bool = True,
    make: Make | None = None,
    baselines: Mapping[str, Fit] | None = None,
    seeds: Sequence[int] = (0,),
    refit: bool = False,
    query_time: bool = False,
    test: bool = True,
    k: int = 10,
    progress: Progress,
) -> Report:
    """Leave one out: per user the last item tests and the one before it validates.

    Strict unless `refit`: models and blend have not seen the validation's items, which are in the
    context at test. `make` gives the models of a seed, by default every family; `baselines` what
    fits each baseline. `query_time`: the moment of asking is known (that of the answer), instead
    of the moment after the context. `test` False reads the validation only.
    Raises ModelError if nobody has three items.
    """
    return measure(
        leave_last_out(data, query_time=query_time and timed),
        features,
        protocol="loo",
        about=_about(data, name, timed),
        make=make or _families(features),
        baselines=_baselines(data, timed) if baselines is None else baselines,
        seeds=seeds,
        refit=refit,
        query_time=query_time and timed,
        test=test,
        k=k,
        progress=progress,
    )


def in_time(
    data: Interactions,
    features: ItemFeatures,
    *,
    name: str = "",
    timed: bool = True,
    share: float = 0.1,
    make: Make | None = None,
    baselines: Mapping[str, Fit] | None = None,
    seeds: Sequence[int] = (0,),
    test: bool = True,
    k: int = 10,
    progress: Progress,
) -> Report:
    """One cutoff for all: what came before it trains, every later event is predicted in order.

    The last `share` of time is asked, each event with the context up to its moment; weights are
    learned on the same share before it, then all learn what came before the cutoff.
    Raises UsageError for data without times, ModelError if nothing is left to ask.
    """
    _needs_times(timed)
    return measure(
        split_in_time(data, share=share),
        features,
        protocol="time",
        about=_about(data, name, timed),
        make=make or _families(features),
        baselines=_baselines(data, timed) if baselines is None else baselines,
        seeds=seeds,
        refit=True,
        query_time=True,
        test=test,
        k=k,
        progress=progress,
    )


def prequential(
    data: Interactions,
    features: ItemFeatures,
    *,
    name: str = "",
    timed: bool = True,
    share: float = 0.1,
    windows: int = 10,
    make: Make | None = None,
    baselines: Mapping[str, Fit] | None = None,
    seeds: Sequence[int] = (0,),
    test: bool = True,
    k: int = 10,
    progress: Progress,
) -> Report:
    """Predict, reveal, update: the last `share` of time, event by event, in windows.

    Contexts are fresh at every event, the models learn at every window's start.
    Raises UsageError for data without times, ModelError if nothing is left to ask.
    """
    _needs_times(timed)
    return replayed(
        data,
        features,
        about=_about(data, name, timed),
        make=make or _families(features),
        baselines=_baselines(data, timed) if baselines is None else baselines,
        share=share,
        windows=windows,
        seeds=seeds,
        test=test,
        k=k,
        progress=progress,
    )


def _families(features: ItemFeatures) -> Make:
    def make(seed: int) -> dict[str, Model]:
        return families(features, seed=seed)

    return make


def _baselines(data: Interactions, timed: bool) -> Mapping[str, Fit]:
    return one_answer(timed=timed, n_items=data.n_items)


def _about(data: Interactions, name: str, timed: bool) -> dict[str, Any]:
    return {
        "name": name,
        "users": data.n_users,
        "items": data.n_items,
        "events": len(data.items),
        "timed": timed,
    }


def _needs_times(timed: bool) -> None:
    if not timed:
        raise UsageError(
            "only the order of events is known here, not their times",
            mend="use --protocol loo, or data with a time for each event",
        )
