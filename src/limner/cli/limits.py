"""What bounds an import, and what another system does with the same rows: for `limner bench`."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from limner.app import Limner
from limner.cli.measures import Bench, Line
from limner.errors import UsageError
from limner.events.clean import clean
from limner.events.raw import RawBatch
from limner.privacy.admit import Occurrences, admit
from limner.sources import files, synthetic

STAGE_ROWS = 500_000
"""Rows that the stages are measured on."""


def stages(bench: Bench) -> list[Line]:
    """Cost an event of each stage, one after another, beside what disk and numpy alone allow."""
    spent: dict[str, float] = {}

    def timed(name: str, work: Callable[..., Any], *given: Any, **named: Any) -> Any:
        started = time.perf_counter()
        result = work(*given, **named)
        spent[name] = spent.get(name, 0.0) + time.perf_counter() - started
        return result

    rows = min(STAGE_ROWS, bench.shop.events)
    with Limner.open(config=bench._fresh("stages")) as app:
        app.import_file(synthetic.items(bench.shop), kind="items")
        writer, occurrences, done = app.writer, Occurrences(), 0
        source = files.read_file(bench.events, kind="events", refuse=lambda _: None, source="file")
        keys: list[Any] = []
        while done < rows:
            raw: RawBatch | None = timed("read", next, source, None)
            if raw is None:
                break
            admitted = timed("admit, digests and pseudonyms", admit, raw, writer.keys,
                             writer.policy, occurrences)  # fmt: skip
            identities = timed("seal users", admitted.identities, writer.keys, writer._named)
            cleaned = timed(
                "clean",
                clean,
                admitted.raw,
                now=writer.clock(),
                config=writer.rules,
                norms=writer.norms,
                kinds=writer._kinds,
                prices=writer._prices,
            )
            batch = cleaned.batch
            with app.store.transaction():
                appended = timed("dedupe and append", app.store.log.append, batch)
                timed("identities", app.store.identities.add, identities)
                started = time.perf_counter()
            spent["commit"] = spent.get("commit", 0.0) + time.perf_counter() - started
            timed("fold", writer._follow, appended.first, batch.take(appended.kept))
            done += len(raw)
            keys.append(batch.codes("user_id")[0])
            bench.progress("stages", done, rows)
        size = (bench.folder / "stages.db").stat().st_size
    out = [Line(name, seconds / done * 1e6, "µs an event") for name, seconds in spent.items()]
    out.append(Line("all stages, one after another", done / sum(spent.values()), "events/s"))
    out.append(Line("the disk alone: the log's bytes, synced", done / _written(bench.folder, size),
                    "events/s"))  # fmt: skip
    codes = np.concatenate(keys)
    out.append(Line("numpy alone: group the users", done / _grouped(codes), "events/s"))
    largest = max(spent, key=lambda name: spent[name])
    out.append(Line(f"largest share: {largest}", 100 * spent[largest] / sum(spent.values()), "%"))
    return out


def _written(folder: Path, size: int) -> float:
    """Seconds to write and sync so many bytes."""
    body, path = os.urandom(1 << 20), folder / "disk"
    started = time.perf_counter()
    with path.open("wb") as file:
        for _ in range(-(-size // len(body))):
            file.write(body)
        file.flush()
        os.fsync(file.fileno())
    seconds = time.perf_counter() - started
    path.unlink()
    return seconds


def _grouped(codes: Any) -> float:
    """Seconds to sort the users' codes stably and to count them: the least that any fold does."""
    started = time.perf_counter()
    order = np.argsort(codes, kind="stable")
    np.bincount(np.maximum(codes[order], 0))
    return time.perf_counter() - started


def feast(bench: Bench, python: str) -> list[Line]:
    """`push` of Feast to its SQLite online store: rows of 20 features, beside Limner's events.

    `python` is the interpreter of an environment that has Feast. Raises UsageError if it has not.
    """
    folder = bench.folder / "feast"
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [python, "-c", _FEAST], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UsageError(
            f"Feast cannot be measured: {done.stderr.strip().splitlines()[-1:]}",
            mend="pip install feast into an environment of its own, and name its Python: "
            "--feast-python /path/to/bin/python",
        )
    rate = float(json.loads(done.stdout.strip().splitlines()[-1])["rows_per_second"])
    own = next(line for line in bench.filling() if line.unit == "events/s").value
    return [
        Line("Feast, push of 20 features", rate, "rows/s"),
        Line("Limner, events with all facets", own, "events/s"),
        Line("Limner against Feast", own / rate, "times", 150.0, True),
    ]


_FEAST = """
import json, time, datetime, pathlib
import numpy as np, pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, PushSource, RepoConfig
from feast.types import Float64
from feast.data_source import PushMode
names = [f"f{n}" for n in range(20)]
def rows(n, seed):
    r = np.random.default_rng(seed)
    d = {k: r.random(n) for k in names}
    d["user_id"] = [f"u{x}" for x in r.integers(0, 10**6, n)]
    d["event_timestamp"] = pd.Timestamp.now(tz="UTC")
    d["created"] = pd.Timestamp.now(tz="UTC")
    return pd.DataFrame(d)
for old in ("registry.db", "online.db"):
    pathlib.Path(old).unlink(missing_ok=True)
rows(10, 0).to_parquet("f.parquet")
store = FeatureStore(config=RepoConfig(project="bench", provider="local", registry="registry.db",
    online_store={"type": "sqlite", "path": "online.db"}, entity_key_serialization_version=3))
batch = FileSource(path="f.parquet", timestamp_field="event_timestamp",
                   created_timestamp_column="created")
source = PushSource(name="push", batch_source=batch)
user = Entity(name="user", join_keys=["user_id"])
view = FeatureView(name="portrait", entities=[user], ttl=datetime.timedelta(days=1),
                   schema=[Field(name=k, dtype=Float64) for k in names], source=source)
store.apply([user, view])
store.push("push", rows(100, 1), to=PushMode.ONLINE)
n, done, start = 1000, 0, time.perf_counter()
while time.perf_counter() - start < 10:
    store.push("push", rows(n, done + 2), to=PushMode.ONLINE)
    done += n
print(json.dumps({"rows_per_second": done / (time.perf_counter() - start)}))
"""
