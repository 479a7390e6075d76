"""Visits: baskets or sessions, their number, size, worth and the time between them.

A visit is all events of one `group_id`. What keeps the merge free of order is an entry per visit
(its ends, its events, its worth); the newest `bound` are kept, older ones are added up.
"""

from __future__ import annotations

from dataclasses import dataclass

from limner.profile.events import Events
from limner.profile.facet import FacetConfig, Lifted, Slot, View, confidence
from limner.profile.merge import TIME, Column, Values
from limner.profile.pool import MapSpec
from limner.profile.words import length, money


@dataclass(frozen=True, slots=True)
class Visits:
    """Visits of a user; exact for events no later than the oldest of `bound` kept visits."""

    config: FacetConfig

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def columns(self) -> tuple[Column, ...]:
        return (Column("first", "min", "i8"), Column("worth", "sum"))

    @property
    def map(self) -> MapSpec:
        return MapSpec((TIME,), self.config.bound, key_dtype="i8", keep="newest")

    def lift(self, events: Events) -> Lifted:
        touched = (events.where(self.config.where) & (events.group != 0)).nonzero()[0]
        fixed = {"first": events.time[touched], "worth": events.total(self.config.of)[touched]}
        entries: Values = {"t": events.time[touched]}
        return Lifted(touched, fixed, entries=(touched, events.group[touched], entries))

    def read(self, view: View, now: int) -> list[Slot]:
        state = view.fixed(self.name)
        n, newest, first = int(state["n"][0]), int(state["t"][0]), int(state["first"][0])
        if not n:
            return []
        visits = len(view.entries(self.name)[0]) + float(view.spilled(self.name)[0])
        sure = confidence(visits, newest, None, now)
        gap = (newest - first) / (visits - 1) if visits > 1 else 0.0
        size, worth = n / visits, float(state["worth"][0]) / visits
        every = f", about every {length(gap)}" if gap else ""
        slots = [
            ("visits", visits, f"{visits:,.0f}{every}", "visits"),
            ("basket_size", size, f"{size:.1f} lines a visit", "lines"),
            ("basket_value", worth, f"{money(worth)} a visit", "money"),
        ]
        return [
            Slot(
                name=name,
                section=self.config.section,
                label=name.replace("_", " "),
                value=value,
                text=text,
                confidence=sure,
                events=n,
                changed_at=newest,
                unit=unit,
                percentile=view.percentile(name, value),
                facet=self.name,
            )
            for name, value, text, unit in slots
        ]
