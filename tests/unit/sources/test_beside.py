"""Reading in a process of its own gives what reading here gives, and its end is seen."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from limner.errors import InputError, StoreError
from limner.events.raw import Refused
from limner.privacy.admit import Admitted, Occurrences, PrivacyConfig, admit
from limner.privacy.keys import Keys
from limner.sources import beside, reading

KEYS = Keys.generate()
POLICY = PrivacyConfig({"properties.note": "drop"})
VIEW = (
    '{"user_id": "ann", "item_id": "tea", "event_type": "view", '
    '"timestamp": 1767225600, "note": "secret"}'
)
LINES = [
    VIEW,
    "no json",
    '{"user_id": "ben", "item_id": "tea", "timestamp": 1767225601, "value": 2.5}',
    VIEW,
]


def read(data: Any, refused: list[Refused], where: str = "") -> list[Admitted]:
    return list(
        beside.admitted(
            data, kind="events", source="shop", columns={}, constants={}, where=where,
            keys=KEYS, policy=POLICY, refuse=refused.append,
        )
    )  # fmt: skip


def read_here(data: Any, refused: list[Refused], where: str = "") -> list[Admitted]:
    seen = Occurrences()
    batches = reading.read(data, "events", "shop", refused.append, {}, {}, where)
    return [admit(raw, KEYS, POLICY, seen) for raw in batches]


def assert_same(there: list[Admitted], here: list[Admitted]) -> None:
    assert len(there) == len(here)
    for one, other in zip(there, here, strict=True):
        assert one.raw.table.to_pylist() == other.raw.table.to_pylist()
        assert (one.raw.where, one.raw.source) == (other.raw.where, other.raw.source)
        assert one.pseudonyms == other.pseudonyms
        assert one.ids.to_pylist() == other.ids.to_pylist()
        opened = {KEYS.unseal(sealed) for sealed in one.identities(KEYS, _nobody)}
        assert opened == set(other.ids.to_pylist())


def _nobody(users: Any) -> Any:
    return pa.array([False] * len(users)).to_numpy(zero_copy_only=False)


def events(n: int, *, users: int) -> pa.Table:
    names = [f"u{number % users}" for number in range(n)]
    return pa.table({"user": names, "item": ["i"] * n, "time": range(n)})


def test_a_file_comes_as_it_would_here_with_what_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("\n".join(LINES))
    refused: tuple[list[Refused], list[Refused]] = ([], [])
    assert_same(read(path, refused[0]), read_here(path, refused[1]))
    assert refused[0] == refused[1]
    assert [row.line for row in refused[0]] == [2]


def test_a_table_goes_through_the_pipe() -> None:
    table = pa.table(
        {
            "user": [f"u{n % 7}" for n in range(120_000)],
            "item": ["i"] * 120_000,
            "time": range(120_000),
        }
    )
    assert_same(read(table, [], "shop"), read_here(table, [], "shop"))


def test_an_error_there_is_an_error_here(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="no Parquet file") as found:
        read(path, [])
    assert found.value.where == str(path) and found.value.mend


def test_a_process_that_is_killed_is_said_to_be_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("\n".join(LINES))
    started: list[int] = []

    class Killed(subprocess.Popen[bytes]):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            started.append(self.pid)
            os.kill(self.pid, signal.SIGKILL)

    monkeypatch.setattr(subprocess, "Popen", Killed)
    with pytest.raises(StoreError, match="gone"):
        read(path, [])
    assert started


def test_whoever_stops_reading_ends_the_process(tmp_path: Path) -> None:
    table = pa.table(
        {"user": [f"u{n}" for n in range(300_000)], "item": ["i"] * 300_000, "time": range(300_000)}
    )
    batches = beside.admitted(
        table, kind="events", source="shop", columns={}, constants={}, where="shop",
        keys=KEYS, policy=POLICY, refuse=print,
    )  # fmt: skip
    taken = reading.ahead(batches)
    next(taken)
    taken.close()  # type: ignore[attr-defined]
    with pytest.raises(StopIteration):
        next(batches)
