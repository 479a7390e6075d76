"""The model's view of a user, the vector U: refreshed by a policy as slots are, and kept like one.

It is shown beside the four sections, since its numbers mean nothing to a reader.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from limner.profile.facet import Slot, View, confidence

VECTOR = "vector"
"""What it is called among what is refreshed and kept."""


@dataclass(frozen=True, slots=True)
class Seen:
    """U by a version of the model, from so many events of which the newest is at `newest` (µs)."""

    numbers: list[float]
    model: str
    events: int
    newest: int


@dataclass(frozen=True, slots=True)
class UserVector:
    """Reads U by asking the model in use, if there is one; it has no state of its own."""

    ask: Callable[[View, int], Seen | None]

    @property
    def name(self) -> str:
        """As among what is refreshed."""
        return VECTOR

    def __repr__(self) -> str:
        return VECTOR  # what is kept holds whichever app asks

    def read(self, view: View, now: int) -> list[Slot]:
        """U as one slot; none without a model, or of a user without a history."""
        seen = self.ask(view, now)
        if seen is None or not seen.numbers:
            return []
        return [
            Slot(
                VECTOR, "interests", "the model's view", seen.numbers,
                f"{len(seen.numbers)} numbers by model {seen.model}",
                confidence(seen.events, seen.newest, None, now), seen.events, seen.newest,
                facet=VECTOR, model=seen.model,
            )
        ]  # fmt: skip
