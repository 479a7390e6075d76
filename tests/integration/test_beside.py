"""Live events beside batches: they go between the pieces, and nothing else is different."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from limner.app import Limner
from limner.config import parse
from limner.errors import StoreError
from limner.events.batch import DAY
from limner.profile import writer
from limner.testing.shop import START


def opened(folder: Path) -> Limner:
    folder.mkdir(exist_ok=True)
    return Limner.open(config=parse({"store": f"sqlite:///{folder}/shop.db", "clock": "events"}))


def events(n: int, *, first: int = 0) -> list[dict[str, Any]]:
    """Purchases in order of time; of each ten one is given back, and two are the same line."""
    out: list[dict[str, Any]] = []
    for number in range(first, first + n):
        row = {
            "user_id": f"u{number % 17}",
            "item_id": f"i{number % 7}",
            "event_type": "purchase",
            "timestamp": START + number * DAY // 500,
            "value": float(number % 9 + 1),
            "quantity": 1,
            "group_id": f"b{number // 10}",
        }
        if number % 10 == 8:
            row = {**out[-5], "timestamp": row["timestamp"], "event_type": "refund"}
        if number % 10 == 9:
            row = {**out[-9], "event_type": "view", "value": None, "quantity": None}
        out.append(row)
        if number % 10 == 9:
            out.append(dict(row))
    return out


def live_events_come(app: Limner) -> None:
    app.writer._live_at = time.monotonic() + 3600


def test_a_batch_in_pieces_is_taken_in_as_a_whole_one_is(tmp_path: Path) -> None:
    rows = events(1500)
    with opened(tmp_path / "whole") as whole, opened(tmp_path / "cut") as cut:
        one = whole.record(rows)
        live_events_come(cut)
        many = cut.record(rows)
        assert (one.added, one.repeated) == (many.added, many.repeated)
        assert one.found == many.found
        assert one.found["duplicate_line"] > 100
        key = [(row.where, row.line, row.rule) for row in one.refused]
        assert key == [(row.where, row.line, row.rule) for row in many.refused]
        assert one.as_of == many.as_of
        assert not cut.replay().differences
        for user in {row["user_id"] for row in rows}:
            mine, theirs = whole.portrait(user), cut.portrait(user)
            assert mine.behaviour == theirs.behaviour
            assert mine.value.keys() == theirs.value.keys()
        again = cut.record(rows)
        assert (again.added, again.repeated) == (0, many.added)


def test_an_import_in_pieces_keeps_its_book(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    rows = events(900)
    names = list(rows[0])
    lines = [",".join("" if row[name] is None else str(row[name]) for name in names)
             for row in rows]  # fmt: skip
    path.write_text("\n".join([",".join(names), *lines]), "utf-8")
    with opened(tmp_path / "shop") as app:
        live_events_come(app)
        done = app.import_file(path)
        assert done.entry.rows == len(rows)
        assert done.entry.added == app.state.position
        assert app.store.imports.entries() == [done.entry]
        assert not app.replay().differences
        app.undo_import(done.entry.import_id)
        assert len(app.state) == 0


def test_pieces_before_a_failure_stay_and_the_rest_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = events(1000)
    with opened(tmp_path) as app:
        live_events_come(app)
        log, calls = app.store.log, []
        append = log.append

        def full(batch: Any) -> Any:
            calls.append(len(batch))
            if len(calls) == 3:
                raise StoreError("the disk is full")
            return append(batch)

        monkeypatch.setattr(log, "append", full)
        with pytest.raises(StoreError, match="full"):
            app.record(rows)
        before = app.state.position
        assert 0 < before < 2 * writer.PIECE + 1
        done = app.record(rows)
        assert done.repeated == before
        assert not app.replay().differences


def test_live_events_go_between_the_pieces_of_a_batch(tmp_path: Path) -> None:
    rows = events(6000)
    with opened(tmp_path) as app:
        app.record(rows[0])
        over = threading.Event()

        def batch() -> None:
            app.record(rows[1:])
            over.set()

        beside = threading.Thread(target=batch)
        beside.start()
        done, seen = 0, 0
        while not over.is_set():
            told = app.record(
                {"user_id": "live", "item_id": "i1", "event_type": "view", "event_id": str(done),
                 "timestamp": START + done}
            )  # fmt: skip
            done += 1
            assert told.added == 1
            assert app.portrait("live").behaviour
            seen = seen or app.state.position
        beside.join()
        assert done > 5
        assert seen < len(rows), "the first one was there before the batch was"
        assert not app.replay().differences
