"""What was acknowledged over HTTP outlives the process, however it ends."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.faults import killed

from limner.app import Limner
from limner.config import load


def events(first: int, n: int, **more: object) -> list[dict[str, object]]:
    return [
        {"user_id": f"u{k % 9}", "item_id": "i", "event_type": "view", "event_id": str(k), **more}
        for k in range(first, first + n)
    ]


@pytest.mark.slow
def test_kill_under_load_loses_nothing(tmp_path: Path) -> None:
    figures = killed(2, 7, tmp_path)
    assert figures["acknowledged"] > 0
    assert (figures["lost"], figures["twice"], figures["portraits_differ"]) == (0, 0, 0)
    assert figures["ready_seconds"]["max"] <= 10


_FULL = """
import resource, signal, sys
from pathlib import Path
from limner.app import Limner
from limner.config import load
from limner.errors import StoreError
from tests.integration.test_faults import events

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Limner.open(config=load(Path(sys.argv[1]))) as app:
    kept = app.record(events(0, 50)).added
    limit = 600_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    refused = 0
    for n in range(200):  # until the file may not grow
        try:
            kept += app.record(events(1000 + 50 * n, 50, note="x" * 500 + str(n))).added
        except StoreError as error:
            assert error.mend
            refused += 1
            if refused == 3:
                break
    assert refused == 3, kept
    assert app.portrait("u1")  # what is there is still answered
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    kept += app.record(events(90_000, 10)).added  # and with space it goes on
    assert kept == app.state.position
    print(kept)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limits on this system")
def test_a_full_disk_refuses_and_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: writes fail in the same place."""
    (tmp_path / "limner.toml").touch()
    done = subprocess.run(
        [sys.executable, "-c", _FULL, str(tmp_path / "limner.toml")],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": ""},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    with Limner.open(config=load(tmp_path / "limner.toml")) as app:
        assert app.state.position == int(done.stdout)
        assert app.replay().different == 0


def test_a_clock_that_jumps_back_changes_no_order(tmp_path: Path) -> None:
    (tmp_path / "limner.toml").touch()
    moment = [1_700_000_000_000_000]
    config = load(tmp_path / "limner.toml")
    with Limner.open(config=config, clock=lambda: moment[0]) as app:
        received = [app.received()]
        assert app.record(events(0, 20)).added == 20
        before = app.portrait("u1")
        moment[0] -= 3_600_000_000
        received.append(app.received())
        assert received[1] > received[0]  # two events never look like one
        nameless = {"user_id": "u1", "item_id": "i", "event_type": "view"}
        assert [app.record([nameless]).added for _ in range(3)] == [1, 1, 1]
        assert app.record(events(0, 20)).repeated == 20
        assert app.portrait("u1").as_of > before.as_of
    with Limner.open(config=config, clock=lambda: moment[0]) as app:
        assert app.state.position == 23
        assert app.replay().different == 0
