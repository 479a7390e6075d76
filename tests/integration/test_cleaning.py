"""Preprocessing end to end: what is doubted stays, and a facet may leave it out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limner.app import Limner
from limner.config import parse
from limner.errors import ConfigError

START = 1_700_000_003


def opened(**more: Any) -> Limner:
    return Limner.open(config=parse({"store": "memory:", "clock": "events", **more}))


def facet(name: str, flags: Any) -> dict[str, Any]:
    where = {"event_type": ["view", "purchase"]} | ({"flags": flags} if flags else {})
    return {"name": name, "kind": "count", "section": "behaviour", "key": "event_type",
            "where": where}  # fmt: skip


def robot(n: int) -> list[dict[str, Any]]:
    """A user who looks at n different items, ten a second."""
    return [
        {"user_id": "robot", "item_id": f"i{k}", "event_type": "view", "timestamp": START + k / 10}
        for k in range(n)
    ]


def test_a_facet_may_leave_flagged_events_out() -> None:
    facets = [
        facet("all", None),
        facet("sure", "none"),
        facet("by_hand", ["!robot_speed"]),
        facet("fast", "robot_speed"),
    ]
    person = {"user_id": "robot", "item_id": "x", "event_type": "view", "timestamp": START + 900}
    with opened(facet=facets) as app:
        assert app.record([*robot(30), person]).found["robot_speed"] == 30
        slots = app.portrait("robot").behaviour
        counts = {name: sum(slots[name].value.values()) for name in ("all", "sure", "by_hand",
                                                                     "fast")}  # fmt: skip
        assert counts == {"all": 31, "sure": 1, "by_hand": 1, "fast": 30}
        app.writer.rebuild()
        assert sum(app.portrait("robot").behaviour["sure"].value.values()) == 1


@pytest.mark.parametrize("where", ["where", "only", "among"])
@pytest.mark.parametrize("flags", ["robot", ["robot_speed", "!outlier_value"], "bad_time"])
def test_a_condition_on_flags_that_means_nothing_is_refused(flags: Any, where: str) -> None:
    wrong = {**facet("x", None), where: {"event_type": "view", "flags": flags}}
    with pytest.raises(ConfigError):
        parse({"facet": [wrong]})


def test_a_missing_value_is_inferred_from_the_catalog(tmp_path: Path) -> None:
    with opened(clean={"missing": {"purchase.value": "infer"}}) as app:
        app.put_item("tea", {"price": 4.5})
        bought = {"user_id": "u", "item_id": "tea", "event_type": "purchase", "quantity": 2}
        assert app.record([{**bought, "timestamp": START}]).found == {"missing_inferred": 1}
        _, batch = app.store.log.events_of(app.keys.pseudonym("u"))
        assert batch.numbers("value").tolist() == [9.0]


def test_the_report_says_what_each_rule_touched_and_shows_the_newest() -> None:
    with opened() as app:
        bad = {"user_id": "u", "item_id": "x", "event_type": "view", "timestamp": "soon"}
        app.record([*robot(25), bad, {**bad, "item_id": "y"}, {"nothing": 1}])
        said = {rule.rule: rule for rule in app.cleaning().rules}
        assert (said["bad_time"].touched, said["bad_time"].held) == (2, 2)
        assert said["bad_time"].example == {
            "user_id": "u", "item_id": "y", "event_type": "view", "timestamp": "soon",
            "source": "api",
        }  # fmt: skip
        speed = said["robot_speed"]
        assert (speed.touched, speed.effect, speed.version) == (25, "doubts", 1)
        assert speed.example is not None and speed.example["user_id"] == "robot"
        assert speed.last == speed.example["received_at"]
        app.quarantine.drop(rule="bad_time")
        said = {rule.rule: rule for rule in app.cleaning().rules}
        assert (said["bad_time"].touched, said["bad_time"].held) == (2, 0)
        assert said["bad_time"].last
        app.writer.rebuild()
        assert {rule.rule: rule for rule in app.cleaning().rules} == said
        app.erase("robot")
        assert {r.rule: r.example for r in app.cleaning().rules}["robot_speed"] is None


def test_the_usual_amounts_are_those_of_all_kinds_of_items() -> None:
    with opened() as app:
        for item, kind in (("a", "tea"), ("b", "fuel")):
            app.put_item(item, {"type": kind})
        values = [2.0, 4.0, 90.0, 110.0]
        app.record(
            [
                {"user_id": "u", "item_id": "ab"[n // 2], "event_type": "purchase", "value": v,
                 "timestamp": START + n * 100}
                for n, v in enumerate(values)
            ]
        )  # fmt: skip
        [usual] = app.cleaning().usual
        assert (usual.event_type, usual.measure, usual.n) == ("purchase", "value", 4)
        assert usual.mean == pytest.approx(np.mean(values))
        assert usual.deviation == pytest.approx(np.std(values))
