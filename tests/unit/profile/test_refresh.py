"""Refresh policies: what their texts mean, when they are due, and which events set them off."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from limner.catalog.catalog import Catalog
from limner.errors import ConfigError
from limner.events.batch import SECOND, EventBatch
from limner.profile.events import Events
from limner.profile.refresh import Refresh
from limner.profile.trigger import fired


def micros(text: str, zone: str = "UTC") -> int:
    moment = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))
    return int(moment.astimezone(UTC).timestamp()) * SECOND


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("on_read", "on_read"),
        (" on_event ", "on_event"),
        ("every 30s", "every"),
        ('cron "0 3 * * 1"', "cron"),
        ("when purchase", "when"),
        ("when purchase where value > 50 or not item.category in ['tea', 'milk']", "when"),
    ],
)
def test_every_form_is_understood_and_reads_back_as_itself(text: str, mode: str) -> None:
    found = Refresh.parse(text)
    assert found.mode == mode
    assert Refresh.parse(found.text) == found
    assert found.kept == (mode in ("every", "cron", "when"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("on_raed", "did you mean 'on_read'"),
        ("every fortnight", "write a number and s, m, h, d or w"),
        ("every 0s", "from a second to a year"),
        ("every 9y", "from a second to a year"),
        ("cron 0 25 * * *", "bad hour"),
        ("cron 0 3 * *", "4 fields"),
        ("cron 0 0 30 2 *", "cannot be read"),
        ("when", "is no refresh policy"),
        ("when purchase where", "is no refresh policy"),
        ("when purchase where valeu > 3", "'valeu' is no column of an event"),
        ("when purchase where value >", "a value is needed"),
        ("on_read please", "is no refresh policy"),
        ("", "is no refresh policy"),
    ],
)
def test_a_text_that_is_no_policy_is_an_error_that_helps(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        Refresh.parse(text, "facet 'spend'")
    assert said in str(error.value)
    assert "facet 'spend'" in str(error.value)
    assert error.value.mend


def test_what_belongs_to_all_follows_no_users_events() -> None:
    assert Refresh.timed("", "here") is None
    assert Refresh.timed("every 1m", "here") == Refresh.parse("every 1m")
    for text in ("on_event", "on_read", "when purchase"):
        with pytest.raises(ConfigError, match="names no times"):
            Refresh.timed(text, "here")


@pytest.mark.parametrize(
    ("cron", "after", "due"),
    [
        ("0 3 * * 1", "2026-11-22 12:00", "2026-11-23 03:00"),  # a Monday, as crontab numbers them
        ("0 3 * * 0", "2026-11-22 12:00", "2026-11-29 03:00"),
        ("0 3 * * 7", "2026-11-22 12:00", "2026-11-29 03:00"),
        ("*/15 * * * *", "2026-11-22 12:00", "2026-11-22 12:15"),
        ("0 0 13 * 5", "2026-11-22 12:00", "2026-11-27 00:00"),  # the 13th or a Friday
        ("30 2 * * *", "2026-03-28 12:00", "2026-03-29 03:00"),  # a time that the clock skips
    ],
)
def test_cron_times_are_those_of_cron_in_the_zone(cron: str, after: str, due: str) -> None:
    policy = Refresh.parse(f"cron {cron}")
    found = policy.next_after(micros(after, "Europe/Berlin"), "Europe/Berlin")
    assert found == micros(due, "Europe/Berlin")


def test_every_is_from_the_last_time_on_and_the_others_follow_no_clock() -> None:
    assert Refresh.parse("every 5m").next_after(7) == 7 + 300 * SECOND
    for text in ("on_read", "on_event", "when purchase"):
        assert Refresh.parse(text).next_after(7) is None


ROWS = [
    ("purchase", 10.0, "tea", "north"),
    ("purchase", 90.0, "soap", "south"),
    ("view", 90.0, "tea", "north"),
    ("purchase", None, "tea", None),
    ("purchase", 70.0, None, "12"),
]


def events() -> Events:
    catalog = Catalog()
    items = [
        {"event_type": "$item", "item_id": item, "timestamp": 0, "properties.kind": item,
         "properties.price": 4.5}
        for item in ("tea", "soap")
    ]  # fmt: skip
    catalog.put(EventBatch.of(items), np.arange(2))
    rows: list[dict[str, Any]] = [
        {"event_type": kind, "value": value, "item_id": item, "timestamp": 3_600 * SECOND,
         "properties.shop": shop}
        for kind, value, item, shop in ROWS
    ]  # fmt: skip
    batch = EventBatch.of(rows)
    codes = catalog.intern(*batch.codes("item_id"))
    n = np.arange(len(batch))
    return Events(batch, n, n, codes, catalog, {}, "UTC")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("when purchase", [0, 1, 3, 4]),
        ("when refund", []),
        ("when purchase where value > 50", [1, 4]),
        ("when purchase where value > 50 and properties.shop == 'south'", [1]),
        ("when purchase where item.kind == 'tea'", [0, 3]),
        ("when purchase where item.price < 5", [0, 1, 3]),
        ("when purchase where not item.kind in ['tea']", [1]),
        ("when purchase where properties.shop == 12", [4]),
        ("when purchase where properties.unheard == 'x'", []),
        ("when purchase where hour == 1 and weekday == 3", [0, 1, 3, 4]),
        ("when purchase where value > 'much'", []),  # cannot be asked: met by none
    ],
)
def test_the_events_that_set_a_policy_off(text: str, expected: list[int]) -> None:
    assert np.flatnonzero(fired(Refresh.parse(text), events())).tolist() == expected
