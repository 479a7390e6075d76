"""The state: order of positions, late events, rows that come and go."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from limner.errors import OutOfOrder
from limner.events.batch import DAY, EventBatch
from limner.profile import portrait
from limner.profile.compare import differences
from limner.profile.facet import FacetConfig
from limner.profile.facets import build
from limner.profile.merge import NEVER
from limner.profile.population import Population
from limner.profile.state import LATENESS, ProfileState

NOW = 20_000 * DAY


def state_of() -> ProfileState:
    weights = {"purchase": 1.0}
    return ProfileState(
        build(
            [
                FacetConfig("spend", "sum", "value"),
                FacetConfig("kinds", "affinity", "interests", key="item.type", weights=weights),
                FacetConfig("history", "history", "behaviour", bound=4, weights=weights),
                FacetConfig("declared", "declared", "basic"),
            ]
        )
    )


def event(user: int, time: int = NOW, **columns: Any) -> dict[str, Any]:
    common = {"user_id": bytes([user]) * 16, "event_type": "purchase", "timestamp": time}
    return common | {"item_id": "a", "value": 1.0} | columns


ITEM = {"item_id": "a", "event_type": "$item", "timestamp": 0, "properties.type": "tea"}


def test_a_batch_that_is_not_next_is_refused_and_changes_nothing() -> None:
    state = state_of()
    state.fold(0, EventBatch.of([event(1)]))
    for position in (0, 2):
        with pytest.raises(OutOfOrder):
            state.fold(position, EventBatch.of([event(1)]))
    assert state.position == 1
    assert state.records["spend.n"].tolist() == [1]


def test_an_empty_batch_moves_nothing() -> None:
    state = state_of()
    folded = state.fold(0, EventBatch.empty())
    assert (state.position, folded.late_users, folded.late_items) == (0, [], [])


def test_only_who_lost_something_to_a_bound_is_late_and_only_beyond_lateness() -> None:
    state = ProfileState(
        build([FacetConfig("visits", "sessions", "behaviour", key="group_id", bound=4)])
    )
    many = [event(1, NOW - visit * DAY, group_id=f"g{visit}") for visit in range(12)]
    few = [event(2, NOW, group_id="g")]
    state.fold(0, EventBatch.of([*many, *few]))
    assert state.pools["visits"].overflowed(state.rows[bytes([1]) * 16])
    within = [event(user, NOW - LATENESS, group_id="late") for user in (1, 2)]
    assert state.fold(13, EventBatch.of(within)).late_users == []
    beyond = [event(user, NOW - LATENESS - 1, group_id="later") for user in (1, 2)]
    assert state.fold(15, EventBatch.of(beyond)).late_users == [state.rows[bytes([1]) * 16]]


def test_declared_attributes_are_never_late() -> None:
    state = state_of()
    state.fold(0, EventBatch.of([event(1)]))
    said = event(1, 0, event_type="$user", item_id=None, value=None)
    assert state.fold(1, EventBatch.of([said])).late_users == []
    assert state.newest_event == NOW


def test_items_described_after_their_events_are_reported() -> None:
    state = state_of()
    state.fold(0, EventBatch.of([event(1)]))
    folded = state.fold(1, EventBatch.of([ITEM]))
    assert [state.catalog.ids.values[item] for item in folded.late_items] == ["a"]
    together = state_of()
    assert together.fold(0, EventBatch.of([event(1), ITEM])).late_items == []


def test_rows_without_a_user_or_blanked_are_skipped_but_counted_as_positions() -> None:
    state = state_of()
    blank = dict.fromkeys(("user_id", "event_type", "timestamp", "item_id", "value"))
    state.fold(0, EventBatch.of([event(1), blank, event(2)]))
    assert state.position == 3
    assert sorted(state.rows) == [bytes([1]) * 16, bytes([2]) * 16]
    assert state.pools["history"].entries(state.rows[bytes([2]) * 16])[1]["p"].tolist() == [2]


def test_an_erased_users_row_is_reused_without_a_trace() -> None:
    state, fresh = state_of(), state_of()
    state.fold(0, EventBatch.of([ITEM, *(event(1, NOW + n, value=9.0) for n in range(9))]))
    user = bytes([1]) * 16
    row = state.rows[user]
    assert state.holds(user)
    state.erase(user)
    assert not state.holds(user)
    fresh.fold(0, EventBatch.of([ITEM]))
    for one in (state, fresh):
        one.fold_users(EventBatch.of([event(2)]), np.array([10]))
    assert state.rows == {bytes([2]) * 16: row}
    assert differences(state, fresh) == []


def test_a_cleared_row_is_the_identity() -> None:
    state = state_of()
    state.fold(0, EventBatch.of([ITEM, event(1)]))
    state.clear(np.array([0]))
    untouched = state_of()
    untouched.row_of([bytes([1]) * 16])
    assert state.records.tobytes() == untouched.records.tobytes()
    assert state.records["newest"][0] == NEVER
    assert all(pool.count(0) == 0 for pool in state.pools.values())


def test_slices_of_a_batch_fold_to_the_same_state() -> None:
    rows = [ITEM, *(event(n % 7, NOW + n, value=float(n)) for n in range(60))]
    whole, sliced = state_of(), state_of()
    batch = EventBatch.of(rows)
    whole.fold(0, batch)
    for start in range(0, len(batch), 9):
        sliced.fold(start, batch.slice(start, min(start + 9, len(batch))))
    assert whole.position == sliced.position
    assert differences(whole, sliced) == []


def test_erasing_a_user_forgets_the_texts_that_nobody_else_has() -> None:
    def said(user: int, **attributes: str) -> dict[str, Any]:
        given = {f"properties.{name}": text for name, text in attributes.items()}
        return event(user, event_type="$user", item_id=None, value=None) | given

    weights = {"purchase": 1.0}
    state = ProfileState(
        build(
            [
                FacetConfig("declared", "declared", "basic"),
                FacetConfig(
                    "sought", "affinity", "interests", key="properties.query", weights=weights
                ),
                FacetConfig("never", "recency", "behaviour", where={"properties.note": "yes"}),
            ]
        )
    )
    query: dict[str, Any] = {"properties.query": "shared", "properties.note": "private note"}
    rows = [
        said(1, mail="one@example.org", town="Ulm"),
        said(2, town="Ulm"),
        event(1, **query),
        event(1, **query | {"properties.query": "only mine"}),
        event(2, **query),
    ]
    state.fold(0, EventBatch.of(rows))
    state.erase(bytes([1]) * 16)
    kept = [text for vocabulary in state.words.values() for text in vocabulary.values]
    assert sorted(text for text in kept if text) == ["Ulm", "shared", "town"]
    state.fold(5, EventBatch.of([said(3, mail="three@example.org", town="Ulm")]))
    slots = portrait.read(state, state.rows[bytes([3]) * 16], Population(), NOW, user_id="")
    assert {n: s.value for n, s in slots.basic.items()} == {
        "mail": "three@example.org",
        "town": "Ulm",
    }
