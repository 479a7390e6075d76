"""Rows on their way to a server keep their identity."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from limner.cli import remote
from limner.events.raw import RawBatch
from limner.sources.files import read_file


def batches(path: Path) -> Iterator[RawBatch]:
    return read_file(path, kind="events", refuse=lambda row: None, source="file", batch_rows=7)


def sent(path: Path) -> list[list[dict[str, Any]]]:
    return [events for _, events in remote._requests(batches(path), "file")]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Forty lines, of which only three are different."""
    path = tmp_path / "events.csv"
    rows = [f"u{n % 3},tea,purchase,2024-01-01,red" for n in range(40)]
    path.write_text("\n".join(["user_id,item_id,event_type,timestamp,colour", *rows]) + "\n")
    return path


def test_equal_rows_of_several_requests_are_told_apart(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "BATCH", 5)
    requests = sent(file)
    ids = [event["event_id"] for events in requests for event in events if "event_id" in event]
    assert all("event_id" not in event for event in requests[0])
    assert len(ids) == len(set(ids))
    assert len(ids) == 40 - 5
    assert requests == sent(file)  # the same each time, so a repeated import changes nothing


def test_lines_fields_and_properties(file: Path) -> None:
    lines, events = next(iter(remote._requests(batches(file), "till")))
    assert lines[:3] == [2, 3, 4]
    assert events[0] == {
        "user_id": "u0",
        "item_id": "tea",
        "event_type": "purchase",
        "timestamp": "2024-01-01",
        "source": "till",
        "properties": {"colour": "red"},
    }
