"""Sorted runs beside the log, in files that are mapped: whose rows lie where, which digests exist.

They are made of the log and may be lost. Which files hold is said in the database (meta `runs`),
in the same transaction as whatever changes them, so that a crash, or a database put back from a
backup, never meets runs that do not fit it.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from contextlib import suppress
from pathlib import Path
from typing import Literal
from uuid import uuid4

import msgspec
import numpy as np

from limner.events.durable import sync
from limner.events.log import Position
from limner.events.once import Run, sorted_run

Kind = Literal["users", "digests"]

COLUMNS: dict[Kind, tuple[str, ...]] = {
    "users": ("<u8", "<i8"),  # first half of the pseudonym, position
    "digests": ("<u8", "<u8", "<u8"),  # the halves of the digest, the check
}
"""What the columns of each kind of run are; the first is the one they are sorted by."""


class RunFile(msgspec.Struct, frozen=True):
    """One run: its file's name, its rows, and the CRC-32 of its bytes."""

    name: str
    rows: int
    crc32: int


class Manifest(msgspec.Struct, frozen=True):
    """Which files hold, and up to which position; `change` counts what was removed from them."""

    upto: Position = 0
    change: int = 0
    users: tuple[RunFile, ...] = ()
    digests: tuple[RunFile, ...] = ()


def write(folder: Path, kind: Kind, run: Run) -> RunFile:
    """Write a run to a new file; it is durable on return."""
    folder.mkdir(parents=True, exist_ok=True)
    name, crc = f"{kind}-{uuid4().hex[:16]}", 0
    with (folder / name).open("wb") as file:
        for column, dtype in zip(run, COLUMNS[kind], strict=True):
            for start in range(0, len(column), 1 << 20):
                part = np.ascontiguousarray(column[start : start + (1 << 20)], dtype)
                crc = zlib.crc32(part.data, crc)
                file.write(part.data)
        file.flush()
        os.fsync(file.fileno())
    sync(folder)
    return RunFile(name, len(run[0]), crc)


def mapped(folder: Path, kind: Kind, files: Iterable[RunFile], *, verify: bool) -> list[Run] | None:
    """The runs in these files, None if one of them is missing, torn or altered."""
    runs = []
    for file in files:
        try:
            data = np.memmap(folder / file.name, np.uint8, mode="r")
        except (OSError, ValueError):
            return None
        if len(data) != file.rows * 8 * len(COLUMNS[kind]):
            return None
        if verify and zlib.crc32(data.data) != file.crc32:
            return None
        size = file.rows * 8
        runs.append(
            tuple(
                # plain arrays: a look-up through the class memmap costs twice as much
                np.asarray(data[place * size : (place + 1) * size]).view(dtype)
                for place, dtype in enumerate(COLUMNS[kind])
            )
        )
    return runs


def grown(
    folder: Path, kind: Kind, files: tuple[RunFile, ...], runs: list[Run], tail: Run
) -> tuple[RunFile, ...]:
    """Files for these runs and a new one, which takes up those less than twice its length.

    So a look-up touches O(log n) of them, and a row is written O(log n) times.
    """
    if not len(tail[0]):
        return files
    kept, left = list(files), list(runs)
    taken = [tail]
    while left and len(left[-1][0]) < 2 * sum(len(run[0]) for run in taken):
        taken.insert(0, left.pop())
        kept.pop()
    whole = sorted_run(tuple(np.concatenate(column) for column in zip(*taken, strict=True)))
    return (*kept, write(folder, kind, whole))


def remove(
    folder: Path, names: Iterable[str] | None = None, *, keep: AbstractSet[str] = frozenset()
) -> None:
    """Remove these files, or all but those to keep."""
    if not folder.is_dir():
        return
    for path in folder.iterdir() if names is None else [folder / name for name in names]:
        if path.name not in keep:
            with suppress(OSError):  # mapped by a reader on a system that minds; next time
                path.unlink()
