"""The HTTP API over a real socket: `limner serve` in a process of its own."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from tests.integration import shop

from limner.app import Limner
from limner.cli import run
from limner.config import load
from limner.serve.problems import MEDIA_TYPE

LIMNER = [sys.executable, "-c", "from limner.cli import main; main()"]
CONFIG = """
[train]
sequence = false
"""


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server over the store in `folder`; its process and URL."""
    process = subprocess.Popen(
        [*LIMNER, "serve", "--port", "0", "--json", *options],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first, process.stderr.read() if process.stderr else ""
        yield process, json.loads(first)["url"]
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
        assert "Traceback" not in err, err


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    shop.write(folder)
    (folder / "limner.toml").write_text(CONFIG)
    given = ["--config", str(folder / "limner.toml")]
    files = [str(folder / "events.csv"), "--items", str(folder / "items.csv")]
    assert run([*given, "import", *files, "--users", str(folder / "users.csv")]) == 0
    return folder


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with serving(folder) as (_, url):
        yield url


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=30) as client:
        yield client


def user(name: str, *rest: str) -> str:
    return "/".join(["/v1/users", *(quote(part, safe="") for part in (name, *rest))])


def event(name: str, item: str, kind: str = "purchase", **more: Any) -> dict[str, Any]:
    return {"user_id": name, "item_id": item, "event_type": kind, **more}


# -- the living portrait ----------------------------------------------------------------------


def test_an_event_changes_portrait_and_list_at_once(client: httpx.Client) -> None:
    before = client.get(user("u0", "portrait")).json()
    kinds = [entry["key"] for entry in before["interests"]["category"]["value"]]
    assert kinds[0] == "tea"
    events = [
        event("u0", f"soap-{n}", value=3.0, group_id="now", event_id=f"n{n}") for n in range(5)
    ]
    answer = client.post("/v1/events", json=events)
    assert answer.status_code == 200
    assert (answer.json()["added"], answer.json()["refused"]) == (5, [])
    after = client.get(user("u0", "portrait")).json()
    assert after["as_of"] == answer.json()["as_of"]
    assert after["behaviour"]["events"]["events"] == before["behaviour"]["events"]["events"] + 5
    assert after["interests"]["category"]["value"][0]["key"] == "soap"
    again = client.post("/v1/events", json=events).json()
    assert (again["added"], again["repeated"]) == (0, 5)

    found = client.get(user("u0", "portrait", "evidence"), params={"slot": "interests.category"})
    newest = found.json()["events"][:5]
    assert {each["item_id"] for each in newest} == {f"soap-{n}" for n in range(5)}
    assert {each["user_id"] for each in newest} == {"u0"}


def test_refused_events_are_listed_mended_and_given_up(client: httpx.Client) -> None:
    wrong = [event("u0", "soap-1", timestamp="soon", event_id=f"w{n}") for n in range(3)]
    assert client.post("/v1/events", json=wrong).status_code == 422
    held = client.get("/v1/quarantine", params={"rule": "bad_time", "limit": 3}).json()
    assert held["counts"]["bad_time"] == 4  # one came with the import
    assert {row["row"]["user_id"] for row in held["rows"]} == {"u0"}
    first, second, third = (row["row_id"] for row in held["rows"])
    assert client.get(f"/v1/quarantine/{first}").json() == held["rows"][0]
    body = {"rows": [{"row_id": first, "timestamp": "2024-03-02"}]}
    assert client.post("/v1/quarantine/readmit", json=body).json()["added"] == 1
    done = client.post("/v1/quarantine/readmit", json={"ids": [second], "set": {"value": 1}}).json()
    assert [row["row_id"] for row in done["refused"]] == [second]
    assert client.post("/v1/quarantine/drop", json={"ids": [second, third]}).json() == {
        "dropped": 2
    }
    assert client.get(f"/v1/quarantine/{first}").status_code == 404
    assert client.post("/v1/quarantine/drop", json={"idz": [2]}).status_code == 400


