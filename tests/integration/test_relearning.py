"""What is usual after rows were removed: as if they had never been there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limner.app import Limner, relearning
from limner.config import parse

ITEMS = [{"item_id": f"{kind}{n}", "type": kind} for kind in ("tea", "soap") for n in range(3)]
MONTHS_AGO = 1_700_000_000


def rows(user: str, seed: int, dear: float = 1.0) -> list[dict[str, Any]]:
    """Purchases of a user, some with outlandish amounts; all in one hour of one day."""
    draw = np.random.default_rng(seed)
    return [
        {
            "user_id": user,
            "item_id": f"{kind}{n % 3}",
            "event_type": "purchase",
            "timestamp": MONTHS_AGO + 37 * n,
            "value": float(np.round(dear * draw.lognormal(), 2)),
            "quantity": float(draw.integers(1, 4)),
        }
        for n in range(60)
        for kind in ("tea", "soap")
    ]


def opened(folder: Path) -> Limner:
    return Limner.open(config=parse({"store": f"sqlite:///{folder / 'shop.db'}"}))


def without(folder: Path) -> Limner:
    """A store that never had the rows of "ben"."""
    folder.mkdir()
    app = opened(folder)
    app.import_file(ITEMS, kind="items")
    app.record(rows("ann", 1))
    app.record(rows("cat", 3))
    return app


def remove(app: Limner, how: str) -> None:
    if how == "undo":
        app.undo_import(app.store.imports.entries()[-1].import_id)
    else:
        app.erase("ben")


@pytest.mark.parametrize("how", ["undo", "erase"])
def test_norms_are_those_of_a_log_without_the_removed_rows(tmp_path: Path, how: str) -> None:
    with opened(tmp_path) as app, without(tmp_path / "other") as other:
        app.import_file(ITEMS, kind="items")
        app.record(rows("ann", 1))
        app.import_file(rows("ben", 2, dear=1000.0), source="ben.csv")
        app.record(rows("cat", 3))
        assert app.writer.norms.scales != other.writer.norms.scales
        remove(app, how)
        assert app.writer.norms.scales == other.writer.norms.scales
        replayed = app.writer.beside(app.state.anew())
        replayed.catch_up()
        assert app.writer.norms == replayed.norms
    with opened(tmp_path) as app:
        assert not app.relearning.due
        with opened(tmp_path / "other") as other:
            assert app.writer.norms.scales == other.writer.norms.scales


def test_in_a_long_log_it_is_done_beside_and_a_stopped_process_takes_it_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relearning, "AT_ONCE", 0)
    with without(tmp_path / "other") as other:
        wanted = other.writer.norms.scales
    with opened(tmp_path) as app:
        app.import_file(ITEMS, kind="items")
        app.record(rows("ann", 1))
        app.record(rows("ben", 2, dear=1000.0))
        app.record(rows("cat", 3))
        with monkeypatch.context() as patch:
            # as if the process were stopped before it came to it
            patch.setattr(relearning.Relearning, "_learn", lambda self: None)
            app.erase("ben")
    with opened(tmp_path) as app:
        assert app.relearning.wait(10)
        assert app.writer.norms.scales == wanted
    with opened(tmp_path) as app:
        assert not app.relearning.due
        assert app.writer.norms.scales == wanted
