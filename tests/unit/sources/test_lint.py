"""The linter finds what was put into a file, says where, and is silent about what is right."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from limner.events.rules import CleanConfig
from limner.sources.lint import LintReport, Problem
from limner.sources.validate import validate_file

NOW = 1_750_000_000_000_000
START = 1_700_000_003
NAMES = ("user_id", "item_id", "event_type", "timestamp", "value", "group_id", "event_id")


def good(n: int = 60) -> list[list[Any]]:
    chance = random.Random(0)
    return [
        [f"u{k % 7}", f"i{k % 9}", ("view", "purchase")[k % 2], START + k * 700,
         round(chance.random() * 9, 2), f"g{k % 11}", f"e{k}"]
        for k in range(n)
    ]  # fmt: skip


def lint(folder: Path, rows: Sequence[Sequence[Any]], names: Sequence[str] = NAMES,
         **more: Any) -> LintReport:  # fmt: skip
    path = folder / "events.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([names, *rows])
    given = {"columns": {}, "constants": {}} | more
    return validate_file(path, config=CleanConfig(), now=NOW, **given)


def found(report: LintReport) -> dict[str, Problem]:
    return {problem.name: problem for problem in report.problems}


def test_a_good_file_has_nothing_wrong(tmp_path: Path) -> None:
    report = lint(tmp_path, good())
    assert report.problems == ()
    assert (report.rows, report.good, report.users, report.items) == (60, 60, 7, 9)
    assert report.types == {"view": 30, "purchase": 30}
    assert sum(report.days.values()) == 60
    assert report.first == START * 1_000_000
    assert report.command == f"limner import {tmp_path / 'events.csv'}"


@pytest.mark.parametrize(
    ("column", "value", "name", "level"),
    [
        ("timestamp", "yesterday", "bad_time", "error"),
        ("timestamp", 19_000, "impossible_time", "error"),
        ("timestamp", (START + 10 * 700) * 1000, "mixed_units", "warning"),
        ("user_id", "", "missing_user", "error"),
        ("item_id", "", "missing_item", "error"),
        ("value", "two", "bad_number", "error"),
        ("event_type", "purchse", "unknown_type", "warning"),
        ("event_id", "e3", "conflicting_id", "error"),
        ("timestamp", START - 900, "out_of_order", "note"),
    ],
)
def test_what_is_put_in_is_found_with_its_line(
    tmp_path: Path, column: str, value: Any, name: str, level: str
) -> None:
    rows = good()
    rows[10][NAMES.index(column)] = value
    report = lint(tmp_path, rows)
    problem = found(report)[name]
    assert (problem.level, problem.rows) == (level, 1)
    assert set(found(report)) == {name}
    if name != "mixed_units":
        assert problem.lines == (12,)  # after the header
    assert report.errors == (level == "error")
    assert problem.text
    if name == "unknown_type":
        assert report.aliases == {"purchse": "purchase"}
        assert 'aliases = { "purchse" = "purchase" }' in report.settings


def test_repeats_across_the_whole_file(tmp_path: Path) -> None:
    rows = good()
    report = lint(tmp_path, [*rows, rows[5]])
    assert found(report)["repeated_id"].lines == (62,)
    plain = [row[:-1] for row in rows]
    report = lint(tmp_path, [*plain, plain[5], plain[5]], NAMES[:-1])
    assert found(report)["identical_lines"].rows == 2


def test_ids_that_nothing_describes(tmp_path: Path) -> None:
    report = lint(
        tmp_path, good(), items=lambda item: item != "i4", users={"u1", "u2"}.__contains__
    )
    assert found(report)["unknown_item"].rows == sum(row[1] == "i4" for row in good())
    assert found(report)["unknown_item"].example == "i4"
    assert found(report)["unknown_user"].rows == sum(row[0] not in ("u1", "u2") for row in good())


def test_a_hand_that_is_too_fast(tmp_path: Path) -> None:
    robot = [
        ["u99", f"i{k}", "view", f"2023-11-15 00:00:{7 + k / 10:06.3f}", "", "g", f"r{k}"]
        for k in range(30)
    ]
    report = lint(tmp_path, [*good(), *robot])
    assert found(report)["robot_speed"].rows == 30
    assert report.errors == 0


def test_times_in_days_say_so(tmp_path: Path) -> None:
    rows = [[*row[:3], 19_000 + n, *row[4:]] for n, row in enumerate(good())]
    problem = found(lint(tmp_path, rows))["impossible_time"]
    assert "look like days" in problem.text
    assert "86400" in problem.mend


def test_columns_that_are_missing_empty_or_always_the_same(tmp_path: Path) -> None:
    rows = [[*row[:4], "", "north"] for row in good()]
    report = lint(tmp_path, rows, [*NAMES[:4], "note", "shop"])
    said = [p.text for p in report.problems]
    assert "column 'note' is empty" in said
    assert "column 'shop' is always 'north'" in said
    assert sum(p.name == "missing_column" for p in report.problems) == 3
    assert {column.name: column.filled for column in report.columns}["note"] == 0


def test_names_and_times_that_tell_nothing_are_guessed(tmp_path: Path) -> None:
    rows = [
        [
            row[0],
            row[1],
            ("page view", "buy")[n % 2],
            f"{1 + n % 28:02d}/03/2024 10:{n:02d}",
            "x",
        ]
        for n, row in enumerate(good(59))
    ]
    report = lint(tmp_path, rows, ["cust no", "product code", "what happened", "day", "q"])
    assert report.map == {
        "user_id": "cust no", "item_id": "product code", "event_type": "what happened",
        "timestamp": "day",
    }  # fmt: skip
    assert report.good == 59
    assert report.time_format == "%d/%m/%Y %H:%M"
    guesses = [p for p in report.problems if p.name == "guessed_column"]
    assert {p.mend for p in guesses} == {
        "--map user_id='cust no'", "--map timestamp=day", "--map event_type='what happened'",
    }  # fmt: skip
    assert report.errors == 4
    hopeless = lint(tmp_path, [["a", "b"]], ["x", "y"])
    assert found(hopeless)["no_column"].level == "error"
    assert "user, time" in found(hopeless)["no_column"].text


@pytest.mark.parametrize("ending", ["jsonl", "json"])
def test_other_formats_are_checked_too(tmp_path: Path, ending: str) -> None:
    rows = [dict(zip(NAMES, row, strict=True)) for row in good()]
    path = tmp_path / f"events.{ending}"
    lines = "\n".join(map(json.dumps, rows)) + "\n{broken\n"
    path.write_text(json.dumps(rows) if ending == "json" else lines)
    report = validate_file(path, config=CleanConfig(), now=NOW, columns={}, constants={})
    assert report.good == 60
    if ending == "jsonl":
        assert found(report)["bad_json"].lines == (61,)
