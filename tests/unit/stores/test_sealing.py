"""Small segments are merged beside the writer, which does not wait for it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from limner.events.batch import EventBatch
from limner.stores import segments, sqlite_log
from limner.stores.sqlite import SqliteStore


def row(number: int) -> EventBatch:
    more = {"properties.colour": "red"} if number % 3 else {}
    return EventBatch.of(
        [
            {
                "user_id": bytes([number % 5]) * 16,
                "event_type": "view",
                "item_id": f"i{number % 7}",
                "timestamp": number,
                "digest": number.to_bytes(16, "big"),
                "check": number,
                **more,
            }
        ]
    )


def count(store: SqliteStore) -> int:
    return int(store.log._database.query("SELECT count(*) FROM segment")[0][0])


def test_a_commit_does_not_wait_for_a_merge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_log, "SMALL_SEGMENTS", 50)
    begun, go_on = threading.Event(), threading.Event()
    merged = segments.merged_batches

    def slowly(tables: list[Any]) -> list[EventBatch]:
        begun.set()
        assert go_on.wait(20)
        return merged(tables)

    monkeypatch.setattr(sqlite_log, "merged_batches", slowly)
    store = SqliteStore(tmp_path / "shop.db")
    for number in range(60):
        store.log.append(row(number))
    assert begun.wait(20)
    for number in range(60, 80):  # while the merge is under way
        store.log.append(row(number))
    go_on.set()
    store.log.join()
    assert count(store) < 80
    times = [time for _, batch in store.log.read() for time in batch.times().tolist()]
    assert times == list(range(80))
    store.close()


def test_what_was_removed_meanwhile_stays_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore(tmp_path / "shop.db")
    for number in range(10):
        store.log.append(row(number))
    merged, gone = segments.merged_batches, bytes([3]) * 16

    def while_erasing(tables: list[Any]) -> list[EventBatch]:
        out = merged(tables)
        if store.log.holds(gone):
            store.log.erase(gone)
        return out

    monkeypatch.setattr(sqlite_log, "merged_batches", while_erasing)
    store.log.seal()
    assert not store.log.holds(gone)
    assert sum(int(batch.live().sum()) for _, batch in store.log.read()) == 8
    store.log.seal()
    assert count(store) < 10
    assert not store.log.holds(gone)
    store.close()
