"""The portrait: four sections of slots, read from a user's state at a moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from limner.events.batch import I64, EventBatch
from limner.events.log import Position
from limner.profile import standing
from limner.profile.events import Events
from limner.profile.facet import SECTIONS, Facet, Slot
from limner.profile.population import Population, StateView
from limner.profile.state import ProfileState

Slots = Mapping[str, Slot]


@dataclass(frozen=True, slots=True)
class Portrait:
    """What is known of a user at `at` (µs), from the log before `as_of`.

    `vector` is the model's view U, made by model version `model`; empty without one.
    """

    user_id: str
    at: int
    as_of: Position
    basic: Slots = field(default_factory=dict)
    behaviour: Slots = field(default_factory=dict)
    interests: Slots = field(default_factory=dict)
    value: Slots = field(default_factory=dict)
    vector: list[float] = field(default_factory=list)
    model: str | None = None

    def sections(self) -> dict[str, Slots]:
        """Section name → its slots by name."""
        return {name: getattr(self, name) for name in SECTIONS}

    def slot(self, path: str) -> Slot | None:
        """A slot by "section.name"."""
        section, _, name = path.partition(".")
        return self.sections().get(section, {}).get(name)


def read(
    state: ProfileState,
    row: int,
    population: Population,
    now: int,
    *,
    user_id: str,
    shown: Mapping[str, Sequence[Slot]] | None = None,
) -> Portrait:
    """A user's portrait; a user without a row (−1) has empty sections.

    Facets that are in `shown` say what they said when they were last refreshed.
    """
    sections: dict[str, dict[str, Slot]] = {name: {} for name in SECTIONS}
    if row >= 0:
        view = StateView(state, row, population)
        found: list[Slot] = []
        for facet in state.facets:
            kept = (shown or {}).get(facet.name)
            found.extend(facet.read(view, now) if kept is None else kept)
        for slot in (*found, *standing.slots(view, population, now, found)):
            sections[slot.section][slot.name] = slot
    return Portrait(
        user_id,
        now,
        state.position,
        sections["basic"],
        sections["behaviour"],
        sections["interests"],
        sections["value"],
    )


def supporting(state: ProfileState, facet: Facet, batch: EventBatch, positions: I64) -> I64:
    """Indices of a user's events that a facet is made of: the evidence of its slots."""
    if not len(batch):
        return np.empty(0, dtype=np.int64)
    items = state.catalog.intern(*batch.codes("item_id"))
    events = Events(
        batch,
        positions,
        np.zeros(len(batch), dtype=np.int64),
        items,
        state.catalog,
        state.words,
        state.timezone,
    )
    return facet.lift(events).touched
