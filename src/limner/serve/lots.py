"""What is answered in lots: events to record, and portraits and lists to read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from limner.app import Limner
from limner.app.intake import Body, record_bodies
from limner.app.listing import Wanted, recommend_together
from limner.profile.portrait import Portrait
from limner.profile.writer import Recorded
from limner.recommend.rank import Recommendations
from limner.serve.gather import Gather

EVENTS, TOGETHER, WAITING = 256, 512 << 10, 64 << 20
"""Requests whose events are one commit, their bytes, and bytes of bodies that may wait."""
READS, READING = 16, 1_000
"""Portraits and lists made in one go, and how many may wait."""

Told = Callable[[Sequence[Recorded | Exception]], None]
"""Told what became of the events of requests."""


@dataclass(frozen=True, slots=True)
class Lots:
    """One thread each."""

    events: Gather[Body, Recorded]
    portraits: Gather[str, Portrait]
    lists: Gather[Wanted, Recommendations]

    def close(self) -> None:
        """Answer what waits, and take no more."""
        for each in (self.events, self.portraits, self.lists):
            each.close()


def lots_of(app: Limner, told: Told | None = None) -> Lots:
    """Those of an open app; `told` hears what became of events."""

    def record(bodies: list[Body]) -> Sequence[Recorded | Exception]:
        outcomes = record_bodies(app, bodies, where="POST /v1/events")
        if told is not None:
            told(outcomes)
        return outcomes

    return Lots(
        Gather("events", record, most=EVENTS, lot=TOGETHER, room=WAITING),
        Gather("portraits", app.portraits, most=READS, lot=READS, room=READING),
        Gather("lists", partial(recommend_together, app), most=READS, lot=READS, room=READING),
    )