def test_a_session_without_a_user_gets_a_list_and_leaves_nothing(client: httpx.Client) -> None:
    before = client.get("/health/ready").json()["position"]
    events = [{"item_id": f"tea-{n}", "event_type": "purchase"} for n in range(2)]
    asked: dict[str, Any] = {"n": 3, "explain": True, "by": "portrait", "repeats": False}
    listed = client.post("/v1/recommendations", json=events, params=asked)
    assert listed.status_code == 200
    items = listed.json()["items"]
    assert items[0]["item_id"].startswith("tea-")
    assert not {"tea-0", "tea-1"} & {item["item_id"] for item in items}
    assert set(items[0]["parts"]) == {"portrait"}
    assert client.get("/health/ready").json()["position"] == before


def test_items_like_an_item_and_bought_together_with_it(client: httpx.Client) -> None:
    alike = client.get("/v1/items/soap-0/similar", params={"n": 3}).json()
    assert [one["item_id"].partition("-")[0] for one in alike["items"]] == ["soap"] * 3
    for one in alike["items"]:
        assert sum(one["parts"].values()) == pytest.approx(one["score"])
    dear = client.get("/v1/items/soap-0/similar", params={"filter": "price >= 6"}).json()
    assert {int(one["item_id"][-1]) for one in dear["items"]} <= {4, 5}
    together = client.get("/v1/items/soap-0/similar", params={"by": "together"}).json()["items"]
    assert together and all(one["times"] >= 1 and one["lift"] > 0 for one in together)
    assert client.get("/v1/items/nothing/similar").status_code == 404


def test_training_a_running_server(client: httpx.Client, url: str) -> None:
    untrained = client.get(user("u5", "recommendations")).json()
    assert untrained["model"] is None
    started = client.post("/v1/train")
    assert started.status_code == 202
    assert started.headers["location"] == "/v1/train"
    second = client.post("/v1/train")
    assert second.status_code in (202, 409)
    while (training := client.get("/v1/train").json())["state"] == "running":
        time.sleep(0.05)
    assert training["state"] == "done", training
    ready = client.get("/health/ready").json()
    assert ready["model"] == training["trained"]["version"]

    listed = client.get(user("u5", "recommendations"), params={"n": 4, "explain": True}).json()
    assert listed["model"] == ready["model"]
    assert len(listed["items"]) == 4
    for item in listed["items"]:
        assert sum(item["parts"].values()) == pytest.approx(item["score"], abs=1e-9)
        assert item["reason"]
    fresh = client.get(user("u5", "recommendations"), params={"n": 30, "repeats": "false"}).json()
    about: dict[str, str | int] = {"slot": "value.spend", "limit": 999}
    spent = client.get(user("u5", "portrait", "evidence"), params=about).json()
    bought = {found["item_id"] for found in spent["events"]}
    assert bought
    assert not bought & {item["item_id"] for item in fresh["items"]}
    why = client.get(user("u5", "why", listed["items"][0]["item_id"])).json()
    assert why["rank"] == 1

    # a new interest moves the list
    events = [event("u5", f"fruit-{n}", event_id=f"f{n}") for n in range(6)]
    client.post("/v1/events", json=events)
    moved = client.get(user("u5", "recommendations"), params={"n": 4}).json()
    assert [item["score"] for item in moved["items"]] != [item["score"] for item in listed["items"]]


def test_items_come_and_go(client: httpx.Client) -> None:
    name = "new/äpple 50%2F"
    path = "/v1/items/" + quote(name, safe="")
    put = client.put(path, json={"title": "Äpple", "category": "fruit", "tags": ["a", "b"]})
    assert put.json()["added"] == 1
    client.post("/v1/events", json=[event("fan", name, "view", event_id="v1")])
    slot = client.get(user("fan", "portrait")).json()["interests"]["category"]["value"]
    assert slot[0]["key"] == "fruit"
    titles = {
        item["item_id"]: item["title"]
        for item in client.get(user("x", "recommendations"), params={"n": 99}).json()["items"]
    }
    assert titles[name] == "Äpple"
    assert client.delete(path).json()["added"] == 1
    gone = client.get(user("x", "recommendations"), params={"n": 99}).json()
    assert name not in {item["item_id"] for item in gone["items"]}
    assert client.get(user("fan", "why", name)).json()["removed_by"] == ["unavailable"]


