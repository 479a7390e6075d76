"""Snapshots of the state: what makes a start quick. The log stays the only truth.

A snapshot is a folder named by the position it reflects, written beside the last one and renamed
into place, so that a crash leaves the old or the new. All arrays and tables lie in one file,
memory-mapped copy-on-write when read, and the manifest says what lies where; a snapshot that is
torn, altered or of another layout is ignored, and the state is rebuilt from the log.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from limner.catalog.catalog import Catalog
from limner.events.arrays import Vocabulary
from limner.events.durable import sync
from limner.events.log import Position
from limner.profile.population import Population
from limner.profile.state import ProfileState

FORMAT = 4
DATA = "data"
ALIGN = 64


class _Blob(msgspec.Struct, frozen=True):
    """An array (of `dtype` and `shape`) or a table (an Arrow stream, without them)."""

    offset: int
    size: int
    dtype: str = ""
    shape: tuple[int, ...] = ()


class _Manifest(msgspec.Struct, frozen=True):
    format: int
    layout: str
    position: int
    log: str
    size: int
    crc32: int
    blobs: dict[str, _Blob]


Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Snapshots:
    """The snapshots of one log, in a folder; of several only the newest is kept.

    `log` names the log they belong to, so that none is ever read against another. Without a
    folder (a store in memory) there are none.
    """

    folder: Path | None
    log: str
    name: str = "snapshots"

    def save(self, state: ProfileState, population: Population, extra: Arrays) -> None:
        """Write a snapshot of the state and remove older ones; `extra` arrays go with it."""
        if self.folder is not None:
            _save(self.folder, state, population, self.log, extra)

    def load(
        self, state: ProfileState, head: Position, *, verify: bool = True
    ) -> tuple[Population, Arrays] | None:
        """Fill an empty state from the newest sound snapshot; its population and extra arrays.

        None if there is none of this log, layout and format, at or before the log's `head`.
        To `verify` reads every byte once, about a second for 1 GB; without, only the manifest
        and the sizes of files are checked, which is enough to look at one user.
        """
        for _ in range(3):  # a writer may replace the one being opened
            try:
                return self._load(state, head, verify)
            except FileNotFoundError:
                continue
        return None

    def _load(
        self, state: ProfileState, head: Position, verify: bool
    ) -> tuple[Population, Arrays] | None:
        for path in self._newest_first():
            manifest = _manifest(path)
            if (
                manifest is not None
                and manifest.layout == state.layout
                and manifest.log == self.log
                and manifest.position <= head
                and (not verify or _unaltered(path, manifest))
            ):
                return _fill(path, state, manifest)
        return None

    def drop(self) -> None:
        """Remove all snapshots: the log changed behind them."""
        for path in self._newest_first():
            shutil.rmtree(path)

    def erase(self, user: bytes) -> int:
        """Remove the snapshots that hold a user; the state writes its next one without."""
        held = [path for path in self._newest_first() if _holds(path, user)]
        for path in held:
            shutil.rmtree(path)
        return len(held)

    def holds(self, user: bytes) -> bool:
        """Whether any snapshot holds this pseudonym."""
        return any(_holds(path, user) for path in self._newest_first())

    def _newest_first(self) -> list[Path]:
        if self.folder is None or not self.folder.is_dir():
            return []
        return sorted(self.folder.glob("[0-9]*"), reverse=True)


def _holds(path: Path, user: bytes) -> bool:
    data = path / DATA
    if not data.is_file() or not data.stat().st_size:
        return False
    with data.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        return view.find(user) >= 0


def _save(
    folder: Path, state: ProfileState, population: Population, log: str, extra: Arrays
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{state.position:020d}-{state.newest_event & 0xFFFFFFFF:08x}"
    work = folder / f".writing-{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    arrays = state.arrays() | {f"extra.{name}": array for name, array in extra.items()}
    items, versions, words = state.catalog.tables()
    tables = {"items": items, "versions": versions}
    for name, array in words.items():
        tables[f"catalog.{name}"] = pa.table({"word": array})
    for name, vocabulary in state.words.items():
        tables[f"words.{name}"] = pa.table({"word": pa.array(vocabulary.values, pa.string())})
    for name, table in population.tables().items():
        tables[f"population.{name}"] = table
    blobs: dict[str, _Blob] = {}
    with (work / DATA).open("wb") as file:
        for name, array in arrays.items():
            plain = np.ascontiguousarray(array)
            blobs[name] = _append(file, plain.tobytes(), plain.dtype.str, plain.shape)
        for name, table in tables.items():
            blobs[name] = _append(file, _stream(table))
        size = file.tell()
    sync(work / DATA)
    manifest = _Manifest(
        FORMAT,
        state.layout,
        state.position,
        log,
        size,
        _crc32(work / DATA),
        blobs,
    )
    body = msgspec.json.encode(manifest)
    seal = hashlib.sha256(body).hexdigest().encode()
    (work / "manifest.json").write_bytes(seal + b"\n" + body)
    sync(work / "manifest.json")
    sync(work)
    shutil.rmtree(target, ignore_errors=True)
    work.rename(target)
    sync(folder)
    for old in folder.iterdir():
        if old != target:
            shutil.rmtree(old, ignore_errors=True)


def _manifest(path: Path) -> _Manifest | None:
    try:
        seal, _, body = (path / "manifest.json").read_bytes().partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != seal:
            return None
        manifest = msgspec.json.decode(body, type=_Manifest)
        whole = (path / DATA).stat().st_size == manifest.size
    except (OSError, msgspec.MsgspecError):
        return None
    return manifest if whole and manifest.format == FORMAT else None


def _unaltered(path: Path, manifest: _Manifest) -> bool:
    return _crc32(path / DATA) == manifest.crc32


def _crc32(path: Path) -> int:
    found = 0
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            found = zlib.crc32(block, found)
    return found


def _mapped(path: Path) -> npt.NDArray[np.uint8]:
    if not (path / DATA).stat().st_size:
        return np.empty(0, dtype=np.uint8)
    return np.memmap(path / DATA, dtype=np.uint8, mode="c")


def _fill(path: Path, state: ProfileState, manifest: _Manifest) -> tuple[Population, Arrays]:
    arrays: Arrays = {}
    tables: dict[str, pa.Table] = {}
    data = _mapped(path)
    for name, blob in manifest.blobs.items():
        part = data[blob.offset : blob.offset + blob.size]
        if blob.dtype:
            arrays[name] = part.view(blob.dtype).reshape(blob.shape)
        else:
            tables[name] = pa.ipc.open_stream(pa.py_buffer(part)).read_all()
    words = {
        name.removeprefix("catalog."): table["word"].combine_chunks()
        for name, table in tables.items()
        if name.startswith("catalog.")
    }
    state.catalog = Catalog.of_tables(tables["items"], tables["versions"], words)
    state.words = {
        name.removeprefix("words."): Vocabulary(table["word"].to_pylist())
        for name, table in tables.items()
        if name.startswith("words.")
    }
    state.load(arrays)
    state.position = manifest.position
    population = Population.of_tables(
        {
            name.removeprefix("population."): table
            for name, table in tables.items()
            if name.startswith("population.")
        }
    )
    extra = {
        name.removeprefix("extra."): array
        for name, array in arrays.items()
        if name.startswith("extra.")
    }
    return population, extra


def _append(file: BinaryIO, body: bytes, dtype: str = "", shape: tuple[int, ...] = ()) -> _Blob:
    """Write at the next aligned place, so that a mapped array is aligned too."""
    file.write(bytes(-file.tell() % ALIGN))
    offset = file.tell()
    file.write(body)
    return _Blob(offset, len(body), dtype, shape)


def _stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    body: bytes = sink.getvalue().to_pybytes()
    return body
