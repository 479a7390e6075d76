"""Facets through the application: the past of a slot, ties, topics, and kinds from elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limner.app import Limner
from limner.config import parse
from limner.errors import ConfigError, NotFound, UsageError
from limner.events.batch import DAY, SECOND
from limner.profile.facets.text import Topics

NOW = 1_700_000_000 * SECOND


def opened(**settings: Any) -> Limner:
    given = {"store": "memory:", "clock": "events", **settings}
    return Limner.open(config=parse(given))


def event(user: str, day: float, **more: Any) -> dict[str, Any]:
    at = NOW + int(day * DAY)
    return {"user_id": user, "event_type": "purchase", "timestamp": at, "item_id": "tea"} | more


# -- the history of a slot -------------------------------------------------------------------


def test_the_history_of_a_slot_is_what_the_portrait_said_at_each_moment() -> None:
    with opened() as app:
        app.record([event("u", day, value=10.0) for day in range(5)])
        app.record([event("u", 2.5, event_type="view"), event("v", 1, value=7.0)])
        found = app.portrait_history("u", "value.spend")
        assert [change.value for change in found] == [50, 40, 30, 20, 10]
        assert [change.at for change in found] == [NOW + day * DAY for day in (4, 3, 2, 1, 0)]
        for change in found:
            then = app.portrait("u", at=change.at).slot("value.spend")
            assert then is not None
            assert (then.value, then.events) == (change.value, change.events)
            assert then.confidence == pytest.approx(change.confidence)


def test_a_long_history_goes_by_days_and_is_bounded() -> None:
    with opened() as app:
        app.record([event("u", n / 10, value=1.0) for n in range(100)])
        found = app.portrait_history("u", "value.spend", limit=4)
        assert len(found) == 4
        assert found[0].value == 100
        days = [change.at // DAY for change in found]
        assert days == sorted(set(days), reverse=True)


def test_the_history_of_a_drift_and_of_a_price_level() -> None:
    with opened() as app:
        for item, category in (("tea", "hot"), ("cola", "cold")):
            app.put_item(item, {"category": category, "type": category}, at=0)
        app.record([event("u", day, value=4.0) for day in range(40)])
        app.record([event("u", 40 + day, value=4.0, item_id="cola") for day in range(5)])
        app.record([event("v", day, value=2.0) for day in range(10)])
        app.refresh_population()
        drift = app.portrait_history("u", "interests.category_drift", limit=60)
        assert drift[0].value > drift[5].value == pytest.approx(0, abs=1e-9)
        taste = app.portrait_history("u", "interests.taste_drift", limit=60)
        assert taste[0].value > taste[5].value == pytest.approx(0, abs=1e-9)
        assert app.portrait_history("u", "value.price_level")[0].value > 1


def test_there_is_no_history_of_what_is_not_there() -> None:
    with opened() as app:
        app.record([event("u", 0)])
        with pytest.raises(NotFound, match="no slot"):
            app.portrait_history("u", "value.nothing")
        with pytest.raises(NotFound, match="not known"):
            app.portrait_history("nobody", "value.spend")


# -- user and item ---------------------------------------------------------------------------


def test_an_interaction_is_read_from_all_events() -> None:
    with opened() as app:
        rows = [event("u", 9 * n, group_id=f"g{n}", value=2.0) for n in range(4)]
        rows += [event("u", 9 * n, group_id=f"g{n}", item_id="honey", value=2.0) for n in (0, 1, 2)]
        rows += [event("u", 36, item_id="jam", group_id="g9")]
        app.record(rows)
        found = app.interaction("u", "tea")
        assert (found.events, found.sessions, found.interval) == (4, 4, 9 * DAY)
        assert [(o.item_id, o.times) for o in found.together] == [("honey", 3)]
        ages = np.array([36, 27, 18, 9])
        assert found.strength == pytest.approx(float(np.exp2(-ages / 180).sum()))
        assert app.why("u", "tea").interaction.events == 4
        with pytest.raises(NotFound, match="item 'x'"):
            app.interaction("u", "x")


# -- ties ------------------------------------------------------------------------------------

SOCIAL = [
    {"name": "ties", "kind": "ties", "section": "behaviour", "label": "people"},
    {
        "name": "follows",
        "kind": "preference",
        "section": "behaviour",
        "key": "target_user_id",
        "where": {"event_type": ["follow", "unfollow"]},
    },
]


def test_ties_are_shown_by_the_products_own_ids_and_end_with_erasure() -> None:
    with opened(facet=SOCIAL) as app:
        app.record(
            [
                event("u", 0, event_type="follow", item_id=None, target_user_id="friend"),
                event("u", 1, event_type="share", target_user_id="other"),
                event("friend", 1),
            ]
        )
        seen = app.portrait("u").behaviour
        assert set(seen["ties"].value) == {"friend", "other"}
        assert seen["follows"].value == {"friend": 1.0}
        assert seen["follows"].text == "likes friend"
        (change,) = app.portrait_history("u", "behaviour.follows")
        assert change.value == {"friend": 1.0}
        friend = app.keys.pseudonym("friend")
        app.erase("friend")
        after = app.portrait("u").behaviour
        assert set(after["ties"].value) == {"other"}
        assert "follows" not in after
        assert not app.state.holds(friend)
        assert friend.hex() not in app.state.words["target_user_id"].values
        live = {slot.name: slot for slot in after.values()}
        app.writer.rebuild()
        assert {slot.name: slot for slot in app.portrait("u").behaviour.values()} == live


# -- topics ----------------------------------------------------------------------------------

WORDY = [
    {"name": "words", "kind": "keywords", "section": "interests"},
    {"name": "topics", "kind": "topics", "section": "interests", "label": "topics"},
]
THEMES = ("tea kettle leaf infusion", "guitar string chord amplifier")


def wordy(users: int = 20) -> list[dict[str, Any]]:
    return [
        event(f"u{n}", n / 10, event_type="view", properties={"text": THEMES[n % 2]})
        for n in range(users)
    ]


def test_topics_are_learned_shown_and_kept(tmp_path: Path) -> None:
    config = parse({"store": f"sqlite:///{tmp_path}/s.db", "clock": "events", "facet": WORDY})
    with Limner.open(config=config) as app:
        app.record(wordy())
        assert app.topics() == {}
        (model,) = app.learn_topics(2).values()
        (entry,) = app.portrait("u0").interests["topics"].value
        assert set(entry.key.split(", ")) == set(THEMES[0].split())
    with Limner.open(config=config, write=False) as app:
        assert app.topics()["topics"].version == model.version
        assert app.portrait("u0").interests["topics"].value == [entry]
        facet = next(facet for facet in app.state.facets if isinstance(facet, Topics))
        assert facet.name == "topics"


def test_what_is_kept_no_longer_leaves_topics_and_ties_too() -> None:
    with opened(facet=[*WORDY, *SOCIAL], retention={"view": "10d", "follow": "10d"}) as app:
        rare = [
            event(f"w{n}", 0, event_type="view", properties={"text": "zither"}) for n in (1, 2, 3)
        ]
        tied = event("u0", 0, event_type="follow", item_id=None, target_user_id="w1")
        later = [event(f"u{n}", 30 + n / 10, event_type="view",
                       properties={"text": THEMES[n % 2]}) for n in range(20)]  # fmt: skip
        app.record([*rare, tied, *wordy(), *later[:1]])
        (model,) = app.learn_topics(2).values()
        assert "zither" in model.words
        app.record(later)
        assert app.expire().rows >= 4
        (model,) = app.topics().values()
        assert "zither" not in model.words
        assert not app.state.owed_users
        assert "ties" not in app.portrait("u0").behaviour


def test_a_word_that_too_few_users_are_left_with_leaves_the_topics() -> None:
    with opened(facet=WORDY) as app:
        app.record(wordy())
        for n in (0, 1, 2):
            rare = {"text": "zanzibar"}
            app.record([event(f"u{n}", 3, event_type="view", properties=rare)])
        assert "zanzibar" in app.learn_topics(2)["topics"].words
        app.erase("u0")
        assert "zanzibar" not in app.topics()["topics"].words
        assert app.portrait("u2").interests["topics"].value


def test_topics_need_a_facet_that_shows_them() -> None:
    with opened() as app, pytest.raises(UsageError, match="no facet shows topics"):
        app.learn_topics()


# -- kinds of other packages -----------------------------------------------------------------

PACKAGE = '''
from dataclasses import dataclass

import numpy as np

from limner.profile.events import Events
from limner.profile.facet import FacetConfig, Lifted, Slot, View
from limner.profile.merge import Column


@dataclass(frozen=True, slots=True)
class Best:
    """The greatest value ever, at least a level."""

    config: FacetConfig

    @property
    def name(self):
        return self.config.name

    @property
    def columns(self):
        return (Column("best", "max"),)

    @property
    def map(self):
        return None

    def lift(self, events):
        value = events.number("value")
        least = float(self.config.options.get("level", 0))
        touched = (events.where(self.config.where) & (value >= least)).nonzero()[0]
        return Lifted(touched, {"best": value[touched]})

    def read(self, view, now):
        state = view.fixed(self.name)
        n, newest, best = int(state["n"][0]), int(state["t"][0]), float(state["best"][0])
        return [self.config.slot(best, f"{best:g} at the most", n, newest, now)] if n else []


number = 3
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution `bestfacet` as pip would leave it, with its entry points."""
    (tmp_path / "bestfacet.py").write_text(PACKAGE)
    info = tmp_path / "bestfacet-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bestfacet\nVersion: 1.0\n")
    points = "[limner.facets]\nbest = bestfacet:Best\nodd = bestfacet:number\ngone = nowhere:X\n"
    (info / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "bestfacet", raising=False)


