"""Snapshots of the state: what makes a start quick. The log stays the only truth.

A snapshot is a folder named by the position it reflects, written beside the last one and renamed
into place, so that a crash leaves the old or the new. Arrays are plain .npy files, memory-mapped
copy-on-write when read; a snapshot that is torn, altered or of another layout is ignored, and the
state is rebuilt from the log.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from limner.catalog.catalog import Catalog
from limner.events.arrays import Vocabulary
from limner.events.log import Position
from limner.profile.population import Population
from limner.profile.state import ProfileState

FORMAT = 1


class _Manifest(msgspec.Struct, frozen=True):
    format: int
    layout: str
    position: int
    newest_event: int
    log: str
    population_users: int
    population_at: int
    files: dict[str, int]


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

    def load(self, state: ProfileState, head: Position) -> tuple[Population, Arrays] | None:
        """Fill an empty state from the newest sound snapshot; its population and extra arrays.

        None if there is none of this log, layout and format, at or before the log's `head`.
        """
        for path in self._newest_first():
            manifest = _manifest(path)
            if (
                manifest is not None
                and manifest.layout == state.layout
                and manifest.log == self.log
                and manifest.position <= head
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
    users = path / "users.npy"
    return users.is_file() and user in users.read_bytes()


def _save(
    folder: Path, state: ProfileState, population: Population, log: str, extra: Arrays
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{state.position:020d}-{state.newest_event & 0xFFFFFFFF:08x}"
    work = folder / f".writing-{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    files: dict[str, int] = {}
    for name, array in state.arrays().items():
        np.save(work / f"{name}.npy", np.ascontiguousarray(array), allow_pickle=False)
    for name, array in extra.items():
        np.save(work / f"extra.{name}.npy", array, allow_pickle=False)
    items, versions, words = state.catalog.tables()
    tables = {"items": items, "versions": versions}
    for name, array in words.items():
        tables[f"catalog.{name}"] = pa.table({"word": array})
    for name, vocabulary in state.words.items():
        tables[f"words.{name}"] = pa.table({"word": pa.array(vocabulary.values, pa.string())})
    for facet, sums in population.sums.items():
        tables[f"sums.{facet}"] = pa.table(
            {
                "key": pa.array(sums[0], pa.int64()),
                "sums": pa.array(sums[1].tolist(), pa.list_(pa.float64())),
            }
        )
    tables["quantiles"] = pa.table(
        {
            "slot": pa.array(list(population.quantiles), pa.string()),
            "grid": pa.array(
                [row.tolist() for row in population.quantiles.values()], pa.list_(pa.float64())
            ),
        }
    )
    for name, table in tables.items():
        _write_table(work / f"{name}.arrow", table)
    for path in sorted(work.iterdir()):
        files[path.name] = path.stat().st_size
        _sync(path)
    manifest = _Manifest(
        FORMAT,
        state.layout,
        state.position,
        state.newest_event,
        log,
        population.users,
        population.at,
        files,
    )
    body = msgspec.json.encode(manifest)
    seal = hashlib.sha256(body).hexdigest().encode()
    (work / "manifest.json").write_bytes(seal + b"\n" + body)
    _sync(work / "manifest.json")
    _sync(work)
    shutil.rmtree(target, ignore_errors=True)
    work.rename(target)
    _sync(folder)
    for old in folder.iterdir():
        if old != target:
            shutil.rmtree(old, ignore_errors=True)


def _manifest(path: Path) -> _Manifest | None:
    try:
        seal, _, body = (path / "manifest.json").read_bytes().partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != seal:
            return None
        manifest = msgspec.json.decode(body, type=_Manifest)
        whole = all((path / n).stat().st_size == size for n, size in manifest.files.items())
    except (OSError, msgspec.MsgspecError):
        return None
    return manifest if whole and manifest.format == FORMAT else None


def _fill(path: Path, state: ProfileState, manifest: _Manifest) -> tuple[Population, Arrays]:
    arrays: Arrays = {}
    tables: dict[str, pa.Table] = {}
    for name in manifest.files:
        stem = name.rpartition(".")[0]
        if name.endswith(".npy"):
            arrays[stem] = np.load(path / name, mmap_mode="c", allow_pickle=False)
        else:
            with pa.memory_map(str(path / name)) as source:
                tables[stem] = pa.ipc.open_file(source).read_all()
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
    state.newest_event = manifest.newest_event
    sums = {
        name.removeprefix("sums."): (
            table["key"].to_numpy(),
            np.array(table["sums"].to_pylist()).reshape(len(table), -1),
        )
        for name, table in tables.items()
        if name.startswith("sums.")
    }
    quantiles = {
        slot: np.array(grid)
        for slot, grid in zip(
            tables["quantiles"]["slot"].to_pylist(),
            tables["quantiles"]["grid"].to_pylist(),
            strict=True,
        )
    }
    extra = {
        name.removeprefix("extra."): array
        for name, array in arrays.items()
        if name.startswith("extra.")
    }
    return Population(manifest.population_users, manifest.population_at, quantiles, sums), extra


def _write_table(path: Path, table: pa.Table) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
