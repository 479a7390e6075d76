"""One way into every source, and reading ahead of whoever takes the batches."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue
from typing import Any, TypeVar

from limner.errors import InputError
from limner.events.raw import RawBatch, Refused
from limner.sources import files
from limner.sources.columns import Kind

Batch = TypeVar("Batch")


def are_rows(data: Any) -> bool:
    """Whether this is mappings, rather than a table or the path of a file."""
    return not isinstance(data, str | Path) and not hasattr(data, "__arrow_c_stream__")


def read(
    data: Any,
    kind: Kind,
    source: str,
    refuse: Callable[[Refused], None],
    columns: Mapping[str, str],
    constants: Mapping[str, str],
    where: str = "",
) -> Iterator[RawBatch]:
    """Read what `Limner.record` and imports take: a file's path, a table, or mappings."""
    if isinstance(data, str | Path):
        return files.read_file(
            data, kind=kind, refuse=refuse, columns=columns, constants=constants, source=source
        )
    if hasattr(data, "__arrow_c_stream__"):
        return files.read_table(
            data, kind=kind, columns=columns, constants=constants, source=source,
            where=where or "table",
        )  # fmt: skip
    if isinstance(data, Mapping):
        data = [data]
    if not isinstance(data, Iterable):
        raise InputError(
            f"{type(data).__name__} holds no events",
            mend="give an iterable of mappings, a DataFrame, an Arrow table or a file's path",
        )
    return files.read_rows(
        data, kind=kind, refuse=refuse, columns=columns, constants=constants, source=source,
        where=where or "rows",
    )  # fmt: skip


def row_count(data: Any) -> int:
    """How many rows an import has, 0 if only reading would tell."""
    return len(data) if hasattr(data, "__len__") and not isinstance(data, str) else 0


def ahead(batches: Iterator[Batch], depth: int = 2) -> Iterator[Batch]:
    """The same batches, read in another thread while the last one is being committed."""
    queue: Queue[Batch | BaseException | None] = Queue(depth)
    stop = threading.Event()

    def fill() -> None:
        try:
            for batch in batches:
                queue.put(batch)
                if stop.is_set():
                    break
            if isinstance(batches, Generator):
                batches.close()
            queue.put(None)
        except BaseException as error:
            queue.put(error)

    thread = threading.Thread(target=fill, name="limner-read", daemon=True)
    thread.start()
    try:
        while (got := queue.get()) is not None:
            if isinstance(got, BaseException):
                raise got
            yield got
    finally:
        stop.set()
        while thread.is_alive():  # it may wait for room
            with suppress(Empty):
                queue.get(timeout=0.1)
