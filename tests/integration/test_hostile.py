"""Requests as nobody should send them: each is answered clearly, and the server goes on."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from tests.integration.test_http import serving

from limner.app import Limner
from limner.config import load
from limner.serve import bounds, connection
from limner.serve.http import api
from limner.serve.problems import MEDIA_TYPE
from limner.serve.server import _listen
from limner.sources.payloads import MAX_BYTES

JSON = "application/json"
LINES = "application/x-ndjson"
GOOD = b'{"user_id": "good", "item_id": "i", "event_type": "view", "event_id": "%d"}'
BAD = [
    b'{"user_id": "b", "event_type": "view", "item_id": "i", "value": NaN}',
    b'{"user_id": "b", "event_type": "view", "item_id": "i", "value": 1e400}',
    b'{"user_id": "b", "event_type": "view", "item_id": "i", "value": 1' + b"0" * 400 + b"}",
    b'{"user_id": "b", "event_type": "view", "item_id": "i", "timestamp": %d}' % 2**70,
    b'{"user_id": "b", "event_type": "view", "item_id": "i", "timestamp": -1e308}',
    b'{"user_id": "b", "event_type": "view", "item_id": "i", "user_id": "c"}',
    b'{"user_id": "\\ud800", "event_type": "view", "item_id": "i"}',
    b'{"user_id": "caf\xe9", "event_type": "view", "item_id": "i"}',
    b'{"user_id": "b", "event_type": "view", "x": ' + b"[" * 200 + b"]" * 200 + b"}",
    b'{"user_id": {"id": 1}, "event_type": "view"}',
    b'{"event_type": "$item"}',
    b"null",
    b"[]",
    b'""',
]
SESSION = {"item_id": "i", "event_type": "view"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "limner.toml").write_text("[train]\nsequence = false\n")
    with serving(folder) as (_, url), httpx.Client(base_url=url, timeout=30) as client:
        yield client


def assert_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == MEDIA_TYPE
    said: dict[str, Any] = answer.json()
    assert said["status"] == status and said["title"] and said["detail"]
    return said


@pytest.mark.parametrize("kind", [JSON, LINES])
def test_the_good_ones_are_kept(client: httpx.Client, kind: str) -> None:
    events, wrong = [], []
    for number, bad in enumerate(BAD):
        events += [GOOD % number, bad]
        wrong.append(len(events))
    body = b"\n".join(events) if kind == LINES else b"[" + b",".join(events) + b"]"
    answer = client.post("/v1/events", content=body, headers={"Content-Type": kind})
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert said["added"] + said["repeated"] == len(BAD)
    assert [row["line"] for row in said["refused"]] == wrong
    assert all("to mend it" in row["reason"] for row in said["refused"])
    held = client.get("/v1/quarantine", params={"limit": 1000}).json()["rows"]
    assert {row["line"] for row in held} >= set(wrong)
    alone = client.post("/v1/events", content=BAD[0], headers={"Content-Type": kind})
    assert assert_problem(alone, 422)["refused"]
    seen = client.get("/v1/users/good/portrait").json()
    assert seen["behaviour"]["events"]["value"] == {"view": len(BAD)}
    assert client.get("/v1/users/b/portrait").status_code == 404


def test_what_could_not_be_read_is_held_each_time_it_is_another(client: httpx.Client) -> None:
    def held() -> int:
        return int(client.get("/v1/quarantine").json()["counts"].get("bad_json", 0))

    before = held()
    for body in (b'[{"a": NaN}]', b'[{"b": NaN}]', b'[{"a": NaN}]'):
        assert_problem(client.post("/v1/events", content=body), 422)
    assert held() == before + 2


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (b"", JSON, "empty"),
        (b" \n ", LINES, "empty"),
        (b"{", JSON, "no JSON"),
        (b"[" * 100_000, JSON, "no JSON"),
        (b'{"a":' * 100_000, JSON, "no JSON"),
        (GOOD.decode().encode("utf-16"), JSON, "UTF-16"),
        (gzip.compress(GOOD), JSON, "no JSON"),
        (b"user_id=u&item_id=i", "application/x-www-form-urlencoded", "its type is"),
        (b"--x\r\nuser_id\r\n--x--", "multipart/form-data; boundary=x", "its type is"),
        (b"<event/>", "text/xml", "its type is"),
        (b'{"user_id": "\x00"}', JSON, ""),
    ],
)
def test_a_body_that_cannot_be_read(
    client: httpx.Client, body: bytes, kind: str, said: str
) -> None:
    for path in ("/v1/events", "/v1/recommendations", "/v1/validate"):
        answer = client.post(path, content=body, headers={"Content-Type": kind})
        if said:
            found = assert_problem(answer, 400)
            assert said in found["detail"] and found["mend"] and path in found["where"]
        else:
            assert answer.status_code < 500


def test_a_session_of_anything_gets_an_answer(client: httpx.Client) -> None:
    for bad in [*BAD, b'{"event_type": "$item", "item_id": "z"}']:
        answer = client.post("/v1/recommendations", content=bad)
        assert answer.status_code in (200, 422), answer.text


def test_bodies_that_are_too_large_or_compressed_are_refused(client: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        while True:
            yield b" " * (1 << 20)

    for path, method in (("/v1/events", "POST"), ("/v1/items/x", "PUT"), ("/nowhere", "POST")):
        with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as one:
            one.sendall(
                f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n"
                f"Content-Length: {MAX_BYTES + 1}\r\n\r\n".encode()
            )
            one.settimeout(5)
            assert b" 413 " in one.recv(100)  # at once, and without a byte of the body
        compressed = client.request(
            method, path, content=gzip.compress(b"{}"), headers={"Content-Encoding": "gzip"}
        )
        assert "mend" in assert_problem(compressed, 415)
    for headers in ({}, {"Idempotency-Key": "large"}):
        answer = client.post("/v1/events", content=chunks(), headers=headers)
        assert assert_problem(answer, 413)["mend"]


@pytest.mark.parametrize(
    "head",
    [
        b"nonsense\r\n\r\n",
        b"GET /v1/train HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_what_is_no_http_is_told_so(client: httpx.Client, head: bytes) -> None:
    with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as one:
        one.settimeout(5)
        one.sendall(head)
        answer = b""
        while part := one.recv(10_000):
            answer += part
    assert answer.startswith(b"HTTP/1.1 4"), answer
    assert MEDIA_TYPE.encode() in answer
    assert client.get("/health/live").status_code == 200


def test_a_head_without_end_is_cut_off(client: httpx.Client) -> None:
    with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as one:
        one.sendall(b"GET /v1/train HTTP/1.1\r\nHost: localhost\r\n")
        sent = 0
        with pytest.raises(OSError):
            while sent < 64 << 20:
                sent += one.send(b"X-Y: z\r\n" * 1_000)
    assert client.get("/health/live").status_code == 200


# -- slow clients ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """A server that waits for nobody longer than a moment; its address."""
    folder = tmp_path_factory.mktemp("hasty")
    (folder / "limner.toml").write_text("[serve]\nport = 0\n")
    config = load(folder / "limner.toml")
    with (
        pytest.MonkeyPatch.context() as patch,
        Limner.open(config=config) as app,
        _listen(config) as listening,
    ):
        patch.setattr(connection, "HEAD_SECONDS", 0.4)
        patch.setattr(connection, "READ_SECONDS", 0.4)
        patch.setattr(bounds, "BODY_SECONDS", 0.4)
        answering = api(app)
        server = uvicorn.Server(
            uvicorn.Config(answering, http=connection.Connection, log_level="error", lifespan="off")
        )
        thread = threading.Thread(
            target=lambda: asyncio.run(server.serve(sockets=[listening])), daemon=True
        )
        thread.start()
        yield listening.getsockname()[:2]
        server.should_exit = True
        thread.join()
        answering.state.lots.close()


HEAD = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"


@pytest.mark.parametrize(
    ("first", "drip", "status"),
    [
        (b"", b"", b" 408 "),
        (b"GET /v1/tr", b"x", b" 408 "),
        (HEAD[:40], b"X-A: b\r\n", b" 408 "),
        (HEAD, b"", b" 408 "),
        (HEAD, b"{", b" 408 "),
        (HEAD.replace(b"localhost", b"evil.example"), b" ", b" 403 "),
        (b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n", b"G", b" 200 "),
    ],
)
def test_a_slow_client_is_let_go(
    hasty: tuple[str, int], first: bytes, drip: bytes, status: bytes
) -> None:
    started = time.monotonic()
    with socket.create_connection(hasty) as one:
        one.settimeout(0.05)
        one.sendall(first)
        answer = b""
        while time.monotonic() - started < 5:
            try:
                one.sendall(drip)
                part = one.recv(1000)
            except TimeoutError:
                continue
            except OSError:
                break
            if not part:
                break
            answer += part
        else:
            raise AssertionError("the connection was kept")
    assert status in answer.partition(b"\r\n")[0]


def test_an_answer_that_nobody_reads_is_given_up(hasty: tuple[str, int]) -> None:
    ask = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.connect(hasty)
        one.settimeout(1)
        lost = False
        for _ in range(200):
            try:
                one.sendall(ask * 50)
            except OSError:
                lost = True
                break
            time.sleep(0.02)
        assert lost
    with httpx.Client(base_url=f"http://{hasty[0]}:{hasty[1]}") as client:
        assert client.get("/health/live").status_code == 200


# -- too much at once ------------------------------------------------------------------------


def test_a_full_queue_says_so_at_once_and_loses_nothing(tmp_path: Path) -> None:
    """What was taken in is answered; what was not can be sent again."""
    (tmp_path / "limner.toml").touch()
    with Limner.open(config=load(tmp_path / "limner.toml")) as app:
        answering = api(app)
        events = answering.state.lots.events
        may_go = threading.Event()
        work: Callable[..., Any] = events._work

        def slowly(bodies: list[Any]) -> Any:
            may_go.wait(10)
            return work(bodies)

        events._work, events._room = slowly, 3_000

        async def send() -> list[httpx.Response]:
            transport = httpx.ASGITransport(answering)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as own:

                async def one(number: int) -> httpx.Response:
                    event = json.loads(GOOD % number) | {"note": "x" * 900}
                    answer = await own.post("/v1/events", json=event)
                    if answer.status_code == 429:
                        may_go.set()
                    return answer

                return await asyncio.gather(*(one(n) for n in range(12)))

        answers = asyncio.run(send())
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {200, 429}
        for answer in answers:
            if answer.status_code == 429:
                assert assert_problem(answer, 429)["mend"]
                assert int(answer.headers["Retry-After"]) >= 1
        answering.state.lots.close()
        assert app.state.position == statuses.count(200)
