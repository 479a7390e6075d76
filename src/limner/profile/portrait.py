"""The portrait: four sections of slots, read from a user's state at a moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from limner.events.batch import DAY, I64, EventBatch
from limner.events.log import Position
from limner.profile import standing
from limner.profile.choices import Choices
from limner.profile.events import Events
from limner.profile.facet import SECTIONS, Facet, Reader, Slot
from limner.profile.facets.opinion import Proposed
from limner.profile.population import Population, StateView
from limner.profile.state import ProfileState

Slots = Mapping[str, Slot]


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a written portrait, and the slots ("section.name") that it rests on."""

    text: str
    slots: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Written:
    """A portrait in a few sentences, each checked against the slots that it cites (law 7).

    `by`: "template", or "model" where a language model `model` wrote; then sentences of
    templates stand in where too few of its own held. `dropped` says why each sentence that
    could not be grounded was dropped, and `note` why no model wrote though one is set.
    """

    language: str
    sentences: tuple[Sentence, ...]
    by: str
    model: str | None = None
    dropped: tuple[str, ...] = ()
    note: str = ""

    @property
    def text(self) -> str:
        """All sentences in a row."""
        return ("" if self.language == "zh" else " ").join(s.text for s in self.sentences)


@dataclass(frozen=True, slots=True)
class Portrait:
    """What is known of a user at `at` (µs), from the log before `as_of`.

    `vector` is the model's view U, made by model version `model`; empty without one. `vector_at`
    (µs) is when, for one that is kept from one refresh to the next; None for one made now.
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
    vector_at: int | None = None
    written: Written | None = None
    """The same in a few sentences, if asked."""

    def sections(self) -> dict[str, Slots]:
        """Section name → its slots by name."""
        return {name: getattr(self, name) for name in SECTIONS}

    def slot(self, path: str) -> Slot | None:
        """A slot by "section.name"."""
        section, _, name = path.partition(".")
        return self.sections().get(section, {}).get(name)


@dataclass(frozen=True, slots=True)
class SlotThen:
    """What a slot was after the events of a moment: `at` is the newest one's time, µs."""

    at: int
    value: Any
    text: str
    confidence: float
    events: int


def read(
    state: ProfileState,
    row: int,
    population: Population,
    now: int,
    *,
    user_id: str,
    shown: Mapping[str, Sequence[Slot]] | None = None,
    choices: Choices | None = None,
) -> Portrait:
    """A user's portrait; a user without a row (−1) has empty sections.

    Facets that are in `shown` say what they said when they were last refreshed. What the user's
    `choices` hide is neither shown nor do labels and standings rest on it.
    """
    sections: dict[str, dict[str, Slot]] = {name: {} for name in SECTIONS}
    if row >= 0:
        view = StateView(state, row, population)
        found: list[Slot] = []
        for facet in state.facets:
            kept = (shown or {}).get(facet.name)
            found.extend(facet.read(view, now) if kept is None else kept)
        if choices is not None and not (choices.off or choices.wrong):
            choices = None  # nothing is hidden
        if choices is not None:
            found = [slot for slot in found if not choices.hides(slot)]
        for label in state.labels:
            kept = (shown or {}).get(label.name)
            found.extend(label.of(found, now) if kept is None else kept)
        for slot in (*found, *standing.slots(view, population, now, found)):
            if choices is None or not choices.hides(slot):
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
    rows = facet.lift(events_in(state, batch, positions)).touched
    return facet.cited(batch, rows) if isinstance(facet, Proposed) else rows


def events_in(state: ProfileState, batch: EventBatch, positions: I64) -> Events:
    """Rows of the log as facets see them, as if they were one user's."""
    items = state.catalog.intern(*batch.codes("item_id"))
    rows = np.zeros(len(batch), dtype=np.int64)
    return Events(batch, positions, rows, items, state.catalog, state.words, state.timezone)


def source_of(facet: Facet) -> str | None:
    """The name of the facet whose state this one reads, if it has none of its own."""
    source = getattr(facet, "source", None)
    return None if source is None else str(source.name)


def reader_of(
    state: ProfileState, row: int, population: Population, slot: Slot, now: int
) -> Reader:
    """What gave a slot of a user's portrait: a facet or a label."""
    label = next((each for each in state.labels if each.name == slot.name), None)
    if label is not None and slot.model is not None:
        return label
    view = StateView(state, row, population)
    facets = [f for f in state.facets if slot.facet in (f.name, source_of(f))]
    for facet in facets:
        if any((s.section, s.name) == (slot.section, slot.name) for s in facet.read(view, now)):
            return facet
    # kept from a refresh when there was something to say
    return next(facet for facet in facets if facet.name == slot.facet)


def changes(
    state: ProfileState,
    population: Population,
    slot: Slot,
    batch: EventBatch,
    positions: I64,
    *,
    limit: int,
) -> list[SlotThen]:
    """What a slot was after each change, newest first, from all events of its user.

    After each moment with a supporting event; with more than `limit` of them, after the last one
    of each day (UTC). The newest `limit` are given. Other users are as they are at present.
    """
    supports = next(facet for facet in state.facets if facet.name == slot.facet)
    times = batch.times()
    moments = np.unique(times[supporting(state, supports, batch, positions)])
    if len(moments) > limit:
        moments = moments[np.append(np.diff(moments // DAY) > 0, True)]
    moments = moments[-limit:]
    order = np.lexsort((positions, times))
    past = ProfileState(
        [facet for facet in state.facets if slot.facet in (facet.name, source_of(facet))],
        timezone=state.timezone,
        lateness=state.lateness,
        catalog=state.catalog,
        words=state.words,
    )
    out, start = [], 0
    for moment in moments.tolist():
        stop = int(np.searchsorted(times[order], moment, side="right"))
        part = order[start:stop]
        past.fold_users(batch.take(part), positions[part], refolding=True)
        start = stop
        view = StateView(past, 0, population)
        for facet in past.facets:
            for found in facet.read(view, moment):
                if (found.section, found.name) == (slot.section, slot.name):
                    change = SlotThen(
                        moment, found.value, found.text, found.confidence, found.events
                    )
                    out.append(change)
    return out[::-1]
