"""A label that a model gives a user, from the other slots of the portrait."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from limner.profile.facet import Entry, Facet, FacetConfig, Slot, View
from limner.profile.merge import NEVER
from limner.profile.words import percent

SAID = 3
"""Features that the words of a slot name, at most."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a model says: the likeliest class, its calibrated probability, and what moved it.

    `moved`: how much of the probability each feature brings, against its usual value.
    """

    value: str
    probability: float
    moved: Mapping[str, float]


class Judge(Protocol):
    """A label model as a portrait sees it; one that was learned at `at` (µs), as `version`.

    `reads` names the facets whose slots have its features.
    """

    @property
    def at(self) -> int:
        """When it was learned: the past does not know it (law 4)."""
        ...

    @property
    def version(self) -> str:
        """Which one it is."""
        ...

    @property
    def reads(self) -> tuple[str, ...]:
        """The facets that have its features."""
        ...

    @property
    def features(self) -> tuple[str, ...]:
        """What it wants to know, as `features_of` calls it."""
        ...

    def judge(self, values: Mapping[str, float | str | None]) -> Judgement:
        """Of one user, from the value of each feature; None where it is missing."""
        ...


@dataclass(frozen=True, slots=True)
class Label:
    """One label; it has no state of its own, so it is no part of what is folded.

    `judges` has what gives the model in use, if any; the last one.
    """

    config: FacetConfig
    judges: list[Callable[[], Judge | None]] = field(
        default_factory=list, repr=False, compare=False
    )

    @property
    def name(self) -> str:
        """As the slot is called."""
        return self.config.name

    def read(self, view: View, now: int) -> list[Slot]:
        """The slot; none before a model was learned, or of a user of whom nothing is known."""
        judge = self._judge(now)
        if judge is None:
            return []
        facets = [facet for name in judge.reads if (facet := view.facet(name)) is not None]
        return self._of(judge, slots_of(facets, view, now))

    def of(self, slots: Iterable[Slot], now: int) -> list[Slot]:
        """The same from slots that were read already."""
        judge = self._judge(now)
        return [] if judge is None else self._of(judge, by_path(slots))

    def _judge(self, now: int) -> Judge | None:
        judge = self.judges[-1]() if self.judges else None
        return None if judge is None or judge.at > now else judge

    def _of(self, judge: Judge, slots: Mapping[str, Slot]) -> list[Slot]:
        values = {name: feature_of(slots, name) for name in judge.features}
        if all(value is None for value in values.values()):
            return []
        found = judge.judge(values)
        return [self._slot(judge, found, slots)]

    def _slot(self, judge: Judge, found: Judgement, slots: Mapping[str, Slot]) -> Slot:
        given = {name: slots.get(head_of(name)) for name in judge.features}
        on = {name: slot for name, slot in given.items() if slot is not None}
        ranked = sorted(on, key=lambda name: -abs(found.moved.get(name, 0.0)))
        named = [name for name in ranked if found.moved.get(name, 0.0) >= 0.01][:SAID]
        because = f", by {', '.join(_words(name, on[name]) for name in named)}" if named else ""
        return Slot(
            self.name,
            self.config.section,
            self.config.label,
            found.value,
            f"{found.value}, {percent(found.probability)} likely{because}",
            found.probability,
            max(slot.events for slot in on.values()),
            max(slot.changed_at or NEVER for slot in on.values()),
            facet=on[ranked[0]].facet,
            model=judge.version,
            moved={name: found.moved.get(name, 0.0) for name in ranked},
        )


def slots_of(facets: Iterable[Facet], view: View, now: int) -> dict[str, Slot]:
    """A user's slots of some facets, by "section.name"."""
    return by_path(slot for facet in facets for slot in facet.read(view, now))


def by_path(slots: Iterable[Slot]) -> dict[str, Slot]:
    """Slots by "section.name"."""
    return {f"{slot.section}.{slot.name}": slot for slot in slots}


def features_of(slots: Mapping[str, Slot]) -> dict[str, float | str]:
    """What a model can be told of a user: `section.slot`, or `section.slot["KEY"]`.

    Numbers and texts are themselves; a slot of several keys gives the share (or number) of each.
    """
    out: dict[str, float | str] = {}
    for path, slot in slots.items():
        value = slot.value
        if isinstance(value, str | int | float):
            out[path] = value
        elif isinstance(value, Mapping):
            numbers = {k: v for k, v in value.items() if isinstance(v, int | float)}
            out.update({f'{path}["{key}"]': float(number) for key, number in numbers.items()})
        elif isinstance(value, list | tuple):
            entries = [entry for entry in value if isinstance(entry, Entry)]
            out.update({f'{path}["{entry.key}"]': entry.share for entry in entries})
    return out


def feature_of(slots: Mapping[str, Slot], name: str) -> float | str | None:
    """One of `features_of`: 0 for a key that a slot lacks, None for a slot that is not there."""
    slot = slots.get(head_of(name))
    if slot is None:
        return None
    found = features_of({head_of(name): slot}).get(name)
    return 0.0 if found is None and name != head_of(name) else found


def head_of(name: str) -> str:
    """The slot of a feature.

    >>> head_of('interests.category["tea"]')
    'interests.category'
    """
    return name.partition('["')[0]


def _words(name: str, slot: Slot) -> str:
    key = name.partition('["')[2].removesuffix('"]')
    label = slot.label or slot.name
    return f"{key} in {label}" if key else label
