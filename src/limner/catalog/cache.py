"""Vectors that were encoded before, by the hash of their content and the name of their encoder.

A cache, beside the log and never part of it: what is lost or broken is encoded again. It knows
hashes of items' content and nothing of users, so there is nothing in it to erase.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from limner.catalog.encoders import F32, Kind

_log = logging.getLogger(__name__)

_SCHEMA = """
create table if not exists vectors (
    encoder text, hash blob, vector blob, sum integer, note text, mend text,
    primary key (encoder, hash)
) without rowid;
create table if not exists notes (item text, kind text, what text, mend text);
"""
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Note:
    """Why an item's content of a kind could not be used, and how to mend it."""

    item_id: str
    kind: Kind
    what: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """A vector, or why there is none: `fault` says what is wrong and how to mend it."""

    vector: F32 | None
    fault: tuple[str, str] = ("", "")


class VectorCache:
    """One SQLite file, or without a path memory. Safe to use from several threads."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._database = self._opened()

    def _opened(self) -> sqlite3.Connection:
        if self._path is None:
            return _connected(":memory:")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            return _connected(str(self._path))
        except sqlite3.OperationalError as error:  # nowhere to write: only this run remembers
            _log.warning("%s cannot be written, so vectors are not kept: %s", self._path, error)
            return _connected(":memory:")
        except sqlite3.DatabaseError:
            return self._anew()

    def _anew(self) -> sqlite3.Connection:
        assert self._path is not None
        _log.warning("%s was broken, so items are encoded again", self._path)
        for ending in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + ending).unlink(missing_ok=True)
        return _connected(str(self._path))

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._database.close()

    def find(self, encoder: str, width: int, hashes: Sequence[bytes]) -> dict[bytes, Kept]:
        """What is known of these contents, by hash. A vector that is not sound is not known."""
        found: dict[bytes, Kept] = {}
        with self._lock:
            for start in range(0, len(hashes), 500):
                some = hashes[start : start + 500]
                marks = ",".join("?" * len(some))
                asked = (
                    "select hash, vector, sum, note, mend from vectors "
                    f"where encoder = ? and hash in ({marks})"
                )
                try:
                    rows = self._database.execute(asked, (encoder, *some)).fetchall()
                except sqlite3.OperationalError:
                    return found
                except sqlite3.DatabaseError:
                    self._database.close()
                    self._database = self._anew()
                    return {}
                for key, vector, total, note, mend in rows:
                    if vector is None:
                        found[key] = Kept(None, (note, mend))
                    elif len(vector) == 2 * width and zlib.crc32(vector) == total:
                        half = np.frombuffer(vector, dtype="<f2")
                        found[key] = Kept(half.astype(np.float32))
        return found

    def put(self, encoder: str, new: Mapping[bytes, Kept]) -> None:
        """Keep vectors, as half-precision numbers, and faults, in one transaction."""
        rows = []
        for key, kept in new.items():
            half = None if kept.vector is None else kept.vector.astype("<f2").tobytes()
            total = None if half is None else zlib.crc32(half)
            rows.append((encoder, key, half, total, *kept.fault))
        # a cache that is locked or full is no reason to stop
        with self._lock, suppress(sqlite3.OperationalError), self._database:
            self._database.executemany("insert or replace into vectors values (?,?,?,?,?,?)", rows)

    def note(self, notes: Iterable[Note]) -> None:
        """Keep these in place of what was noted before."""
        rows = [(note.item_id, note.kind, note.what, note.mend) for note in notes]
        with self._lock, suppress(sqlite3.OperationalError), self._database:
            self._database.execute("delete from notes")
            self._database.executemany("insert into notes values (?,?,?,?)", rows)

    def notes(self) -> list[Note]:
        """What was noted when items were last encoded, by item."""
        with self._lock:
            try:
                rows = self._database.execute("select * from notes order by item, kind").fetchall()
            except sqlite3.DatabaseError:
                return []
        return [Note(*row) for row in rows]


def half(vector: F32) -> F32:
    """A vector as the cache gives it back, so that the first run and the next say the same."""
    return vector.astype("<f2").astype(np.float32)


def _connected(place: str) -> sqlite3.Connection:
    database = sqlite3.connect(place, timeout=10, check_same_thread=False)
    try:
        database.execute("pragma journal_mode = wal")
        database.execute("pragma synchronous = normal")
        if database.execute("pragma user_version").fetchone()[0] not in (0, _VERSION):
            database.execute("drop table if exists vectors")
            database.execute("drop table if exists notes")
        database.executescript(_SCHEMA + f"pragma user_version = {_VERSION};")
    except BaseException:
        database.close()
        raise
    return database
