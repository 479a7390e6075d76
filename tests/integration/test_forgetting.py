"""Law 6 in models: what is solved from sums over users is as if the erased had never been."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limner.app import Limner, forgetting, quiet
from limner.config import parse
from limner.events.batch import DAY, F64
from limner.model import registry
from limner.model.linear import EASE, TRANSITIONS, Linear
from limner.model.registry import Version
from limner.testing.shop import START, shop

SHOP = shop(users=30, items=24, trips=10, seed=3)
COMPANIONS = ["ease", "transitions"]


def opened(folder: Path) -> Limner:
    given = {
        "store": f"sqlite:///{folder / 'shop.db'}",
        "clock": "events",
        "train": {"sequence": False, "keep": 3},
    }
    return Limner.open(config=parse(given))


def bought(user: str, item: int, day: int, **more: Any) -> dict[str, Any]:
    return {
        "user_id": user, "item_id": f"i{item}", "event_type": "purchase", "quantity": 1,
        "timestamp": START + day * DAY, "event_id": f"{user}-{item}-{day}", **more,
    }  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a model; `u1` was corrected and gave something back."""
    folder = tmp_path_factory.mktemp("trained")
    with opened(folder) as app:
        app.import_file(SHOP.items, kind="items")
        app.import_file(SHOP.events)
        app.record([bought("u1", 3, 370), bought("u1", 5, 371)])
        app.record([bought("u1", 7, 372, event_id="c", properties={"corrects": "u1-3-370"})])
        app.record([bought("u1", 5, 373, event_type="refund",
                           properties={"refunds": "u1-5-371"})])  # fmt: skip
        app.record([bought(user, item, 374 + item) for user in "vw" for item in (2, 4, 6)])
        app.train()
        app.record([bought("w", 9, 390), bought("u1", 11, 391), bought("late", 1, 392)])
    return folder


@pytest.fixture
def app(trained: Path, tmp_path: Path) -> Any:
    for path in trained.iterdir():
        copy = shutil.copytree if path.is_dir() else shutil.copy2
        copy(path, tmp_path / path.name)
    with opened(tmp_path) as found:
        yield found


def in_use(app: Limner) -> Version:
    assert app.store.home is not None
    version = registry.current_version(app.store.home)
    assert version is not None
    return version


def maps(app: Limner, version: Version) -> dict[str, F64]:
    """The companions' maps between the items of the catalog as it is now."""
    place = {item: n for n, item in enumerate(version.meta["item_ids"])}
    order = [place[item] for item in app.state.catalog.ids.values]
    found = {}
    for name, model in registry.load(version).models.items():
        if isinstance(model, Linear):
            found[name] = np.asarray(model.map)[np.ix_(order, order)] * model.scale
    assert list(found) == COMPANIONS
    return found


def fitted(app: Limner, position: int) -> dict[str, F64]:
    """The same fitted anew on what the log has left before a position."""
    data, features = app.training_data()
    data = data.where(data.positions < position)
    out = {}
    for name, config in zip(COMPANIONS, (EASE, TRANSITIONS), strict=True):
        model = Linear(config)
        model.fit(data, features, progress=quiet)
        out[name] = np.asarray(model.map) * model.scale
    return out


@pytest.mark.parametrize("user", ["u1", "u2", "w"])
def test_companions_are_as_if_the_erased_had_never_been(app: Limner, user: str) -> None:
    before = in_use(app)
    held = app.scorer()
    if user == "w":
        app.alias("v", "w")  # two users when the model learned from them
    done = app.erase(user)
    now = in_use(app)
    assert done.model is not None and done.retrain
    assert done.model.version == now.name != before.name
    assert done.model.forgot == COMPANIONS
    assert {*done.model.forgot, *done.model.due} == set(registry.load(now).models)
    assert not before.folder.exists()  # it had the user's part in its sums
    found, anew = maps(app, now), fitted(app, int(now.meta["position"]))
    for name in COMPANIONS:
        np.testing.assert_allclose(found[name], anew[name], rtol=2e-5, atol=1e-6)
    scorer = app.scorer()
    assert scorer is not None and scorer is not held and scorer.version == now.name
    assert app.models().journal[-1].reason == "a user was erased"
    assert app.erased_since_training() == 1
    assert app.models().versions[-1].users == before.meta["users"] - (2 if user == "w" else 1)


def test_who_came_after_the_training_leaves_the_model_as_it_is(app: Limner) -> None:
    before = in_use(app)
    done = app.erase("late")
    assert done.model == forgetting.Forgotten(before.name, [], [], [])
    assert not done.retrain and app.erased_since_training() == 0


def test_one_after_another(app: Limner) -> None:
    first = app.erase("u4").model
    second = app.erase("u5").model
    assert first is not None and second is not None and first.version < second.version
    assert [v.version for v in app.models().versions] == [second.version]
    found, anew = maps(app, in_use(app)), fitted(app, int(in_use(app).meta["position"]))
    for name in COMPANIONS:
        np.testing.assert_allclose(found[name], anew[name], rtol=2e-5, atol=1e-6)


def test_what_cannot_be_subtracted_is_due(app: Limner, monkeypatch: pytest.MonkeyPatch) -> None:
    before = in_use(app)
    monkeypatch.setattr(forgetting, "AT_ONCE", 10)
    parts = list(registry.load(before).models)
    assert app.erase("u6").model == forgetting.Forgotten(before.name, [], parts, [])
    monkeypatch.undo()
    app.store.set_meta(forgetting.REMOVED_AT, str(before.meta["position"]))
    assert app.erase("u7").model == forgetting.Forgotten(before.name, [], parts, [])
    assert app.erased_since_training() == 2


def test_that_an_import_was_undone_is_remembered(app: Limner) -> None:
    app.import_file([bought("u8", 2, 395)])
    app.undo_import(max(entry.import_id for entry in app.store.imports.entries()))
    found = app.erase("u8").model
    assert found is not None and found.forgot == []


def test_who_is_erased_while_a_training_is_under_way_is_left_out(app: Limner) -> None:
    erased: list[object] = []

    def meanwhile(stage: str, done: int, total: int) -> None:
        if stage == "fitting ease" and not erased:
            erased.append(app.erase("u9"))

    app.train(progress=meanwhile)
    now = in_use(app)
    found, anew = maps(app, now), fitted(app, int(now.meta["position"]))
    for name in COMPANIONS:
        np.testing.assert_allclose(found[name], anew[name], rtol=2e-5, atol=1e-6)
    assert app.erased_since_training() == 1
