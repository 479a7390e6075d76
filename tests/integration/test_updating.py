"""Learning all the time, through the app: promoted by the gate, kept by it, rolled back."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from limner.app import Limner
from limner.config import Config, TrainConfig, parse
from limner.errors import ModelError, NotFound, UsageError
from limner.events.batch import DAY
from limner.model import registry

START = 1_704_067_200_000_000  # 2024-01-01
USERS = 60


def days(first: int, last: int, kind: str, *, habit: bool = True) -> list[dict[str, Any]]:
    """A purchase a user every other day: their own items of a kind by habit, or any."""
    chance = random.Random(first)
    rows = []
    for day in range(first, last):
        for user in range(day % 2, USERS, 2):
            own = (user % 6) * 3 + chance.randrange(3)
            item = own if habit else chance.randrange(18)
            rows.append(
                {
                    "user_id": f"u{user}",
                    "item_id": f"{kind}{item}",
                    "event_type": "purchase",
                    "timestamp": START + day * DAY + user * 1_000_000,
                }
            )
    return rows


def settings(folder: Path, **gate: Any) -> Config:
    given = {"least": 20, "tie": 40, **gate}
    return parse(
        {
            "store": f"sqlite:///{folder / 'shop.db'}",
            "clock": "events",
            "train": {"sequence": False, "keep": 2, "gate": given},
        }
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    with Limner.open(config=settings(folder)) as opened:
        opened.record(days(0, 40, "a"))
        opened.train()
    return folder


@pytest.fixture
def app(trained: Path, tmp_path: Path) -> Iterator[Limner]:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    with Limner.open(config=settings(tmp_path)) as opened:
        yield opened


def test_what_is_new_is_learned_and_put_to_use_and_taken_back_when_it_fails(app: Limner) -> None:
    assert app.update().outcome == "nothing"
    app.record(days(40, 42, "b")[:10])
    few = app.update()
    assert (few.outcome, few.events) == ("nothing", 10)
    assert "of the 20 users it takes" in few.reason
    assert [act.what for act in app.models().journal] == ["published"]

    app.record(days(42, 54, "b"))  # all turn to other items
    done = app.update()
    assert (done.outcome, done.current, done.rolled_back) == ("promoted", "000002", None)
    assert done.verdict is not None
    assert done.verdict.outcome == "win"
    listed = app.recommend("u0", n=5)
    assert listed.model == "000002"
    assert any(item.item_id.startswith("b") for item in listed.items)
    found = app.models()
    assert [v.version for v in found.versions] == ["000001", "000002"]
    new = found.versions[1]
    assert (new.made, new.parents, new.in_use) == ("updated", ["000001"], True)
    assert new.cutoff == app.state.newest_event  # the judged half was learned too
    assert new.position == app.state.position
    assert new.verdict == done.verdict == found.journal[-1].verdict
    assert new.items == found.versions[0].items + 18
    diff = app.model_diff("000001", "000002")
    assert diff.changed["made"] == ("trained", "updated")
    assert (diff.items_only_a, diff.items_only_b) == (0, 18)

    app.record(days(54, 66, "a"))  # a fashion: all come back to what they bought before
    back = app.update()
    assert back.rolled_back == "000002"
    assert back.rollback is not None
    assert back.rollback.outcome == "win"
    assert "went back from 000002" in back.said
    acts = app.models().journal
    assert ("rolled back", "000001", "000002") in [(a.what, a.version, a.before) for a in acts]
    assert app.recommend("u0").model == app.models().current == back.current


def test_a_candidate_that_is_no_better_is_not_put_to_use_and_noted(app: Limner) -> None:
    app.record(days(40, 46, "a", habit=False))  # noise, and then as ever
    app.record(days(46, 52, "a"))
    done = app.update()
    assert done.outcome == "kept"
    assert done.verdict is not None
    assert not done.verdict.promoted
    found = app.models()
    assert [v.version for v in found.versions] == ["000001"]
    assert found.current == "000001"
    assert (found.journal[-1].what, found.journal[-1].verdict) == ("kept", done.verdict)


def test_an_update_is_judged_on_nothing_that_the_candidate_has_learned(
    app: Limner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Law 4: whatever the candidate learns before the verdict lies before what it is asked."""
    from limner.app import updating
    from limner.model.blend import Blend

    app.record(days(40, 52, "b"))
    learned: list[int] = []
    asked: list[int] = []
    update, answered = Blend.update, updating._answered

    def watched(self: Blend, data: Any, features: Any, *, progress: Any) -> None:
        learned.append(int(data.times.max()))
        update(self, data, features, progress=progress)

    def watch(app: Any, blend: Any, about: Any, *rest: Any) -> Any:
        asked.append(min(history.now for history in about.histories))
        for history in about.histories:
            assert (history.times < history.now).all()
        return answered(app, blend, about, *rest)

    monkeypatch.setattr(Blend, "update", watched)
    monkeypatch.setattr(updating, "_answered", watch)
    assert app.update().outcome == "promoted"
    assert learned[0] < min(asked)
    assert learned[1] == app.state.newest_event


