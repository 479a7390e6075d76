"""Models learn from the log: train, measure, publish."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from limner.app import encoding, forgetting
from limner.app.removal import ERASED_SINCE
from limner.errors import ModelError, UsageError
from limner.events.log import Position
from limner.events.meant import Meant
from limner.model import registry
from limner.model.interactions import features, interactions
from limner.model.protocol import Interactions, ItemFeatures, Model, Progress

if TYPE_CHECKING:  # and what fits models is imported where it is used: readers need not wait
    from limner.app.limner import Limner
    from limner.evaluate.next_basket import Report
    from limner.model.blend import Blend
    from limner.model.gate import Verdict


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
    found = lesson_of(app, before)
    return found.data, found.attributes


@dataclass(frozen=True, slots=True)
class Lesson:
    """What there is to learn from, with the ids of its items by their numbers, and up to which
    position of the log it goes: all of one catalog.
    """

    data: Interactions
    attributes: ItemFeatures
    item_ids: list[str]
    position: Position
    users: list[bytes]
    """The pseudonyms of the data's users, by number."""


def lesson_of(
    app: Limner, before: int | None = None, progress: Progress = lambda *_: None
) -> Lesson:
    """All that the log has to teach (before a time), items' content encoded as need be."""
    # one state throughout: it may be rebuilt meanwhile, with items under other numbers; and
    # what is folded is in its catalog, so reading adds nothing to it beside the writer
    with app.writer.lock:
        state = app.state
        folded = state.position
        meant = Meant(app.store.log, app.writer.amendments.copy())
    # a refund is an event of its own here: before it came, the thing had been bought (law 4)
    told = meant.read(folded, refunds=False)
    data, users = interactions(told, state.catalog, app.config.weights, before=before)
    with app.writer.lock:
        ids = list(state.catalog.ids.values)
        attributes = features(state.catalog)
    attributes = encoding.described(app, attributes, progress)
    return Lesson(replace(data, n_items=len(ids)), attributes, ids, folded, users)


def train(
    app: Limner,
    *,
    cutoff: int | None,
    validation_cutoff: int | None,
    start: str,
    progress: Progress,
) -> Trained:
    """`Limner.train`."""
    from limner.evaluate.next_basket import fit_and_measure
    from limner.model.training import fit_all

    started = time.perf_counter()
    lesson = something_to_learn_from(app, progress)
    data, attributes = lesson.data, lesson.attributes
    report: Report | None = None
    try:
        report, blend = fit_and_measure(
            data,
            attributes,
            cutoff=cutoff,
            validation_cutoff=validation_cutoff,
            models=_families(app, attributes, start),
            seed=app.config.train.seed,
            progress=progress,
        )
    except ModelError:
        blend = fit_all(
            data,
            attributes,
            models=_families(app, attributes, start),
            seed=app.config.train.seed,
            progress=progress,
        )
    else:
        blend.update(data, attributes, progress=progress)
    if app.config.train.policy:
        from limner.app.rewarding import with_policy

        blend = with_policy(app, blend, lesson, progress)
    home = app.store.home
    before = registry.current(home) if home is not None else None
    parents = [] if before is None else [before]
    if start.isdigit() and start not in parents:
        parents.append(start)
    version = publish(
        app, blend, lesson, made="trained", parents=parents, start=start, report=report
    )
    return Trained(
        version,
        time.perf_counter() - started,
        data.n_users,
        data.n_items,
        len(data.items),
        dict(blend.weights),
    )


def evaluate(
    app: Limner, *, cutoff: int | None, validation_cutoff: int | None, progress: Progress
) -> Report:
    """`Limner.evaluate`."""
    from limner.evaluate.next_basket import evaluate_next_basket

    lesson = something_to_learn_from(app, progress)
    return evaluate_next_basket(
        lesson.data,
        lesson.attributes,
        cutoff=cutoff,
        validation_cutoff=validation_cutoff,
        models=_families(app, lesson.attributes),
        seed=app.config.train.seed,
        progress=progress,
    )


def something_to_learn_from(app: Limner, progress: Progress) -> Lesson:
    """The same; ModelError if there is nothing."""
    lesson = lesson_of(app, progress=progress)
    if not len(lesson.data.items):
        raise ModelError(
            "there is nothing to learn from yet",
            mend="import events with an item first: limner import your.csv",
        )
    return lesson


def _families(app: Limner, attributes: ItemFeatures, start: str = "") -> dict[str, Model]:
    from limner.model.training import families

    settings = app.config.train
    models = families(
        attributes,
        seed=settings.seed,
        sequence=app.config.sequence if settings.sequence else None,
    )
    if start:
        from limner.model.transfer import Transferred, source_of

        if "sequence" not in models:
            raise UsageError(
                "there is no sequence model here that could start from another",
                mend="pip install 'limner[model]', and leave train.sequence on",
            )
        source = source_of(start, app.store.home)
        models["sequence"] = Transferred(source, seed=settings.seed)
    return models


@contextmanager
def alone(app: Limner) -> Iterator[None]:
    """One training or update at a time. Raises UsageError if one is under way."""
    if not app.learning.acquire(blocking=False):
        raise UsageError("a training is under way", mend="wait until it is done")
    try:
        yield
    finally:
        app.learning.release()


def publish(
    app: Limner,
    blend: Blend,
    lesson: Lesson,
    *,
    made: Literal["trained", "updated"],
    parents: Sequence[str],
    start: str = "",
    report: Report | None = None,
    verdict: Verdict | None = None,
) -> str:
    """Put a blend that has learned a lesson to use; the name of the version."""
    with app.publishing:
        gone = forgetting.erased_meanwhile(app, blend, lesson.data, lesson.users)
        if made == "trained" and app.erased_since_training() != gone:
            app.store.set_meta(ERASED_SINCE, str(gone))
        return _put_to_use(
            app, blend, lesson, made=made, parents=parents, start=start, report=report,
            verdict=verdict,
        )  # fmt: skip


def _put_to_use(
    app: Limner,
    blend: Blend,
    lesson: Lesson,
    *,
    made: Literal["trained", "updated"],
    parents: Sequence[str],
    start: str,
    report: Report | None,
    verdict: Verdict | None,
) -> str:
    data = lesson.data
    if app.store.home is None:
        with app.writer.lock:
            app._scorer = app._scoring(blend, lesson.item_ids, "memory")
        return "memory"
    at = app._clock()
    meta = {
        "at": at,
        "made": made,
        "parents": list(parents),
        "config": {**_config_of(app, blend), **({"from": start} if start else {})},
        "cutoff": int(data.times.max()),
        "position": lesson.position,
        "users": data.n_users,
        "items": data.n_items,
        "events": len(data.items),
        "weights": {task: dict(parts) for task, parts in blend.weights.items()},
        "item_ids": lesson.item_ids,
        "evaluation": report.to_json() if report is not None else None,
        "verdict": asdict(verdict) if verdict is not None else None,
    }
    version = registry.publish(app.store.home, blend, meta, at=at, verdict=verdict)
    registry.prune(app.store.home, app.config.train.keep)
    return version.name


def _config_of(app: Limner, blend: Blend) -> dict[str, Any]:
    """What a version was made with: the settings of training, and each part's own."""
    configs = {name: getattr(model, "config", None) for name, model in blend.models.items()}
    return {
        "train": asdict(app.config.train),
        "weights": dict(app.config.weights),
        "parts": {
            name: asdict(config)
            for name, config in configs.items()
            if is_dataclass(config) and not isinstance(config, type)
        },
    }
