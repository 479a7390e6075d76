"""A user's events and what a facet says of them, for cases that can be worked out by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from limner.events.batch import DAY, SECOND, EventBatch
from limner.profile import portrait
from limner.profile.facet import FacetConfig, Slot
from limner.profile.facets import build
from limner.profile.state import ProfileState
from limner.profile.survey import survey

Row = dict[str, Any]
NOW = 20_000 * DAY
USER = b"u" * 16


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND


def event(time: int = NOW, **columns: Any) -> Row:
    return {"user_id": USER, "event_type": "purchase", "timestamp": time} | {
        name.replace("properties_", "properties."): value for name, value in columns.items()
    }


def item(name: str, **attributes: Any) -> Row:
    described = {f"properties.{key}": value for key, value in attributes.items()}
    return {"item_id": name, "event_type": "$item", "timestamp": 0} | described


def state_of(kind: str, rows: list[Row], *, timezone: str = "UTC", **config: Any) -> ProfileState:
    facets = build([FacetConfig(**{"name": "f", "kind": kind, "section": "value"} | config)])
    state = ProfileState(facets, timezone=timezone)
    state.fold(0, EventBatch.of(rows))
    return state


def slots_of(state: ProfileState, user: bytes = USER, now: int = NOW) -> dict[str, Slot]:
    found = portrait.read(state, state.rows[user], survey(state, now), now, user_id="u")
    return dict(found.value)


def slots(kind: str, rows: list[Row], **config: Any) -> dict[str, Slot]:
    return slots_of(state_of(kind, rows, **config))
