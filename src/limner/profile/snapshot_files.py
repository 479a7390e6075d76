"""How a snapshot of the state lies on the disk.

It is a folder named by the position it reflects, written beside the last one and renamed
into place, so that a crash leaves the old or the new. `data` holds all arrays, with room to grow;
`rest` what changed since `data` was written, in blocks, and the tables; the manifest says what
lies where. The next snapshot links the same `data` and writes only `rest`, until so much has
changed that all is written anew. Both are memory-mapped when read, `data` copy-on-write; a snapshot
that is torn, altered or of another layout is ignored, and the state is rebuilt from the log.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import shutil
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from limner.catalog.catalog import Catalog
from limner.events.arrays import Vocabulary
from limner.events.batch import I64
from limner.events.durable import sync
from limner.profile.population import Population
from limner.profile.state import ProfileState

FORMAT = 5
DATA, REST, MANIFEST = "data", "rest", "manifest.json"
ALIGN = 64
BLOCK = 512
"""Bytes that are written anew when one of them changed: a few users' records."""
ROOM = 1.25
"""How much longer an array may get before all is written anew."""
LEAST_ROOM = 16 << 10
"""Bytes of room for an array that is small, or empty still."""
ANEW = 0.25
"""The share of all bytes whose change has all written anew."""


class _Array(msgspec.Struct, frozen=True):
    """An array: `size` bytes of `data` from `offset`; all `room` bytes there have this CRC.

    The block numbers in `at` (int64, in `rest`) are those of the blocks in `blocks`.
    """

    dtype: str
    shape: tuple[int, ...]
    offset: int
    room: int
    crc32: int
    size: int
    at: tuple[int, int] = (0, 0)
    blocks: tuple[int, int] = (0, 0)


class Manifest(msgspec.Struct, frozen=True):
    """`tables` are Arrow streams in `rest`, each an offset and a size."""

    format: int
    layout: str
    position: int
    log: str
    data_size: int
    rest_size: int
    rest_crc32: int
    arrays: dict[str, _Array]
    tables: dict[str, tuple[int, int]]


Arrays = dict[str, npt.NDArray[Any]]
Bytes = npt.NDArray[np.uint8]


def holds(path: Path, user: bytes) -> bool:
    """Whether the snapshot in a folder has these bytes anywhere."""
    for name in (DATA, REST):
        file = path / name
        if not file.is_file() or not file.stat().st_size:
            continue
        with (
            file.open("rb") as opened,
            mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as view,
        ):
            if view.find(user) >= 0:
                return True
    return False


