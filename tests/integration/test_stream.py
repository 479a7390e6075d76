"""Changes as server-sent events, over a real socket."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.integration.test_http import serving

CONFIG = """
[train]
sequence = false

[changes]
keep = 200

[[facet]]
name = "spend"
kind = "sum"
section = "value"
label = "spend"
where = { event_type = "purchase" }
refresh = "on_event"
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("stream")
    (folder / "limner.toml").write_text(CONFIG)
    with serving(folder) as (_, url):
        yield url


def buy(url: str, *users: str) -> None:
    """Each user buys, one after the other."""
    with httpx.Client() as client:
        for user in users:
            event = {"user_id": user, "item_id": "tea", "event_type": "purchase", "value": 5.0}
            client.post(f"{url}/v1/events", json=event).raise_for_status()


def read(answer: httpx.Response) -> Iterator[dict[str, Any]]:
    """The events of a stream, as browsers take it apart, but for a slot that comes along."""
    event: dict[str, Any] = {}
    for line in answer.iter_lines():
        slot = event.get("data", {}).get("slot", "")
        if not line and "data" in event and slot != "value.spend_monthly":
            yield event
        if not line:
            event = {}
            continue
        name, _, value = line.partition(": ")
        event[name] = json.loads(value) if name == "data" else value


def some(found: Iterator[dict[str, Any]], n: int) -> list[dict[str, Any]]:
    return [next(found) for _ in range(n)]


def stream(url: str, headers: dict[str, str] | None = None, **asked: Any) -> Any:
    return httpx.stream("GET", f"{url}/v1/stream", params=asked, headers=headers, timeout=20)


def test_changes_come_as_they_happen_and_a_stream_goes_on_after_the_last(url: str) -> None:
    with stream(url) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        found = read(answer)
        begun = time.perf_counter()
        buy(url, "ann")
        (first,) = some(found, 1)
        assert time.perf_counter() - begun < 2.0
        assert first["event"] == "portrait_changed"
        assert first["data"]["user_id"] == "ann" and first["data"]["slot"] == "value.spend"
        assert int(first["id"]) == first["data"]["id"]
    buy(url, "ben")
    buy(url, "cal")
    with stream(url, headers={"Last-Event-ID": first["id"]}) as answer:
        assert [each["data"]["user_id"] for each in some(read(answer), 2)] == ["ben", "cal"]


def test_a_stream_tells_of_the_kinds_and_users_that_were_asked_for(url: str) -> None:
    with stream(url, user=["dora"], kind="portrait_changed") as answer:
        found = read(answer)
        buy(url, "ann")
        buy(url, "dora")
        assert next(found)["data"]["user_id"] == "dora"
    answer = httpx.get(f"{url}/v1/stream", params={"kind": "nothing"})
    assert answer.status_code == 422
    answer = httpx.get(f"{url}/v1/stream", headers={"Last-Event-ID": "x"})
    assert answer.status_code == 400 and "Last-Event-ID" in answer.json()["detail"]


def test_a_reader_that_reads_nothing_holds_up_nobody(url: str) -> None:
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as lazy:
        lazy.sendall(b"GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        with stream(url, user=["eve"]) as answer:
            found = read(answer)
            buy(url, *(f"u{n % 7}" for n in range(120)), "eve")  # more changes than are kept
            assert next(found)["data"]["user_id"] == "eve"


def test_what_the_bound_let_go_of_is_said(url: str) -> None:
    buy(url, *(f"v{n}" for n in range(110)))
    with stream(url, after=1) as answer:
        first, second = some(read(answer), 2)
    assert first["event"] == "missed"
    assert int(second["id"]) > 1


def test_silence_is_broken_by_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    from limner import config
    from limner.app import Limner
    from limner.serve import stream as streaming

    monkeypatch.setattr(streaming, "HEARTBEAT_SECONDS", 0.01)

    async def heard(app: Limner) -> list[bytes]:
        streams = streaming.Streams(app.following.news)
        streams.attach()
        parts = []
        async for part in streaming._events(app, streams, 0, None, None):
            parts.append(part)
            if len(parts) == 3:
                streams.end()
        assert streams.open == 0
        return parts

    with Limner.open(config=config.parse({"store": "memory:"})) as app:
        _, *beats = asyncio.run(heard(app))
    assert beats == [b": still here\nid: 0\n\n"] * 2


def test_a_server_that_stops_ends_its_streams(tmp_path: Path) -> None:
    (tmp_path / "limner.toml").write_text(CONFIG)
    with serving(tmp_path) as (process, url), stream(url) as answer:
        found = read(answer)
        buy(url, "ann")
        next(found)
        process.send_signal(signal.SIGTERM)
        begun = time.perf_counter()
        assert list(found) == []
        assert time.perf_counter() - begun < 5.0
        assert process.wait(20) == 0
