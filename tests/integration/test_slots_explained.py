"""What a slot says of itself is so: its confidence in numbers, and what would change it."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from tests.integration.test_facets import NOW, event, opened

from limner.app import Limner
from limner.errors import NotFound
from limner.events.batch import DAY

MORE: list[dict[str, Any]] = [
    {"name": "friends", "kind": "ties", "section": "behaviour", "weights": {"follow": 1.0}},
    {"name": "regions", "kind": "places", "section": "basic", "key": "properties.region"},
    {"name": "prices", "kind": "moments", "section": "value"},
    {"name": "spread", "kind": "quantiles", "section": "value"},
    {"name": "said", "kind": "preference", "section": "interests"},
    {"name": "words", "kind": "keywords", "section": "interests", "weights": {"review": 1.0}},
    {"name": "mood", "kind": "sentiment", "section": "behaviour"},
]


def shop() -> Limner:
    app = opened(facet=MORE)
    for n, item in enumerate(("tea", "cola", "soap")):
        app.put_item(item, {"category": item, "type": item, "brand": "b", "price": 2.0 + n}, at=0)
    for user, day in (("u", 0), *((f"v{n}", 3 + n % 5) for n in range(24))):
        app.put_user(user, {"plan": "gold"}, at=NOW)
        app.record(
            [
                event(user, day + n, value=float(1 + n), quantity=1.0, group_id=f"g{n // 2}",
                      item_id=("tea", "cola", "soap")[(n + day) % 3])
                for n in range(6)
            ]
            + [event(user, day + n + 0.5, event_type="view", item_id="soap") for n in range(4)]
            + [
                event(user, day + 5, event_type="follow", target_user_id="friend", item_id=None),
                event(user, day + 6, event_type="review", value=4.0,
                      properties={"text": "a lovely tea", "region": "north"}),
            ]
        )  # fmt: skip
    app.refresh_population()
    return app


def value(app: Limner, path: str) -> Any:
    found = app.portrait("u").slot(path)
    assert found is not None
    return found.value


def test_every_slot_of_a_portrait_explains_itself() -> None:
    with shop() as app:
        paths = [
            f"{section}.{name}"
            for section, slots in app.portrait("u").sections().items()
            for name in slots
        ]
        assert {"value.tier", "value.rfm", "interests.cluster", "value.monetary_quintile"} <= {
            *paths
        }
        assert {f"{each['section']}.{each['name']}" for each in MORE} <= {*paths}
        for path in paths:
            found = app.explain_slot("u", path)
            assert found.path == path
            assert found.slot == app.portrait("u").slot(path)
            assert found.formula
            assert len(found.changes) >= 2
            assert bool(found.error) == bool(found.slot.error), path
            assert found.evidence == app.evidence("u", path, limit=5)
            assert "as this kind of facet states it" not in found.confidence


def test_the_numbers_of_confidence_come_to_it() -> None:
    with shop() as app:
        for section, slots in app.portrait("u").sections().items():
            for name, slot in slots.items():
                said = app.explain_slot("u", f"{section}.{name}").confidence
                parts = re.fullmatch(
                    r"n ÷ \(n \+ 5\) with n = ([\d.]+) \D+ × 2\^\(−([\d.]+) days ÷ ([\d.]+) days\) "
                    r"= ([\d.]+): ([\d.]+)",
                    said,
                )
                if parts is None:  # a standing
                    assert said.startswith("that of the least sure")
                    assert said.endswith(f"{slot.confidence:.3f}")
                    continue
                n, age, half_life, effective, sure = map(float, parts.groups())
                assert effective == pytest.approx(n * 2 ** (-age / half_life), rel=1e-3)
                assert sure == pytest.approx(effective / (effective + 5), abs=6e-4)
                assert sure == pytest.approx(slot.confidence, abs=6e-4)


def test_what_it_says_would_change_it_does() -> None:
    with shop() as app:
        says = app.explain_slot("u", "value.spend")
        assert says.kind == "sum"
        assert says.changes == [
            "another event of type purchase adds its value",
            "time alone does not change it",
        ]
        monthly = app.explain_slot("u", "value.spend_monthly")
        half = float(monthly.settings["half_life"].removesuffix("d"))
        assert monthly.changes[1] == f"without new events it halves every {half:g} days"
        before, rate, shares = (
            value(app, path)
            for path in ("value.spend", "value.spend_monthly", "interests.category")
        )
        # another user's events move the clock on by one half-life, and nothing else
        now = app.now()
        app.record([{**event("v", 0), "timestamp": now + int(half * DAY)}])
        assert value(app, "value.spend") == before
        assert value(app, "value.spend_monthly") == pytest.approx(rate / 2)
        after = {entry.key: entry.share for entry in value(app, "interests.category")}
        assert after == pytest.approx({entry.key: entry.share for entry in shares})
        rate = value(app, "value.spend_monthly")
        app.record([{**event("u", 0, value=9.0), "timestamp": app.now()}])
        assert value(app, "value.spend") == before + 9
        added = 9 * math.log(2) / half * 30.44
        assert value(app, "value.spend_monthly") == pytest.approx(rate + added)


def test_what_is_not_there_cannot_be_explained() -> None:
    with shop() as app:
        with pytest.raises(NotFound, match="no slot"):
            app.explain_slot("u", "value.nothing")
        with pytest.raises(NotFound, match="not known"):
            app.explain_slot("nobody", "value.spend")
