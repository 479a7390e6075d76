"""Slots of many users at once are the slots of each user's portrait."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.config import parse
from limner.events.batch import DAY, EventBatch
from limner.events.matching import Column
from limner.profile import facets, portrait
from limner.profile.facet import Facet, Slot
from limner.profile.facets.text import Topics
from limner.profile.merge import NEVER
from limner.profile.offered import vectorised
from limner.profile.population import FEWEST, Population
from limner.profile.standing import STANDINGS, everything
from limner.profile.state import ProfileState
from limner.profile.survey import survey
from limner.profile.topics import TopicModel
from limner.profile.users import SlotColumn, Users
from limner.testing.laws import LAWS, START, Row, empty_state, event_rows, item_rows

CONFIG = parse({"facet": [
    {"name": "f_tags", "kind": "affinity", "section": "interests", "key": "item.tags",
     "half_life": "2d", "weights": {"rating": -0.5}},
    {"name": "f_pace", "kind": "frequency", "section": "behaviour", "half_life": "2d"},
    {"name": "f_all", "kind": "count", "section": "behaviour"},
    {"name": "f_hours", "kind": "count", "section": "behaviour", "key": "hour"},
    {"name": "f_bands", "kind": "affinity", "section": "interests", "key": "value",
     "bands": [5, 20]},
    {"name": "f_amounts", "kind": "moments", "section": "value"},
    {"name": "f_pauses", "kind": "sessions", "section": "behaviour", "gap": "1h", "bound": 4},
    {"name": "f_kinds", "kind": "distinct", "section": "behaviour", "key": "item.type"},
    {"name": "f_opinions", "kind": "preference", "section": "interests"},
    {"name": "f_places", "kind": "count", "section": "behaviour", "key": "properties.place"},
    {"name": "f_quantiles", "kind": "quantiles", "section": "value", "bound": 6},
    {"name": "f_where", "kind": "places", "section": "basic", "key": "properties.place",
     "half_life": "2d"},
    {"name": "f_cells", "kind": "places", "section": "basic", "cell": 2, "half_life": "2d",
     "of": ["value", "properties.discount"]},
    {"name": "f_words", "kind": "keywords", "section": "interests", "half_life": "2d",
     "weights": {"review": 1.0, "view": 0.2, "dislike": -0.5}},
    {"name": "f_proposed", "kind": "proposed", "section": "interests"},
    {"name": "f_topics", "kind": "topics", "section": "interests"},
    {"name": "f_ties", "kind": "ties", "section": "behaviour", "half_life": "2d",
     "weights": {"follow": 0.5, "unfollow": -0.5, "share": 0.5, "like": 0.5}},
]})  # fmt: skip
SHOP = facets.build(CONFIG.facet)


def of_words(*words: str, topics: int = 3, at: int = START) -> TopicModel:
    """Topics of these words, each of a random few."""
    draw = np.random.default_rng(len(words))
    weights = draw.random((topics, len(words))) * (draw.random((topics, len(words))) < 0.6) + 1e-3
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    return TopicModel(words, draw.uniform(1, 3, len(words)), weights, at)


for _facet in SHOP:
    if isinstance(_facet, Topics):
        _facet.learned[:] = [
            of_words("lovely", "tea", "black", "coffee", "worst", "绿茶", "unread")
        ]


@dataclass(frozen=True)
class Wrapped:
    """A facet of a class that has no columns of its own: it is read one by one."""

    inner: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __repr__(self) -> str:
        return f"Wrapped({self.inner!r})"


def state_of(shop: tuple[Any, ...], items: list[Row], rows: list[Row]) -> ProfileState:
    state = empty_state(shop, items)
    batch = EventBatch.of(rows) if rows else None
    if batch is not None:
        state.fold_users(batch, np.arange(len(rows), dtype=np.int64))
    return state


def value_of(column: Column, index: int) -> Any:
    if not column.known[index]:
        return None
    value = column.values[index]
    return column.words.values[value] if column.words is not None else float(value)


def same(one: Any, other: Any, where: str) -> None:
    if isinstance(one, int | float) and isinstance(other, int | float):
        assert other == pytest.approx(one, rel=1e-9, abs=1e-9), where
    else:
        assert one == other, where


def agrees(slot: Slot | None, column: SlotColumn, index: int, now: int, path: str) -> None:
    assert bool(column.known[index]) == (slot is not None), path
    if slot is None:
        return
    same(slot.events, float(column.events[index]), path + " events")
    same(slot.confidence, float(column.confidence[index]), path + " confidence")
    newest = int(column.newest[index])
    assert (newest or None) == slot.changed_at or newest == NEVER, path
    if column.value is not None:
        same(slot.value, value_of(column.value, index), path)
        return
    assert column.keyed is not None, path
    if isinstance(slot.value, Mapping):
        for key, value in slot.value.items():
            same(value, value_of(column.keyed(key)[""], index), f"{path}[{key}]")
    elif isinstance(slot.value[0], float):
        pass  # a vector has no keys
    elif isinstance(slot.value[0], str):
        assert all(column.keyed(item)[""].values[index] > 0 for item in slot.value)
    else:
        for entry in slot.value:
            for name in ("weight", "share", "recent_share", "against_all"):
                found = value_of(column.keyed(entry.key)[name], index)
                same(getattr(entry, name), found, f"{path}[{entry.key}].{name}")
    absent = column.keyed("nobody has this key")
    first = next(iter(absent.values())) if "" not in absent else absent[""]
    assert value_of(first, index) in (0.0, None)
    assert first.present is None or not first.present[index]


def check(state: ProfileState, population: Population, now: int) -> None:
    users = Users(state, state.rows.live, population, now)
    offer = everything(users, [*STANDINGS, "nothing.that_is_there"])
    columns = {path: read() for path, read in offer.items()}
    for index, row in enumerate(users.rows.tolist()):
        seen = portrait.read(state, row, population, now, user_id="")
        slots = {f"{s}.{name}": slot for s, found in seen.sections().items()
                 for name, slot in found.items()}  # fmt: skip
        assert not slots.keys() - columns.keys(), slots.keys() - columns.keys()
        for path, column in columns.items():
            agrees(slots.get(path), column, index, now, path)


@settings(LAWS, max_examples=8)
@given(
    items=item_rows(),
    rows=event_rows(users=FEWEST + 4, min_size=40, max_size=60),
    later=st.integers(0, 40),
)
def test_many_users_at_once_are_as_each_alone(
    items: list[Row], rows: list[Row], later: int
) -> None:
    state = state_of(SHOP, items, rows)
    population = survey(state, START + 8 * DAY, CONFIG.population)
    check(state, population, START + 8 * DAY + later * DAY)


@settings(LAWS, max_examples=8)
@given(items=item_rows(), rows=event_rows(max_size=30))
def test_a_facet_without_columns_is_read_one_by_one(items: list[Row], rows: list[Row]) -> None:
    state = state_of(tuple(Wrapped(facet) for facet in SHOP), items, rows)
    check(state, survey(state, START + 8 * DAY), START + 9 * DAY)


def test_every_kind_of_facet_has_columns() -> None:
    domain = tomllib.loads((files("limner") / "domains/ecommerce.toml").read_text("utf-8"))
    slow: list[Facet] = [facet for facet in SHOP if not vectorised(facet)]
    assert domain["facet"] and not slow
