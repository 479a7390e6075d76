"""Labels of portraits: learned from the slots of those whose label is known, shown for all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from limner.app import Limner
from limner.cli import run
from limner.config import parse
from limner.errors import ModelError, UsageError
from limner.events.batch import DAY, SECOND
from limner.model.label import LabelConfig
from limner.model.labels import InUse, asked

NOW = 1_700_000_000 * SECOND
LEARN = LabelConfig(epochs=6, batch=16, learning_rate=5e-3)
USERS = 240
FEATURES = [*(f'interests.category["{key}"]' for key in ("baby", "beer")), "value.spend"]


def opened(folder: Path, *facets: dict[str, Any]) -> Limner:
    settings = {
        "store": f"sqlite:///{folder / 'shop.db'}",
        "clock": "events",
        "facet": [*facets],
        "changes": {"shift": 0.0},
    }
    return Limner.open(config=parse(settings))


def event(user: str, category: str, day: float, value: float) -> dict[str, Any]:
    at = NOW + int(day * DAY)
    return {"user_id": user, "event_type": "purchase", "timestamp": at, "item_id": category,
            "value": value}  # fmt: skip


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parents buy baby food; of two thirds of the users it is declared whether they are some."""
    folder = tmp_path_factory.mktemp("judged")
    random = np.random.default_rng(0)
    with opened(folder) as app:
        for category in ("baby", "beer", "bread"):
            app.put_item(category, {"category": category}, at=0)
        rows = []
        for user in range(USERS):
            likely = [0.6, 0.1, 0.3] if user % 2 else [0.02, 0.5, 0.48]
            rows += [
                event(f"u{user}", str(category), 30 * random.random(), 1 + random.random())
                for category in random.choice(["baby", "beer", "bread"], 12, p=likely)
            ]
        app.record(rows)
        users = [
            {"user_id": f"u{user}", "parent": "yes" if user % 2 else "no"}
            for user in range(USERS)
            if user % 3
        ]
        app.record(pa.Table.from_pylist(users), kind="users")
        fitted = app.fit_label("parent", features=FEATURES, learn=LEARN)
        assert fitted.report.training + fitted.report.validation + fitted.report.test.rows == 160
        assert fitted.report.test.accuracy > 0.8
        assert fitted.source == "portraits"
    return folder


def test_the_label_is_a_slot_of_everybodys_portrait(shop: Path) -> None:
    with opened(shop) as app:
        right = 0
        for user in range(0, USERS, 3):  # of whom nobody had said it
            seen = app.portrait(f"u{user}")
            slot = seen.slot("basic.predicted_parent")
            assert slot is not None and slot.model == "000001"
            assert "basic.parent" not in (slot.moved or {}), "what is learned is no feature"
            assert slot.confidence >= 0.5
            assert slot.text.startswith(f"{slot.value}, ")
            assert slot.events == 12 and slot.changed_at is not None
            right += (slot.value == "yes") == bool(user % 2)
        assert right >= 0.85 * USERS / 3
        buyer = next(
            slot
            for user in range(USERS)
            if (slot := app.portrait(f"u{user}").slot("basic.predicted_parent")) is not None
            and slot.value == "yes" and slot.confidence > 0.9
        )  # fmt: skip
        assert buyer.moved
        assert 'interests.category["baby"]' in list(buyer.moved)[:2], buyer.moved
        assert "baby in" in buyer.text
        # the events behind it are those of the slot that moved it most
        assert app.evidence("u1", "basic.predicted_parent")


def test_what_moved_it_is_verified_by_deletion(shop: Path) -> None:
    with opened(shop) as app:
        assert app.store.home is not None
        judge = asked(app.store.home, "predicted_parent")()
        assert isinstance(judge, InUse)
        random = np.random.default_rng(1)
        for _ in range(20):
            values: dict[str, float | str | None] = {
                f.name: f.mean + f.spread * random.normal()
                for f in judge.model.features
                if f.categories is None
            }
            found = judge.judge(values)
            for feature in judge.model.features:
                if feature.categories is not None:
                    continue
                without = judge.model.row({**values, feature.name: feature.usual})
                place = judge.model.classes.index(found.value)
                left = judge.model.probabilities(without)[0, place]
                assert found.moved[feature.name] == pytest.approx(
                    found.probability - left, abs=1e-5
                )


def test_an_audience_can_be_asked_for_by_label(shop: Path) -> None:
    with opened(shop) as app:
        found = set(app.audience('basic.predicted_parent == "yes"'))
        portraits = {
            f"u{user}"
            for user in range(USERS)
            if (slot := app.portrait(f"u{user}").slot("basic.predicted_parent")) is not None
            and slot.value == "yes"
        }
        assert found == portraits
        sure = app.audience("basic.predicted_parent.confidence > 0.9")
        assert 0 < sure.count < USERS


def test_it_explains_itself(shop: Path) -> None:
    with opened(shop) as app:
        found = app.explain_slot("u1", "basic.predicted_parent")
        assert found.kind == "label"
        assert found.slot.model is not None
        assert found.slot.model in found.formula
        assert found.confidence.endswith(f"{found.slot.confidence:.3f}")


