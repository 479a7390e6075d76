"""Law 3: what was acknowledged survives `kill -9` and power loss, and nothing is half done."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from limner.stores.sqlite import SqliteStore
from limner.testing.contracts import ANN, BEN, batch, contents, row
from limner.testing.crash import BATCHES, run_until_killed, script, write

SEED = 4
PARTS = script(SEED)
ENDS = [0, *np.cumsum([len(part) for part in PARTS]).tolist()]


@contextmanager
def opened(path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(path)) as store:
        yield store


def assert_whole(store: SqliteStore) -> int:
    """The log holds the first so many batches, each once and with its identity; how many."""
    head = store.log.head()
    assert head in ENDS
    assert [found["timestamp"] % 10**9 for found in contents(store.log)] == list(range(head))
    commits = ENDS.index(head)
    assert store.identities.known() == {n.to_bytes(16, "big") for n in range(commits)}
    for place, user in enumerate((ANN, BEN)):
        assert store.log.events_of(user)[0].tolist() == list(range(place, head, 2))
    assert not any(store.log.append(part).kept.any() for part in PARTS[:commits])
    return commits


def test_acknowledged_rows_survive_kill(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    moments = random.Random(1)
    acknowledged = 0
    for _ in range(8):
        head = run_until_killed(f"sqlite:///{path}", SEED, moments.uniform(0, 0.15))
        acknowledged = max(acknowledged, head)
        with opened(path) as store:
            assert_whole(store)
            assert store.log.head() >= acknowledged
    assert acknowledged
    assert run_until_killed(f"sqlite:///{path}", SEED, -1) == ENDS[-1]
    with opened(path) as store:
        assert assert_whole(store) == BATCHES
        assert len(store.log.events_of(ANN)[0]) == (ENDS[-1] + 1) // 2
        assert not any(store.log.append(part).kept.any() for part in PARTS)


def test_the_write_connection_syncs_each_commit(tmp_path: Path) -> None:
    with opened(tmp_path / "shop.db") as store, store._database.transaction() as connection:
        pragmas = [
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "secure_delete")
        ]
    assert pragmas == ["wal", 2, 1]


def test_power_loss_takes_only_what_was_not_acknowledged(tmp_path: Path) -> None:
    """At an acknowledgement, all writes so far are synced (`synchronous=FULL`), so whatever power
    loss does, it does to bytes written later: here cut short or torn at many places."""
    path, wal = tmp_path / "shop.db", Path(f"{tmp_path / 'shop.db'}-wal")
    with opened(path) as store:
        for number in range(5):
            write(store, number, PARTS[number])
        synced = wal.read_bytes()
        write(store, 5, PARTS[5])
        later, database = wal.read_bytes(), path.read_bytes()
    assert later.startswith(synced)
    assert len(later) > len(synced)
    noise = random.Random(2)
    for cut in np.linspace(len(synced), len(later), 30).astype(int).tolist():
        for lost in (b"", bytes(len(later) - cut), noise.randbytes(len(later) - cut)):
            copy = tmp_path / "copy"
            copy.mkdir()
            (copy / "shop.db").write_bytes(database)
            (copy / "shop.db-wal").write_bytes(later[:cut] + lost)
            with opened(copy / "shop.db") as store:
                assert assert_whole(store) == (6 if cut == len(later) else 5)
                write(store, 5, PARTS[5])
                assert assert_whole(store) == 6
            shutil.rmtree(copy)


def test_a_kill_before_old_bytes_are_wiped_leaves_it_to_the_next_opening(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with opened(path) as store:
        store.log.append(batch(row(1, item_id="a secret thing"), row(2)))
    with opened(path) as store:
        store._database._wipe = lambda: None  # type: ignore[method-assign]
        store.log.blank(np.array([0]))
        assert store.get_meta("scrub") == "due"
    with opened(path) as store:
        assert store.get_meta("scrub") is None
        assert contents(store.log)[0].keys() == {"position", "digest", "check"}
    assert b"a secret thing" not in path.read_bytes()
