"""Reading and admission in a process of their own, beside the one that commits.

Half the work of an import is in Python: reading, digests, pseudonyms, sealing. Here another
process does it for the batches to come while this one commits the last. What it is told, the
keys among it, goes through a pipe and nowhere else, and it ends with the pipe.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import msgspec
import pyarrow as pa

from limner import errors
from limner.errors import LimnerError, StoreError
from limner.events.raw import RawBatch, Refused
from limner.privacy.admit import Admitted, Occurrences, PrivacyConfig, admit
from limner.privacy.identity import Sealed
from limner.privacy.keys import Keys
from limner.sources import reading
from limner.sources.columns import Kind

LEAST_BYTES = 8 << 20
"""A smaller file is read in this process: starting another one takes longer."""
LEAST_ROWS = 200_000
"""The same for a table in memory."""


class _Work(msgspec.Struct, frozen=True):
    """What the other process is told."""

    path: str | None
    kind: Kind
    source: str
    columns: dict[str, str]
    constants: dict[str, str]
    where: str
    fields: dict[str, str]
    keys: bytes


class _Head(msgspec.Struct, frozen=True):
    """What stands before a batch, or an error, or the end (neither)."""

    where: str = ""
    source: str = ""
    sealed: list[tuple[bytes, int, bytes, bytes]] = []
    refused: list[Refused] = []
    error: str = ""
    told: list[str] = []


MOST_KNOWN = 2_000_000
"""Users whose pseudonyms are remembered, some 200 bytes each."""


def worth_it(data: Any) -> bool:
    """Whether this is large enough for a process of its own."""
    if not sys.executable:
        return False
    if isinstance(data, str | Path):
        return Path(data).is_file() and Path(data).stat().st_size >= LEAST_BYTES
    return isinstance(data, pa.Table) and data.num_rows >= LEAST_ROWS


def admitted(
    data: str | Path | pa.Table,
    *,
    kind: Kind,
    source: str,
    columns: Mapping[str, str],
    constants: Mapping[str, str],
    where: str,
    keys: Keys,
    policy: PrivacyConfig,
    refuse: Callable[[Refused], None],
) -> Iterator[Admitted]:
    """The batches of a file or table as `reading.read` and `admit` give them, in their order.

    Raises what these raise, and StoreError if the process is gone before the end.
    """
    table = data if isinstance(data, pa.Table) else None
    path = None if table is not None else str(data)
    work = _Work(path, kind, source, dict(columns), dict(constants), where, dict(policy.fields),
                 keys.to_json())  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # the same modules, however this process found them; and no interrupt meant for this one
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        start_new_session=True,
    )
    assert process.stdin is not None and process.stdout is not None
    told = threading.Thread(target=_tell, args=(process.stdin, work, table), daemon=True)
    told.start()
    try:
        while True:
            head = msgspec.msgpack.decode(_framed(process.stdout), type=_Head)
            for refused in head.refused:
                refuse(refused)
            if head.error:
                raise _raised(head)
            if not head.where:
                return
            sealed = {row[0]: Sealed(*row) for row in head.sealed}
            rows, users = (_table(_framed(process.stdout)) for _ in range(2))
            pseudonyms, ids = (users.column(n).combine_chunks() for n in range(2))
            raw = RawBatch(rows, head.where, head.source)
            yield Admitted(raw, pseudonyms.to_pylist(), ids, sealed)
    except EOFError:
        raise StoreError(
            "the process that reads the rows is gone",
            where=where,
            mend="import the rest again (rows that are in are not taken twice); if it happens "
            "again, see whether the machine has run out of memory",
        ) from None
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def _tell(stream: IO[bytes], work: _Work, table: pa.Table | None) -> None:
    with suppress(BrokenPipeError), stream:  # whoever reads sees that it is gone
        _frame(stream, msgspec.msgpack.encode(work))
        if table is not None:
            with pa.ipc.new_stream(stream, table.schema) as sink:
                sink.write_table(table)


def _raised(head: _Head) -> BaseException:
    kind = getattr(errors, head.error, None)
    if isinstance(kind, type) and issubclass(kind, LimnerError):
        error = kind.__new__(kind)  # whatever else the class asks for is in its text already
        LimnerError.__init__(error, head.told[0], where=head.told[1], mend=head.told[2])
        return error
    return RuntimeError(f"{head.error}: {head.told[0]}")


def _frame(stream: IO[bytes], body: bytes | pa.Buffer) -> None:
    stream.write(len(body).to_bytes(8, "little"))
    stream.write(body)


def _framed(stream: IO[bytes]) -> bytes:
    head = stream.read(8)
    body = stream.read(int.from_bytes(head, "little")) if len(head) == 8 else b""
    if not body:
        raise EOFError
    return body


def _table(body: bytes) -> pa.Table:
    return pa.ipc.open_stream(body).read_all()


def _buffer(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue()


# -- in the other process ----------------------------------------------------------------------


def _work(stdin: IO[bytes], stdout: IO[bytes]) -> None:
    work = msgspec.msgpack.decode(_framed(stdin), type=_Work)
    keys, policy = Keys.from_json(work.keys), PrivacyConfig(work.fields)
    occurrences, refused = Occurrences(), list[Refused]()
    known: dict[str, bytes] = {}
    seen: set[bytes] = set()

    def send(head: _Head, *tables: pa.Table) -> None:
        _frame(stdout, msgspec.msgpack.encode(head))
        for table in tables:
            _frame(stdout, _buffer(table))
        stdout.flush()

    try:
        data = work.path if work.path is not None else pa.ipc.open_stream(stdin)
        for raw in reading.read(data, work.kind, work.source, refused.append, work.columns,
                                work.constants, work.where):  # fmt: skip
            if len(known) > MOST_KNOWN:
                known.clear()
            done = admit(raw, keys, policy, occurrences, known)
            new = {p: n for n, p in enumerate(done.pseudonyms) if p not in seen}
            seen.update(new)
            sealed = keys.seal_all((done.ids[n].as_py(), p) for p, n in new.items())
            rows = [(s.pseudonym, s.key_version, s.sealed_id, s.wrapped_key) for s in sealed]
            users = pa.table([pa.array(done.pseudonyms, pa.binary(16)), done.ids], ["key", "id"])
            bad = [refused.pop(0) for _ in range(len(refused))]
            send(_Head(raw.where, raw.source, rows, bad), done.raw.table, users)
        send(_Head(refused=refused))
    except BrokenPipeError:
        raise
    except LimnerError as error:
        told = [error.what, error.where, error.mend]
        send(_Head(refused=refused, error=type(error).__name__, told=told))
    except Exception as error:
        send(_Head(refused=refused, error=type(error).__name__, told=[str(error)]))


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        _work(sys.stdin.buffer, sys.stdout.buffer)
    os._exit(0)  # nothing is left to be said, and whoever reads may be gone
