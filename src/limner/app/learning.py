"""Models learn from the log: train, measure, publish."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from limner.app.removal import ERASED_SINCE
from limner.errors import ModelError
from limner.events.log import Position
from limner.events.meant import Meant
from limner.model import registry
from limner.model.interactions import features, interactions
from limner.model.protocol import Interactions, ItemFeatures, Model, Progress
from limner.recommend.scorer import Scorer

if TYPE_CHECKING:  # and what fits models is imported where it is used: readers need not wait
    from limner.app.limner import Limner
    from limner.evaluate.next_basket import Report
    from limner.model.blend import Blend


@dataclass(frozen=True, slots=True)
class Trained:
    """A model that was trained: its version, and each part's weight in each task."""

    version: str
    seconds: float
    users: int
    items: int
    events: int
    weights: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def training_data(app: Limner, before: int | None) -> tuple[Interactions, ItemFeatures]:
    """`Limner.training_data`."""
    found = _lesson(app, before)
    return found.data, found.attributes


@dataclass(frozen=True, slots=True)
class _Lesson:
    """What there is to learn from, with the ids of its items: all of one catalog."""

    data: Interactions
    attributes: ItemFeatures
    item_ids: list[str]
    position: Position


def _lesson(app: Limner, before: int | None = None) -> _Lesson:
    # one state throughout: it may be rebuilt meanwhile, with items under other numbers; and
    # what is folded is in its catalog, so reading adds nothing to it beside the writer
    with app.writer.lock:
        state = app.state
        folded = state.position
        meant = Meant(app.store.log, app.writer.amendments.copy())
    # a refund is an event of its own here: before it came, the thing had been bought (law 4)
    told = meant.read(folded, refunds=False)
    data, _ = interactions(told, state.catalog, app.config.weights, before=before)
    with app.writer.lock:
        ids = list(state.catalog.ids.values)
        return _Lesson(replace(data, n_items=len(ids)), features(state.catalog), ids, folded)


def train(
    app: Limner, *, cutoff: int | None, validation_cutoff: int | None, progress: Progress
) -> Trained:
    """`Limner.train`."""
    from limner.evaluate.next_basket import fit_and_measure
    from limner.model.training import fit_all

    started = time.perf_counter()
    lesson = _something_to_learn_from(app)
    data, attributes = lesson.data, lesson.attributes
    report: Report | None = None
    try:
        report, blend = fit_and_measure(
            data,
            attributes,
            cutoff=cutoff,
            validation_cutoff=validation_cutoff,
            models=_families(app, attributes),
            seed=app.config.train.seed,
            progress=progress,
        )
    except ModelError:
        blend = fit_all(
            data,
            attributes,
            models=_families(app, attributes),
            seed=app.config.train.seed,
            progress=progress,
        )
    else:
        blend.update(data, attributes, progress=progress)
    return _publish(app, blend, lesson, report, started)


def evaluate(
    app: Limner, *, cutoff: int | None, validation_cutoff: int | None, progress: Progress
) -> Report:
    """`Limner.evaluate`."""
    from limner.evaluate.next_basket import evaluate_next_basket

    lesson = _something_to_learn_from(app)
    return evaluate_next_basket(
        lesson.data,
        lesson.attributes,
        cutoff=cutoff,
        validation_cutoff=validation_cutoff,
        models=_families(app, lesson.attributes),
        seed=app.config.train.seed,
        progress=progress,
    )


def _something_to_learn_from(app: Limner) -> _Lesson:
    lesson = _lesson(app)
    if not len(lesson.data.items):
        raise ModelError(
            "there is nothing to learn from yet",
            mend="import events with an item first: limner import your.csv",
        )
    return lesson


def _families(app: Limner, attributes: ItemFeatures) -> dict[str, Model]:
    from limner.model.training import families

    models = families(attributes, seed=app.config.train.seed)
    if not app.config.train.sequence:
        models.pop("sequence", None)
    return models


def _publish(
    app: Limner, blend: Blend, lesson: _Lesson, report: Report | None, started: float
) -> Trained:
    data = lesson.data
    trained = Trained("", 0.0, data.n_users, data.n_items, len(data.items), dict(blend.weights))
    if app.store.home is None:
        version = "memory"
        with app.writer.lock:
            app._scorer = Scorer(blend, lesson.item_ids, app.state.catalog, version)
    else:
        meta = {
            "cutoff": int(data.times.max()),
            "position": lesson.position,
            "users": trained.users,
            "events": trained.events,
            "item_ids": lesson.item_ids,
            "evaluation": report.to_json() if report is not None else None,
        }
        version = registry.publish(app.store.home, blend, meta).name
    if app.erased_since_training():
        app.store.set_meta(ERASED_SINCE, "0")
    return replace(trained, version=version, seconds=time.perf_counter() - started)
