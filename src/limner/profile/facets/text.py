"""Topics of what a user reads and writes, read from their keywords."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from limner.profile.events import Events
from limner.profile.facet import Entry, FacetConfig, Lifted, Slot, View, duration
from limner.profile.facets.affinity import Affinity
from limner.profile.merge import Column
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

    def read(self, view: View, now: int) -> list[Slot]:
        state = view.fixed(self.source.name)
        n, newest = int(state["n"][0]), int(state["t"][0])
        if not n or not self.learned:
            return []
        model = self.learned[-1]
        if model.at > now:  # the past does not know later topics (law 4)
            return []
        keys, weights = self.source.weights_now(view, newest)
        words = self.source.keys.names(view)
        order = np.argsort([words[key] for key in keys], kind="stable")
        shares = model.shares([words[keys[i]] for i in order], weights[order])
        recent, lasting = shares.T
        ranked = sorted(np.flatnonzero(np.round(lasting, 6) > 0.01), key=lambda k: -lasting[k])
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
