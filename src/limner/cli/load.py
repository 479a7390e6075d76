"""HTTP load from this process on a server in another: for `limner bench serve` and its like.

A client of its own, since those made for convenience take more processor time than a request
takes the server, and both have the same two cores here.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from limner.errors import StoreError


class Connection:
    """One HTTP/1.1 connection that is kept, with one request at a time."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(
        self, method: str, path: str, body: bytes = b"", *, kind: str = "application/json"
    ) -> tuple[int, bytes]:
        """(status, body) of the answer. Raises OSError if the server goes away.

        A server closes connections that idle; what was sent on such a one is sent again.
        """
        idled = self._writer is not None
        try:
            return await self._ask(method, path, body, kind)
        except ConnectionError:
            if not idled:
                raise
            return await self._ask(method, path, body, kind)

    async def _ask(self, method: str, path: str, body: bytes, kind: str) -> tuple[int, bytes]:
        host, port = self._address
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(host, port)
        reader, writer = self._reader, self._writer
        assert reader is not None
        head = f"{method} {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: {kind}\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        try:
            said = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = next(
                int(line.partition(":")[2])
                for line in said.split("\r\n")
                if line.lower().startswith("content-length:")
            )
            answer = await reader.readexactly(length)
        except (asyncio.IncompleteReadError, OSError) as error:
            self.close()
            raise ConnectionError("the server went away") from error
        if "connection: close" in said.lower():
            self.close()
        return int(said[9:12]), answer

    def close(self) -> None:
        """Let the connection go; the next request opens another."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


@dataclass(slots=True)
class Load:
    """What became of requests: how long each took (ms), and what was not answered as it should."""

    taken: list[float] = field(default_factory=list)
    wrong: dict[int, int] = field(default_factory=dict)
    seconds: float = 0.0
    added: int = 0
    """Events that the answers say are in the log."""

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return len(self.taken) / max(self.seconds, 1e-9)


Request = tuple[str, str, bytes]
"""(method, path, body)."""


async def closed(
    address: tuple[str, int], connections: int, seconds: float, requests: Iterator[Request]
) -> Load:
    """As many requests as `connections` get answered, each asking again once it was."""
    out, began = Load(), time.perf_counter()

    async def one() -> None:
        connection = Connection(*address)
        try:
            while not (out.taken or out.wrong) or time.perf_counter() - began < seconds:
                sent = time.perf_counter()
                request = next(requests, None)
                if request is None:
                    break
                status, _ = await connection.ask(*request)
                note(out, status, sent)
        finally:
            connection.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    out.seconds = time.perf_counter() - began
    return out


async def open_loop(
    address: tuple[str, int],
    a_second: float,
    requests: Iterator[Request],
    stop: asyncio.Event,
) -> Load:
    """Requests at set times until `stop`, whether those before were answered or not."""
    out, began = Load(), time.perf_counter()
    idle: list[Connection] = []
    running: set[asyncio.Task[None]] = set()

    async def one(request: Request, due: float) -> None:
        connection = idle.pop() if idle else Connection(*address)
        status, answer = await connection.ask(*request)
        note(out, status, due)
        if status == 200 and request[0] == "POST":
            out.added += msgspec.json.decode(answer).get("added", 0)
        idle.append(connection)

    for number, request in enumerate(requests):
        due = began + number / a_second
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        if stop.is_set():
            break
        task = asyncio.create_task(one(request, due))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    for connection in idle:
        connection.close()
    out.seconds = time.perf_counter() - began
    return out


def note(load: Load, status: int, sent: float) -> None:
    """One answer more."""
    if 200 <= status < 300:
        load.taken.append((time.perf_counter() - sent) * 1000)
    else:
        load.wrong[status] = load.wrong.get(status, 0) + 1


_COMMAND = "from limner.cli import main; main()"


@contextmanager
def served(config: Path) -> Iterator[tuple[tuple[str, int], int]]:
    """`limner serve` in a process of its own: ((host, port), process id). Ended by SIGTERM."""
    command = [sys.executable, "-c", _COMMAND, "serve", "--config", str(config), "--port", "0"]
    child = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, env=os.environ.copy())
    try:
        yield address_of(child), child.pid
    finally:
        child.terminate()
        child.wait(60)
        assert child.stdout is not None
        child.stdout.close()


def address_of(child: subprocess.Popen[str]) -> tuple[str, int]:
    """Where a server that has just been started says that it listens."""
    assert child.stdout is not None
    for line in child.stdout:
        _, found, rest = line.partition("http://")
        if found:
            host, _, port = rest.split()[0].strip("/").rpartition(":")
            return host, int(port)
    raise StoreError("the server ended before it listened", mend="see what it said above")
