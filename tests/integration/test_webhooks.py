"""Webhooks against real servers on loopback: those that answer, fail, recover and hang."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from limner.app import Limner, delivering
from limner.app.delivering import Deliveries
from limner.cli import run
from limner.config import parse
from limner.errors import ConfigError, NotFound
from limner.profile.webhooks import new_secret

SECRET = new_secret()
FACET = {"name": "days_since_last", "kind": "recency", "section": "behaviour", "label": "last"}


@dataclass
class Target:
    """A server that answers with `status`, after `seconds`."""

    status: int = 204
    seconds: float = 0.0
    url: str = ""
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.got]

    @property
    def users(self) -> list[str]:
        return [json.loads(body)["data"]["user_id"] for _, body in self.got]


@contextmanager
def listening() -> Iterator[Target]:
    target = Target()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            target.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
            time.sleep(target.seconds)
            self.send_response(target.status)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    target.url = f"http://127.0.0.1:{server.server_port}/hooks"
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    try:
        yield target
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def target() -> Iterator[Target]:
    with listening() as found:
        yield found


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivering, "FIRST_WAIT", 0.02)
    monkeypatch.setattr(delivering, "LONGEST_WAIT", 0.1)
    monkeypatch.setattr(delivering, "LOOK_SECONDS", 0.05)


def settings(folder: Path, *hooks: dict[str, Any]) -> dict[str, Any]:
    return {
        "store": f"sqlite:///{folder / 'shop.db'}",
        "facet": [FACET],
        "changes": {"shift": 0, "turn": 0},
        "audiences": {"here": "behaviour.days_since_last < 1000"},  # one change a user
        "webhooks": [{"secret": SECRET, **hook} for hook in hooks],
    }


@contextmanager
def delivering_to(folder: Path, *hooks: dict[str, Any]) -> Iterator[Limner]:
    with Limner.open(config=parse(settings(folder, *hooks))) as app:
        threads = Deliveries(app)
        threads.start()
        try:
            yield app
        finally:
            threads.stop()


def see(app: Limner, *users: str) -> None:
    for user in users:
        app.record([{"user_id": user, "item_id": "tea", "event_type": "view"}])


def until(true: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_changes_arrive_signed_and_in_order(tmp_path: Path, target: Target) -> None:
    with delivering_to(tmp_path, {"name": "shop", "url": target.url}) as app:
        see(app, "ann", "ben", "cal")
        until(lambda: len(target.got) == 3)
        until(lambda: delivering.deliveries(app)[0].behind == 0)
        changes = app.changes().changes
    assert target.users == ["ann", "ben", "cal"]
    assert len(set(target.ids)) == 3
    for (headers, body), change in zip(target.got, changes, strict=True):
        # as a receiver verifies it, from the text of Standard Webhooks
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{body.decode()}".encode()
        key = base64.b64decode(SECRET.removeprefix("whsec_"))
        digest = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{digest}"
        assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
        assert headers["content-type"] == "application/json"
        told = json.loads(body)
        assert told["type"] == change.kind and told["data"]["id"] == change.id


def test_a_target_that_hangs_holds_up_nobody_else(tmp_path: Path, target: Target) -> None:
    with listening() as hangs:
        hangs.seconds = 30.0
        hooks = (
            {"name": "hangs", "url": hangs.url, "timeout": 0.2, "tries": 1000},
            {"name": "shop", "url": target.url},
        )
        with delivering_to(tmp_path, *hooks) as app:
            see(app, "ann")
            until(lambda: hangs.got)
            begun = time.perf_counter()
            see(app, "ben", "cal", "dora")
            until(lambda: len(target.got) == 4)
            assert time.perf_counter() - begun < 5.0
            until(lambda: len(hangs.got) > 2)  # its time-out ends each try
            assert set(hangs.users) == {"ann"} and len(set(hangs.ids)) == 1
            slow, well = delivering.deliveries(app)
            assert (slow.behind, well.dead) == (4, 0) and slow.error == "ReadTimeout"


def test_one_that_fails_then_recovers_has_everything_over_a_restart(
    tmp_path: Path, target: Target
) -> None:
    hook = {"name": "shop", "url": target.url, "tries": 1000}
    target.status = 503
    with delivering_to(tmp_path, hook) as app:
        see(app, "ann", "ben")
        until(lambda: len(target.got) >= 3)
    failed = delivering_state(tmp_path, hook)
    assert failed.tries >= 2 and failed.last == 0 and failed.error == "status 503"
    first = set(target.ids)
    assert len(first) == 1
    with delivering_to(tmp_path, hook) as app:
        see(app, "cal")
        target.status = 200
        target.got.clear()
        until(lambda: len(set(target.ids)) == 3)
        until(lambda: delivering.deliveries(app)[0].behind == 0)
    assert list(dict.fromkeys(target.users)) == ["ann", "ben", "cal"]
    assert target.ids[0] in first
    target.got.clear()
    with delivering_to(tmp_path, hook):
        time.sleep(0.2)
    assert target.got == []


def delivering_state(folder: Path, hook: dict[str, Any]) -> delivering.Delivery:
    with Limner.open(config=parse(settings(folder, hook)), write=False) as app:
        return delivering.deliveries(app)[0]


def test_what_is_dead_is_listed_sent_anew_and_erased(
    tmp_path: Path, target: Target, capsys: pytest.CaptureFixture[str]
) -> None:
    hook = {"name": "shop", "url": target.url, "tries": 3}
    target.status = 500
    with delivering_to(tmp_path, hook) as app:
        see(app, "ann", "ben", "cal")
        until(lambda: delivering.deliveries(app)[0].dead == 3)
        assert target.users == ["ann"] * 3 + ["ben"] * 3 + ["cal"] * 3
        ids = list(dict.fromkeys(target.ids))
        assert [each.change.user_id for each in delivering.dead(app, "shop")] == [
            "ann",
            "ben",
            "cal",
        ]
        assert app.erase("ben").removed["dead letters"] == 1
        assert len(delivering.dead(app, "shop")) == 2
        with pytest.raises(NotFound):
            delivering.redeliver(app, "shop", 99)
        with pytest.raises(NotFound):
            delivering.redeliver(app, "shopp")
    toml = (
        f'store = "sqlite:///shop.db"\n[[webhooks]]\nname = "shop"\nurl = "{target.url}"\n'
        f'secret = "{SECRET}"\n'
    )
    (tmp_path / "limner.toml").write_text(toml)
    given = ["--config", str(tmp_path / "limner.toml"), "--json", "webhooks"]
    capsys.readouterr()
    assert run([*given, "dead", "shop"]) == 0
    letters = json.loads(capsys.readouterr().out)["letters"]
    assert [each["error"] for each in letters] == ["status 500"] * 2
    assert run([*given, "list"]) == 0
    assert json.loads(capsys.readouterr().out)["webhooks"][0]["dead"] == 2
    assert run([*given, "redeliver", "shop"]) == 0
    assert json.loads(capsys.readouterr().out) == {"redelivered": 2}
    target.status = 200
    target.got.clear()
    with delivering_to(tmp_path, hook) as app:
        until(lambda: not delivering.dead(app, "shop"))
    assert target.users == ["ann", "cal"]
    assert target.ids == [ids[0], ids[2]]


def test_a_webhook_is_told_only_of_its_kinds(tmp_path: Path, target: Target) -> None:
    hook = {"name": "shop", "url": target.url, "kinds": ["audience_left"]}
    with delivering_to(tmp_path, hook) as app:
        see(app, "ann")
        until(lambda: delivering.deliveries(app)[0].behind == 0)
    assert target.got == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"secret": ""},
        {"secret": "whsec_c2hvcnQ="},
        {"secret": "", "secret_env": "NOT_THERE"},
        {"url": "shop.example"},
        {"kinds": ["nothing"]},
        {"tries": 0},
        {"timeout": 0.0},
        {"name": "a b"},
        {"colour": "red"},
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    hook = {"name": "shop", "url": "https://shop.example", **wrong}
    with pytest.raises(ConfigError):
        parse(settings(tmp_path, hook))


def test_the_secret_may_lie_in_a_variable(tmp_path: Path) -> None:
    hook = {"name": "shop", "url": "https://shop.example", "secret": "", "secret_env": "HOOK"}
    (found,) = parse(settings(tmp_path, hook), environment={"HOOK": SECRET}).webhooks
    assert found.secret == SECRET