@pytest.mark.parametrize("name", ["a/b", "a%2Fb", "%", "x/portrait", "ü ?#&+", "a\\b", "'\""])
def test_ids_of_any_characters(client: httpx.Client, name: str) -> None:
    put = client.put(user(name), json={"age": "30-39"})
    assert put.status_code == 200, put.text
    seen = client.get(user(name, "portrait")).json()
    assert seen["user_id"] == name
    assert seen["basic"]["age"]["value"] == "30-39"


def test_attributes_keep_what_is_not_named(client: httpx.Client) -> None:
    client.put(user("ann"), json={"age": "30-39", "city": "Ulm"})
    client.put(user("ann"), json={"city": "Bonn"})
    basic = client.get(user("ann", "portrait")).json()["basic"]
    assert {name: slot["value"] for name, slot in basic.items()} == {"age": "30-39", "city": "Bonn"}


def test_an_audience_comes_in_pages(client: httpx.Client, url: str) -> None:
    query: dict[str, Any] = {"where": "exists value.spend", "limit": 7}
    seen: list[str] = []
    while True:
        page = client.post("/v1/audiences/query", json=query).json()
        seen += page["users"]
        if page["cursor"] is None:
            break
        query["cursor"] = page["cursor"]
    assert len(seen) == len(set(seen)) == page["count"] >= 40
    alone = client.post("/v1/audiences/query", json={"where": "true", "limit": 0}).json()
    assert (alone["users"], alone["cursor"]) == ([], None) and alone["count"] >= 40
    for body, status in (
        ({"where": "value.spend >> 3"}, 400),
        ({"where": "value.spend > 3", "cursor": "xyz"}, 400),
        ({"where": "value.spend > 3", "limt": 3}, 422),
        ({}, 422),
    ):
        assert client.post("/v1/audiences/query", json=body).status_code == status
    assert run(["audience", "exists value.spend", "--url", url, "--json"]) == 0
    everybody = client.get("/v1/population").json()
    assert everybody["users"] >= 40 and everybody["clusters"]


def test_a_portrait_of_the_past(client: httpx.Client) -> None:
    path = user("u9", "portrait")
    past = client.get(path, params={"at": "2024-04-01T00:00:00+00:00"}).json()
    assert past["at"] == 1711929600000000
    assert past == client.get(path, params={"at": "1711929600"}).json()
    now = client.get(path).json()
    assert past["behaviour"]["events"]["events"] < now["behaviour"]["events"]["events"]


def test_ndjson_and_refused_events(client: httpx.Client) -> None:
    lines = [
        json.dumps(event("nd", "tea-0", "view", event_id="nd1")),
        "{torn",
        json.dumps({"userId": "nd", "event": "Product Viewed", "itemId": "tea-1"}),
        json.dumps(event("nd", "tea-0", timestamp="tomorrow week")),
    ]
    answer = client.post(
        "/v1/events",
        content="\n".join(lines),
        headers={"Content-Type": "application/x-ndjson"},
    )
    assert answer.status_code == 200
    found = answer.json()
    assert found["added"] == 2
    assert [(row["line"], row["rule"]) for row in found["refused"]] == [
        (2, "bad_json"),
        (4, "bad_time"),
    ]
    assert all("to mend it" in row["reason"] for row in found["refused"])


def test_erased_is_gone(client: httpx.Client) -> None:
    client.post("/v1/events", json=[event("bye", "tea-0", event_id="b1")])
    receipt = client.post(user("bye", "erase")).json()
    assert receipt["removed"]["event log"] == 1
    assert all(receipt["clean"].values())
    assert client.get(user("bye", "portrait")).status_code == 404
    again = client.post("/v1/events", json=[event("bye", "tea-0", event_id="b1")]).json()
    assert (again["added"], again["repeated"]) == (0, 1)
    assert client.get(user("bye", "portrait")).status_code == 404


