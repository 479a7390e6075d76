"""`kill -9` at random moments under load over HTTP: what was acknowledged is there, once.

    python -m benchmarks.faults [--kills 50] [--seed 1] [--out faults.json]

Each round starts `limner serve` on the same store, sends events over several connections, kills
the process at a random moment, and starts it again. At the end the log is read: every event that
was acknowledged lies in it, none twice, and portraits and log count the same.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from limner.app import Limner
from limner.config import load

LIMNER = [sys.executable, "-c", "from limner.cli import main; main()"]
CONNECTIONS, USERS, EACH = 4, 200, 20
READY_SECONDS = 60


def started(folder: Path) -> tuple[subprocess.Popen[str], str, float]:
    """A server that is ready, its URL, and the seconds that took."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [*LIMNER, "serve", "--port", "0", "--json"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    url = json.loads(process.stdout.readline())["url"]
    while time.perf_counter() - began < READY_SECONDS:
        if httpx.get(f"{url}/health/ready", timeout=READY_SECONDS).status_code == 200:
            break
        time.sleep(0.01)
    return process, url, time.perf_counter() - began


def load_until_killed(url: str, name: str, acknowledged: list[str]) -> None:
    """Send events one request after the other until the server is gone."""
    with httpx.Client(base_url=url, timeout=30) as client:
        number = 0
        while True:
            ids = [f"{name}.{number + n}" for n in range(1 if number % 3 else EACH)]
            number += len(ids)
            events = [
                {
                    "user_id": f"u{hash(each) % USERS}",
                    "item_id": f"i{hash(each) % 50}",
                    "event_type": "view",
                    "event_id": each,
                }
                for each in ids
            ]
            try:
                answer = client.post("/v1/events", json=events)
            except httpx.TransportError:
                return
            if answer.status_code == 200:
                acknowledged += ids


def killed(kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """Figures of so many kills; see the module."""
    (folder / "limner.toml").write_text("[train]\nsequence = false\n")
    moments = random.Random(seed)
    acknowledged: list[str] = []
    ready: list[float] = []
    for kill in range(kills):
        process, url, seconds = started(folder)
        ready.append(seconds)
        senders = [
            threading.Thread(target=load_until_killed, args=(url, f"{kill}.{n}", acknowledged))
            for n in range(CONNECTIONS)
        ]
        for sender in senders:
            sender.start()
        before = len(acknowledged)
        while kill % 2 == 0 and len(acknowledged) == before:  # every other one, at any moment
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 1.0))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        for sender in senders:
            sender.join()
    process, _, seconds = started(folder)
    ready.append(seconds)
    process.send_signal(signal.SIGTERM)
    process.wait()
    with Limner.open(config=load(folder / "limner.toml"), write=False) as app:
        found: Counter[str] = Counter()
        for _, batch in app.store.log.read():
            found.update(batch.array("event_id").to_pylist())
        replayed = app.replay()
    return {
        "kills": kills,
        "acknowledged": len(acknowledged),
        "in_the_log": sum(found.values()),
        "lost": sum(1 for each in acknowledged if not found[each]),
        "twice": sum(1 for count in found.values() if count > 1),
        "portraits_differ": replayed.different,
        "ready_seconds": {
            "median": round(float(np.median(ready[1:])), 2),
            "max": round(max(ready[1:]), 2),
        },
    }


def main() -> None:
    """Run, print and write the figures; exit 1 if one is not as it must be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = killed(given.kills, given.seed, Path(folder))
    text = json.dumps(figures, indent=2)
    print(text)
    if given.out:
        given.out.write_text(text + "\n")
    bad = figures["lost"] or figures["twice"] or figures["portraits_differ"]
    raise SystemExit(1 if bad or figures["ready_seconds"]["max"] > 10 else 0)


if __name__ == "__main__":
    main()
