"""From interactions to a blend: fit the families, learn their weights, fit on everything."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from limner.errors import ModelError
from limner.events.batch import F64
from limner.metrics.splits import Truth, first_group_after
from limner.model.blend import (
    FAMILIES,
    TASKS,
    Blend,
    Task,
    candidates,
    learn_apart,
    learn_weights,
)
from limner.model.frequency import Frequency, FrequencyConfig
from limner.model.known import AMOUNTS, VISIT, forgotten, visits
from limner.model.network import SequenceConfig
from limner.model.protocol import History, Interactions, ItemFeatures, Model, Progress
from limner.model.sequence import SequenceModel

DEFAULT = SequenceConfig()

SMALL = 15_000
"""Items up to which ease and transitions are among the families."""
MOMENTS = 4
QUESTIONS = 6_000
"""How often, and at most how many times in all, the blend's weights are asked what comes next."""
SHORT = 1_500
"""At most how many times for an amount that is known of a user."""


def families(
    features: ItemFeatures, *, seed: int = 0, sequence: SequenceConfig | None = DEFAULT
) -> dict[str, Model]:
    """One new model of each family that can work here, by name.

    Without attributes or content vectors there is no content part; without PyTorch (the extra
    `model`), or where `sequence` is None, no sequence part, and PyTorch is not loaded: the weights
    of the others are then learned without it. In large catalogues ease and transitions take minutes
    to solve, and no set of baskets has shown that they are worth it.
    """
    large = len(features.available) > SMALL
    out: dict[str, Model] = {}
    for name, make in FAMILIES.items():
        if name == "policy":
            continue  # learns from lists and rewards, not from interactions
        if name == "sequence":
            found = map(importlib.util.find_spec, ("torch", "safetensors"))
            if sequence is not None and all(found):
                out[name] = SequenceModel(replace(sequence, seed=sequence.seed + seed))
        elif name in ("ease", "transitions"):
            if not large:
                out[name] = make()
        elif name == "frequency":
            out[name] = Frequency(FrequencyConfig(seed=seed))
        elif name != "content" or features.vectors or any(map(len, features.values.values())):
            out[name] = make()
    return out


def cutoff_of(interactions: Interactions, share: float = 0.9) -> int:
    """The time before which `share` of all events lie, µs: a cutoff where none is given."""
    if not len(interactions.times):
        return 0
    return int(np.quantile(interactions.times, share, method="higher"))


def fit_all(
    interactions: Interactions,
    features: ItemFeatures,
    *,
    validation_cutoff: int | None = None,
    models: dict[str, Model] | None = None,
    seed: int = 0,
    progress: Progress,
) -> Blend:
    """A blend that has learned from all of `interactions`.

    The families are fitted on what came before `validation_cutoff` (by default the time before
    which nine in ten events lie), the weights are learned on each user's first basket, session or
    event from then on, and then every family is fitted on everything.
    Raises ModelError if there is nothing to learn from.
    """
    if not len(interactions.items):
        raise ModelError(
            "there are no interactions to learn from", mend="import events first: limner import"
        )
    cutoff = cutoff_of(interactions) if validation_cutoff is None else validation_cutoff
    blend = fit_before(
        interactions, features, cutoff=cutoff, models=models, seed=seed, progress=progress
    )
    blend.refit(interactions, features, progress=progress)
    return blend