def test_requests_that_come_together_all_count(client: httpx.Client, url: str) -> None:
    def send(worker: int) -> None:
        with httpx.Client(base_url=url, timeout=30) as own:
            for n in range(20):
                sent = own.post(
                    "/v1/events", json=event("crowd", "tea-0", event_id=f"{worker}.{n}")
                )
                assert sent.json()["added"] == 1

    workers = [threading.Thread(target=send, args=(n,)) for n in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    seen = client.get(user("crowd", "portrait")).json()
    assert seen["behaviour"]["events"]["value"] == {"purchase": 120}


# -- problems --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ask", "status", "kind"),
    [
        (lambda c: c.get(user("nobody", "portrait")), 404, "urn:limner:error:not-found"),
        (lambda c: c.get(user("nobody", "why", "tea-0")), 404, "urn:limner:error:not-found"),
        (lambda c: c.get(user("u1", "why", "gold")), 404, "urn:limner:error:not-found"),
        (lambda c: c.post(user("nobody", "erase")), 404, "urn:limner:error:not-found"),
        (lambda c: c.delete("/v1/items/gold"), 404, "urn:limner:error:not-found"),
        (lambda c: c.get(user("u1", "portrait") + "?at=x"), 400, "urn:limner:error:usage-error"),
        (lambda c: c.get(user("u1", "portrait", "evidence")), 422, "urn:limner:error:invalid"),
        (lambda c: c.get(user("u1", "recommendations") + "?n=0"), 422, "urn:limner:error:invalid"),
        (lambda c: c.put("/v1/items/x", json=[1]), 422, "urn:limner:error:invalid"),
        (lambda c: c.put("/v1/items/x", content="{"), 422, "urn:limner:error:invalid"),
        (lambda c: c.post("/v1/events", content=""), 400, "urn:limner:error:input-error"),
        (lambda c: c.post("/v1/events", content="{"), 400, "urn:limner:error:input-error"),
        (lambda c: c.post("/v1/events", content=b" " * (17 << 20)), 413, "about:blank"),
        (lambda c: c.post("/v1/events", json=[{"a": 1}]), 422, "urn:limner:error:all-refused"),
        (lambda c: c.get("/v2"), 404, "about:blank"),
        (lambda c: c.patch("/v1/events"), 405, "about:blank"),
        (lambda c: c.get("/docs"), 404, "about:blank"),
        (lambda c: c.get("/health/ready", headers={"Host": "evil.example"}), 403,
         "urn:limner:error:key"),
        (lambda c: c.post("/v1/train", headers={"Origin": "http://evil.example"}), 403,
         "urn:limner:error:key"),
    ],
)  # fmt: skip
def test_an_error_is_a_problem_document(
    client: httpx.Client, ask: Callable[[httpx.Client], httpx.Response], status: int, kind: str
) -> None:
    answer = ask(client)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == MEDIA_TYPE
    body = answer.json()
    assert (body["status"], body["type"]) == (status, kind)
    assert body["title"]
    assert body["detail"]
    if status != 413:
        assert body["mend"]


