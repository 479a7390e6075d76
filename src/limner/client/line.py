"""Events that wait to be sent: they gather to batches, and none leaves before it was answered."""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass, field
from itertools import islice

from limner.client.asking import BYTES
from limner.client.values import Accepted
from limner.errors import AllRefused

_log = logging.getLogger("limner.client")

KEPT = 1_000
"""Refused events that are remembered until the next flush."""


@dataclass(slots=True)
class Line:
    """Events in line, sent `batch` at a time or when the oldest has waited `every` seconds."""

    batch: int
    every: float
    events: deque[bytes] = field(default_factory=deque)
    since: float = 0.0
    """When the oldest came, by `monotonic`."""
    done: Accepted = field(default_factory=lambda: Accepted(0, 0, [], 0))
    sent: int = 0
    """Events answered since the last flush."""

    def add(self, event: bytes) -> bool:
        """Put an event in line; whether the sender must know: the first, or a batch."""
        if not self.events:
            self.since = time.monotonic()
        self.events.append(event)
        return len(self.events) == 1 or len(self.events) >= self.batch

    @property
    def due(self) -> float | None:
        """Seconds until what waits is to be sent; None if nothing waits."""
        if not self.events:
            return None
        full = len(self.events) >= self.batch
        return 0.0 if full else max(0.0, self.since + self.every - time.monotonic())

    def first(self) -> list[bytes]:
        """The next batch, which stays in line until it is answered."""
        lot: list[bytes] = []
        size = 0
        for event in islice(self.events, self.batch):
            size += len(event)
            if lot and size > BYTES:
                break
            lot.append(event)
        return lot

    def answered(self, batch: int, answer: Accepted | AllRefused) -> None:
        """The first `batch` events were answered."""
        for _ in range(batch):
            self.events.popleft()
        self.since = time.monotonic()
        if isinstance(answer, AllRefused):
            answer = Accepted(0, 0, answer.refused, 0)
        if answer.refused:
            first = answer.refused[0]
            _log.warning(
                "%d of %d events were refused, the first by %s",
                len(answer.refused), batch, first.rule,
            )  # fmt: skip
        whole = self.done.plus(answer, self.sent)
        self.done = Accepted(whole.added, whole.repeated, whole.refused[:KEPT], whole.as_of)
        self.sent += batch

    def flushed(self) -> Accepted:
        """What became of all events since the last flush, counted from 1."""
        done, self.done, self.sent = self.done, Accepted(0, 0, [], 0), 0
        return done