def fit_before(
    interactions: Interactions,
    features: ItemFeatures,
    *,
    cutoff: int,
    models: dict[str, Model] | None = None,
    seed: int = 0,
    progress: Progress,
) -> Blend:
    """Families fitted on what came before `cutoff`, weights learned on what came next.

    What came next is asked at several moments from the cutoff on, each with the history up to
    it: one basket a user is too few to tell weights for rare new items from noise.
    """
    chosen = families(features, seed=seed) if models is None else models
    past = interactions.before(cutoff)
    for name, model in chosen.items():
        progress(f"fitting {name}", 0, 1)
        model.fit(past, features, progress=progress)
        progress(f"fitting {name}", 1, 1)
    truth, histories = _many_questions(interactions, cutoff, seed)
    found = candidates(chosen, histories, truth, progress=progress)
    weights: dict[str, dict[str, float]] = {
        task: _named(chosen, learn_weights(found[task])) for task in TASKS
    }
    apart = weights_apart(
        chosen,
        weights,
        (truth, histories),
        visits(interactions, cutoff, np.random.default_rng(seed)),
        seed=seed,
        progress=progress,
    )
    return Blend(chosen, weights | apart)


def weights_apart(
    models: Mapping[str, Model],
    weights: Mapping[str, Mapping[str, float]],
    some: tuple[Truth, Sequence[History]],
    visiting: tuple[Truth, Sequence[History]],
    *,
    tasks: Sequence[Task] = TASKS,
    seed: int = 0,
    progress: Progress,
) -> dict[str, dict[str, float]]:
    """The weights of the amounts (`model.known`) that need some of their own, for `Blend`.

    Of each question of `some` all but so much is forgotten; at most `SHORT` are asked an amount.
    """
    rng = np.random.default_rng(seed)
    out: dict[str, dict[str, float]] = {}
    for name in (*AMOUNTS, VISIT):
        truth, histories = visiting if name == VISIT else some
        keep = np.zeros(len(truth), dtype=bool)
        keep[rng.permutation(len(truth))[:SHORT]] = True
        asked = [histories[row] for row in np.flatnonzero(keep).tolist()]
        if name != VISIT:
            asked = [forgotten(history, name, rng) for history in asked]
        found = candidates(models, asked, truth.take(keep), tasks=tasks, progress=progress)
        for task in tasks:
            usual = np.array([weights[task][part] for part in models])
            learned = learn_apart(found[task], usual, seed=seed)
            if learned is not None:
                out[f"{task}, {name}"] = _named(models, learned)
    return out


def _named(models: Mapping[str, Model], weights: F64) -> dict[str, float]:
    return {name: float(weight) for name, weight in zip(models, weights, strict=True)}


def _many_questions(
    interactions: Interactions, cutoff: int, seed: int
) -> tuple[Truth, Sequence[History]]:
    """At most `QUESTIONS` of `questions`, put at `MOMENTS` evenly spread times from the cutoff."""
    length = int(interactions.times.max(initial=cutoff)) - cutoff
    times = sorted({cutoff + length * step // MOMENTS for step in range(MOMENTS)})
    asked = [questions(interactions, at) for at in times]
    users = np.concatenate([truth.users for truth, _ in asked])
    items = [found for truth, _ in asked for found in truth.items]
    histories = [history for _, some in asked for history in some]
    chosen = np.random.default_rng(seed).permutation(len(users))[:QUESTIONS]
    chosen.sort()
    truth = Truth(users[chosen], [items[place] for place in chosen])
    return truth, [histories[place] for place in chosen]


def questions(
    interactions: Interactions, cutoff: int, *, before: int | None = None
) -> tuple[Truth, Sequence[History]]:
    """What each user did first at or after `cutoff`, and their history strictly before it.

    Users without a history are left out: there is nothing personal to judge. An event of no or
    negative weight (a refund, a dislike) is history, but nothing to be predicted.
    """
    wanted = interactions.weights > 0
    before_row = np.concatenate([[0], np.cumsum(wanted)])
    truth = first_group_after(
        before_row[interactions.offsets],
        interactions.items[wanted],
        interactions.times[wanted],
        interactions.groups[wanted],
        cutoff,
        before=before,
    )
    histories = [interactions.history(int(user), cutoff) for user in truth.users]
    known = np.array([len(history) > 0 for history in histories], dtype=bool)
    return truth.take(known), [history for history in histories if len(history)]