def test_the_api_describes_itself(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.")
    text = json.dumps(document)
    for name in set(re.findall(r"#/components/schemas/(\w+)", text)):
        assert name in document["components"]["schemas"]


# -- the command line as a client --------------------------------------------------------------


def test_commands_with_url(
    client: httpx.Client, url: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(*arguments: str) -> Any:
        capsys.readouterr()
        code = run([*arguments, "--url", url, "--json"])
        return code, json.loads(capsys.readouterr().out)

    code, seen = ask("portrait", "u3")
    assert (code, seen["user_id"]) == (0, "u3")
    told = client.get(user("u3", "portrait")).json()
    for section in ("basic", "behaviour", "interests", "value"):
        assert {name: slot["text"] for name, slot in seen[section].items()} == {
            name: slot["text"] for name, slot in told[section].items()
        }
    assert ask("portrait", "u3", "--evidence", "value.spend")[1]["events"]
    how = ask("portrait", "u3", "--explain", "value.spend", "--limit", "5")[1]
    about = {"slot": "value.spend"}
    same = client.get(user("u3", "portrait", "explain"), params=about).json()
    for name in ("path", "kind", "formula", "changes", "settings", "evidence"):
        assert how[name] == same[name]
    assert len(how["evidence"]) == 5
    assert len(ask("recommend", "u3", "-n", "3", "--explain")[1]["items"]) == 3
    assert ask("why", "u3", "tea-0")[1]["item_id"] == "tea-0"
    assert ask("portrait", "nobody") == (
        2,
        {
            "error": {
                "what": "user 'nobody' is not known",
                "where": "",
                "mend": "check the id; a user is known from the first event or attribute on",
            }
        },
    )

    file = tmp_path / "more.csv"
    rows = [f"r{n % 3},tea-{n % 6},purchase,2024-05-0{1 + n % 9}" for n in range(60)]
    rows += ["r1,tea-0,purchase,2024-05-30"] * 2 + ["r1,tea-0,purchase,never"]
    file.write_text("\n".join(["user_id,item_id,event_type,timestamp", *rows]) + "\n")
    items = tmp_path / "items.jsonl"
    items.write_text(json.dumps({"item_id": "far", "title": "From afar", "tags": ["x"]}) + "\n")
    code, done = ask("import", str(file), "--items", str(items))
    assert code == 0
    assert [one["added"] for one in done["imports"]] == [1, 62]
    assert done["imports"][1]["refused"][0]["examples"][0]["line"] == 64
    assert ask("import", str(file))[1]["imports"][0]["repeated"] == 62
    counted = client.get(user("r1", "portrait")).json()["behaviour"]["events"]["value"]
    assert counted == {"purchase": 22}

    assert run(["portrait", "u3", "--url", url]) == 0
    assert run(["recommend", "u3", "--url", url]) == 0
    assert run(["why", "u3", "tea-0", "--url", url]) == 0
    assert ask("train")[1]["version"]
    assert ask("erase", "r2", "--yes")[1]["removed"]["event log"] == 20
    assert ask("erase", "r2", "--yes")[0] == 2
    assert run(["erase", "r1", "--url", url]) == 2  # nobody to ask

    capsys.readouterr()
    assert run(["--config", str(folder / "limner.toml"), "train"]) == 1
    assert url in capsys.readouterr().err  # who holds the store


# -- keys, and the end ------------------------------------------------------------------------


def until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_keys_are_made_and_revoked_beside_a_running_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "limner.toml").write_text(CONFIG)
    given = ["--config", str(tmp_path / "limner.toml"), "--json", "keys"]
    with serving(tmp_path) as (_, url), httpx.Client(base_url=url, timeout=30) as client:
        event = {"user_id": "anna@example.org", "item_id": "tea", "event_type": "view"}
        assert client.post("/v1/events", json=event).status_code == 200
        capsys.readouterr()
        assert run([*given, "add", "shop", "--scope", "ingest"]) == 0
        secret = json.loads(capsys.readouterr().out)["key"]
        own = {"X-API-Key": secret}
        until(lambda: client.post("/v1/events", json=event).status_code == 401)
        assert client.post("/v1/events", json=event, headers=own).status_code == 200
        assert client.get("/v1/population", headers=own).status_code == 403
        assert run([*given, "list"]) == 0
        told = capsys.readouterr().out
        assert json.loads(told)["keys"][0]["scopes"] == ["ingest"] and secret not in told
        assert run([*given, "revoke", "shop"]) == 0
        until(lambda: client.post("/v1/events", json=event, headers=own).status_code == 401)
    assert secret.encode() not in b"".join(f.read_bytes() for f in tmp_path.rglob("limner.db*"))
    # no key opens any more: an address of other machines is refused
    assert run(["--config", given[1], "serve", "--host", "0.0.0.0", "--port", "0"]) == 2
    assert "limner keys add" in capsys.readouterr().err


def test_a_key_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "limner.toml").write_text('[serve]\napi_key = "sesame"\nhost = "0.0.0.0"\n')
    with serving(tmp_path) as (_, url):
        port = url.rpartition(":")[2]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            assert client.get("/health/live").status_code == 200
            assert client.get("/health/ready").status_code == 200
            for headers in ({}, {"X-API-Key": "sesam"}, {"Authorization": "Bearer Sesame"},
                            {"Authorization": "Basic sesame"}):  # fmt: skip
                for path in ("/v1/train", "/openapi.json", "/nope"):
                    answer = client.get(path, headers=headers)
                    assert answer.status_code == 401
                    assert answer.headers["www-authenticate"] == "Bearer"
                    assert answer.headers["content-type"] == MEDIA_TYPE
            for headers in ({"X-API-Key": "sesame"}, {"Authorization": "Bearer sesame"}):
                assert client.get("/v1/train", headers=headers).status_code == 200
                assert client.get("/openapi.json", headers=headers).status_code == 200
        given = ["--config", str(tmp_path / "limner.toml")]
        assert run([*given, "recommend", "u", "--url", f"http://127.0.0.1:{port}"]) == 0
        assert run(["recommend", "u", "--url", f"http://127.0.0.1:{port}"]) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_server_loses_nothing(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "limner.toml").touch()
    acknowledged: list[str] = []
    with serving(tmp_path) as (process, url):

        def send(worker: int) -> None:
            with httpx.Client(base_url=url, timeout=30) as client:
                for n in range(10_000):
                    name = f"{worker}.{n}"
                    try:
                        sent = client.post("/v1/events", json=event("u", "tea", event_id=name))
                    except httpx.TransportError:
                        return
                    if sent.status_code == 200:
                        acknowledged.append(name)

        workers = [threading.Thread(target=send, args=(n,)) for n in range(3)]
        for worker in workers:
            worker.start()
        while len(acknowledged) < 50:
            time.sleep(0.01)
        process.send_signal(number)
        assert process.wait(20) == 0
        for worker in workers:
            worker.join()
    with Limner.open(config=load(tmp_path / "limner.toml"), write=False) as app:
        kept = {found.event_id for found in app.evidence("u", "behaviour.events", limit=99_999)}
        assert set(acknowledged) <= kept
        assert app._snapshot_at == app.state.position  # the snapshot was written