def test_the_past_does_not_know_it_and_a_stranger_has_none(shop: Path) -> None:
    with opened(shop) as app:
        assert app.portrait("u1", at=NOW + 10 * DAY).slot("basic.predicted_parent") is None
        assert app.portrait_history("u1", "basic.predicted_parent") == []


def test_a_new_label_folds_nothing_again(shop: Path) -> None:
    with opened(shop) as app:
        assert app.backfill is None
    with opened(shop, LABEL | {"name": "another"}) as app:
        assert app.backfill is None
        assert app.portrait("u1").slot("value.another") is None, "there is no model of this name"


LABEL = {"name": "predicted_parent", "kind": "label", "section": "value", "label": "a parent"}


def test_section_and_refresh_are_as_configured(shop: Path) -> None:
    with opened(shop, LABEL | {"refresh": "every 1h"}) as app:
        live = app.portrait("u4").slot("value.predicted_parent")
        assert live is not None and live.label == "a parent" and live.refreshed_at is None
        assert app.portrait("u4").slot("basic.predicted_parent") is None
        jobs = app.jobs()
        assert jobs.run("facet.predicted_parent").outcome == "done"
        kept = app.portrait("u4").slot("value.predicted_parent")
        assert kept is not None and kept.refreshed_at is not None
        assert (kept.value, kept.model, kept.moved) == (live.value, "000001", live.moved)
        # what is kept follows the events at the next refresh, and not before
        app.record([event("u4", "baby", 31 + n / 24, 3.0) for n in range(30)])
        then = app.portrait("u4").slot("value.predicted_parent")
        assert then is not None and (then.value, then.events) == ("no", kept.events)
        jobs.run("facet.predicted_parent")
        after = app.portrait("u4").slot("value.predicted_parent")
        assert after is not None and after.value == "yes" and after.events > kept.events
        # a new version is shown to all at the next refresh, news of them or not
        app.fit_label("parent", features=FEATURES, learn=LEARN)
        assert str(app.portrait("u4").slot("value.predicted_parent")).count("000001")
        assert "users" in jobs.run("facet.predicted_parent").said
        for user in ("u4", "u7"):
            newer = app.portrait(user).slot("value.predicted_parent")
            assert newer is not None and newer.model == "000002"
            assert newer.refreshed_at is not None


def test_a_trigger_and_on_event_refresh_it_too(shop: Path) -> None:
    for policy, user in (("when purchase", "u9"), ("on_event", "u11")):
        with opened(shop, LABEL | {"refresh": policy}) as app:
            app.record([event(user, "beer", 32, 3.0)])
            before = app.changes().last
            app.record([event(user, "beer", 32 + n / 100, 3.0) for n in range(60)])
            slot = app.portrait(user).slot("value.predicted_parent")
            assert slot is not None and slot.value == "no"
            told = {change.slot for change in app.changes(before).changes}
            assert "value.predicted_parent" in told


def test_labels_may_come_from_a_file_and_features_be_named(shop: Path) -> None:
    known = pa.table({
        "user_id": [*(f"u{n}" for n in range(120)), "nobody", "u1"],
        "group": [*("a" if n % 2 else "b" for n in range(120)), "a", None],
    })  # fmt: skip
    with opened(shop) as app:
        features = ['interests.category["baby"]', "value.spend"]
        fitted = app.fit_label("group", known=known, features=features, learn=LEARN)
        report = fitted.report
        assert sorted(report.features) == sorted(features)
        assert report.training + report.validation + report.test.rows == 120
        assert fitted.name == "predicted_group"
        with pytest.raises(UsageError, match=r"has 'value\.nix'"):
            app.fit_label("group", known=known, features=["value.nix"])
        with pytest.raises(ModelError, match="of no user 'nix' is known"):
            app.fit_label("nix")
        with pytest.raises(UsageError, match="is no label"):
            app.fit_label("parent", name="declared")
    with opened(shop) as app:
        assert app.portrait("u5").slot("basic.predicted_group") is not None
        assert app.store.home is not None
        kept = [p for p in (app.store.home / "labels").rglob("*") if p.is_file()]
        user = app.user("u5")
        bodies = [path.read_bytes() for path in kept]
        assert bodies
        assert not any(user in body or user.hex().encode() in body for body in bodies)


def test_by_the_command_line(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shop / "limner.toml").write_text('store = "sqlite:///shop.db"\nclock = "events"\n')
    config = ("--config", str(shop / "limner.toml"))
    assert run(["label", "fit", "--from", "portraits", "--label", "parent", *config]) == 0
    out = capsys.readouterr().out
    assert "Test accuracy: 0." in out.splitlines()[-1]
    assert "portraits show it as 'predicted_parent'" in out
    assert run(["portrait", "u3", "--json", *config]) == 0
    slot = json.loads(capsys.readouterr().out)["basic"]["predicted_parent"]
    assert slot["value"] in ("yes", "no") and slot["model"] == "000003" and slot["moved"]
    assert run(["portrait", "u3", *config]) == 0
    assert "likely" in capsys.readouterr().out
