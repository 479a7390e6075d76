"""Sorted runs beside the log, in files that are mapped: whose rows lie where, which digests exist.

They are made of the log and may be lost. Which files hold is said in the database (meta `runs`),
in the same transaction as whatever changes them, so that a crash, or a database put back from a
backup, never meets runs that do not fit it.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
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


PART_ROWS = 1 << 18
"""Rows that are merged at once, so that merging takes little memory however long the runs."""


class RunFile(msgspec.Struct, frozen=True):
    """One run: its file's name, its rows, and the CRC-32 of each column, end to end in the file."""

    name: str
    rows: int
    crc32: tuple[int, ...]


class Manifest(msgspec.Struct, frozen=True):
    """Which files hold, and up to which position; `change` counts what was removed from them."""

    upto: Position = 0
    change: int = 0
    users: tuple[RunFile, ...] = ()
    digests: tuple[RunFile, ...] = ()


def write(folder: Path, kind: Kind, rows: int, parts: Iterable[Run]) -> RunFile:
    """Write a run of so many rows, which comes in parts, to a new file; durable on return."""
    folder.mkdir(parents=True, exist_ok=True)
    name, crcs, done = f"{kind}-{uuid4().hex[:16]}", [0] * len(COLUMNS[kind]), 0
    with (folder / name).open("wb") as file:
        for part in parts:
            for place, (column, dtype) in enumerate(zip(part, COLUMNS[kind], strict=True)):
                body = np.ascontiguousarray(column, dtype).data
                crcs[place] = zlib.crc32(body, crcs[place])
                file.seek((place * rows + done) * 8)
                file.write(body)
            done += len(part[0])
        file.flush()
        os.fsync(file.fileno())
    sync(folder)
    return RunFile(name, rows, tuple(crcs))


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
        size = file.rows * 8
        # plain arrays: a look-up through the class memmap costs twice as much
        columns = [np.asarray(data[start : start + size]) for start in range(0, len(data), size)]
        if verify and tuple(zlib.crc32(column.data) for column in columns) != file.crc32:
            return None
        runs.append(
            tuple(column.view(dtype) for column, dtype in zip(columns, COLUMNS[kind], strict=True))
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
    taken = [sorted_run(tail)]
    rows = len(tail[0])
    while left and len(left[-1][0]) < 2 * rows:
        taken.insert(0, left.pop())
        rows += len(taken[0][0])
        kept.pop()
    return (*kept, write(folder, kind, rows, _merged(taken, rows)))


def _merged(runs: Sequence[Run], rows: int) -> Iterator[Run]:
    """Sorted runs as one, in parts of about `PART_ROWS`: keys are uniform, so by their range."""
    count = max(rows // PART_ROWS, 1)
    edges = np.array([part * 2**64 // count for part in range(1, count)], np.uint64)
    ends = [[*np.searchsorted(run[0], edges).tolist(), len(run[0])] for run in runs]
    starts = [0] * len(runs)
    for part in range(count):
        stops = [own[part] for own in ends]
        pieces = [
            tuple(column[start:stop] for column in run)
            for run, start, stop in zip(runs, starts, stops, strict=True)
        ]
        yield sorted_run(tuple(np.concatenate(column) for column in zip(*pieces, strict=True)))
        starts = stops


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
