"""A process that writes numbered rows to a store, to be killed at any moment (law 3).

    python -m limner.testing.crash URL SEED

It appends the batches of `script(SEED)` from the first on, seals now and then, and prints the
head after each commit that was acknowledged. Run again, it starts from the first batch again:
what is there already changes nothing (law 2).
"""

from __future__ import annotations

import random
import subprocess
import sys
import time

from limner.events.batch import EventBatch
from limner.stores import Store, open_store, sqlite_log
from limner.testing.contracts import ANN, BEN, batch, identity, row

BATCHES = 60


def script(seed: int) -> list[EventBatch]:
    """The batches that a run with this seed appends: 1 to 400 rows, numbered from 0."""
    sizes = random.Random(seed)
    out, start = [], 0
    for _ in range(BATCHES):
        stop = start + sizes.choice((1, 1, 2, 20, 400))
        out.append(batch(*(row(n, (ANN, BEN)[n % 2]) for n in range(start, stop))))
        start = stop
    return out


def write(store: Store, number: int, part: EventBatch) -> None:
    """One commit: the rows, and an identity by which a test sees that it is whole."""
    with store.transaction():
        store.log.append(part)
        store.identities.add([identity(number.to_bytes(16, "big"))])


def run_until_killed(url: str, seed: int, seconds: float) -> int:
    """Start the process and kill it (SIGKILL) so long after its first commit.

    Returns the last head it acknowledged, 0 if none. `seconds` below 0 lets it end.
    """
    child = subprocess.Popen(
        [sys.executable, "-m", "limner.testing.crash", url, str(seed)], stdout=subprocess.PIPE
    )
    with child:
        assert child.stdout is not None
        first = child.stdout.readline()
        if seconds >= 0:
            time.sleep(seconds)
            child.kill()
        lines = (first + child.stdout.read()).split(b"\n")
    return int(lines[-2]) if len(lines) > 1 else 0  # after the last newline: half a number, or none


def main(url: str, seed: int) -> None:
    """Append the whole script."""
    parts = script(seed)
    sqlite_log.LOOKUP_ROWS = 1  # so that each sealing writes files to find rows by
    store = open_store(url, holder="a process that will be killed")
    for number, part in enumerate(parts):
        write(store, number, part)
        print(store.log.head(), flush=True)
        if number % 7 == 6:
            store.seal()
    store.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
