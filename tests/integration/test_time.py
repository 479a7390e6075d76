"""Time and identity through every door: Python, HTTP and the command line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from limner.app import Limner
from limner.cli import run
from limner.config import parse
from limner.events.batch import DAY
from limner.serve.http import api
from limner.testing.shop import START

VIEW = {"user_id": "u", "item_id": "i", "event_type": "view"}


@pytest.fixture
def app() -> Iterator[Limner]:
    with Limner.open(config=parse({"store": "memory:", "clock": "events"})) as app:
        yield app


class Client:
    """The API without a socket."""

    def __init__(self, app: Limner) -> None:
        self._transport = httpx.ASGITransport(app=api(app))

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        async def asked() -> httpx.Response:
            base = "http://127.0.0.1"
            async with httpx.AsyncClient(transport=self._transport, base_url=base) as client:
                return await client.request(method, path, **more)

        return asyncio.run(asked())


@pytest.fixture
def client(app: Limner) -> Client:
    return Client(app)


def test_two_events_without_time_and_id_are_two_over_http_too(app: Limner, client: Client) -> None:
    app.record([{**VIEW, "timestamp": START}])  # the clock of events stands still from here on
    for _ in range(3):
        assert client.ask("POST", "/v1/events", json=VIEW).json()["added"] == 1


def test_two_events_within_a_microsecond_are_two() -> None:
    config = parse({"store": "memory:"})
    with Limner.open(config=config, clock=lambda: START) as app:
        assert [app.record([VIEW]).added for _ in range(3)] == [1, 1, 1]
        assert app.portrait("u").behaviour["events"].value == {"view": 3}
        assert all(event.timestamp == START for event in app.evidence("u", "behaviour.events"))


def test_half_a_character_is_refused_with_its_reason(app: Limner) -> None:
    done = app.record([{**VIEW, "user_id": "a\ud800"}, VIEW, {**VIEW, "item_id": "\udc00"}])
    assert done.added == 1
    assert [(row.line, row.rule) for row in done.refused] == [(1, "bad_row"), (3, "bad_row")]
    assert "half a character" in done.refused[0].reason
    assert app.store.quarantine.counts() == {"bad_row": 2}


def test_an_alias_and_what_was_known_before_it_over_http(app: Limner, client: Client) -> None:
    def counted(user: str, **when: Any) -> Any:
        found = client.ask("GET", f"/v1/users/{user}/portrait", params=when).json()
        return found["behaviour"]["events"]["value"]

    for day, user in enumerate(("visitor", "u", "other")):
        app.record([{**VIEW, "user_id": user, "timestamp": START + day * DAY}])
    head = app.state.position
    answer = client.ask("PUT", "/v1/users/u/alias", json={"previous_id": "visitor"})
    assert answer.json()["added"] == 1
    segment = {"type": "track", "event": "view", "userId": "visitor", "itemId": "i"}
    assert client.ask("POST", "/v1/events", json=segment).json()["added"] == 1
    assert counted("u") == counted("visitor") == {"view": 3}
    assert counted("u", at="2024-01-01T00:00:00Z") == {"view": 1}
    assert counted("u", known_at=head) == {"view": 1}
    wrong = client.ask("PUT", "/v1/users/other/alias", json={"previous_id": "visitor"})
    assert wrong.status_code == 422
    assert "another user" in wrong.json()["detail"]


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "limner.toml"
    config.write_text('clock = "events"\n[retention]\nview = "10d"\n')

    def limner(*words: str) -> Any:
        capsys.readouterr()
        code = run(["--config", str(config), "--json", *words])
        return code, json.loads(capsys.readouterr().out)

    rows = [
        {**VIEW, "user_id": user, "timestamp": START + day * DAY, "event_id": f"{user}{day}"}
        for user in ("visitor", "u") for day in (0, 20)
    ]  # fmt: skip
    (tmp_path / "events.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    assert limner("import", str(tmp_path / "events.jsonl"))[0] == 0
    assert limner("alias", "visitor", "u") == (
        0, {"added": 1, "repeated": 0, "refused": [], "as_of": 5},
    )  # fmt: skip
    code, failed = limner("alias", "visitor", "somebody")
    assert (code, failed["error"]["what"]) == (1, "the id is linked to another user already")
    code, seen = limner("portrait", "visitor", "--known-at", "2")
    assert seen["behaviour"]["events"]["value"] == {"view": 2}
    assert limner("portrait", "u")[1]["behaviour"]["events"]["value"] == {"view": 4}
    assert limner("expire")[1] == {"rows": 2, "users": 2, "items": 0}
    assert limner("portrait", "u")[1]["behaviour"]["events"]["value"] == {"view": 2}
    code, found = limner("replay", "--swap")
    assert (code, found["users"], found["different"], found["swapped"]) == (0, 1, 0, True)
    assert limner("replay", "--from", "9")[0] == 2
