"""Social ties: whom a user follows, shares with, or otherwise turns to."""

from __future__ import annotations

from dataclasses import dataclass

from limner.events.batch import F64
from limner.profile.events import TARGET, Events
from limner.profile.facet import FacetConfig, Lifted, Slot, View, duration
from limner.profile.facets.keyed import keys_of
from limner.profile.merge import TIME, Column, Values, decayed
from limner.profile.pool import MapSpec

SHOWN = 12


@dataclass(frozen=True, slots=True)
class Ties:
    """The strength of the tie to each user whom an event names as its target.

    Σ w·2^(−age/half-life) with w the weight of the event's type; unfollowing weighs against.
    Who is followed now is a facet of kind "preference" with key = "target_user_id".
    """

    config: FacetConfig

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def columns(self) -> tuple[Column, ...]:
        return ()

    @property
    def weight(self) -> Column:
        """The entry column of strengths."""
        return Column("w", "decay", "f8", 1, (duration(self.config.half_life),))

    @property
    def map(self) -> MapSpec:
        texts = keys_of(self.config, TARGET).texts
        return MapSpec((TIME, self.weight), self.config.bound, texts=texts)

    def strengths(self, values: Values, now: int) -> F64:
        """The strength of each tie at `now`."""
        return decayed(values, self.weight, now)

    def lift(self, events: Events) -> Lifted:
        weights = events.weights(self.config.weights)
        mask = events.where(self.config.where) & (weights != 0)
        index, keys = keys_of(self.config, TARGET).of(events, mask)
        entries: Values = {"t": events.time[index], "w": weights[index]}
        return Lifted(events.unique(index), {}, entries=(index, keys, entries))

    def read(self, view: View, now: int) -> list[Slot]:
        state = view.fixed(self.name)
        n, newest = int(state["n"][0]), int(state["t"][0])
        if not n:
            return []
        keys, values = view.entries(self.name)
        strength = self.strengths(values, now)
        names = keys_of(self.config, TARGET).names(view)
        tied = [(names[k], float(w)) for k, w in zip(keys, strength, strict=True) if w > 0]
        # an erased user's name is empty
        ranked = sorted(((k, w) for k, w in tied if k), key=lambda tie: (-round(tie[1], 9), tie[0]))
        if not ranked:
            return []
        people = "person" if len(ranked) == 1 else "people"
        half = duration(self.config.half_life)
        held = dict(ranked[:SHOWN])
        text = f"tied to {len(ranked):,} {people}"
        error = view.error(self.name, now) or None
        return [
            self.config.slot(
                held,
                text,
                n,
                newest,
                now,
                unit="strength",
                half_life=half,
                error=error,
            )
        ]
