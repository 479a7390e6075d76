"""Versions change in a running process: no request fails, and none mixes two versions."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.integration.test_http import serving
from tests.integration.test_updating import days, settings

from limner.app import Limner
from limner.cli import run
from limner.model import registry

VERSIONS = ("000001", "000002")
ASKED = [f"u{number}" for number in range(0, 60, 7)]
Answer = list[tuple[str, float, dict[str, float]]]

TOML = """
clock = "events"

[train]
sequence = false
gate = { least = 20, tie = 40 }
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two versions of one shop, the newer of which knows twice the items."""
    folder = tmp_path_factory.mktemp("two")
    with Limner.open(config=settings(folder)) as app:
        app.record(days(0, 30, "a"))
        app.train()
        app.record(days(30, 42, "b"))
        assert app.update().outcome == "promoted"
    (folder / "limner.toml").write_text(f'store = "sqlite:///shop.db"\n{TOML}')
    return folder


@pytest.fixture
def folder(two: Path, tmp_path: Path) -> Path:
    shutil.copytree(two, tmp_path, dirs_exist_ok=True)
    return tmp_path


def alike(answer: Answer, other: Answer) -> bool:
    """Equal but for the rounding of sums: who is read together with others is summed in float32 in
    another order. Versions differ by a thousand times that.
    """
    return [item for item, *_ in answer] == [item for item, *_ in other] and all(
        score == pytest.approx(known, rel=1e-5, abs=1e-5)
        and parts == pytest.approx(known_parts, rel=1e-5, abs=1e-5)
        for (_, score, parts), (_, known, known_parts) in zip(answer, other, strict=True)
    )


def checked(
    ask: Callable[[str], tuple[str, Answer]],
    expected: dict[str, dict[str, Answer]],
    change: Callable[[str], object],
    *,
    changes: int,
) -> None:
    """Ask from several threads while versions change: each answer is one version's."""
    for user in ASKED:
        first, second = (expected[version][user] for version in VERSIONS)
        assert max(abs(a[1] - b[1]) for a, b in zip(first, second, strict=True)) > 1e-2
    wrong: list[object] = []
    seen: set[str] = set()
    over = threading.Event()

    def asking(offset: int) -> None:
        turn = offset
        while not over.is_set():
            user = ASKED[turn % len(ASKED)]
            turn += 1
            try:
                version, answer = ask(user)
                seen.add(version)
                if not alike(answer, expected[version][user]):
                    wrong.append((user, version, answer))
            except Exception as error:  # any at all is a failed request
                wrong.append(error)

    threads = [threading.Thread(target=asking, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(changes):
            change(VERSIONS[turn % 2])
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not wrong, wrong[:3]
    assert seen == set(VERSIONS)


def test_in_process(folder: Path) -> None:
    with Limner.open(config=settings(folder)) as app:

        def ask(user: str) -> tuple[str, Answer]:
            found = app.recommend(user, n=8)
            assert found.model is not None
            return found.model, [(i.item_id, i.score, dict(i.parts)) for i in found.items]

        expected: dict[str, dict[str, Answer]] = {}
        for version in VERSIONS:
            app.promote(version)
            answers = {user: ask(user) for user in ASKED}
            assert {said for said, _ in answers.values()} == {version}
            expected[version] = {user: answer for user, (_, answer) in answers.items()}
        assert expected[VERSIONS[0]] != expected[VERSIONS[1]]
        checked(ask, expected, app.promote, changes=24)
        portrait = app.portrait("u0")
        assert portrait.model in (*VERSIONS, None)


def test_another_process_publishes(folder: Path) -> None:
    """A reader beside the writer takes up what the writer promotes."""
    with Limner.open(config=settings(folder), write=False) as reader:
        assert reader.recommend("u0").model == "000002"
        with Limner.open(config=settings(folder)) as writer:
            writer.promote("000001")
        assert reader.recommend("u0").model == "000001"


@pytest.fixture
def url(folder: Path) -> Iterator[str]:
    with serving(folder) as (_, url):
        yield url


def test_over_http_and_by_the_commands(
    url: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(*words: str) -> Any:
        given = ["--config", str(folder / "limner.toml"), *words, "--url", url, "--json"]
        assert run(given) == 0, capsys.readouterr()
        return json.loads(capsys.readouterr().out)

    with httpx.Client(base_url=url, timeout=30) as client:

        def ask(user: str) -> tuple[str, Answer]:
            answer = client.get(f"/v1/users/{user}/recommendations", params={"n": 8, "log": False})
            assert answer.status_code == 200, answer.text
            found = answer.json()
            return found["model"], [(i["item_id"], i["score"], i["parts"]) for i in found["items"]]

        def promote(version: str) -> None:
            answer = client.post(f"/v1/models/{version}/promote")
            assert answer.status_code == 200, answer.text

        expected: dict[str, dict[str, Answer]] = {}
        for version in VERSIONS:
            assert command("models", "promote", version)["version"] == version
            expected[version] = {user: ask(user)[1] for user in ASKED}
        checked(ask, expected, promote, changes=12)

        promote("000002")
        assert client.post("/v1/models/rollback").json()["version"] == "000001"
        assert client.post("/v1/models/rollback").status_code == 400
        assert client.post("/v1/models/000009/promote").status_code == 404
        assert command("models", "list")["current"] == "000001"
        assert command("models", "show", "000002")["made"] == "updated"
        assert command("models", "diff", "000001", "000002")["items_only_b"] == 18
        done = command("update")
        assert done["outcome"] in ("promoted", "kept")
        journal = client.get("/v1/models").json()["journal"]
        assert journal[-1]["what"] in ("published", "kept")
        assert journal[-1]["verdict"]["questions"] == done["verdict"]["questions"]


def test_the_commands_on_a_store(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def say(*words: str) -> str:
        assert run(["--config", str(folder / "limner.toml"), *words]) == 0, capsys.readouterr()
        return capsys.readouterr().out

    assert "it is better beyond chance" in say("models")
    shown = say("models", "show", "000002")
    assert "updated" in shown
    assert "train.gate.least" in shown
    assert "18 items only in 000002" in say("models", "diff", "000001", "000002")
    assert "version 000001 is in use, instead of 000002" in say("models", "rollback")
    assert run(["--config", str(folder / "limner.toml"), "models", "promote", "3"]) == 2
    assert "there is no model version" in capsys.readouterr().err
    assert "instead of 000001" in say("models", "promote", "000002")
    assert "Nothing was done, version 000002 is in use: nothing is new" in say("update")


def test_a_reader_that_finds_the_new_version_gone_keeps_its_own(folder: Path) -> None:
    with Limner.open(config=settings(folder)) as app:
        assert app.recommend("u0").model == "000002"
        home = app.store.home
        assert home is not None
        (home / "models" / "current").write_text("000007\n")
        assert app.recommend("u0").model == "000002"
        registry.set_current(home, "000001")
        assert app.recommend("u0").model == "000001"