def write(
    folder: Path, state: ProfileState, population: Population, log: str, extra: Arrays
) -> None:
    """Write a snapshot and remove all others; it is durable, and in its place, on return."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{state.position:020d}-{state.newest_event & 0xFFFFFFFF:08x}"
    work = folder / f".writing-{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    arrays = {
        name: np.ascontiguousarray(array)
        for name, array in (
            *state.arrays().items(),
            *((f"extra.{name}", array) for name, array in extra.items()),
        )
    }
    before = _linked(folder, work, arrays)
    changed = None if before is None else _changes(work / DATA, before, arrays)
    if before is None or changed is None:
        before, changed = _all_anew(work / DATA, arrays), {}
    tables: dict[str, tuple[int, int]] = {}
    described: dict[str, _Array] = {}
    with (work / REST).open("wb") as file:
        for name, table in _tables(state, population).items():
            tables[name] = _append(file, _stream(table))
        for name, array in arrays.items():
            at, blocks = changed.get(name, (_NONE, _NONE))
            described[name] = msgspec.structs.replace(
                before[name],
                dtype=array.dtype.str,
                shape=array.shape,
                size=array.nbytes,
                at=_append(file, at.tobytes()),
                blocks=_append(file, blocks.tobytes()),
            )
        rest_size = file.tell()
    sync(work / REST)
    manifest = Manifest(
        FORMAT,
        state.layout,
        state.position,
        log,
        (work / DATA).stat().st_size,
        rest_size,
        _crc32(work / REST),
        described,
        tables,
    )
    body = msgspec.json.encode(manifest)
    seal = hashlib.sha256(body).hexdigest().encode()
    (work / MANIFEST).write_bytes(seal + b"\n" + body)
    sync(work / MANIFEST)
    sync(work)
    shutil.rmtree(target, ignore_errors=True)
    work.rename(target)
    sync(folder)
    for old in folder.iterdir():
        if old != target:
            shutil.rmtree(old, ignore_errors=True)


_NONE: Any = np.empty(0, np.int64)


def _bytes(array: npt.NDArray[Any]) -> Bytes:
    return array.reshape(-1).view(np.uint8)


def _linked(folder: Path, work: Path, arrays: Arrays) -> dict[str, _Array] | None:
    """Link the `data` of the newest snapshot, if all arrays fit where they lie in it."""
    for path in sorted(folder.glob("[0-9]*"), reverse=True):
        manifest = manifest_of(path)
        if manifest is None or manifest.arrays.keys() != arrays.keys():
            continue
        if all(arrays[name].nbytes <= known.room for name, known in manifest.arrays.items()):
            with suppress(OSError):  # a file system without links, or the snapshot went
                os.link(path / DATA, work / DATA)
                return manifest.arrays
    return None


def _changes(
    data: Path, before: Mapping[str, _Array], arrays: Arrays
) -> dict[str, tuple[I64, Bytes]] | None:
    """By array the blocks that differ from those in `data`; None if they are too many."""
    old = _mapped(data, "r")
    out: dict[str, tuple[I64, Bytes]] = {}
    most = int(ANEW * sum(array.nbytes for array in arrays.values())) + (1 << 16)
    for name, array in arrays.items():
        start, new = before[name].offset, _bytes(array)
        whole = len(new) // BLOCK
        at = _differing(new, old[start : start + before[name].room], whole)
        blocks = new[: whole * BLOCK].reshape(-1, BLOCK)[at]
        if len(new) % BLOCK:  # the last block is not full: padded, and always written
            last = np.zeros((1, BLOCK), np.uint8)
            last[0, : len(new) % BLOCK] = new[whole * BLOCK :]
            at, blocks = np.append(at, whole), np.concatenate([blocks, last])
        most -= blocks.nbytes
        if most < 0:
            return None
        out[name] = at, blocks
    return out


def _differing(new: Bytes, old: Bytes, blocks: int, step: int = 1 << 12) -> I64:
    """The numbers of the first so many blocks that are not the same."""
    found = [_NONE]
    for first in range(0, blocks, step):
        part = slice(first * BLOCK, min(first + step, blocks) * BLOCK)
        a, b = (side[part].view(np.uint64).reshape(-1, BLOCK // 8) for side in (new, old))
        if not np.array_equal(a, b):
            found.append(first + np.flatnonzero((a != b).any(axis=1)))
    return np.concatenate(found)


def _all_anew(data: Path, arrays: Arrays) -> dict[str, _Array]:
    """Write all arrays to a new `data`, each with room to grow that takes no space on the disk."""
    data.unlink(missing_ok=True)
    out: dict[str, _Array] = {}
    with data.open("wb") as file:
        end = 0
        for name, array in arrays.items():
            body = _bytes(array).data
            room = -(-max(int(array.nbytes * ROOM), LEAST_ROOM) // BLOCK) * BLOCK
            file.seek(end)
            file.write(body)
            crc = zlib.crc32(bytes(room - array.nbytes), zlib.crc32(body))
            out[name] = _Array("", (), end, room, crc, array.nbytes)
            end += room
        file.truncate(end)
    sync(data)
    return out


def _tables(state: ProfileState, population: Population) -> dict[str, pa.Table]:
    items, versions, words = state.catalog.tables()
    tables = {"items": items, "versions": versions}
    for name, array in words.items():
        tables[f"catalog.{name}"] = pa.table({"word": array})
    for name, vocabulary in state.words.items():
        tables[f"words.{name}"] = pa.table({"word": pa.array(vocabulary.values, pa.string())})
    for name, table in population.tables().items():
        tables[f"population.{name}"] = table
    return tables


def manifest_of(path: Path) -> Manifest | None:
    """What lies where in a snapshot; None if it is torn, altered or of another format."""
    try:
        seal, _, body = (path / MANIFEST).read_bytes().partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != seal:
            return None
        manifest = msgspec.json.decode(body, type=Manifest)
        sizes = [(path / name).stat().st_size for name in (DATA, REST)]
    except (OSError, msgspec.MsgspecError):
        return None
    whole = sizes == [manifest.data_size, manifest.rest_size]
    return manifest if whole and manifest.format == FORMAT else None


def unaltered(path: Path, manifest: Manifest) -> bool:
    """Whether every byte is as it was written."""
    data = _mapped(path / DATA, "r")

    def sound(array: _Array) -> bool:
        return zlib.crc32(data[array.offset : array.offset + array.room].data) == array.crc32

    largest_first = sorted(manifest.arrays.values(), key=lambda array: -array.room)
    with ThreadPoolExecutor() as threads:  # zlib lets go of the interpreter's lock
        return _crc32(path / REST) == manifest.rest_crc32 and all(threads.map(sound, largest_first))


def _crc32(path: Path) -> int:
    found = 0
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            found = zlib.crc32(block, found)
    return found


def _mapped(path: Path, mode: Literal["r", "c"]) -> Bytes:
    if not path.stat().st_size:
        return np.empty(0, dtype=np.uint8)
    return np.asarray(np.memmap(path, dtype=np.uint8, mode=mode))


def fill(path: Path, state: ProfileState, manifest: Manifest) -> tuple[Population, Arrays]:
    """Have an empty state be what a snapshot holds; its population and extra arrays."""
    data, rest = _mapped(path / DATA, "c"), _mapped(path / REST, "r")
    arrays, rooms = Arrays(), Arrays()
    for name, known in manifest.arrays.items():
        part = data[known.offset : known.offset + known.room]
        at, blocks = (rest[start : start + size] for start, size in (known.at, known.blocks))
        if len(at):
            part.reshape(-1, BLOCK)[at.view(np.int64)] = blocks.reshape(-1, BLOCK)
        arrays[name] = part[: known.size].view(known.dtype).reshape(known.shape)
        if known.size:
            size = known.size // known.shape[0]
            fits = part[: len(part) // size * size].view(known.dtype)
            rooms[name] = fits.reshape(-1, *known.shape[1:])
    tables = {
        name: pa.ipc.open_stream(pa.py_buffer(rest[start : start + size])).read_all()
        for name, (start, size) in manifest.tables.items()
    }
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
    state.load(arrays, rooms)
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


def _append(file: BinaryIO, body: bytes) -> tuple[int, int]:
    """Write at the next aligned place, so that a mapped array is aligned too; where it lies."""
    file.write(bytes(-file.tell() % ALIGN))
    offset = file.tell()
    file.write(body)
    return offset, len(body)


def _stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    body: bytes = sink.getvalue().to_pybytes()
    return body
