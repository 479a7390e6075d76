"""What is read from the log of one user: how a slot came about, and what ties them to an item."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from limner.errors import NotFound
from limner.events.batch import EventBatch
from limner.explain.slots import SlotExplained, compares, explained
from limner.profile import portrait
from limner.profile.events import RESERVED, TARGET
from limner.profile.facet import Slot
from limner.profile.interaction import Interaction, interaction, measures
from limner.profile.population import Population
from limner.profile.portrait import Portrait, SlotThen

if TYPE_CHECKING:
    from limner.app.limner import Limner

Said = TypeVar("Said", Slot, SlotThen)


def slot_of(app: Limner, user_id: str, slot: str) -> Slot:
    """A slot of the present portrait. Raises NotFound for an unknown user or slot."""
    app.known_row(user_id)
    found = app.portrait(user_id, vector=False).slot(slot)
    if found is None:
        raise NotFound(
            f"there is no slot {slot!r} in this portrait",
            mend="slots are named section.name, as `limner portrait USER` shows them",
        )
    return found


def with_own_ids(app: Limner, seen: Portrait) -> Portrait:
    """The portrait with the product's own ids of other users whom a slot names."""
    facets = of_people(app)
    if not facets:
        return seen
    sections: dict[str, Any] = {
        section: {
            name: _with_own_ids(app, slot) if slot.facet in facets else slot
            for name, slot in slots.items()
        }
        for section, slots in seen.sections().items()
    }
    return replace(seen, **sections)


def of_people(app: Limner) -> set[str]:
    """The facets whose keys are other users."""
    pools = app.state.pools
    return {name for name in pools if ("key", TARGET) in pools[name].spec.texts}


def _with_own_ids(app: Limner, said: Said) -> Said:
    if not isinstance(said.value, Mapping):
        return said
    own = {key: app.own_id(key) or "somebody" for key in said.value}
    text = said.text
    for pseudonym, name in own.items():
        text = text.replace(pseudonym, name)
    return replace(said, value={own[key]: n for key, n in said.value.items()}, text=text)


def portrait_history(app: Limner, user_id: str, slot: str, *, limit: int) -> list[SlotThen]:
    """`Limner.portrait_history`."""
    found = slot_of(app, user_id, slot)
    positions, batch = app.writer.meant.events_of(app.user(user_id))
    with app.writer.lock:
        inside = positions < app.state.position
        everybody = Population(sums=app.population.sums)
        changes = portrait.changes(
            app.state, everybody, found, batch.take(inside), positions[inside], limit=limit
        )
    named = found.facet in of_people(app)
    return [_with_own_ids(app, change) for change in changes] if named else changes


def explain_slot(app: Limner, user_id: str, slot: str, *, limit: int) -> SlotExplained:
    """`Limner.explain_slot`."""
    found = slot_of(app, user_id, slot)
    with app.writer.lock:
        row, now, config = app.known_row(user_id), app.now(), app.population.config
        reader = None
        if not compares(found, config):
            reader = portrait.reader_of(app.state, row, app.population, found, now)
    evidence = app.evidence(user_id, slot, limit=limit)
    return explained(user_id, found, reader, evidence, population=config, now=now)


def interaction_of(app: Limner, user_id: str, item_id: str) -> Interaction:
    """`Limner.interaction`."""
    app.known_row(user_id)
    if app.state.catalog.ids.code(item_id) < 0:
        raise NotFound(f"item {item_id!r} is not known", mend="check the id")
    _, batch = app.writer.meant.events_of(app.user(user_id))
    batch = _with_item(batch)
    batch = batch.take(np.argsort(batch.times(), kind="stable"))
    items, names = batch.codes("item_id")
    types, kinds = batch.codes("event_type")
    weights = np.array([app.config.weights.get(kind, 0.0) for kind in kinds] + [0.0])[types]
    groups, _ = batch.codes("group_id")
    return interaction(
        names.index(item_id) if item_id in names else -1,
        names.__getitem__,
        items=items,
        times=batch.times(),
        weights=weights * measures(batch.numbers("value"), types),
        groups=groups.astype(np.int64) + 1,
        now=app.now(),
    )


def _with_item(batch: EventBatch) -> EventBatch:
    """The user's own events that are about an item."""
    types, kinds = batch.codes("event_type")
    ordinary = np.array([kind not in RESERVED for kind in kinds] + [False])[types]
    return batch.take(ordinary & (batch.codes("item_id")[0] >= 0))
