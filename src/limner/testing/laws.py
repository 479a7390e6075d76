"""Law 1 as a test suite, for any facet: yours takes two lines.

    from limner.testing.laws import FacetLaws

    class TestMine(FacetLaws):
        facet = MyFacet(...)

The plain reference is the law itself: every event is lifted alone into a state of its own, and
these states absorb one another in random order and grouping. Whatever the vectorised fold does
must come to the same: integers, keys and times exactly, floats up to rounding. Needs pytest and
hypothesis (`pip install 'limner[dev]'`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from random import Random
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limner.events.batch import F64, I64, SECOND, EventBatch
from limner.events.raw import ITEM, TOPIC, USER
from limner.profile.compare import differences
from limner.profile.facet import Facet, Slot
from limner.profile.population import Population, StateView
from limner.profile.state import LATENESS, ProfileState
from limner.profile.survey import survey

Row = dict[str, Any]

START = 1_700_000_000 * SECOND
"""The earliest time of a drawn event; all lie within `LATENESS` of it, so none is late."""

TYPES = ("impression", "click", "like", "dislike", "review", "follow", "unfollow", "share")
"""Further types of drawn events."""

TEXTS = (
    None,
    None,
    "Lovely black tea, would buy again!",
    "The worst coffee I ever had",
    "这个绿茶很好喝",
    "质量太差了，不推荐",
)
"""Texts of drawn events."""

LAWS = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow],
)


def _row(**columns: st.SearchStrategy[Any]) -> st.SearchStrategy[Row]:
    return st.fixed_dictionaries(columns).map(
        lambda row: {name.replace("__", "."): value for name, value in row.items()}
    )


def _amounts() -> st.SearchStrategy[float | None]:
    return st.none() | st.integers(-500, 20_000).map(lambda cents: cents / 100)


def _texts(prefix: str, n: int) -> st.SearchStrategy[str | None]:
    return st.sampled_from([None, *(f"{prefix}{k}" for k in range(n))])


def times() -> st.SearchStrategy[int]:
    """Event times within `LATENESS` of each other; some coincide."""
    coarse = st.integers(0, 7).map(lambda day: day * (LATENESS // 7))
    return (coarse | st.integers(0, LATENESS)).map(lambda offset: START + offset)


def event_rows(
    *, users: int = 3, items: int = 8, min_size: int = 0, max_size: int = 24
) -> st.SearchStrategy[list[Row]]:
    """Rows for `EventBatch.of`: events of a few users, declared attributes among them."""
    user = st.integers(1, users).map(lambda number: number.to_bytes(16, "big"))
    event = _row(
        user_id=user,
        event_type=st.sampled_from([*["purchase", "view", "rating"] * 2, *TYPES]),
        timestamp=times(),
        item_id=_texts("item", items),
        value=_amounts(),
        quantity=st.sampled_from([None, 0.0, 1.0, 2.0, 2.5]),
        group_id=_texts("basket", 5),
        target_user_id=st.none() | user,
        tz=st.sampled_from([None, "America/New_York", "Asia/Kolkata"]),
        properties__discount=_amounts(),
        properties__coupon_discount=st.sampled_from([None, 0.0, 0.5]),
        properties__place=_texts("place", 6),
        properties__text=st.sampled_from(TEXTS),
    )
    declared = _row(
        user_id=user,
        event_type=st.just(USER),
        timestamp=times(),
        properties__age=_texts("age", 3),
        properties__place=_texts("place", 3),
    )
    proposed = _row(
        user_id=user,
        event_type=st.just(TOPIC),
        timestamp=times(),
        value=st.sampled_from([1.0, -1.0, None]),
        properties__proposed=_texts("topic", 3),
        properties__rests_on=_texts("text", 3),
    )
    mixed = st.one_of(event, event, event, declared, proposed)
    return st.lists(mixed, min_size=min_size, max_size=max_size)


def item_rows(*, items: int = 8, max_size: int = 12) -> st.SearchStrategy[list[Row]]:
    """Rows for `EventBatch.of`: versions of items, of some items several, of others none."""
    version = _row(
        item_id=st.integers(0, items - 1).map(lambda number: f"item{number}"),
        event_type=st.just(ITEM),
        timestamp=times(),
        properties__department=_texts("department", 3),
        properties__category=_texts("category", 5),
        properties__type=_texts("type", 6),
        properties__brand=st.sampled_from([None, "National", "Private"]),
        properties__tags=st.none() | st.lists(st.sampled_from("abcdef"), unique=True, max_size=3),
        properties__price=_amounts(),
        properties__title=st.sampled_from([None, "Black tea", "Green tea cups", "绿茶"]),
    )
    return st.lists(version, max_size=max_size)


def empty_state(facets: Sequence[Facet], items: Sequence[Row] = ()) -> ProfileState:
    """A state with these facets and item versions, and no users."""
    state = ProfileState(facets, timezone="Europe/Berlin")
    if items:
        state.fold(0, EventBatch.of(items))
    return state


def folded(
    empty: ProfileState, batch: EventBatch, positions: I64, parts: Iterable[I64]
) -> ProfileState:
    """A copy of `empty` into which `parts` (row numbers of the batch) were folded in turn."""
    state = empty.scratch()
    for part in parts:
        state.fold_users(batch.take(part), positions[part])
    return state


def lifted_alone(empty: ProfileState, batch: EventBatch, positions: I64) -> list[ProfileState]:
    """One state for each event of the batch: what the law merges."""
    rows = np.arange(len(batch))
    return [folded(empty, batch, positions, [rows[i : i + 1]]) for i in rows.tolist()]


def merged(empty: ProfileState, states: Sequence[ProfileState], order: Random) -> ProfileState:
    """These states as one, merged two by two in random order and grouping; changes them."""
    left = list(states) or [empty.scratch()]
    while len(left) > 1:
        one, other = (left.pop(order.randrange(len(left))) for _ in range(2))
        absorb_all(one, other)
        left.append(one)
    return left[0]


def absorb_all(into: ProfileState, other: ProfileState) -> None:
    """Merge every user of `other` into `into`."""
    users = list(other.rows)
    if users:
        into.absorb(into.row_of(users), other, other.rows.find(users))


def sizes(states: Iterable[ProfileState]) -> dict[str, float]:
    """`FACET.COLUMN` → the sum of what the states hold there, each taken as positive.

    Rounding is measured against it, since sums of opposite signs may cancel.
    """
    out: dict[str, float] = {}
    for state in states:
        for facet in state.facets:
            found = {c.name: state.records[f"{facet.name}.{c.name}"] for c in facet.columns}
            if facet.name in state.pools:
                found |= state.pools[facet.name].every()[2]
            for name, values in found.items():
                if values.dtype.kind == "f":
                    path = f"{facet.name}.{name}"
                    out[path] = out.get(path, 0.0) + float(np.abs(values).sum(dtype=np.float64))
    return out


def agree(a: ProfileState, b: ProfileState, scale: dict[str, float] | None = None) -> None:
    """Raise AssertionError, saying where, if two states differ."""
    found = differences(a, b, scale)
    assert not found, "\n".join(found)


def shuffled(n: int, order: Random) -> I64:
    """The numbers below `n` in random order."""
    return np.array(order.sample(range(n), n), dtype=np.int64)


def slots_of(state: ProfileState, user: bytes, population: Population, now: int) -> list[Slot]:
    """Everything the state's facets say of a user."""
    view = StateView(state, state.rows[user], population)
    return [slot for facet in state.facets for slot in facet.read(view, now)]


