"""How a server answers under load, seen from another process: for `limner bench`.

The server is `limner serve` in a process of its own, the load comes over loopback from this one,
and both share the machine. Its store is the synthetic shop's, with every facet, 300 users with a
long history, and a blend in which every family counts.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

import msgspec
import numpy as np

from limner.app import Limner
from limner.cli.load import Connection, Load, Request, closed, open_loop, served
from limner.cli.measures import Bench, Line, _quantiles, _resident
from limner.cli.measures import _events as _events_file
from limner.cli.reasoning import EVENTS, ITEMS, USERS, _learn
from limner.config import Config, parse
from limner.events.batch import DAY
from limner.sources import synthetic
from limner.sources.synthetic import user_name

SECONDS = 10.0
"""How long each load lasts."""
BATCHES, SINGLES = 4_000, 40_000
"""Batches and single events that are made before; a load that has sent them all ends."""
OTHERS = 2000
"""Events of others a second while freshness is measured,"""
TOGETHER = 20
"""so many of them in a request."""
PROBING = 30.0
"""Seconds in which the way of events into lists is measured, ten a second at the most."""
WARM = 2.0
"""Seconds of a load before it is measured: what is kept between requests is made by the first."""


def _store(bench: Bench) -> Path:
    """The settings of a store with the shop's users, made when first needed."""
    # a year that ends today: the server goes by the clock, as one does
    start = (time.time_ns() // 1_000 // DAY - bench.shop.days) * DAY
    bench.shop = replace(bench.shop, items=min(bench.shop.items, ITEMS), start=start)
    path = bench.folder / "live.toml"
    if path.exists():
        return path
    users = min(bench.shop.users, USERS)
    many = replace(
        bench.shop, users=users, events=EVENTS * users, user_exponent=0.0,
        start=start - 400 * DAY,
    )  # fmt: skip
    with Limner.open(config=_live(bench)) as app:
        app.import_file(synthetic.items(bench.shop), kind="items")
        for part in synthetic.events(many):
            app.record(part)
        _learn(app, bench)
        year = _events_file(bench.folder / "live.parquet", bench.shop, bench.progress)
        app.import_file(year, progress=bench.progress)
    store = json.dumps(f"sqlite:///{bench.folder / 'live.db'}")
    path.write_text(f'store = {store}\n[refresh]\nsnapshot = "every 10s"\n')
    return path


def _live(bench: Bench) -> Config:
    return parse({"store": f"sqlite:///{bench.folder / 'live.db'}"})


def _events(bench: Bench, together: int) -> Iterator[bytes]:
    """Bodies of so many events each, without an end.

    Of users who come equally often, in no order and without a time, since they are sent faster
    than people act: each is of the moment in which it is received.
    """
    for seed in count(bench.shop.seed + 100):
        shop = replace(bench.shop, seed=seed, events=1_000_000, user_exponent=0.0)
        for table in synthetic.events(shop):
            order = np.random.default_rng(seed).permutation(len(table))
            rows = table.drop_columns(["timestamp"]).take(order).to_pylist()
            for start in range(0, len(rows) - together, together):
                part = [
                    {name: value for name, value in row.items() if value is not None}
                    for row in rows[start : start + together]
                ]
                yield msgspec.json.encode(part)


def _posts(bodies: Iterable[bytes]) -> Iterator[Request]:
    for body in bodies:
        yield "POST", "/v1/events", body


def _gets(paths: list[str]) -> Iterator[Request]:
    while True:
        for path in paths:
            yield "GET", path, b""


def serve(bench: Bench) -> list[Line]:
    """Events taken in, lists and portraits read, each by itself, by as many as keep asking."""
    settings = _store(bench)
    rng = np.random.default_rng(bench.shop.seed)
    everybody = [user_name(int(n)) for n in rng.integers(0, bench.shop.users, 5000)]
    long = [user_name(n) for n in range(min(bench.shop.users, USERS))]
    # made before: what the load takes is not taken from the server
    hundreds = [body for body, _ in zip(_events(bench, 100), range(BATCHES), strict=False)]
    singles = [body for body, _ in zip(_events(bench, 1), range(SINGLES), strict=False)]
    lists = [f"/v1/users/{user}/recommendations?log=false" for user in long]
    portraits = [f"/v1/users/{user}/portrait" for user in everybody]
    with served(settings) as (address, _):

        def load(name: str, connections: int, requests: Iterator[Request]) -> Load:
            bench.progress(name, 0, 1)
            asyncio.run(closed(address, connections, WARM, requests))
            return asyncio.run(closed(address, connections, SECONDS, requests))

        batches = load("batches", 8, _posts(hundreds))
        single = load("single events", 32, _posts(singles))
        listed = load("lists", 8, _gets(lists))
        read = load("portraits", 8, _gets(portraits))
    return [
        *_lines("events in batches of 100", batches, 100, 20_000, "events/s", 100.0),
        *_lines("single events, 32 connections", single, 1, 2_000, "events/s"),
        *_lines("lists of 10, 200 events, 50,000 items", listed, 1, 500, "lists/s", 25.0),
        *_lines("portraits", read, 1, 2_000, "portraits/s", 10.0),
    ]


def _lines(
    what: str, load: Load, each: int, least: float, unit: str, p99: float | None = None
) -> list[Line]:
    wrong = sum(load.wrong.values())
    return [
        Line(what, load.rate * each, unit, least, True),
        *_quantiles(f"{what}", load.taken, p99=p99),
        *([Line(f"{what}: not answered with 2xx", wrong, "requests", 0)] if wrong else []),
    ]


def freshness(bench: Bench) -> list[Line]:
    """From the first byte of an event's POST to the end of the first list that reflects it.

    Beside `OTHERS` events of others a second at set times, and snapshots; by every family.
    """
    settings = _store(bench)
    seconds = WARM + PROBING + 5
    bodies = _events(bench, TOGETHER)
    others = list(islice(bodies, int(seconds * OTHERS / TOGETHER) + 10))
    long = [user_name(n) for n in range(min(bench.shop.users, USERS))]

    async def probe(address: tuple[str, int]) -> tuple[list[float], list[int], Load]:
        taken: list[float] = []
        asked: list[int] = []
        stop, ask = asyncio.Event(), Connection(*address)
        beside = asyncio.create_task(open_loop(address, OTHERS / TOGETHER, _posts(others), stop))
        await asyncio.sleep(WARM)
        ends = time.perf_counter() + PROBING
        while time.perf_counter() < ends:
            number = len(taken)
            user = long[number % len(long)]
            event = {
                "user_id": user, "item_id": synthetic.item_name(number % 100),
                "event_type": "view", "event_id": f"fresh-{time.time_ns()}",
            }  # fmt: skip
            sent = time.perf_counter()
            _, said = await ask.ask("POST", "/v1/events", msgspec.json.encode(event))
            as_of = msgspec.json.decode(said)["as_of"]
            for tries in count(1):  # noqa: B007
                path = f"/v1/users/{user}/recommendations?log=false"
                _, said = await ask.ask("GET", path)
                if msgspec.json.decode(said)["as_of"] >= as_of:
                    break
            taken.append((time.perf_counter() - sent) * 1000)
            asked.append(tries)
            await asyncio.sleep(max(0.1 - taken[-1] / 1000, 0))
        stop.set()
        return taken, asked, await beside

    bench.progress("freshness", 0, 1)
    with served(settings) as (address, _):
        taken, asked, beside = asyncio.run(probe(address))
    return [
        *_quantiles("event sent to a list that reflects it", taken, p50=15.0, p99=60.0),
        Line("lists asked for until it does", float(np.mean(asked)), "lists"),
        Line("events of others beside it", beside.rate * TOGETHER, "events/s", 0.98 * OTHERS, True),
        *_quantiles("their acknowledgement", beside.taken),
    ]


def soak(bench: Bench) -> list[Line]:
    """Mixed load for as long as asked: what failed, what was lost, and how memory grew."""
    settings = _store(bench)
    ends = bench.soaking * 60.0
    bodies = _events(bench, TOGETHER)
    rng = np.random.default_rng(bench.shop.seed)
    people = [user_name(int(n)) for n in rng.integers(0, bench.shop.users, 5000)]
    lists = _gets([f"/v1/users/{user}/recommendations?log=false" for user in people])
    portraits = _gets([f"/v1/users/{user}/portrait" for user in people])

    async def load(address: tuple[str, int], pid: int) -> tuple[list[Load], list[int]]:
        stop = asyncio.Event()
        kinds = [(25, _posts(bodies)), (5, lists), (20, portraits)]
        tasks = [
            asyncio.create_task(open_loop(address, rate, requests, stop))
            for rate, requests in kinds
        ]
        resident, began = [], time.perf_counter()
        while (passed := time.perf_counter() - began) < ends:
            bench.progress("soak", int(passed), int(ends))
            await asyncio.sleep(min(5.0, ends / 10))
            resident.append(_resident(pid))
        stop.set()
        return [await task for task in tasks], resident

    before = _head(bench)
    with served(settings) as (address, pid):
        (events, *reads), resident = asyncio.run(load(address, pid))
    sent = events.added
    wrong = sum(sum(each.wrong.values()) for each in (events, *reads))
    rest = resident[len(resident) // 3 :]  # what is kept between requests is there by then
    growth = (max(rest[-3:]) - min(rest[:3])) / 2**20
    return [
        Line("minutes", bench.soaking, "min"),
        Line("answers", float(sum(len(each.taken) for each in (events, *reads))), "requests"),
        Line("not answered with 2xx", wrong, "requests", 0),
        Line("events acknowledged and not in the log", before + sent - _head(bench), "events", 0),
        Line("resident memory at the end", resident[-1] / 2**20, "MB"),
        Line("its growth in the last two thirds", growth, "MB"),
        Line("the same for a thousand events", growth * 1500 / max(sent, 1) * 1024, "KB"),
        *_quantiles("a batch of 20 events", events.taken),
        *_quantiles("a list", reads[0].taken),
        *_quantiles("a portrait", reads[1].taken),
    ]


def _head(bench: Bench) -> int:
    with Limner.open(config=_live(bench), write=False) as app:
        return app.store.log.head()
