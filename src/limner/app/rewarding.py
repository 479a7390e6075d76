"""What logged lists earned, for the policy head to learn from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from limner.errors import UsageError
from limner.events.batch import PROPERTY
from limner.events.meant import Meant
from limner.model.blend import Blend
from limner.model.policy import Decisions, Policy
from limner.model.protocol import History, Progress
from limner.model.sequence import SequenceModel

if TYPE_CHECKING:
    from limner.app.learning import Lesson
    from limner.app.limner import Limner


def with_policy(app: Limner, blend: Blend, lesson: Lesson, progress: Progress) -> Blend:
    """The blend with the family "policy", on its sequence model, without a weight.

    Raises UsageError without a sequence model, ModelError if no list earned anything.
    """
    trunk = blend.models.get("sequence")
    if not isinstance(trunk, SequenceModel):
        raise UsageError(
            "there is no sequence model for train.policy to stand on",
            mend="pip install 'limner[model]', and leave train.sequence on",
        )
    policy = Policy(trunk)
    policy.learn(decisions(app, lesson), progress=progress)
    return Blend({**blend.models, "policy": policy}, blend.weights)


def decisions(app: Limner, lesson: Lesson) -> Decisions:
    """Every item of every logged list, with the greatest weight of the events due to it, else 0.

    A propensity that was drawn is that of one slot of the list; where nothing was drawn (1) it says
    nothing of what other lists in like cases show, and is left to be estimated.
    """
    numbers = {user: number for number, user in enumerate(lesson.users)}
    items = {item: number for number, item in enumerate(lesson.item_ids)}
    lists: dict[str, tuple[int, int, list[str], list[float]]] = {}
    earned: dict[tuple[str, str], float] = {}
    meant = Meant(app.store.log, app.writer.amendments.copy())
    for _, batch in meant.read(lesson.position):
        ids = batch.array("recommendation_id")
        if ids.null_count == len(ids):
            continue
        some = batch.take(ids.is_valid().to_numpy(zero_copy_only=False))
        names = ("recommendation_id", "event_type", "item_id", "user_id")
        columns = [some.array(name).to_pylist() for name in names]
        for name in ("shown", "propensity"):
            known = name in some.properties
            columns.append(some.array(PROPERTY + name).to_pylist() if known else [None] * len(some))
        for key, kind, item, user, shown, propensity, time in zip(
            *columns, some.times().tolist(), strict=True
        ):
            if kind != "impression":
                worth = app.config.weights.get(kind, 0.0)
                earned[key, item] = max(worth, earned.get((key, item), worth))
            elif shown and user in numbers:
                listed = msgspec.json.decode(shown, type=list[str])
                given = msgspec.json.decode(propensity or "[]", type=list[float])
                given = given if len(given) == len(listed) else [1.0] * len(listed)
                lists[key] = numbers[user], time, listed, given
    histories: list[History] = []
    rows: list[tuple[int, int, float, float]] = []
    for key, (user, time, listed, given) in lists.items():
        history = lesson.data.history(user, time)
        for item, chance in zip(listed, given, strict=True):
            one_slot = chance / len(listed) if chance < 1.0 else np.nan
            if item in items:
                reward = earned.get((key, item), 0.0)
                rows.append((len(histories), items[item], reward, one_slot))
        histories.append(history)
    owner, what, rewards, propensities = np.array(rows, dtype=np.float64).reshape(-1, 4).T
    return Decisions(
        histories, owner.astype(np.int64), what.astype(np.int32), rewards, propensities
    )