def alike(one: Any, other: Any) -> bool:
    """Equal but for rounding: numbers within 1e-4, all else exactly, inside any structure.

    The text of a slot whose value is a number may differ, since its last digit is rounded.
    """
    if is_dataclass(one) and type(one) is type(other):
        names = {f.name for f in fields(one)}
        if isinstance(one, Slot) and isinstance(one.value, float):
            names.discard("text")
        return all(alike(getattr(one, name), getattr(other, name)) for name in names)
    if isinstance(one, float | int) and isinstance(other, float | int):
        return bool(np.isclose(one, other, rtol=1e-4, atol=1.1e-3))
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        pairs = zip(one, other, strict=False)
        return len(one) == len(other) and all(alike(a, b) for a, b in pairs)
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(alike(one[key], other[key]) for key in one)
    return bool(one == other)


class FacetLaws:
    """Tests of law 1 for `facet`; a subclass names it and is collected by pytest.

    To try several facets in one state, a subclass overrides `facets` instead.
    """

    facet: Facet

    @property
    def facets(self) -> Sequence[Facet]:
        """The facets under test."""
        return (self.facet,)

    @LAWS
    @given(items=item_rows(), rows=event_rows(), order=st.randoms(use_true_random=False))
    def test_any_order_and_any_grouping_gives_the_same_state(
        self, items: list[Row], rows: list[Row], order: Random
    ) -> None:
        """One vectorised fold = single events merged in random order and grouping."""
        empty, batch, positions = self._drawn(items, rows)
        whole = folded(empty, batch, positions, [np.arange(len(batch))])
        alone = lifted_alone(empty, batch, positions)
        scale = sizes(alone)
        agree(whole, merged(empty, alone, order), scale)

    @LAWS
    @given(
        items=item_rows(),
        rows=event_rows(min_size=1),
        cuts=st.sets(st.integers(1, 23), max_size=4),
        order=st.randoms(use_true_random=False),
    )
    def test_one_fold_is_many_folds_and_a_merge_of_parts(
        self, items: list[Row], rows: list[Row], cuts: set[int], order: Random
    ) -> None:
        """A batch = its events one by one = its parts in turn = its parts apart, then merged."""
        empty, batch, positions = self._drawn(items, rows)
        scale = sizes(lifted_alone(empty, batch, positions))
        whole = folded(empty, batch, positions, [np.arange(len(batch))])
        mixed = shuffled(len(batch), order)
        parts = [p for p in np.split(mixed, sorted(c for c in cuts if c < len(batch))) if len(p)]
        in_turn = folded(empty, batch, positions, parts)
        one_by_one = folded(empty, batch, positions, np.split(mixed, len(mixed)))
        apart = [folded(empty, batch, positions, [part]) for part in parts]
        agree(whole, in_turn, scale)
        agree(whole, one_by_one, scale)
        agree(whole, merged(empty, apart, order), scale)

    @LAWS
    @given(items=item_rows(), rows=event_rows(min_size=1))
    def test_the_identity_changes_nothing(self, items: list[Row], rows: list[Row]) -> None:
        """Absorbing a user without events changes no bit; the identity absorbs exactly."""
        empty, batch, positions = self._drawn(items, rows)
        state = folded(empty, batch, positions, [np.arange(len(batch))])
        nothing = empty.scratch()
        nothing.row_of(sorted(state.rows))
        before = {name: array.copy() for name, array in state.arrays().items()}
        absorb_all(state, nothing)
        assert all((before[name] == array).all() for name, array in state.arrays().items())
        absorb_all(nothing, state)
        agree(state, nothing)

    @LAWS
    @given(items=item_rows(), rows=event_rows(min_size=1), order=st.randoms(use_true_random=False))
    def test_what_is_read_does_not_depend_on_arrival(
        self, items: list[Row], rows: list[Row], order: Random
    ) -> None:
        """Slots are the same whatever the order in which items, users and words came."""
        empty, batch, positions = self._drawn(items, rows)
        state = folded(empty, batch, positions, [np.arange(len(batch))])
        # another catalog and other vocabularies, filled in another order
        strange = empty_state(self.facets)
        if items:
            versions = shuffled(len(items), order)
            strange.catalog.put(EventBatch.of([items[i] for i in versions.tolist()]), versions)
        for part in np.array_split(shuffled(len(rows), order), 2):
            # made anew, so that the dictionaries of its columns are in the new order too
            strange.fold_users(EventBatch.of([rows[i] for i in part.tolist()]), positions[part])
        now = START + 2 * LATENESS
        populations = survey(state, now), survey(strange, now)
        for user in state.rows:
            one = slots_of(state, user, populations[0], now)
            other = slots_of(strange, user, populations[1], now)
            assert alike(one, other), f"{one}\nis not\n{other}"

    @LAWS
    @given(rows=event_rows(min_size=1))
    def test_nothing_is_said_of_a_user_without_events(self, rows: list[Row]) -> None:
        """An empty state reads as no slots, also with other users around."""
        state = empty_state(self.facets)
        state.fold_users(EventBatch.of(rows), np.arange(len(rows)))
        state.row_of([b"u" * 16])
        assert slots_of(state, b"u" * 16, Population(), START) == []

    def _drawn(self, items: list[Row], rows: list[Row]) -> tuple[ProfileState, EventBatch, I64]:
        empty = empty_state(self.facets, items)
        positions = np.arange(len(items), len(items) + len(rows), dtype=np.int64)
        return empty, EventBatch.of(rows), positions


def distances(exact: dict[Any, float], stored: dict[Any, float]) -> F64:
    """How far the stored weight of each key is from the exact one; absent keys count as 0."""
    keys = {*exact, *stored}
    return np.array([abs(exact.get(k, 0.0) - stored.get(k, 0.0)) for k in keys] or [0.0])
