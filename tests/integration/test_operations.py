"""What a running server says of itself: metrics, a line a request, spans, and its status."""

from __future__ import annotations

import json
import logging
import re
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from tests.integration import shop
from tests.integration.test_http import CONFIG, event, serving

from limner import config
from limner.app import Limner
from limner.cli import run
from limner.serve import http
from limner.serve.http import api
from limner.serve.speech import quietly

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    shop.write(folder)
    (folder / "limner.toml").write_text(CONFIG + '[serve]\nlog = "json"\napi_key = "k"\n')
    files = [str(folder / "events.csv"), "--items", str(folder / "items.csv")]
    assert run(["--config", str(folder / "limner.toml"), "import", *files]) == 0
    return folder


def samples(text: str) -> Samples:
    return {
        (one.name, frozenset(one.labels.items())): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    return found.get((name, frozenset(labels.items())), 0.0)


def test_a_server_counts_what_it_does_and_logs_a_line_a_request(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "anna@example.org"
    asked = 0
    with serving(folder) as (process, url):
        with httpx.Client(base_url=url, headers={"X-API-Key": "k"}) as client:
            before = samples(client.get("/metrics").text)
            events = [event(secret, f"tea-{n}", event_id=f"m{n}") for n in range(3)]
            wrong = event(secret, "tea-1", timestamp="soon")
            for body in (events, [*events, wrong]):
                told = client.post("/v1/events", json=body, headers={"X-Request-Id": "mine-1"})
                assert told.headers["X-Request-Id"] == "mine-1"
            assert told.headers["Limner-As-Of"] == str(told.json()["as_of"])
            client.get(f"/v1/users/{secret}/portrait")
            listed = client.get(f"/v1/users/{secret}/recommendations")
            assert listed.headers["Limner-As-Of"] == str(listed.json()["as_of"])
            client.get("/v1/users/nobody-at-all/portrait")
            client.get(f"/{secret}")
            client.request("PROPFIND", "/v1/status")
            assert httpx.get(url + "/metrics").status_code == 401
            asked = 10
            text = client.get("/metrics").text
            now = samples(text)
            status = client.get("/v1/status").json()
            asked += 1
        monkeypatch.setenv("LIMNER_API_KEY", "k")
        given = ["--config", str(folder / "limner.toml"), "status", "--url", url]
        assert run([*given, "--json"]) == 0
        same = json.loads(capsys.readouterr().out)
        assert run(given) == 0
        said = capsys.readouterr().out
        asked += 2
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        assert process.stderr is not None
        written = process.stderr.read()
    lines = [json.loads(line) for line in written.splitlines()]

    assert secret not in text and "nobody" not in text
    count = "limner_request_seconds_count"
    portrait = "/v1/users/{user_id}/portrait"
    assert value(now, count, method="POST", route="/v1/events", status="200") == 2
    assert value(now, count, method="GET", route=portrait, status="200") == 1
    assert value(now, count, method="GET", route=portrait, status="404") == 1
    assert value(now, count, method="GET", route="none", status="404") == 1
    assert value(now, count, method="GET", route="none", status="401") == 1
    assert value(now, count, method="other", route="none", status="405") + value(
        now, count, method="other", route="/v1/status", status="405"
    ) == 1  # fmt: skip
    outcomes = {
        outcome: value(now, "limner_events_total", outcome=outcome)
        for outcome in ("recorded", "repeated", "refused")
    }
    assert outcomes == {"recorded": 3, "repeated": 3, "refused": 1}
    assert value(now, "limner_freshness_seconds_count") == 2  # both came before the portrait
    assert value(now, "limner_score_seconds_count") == 1
    assert value(now, "limner_commit_seconds_count") >= 2
    assert value(now, "limner_position") == value(before, "limner_position") + 4  # the list too
    assert value(now, "limner_users") == value(before, "limner_users") + 1
    assert value(now, "limner_waiting", queue="events") == 0
    assert value(now, "limner_disk_bytes", part="log") > 10_000
    assert value(now, "process_resident_memory_bytes") > 1e7
    assert value(now, "limner_quarantined") == value(before, "limner_quarantined") + 1

    assert status["position"] == status["operations"]["position"] == value(now, "limner_position")
    assert status["waiting"] == {"events": 0, "portraits": 0, "lists": 0}
    assert status["operations"]["snapshot_behind"] is not None
    assert same["operations"]["disk"] == status["operations"]["disk"]
    assert "0 events" in said and "snapshot" in said and "disk" in said

    assert all(secret not in json.dumps(line) for line in lines)
    requests = [line for line in lines if "route" in line]
    assert len(requests) == asked
    one = next(line for line in requests if line["route"] == "/v1/events")
    assert one == {
        "time": one["time"], "level": "info", "method": "POST", "route": "/v1/events",
        "status": 200, "ms": one["ms"], "request_id": "mine-1",
    }  # fmt: skip
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", one["time"]) and one["ms"] > 0


def opened(**serve: Any) -> Limner:
    return Limner.open(config=config.parse({"store": "memory:", "serve": serve}))


def test_every_route_has_its_own_name_and_nothing_else_has_one() -> None:
    with opened() as app, TestClient(api(app), base_url="http://localhost") as client:
        client.post("/v1/events", json=event("u1", "tea"))
        for path in ("/v1/users/u1/why/tea", "/v1/items/tea/similar", "/%2e%2e/x", "/v1/nothing"):
            client.get(path)
        found = samples(client.get("/metrics").text)
        routes = {
            dict(labels)["route"]
            for name, labels in found
            if name.endswith("request_seconds_count")
        }
        assert routes == {
            "none", "/v1/events", "/v1/users/{user_id}/why/{item_id}",
            "/v1/items/{item_id}/similar",
        }  # fmt: skip


def test_a_request_that_fails_inside_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened() as app:
        monkeypatch.setattr(http, "moment", lambda *_: 1 / 0)
        there = api(app)
        with TestClient(
            there, base_url="http://localhost", raise_server_exceptions=False
        ) as client:
            assert client.get("/v1/users/u1/portrait?at=2020-01-01").status_code == 500
            found = samples(client.get("/metrics").text)
    route = "/v1/users/{user_id}/portrait"
    assert (
        value(found, "limner_request_seconds_count", method="GET", route=route, status="500") == 1
    )


def test_spans_of_requests_commits_and_scoring() -> None:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from limner.serve.onlookers import trace_to

    kept = InMemorySpanExporter()
    with opened() as app:
        there = api(app)
        trace_to(there, app, kept)
        caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        with TestClient(there, base_url="http://localhost") as client:
            client.post("/v1/events", json=event("u1", "tea"))
            client.put("/v1/items/tea", json={"title": "Tea"})
            client.get("/v1/users/u1/recommendations?log=false", headers={"traceparent": caller})
    spans = {span.name: span for span in kept.get_finished_spans()}
    put, get = spans["PUT /v1/items/{item_id}"], spans["GET /v1/users/{user_id}/recommendations"]
    assert {"commit", "score", "POST /v1/events"} <= set(spans)
    attributes = dict(put.attributes or {})
    assert attributes["http.response.status_code"] == 200
    assert attributes["limner.as_of"] == 2
    assert (
        get.context is not None and f"{get.context.trace_id:x}" == "af7651916cd43dd8448eb211c80319c"
    )
    commits = [span for span in kept.get_finished_spans() if span.name == "commit"]
    assert [span.parent and span.parent.span_id for span in commits] == [
        None,  # of whatever events came together
        put.context and put.context.span_id,
    ]
    assert not any("u1" in span.to_json() for span in kept.get_finished_spans())


def test_traces_go_somewhere_or_it_is_said() -> None:
    from limner.errors import ConfigError

    with opened(traces="collector") as app, pytest.raises(ConfigError, match="neither console"):
        api(app)
    with pytest.raises(ConfigError):
        opened(log="loud")


def test_what_is_no_request_is_logged_in_the_same_form_and_without_the_text_of_errors(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logger = logging.getLogger("limner.something")
    before = logging.getLogger().handlers[:]
    try:
        for form in ("json", "text"):
            quietly(form)
            try:
                raise ValueError("u1 is the user")
            except ValueError:
                logger.exception("it broke")
    finally:
        logging.basicConfig(handlers=before, force=True)
    written = capsys.readouterr().err
    line = json.loads(written.splitlines()[0])
    assert (line["level"], line["logger"], line["message"]) == (
        "error", "limner.something", "it broke",
    )  # fmt: skip
    assert "ValueError" in line["trace"] and "it broke" in written.splitlines()[1]
    assert "u1" not in written
