"""Labels of portraits: learned from the slots of users whose label is known, shown for all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from limner.app import asking
from limner.config import Config
from limner.errors import InputError, ModelError, UsageError
from limner.model import labels
from limner.model.protocol import Progress
from limner.profile import facets
from limner.profile.facet import FacetConfig, Slot
from limner.profile.facets.declared import Declared
from limner.profile.facets.label import feature_of, features_of, head_of, slots_of
from limner.profile.population import StateView
from limner.stores import home_of

if TYPE_CHECKING:  # and what fits labels is imported where it is used
    from limner.app.labels import Fitted
    from limner.app.limner import Limner
    from limner.model.label import Epoch, LabelConfig

PORTRAITS = "portraits"
"""What a label that portraits show is said to be learned from."""

USER_COLUMNS = ("user_id", "user")
LEAST_USERS = 3
"""Users who have a feature, at least, for it to be one by itself."""
KEYS = 20
"""Keys of one slot that are features by themselves, at most: those that most users have."""
CHUNK = 64
"""Users read at a time, between which commits are let in."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a user whose label is: their slots, and the features in them."""

    label: str
    slots: Mapping[str, Slot]
    features: Mapping[str, float | str]


def with_labels(config: Config) -> Config:
    """The configuration with a facet for each label of portraits that it does not name itself."""
    place = home_of(config.store)
    if place is None:
        return config
    known = {facet.name for facet in config.facet}
    more = [
        FacetConfig(name, facets.LABEL, "basic", name.replace("_", " "))
        for name in labels.names(place)
        if name not in known and labels.version(place, name)[1].meta.get("source") == PORTRAITS
    ]  # fmt: skip
    return replace(config, facet=(*config.facet, *more)) if more else config


def attach(app: Limner) -> None:
    """Let the labels of portraits ask the models in use."""
    place = app.store.home
    if place is not None:
        for one in app.state.labels:
            one.judges[:] = [labels.asked(place, one.name)]


def renew(app: Limner, name: str) -> None:
    """Let go of what is kept of a label if another version than that is in use."""
    place = app.store.home
    version = labels.current(place, name) if place is not None else None
    if version is not None and app.store.get_meta(f"label {name}") != version:
        app.following.forget(name)
        app.store.set_meta(f"label {name}", version)


def fit(
    app: Limner,
    column: str,
    *,
    known: Any = None,
    features: Sequence[str] = (),
    categorical: Collection[str] = (),
    learn: LabelConfig | None = None,
    name: str = "",
    progress: Progress,
    told: Callable[[Epoch], object] = lambda epoch: None,
) -> Fitted:
    """Learn a label from the portraits of those whose label is known, and publish it.

    Who has which says the declared attribute `column`, or the table `known` with the columns
    `user_id` and `column`. `features` are slots or keys of slots (`features_of`); if not given,
    all numbers and texts and the commonest keys. Portraits then have a slot `name`, that of the
    configuration or `basic.predicted_COLUMN`. Raises UsageError for what nobody has, ModelError
    if too few labels are known.
    """
    from limner.app.labels import no_home, published
    from limner.model import label

    place, named = app.store.home, name or f"predicted_{column}"
    if place is None:
        raise no_home()
    labels.check_name(named)
    if any(facet.name == named for facet in app.state.facets):
        raise UsageError(f"there is a facet {named!r} that is no label", mend="give another --name")
    truth = None if known is None else _truth(app, known, column)
    users, facet_of = _portraits(app, column, truth, progress)
    if not users:
        raise ModelError(
            f"of no user {column!r} is known",
            mend="declare it (limner import --users FILE), or name a file of user_id and label",
        )
    chosen = list(features) or _common(users)
    for one in chosen:
        if not any(one in user.features for user in users):
            raise UsageError(
                f"nobody whose label is known has {one!r}",
                mend='name slots, or keys of slots: value.spend, interests.category["tea"]',
            )
    table = pa.table(
        {one: [_plain(feature_of(user.slots, one)) for user in users] for one in chosen}
        | {LABEL: [user.label for user in users]}
    )
    now = app.now()
    model, report = label.fit(
        table, LABEL, features=chosen, categorical=categorical, config=learn, at=now,
        progress=progress, told=told,
    )  # fmt: skip
    reads = sorted({facet_of[head_of(feature.name)] for feature in model.features})
    return published(
        place,
        named,
        replace(model, label=column),
        replace(report, label=column),
        source=PORTRAITS,
        at=now,
        more={"reads": reads, "position": app.state.position},
    )


LABEL = "the label"
"""The column of the label among the features, which are called otherwise."""


def _truth(app: Limner, known: Any, column: str) -> dict[int, str]:
    """Row → label, of a table of users."""
    from limner.model import tabular

    who = next((name for name in USER_COLUMNS if name in known.schema.names), None)
    if who is None:
        raise InputError("no column is the user", mend="call one user_id")
    tabular.need(known, [who, column])
    said = tabular.column(known[column], column, text=True).to_pylist()
    rows = app.state.rows
    found = {
        rows.get(app.user(user), -1): text
        for user, text in zip(known[who].to_pylist(), said, strict=True)
        if user is not None and text is not None
    }
    return {row: text for row, text in found.items() if row >= 0}


def _portraits(
    app: Limner, column: str, truth: Mapping[int, str] | None, progress: Progress
) -> tuple[list[_Known], dict[str, str]]:
    """The users whose label is known, and which facet each slot is of."""
    people = asking.of_people(app)
    every = app.state.rows.live if truth is None else np.array(sorted(truth), dtype=np.int64)
    out: list[_Known] = []
    facet_of: dict[str, str] = {}
    for start in range(0, len(every), CHUNK):
        with app.writer.lock:
            now, state = app.now(), app.state
            for row in every[start : start + CHUNK].tolist():
                view = StateView(state, row, app.population)
                declared = [facet for facet in state.facets if isinstance(facet, Declared)]
                said = slots_of(declared, view, now)
                own = [path for path in said if path.partition(".")[2] == column]
                text = truth[row] if truth is not None else str(said[own[0]].value) if own else None
                if text is None:
                    continue
                slots: dict[str, Slot] = {}
                for facet in state.facets:
                    if facet.name not in people:  # another user is no feature
                        found = slots_of([facet], view, now)
                        slots |= found
                        facet_of |= dict.fromkeys(found, facet.name)
                for path in own:
                    del slots[path]
                out.append(_Known(text, slots, features_of(slots)))
        progress("portraits", min(start + CHUNK, len(every)), len(every))
    return out, facet_of


def _common(users: Iterable[_Known]) -> list[str]:
    """The features that are common enough, in the order of their names."""
    counts = Counter(name for user in users for name in user.features)
    taken: Counter[str] = Counter()
    out = []
    for name, n in sorted(counts.items(), key=lambda one: (-one[1], one[0])):
        keyed = head_of(name) != name
        if n >= LEAST_USERS and (not keyed or taken[head_of(name)] < KEYS):
            taken[head_of(name)] += keyed
            out.append(name)
    return sorted(out)


def _plain(value: float | str | None) -> str | None:
    """As text, so that a column may hold both; numbers come back as they were."""
    return None if value is None else value if isinstance(value, str) else repr(float(value))