BEST = {"name": "top", "kind": "best", "section": "value", "options": {"level": 2}}


@pytest.mark.usefixtures("package")
def test_a_kind_of_another_package_is_used_like_any_other() -> None:
    with opened(facet=[BEST]) as app:
        app.record([event("u", 0, value=1.0), event("u", 1, value=7.0), event("u", 2, value=3.0)])
        slot = app.portrait("u").value["top"]
        assert (slot.value, slot.text, slot.events) == (7.0, "7 at the most", 2)
        assert [found.value for found in app.evidence("u", "value.top")] == [3.0, 7.0]


SUITE = """
from bestfacet import Best
from limner.profile.facet import FacetConfig
from limner.testing.laws import FacetLaws

class TestBest(FacetLaws):
    facet = Best(FacetConfig("best", "best", "value"))
"""


@pytest.mark.usefixtures("package")
def test_a_kind_of_another_package_is_tested_in_two_lines(tmp_path: Path) -> None:
    (tmp_path / "test_best.py").write_text(SUITE)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env={"PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout
    assert "5 passed" in ran.stdout


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("kind", "says"),
    [("odd", "makes no facet"), ("gone", "cannot be loaded"), ("bestt", "did you mean 'best'")],
)
def test_a_kind_that_cannot_be_had_says_why(kind: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse({"facet": [{**BEST, "kind": kind}]})
