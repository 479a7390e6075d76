from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from limner.errors import StoreBusy, StoreCorrupt, StoreError, UsageError
from limner.events.batch import EventBatch
from limner.stores import open_store
from limner.stores.memory import MemoryStore
from limner.stores.sqlite import SqliteStore
from limner.testing.contracts import ANN, BEN, batch, change, contents, identity, refusal, row


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shop.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(path, holder="limner serve at http://127.0.0.1:8088")) as store:
        yield store


def segments(path: Path) -> list[tuple[int, int]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT first, count FROM segment ORDER BY first").fetchall()


def test_a_reader_knows_who_writes_and_that_nobody_does(path: Path) -> None:
    with closing(SqliteStore(path)) as store:
        name = store.writer()
        with closing(SqliteStore(path, write=False)) as reader:
            assert reader.writer() == name != ""
            with pytest.raises(StoreBusy):
                SqliteStore(path)
    with closing(SqliteStore(path, write=False)) as reader:
        assert reader.writer() == ""
    with closing(SqliteStore(path)) as store:
        assert store.writer() not in ("", name)


def test_a_store_is_opened_by_url(path: Path) -> None:
    with closing(open_store(f"sqlite:///{path}")) as store:
        assert store.fresh
        assert store.home == path.with_suffix(".data")
        assert not path.with_suffix(".data").exists()
    with closing(open_store(f"sqlite:///{path}")) as store:
        assert store.fresh
        store.set_meta("keys", "print")
    with closing(open_store(f"sqlite:///{path}")) as store:
        assert not store.fresh
    assert isinstance(open_store("memory:"), MemoryStore)
    with pytest.raises(UsageError, match="has no backend"):
        open_store("mysql://shop")


# one writer, many readers


def test_a_second_writer_is_told_who_the_first_is(store: SqliteStore, path: Path) -> None:
    with pytest.raises(StoreBusy) as busy:
        SqliteStore(path)
    assert "limner serve at http://127.0.0.1:8088" in busy.value.what
    assert str(os.getpid()) in busy.value.what
    assert "--url" in busy.value.mend
    store.close()
    with closing(SqliteStore(path)) as again:
        assert again.log.head() == 0


def test_the_lock_of_a_killed_writer_is_free(path: Path) -> None:
    code = (
        "import os, sys, pathlib; from limner.stores.sqlite import SqliteStore;"
        "SqliteStore(pathlib.Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert path.with_name("shop.db.writer").exists()
    SqliteStore(path).close()
    assert not path.with_name("shop.db.writer").exists()


def test_another_process_reads_beside_the_writer(store: SqliteStore, path: Path) -> None:
    store.log.append(batch(row(1), row(2)))
    with closing(SqliteStore(path, write=False)) as reader:
        assert reader.log.head() == 2
        assert len(reader.log.events_of(ANN)[0]) == 2
        store.log.append(batch(row(3), row(4, BEN)))
        store.seal()
        assert len(reader.log.events_of(ANN)[0]) == 3
        assert contents(reader.log) == contents(store.log)
        store.log.erase(ANN)
        assert len(reader.log.events_of(ANN)[0]) == 0
        with pytest.raises(StoreError, match="reading only"):
            reader.log.append(batch(row(5)))


def test_reading_takes_no_lock(store: SqliteStore, path: Path) -> None:
    store.log.append(batch(row(1)))
    store.close()
    with closing(SqliteStore(path, write=False)) as reader, closing(SqliteStore(path)) as writer:
        writer.log.append(batch(row(2)))
        assert reader.log.head() == 2


def test_sealing_disturbs_no_reader(store: SqliteStore) -> None:
    lengths: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            read = [found["timestamp"] % 10**9 for found in contents(store.log)]
            assert read == list(range(len(read)))
            lengths.append(len(read))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for number in range(60):
            store.log.append(batch(row(number)))
            store.seal()
    finally:
        over.set()
        watcher.join()
    assert lengths == sorted(lengths)
    assert len(contents(store.log)) == 60


def test_a_store_that_is_not_there_cannot_be_read(path: Path) -> None:
    with pytest.raises(StoreError, match="limner init"):
        SqliteStore(path, write=False)
    assert list(path.parent.iterdir()) == []


def test_a_closed_store_says_so(store: SqliteStore) -> None:
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.log.head()


# files that are not what they should be


def test_a_file_that_is_no_store(path: Path) -> None:
    path.write_bytes(b"user,item\n" * 999)
    for write in (True, False):
        with pytest.raises(StoreCorrupt, match="SQLite cannot read"):
            SqliteStore(path, write=write)
    path.unlink()
    sqlite3.connect(path).close()
    path.touch()
    with pytest.raises(StoreError, match="no store"):
        SqliteStore(path, write=False)


def test_the_database_of_another_program_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE meta (x)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_a_full_disk_leaves_nothing_half_done(store: SqliteStore) -> None:
    store.log.append(batch(row(0)))
    writer = store._database._writer
    assert writer is not None
    (pages,) = writer.execute("PRAGMA page_count").fetchone()
    writer.execute(f"PRAGMA max_page_count = {pages + 1}")
    large = EventBatch.of([row(number, properties_note=f"{number}" * 9) for number in range(5000)])
    with pytest.raises(StoreError, match="full"):
        store.log.append(large)
    assert store.log.head() == 1
    writer.execute("PRAGMA max_page_count = 1000000")
    assert store.log.append(large).kept.sum() == 4999


def test_a_store_of_a_newer_version_is_left_alone(store: SqliteStore, path: Path) -> None:
    store.set_meta("schema", "99")
    store.close()
    with pytest.raises(StoreError, match="schema 99") as newer:
        SqliteStore(path)
    assert "upgrade" in newer.value.mend


@pytest.mark.parametrize(
    "damage",
    [
        "body = substr(body, 1, length(body) - 9)",
        "body = CAST(substr(body, 1, 99) || X'FF' || substr(body, 101) AS BLOB)",
        "body = X''",
        "count = count + 1",
    ],
)
def test_a_damaged_segment_is_found(store: SqliteStore, path: Path, damage: str) -> None:
    store.log.append(batch(row(1), row(2)))
    store.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"UPDATE segment SET {damage}")
    with closing(SqliteStore(path)) as store, pytest.raises(StoreCorrupt, match="position 0"):
        list(store.log.read())


# sealing


def test_small_commits_are_merged_by_the_way(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("limner.stores.sqlite_log.SMALL_SEGMENTS", 32)
    monkeypatch.setattr("limner.stores.sqlite_log.SEGMENT_ROWS", 64)
    for number in range(100):
        store.log.append(batch(row(number)))
        store.log.join()  # what is merged beside the writer is done before the next commit
    assert segments(path) == [(0, 64), (64, 32), *((first, 1) for first in range(96, 100))]
    assert [found["timestamp"] % 10**9 for found in contents(store.log)] == list(range(100))


def test_sealing_rewrites_a_large_segment_for_no_small_one(store: SqliteStore, path: Path) -> None:
    store.log.append(EventBatch.of([row(number) for number in range(100)]))
    for number in range(100, 109):
        store.log.append(batch(row(number)))
    store.seal()
    assert segments(path) == [(0, 100), (100, 8), (108, 1)]


# erasure


def test_no_byte_of_an_erased_user_stays_in_the_files(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small segments, identities and refused rows lie in the files as they are; a large segment
    is compressed, so there the pieces of its old bytes are looked for."""
    bytes_ = random.Random(5)
    users = [bytes_.randbytes(16) for _ in range(40)]
    number = 0
    for _ in range(60):
        rows = [
            row(number + n, bytes_.choice(users), item_id=f"item/{number + n}/", properties_note=
                f"note/{number + n}/")
            for n in range(bytes_.choice((1, 2, 5, 30)))
        ]  # fmt: skip
        number += len(rows)
        store.log.append(batch(*rows))
        others = [
            identity(bytes_.randbytes(16), bytes_.randbytes(bytes_.randrange(20, 300)))
            for _ in range(9)
        ]
        store.identities.add(others)
    erased = users[7]
    store.identities.add([identity(erased, b"sealed id of the one")])
    store.quarantine.add([refusal(1, user_id=erased, item_id="item/refused/")])
    for user in users:
        store.shown.put([(user, "spend", b"shown to " + user.hex().encode() * 9)])
        store.outbox.add([change(user)] * 3, keep=1_000)
    for start in range(0, 3000, 1000):
        large = [
            row(10**6 + start + n, users[n % 9], properties_note=f"large/{start + n}/")
            for n in range(1000)
        ]
        store.log.append(batch(*large))
    store.set_meta("keys", "print")
    monkeypatch.setattr("limner.stores.sqlite_log.LOOKUP_ROWS", 1)
    store.seal()
    _, events = store.log.events_of(erased)
    columns = [events.array("item_id"), events.array("properties.note")]
    texts = {text.encode() for column in columns for text in column.to_pylist()}
    needles = {text for text in texts if not text.startswith(b"item ")}
    found_by = erased[7::-1]  # its first half, as files to find rows by have it
    assert any(found_by in file.read_bytes() for file in (store.home / "lookup").iterdir())
    needles |= {erased, found_by, erased.hex().encode(), b"sealed id of the one", b"item/refused/"}
    before = b"".join(body for (body,) in store._database.query("SELECT body FROM segment"))
    assert sum(needle in path.read_bytes() + wal(path) for needle in needles) > 10

    with store.transaction():
        assert [part.erase(erased) for part in store.erasables] == [len(events), 1, 1, 1, 3, 0]

    after = b"".join(body for (body,) in store._database.query("SELECT body FROM segment"))
    pieces = {before[start : start + 48] for start in range(0, len(before) - 48, 331)}
    needles |= {piece for piece in pieces if piece not in after}
    files = [file.read_bytes() for file in path.parent.rglob("*") if file.is_file()]
    assert {needle for needle in needles if any(needle in file for file in files)} == set()
    assert all(not part.holds(erased) for part in store.erasables)


def test_a_reader_that_keeps_old_bytes_alive_is_reported(store: SqliteStore, path: Path) -> None:
    store.log.append(batch(row(1, item_id="a secret thing"), row(2)))
    store._database._writer.execute("PRAGMA busy_timeout=20")  # type: ignore[union-attr]
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM segment").fetchone()
        with pytest.raises(StoreBusy, match="keeps old bytes"):
            store.log.blank(np.array([0]))
        assert store.log.events_of(ANN)[0].tolist() == [1]
    store.close()
    SqliteStore(path).close()
    assert b"a secret thing" not in path.read_bytes()


def wal(path: Path) -> bytes:
    return path.with_name(path.name + "-wal").read_bytes()
