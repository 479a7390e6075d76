"""Learning all the time: what came since the version in use, let into use only by the gate.

New are the events after a version's cutoff. First the version in use is checked against the one
it took the place of, on events that neither has learned; where the older is better beyond chance,
it comes back. Then a candidate learns the older half of what is new and is judged on the newer
half beside the version in use; if it is promoted, it learns that half too and is published.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np

from limner.app.learning import Lesson, publish, something_to_learn_from
from limner.errors import ModelError, UsageError
from limner.events.batch import F64, I32, I64
from limner.metrics.splits import Truth
from limner.model import registry
from limner.model.gate import Verdict, judge
from limner.model.protocol import History, ItemFeatures, Progress
from limner.model.registry import Version
from limner.recommend.recommend import usual_task

if TYPE_CHECKING:
    from limner.app.limner import Limner
    from limner.model.blend import Blend

MOMENTS = 4
"""How often in the judged time users are asked what comes next."""

QUESTIONS = 6_000
"""At most so many are asked."""


@dataclass(frozen=True, slots=True)
class Updated:
    """What became of an update.

    `outcome`: "promoted", the candidate is in use as version `current`; "kept", the version in
    use stays, since the gate said so; "nothing", there was too little that is new. `events`: how
    many are new to the version in use. `rolled_back`: the version that was taken out of use
    first, as live quality fell, and `rollback` what was said then.
    """

    outcome: Literal["promoted", "kept", "nothing"]
    reason: str
    current: str
    events: int
    verdict: Verdict | None = None
    rolled_back: str | None = None
    rollback: Verdict | None = None
    seconds: float = 0.0

    @property
    def said(self) -> str:
        """The same in a line."""
        back = f"went back from {self.rolled_back}; " if self.rolled_back else ""
        done = f"model {self.current}" if self.outcome == "promoted" else f"{self.current} stays"
        return f"{back}{done}: {self.reason}"


def update(app: Limner, *, progress: Progress) -> Updated:
    """`Limner.update`."""
    started = time.perf_counter()
    home = app.store.home
    if home is None:
        raise UsageError(
            "the models of a store in memory have no versions",
            mend="train again, or use a store on disk: sqlite:///shop.db",
        )
    current = registry.current_version(home)
    if current is None:
        raise ModelError("there is no model to update", mend="train one first: limner train")
    lesson = something_to_learn_from(app, progress)
    rollback = _checked(app, lesson, current, progress)
    rolled_back = None
    if rollback is not None and rollback.outcome == "win":
        reason = f"live quality fell: {rollback.reason}"
        with app.publishing:
            registry.roll_back(home, at=app._clock(), reason=reason, verdict=rollback)
        rolled_back, current = current.name, registry.current_version(home) or current
    done = _learned(app, lesson, current, progress)
    return replace(
        done,
        rolled_back=rolled_back,
        rollback=rollback,
        seconds=time.perf_counter() - started,
    )


def _checked(app: Limner, lesson: Lesson, current: Version, progress: Progress) -> Verdict | None:
    """Whether the version before is the better one by now; None if it is not kept."""
    assert app.store.home is not None
    parent = registry.parent_of(app.store.home, current)
    if parent is None:
        return None
    start, stop = int(current.meta["cutoff"]) + 1, int(lesson.data.times.max()) + 1
    found = []
    for version in (current, parent):
        asked = _asked(_numbered(lesson, version), start, stop, app.config.train.seed)
        if len(np.unique(asked.truth.users)) < app.config.train.gate.least:
            return judge([], [], config=app.config.train.gate)
        found.append(_answered(app, registry.load(version), asked, version, progress))
    return _judged(app, asked.truth.users, *found)


def _learned(app: Limner, lesson: Lesson, current: Version, progress: Progress) -> Updated:
    """Learn what is new to `current`, if the gate lets it."""
    lesson = _numbered(lesson, current)
    data, gate = lesson.data, app.config.train.gate
    cutoff = int(current.meta["cutoff"])
    new = data.times[(data.times > cutoff) & (data.weights > 0)]

    def nothing(reason: str) -> Updated:
        return Updated("nothing", reason, current.name, len(new))

    if not len(new):
        return nothing("nothing is new")
    split = int(np.quantile(new, 0.5, method="higher"))
    asked = _asked(lesson, split, int(new.max()) + 1, app.config.train.seed)
    users = len(np.unique(asked.truth.users))
    if users < gate.least or not (new < split).any():
        return nothing(
            f"too little is new: {users} of the {gate.least} users it takes to decide have come "
            "back since"
        )
    incumbent = _answered(app, registry.load(current), asked, current, progress)
    candidate = registry.load(current)
    candidate.update(data.before(split), lesson.attributes, progress=progress)
    verdict = _judged(
        app, asked.truth.users, incumbent, _answered(app, candidate, asked, None, progress)
    )
    if not verdict.promoted:
        assert app.store.home is not None
        act = registry.Act(
            app._clock(), "kept", current.name, current.name, verdict.reason, verdict
        )
        registry.note(app.store.home, act)
        return Updated("kept", verdict.reason, current.name, len(new), verdict)
    candidate.update(data, lesson.attributes, progress=progress)
    version = publish(
        app, candidate, lesson, made="updated", parents=[current.name], verdict=verdict
    )
    return Updated("promoted", verdict.reason, version, len(new), verdict)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Questions about a time, under the item numbers of a version."""

    truth: Truth
    histories: Sequence[History]
    attributes: ItemFeatures


