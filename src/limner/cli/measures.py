"""What `limner bench` measures: one function a figure, each on a synthetic shop.

Every figure is of this process or of one it starts, on the disk that the folder lies on; where
something is to be killed, a process of its own is.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from limner.app import Limner
from limner.config import Config, parse
from limner.errors import StoreError
from limner.events.batch import DAY, I64
from limner.model.protocol import Progress
from limner.sources import synthetic
from limner.sources.synthetic import Shop, user_name

READS = 1000
"""Users that are looked at for a latency."""


EVENTS_SECONDS = 60.0
"""How long single events are recorded, at most."""

WARMING = 300_000
"""Events of a few users that come before memory is measured: some batches of an import, so that
what one batch takes while it is worked on is there already."""


@dataclass(frozen=True, slots=True)
class Line:
    """One figure: what was measured, in which unit, and the target it is held against."""

    what: str
    value: float
    unit: str
    target: float | None = None
    least: bool = False
    """Whether the target is the least that will do, rather than the most."""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        if self.target is None:
            return None
        return self.value >= self.target if self.least else self.value <= self.target


class Bench:
    """A store of a synthetic shop in a folder, filled when it is first needed."""

    def __init__(self, folder: Path, shop: Shop, progress: Progress) -> None:
        self.folder = folder
        self.shop = shop
        self.progress = progress
        self._app: Limner | None = None
        self._filled: list[Line] = []
        self.soaking = 30.0
        """Minutes that a soak lasts."""

    @property
    def events(self) -> Path:
        """The shop's events as a Parquet file."""
        return _events(self.folder / "events.parquet", self.shop, self.progress)

    def settings(self, name: str = "bench") -> Config:
        """Those of a shop, with every facet that it has by default, and its own store."""
        return _settings(self.folder / f"{name}.db")

    @property
    def app(self) -> Limner:
        """The store, filled and open."""
        if self._app is None:
            if not (self.folder / "bench.db").exists():
                self.filling()
            self._app = Limner.open(config=self.settings())
        return self._app

    def close(self) -> None:
        """Close the store."""
        if self._app is not None:
            self._app.close()
            self._app = None

    def _fill(self, name: str, shop: Shop) -> dict[str, float]:
        """Fill a store in a process of its own, and what it says of it (`fill`).

        So that no memory that this process has used before is filled instead of new.
        """
        command = [sys.executable, "-c", _FILLS, str(self.folder), name]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe) as child:
            assert child.stdin is not None and child.stdout is not None
            child.stdin.write(json.dumps(asdict(shop)))
            child.stdin.close()
            said: Any = None
            for line in child.stdout:
                said = json.loads(line)
                if isinstance(said, list):
                    self.progress(*said)
        if child.returncode or not isinstance(said, dict):
            raise StoreError(
                "the process that fills a store for the bench failed",
                where=str(self.folder),
                mend="see what it said above",
            )
        return said

    # -- the figures -------------------------------------------------------------------------

    def filling(self) -> list[Line]:
        """Import rate and memory, of a store that this process filled."""
        if not self._filled:
            self.close()
            self._fresh("bench")
            self.events  # noqa: B018  written before the process that fills, not by it
            found = self._fill("bench", self.shop)
            self._filled = [
                Line("file to durable log to portraits", found["rate"], "events/s", 150_000, True),
                Line("the survey of all users and the index after it", found["surveying"], "s"),
                Line("resident growth a user", found["grown"] / 1024, "KB", 2.0),
                Line("log a row", found["log"], "bytes"),
            ]
        return self._filled

    def heavy(self) -> list[Line]:
        """Resident growth a user where each has some 200 events."""
        users = max(self.shop.users // 20, 100)
        shop = replace(self.shop, events=min(200 * users, self.shop.events), user_exponent=0.0)
        shop = replace(shop, users=max(shop.events // 200, 1))
        self._fresh("heavy")
        found = self._fill("heavy", shop)
        return [Line("resident growth a user of 200 events", found["grown"] / 1024, "KB", 8.0)]

    def portrait(self) -> list[Line]:
        """A portrait read in process."""
        users = self._users()
        return _quantiles("portrait", [_ms(self.app.portrait, user) for user in users], p99=1.0)

    def events_of(self) -> list[Line]:
        """All events of one user from the log."""
        log = self.app.store.log
        keys = [self.app.keys.pseudonym(user) for user in self._users()]
        log.events_of(keys[0])
        return _quantiles("events of a user", [_ms(log.events_of, key) for key in keys], p99=20.0)

    def event(self) -> list[Line]:
        """An event, from record to the changed portrait, alone and beside much else."""
        alone = _quantiles("event to portrait, nothing else", self._events(200))
        stop = threading.Event()
        beside = threading.Thread(target=self._batches, args=(stop,), daemon=True)
        beside.start()
        try:
            busy = self._events(READS)
        finally:
            stop.set()
            beside.join()
        return alone + _quantiles("event to portrait, batches and snapshots beside", busy,
                                  p50=2.0, p99=20.0)  # fmt: skip

    def growth(self) -> list[Line]:
        """Time an event with all users against the time with 10,000, in batches of 20,000."""
        large = self._per_event(self.app, self.shop)
        shop = replace(self.shop, users=10_000, events=min(self.shop.events, 200_000))
        with Limner.open(config=self._fresh("growth")) as app:
            app.import_file(synthetic.items(shop), kind="items")
            _record_all(app, shop, lambda done: self.progress("10,000 users", done, shop.events))
            small = self._per_event(app, shop)
        return [
            Line(f"an event, {len(self.app.state):,} users", large, "µs"),
            Line("an event, 10,000 users", small, "µs"),
            Line("growth", large / small, "times", 1.5),
        ]

    def recovery(self) -> list[Line]:
        """From `kill -9` to an answer: a process that writes is killed, another one opens."""
        user = self._users(1)[0]
        self.app.close()
        self._app = None
        child = subprocess.Popen(
            [sys.executable, "-c", _WRITES, str(self.folder)], stdout=subprocess.PIPE
        )
        with child:
            assert child.stdout is not None
            child.stdout.readline()
            child.send_signal(signal.SIGKILL)
        started = time.perf_counter()
        with Limner.open(config=self.settings()) as app:
            app.portrait(user)
            app.record({**_event(app, 0), "user_id": user})
            seconds = time.perf_counter() - started
        return [Line("ready after kill -9", seconds, "s", 10.0)]

    def cold(self) -> list[Line]:
        """`limner portrait USER` as a command, from start to end, compiled as pip leaves it."""
        users = self._users(5)
        self.close()
        (self.folder / "limner.toml").write_text(f'store = "{self.settings().store}"\n'
                                                 'clock = "events"\n')  # fmt: skip
        settings = os.environ | {"PYTHONPYCACHEPREFIX": str(self.folder / "compiled")}
        settings.pop("PYTHONDONTWRITEBYTECODE", None)
        taken = []
        for number, user in enumerate([users[0], *users]):  # the first one compiles
            self.progress("cold", number, len(users) + 1)
            command = [sys.executable, "-c", _COMMAND, "portrait", user, "--json"]
            started = time.perf_counter()
            subprocess.run(
                command, cwd=self.folder, env=settings, check=True, stdout=subprocess.DEVNULL
            )
            taken.append(time.perf_counter() - started)
        taken.pop(0)
        return [Line("portrait by the command line", float(np.median(taken)), "s", 1.0)]

    # -- what they have in common ------------------------------------------------------------

    def _fresh(self, name: str) -> Config:
        for old in self.folder.glob(f"{name}.db*"):
            old.unlink()
        return self.settings(name)

    def _users(self, n: int = READS) -> list[str]:
        chosen: I64 = np.random.default_rng(self.shop.seed).integers(0, self.shop.users, 2 * n)
        names = [user_name(number) for number in chosen.tolist()]
        found = [name for name in names if self.app.keys.pseudonym(name) in self.app.state.rows]
        return found[:n]

    def _events(self, times: int) -> list[float]:
        users = self._users(100)

        def once(number: int) -> None:
            event = _event(self.app, number) | {"user_id": users[number % len(users)]}
            self.app.record(event)
            self.app.portrait(event["user_id"])

        taken: list[float] = []
        ends = time.perf_counter() + EVENTS_SECONDS
        for number in range(times):
            if time.perf_counter() > ends:
                break  # what is slow is seen from fewer
            self.progress("events", number, times)
            taken.append(_ms(once, number))
            time.sleep(0.002)
        return taken

    def _batches(self, stop: threading.Event) -> None:
        shop = _later(self.app, replace(self.shop, seed=self.shop.seed + 1, events=10_000_000))
        for part in synthetic.events(shop):
            for start in range(0, len(part), 20_000):
                if stop.is_set():
                    return
                self.app.record(part.slice(start, 20_000))
            self.app.save_snapshot(wait=False)

    def _per_event(self, app: Limner, shop: Shop) -> float:
        """Median µs an event of batches of 20,000, of the same number of different users."""
        taken = []
        more = _later(app, replace(shop, seed=shop.seed + 2, events=200_000))
        for part in synthetic.events(more):
            for start in range(0, len(part) - 19_999, 20_000):
                took = _ms(app.record, part.slice(start, 20_000))
                taken.append(took * 1000 / 20_000)
            if len(taken) >= 8:
                break
        return float(np.median(taken))


_COMMAND = "from limner.cli import main; main()"

_WRITES = """
import sys
from pathlib import Path
from limner.app import Limner
from limner.cli.measures import Bench, _later
from limner.sources import synthetic
bench = Bench(Path(sys.argv[1]), synthetic.Shop(seed=9, events=200_000), lambda *_: None)
app = Limner.open(config=bench.settings())
for part in synthetic.events(_later(app, bench.shop)):
    app.record(part)
print("written", flush=True)
app.save_snapshot(wait=False)
while True:
    app.record({"user_id": "u1", "item_id": "i1", "event_type": "view", "timestamp": app.now()})
"""


_FILLS = """
import sys
from pathlib import Path
from limner.cli.measures import fill
fill(Path(sys.argv[1]), sys.argv[2])
"""


def fill(folder: Path, name: str) -> None:
    """In a process of its own: import the shop that standard input says into a new store.

    Standard output says, a JSON line each, how far it is and at last how it was: `rate` (events a
    second), `surveying` (seconds), `grown` (bytes of resident memory a user) and `log` (bytes a
    row). What a process takes once, however many users there are, is no growth: other events of
    a few users come before.
    """
    shop = Shop(**json.load(sys.stdin))

    def progress(*said: object) -> None:
        print(json.dumps(said), flush=True)

    path = folder / ("events.parquet" if name == "bench" else f"{name}.parquet")
    _events(path, shop, progress)
    with Limner.open(config=_settings(folder / f"{name}.db")) as app:
        app.import_file(synthetic.items(shop), kind="items")
        before = replace(shop, start=shop.start - 30 * DAY, days=30, seed=shop.seed + 1)
        app.import_file(
            pa.concat_tables(synthetic.events(replace(before, events=WARMING, users=100)))
        )
        users, resident = len(app.state), _resident()
        done = app.import_file(path, progress=progress)
        app.snapshots.join()
        gc.collect()
        grown = (_resident() - resident) / max(len(app.state) - users, 1)
        size = (folder / f"{name}.db").stat().st_size / done.entry.rows
    found = {"rate": done.rate, "surveying": done.surveying, "grown": grown, "log": size}
    print(json.dumps(found), flush=True)


def _events(path: Path, shop: Shop, progress: Progress) -> Path:
    """The shop's events as a Parquet file, written if it is not there."""
    if not path.exists():
        synthetic.write(shop, path, lambda done, of: progress("generate", done, of))
    return path


def _settings(store: Path) -> Config:
    return parse({"store": f"sqlite:///{store}", "clock": "events"})


def _later(app: Limner, shop: Shop) -> Shop:
    """The shop after what the store has: events are in time order, as live ones are."""
    return replace(shop, start=app.now())


def _record_all(app: Limner, shop: Shop, report: Callable[[int], None]) -> None:
    done = 0
    for part in synthetic.events(shop):
        app.record(part)
        done += len(part)
        report(done)


def _event(app: Limner, number: int) -> dict[str, Any]:
    return {
        "item_id": synthetic.item_name(number % 100),
        "event_type": "purchase",
        "timestamp": app.now(),
        "value": 2.5,
        "quantity": 1,
        "event_id": f"bench-{time.time_ns()}",
    }


def _ms(work: Callable[..., object], *given: object) -> float:
    started = time.perf_counter()
    work(*given)
    return (time.perf_counter() - started) * 1000


def _quantiles(
    what: str, taken: list[float], *, p50: float | None = None, p99: float | None = None
) -> list[Line]:
    return [
        Line(f"{what}, median", float(np.quantile(taken, 0.5)), "ms", p50),
        Line(f"{what}, 99th percentile", float(np.quantile(taken, 0.99)), "ms", p99),
    ]


def _resident(pid: int | str = "self") -> int:
    """Bytes of memory that are a process's own: what it has mapped from files is not."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
