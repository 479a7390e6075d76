"""Rows are found by user and by digest as the reference store finds them, whatever happens."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from limner.stores import runs
from limner.stores.memory import MemoryStore
from limner.stores.sqlite import SqliteStore
from limner.testing.contracts import ANN, BEN, CLEO, batch, contents, row

USERS = (ANN, BEN, CLEO, ANN[:8] + b"another.")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("LOOKUP_ROWS", 1), ("SPILL_ROWS", 40), ("SEGMENT_ROWS", 16)):
        monkeypatch.setattr(f"limner.stores.sqlite_log.{name}", value)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(tmp_path / "shop.db")) as store:
        yield store


def fill(store: SqliteStore, n: int = 100) -> None:
    for start in range(0, n, 10):
        store.log.append(batch(*(row(k, USERS[k % 4]) for k in range(start, start + 10))))


def files(store: SqliteStore) -> list[Path]:
    return sorted((store.home / "lookup").iterdir())


def assert_found(store: SqliteStore, n: int = 100) -> None:
    for place, user in enumerate(USERS):
        assert store.log.events_of(user)[0].tolist() == list(range(place, n, 4))
    assert not store.log.append(batch(*(row(k) for k in range(n)))).kept.any()


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_what_the_reference_finds(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    path, plain = tmp_path / "shop.db", MemoryStore()
    store = SqliteStore(path)
    for _ in range(40):
        what = chance.choice(["append"] * 6 + ["seal", "open", "erase", "undo", "break", "read"])
        if what == "append":
            first = chance.randrange(400)
            rows = [
                row(
                    number,
                    chance.choice(USERS),
                    check=int(chance.random() < 0.02),
                    target_user_id=chance.choice([None, *USERS]),
                )
                for number in range(first, first + chance.choice((1, 3, 30)))
            ]
            one, other = (each.log.append(batch(*rows)) for each in (store, plain))
            assert one.kept.tolist() == other.kept.tolist()
            assert one.conflict.tolist() == other.conflict.tolist()
        elif what == "seal":
            store.seal()
        elif what == "open":
            store.close()
            store = SqliteStore(path)
        elif what == "erase" and chance.random() < 0.5:
            user = chance.choice(USERS)
            assert store.log.erase(user) == plain.log.erase(user)
            assert not store.log.holds(user)
        elif what == "undo" and store.log.head():
            positions = np.array(chance.sample(range(store.log.head()), 1 + store.log.head() // 9))
            forget = chance.random() < 0.5
            for each in (store, plain):
                each.log.blank(positions, forget=forget)
        elif what == "break":
            with pytest.raises(ValueError, match="digest"):
                store.log.append(batch(row(999) | {"digest": None}))
        for user in chance.sample(USERS, 1):
            positions, events = store.log.events_of(user)
            known, reference = plain.log.events_of(user)
            assert positions.tolist() == known.tolist()
            assert events == reference
            assert store.log.holds(user) == plain.log.holds(user)
    assert contents(store.log) == contents(plain.log)
    store.close()


def test_sealing_leaves_few_files_and_none_that_does_not_hold(store: SqliteStore) -> None:
    fill(store, 400)
    store.seal()
    assert 2 <= len(files(store)) <= 12
    (text,) = store._database.query("SELECT value FROM meta WHERE name = 'runs'")[0]
    assert all(file.name in text for file in files(store))
    assert_found(store, 400)


def test_another_process_reads_by_the_same_files(store: SqliteStore) -> None:
    fill(store)
    with closing(SqliteStore(store.path, write=False)) as reader:
        assert_found_by(reader, 100)
        for start in (100, 200):
            store.log.append(batch(*(row(k, USERS[k % 4]) for k in range(start, start + 100))))
            store.seal()
            assert_found_by(reader, start + 100)
        store.log.erase(ANN)
        assert not len(reader.log.events_of(ANN)[0])


def assert_found_by(reader: SqliteStore, n: int) -> None:
    for place, user in enumerate(USERS):
        assert reader.log.events_of(user)[0].tolist() == list(range(place, n, 4))


@pytest.mark.parametrize("damage", ["altered", "torn", "missing", "all gone"])
def test_damaged_files_are_made_anew(store: SqliteStore, damage: str) -> None:
    fill(store)
    store.close()
    for file in files(store):
        body = file.read_bytes()
        if damage == "altered":
            file.write_bytes(bytes([body[0] ^ 1]) + body[1:])
        elif damage == "torn":
            file.write_bytes(body[:-8])
        else:
            file.unlink()
    if damage == "all gone":
        shutil.rmtree(store.home)
    with closing(SqliteStore(store.path)) as again:
        assert_found(again)
        again.seal()
        assert_found(again)


def test_a_database_put_back_from_a_backup_does_not_use_newer_files(
    store: SqliteStore, tmp_path: Path
) -> None:
    fill(store, 60)
    store.close()
    backup = store.path.read_bytes()
    with closing(SqliteStore(store.path)) as later:
        later.log.append(batch(*(row(k, BEN) for k in range(500, 600))))
        later.seal()
    store.path.write_bytes(backup)
    with closing(SqliteStore(store.path)) as again:
        assert_found(again, 60)
        assert again.log.append(batch(*(row(k, BEN) for k in range(500, 600)))).kept.all()
        assert len(again.log.events_of(BEN)[0]) == 115


def test_what_a_killed_process_left_half_done_is_removed(store: SqliteStore) -> None:
    fill(store)
    store.close()
    (store.home / "lookup" / "users-0123").write_bytes(bytes(16))
    with closing(SqliteStore(store.path)) as again:
        assert "users-0123" not in [file.name for file in files(again)]
        assert_found(again)


def test_long_runs_are_merged_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "PART_ROWS", 7)
    chance = np.random.default_rng(1)
    files: tuple[runs.RunFile, ...] = ()
    keys, places = [], []
    for size in (40, 3, 100, 1, 1, 60):
        tail = (chance.integers(0, 2**64, size, np.uint64), chance.integers(0, 10**9, size))
        keys.append(tail[0])
        places.append(tail[1])
        old = runs.mapped(tmp_path, "users", files, verify=True)
        assert old is not None
        files = runs.grown(tmp_path, "users", files, old, tail)
    found = runs.mapped(tmp_path, "users", files, verify=True)
    assert found is not None
    assert all((np.diff(run[0].astype(object)) >= 0).all() for run in found)
    assert all(len(a[0]) >= 2 * len(b[0]) for a, b in pairwise(found))
    pairs = sorted(pair for run in found for pair in zip(*(c.tolist() for c in run), strict=True))
    kept = [np.concatenate(column).tolist() for column in (keys, places)]
    assert pairs == sorted(zip(*kept, strict=True))