def test_versions_are_promoted_and_rolled_back_by_hand(app: Limner) -> None:
    app.train()
    assert app.recommend("u1").model == "000002"
    assert app.roll_back().version == "000001"
    assert app.recommend("u1").model == "000001"
    with pytest.raises(UsageError, match="no version to go back to"):
        app.roll_back()
    assert app.promote("000002").before == "000001"
    assert app.recommend("u1").model == "000002"
    with pytest.raises(NotFound):
        app.promote("7")
    app.train()
    assert [v.version for v in app.models().versions] == ["000002", "000003"]


def test_a_broken_version_leaves_the_one_in_use(app: Limner) -> None:
    assert app.recommend("u1").model == "000001"
    home = app.store.home
    assert home is not None
    for name in ("000002", "000003"):
        shutil.copytree(home / "models" / "000001", home / "models" / name)
    (home / "models" / "000002" / "blend.json").write_text("{}")
    with pytest.raises(ModelError):
        app.promote("000002")
    registry.set_current(home, "000002")  # as somebody else might
    assert app.recommend("u1").model == "000001"
    app.promote("000003")
    assert app.recommend("u1").model == "000003"


def test_one_at_a_time(app: Limner) -> None:
    with app.learning, pytest.raises(UsageError, match="under way"):
        app.update()
    with app.learning, pytest.raises(UsageError, match="under way"):
        app.train()


def test_without_a_model_or_a_disk_there_is_nothing_to_update(tmp_path: Path) -> None:
    with Limner.open(config=settings(tmp_path)) as app:
        app.record(days(0, 4, "a"))
        with pytest.raises(ModelError, match="no model to update"):
            app.update()
        assert app.models().versions == []
    with Limner.open(config=parse({"store": "memory:"})) as app:
        app.record(days(0, 4, "a"))
        with pytest.raises(UsageError, match="in memory"):
            app.update()


def test_the_job_says_what_came_of_it(tmp_path: Path) -> None:
    config = parse(
        {
            "store": f"sqlite:///{tmp_path / 'shop.db'}",
            "clock": "events",
            "train": {"sequence": False, "update": "every 1h"},
        }
    )
    with Limner.open(config=config) as app:
        app.record(days(0, 10, "a"))
        assert app.jobs().run("updating").outcome == "failed"  # nothing is trained
        app.train()
        assert app.jobs().run("updating").said == "000001 stays: nothing is new"


def test_training_starts_from_another_field(trained: Path, tmp_path: Path) -> None:
    """A tiny model of another shop: of its shape, with its parents and source on record."""
    pytest.importorskip("torch")
    from tests.unit.model.small import shop, silent

    from limner.model.blend import Blend
    from limner.model.network import SequenceConfig
    from limner.model.sequence import SequenceModel

    elsewhere = SequenceModel(SequenceConfig(depth=1, passes=1, length=20))
    elsewhere.fit(*shop(users=20), progress=silent)
    weights = {task: {"sequence": 1.0} for task in ("next", "new")}
    registry.publish(tmp_path / "other", Blend({"sequence": elsewhere}, weights), {})
    shutil.copytree(trained, tmp_path / "shop")
    config = replace(settings(tmp_path / "shop"), train=TrainConfig())
    with Limner.open(config=config) as app:
        assert app.train(start=str(tmp_path / "other")).version == "000002"
        found = app.models().versions[-1]
        assert found.parents == ["000001"]
        assert found.config["from"] == str(tmp_path / "other")
        assert found.config["parts"]["sequence"]["length"] == 20
        assert app.recommend("u1").model == "000002"
        with pytest.raises(NotFound, match="no trained model"):
            app.train(start=str(tmp_path / "nowhere"))
        with pytest.raises(ModelError, match="no sequence model"):
            app.train(start="000001")
        app.record(days(40, 52, "b"))  # and the sequence model takes part in updates
        done = app.update()
        assert done.verdict is not None
        assert done.outcome == "promoted"
    plain = replace(config, train=TrainConfig(sequence=False))
    with Limner.open(config=plain) as app, pytest.raises(UsageError, match=r"train\.sequence"):
        app.train(start="000002")
