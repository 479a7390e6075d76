"""How fast Limner takes in and answers, on the Complete Journey.

    python -m benchmarks.speed > speed.json

Rates are of one run and include everything from the file to the folded portraits, the log at
`synchronous=FULL`; latencies are medians and 99th percentiles in process, one event at a time.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from limner.app import Imported, Limner
from limner.config import parse
from limner.events.batch import SECOND
from limner.sources import completejourney


def quantiles(milliseconds: list[float]) -> dict[str, float]:
    """Median and 99th percentile."""
    return {
        "p50_ms": round(float(np.quantile(milliseconds, 0.5)), 2),
        "p99_ms": round(float(np.quantile(milliseconds, 0.99)), 2),
    }


def timed(work: Callable[[], object], times: int) -> dict[str, float]:
    """Quantiles of running `work` so often."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        taken.append((time.perf_counter() - started) * 1000)
    return quantiles(taken)


def imported(done: Imported) -> dict[str, Any]:
    """What an import did, as figures."""
    return {
        "rows": done.entry.rows,
        "seconds": round(done.seconds, 2),
        "rows_per_second": round(done.rate),
    }


def taking_in(folder: Path) -> tuple[dict[str, Any], Limner]:
    """Import from Parquet, from CSV, and the same file again; leave the first store open."""
    purchases = completejourney.purchases()
    parquet, csv = folder / "purchases.parquet", folder / "purchases.csv"
    pa.parquet.write_table(purchases, parquet)
    pa.csv.write_csv(purchases, csv)
    out: dict[str, Any] = {}
    apps = []
    for name, file in (("parquet", parquet), ("csv", csv)):
        settings = parse(
            {
                "store": f"sqlite:///{folder / name}.db",
                "timezone": completejourney.TIMEZONE,
                "clock": "events",
            }
        )
        app = Limner.open(config=settings)
        app.import_file(completejourney.items(), kind="items")
        app.import_file(completejourney.users(), kind="users")
        out[f"import_{name}"] = imported(app.import_file(file))
        apps.append(app)
    out["import_again"] = imported(apps[0].import_file(parquet))
    apps[1].close()
    apps[0].refresh_population()
    out["store_bytes_per_event"] = round((folder / "parquet.db").stat().st_size / len(purchases), 1)
    return out, apps[0]


def answering(app: Limner, events: int = 200) -> dict[str, Any]:
    """Latencies in process, without a trained model (see `limner demo` for one with)."""
    now = app.now()
    items = completejourney.items()["item_id"].to_pylist()[::400][:events]

    def record(number: int) -> None:
        app.record(
            {
                "user_id": "1",
                "item_id": items[number % len(items)],
                "event_type": "purchase",
                "timestamp": now + number * SECOND,
                "value": 2.5,
                "quantity": 1,
                "basket_id": f"bench{number}",
            }
        )

    numbers = iter(range(10**6))

    def record_and_read() -> None:
        record(next(numbers))
        app.portrait("1")

    return {
        "event_to_portrait": timed(record_and_read, events),
        "portrait": timed(lambda: app.portrait("1"), events),
        "evidence": timed(lambda: app.evidence("1", "interests.category"), 50),
    }


def reopening(app: Limner) -> dict[str, Any]:
    """From a closed store to an open one, by its snapshot and by the whole log."""
    settings = app.config
    app.close()
    started = time.perf_counter()
    Limner.open(config=settings, write=False).close()
    by_snapshot = time.perf_counter() - started
    with Limner.open(config=settings) as again:
        again.snapshots.drop()
        again.writable = False
    started = time.perf_counter()
    Limner.open(config=settings, write=False).close()
    return {
        "open_by_snapshot_seconds": round(by_snapshot, 2),
        "open_by_replay_seconds": round(time.perf_counter() - started, 2),
    }


def main() -> dict[str, Any]:
    """Everything, as one JSON document."""
    with tempfile.TemporaryDirectory() as folder:
        taken, app = taking_in(Path(folder))
        answered = answering(app)
        return {
            "machine": {"cpus": os.cpu_count(), "python": platform.python_version()},
            **taken,
            **answered,
            **reopening(app),
        }


if __name__ == "__main__":
    json.dump(main(), sys.stdout, indent=2)
    print()
