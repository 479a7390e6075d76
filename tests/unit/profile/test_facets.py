"""Each kind of facet on cases small enough to work out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.unit.profile.small import NOW, USER, Row, at, event, item, slots, slots_of, state_of

from limner.errors import ConfigError
from limner.events.batch import DAY, SECOND, EventBatch
from limner.profile.facet import Entry, FacetConfig, confidence
from limner.profile.facets import build
from limner.profile.facets.numbers import estimate


def test_hours_are_those_of_the_wall_clock_across_a_change_of_the_clocks() -> None:
    # on 2023-03-12 New York went from 02:00 EST to 03:00 EDT, at 07:00 UTC
    rows = [
        event(at("2023-03-12T06:30:00")),  # 01:30 EST
        event(at("2023-03-12T06:59:59")),  # 01:59 EST
        event(at("2023-03-12T07:00:00")),  # 03:00 EDT
        event(at("2023-11-05T05:30:00")),  # 01:30 EDT
        event(at("2023-11-05T06:30:00")),  # 01:30 EST, an hour later
    ]
    slot = slots("histogram", rows, key="hour", timezone="America/New_York")["f"]
    assert slot.value == {"01": 4, "03": 1}
    assert slot.text == "mostly between 1:00 and 4:00 (100 %)"


@pytest.mark.parametrize(
    ("zone", "utc", "hour"),
    [
        ("Asia/Kolkata", "2023-06-01T00:45:00", "06"),  # + 5:30
        ("Asia/Kolkata", "2023-06-01T00:15:00", "05"),
        ("Asia/Kathmandu", "2023-06-01T00:15:00", "06"),  # + 5:45
        ("America/St_Johns", "2023-06-01T02:45:00", "00"),  # − 2:30 in summer
        ("Pacific/Auckland", "2023-01-01T12:00:00", "01"),  # + 13
        ("No/Such_Zone", "2023-01-01T12:00:00", "12"),
    ],
)
def test_an_event_brings_its_own_time_zone(zone: str, utc: str, hour: str) -> None:
    rows = [event(at(utc), tz=zone), event(at("2023-06-01T23:30:00"))]
    slot = slots("histogram", rows, key="hour", timezone="UTC")["f"]
    assert slot.value == {hour: 1, "23": 1}


def test_weekdays_are_local_too() -> None:
    rows = [
        event(at("2023-03-13T03:59:00")),  # still Sunday in New York
        event(at("2023-03-13T04:00:00")),  # Monday
        event(at("1969-12-31T12:00:00")),  # a Wednesday before 1970
    ]
    slot = slots("histogram", rows, key="weekday", timezone="America/New_York")["f"]
    assert slot.value == {"Monday": 1, "Wednesday": 1, "Sunday": 1}


def test_the_busiest_hours_may_go_round_midnight() -> None:
    rows = [event(at(f"2023-01-01T{hour}:10:00")) for hour in ("23", "00", "01", "12")]
    slot = slots("histogram", rows, key="hour")["f"]
    assert slot.text == "mostly between 23:00 and 2:00 (75 %)"


def test_tally_counts_by_key_most_frequent_first_ties_by_name() -> None:
    rows = [event(event_type=kind) for kind in ("view", "rating", "view", "add_to_cart")]
    slot = slots("count", rows, key="event_type")["f"]
    assert list(slot.value.items()) == [("view", 2), ("add_to_cart", 1), ("rating", 1)]
    assert slot.text == "2 × view, 1 × add to cart, 1 × rating"
    assert slot.events == 4


def test_recency_says_how_long_ago() -> None:
    rows = [event(NOW - 10 * DAY), event(NOW - 2 * DAY), event(NOW, event_type="view")]
    slot = slots("recency", rows, where={"event_type": "purchase"})["days_since_f"]
    assert slot.value == pytest.approx(2.0)
    assert slot.text == "2 days ago; first seen 10 days ago"
    assert (slot.events, slot.changed_at) == (2, NOW - 2 * DAY)


@pytest.mark.parametrize("n", [1, 40, 100, 600, 3_000, 20_000])
def test_variety_is_within_three_standard_errors(n: int) -> None:
    rows = [event(item_id=f"item-{number}") for number in range(n)] * 2
    slot = slots("distinct", rows)["f"]
    assert slot.error == pytest.approx(0.065)
    assert slot.value == pytest.approx(n, rel=3 * 0.065, abs=1)
    assert slot.events == 2 * n


def test_the_error_of_the_sketch_is_the_stated_one() -> None:
    random = np.random.default_rng(7)
    n, errors = 5_000, []
    for _ in range(60):
        hashes = random.integers(0, 2**63, n, dtype=np.uint64) * np.uint64(2)
        registers = np.zeros(256, dtype=np.uint8)
        rest = (hashes & np.uint64((1 << 56) - 1)).astype(np.float64)
        rank = 56 - np.floor(np.log2(np.maximum(rest, 1)))
        np.maximum.at(registers, (hashes >> np.uint64(56)).astype(int), rank.astype(np.uint8))
        errors.append(estimate(registers) / n - 1)
    assert abs(np.mean(errors)) < 3 * 0.065 / 60**0.5
    assert np.std(errors) == pytest.approx(0.065, rel=0.35)


def test_visits_baskets_and_the_time_between_them() -> None:
    rows = [
        event(NOW - 14 * DAY, group_id="a", value=1.0),
        event(NOW - 14 * DAY + SECOND, group_id="a", value=2.0),
        event(NOW - 7 * DAY, group_id="b", value=3.0),
        event(NOW, group_id="c", value=None),
        event(NOW, value=100.0),  # in no basket
    ]
    found = slots("sessions", rows, name="visits", key="group_id")
    assert found["visits"].value == 3
    assert found["visits"].text == "3, about every 7 days"
    assert found["basket_size"].value == pytest.approx(4 / 3, abs=1e-3)
    assert found["basket_value"].value == 2.0


def test_visits_beyond_the_bound_are_still_counted() -> None:
    rows = [event(NOW - (200 - n) * DAY, group_id=f"g{n}", value=2.0) for n in range(200)]
    state = state_of("sessions", rows[:100], name="visits", key="group_id", bound=8)
    for start in range(100, 200, 7):
        state.fold(start, EventBatch.of(rows[start : min(start + 7, 200)]))
    found = slots_of(state)
    assert found["visits"].value == 200
    assert found["basket_value"].value == 2.0


LEAN = {"key": "item.brand", "weights": {"purchase": 1.0, "view": 0.2}}
BRANDS = [item("a", brand="Aa"), item("b", brand="Bb"), item("c", brand="Cc")]


def test_affinity_weighs_by_type_and_age_and_drift_is_the_shift_between_half_lives() -> None:
    rows = [event(NOW - 180 * DAY, item_id="a"), event(NOW, item_id="b")]
    found = slots("affinity", BRANDS + rows, **LEAN)
    shares = {entry.key: entry.share for entry in found["f"].value}
    assert list(shares) == ["Bb", "Aa"]
    assert shares == pytest.approx({"Bb": 2 / 3, "Aa": 1 / 3}, rel=1e-6)
    recent = 2 ** (-180 / 14) / (1 + 2 ** (-180 / 14))
    assert found["f_drift"].value == pytest.approx(1 / 3 - recent, abs=1e-4)
    assert found["f"].half_life == 180
    assert found["f"].error == 0


def test_views_weigh_less_and_unnamed_types_nothing() -> None:
    rows = [
        event(item_id="a"),
        event(item_id="b", event_type="view"),
        event(item_id="c", event_type="impression"),
        event(item_id="nowhere"),
    ]
    slot = slots("affinity", BRANDS + rows, **LEAN)["f"]
    assert {e.key: e.share for e in slot.value} == pytest.approx({"Aa": 1 / 1.2, "Bb": 0.2 / 1.2})
    assert slot.events == 2


def test_a_share_is_compared_with_the_share_among_all_users() -> None:
    rows = [event(item_id="a"), *(event(item_id="b", user_id=bytes([n]) * 16) for n in range(3))]
    (entry,) = slots("affinity", BRANDS + rows, **LEAN)["f"].value
    assert isinstance(entry, Entry)
    assert entry.against_all == pytest.approx(4.0)


def test_equal_weights_are_in_the_order_of_their_names() -> None:
    rows = [event(item_id=name) for name in "cab"]
    for catalog in (BRANDS, BRANDS[::-1]):
        found = slots("affinity", [*catalog, *rows], **LEAN)["f"]
        assert [entry.key for entry in found.value] == ["Aa", "Bb", "Cc"]


def test_spend_in_all_and_a_month_at_the_present_rate() -> None:
    rows = [event(NOW - day * DAY, value=10.0) for day in range(3_000)]
    found = slots("sum", rows, half_life="90d")
    assert found["f"].value == pytest.approx(30_000)
    assert found["f_monthly"].value == pytest.approx(10 * 30.44, rel=0.005)
    later = slots_of(state_of("sum", rows, half_life="90d"), now=NOW + 90 * DAY)
    assert later["f_monthly"].value == pytest.approx(found["f_monthly"].value / 2, abs=0.01)


def test_a_ratio_sums_above_and_below_with_one_half_life() -> None:
    rows = [
        event(NOW - 10 * DAY, value=3.0, properties_discount=1.0),
        event(NOW, value=1.0, properties_discount=1.0),
        event(NOW, value=2.0, properties_discount=None),
        event(NOW, value=None, properties_discount=None),  # nothing below: no evidence
    ]
    config = {"of": ["properties.discount"], "over": ["value", "properties.discount"]}
    slot = slots("rate", rows, **config, half_life="10d", unit="share", text="{} off")["f"]
    assert slot.value == pytest.approx((0.5 + 1) / (2 + 4), abs=1e-5)
    assert slot.text == "25 % off"
    assert slot.events == 3


def test_only_narrows_what_counts_above() -> None:
    rows = [event(item_id=name, value=v) for name, v in (("a", 3.0), ("b", 1.0), ("c", 4.0))]
    config = {"of": ["value"], "over": ["value"], "only": {"item.brand": ["Aa", "Bb"]}}
    assert slots("rate", BRANDS + rows, **config)["f"].value == pytest.approx(0.5)


def test_price_level_compares_within_kinds_of_things() -> None:
    kinds = [item("milk", type="milk"), item("tea", type="tea"), item("rare", type="rare")]
    rows = [
        event(item_id="milk", value=2.0),
        event(item_id="tea", value=18.0, quantity=2.0),  # 9 each
        event(item_id="rare", value=1000.0),  # bought by nobody else: tells nothing
        event(item_id="milk", value=1.0, user_id=b"v" * 16),
        event(item_id="tea", value=9.0, user_id=b"v" * 16),
        event(item_id="tea", value=0.0, user_id=b"v" * 16),  # no price
    ]
    state = state_of("price_level", kinds + rows, key="item.type")
    # milk: ln 2 against a mean of ln 2 / 2; tea: no difference; each counts once
    level = np.exp((np.log(2) / 2 + 0) / 2)
    assert slots_of(state)["f"].value == pytest.approx(level, abs=1e-4)
    assert slots_of(state)["f"].text.startswith("pays 19 % more than others")
    assert slots_of(state, b"v" * 16)["f"].value == pytest.approx(1 / level, abs=1e-4)


def test_declared_attributes_last_one_wins_by_time_then_position() -> None:
    def said(time: int, **attributes: Any) -> Row:
        given = {f"properties.{name}": value for name, value in attributes.items()}
        return {"user_id": USER, "event_type": "$user", "timestamp": time} | given

    rows = [
        said(NOW - DAY, age="45-54", home_owner="Renter"),
        said(NOW - 2 * DAY, age="35-44", size="2"),  # comes later, was said earlier
        said(NOW - DAY, home_owner="Owner"),  # the same time: the later row holds
    ]
    found = slots("declared", rows)
    assert {name: slot.value for name, slot in found.items()} == {
        "age": "45-54",
        "home_owner": "Owner",
        "size": "2",
    }
    assert list(found) == sorted(found)


def test_a_history_shows_the_newest_items_once_each_newest_first() -> None:
    rows = [event(NOW + n, item_id=name) for n, name in enumerate(["a", "b", "c", "b"])]
    named = [item("b", title="Black tea")]
    state = state_of("history", named + rows, weights={"purchase": 1.0})
    slot = slots_of(state, now=NOW + 9)["f"]
    assert slot.value == ["b", "c", "a"]
    assert slot.text == "Black tea, c and a"
    assert state.pools["f"].count(0) == 4


def test_facts_about_users_and_items_are_no_behaviour() -> None:
    rows = [
        *BRANDS,
        {"user_id": USER, "event_type": "$user", "timestamp": NOW, "properties.age": "45"},
    ]
    for kind, config in (
        ("count", {"key": "event_type"}),
        ("recency", {}),
        ("sum", {}),
        ("histogram", {"key": "hour"}),
    ):
        assert slots(kind, rows, **config) == {}


@pytest.mark.parametrize(
    ("where", "events"),
    [
        ({}, 4),
        ({"event_type": "purchase"}, 3),
        ({"event_type": ["purchase", "view"]}, 4),
        ({"event_type": "unheard of"}, 0),
        ({"value": ">2"}, 2),
        ({"value": "<=2"}, 1),
        ({"value": ">2", "event_type": "view"}, 1),
        ({"item.brand": "Aa"}, 2),
        ({"item.brand": ["Aa", "Bb"], "value": "!=2"}, 2),
        ({"properties.channel": "web"}, 1),
        ({"item.weight": ">1"}, 1),
    ],
)
def test_where_selects_events(where: dict[str, Any], events: int) -> None:
    rows = [
        item("a", brand="Aa", weight=2.0),
        item("b", brand="Bb", weight=1.0),
        event(value=2.0, item_id="a"),
        event(value=3.0, item_id="b", properties_channel="web"),
        event(value=None, item_id="b"),
        event(value=9.0, item_id="a", event_type="view"),
    ]
    if "item.weight" in where:
        rows = rows[:4]
    found = slots("recency", rows, where=where)
    assert sum(slot.events for slot in found.values()) == events


def test_confidence_grows_with_evidence_and_fades_with_age() -> None:
    assert confidence(5, NOW, None, NOW) == 0.5
    assert confidence(10, NOW - DAY, float(DAY), NOW) == 0.5
    assert confidence(0, None, None, NOW) == 0


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"kind": "cuont"}, "kind 'cuont' does not exist"),
        ({"kind": "count", "key": "colour"}, "'colour' is no column"),
        ({"kind": "sum", "half_life": "soon"}, "'soon' is no duration"),
        ({"kind": "sum", "section": "mood"}, "section 'mood' does not exist"),
        ({"kind": "sum", "where": {"price": ">1"}}, "'price' is no column"),
    ],
)
def test_a_config_that_cannot_be_says_what_would_do(config: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        build([FacetConfig(**{"name": "f", "section": "value"} | config)])
    assert caught.value.mend


def test_two_facets_of_one_name_are_refused() -> None:
    config = FacetConfig("f", "sum", "value")
    with pytest.raises(ConfigError, match="defined twice"):
        build([config, config])
