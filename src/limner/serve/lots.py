"""What is answered in lots: events to record, and portraits and lists to read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from limner.app import Limner
from limner.app.intake import Body, record_bodies
from limner.profile.writer import Recorded
from limner.serve.gather import Gather

EVENTS, TOGETHER, WAITING = 256, 512 << 10, 64 << 20
"""Requests whose events are one commit, their bytes, and bytes of bodies that may wait."""
READS, READING = 16, 1_000
"""Portraits and lists made in one go, and how many may wait."""


@dataclass(frozen=True, slots=True)
class Lots:
    """One thread each."""

    events: Gather[Body, Recorded]
    reads: Gather[Callable[[], Any], Any]

    def close(self) -> None:
        """Answer what waits, and take no more."""
        self.events.close()
        self.reads.close()


def lots_of(app: Limner) -> Lots:
    """Those of an open app."""

    def record(bodies: list[Body]) -> Sequence[Recorded | Exception]:
        return record_bodies(app, bodies, where="POST /v1/events")

    return Lots(
        Gather("events", record, most=EVENTS, lot=TOGETHER, room=WAITING),
        Gather("reads", _each, most=READS, lot=READS, room=READING),
    )


def _each(asked: list[Callable[[], Any]]) -> list[Any]:
    out: list[Any] = []
    for ask in asked:
        try:
            out.append(ask())
        except Exception as error:
            out.append(error)
    return out