def _asked(lesson: Lesson, start: int, stop: int, seed: int) -> _Asked:
    """What users did first after each of `MOMENTS` times, with what they had done until then."""
    from limner.model.training import questions

    edges = sorted({start + (stop - start) * step // MOMENTS for step in range(MOMENTS)} | {stop})
    users: list[I64] = [np.zeros(0, dtype=np.int64)]
    items: list[I32] = []
    histories: list[History] = []
    for first, last in pairwise(edges):
        truth, some = questions(lesson.data, first, before=last)
        users.append(truth.users)
        items += truth.items
        histories += some
    chosen = np.sort(np.random.default_rng(seed).permutation(len(items))[:QUESTIONS])
    return _Asked(
        Truth(np.concatenate(users)[chosen], [items[row] for row in chosen]),
        [histories[row] for row in chosen],
        lesson.attributes,
    )


def _answered(
    app: Limner, blend: Blend, asked: _Asked, version: Version | None, progress: Progress
) -> F64:
    """NDCG@10 of each question as lists are made here, by a version that new items enter.

    `version` is None for a blend that has learned of all items.
    """
    from limner.evaluate.next_basket import ndcg_of
    from limner.model.entering import entered

    items = len(asked.attributes.available)
    known = items if version is None else len(version.meta["item_ids"])
    if known < items:
        blend = entered(blend, known, asked.attributes.take(np.arange(known, items)))
    with app.writer.lock:
        task = usual_task(app.state, app.config.recommend, app.now())
    return ndcg_of(blend, asked.truth, asked.histories, task, progress=progress)


def _judged(app: Limner, users: I64, incumbent: F64, candidate: F64) -> Verdict:
    said = np.isfinite(incumbent)
    return judge(
        incumbent[said],
        candidate[said],
        users=users[said],
        config=app.config.train.gate,
        seed=app.config.train.seed,
    )


def _numbered(lesson: Lesson, version: Version) -> Lesson:
    """The lesson with items under the numbers they have in a version; new ones come after."""
    ids = list(version.meta["item_ids"])
    number = {item: place for place, item in enumerate(ids)}
    for item in lesson.item_ids:
        if item not in number:
            number[item] = len(ids)
            ids.append(item)
    to = np.array([number[item] for item in lesson.item_ids], dtype=np.int32)
    data = replace(lesson.data, items=to[lesson.data.items], n_items=len(ids))
    back = np.full(len(ids), -1, dtype=np.int64)
    back[to] = np.arange(len(to))
    return Lesson(data, lesson.attributes.take(back), ids, lesson.position, lesson.users)
