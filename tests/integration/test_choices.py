"""What users choose of their portraits and lists: logged, reversible, replayable, erased."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from limner.app import Limner
from limner.app.listing import EVERYBODYS, IMPERSONAL
from limner.cli import run
from limner.config import parse
from limner.errors import NotFound, UsageError
from limner.profile.choices import Choices
from limner.profile.facets.affinity import Affinity
from limner.profile.facets.taste import InterestVector
from limner.recommend.families import groups_of
from limner.recommend.scorer import history_of
from limner.testing.shop import shop

SHOP = shop(users=30, items=30, trips=10, seed=3)
SLOT = "interests.category"


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Limner]:
    settings = {"store": f"sqlite:///{tmp_path / 'shop.db'}", "clock": "events"}
    with Limner.open(config=parse(settings)) as opened:
        opened.import_file(SHOP.items, kind="items")
        opened.import_file(SHOP.users, kind="users")
        opened.import_file(SHOP.events)
        opened.refresh_population()
        yield opened


def test_a_slot_that_is_off_is_nowhere_until_it_is_on_again(app: Limner) -> None:
    before = app.portrait("u1")
    assert before.slot(SLOT) is not None
    assert app.choices("u1") == Choices()
    assert app.choose("u1", off=[SLOT]).off == (SLOT,)
    assert app.portrait("u1").slot(SLOT) is None
    assert app.portrait("u1", at=app.now()).slot(SLOT) is None
    written = app.portrait("u1", written="en").written
    assert written is not None
    assert not any(SLOT in sentence.slots for sentence in written.sentences)
    with pytest.raises(NotFound, match="no slot"):
        app.evidence("u1", SLOT)
    assert app.portrait("u2").slot(SLOT) is not None
    assert not any(name.startswith("$") for name in app.portrait("u1").basic)
    assert app.replay().differences == []
    assert app.choose("u1", on=[SLOT]) == Choices()
    after = app.portrait("u1").slot(SLOT)
    assert after is not None
    assert after.value == before.slot(SLOT).value  # type: ignore[union-attr]


def test_a_slot_marked_wrong_is_left_out_until_something_new_supports_it(app: Limner) -> None:
    app.choose("u1", wrong=[SLOT])
    assert app.portrait("u1").slot(SLOT) is None
    app.record([{"user_id": "u1", "item_id": "i1", "event_type": "purchase",
                 "timestamp": app.now() + 1_000_000}])  # fmt: skip
    assert app.portrait("u1").slot(SLOT) is not None
    app.choose("u1", wrong=[SLOT])
    assert app.portrait("u1").slot(SLOT) is None
    app.choose("u1", right=[SLOT])
    assert app.portrait("u1").slot(SLOT) is not None


def test_lists_do_not_rest_on_slots_that_are_off(app: Limner) -> None:
    facets = [f for f in app.state.facets if isinstance(f, Affinity | InterestVector)]
    alone = app.recommend("u1", 30, by="portrait")
    assert any(item.score for item in alone.items)
    one = [f"{f.config.section}.{f.name}" for f in facets if isinstance(f, Affinity)][:1]
    app.choose("u1", off=one)
    every = app.choose("u1", off=[f"{f.config.section}.{f.name}" for f in facets])
    assert set(one) < set(every.off)
    assert not any(i.parts["portrait"] for i in app.recommend("u1", 30, by="portrait").items)
    app.choose("u1", on=every.off)
    again = app.recommend("u1", 30, by="portrait")
    assert [i.score for i in again.items] == pytest.approx([i.score for i in alone.items])

    def groups() -> set[str]:
        history = history_of(app.state, app.known_row("u1"), app.now())
        return set(groups_of(app.state, history, app.population))

    app.put_user("u1", {"city": "Ghent"})
    app.put_user("u2", {"city": "Ghent"})
    assert "declared city" in groups()
    app.choose("u1", off=["basic.city"])
    app.choose("u2", off=["basic.city"])
    assert "declared city" not in groups()
    assert not any("$" in name for name in groups())
    app.choose("u1", on=["basic.city"], wrong=["basic.city"])
    assert "declared city" not in groups()
    app.record([{"user_id": "u9", "item_id": "i1", "event_type": "view",
                 "timestamp": app.now() + 1_000_000}])  # fmt: skip
    app.put_user("u1", {"city": "Ghent"})
    assert "declared city" in groups()
    assert app.recommend("u1", filter='user.city == "Ghent"').items
    app.choose("u1", off=["basic.city"])
    assert not app.recommend("u1", filter='user.city == "Ghent"').items


def test_a_list_that_is_not_personalised_is_the_same_for_everybody_and_says_so(
    app: Limner,
) -> None:
    personal = app.recommend("u1")
    app.choose("u1", personalised=False)
    app.choose("u2", personalised=False)
    ours, theirs = (app.recommend(user, explain=True) for user in ("u1", "u2"))
    assert [i.item_id for i in ours.items] == [i.item_id for i in theirs.items]
    assert set(ours.items[0].parts) == set(EVERYBODYS)
    assert IMPERSONAL in ours.note
    assert not any(reason.events for item in ours.items for reason in item.reasons)
    assert IMPERSONAL in app.why("u1", ours.items[0].item_id).text
    assert set(app.recommend("u1", by=["sequence", "new"]).items[0].parts) == {"new"}
    app.choose("u1", personalised=True)
    assert [i.item_id for i in app.recommend("u1").items] == [i.item_id for i in personal.items]


def test_choices_survive_a_restart_and_go_with_the_user(app: Limner) -> None:
    app.choose("u3", personalised=False, off=[SLOT], wrong=["basic.age"])
    held = app.choices("u3")
    config = app.config
    app.close()
    with Limner.open(config=config) as again:
        assert again.choices("u3") == held
        assert set(held.wrong) == {"basic.age"}
        again.erase("u3")
        with pytest.raises(NotFound):
            again.choices("u3")
        again.record([{"user_id": "u3", "item_id": "i1", "event_type": "view"}])
        assert again.choices("u3") == Choices()


def test_what_is_no_slot_or_cannot_be_kept_is_refused(app: Limner) -> None:
    with pytest.raises(UsageError, match="is no slot"):
        app.choose("u1", off=["category"])
    with pytest.raises(NotFound):
        app.choices("nobody")


def test_the_command_line_chooses_and_says_what_lists_depend_on(
    app: Limner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = app.config.store
    app.close()
    chosen = ["choose", "u1", "--not-personalised", "--off", SLOT, "--store", store, "--json"]
    assert run(chosen) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["personalised"], found["off"]) == (False, [SLOT])
    assert run(["choose", "u1", "--store", store]) == 0
    assert "not personalised" in capsys.readouterr().out
    assert run(["parameters", "--store", store, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    names = [one["name"] for one in told["parameters"]]
    assert names[:2] == ["popular", "portrait"]
    assert {"repeats", "caps", "fade"} <= set(names)
    assert all(one["means"] for one in told["parameters"])
    assert len(told["change"]) == 3
    assert np.all([len(way) for way in told["change"]])
