"""Topics of what a user reads and writes, read from their keywords."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from limner.events.batch import F64, I64, Bool
from limner.profile.events import Events
from limner.profile.facet import Entry, FacetConfig, Lifted, Slot, View, duration
from limner.profile.facets.affinity import Affinity
from limner.profile.merge import Column, Values
from limner.profile.topics import TopicModel
from limner.profile.words import percent


@dataclass(frozen=True, slots=True)
class Topics:
    """How a user's keywords divide among the topics last learned (`limner topics`).

    It reads the facet of kind "keywords" that `reads` names, in both of that one's half-lives,
    and has no state of its own: topics learned anew hold for everybody at once.
    """

    config: FacetConfig
    source: Affinity
    learned: list[TopicModel] = field(default_factory=list, repr=False, compare=False)
    """The topics in use, if any; the last one."""

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def columns(self) -> tuple[Column, ...]:
        return ()

    @property
    def map(self) -> None:
        return None

    def lift(self, events: Events) -> Lifted:
        return Lifted(np.empty(0, dtype=np.int64), {})

    def shares_of(
        self,
        model: TopicModel,
        owner: I64,
        places: I64,
        values: Values,
        newest: int | I64,
        users: int,
    ) -> F64:
        """Lately and in the long run, the share of each topic, (2, users, topics).

        `owner[i]` has the keyword at `places[i]` of the model's. `newest`: the time of the
        owner's newest event, on which shares do not depend.
        """
        weights = self.source.weights_of(values, newest)
        return np.stack([model.shares(owner, places, w, users) for w in weights.T])

    def read(self, view: View, now: int) -> list[Slot]:
        state = view.fixed(self.source.name)
        n, newest = int(state["n"][0]), int(state["t"][0])
        if not n or not self.learned:
            return []
        model = self.learned[-1]
        if model.at > now:  # the past does not know later topics (law 4)
            return []
        keys, values = view.entries(self.source.name)
        names = self.source.keys.names(view)
        places = model.places([names[key] for key in keys.tolist()])
        recent, lasting = self.shares_of(
            model, np.zeros(len(keys), dtype=np.int64), places, values, newest, 1
        )[:, 0]
        ranked = sorted(np.flatnonzero(told(lasting)), key=lambda k: -lasting[k])
        entries = [
            Entry(model.names[k], float(lasting[k]), float(lasting[k]), float(recent[k]))
            for k in ranked
        ]
        if not entries:
            return []
        text = "; ".join(f"{entry.key} ({percent(entry.share)})" for entry in entries[:3])
        half = duration(self.source.config.half_life)
        return [
            self.config.slot(
                entries, text, n, newest, now,
                unit="share", half_life=half, facet=self.source.name,
            )
        ]  # fmt: skip


def told(share: F64) -> Bool:
    """Which shares are large enough to be told."""
    large: Bool = np.round(share, 6) > 0.01
    return large
