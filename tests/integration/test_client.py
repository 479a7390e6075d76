"""The Python client over a real socket: against `limner serve`, and against servers that fail."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from tests.integration import shop
from tests.integration.test_http import CONFIG, event, serving

from limner import app
from limner.cli import run
from limner.client import AllRefused, AsyncClient, Busy, Client, Retries, Unreachable, values
from limner.errors import ExpressionError, InputError, LimnerError, NotFound, UsageError
from limner.events.raw import RefusedEvent
from limner.explain.reasons import Reason
from limner.explain.why import Why
from limner.profile.choices import Choices
from limner.profile.facet import Slot
from limner.profile.interaction import Interaction, Together
from limner.profile.population import Mark
from limner.profile.portrait import Portrait, Sentence, Written
from limner.recommend.rank import Recommendation, Recommendations, Step
from limner.recommend.similar import SimilarItem, SimilarItems
from limner.serve.answers import Accepted, Group, Live, Ready

QUICK = Retries(times=4, first=0.01, most=0.05)


def free_port() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return str(taken.getsockname()[1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    shop.write(folder)
    (folder / "limner.toml").write_text(CONFIG)
    files = [str(folder / "events.csv"), "--items", str(folder / "items.csv")]
    assert run(["--config", str(folder / "limner.toml"), "import", *files]) == 0
    return folder


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with serving(folder) as (_, url):
        yield url


@pytest.mark.parametrize(
    "cls",
    [
        RefusedEvent, Accepted, Slot, Sentence, Written, Portrait, Step, Reason, Recommendation,
        Recommendations, Together, Interaction, Why, SimilarItem, SimilarItems, Mark, Group,
        app.Erased, Choices, Ready, Live,
    ],
    ids=lambda cls: cls.__name__,
)  # fmt: skip
def test_an_answer_has_the_fields_that_the_app_gives_it(cls: type[Any]) -> None:
    assert is_dataclass(cls)
    ours = msgspec.structs.fields(getattr(values, cls.__name__))
    assert [field.name for field in ours] == [field.name for field in fields(cls)]


def test_events_in_portrait_list_and_reasons_out(url: str) -> None:
    with Client(url) as limner:
        done = limner.record(
            [event("ann/1", f"tea-{n}", value=2.5, group_id="b") for n in range(3)]
        )
        assert (done.added, done.refused) == (3, [])
        portrait = limner.portrait("ann/1", written="en")
        assert portrait.as_of == done.as_of and portrait.written is not None
        spend = portrait.slot("value.spend")
        assert spend is not None and spend.value == pytest.approx(7.5)
        assert portrait.slot("value.none") is None

        listed = limner.recommend("ann/1", 4, explain=True, by=["portrait"], repeats=False)
        assert [item.rank for item in listed.items] == [1, 2, 3, 4]
        for item in listed.items:
            assert sum(item.parts.values()) == pytest.approx(item.score)
        assert listed.items[0].reasons[0].effect > 0
        why = limner.why("ann/1", listed.items[0].item_id, by=["portrait"], repeats=False)
        assert why.rank == 1

        again = limner.recommend_session(
            [{"item_id": "tea-0", "event_type": "purchase"}], 3, by=["portrait"]
        )
        assert len(again.items) == 3 and again.user_id == ""
        assert limner.similar("tea-0", 3).items[0].item_id.startswith("tea")
        assert limner.put_item("tea-new", {"category": "tea", "price": 2}).added == 1
        assert limner.delete_item("tea-new").added == 1
        assert limner.put_user("ann/1", {"city": "Ghent"}).added == 1
        assert limner.choose("ann/1", off=["value.spend"]).off == ("value.spend",)
        assert limner.choices("ann/1").off == ("value.spend",)
        assert limner.portrait("ann/1").slot("value.spend") is None
        assert limner.put_alias("ann/1", "visitor-1").added == 1

        group = limner.audience("behaviour.days_since_last >= 0", limit=2)
        assert group.count > 2 and len(group.users) == 2
        after = limner.audience("behaviour.days_since_last >= 0", limit=2, cursor=group.cursor)
        assert not set(after.users) & set(group.users)
        assert limner.ready().position == limner.portrait("ann/1").as_of
        assert limner.live().status == "live"
        assert all(limner.erase("ann/1").clean.values())
        with pytest.raises(NotFound) as told:
            limner.erase("ann/1")
        assert told.value.mend and told.value.problem is not None
        assert told.value.problem["status"] == 404


def test_both_clients_answer_the_same(url: str) -> None:
    async def ask() -> list[Any]:
        async with AsyncClient(url) as limner:
            await limner.record(event("eve", "tea-1", event_id="e1", timestamp="2024-01-01"))
            listed = await limner.recommend("u0", 3, log=False, by=["portrait"])
            return [listed.items, await limner.choices("u0"), await limner.similar("tea-1", 2)]

    found = asyncio.run(ask())
    with Client(url) as limner:
        listed = limner.recommend("u0", 3, log=False, by=["portrait"])
        assert found == [listed.items, limner.choices("u0"), limner.similar("tea-1", 2)]
        once = limner.record(event("eve", "tea-1", event_id="e1", timestamp="2024-01-01"))
        assert (once.added, once.repeated) == (0, 1)


def test_what_is_wrong_is_said_as_the_server_says_it(url: str) -> None:
    wrong = event("u0", "tea-1", timestamp="soon")
    with Client(url) as limner:
        with pytest.raises(AllRefused) as told:
            limner.record([wrong, wrong])
        assert [row.line for row in told.value.refused] == [1, 2]
        mixed = limner.record([event("u0", "tea-1"), wrong])
        assert (mixed.added, [row.line for row in mixed.refused]) == (1, [2])
        with pytest.raises(ExpressionError) as unread:
            limner.audience("value.spend >")
        assert unread.value.where == "column 14"
        with pytest.raises(UsageError, match="no JSON form"):
            limner.put_user("u0", {"of": object()})
        with pytest.raises(InputError, match="no event"):
            limner.record(["u0"])  # type: ignore[list-item]
    with pytest.raises(UsageError, match="closed"):
        limner.live()
    with pytest.raises(UsageError, match="no URL"):
        Client("localhost:8088")


def test_a_request_under_the_same_key_is_answered_as_it_was(url: str, folder: Path) -> None:
    def post(key: str, body: Any, path: str = "/v1/events") -> httpx.Response:
        return httpx.post(url + path, json=body, headers={"Idempotency-Key": key})

    first = post("k1", event("kim", "tea-1", event_id="kim-1"))
    again = post("k1", event("kim", "tea-1", event_id="kim-1"))
    assert first.json()["added"] == 1 and again.content == first.content
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    assert post("k2", event("kim", "tea-1", event_id="kim-1")).json()["repeated"] == 1
    other = post("k1", event("kim", "tea-2", event_id="kim-1"))
    assert other.status_code == 422 and other.json()["type"] == "urn:limner:error:idempotency"
    assert post("x" * 256, event("kim", "tea-1")).status_code == 400
    refused = [post("k3", event("kim", "tea", timestamp="soon")) for _ in range(2)]
    assert [each.status_code for each in refused] == [422, 422]
    assert refused[0].content == refused[1].content
    # a path is part of it, and what was refused for now is tried anew
    assert post("k1", None, "/v1/users/lee/erase").status_code == 404
    assert post("k4", event("lee", "tea")).json()["added"] == 1
    receipts = [post("k1", None, "/v1/users/lee/erase") for _ in range(2)]
    assert receipts[0].status_code == 200 and receipts[0].content == receipts[1].content
    assert post("k1", event("kim", "tea-1", event_id="kim-1")).status_code == 409

    async def together() -> set[bytes]:
        async with httpx.AsyncClient() as http:
            asked = [
                http.put(url + "/v1/items/t9", json={"a": 1}, headers={"Idempotency-Key": "k"})
                for _ in range(8)
            ]
            return {answer.content for answer in await asyncio.gather(*asked)}

    assert len(asyncio.run(together())) == 1


def test_events_in_line_are_sent_in_batches_and_by_time(url: str) -> None:
    with Client(url, batch=10, every=0.05) as limner:
        before = limner.ready().position
        for n in range(25):
            limner.add(event(f"line-{n % 3}", "tea-2"))
        limner.add(event("line-0", "tea-2", timestamp="soon"))
        done = limner.flush()
        assert (done.added, [row.line for row in done.refused]) == (25, [26])
        assert limner.flush().added == 0
        limner.add(event("line-0", "tea-3"))
        for _ in range(200):
            if limner.ready().position == before + 26:
                break
            threading.Event().wait(0.01)
        assert limner.ready().position == before + 26
        limner.add(event("line-0", "tea-4"))
    with Client(url) as limner:  # closing sent the last
        assert limner.ready().position == before + 27

    async def add() -> values.Accepted:
        async with AsyncClient(url, batch=10, every=0.05) as limner:
            for n in range(25):
                await limner.add(event(f"line-{n % 3}", "tea-2"))
            return await limner.flush()

    assert asyncio.run(add()).added == 25


def test_a_restart_in_between_loses_nothing_and_counts_nothing_twice(folder: Path) -> None:
    port = free_port()
    here = folder / "again"
    here.mkdir()
    shop.write(here)
    (here / "limner.toml").write_text(CONFIG)
    patient = Retries(times=40, first=0.05, most=0.25)
    client = Client(f"http://127.0.0.1:{port}", retries=patient, every=0.02, batch=7)
    with serving(here, "--port", port):
        client.record(event("a", "tea"))
        for n in range(50):
            client.add(event("a", f"tea-{n}", value=1.0))
    for n in range(50):  # nobody answers
        client.add(event("a", f"soap-{n}", value=1.0))
    with serving(here, "--port", port), client:
        done = client.flush()
        assert (done.added + done.repeated, done.refused) == (100, [])
        assert client.ready().position == 101


class Failing(BaseHTTPRequestHandler):
    """Answers what `answers` says in turn, then that all was taken."""

    protocol_version = "HTTP/1.1"
    answers: list[tuple[int, dict[str, str]]]
    seen: list[tuple[str, Any]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((self.headers["Idempotency-Key"], json.loads(body)))
        status, headers = self.answers.pop(0) if self.answers else (200, {})
        if status == 0:
            self.close_connection = True
            return
        problem = {"title": "Full", "status": status, "detail": "full", "mend": "wait"}
        accepted = {"added": 1, "repeated": 0, "refused": [], "as_of": 1}
        content = json.dumps(accepted if status == 200 else problem).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@contextmanager
def failing(*answers: tuple[int, dict[str, str]]) -> Iterator[tuple[str, type[Failing]]]:
    class Here(Failing):
        pass

    Here.answers, Here.seen = list(answers), []
    with ThreadingHTTPServer(("127.0.0.1", 0), Here) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", Here
        finally:
            server.shutdown()


def test_what_is_refused_for_now_comes_again_as_the_same_request() -> None:
    with failing((429, {"Retry-After": "0"}), (503, {}), (0, {}), (502, {})) as (url, server):
        with Client(url, retries=Retries(times=5, first=0.01)) as limner:
            assert limner.record({"user_id": "u", "event_type": "view"}).added == 1
        keys, bodies = zip(*server.seen, strict=True)
        assert len(keys) == 5 and len(set(keys)) == 1 and keys[0]
        assert all(body == bodies[0] for body in bodies)
        assert bodies[0][0]["event_id"] and bodies[0][0]["timestamp"] > 1e15


def test_the_server_says_how_long_to_wait() -> None:
    import time

    with failing((429, {"Retry-After": "1"})) as (url, _), Client(url, retries=QUICK) as limner:
        began = time.monotonic()
        limner.record({"user_id": "u", "event_type": "view"})
        assert time.monotonic() - began >= 1.0
    with failing((429, {"Retry-After": "3600"})) as (url, server), Client(url) as limner:
        with pytest.raises(Busy) as told:
            limner.record({"user_id": "u", "event_type": "view"})
        assert told.value.mend == "wait" and len(server.seen) == 1


def test_what_will_never_do_is_not_tried_again_and_a_line_keeps_what_was_not_sent() -> None:
    with failing((500, {})) as (url, server), Client(url, retries=QUICK) as limner:
        with pytest.raises(LimnerError):
            limner.record({"user_id": "u", "event_type": "view"})
        assert len(server.seen) == 1
    away = Client(f"http://127.0.0.1:{free_port()}", retries=Retries(times=2, first=0.01), every=60)
    away.add({"user_id": "u", "event_type": "view"})
    with pytest.raises(Unreachable, match="ConnectError"):
        away.flush()
    with pytest.raises(Unreachable):  # it still waits
        away.close()
