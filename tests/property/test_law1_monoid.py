"""Law 1: facets are commutative monoids. Any order, any grouping, one state."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.config import parse
from limner.events.batch import DAY, I64, EventBatch
from limner.profile.compare import differences
from limner.profile.events import Events
from limner.profile.facet import Facet, FacetConfig, Lifted, Slot, View
from limner.profile.facets import KINDS, READERS, build
from limner.profile.merge import Column
from limner.profile.population import Population
from limner.testing.laws import (
    LAWS,
    START,
    FacetLaws,
    Row,
    absorb_all,
    distances,
    empty_state,
    folded,
    merged,
    shuffled,
    slots_of,
    times,
)

WEIGHTS = {"purchase": 1.0, "view": 0.2, "rating": 0.5, "impression": 0.0}


WEIGHTED = ("affinity", "keywords", "history", "ties")
FOLLOWED = WEIGHTS | {"follow": 0.5, "unfollow": -0.5, "share": 0.5, "like": 0.5, "dislike": -1.0}


def config(kind: str, **more: Any) -> FacetConfig:
    weights = {"weights": FOLLOWED} if kind in WEIGHTED else {}
    return FacetConfig(**{"name": "f", "kind": kind, "section": "value"} | weights | more)


def of_kind(kind: str, **more: Any) -> Facet:
    return build([config(kind, **more)])[0]


def shop() -> tuple[Facet, ...]:
    return build(parse({}).facet)


BOUGHT = {"event_type": "purchase"}

KINDS_TRIED: dict[str, list[Facet]] = {
    "declared": [of_kind("declared")],
    "count": [
        of_kind("count"),
        of_kind("count", key="event_type"),
        of_kind("count", key="item.tags"),
        of_kind("count", key="hour"),
        of_kind("count", key="item.price", bands=[10, 50, 100]),
        of_kind("count", key="properties.place", where={"value": ">10"}),
    ],
    "sum": [of_kind("sum", half_life="1d")],
    "rate": [
        of_kind("rate", of=["properties.discount"], over=["value", "properties.discount"]),
        of_kind("rate", of=["item.price"], over=["1"], only={"quantity": ">=2"}, half_life="2d"),
        of_kind("rate", of=["1"], only={"event_type": "click"}, among={"event_type": "impression"}),
    ],
    "recency": [of_kind("recency"), of_kind("recency", where={"item.brand": "National"})],
    "frequency": [of_kind("frequency", half_life="3d")],
    "sessions": [
        of_kind("sessions", key="group_id", where=BOUGHT),
        of_kind("sessions"),
        of_kind("sessions", gap="26h"),
    ],
    "moments": [of_kind("moments"), of_kind("moments", of=["item.price"])],
    "quantiles": [of_kind("quantiles")],
    "distinct": [
        of_kind("distinct"),
        of_kind("distinct", key="item.tags"),
        of_kind("distinct", key="properties.place", where=BOUGHT),
        of_kind("distinct", key="target_user_id"),
    ],
    "histogram": [of_kind("histogram", key="hour"), of_kind("histogram", key="weekday")],
    "affinity": [
        of_kind("affinity", key="item.category", half_life="30d", short_half_life="12h"),
        of_kind("affinity", key="item.tags"),
        of_kind("affinity", key="item.price", bands=[20]),
    ],
    "price_level": [of_kind("price_level", key="item.type")],
    "history": [of_kind("history")],
    "preference": [
        of_kind("preference"),
        of_kind("preference", key="item.tags"),
        of_kind("preference", key="target_user_id", where={"event_type": ["follow", "unfollow"]}),
    ],
    "proposed": [of_kind("proposed"), of_kind("proposed", bound=2)],
    "sentiment": [of_kind("sentiment", half_life="2d", texts=["event_type"])],
    "keywords": [
        of_kind("keywords", half_life="2d"),
        of_kind("keywords", texts=["item.title", "properties.text"]),
    ],
    "places": [
        of_kind("places", key="properties.place", half_life="2d"),
        of_kind("places", of=["value", "properties.discount"], cell=3, half_life="2d"),
    ],
    "ties": [of_kind("ties", half_life="2d")],
}

READERS_TRIED: dict[str, tuple[Facet, ...]] = {
    "interest_vector": build([config("interest_vector"), config("history", name="h", bound=16)]),
    "topics": build([config("topics"), config("keywords", name="k")]),
}


def test_every_kind_is_tried() -> None:
    assert set(KINDS_TRIED) == set(KINDS)
    assert set(READERS_TRIED) == set(READERS)


def _suite(name: str, facet: Facet) -> type[FacetLaws]:
    return type(name, (FacetLaws,), {"facet": facet})


class TestShop(FacetLaws):
    facets = shop()


# several kinds in one state: each suite costs a second
_ALL = [
    replace(facet, config=replace(facet.config, name=f"{kind}_{n}"))  # type: ignore
    for kind, tried in KINDS_TRIED.items()
    for n, facet in enumerate(tried)
]
for _n in range(4):
    globals()[f"TestKinds{_n}"] = type(f"TestKinds{_n}", (FacetLaws,), {"facets": _ALL[_n::4]})
for _kind, _set in READERS_TRIED.items():
    globals()[f"Test_{_kind}"] = type(f"Test_{_kind}", (FacetLaws,), {"facets": _set})


# -- the suite itself --------------------------------------------------------------------------


@dataclass(frozen=True)
class Broken:
    """A facet that counts an event as much as there are events in its batch."""

    name: str = "broken"
    columns: tuple[Column, ...] = (Column("sum", "sum"),)
    map: None = None

    def lift(self, events: Events) -> Lifted:
        touched = events.ordinary.nonzero()[0]
        return Lifted(touched, {"sum": np.full(len(touched), float(len(events)))})

    def read(self, view: View, now: int) -> list[Slot]:
        return []


@dataclass(frozen=True)
class Interned(Broken):
    """A facet that shows what order its items came in."""

    def lift(self, events: Events) -> Lifted:
        touched = (events.ordinary & (events.item >= 0)).nonzero()[0]
        return Lifted(touched, {"sum": events.item[touched].astype(np.float64)})

    def read(self, view: View, now: int) -> list[Slot]:
        total = float(view.fixed(self.name)["sum"][0])
        return [Slot(self.name, "value", "", total, "", 1.0, 1, now)] if total else []


ROWS: list[Row] = [
    {"user_id": b"u" * 16, "event_type": "view", "timestamp": START + n, "item_id": f"item{n}"}
    for n in (3, 1, 2)
]


def inner(law: Any) -> Any:
    """A law without hypothesis around it."""
    return law.hypothesis.inner_test


def test_the_suite_refuses_a_facet_that_depends_on_its_batch() -> None:
    suite = _suite("Suite", Broken())()
    for law, more in (
        (suite.test_any_order_and_any_grouping_gives_the_same_state, {}),
        (suite.test_one_fold_is_many_folds_and_a_merge_of_parts, {"cuts": {1}}),
    ):
        with pytest.raises(AssertionError, match=r"broken\.sum"):
            inner(law)(suite, items=[], rows=ROWS, order=Random(1), **more)


def test_the_suite_refuses_a_facet_that_shows_the_order_of_arrival() -> None:
    suite = _suite("Suite", Interned())()
    rows = [row | {"user_id": bytes([n]) * 16} for n, row in enumerate(ROWS)]
    with pytest.raises(AssertionError, match="is not"):
        inner(suite.test_what_is_read_does_not_depend_on_arrival)(
            suite, items=[], rows=rows, order=Random(1)
        )


# -- bounded maps ------------------------------------------------------------------------------

SMALL = 4


def many_keys(kinds: int = 30, max_size: int = 60) -> st.SearchStrategy[list[Row]]:
    """Events of one user with more keys than a small map holds."""
    row = st.fixed_dictionaries(
        {
            "user_id": st.just(b"u" * 16),
            "event_type": st.sampled_from(["purchase", "purchase", "view"]),
            "timestamp": times(),
            "item_id": st.integers(0, kinds - 1).map(lambda n: f"item{n}"),
            "value": st.integers(1, 1000).map(float),
            "group_id": st.integers(0, kinds - 1).map(lambda n: f"basket{n}"),
            "properties.place": st.integers(0, kinds - 1).map(lambda n: f"place{n}"),
        }
    )
    return st.lists(row, min_size=1, max_size=max_size)


def _parts(n: int, order: Random) -> list[I64]:
    return [p for p in np.array_split(shuffled(n, order), order.randint(1, n)) if len(p)]


@LAWS
@pytest.mark.parametrize(
    ("small", "large"),
    [
        (
            of_kind("affinity", key="properties.place", bound=SMALL, half_life="2d"),
            of_kind("affinity", key="properties.place", bound=1000, half_life="2d"),
        ),
        (
            of_kind("count", key="properties.place", bound=SMALL),
            of_kind("count", key="properties.place", bound=1000),
        ),
        (
            of_kind("price_level", key="properties.place", bound=SMALL),
            of_kind("price_level", key="properties.place", bound=1000),
        ),
    ],
    ids=["affinity", "count", "price_level"],
)
@given(rows=many_keys(), order=st.randoms(use_true_random=False))
def test_a_bounded_map_is_off_by_no_more_than_it_says(
    small: Facet, large: Facet, rows: list[Row], order: Random
) -> None:
    batch, positions = EventBatch.of(rows), np.arange(len(rows), dtype=np.int64)
    exact = empty_state([large])
    exact.fold_users(batch, positions)
    empty = empty_state([small])
    empty.words = exact.words
    in_turn = folded(empty, batch, positions, _parts(len(batch), order))
    states = [folded(empty, batch, positions, [part]) for part in _parts(len(batch), order)]
    for state in (in_turn, merged(empty, states, order)):
        at = START + 7 * DAY
        stored, truth = (
            dict(zip(keys.tolist(), pool.weights(values, at).tolist(), strict=True))
            for pool in (state.pools["f"], exact.pools["f"])
            for keys, values in [pool.entries(0)]
        )
        error = state.pools["f"].error(0, at)
        assert distances(truth, stored).max() <= error * (1 + 1e-5) + 1e-5 * max(truth.values())
        assert len(stored) <= SMALL + 4
        if len(truth) > SMALL + 4:
            assert error > 0


@LAWS
@given(rows=many_keys(), order=st.randoms(use_true_random=False))
def test_a_history_is_exactly_its_newest_events(rows: list[Row], order: Random) -> None:
    empty = empty_state([of_kind("history", bound=SMALL)])
    batch, positions = EventBatch.of(rows), np.arange(len(rows), dtype=np.int64)
    states = [folded(empty, batch, positions, [part]) for part in _parts(len(batch), order)]
    in_turn = folded(empty, batch, positions, _parts(len(batch), order))
    newest = sorted((row["timestamp"], place) for place, row in enumerate(rows))[-SMALL:]
    for state in (in_turn, merged(empty, states, order)):
        keys, values = state.pools["f"].entries(0)
        ids = [state.catalog.ids.values[key] for key in keys]
        assert list(zip(values["t"].tolist(), values["p"].tolist(), strict=True)) == newest
        assert ids == [rows[place]["item_id"] for _, place in newest]
        assert values["w"].tolist() == pytest.approx(
            [WEIGHTS[rows[place]["event_type"]] for _, place in newest]
        )


@LAWS
@given(rows=many_keys(), order=st.randoms(use_true_random=False))
def test_totals_of_visits_stay_exact_through_spilling(rows: list[Row], order: Random) -> None:
    """Also of visits that come back after more newer ones than are kept, in any order."""
    empty = empty_state([of_kind("sessions", key="group_id", bound=SMALL)])
    batch, positions = EventBatch.of(rows), np.arange(len(rows), dtype=np.int64)
    whole = folded(empty, batch, positions, [np.arange(len(rows))])
    in_turn = folded(empty, batch, positions, _parts(len(batch), order))
    states = [folded(empty, batch, positions, [part]) for part in _parts(len(batch), order)]
    again = empty.scratch()
    again.load({name: array.copy() for name, array in in_turn.arrays().items()})
    again.fold_users(batch, positions)  # every visit comes back
    baskets = len({row["group_id"] for row in rows})
    for state, folds in ((whole, 1), (in_turn, 1), (merged(empty, states, order), 1), (again, 2)):
        pool = state.pools["f"]
        assert len(pool.entries(0)[0]) + pool.spilled(0)[0] == baskets
        worth = folds * sum(row["value"] for row in rows)
        assert state.records["f.worth"][0] == pytest.approx(worth, rel=1e-9)
        assert state.records["f.n"][0] == folds * len(rows)
    assert differences(whole, in_turn) == []
    twice = empty.scratch()
    absorb_all(twice, whole)
    assert differences(whole, twice) == []
    whole.clear(np.array([0]))
    whole.fold_users(batch, positions)
    assert differences(whole, twice) == []


def test_a_basket_that_returns_after_many_newer_ones_is_counted_once() -> None:
    state = empty_state([of_kind("sessions", key="group_id", bound=SMALL)])
    user = b"u" * 16
    for turn in range(3):
        for basket in range(100):
            row = {
                "user_id": user,
                "event_type": "purchase",
                "timestamp": START + (turn * 100 + basket) * DAY,
                "group_id": f"basket{basket}",
            }
            state.fold_users(EventBatch.of([row]), np.array([turn * 100 + basket]))
    (visits,) = (slot for slot in slots_of(state, user, Population(), START) if slot.name == "f")
    assert visits.value == 100