def test_a_taken_port_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert run(["--store", "memory:", "serve", "--port", port]) == 2
    err = capsys.readouterr().err
    assert port in err
    assert "--port" in err


def test_events_can_be_checked_without_being_recorded(client: httpx.Client) -> None:
    before = client.get("/health/ready").json()["position"]
    events = [
        event("u0", "soap-1", event_id="v1"),
        event("u0", "gold", "purchse", event_id="v2"),
        event("", "soap-1", event_id="v3"),
    ]
    found = client.post("/v1/validate", json=events).json()
    assert (found["rows"], found["good"]) == (3, 2)
    problems = {problem["name"]: problem for problem in found["problems"]}
    assert problems["missing_user"]["lines"] == [3]
    assert problems["unknown_item"]["example"] == "gold"
    assert found["aliases"] == {"purchse": "purchase"}
    assert client.get("/health/ready").json()["position"] == before
    said = client.get("/v1/cleaning").json()
    assert {rule["rule"] for rule in said["rules"]} >= {"missing_user", "robot_speed"}
    assert said["usual"][0]["n"] > 0


def test_choices_change_the_lists_and_the_portrait(client: httpx.Client) -> None:
    user = "/v1/users/u8"
    assert client.get(f"{user}/choices").json()["personalised"] is True
    slot = next(iter(client.get(f"{user}/portrait").json()["interests"]))
    path = f"interests.{slot}"
    chosen = client.put(f"{user}/choices", json={"personalised": False, "off": [path]}).json()
    assert chosen["personalised"] is False and chosen["off"] == [path]
    assert client.get(f"{user}/choices").json() == chosen
    listed = client.get(f"{user}/recommendations").json()
    assert listed["items"] and "not personalised" in listed["note"].lower()
    assert slot not in client.get(f"{user}/portrait").json()["interests"]
    wrong = client.put(f"{user}/choices", json={"of": [path]})
    assert wrong.status_code == 422 and wrong.headers["content-type"].startswith(MEDIA_TYPE)
    unknown = client.put(f"{user}/choices", json={"off": ["interests"]})
    assert unknown.status_code == 400 and unknown.json()["mend"]
    back = client.put(f"{user}/choices", json={"personalised": True, "on": [path]}).json()
    assert back["personalised"] is True and back["off"] == []
    assert slot in client.get(f"{user}/portrait").json()["interests"]


def test_what_lists_depend_on_is_said_in_plain_words(client: httpx.Client) -> None:
    said = client.get("/v1/parameters").json()
    assert said["change"] and all(one["means"] for one in said["parameters"])
