"""The newest events of a user, as models read them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from limner.profile.events import Events
from limner.profile.facet import FacetConfig, Lifted, Slot, View
from limner.profile.merge import POSITION, TIME, Column, Values
from limner.profile.pool import MapSpec


@dataclass(frozen=True, slots=True)
class LastN:
    """The `bound` newest events with an item: entries keyed by (time, position).

    The union of two such sets, cut to the newest `bound`, is the set of the whole, so the merge
    is free of order. It shows no slot: it is the model's view of the user.
    """

    config: FacetConfig

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def columns(self) -> tuple[Column, ...]:
        return ()

    @property
    def map(self) -> MapSpec:
        columns = (TIME, POSITION, Column("w", "latest", "f4"), Column("group", "latest", "i4"))
        return MapSpec(columns, self.config.bound, unique=False, keep="newest")

    def lift(self, events: Events) -> Lifted:
        weights = events.weights(self.config.weights)
        chosen = events.where(self.config.where) & (weights != 0) & (events.item >= 0)
        touched = chosen.nonzero()[0]
        entries: Values = {
            "t": events.time[touched],
            "p": events.position[touched],
            "w": weights[touched].astype(np.float32),
            "group": (events.group[touched] & 0x7FFFFFFF).astype(np.int32),
        }
        return Lifted(touched, {}, entries=(touched, events.item[touched], entries))

    def read(self, view: View, now: int) -> list[Slot]:
        return []
