"""`limner bench` measures what it says, on a shop small enough for a test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from limner.cli import run
from limner.cli.bench import FIGURES
from limner.cli.measures import Line

SMALL = ["--events", "3000", "--users", "300", "--json"]


def test_a_figure_is_held_against_its_target() -> None:
    assert Line("rate", 2.0, "rows/s", 3.0, True).met is False
    assert Line("rate", 3.0, "rows/s", 3.0, True).met is True
    assert Line("time", 2.0, "ms", 3.0).met is True
    assert Line("time", 2.0, "ms").met is None


def test_figures_are_measured_and_told_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ["import", "portrait", "events-of", "stages"]
    assert run(["bench", *wanted, *SMALL, "--folder", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["shop"] == {"events": 3000, "users": 300, "seed": 0}
    assert list(found["figures"]) == [name for name in FIGURES if name in wanted]
    lines = [line for lines in found["figures"].values() for line in lines]
    nought = ("resident", "the survey")  # of 300 users: less than is told
    assert all(line["value"] > 0 for line in lines if not line["what"].startswith(nought))
    stages = {line["what"] for line in found["figures"]["stages"]}
    assert {"read", "clean", "dedupe and append", "commit", "fold"} <= stages


def test_a_killed_store_and_a_cold_command_are_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["bench", "cold", *SMALL, "--folder", str(tmp_path)]) == 0
    (line,) = json.loads(capsys.readouterr().out)["figures"]["cold"]
    assert line["unit"] == "s"
    assert 0 < line["value"] < 60


def test_feast_that_is_not_there_is_an_error_with_the_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["bench", "feast", *SMALL, "--folder", str(tmp_path), "--feast-python", sys.executable]
    if subprocess.run([sys.executable, "-c", "import feast"], capture_output=True).returncode == 0:
        pytest.skip("Feast is here")
    assert run(asked) != 0
    assert "--feast-python" in json.loads(capsys.readouterr().out)["error"]["mend"]


def test_reasons_are_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("limner.cli.reasoning.EVENTS", 24)
    monkeypatch.setattr("limner.cli.reasoning.ITEMS", 60)
    asked = ["bench", "explain", "--events", "1000", "--users", "20", "--json"]
    assert run([*asked, "--folder", str(tmp_path)]) == 0
    lines = json.loads(capsys.readouterr().out)["figures"]["explain"]
    assert {line["what"].rpartition(",")[0] for line in lines} == {
        "a list of 10", "a list of 10 with reasons", "why an item is in the list",
        "why an item is not in it",
    }  # fmt: skip
    assert all(line["value"] > 0 and line["unit"] == "ms" for line in lines)
    assert {line["target"] for line in lines} == {None, 20.0, 1000.0}


def test_a_server_is_measured_from_outside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "reasoning.EVENTS": 24, "serving.EVENTS": 24, "serving.ITEMS": 60, "serving.SECONDS": 0.5,
        "serving.WARM": 0.2, "serving.PROBING": 1.0,
        "serving.BATCHES": 2000, "serving.SINGLES": 9000,
    }.items():  # fmt: skip
        monkeypatch.setattr(f"limner.cli.{name}", value)
    wanted = ["serve", "freshness", "soak"]
    asked = ["bench", *wanted, "--events", "1000", "--users", "20", "--minutes", "0.1", "--json"]
    assert run([*asked, "--folder", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)["figures"]
    assert list(found) == wanted
    lines = {line["what"]: line for name in wanted for line in found[name]}
    for what in ("single events, 32 connections", "portraits", "event sent to a list that "
                 "reflects it, median", "a list, median"):  # fmt: skip
        assert lines[what]["value"] > 0
    for what in ("not answered with 2xx", "events acknowledged and not in the log"):
        assert lines[what]["value"] == 0
    assert not [what for what in lines if what.endswith(": not answered with 2xx")]
