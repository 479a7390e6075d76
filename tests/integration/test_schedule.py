"""The schedule and the changes of a real server, killed and started again, and by the commands."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.integration.test_http import LIMNER, serving

from limner.app import Limner, Run
from limner.cli import run as limner
from limner.config import load
from limner.events.batch import SECOND

SETTINGS = """
[refresh]
population = "every 1s"
snapshot = "cron 0 3 * * *"

[[facet]]
name = "spend"
kind = "sum"
section = "value"
where = { event_type = "purchase" }
refresh = "every 2s"

[[facet]]
name = "last_seen"
kind = "recency"
section = "behaviour"
refresh = "on_event"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    assert limner(["init", ".", "--json"]) == 0
    with (tmp_path / "limner.toml").open("a") as file:
        file.write(SETTINGS)
    yield tmp_path


def until(read: Callable[[], Any], met: Callable[[Any], bool], seconds: float = 60.0) -> Any:
    end = time.monotonic() + seconds
    while not met(found := read()) and time.monotonic() < end:
        time.sleep(0.05)
    assert met(found), found
    return found


def asked(url: str) -> Callable[[str], dict[str, Any]]:
    def ask(name: str) -> dict[str, Any]:
        jobs = httpx.get(f"{url}/v1/schedule").json()["jobs"]
        return next(job for job in jobs if job["name"] == name)

    return ask


def purchase(user: str, value: float) -> dict[str, Any]:
    return {"user_id": user, "item_id": "tea", "event_type": "purchase", "value": value}


def spent(url: str) -> dict[str, Any]:
    slot: dict[str, Any] = httpx.get(f"{url}/v1/users/u1/portrait").json()["value"]["spend"]
    return slot


def test_jobs_of_a_server_that_is_killed_and_started_again(folder: Path) -> None:
    with serving(folder) as (process, url):
        job = asked(url)
        httpx.post(f"{url}/v1/events", json=[purchase("u1", 5.0)]).raise_for_status()
        kept = until(lambda: spent(url), lambda slot: slot.get("refreshed_at") is not None)
        assert (kept["value"], kept["as_of"]) == (5.0, 1)
        ran = until(lambda: job("population"), lambda found: found["outcome"] == "done")
        assert ran["next_run"] > ran["started"]
        night = job("snapshot")
        assert (night["outcome"], night["started"]) == ("never", None)
        process.send_signal(signal.SIGKILL)
        process.wait()
    with Limner.open(config=load(folder / "limner.toml"), write=False) as app:
        runs = {run.name: run for run in app.jobs().runs()}
        assert runs["facet.spend"].outcome in ("done", "running")
        assert runs["facet.spend"].started is not None
        assert app.portrait("u1").value["spend"].as_of == 1
    with serving(folder) as (_, url):
        job = asked(url)
        assert job("snapshot")["next_run"] == night["next_run"]
        began = time.time_ns() // 1_000
        again = until(lambda: job("facet.spend"), lambda found: found["started"] > began - SECOND)
        assert again["seconds"] is not None or again["outcome"] == "running"
        httpx.post(f"{url}/v1/events", json=[purchase("u1", 7.0)]).raise_for_status()
        kept = until(lambda: spent(url), lambda slot: slot["value"] == 12.0)
        assert kept["as_of"] == 2
        runs_before = job("population")["started"]
        until(lambda: job("population"), lambda found: found["started"] > runs_before)


def test_the_commands_see_and_run_jobs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told(*arguments: str) -> Any:
        assert limner([*arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    capsys.readouterr()
    with Limner.open(config=load(folder / "limner.toml")) as app:
        app.record([purchase(f"u{n}", 1.0 + n) for n in range(3)])
    names = ["content", "facet.spend", "population", "retention", "snapshot"]
    assert [job["name"] for job in told("schedule")["jobs"]] == names
    assert {job["outcome"] for job in told("schedule")["jobs"]} == {"never"}
    assert told("schedule", "--run", "facet.spend")["said"] == "3 users"
    assert told("schedule", "--run", "facet.spend")["said"] == "0 users"
    assert [job["outcome"] for job in told("status")["schedule"]] == [
        "never",
        "done",
        "never",
        "never",
        "never",
    ]
    assert limner(["schedule", "--run", "facet.spent"]) == 2
    assert "there is no job 'facet.spent'" in capsys.readouterr().err
    assert limner(["schedule"]) == 0
    shown = capsys.readouterr().out
    assert "facet.spend" in shown and "when a server runs" in shown
    found = told("changes")["changes"]
    assert {change["slot"] for change in found} == {"behaviour.days_since_last_seen"}
    assert {change["user_id"] for change in found} == {"u0", "u1", "u2"}
    assert [c["id"] for c in told("changes", "--after", "1", "--limit", "1")["changes"]] == [2]
    assert told("changes", "--kind", "interest_shift")["changes"] == []
    assert limner(["changes"]) == 0
    assert (
        "user u2: behaviour.days_since_last_seen changes: nothing → just now"
        in capsys.readouterr().out
    )
    with serving(folder) as (_, url):
        assert limner(["schedule", "--run", "population"]) == 1  # the server has the store
        assert "--url" in capsys.readouterr().err
        done = told("schedule", "--run", "population", "--url", url)
        assert Run(**done).outcome == "done"
        assert [job["name"] for job in told("schedule", "--url", url)["jobs"]] == names
        assert told("changes", "--url", url)["changes"] == found
        problem = httpx.post(f"{url}/v1/schedule/nothing/run")
        assert problem.status_code == 404
        page = httpx.get(f"{url}/v1/changes", params={"after": 2}).json()
        assert (page["last"], page["newest"], page["missed"]) == (3, 3, False)


def test_changes_can_be_followed_beside_a_server(folder: Path) -> None:
    with serving(folder) as (_, url):
        httpx.post(f"{url}/v1/events", json=[purchase("u1", 5.0)]).raise_for_status()
        with subprocess.Popen(
            [*LIMNER, "changes", "--follow", "--json", "--after", "0"],
            cwd=folder,
            stdout=subprocess.PIPE,
            text=True,
        ) as follower:
            assert follower.stdout is not None
            try:
                first = json.loads(follower.stdout.readline())
                assert (first["id"], first["user_id"]) == (1, "u1")
                httpx.post(f"{url}/v1/events", json=[purchase("u2", 5.0)]).raise_for_status()
                second = json.loads(follower.stdout.readline())
                while second["slot"] != "behaviour.days_since_last_seen":
                    second = json.loads(follower.stdout.readline())
                assert second["user_id"] == "u2"
            finally:
                follower.send_signal(signal.SIGINT)
            assert follower.wait(20) == 0
