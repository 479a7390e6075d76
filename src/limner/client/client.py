"""The two clients: each sends what `asking` describes, one of them for asyncio."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from functools import wraps
from types import TracebackType
from typing import Any, Generic, ParamSpec, Self, TypeVar, overload
from urllib.parse import urlsplit

from limner.client import asking
from limner.client.asking import Asked, Event
from limner.client.line import Line
from limner.client.retrying import AGAIN, Busy, Retries, Unreachable, retry_after
from limner.client.values import Accepted
from limner.errors import AllRefused, LimnerError, MissingExtra, UsageError

try:
    import httpx
except ImportError:
    raise MissingExtra("the client", "client") from None

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger("limner.client")


class _Method(Generic[P, T]):
    """A request as a method: of a `Client` it answers, of an `AsyncClient` it is awaited."""

    def __init__(self, describe: Callable[P, Asked[T]]) -> None:
        self._describe = describe
        self.__doc__ = describe.__doc__

    @overload
    def __get__(self, client: Client, owner: type) -> Callable[P, T]: ...

    @overload
    def __get__(self, client: AsyncClient, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...

    @overload
    def __get__(self, client: None, owner: type) -> Callable[P, Asked[T]]: ...

    def __get__(self, client: Client | AsyncClient | None, owner: type) -> Callable[P, Any]:
        describe = self._describe
        if client is None:
            return describe

        @wraps(describe)
        def ask(*given: P.args, **named: P.kwargs) -> Any:
            return client.send(describe(*given, **named))

        return ask


class _Requests:
    """What can be asked; `asking` says of each what it is."""

    put_item = _Method(asking.put_item)
    delete_item = _Method(asking.delete_item)
    put_user = _Method(asking.put_user)
    put_alias = _Method(asking.put_alias)
    choices = _Method(asking.choices)
    choose = _Method(asking.choose)
    portrait = _Method(asking.portrait)
    recommend = _Method(asking.recommend)
    recommend_session = _Method(asking.recommend_session)
    why = _Method(asking.why)
    similar = _Method(asking.similar)
    audience = _Method(asking.audience)
    erase = _Method(asking.erase)
    ready = _Method(asking.ready)
    live = _Method(asking.live)

    def __init__(
        self,
        url: str,
        key: str = "",
        *,
        timeout: float = 30.0,
        retries: Retries | None = None,
        batch: int = asking.BATCH,
        every: float = 1.0,
        room: int = 100_000,
    ) -> None:
        """A client of the server at `url`, whose API key is `key` if it asks for one.

        `timeout`: seconds that one try may take to connect, and without a byte of an answer.
        `add` sends events `batch` at a time, or `every` so many seconds; beyond `room` events
        that wait, it waits for the server.
        Raises UsageError for what is no URL.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"{url!r} is no URL of a server", mend="as in http://127.0.0.1:8088")
        self.url = url.rstrip("/")
        self._retries = retries or Retries()
        self._room = room
        self._queue = Line(batch, every)
        self._closed = False
        self._settings: dict[str, Any] = {
            "base_url": self.url,
            "headers": {"Authorization": f"Bearer {key}"} if key else {},
            "timeout": httpx.Timeout(timeout, connect=min(timeout, 5.0)),
            # a proxy of this machine's settings does not lead to this machine
            "trust_env": parts.hostname not in ("localhost", "127.0.0.1", "::1"),
        }

    def _open(self) -> None:
        if self._closed:
            raise UsageError("this client is closed", mend="make another one")

    def _after(self, asked: Asked[Any], tried: int, told: httpx.Response | Exception) -> float:
        """Seconds to wait before the next try. Raises if there is none."""
        answered = told if isinstance(told, httpx.Response) else None
        wait = self._retries.wait(tried, retry_after(answered.headers) if answered else 0.0)
        if wait is not None:
            return wait
        place = f"{asked.method} {self.url}{asked.path.partition('/users/')[0]}"
        if answered is None:
            raise Unreachable(
                f"no server answers after {tried} tries: {type(told).__name__}: {told}",
                where=place,
                mend="is limner serve running there? events that wait in line are still there",
            ) from None
        error: LimnerError | None = None
        try:
            asked.read(answered.status_code, answered.content)
        except LimnerError as found:
            error = found
        if error is not None and answered.status_code == 503 and error.problem is not None:
            raise error
        busy = Busy(
            f"the server answers {answered.status_code}, after {tried} tries",
            where=place,
            mend=(error.mend if error else "") or "send it later, or less at a time",
        )
        busy.problem = error.problem if error else None
        raise busy


def _request(asked: Asked[Any]) -> dict[str, Any]:
    return {
        "method": asked.method,
        "url": asked.path,
        "params": dict(asked.query),
        "content": asked.body,
        "headers": dict(asked.headers),
    }


class Client(_Requests):
    """A client of a Limner server; may be used from several threads."""

    def __init__(self, url: str, key: str = "", **settings: Any) -> None:
        super().__init__(url, key, **settings)
        self._http = httpx.Client(**self._settings)
        self._guard = threading.Condition()
        self._sending = threading.Lock()
        self._thread: threading.Thread | None = None

    def send(self, asked: Asked[T]) -> T:
        """The answer to a request, tried again while the server cannot be reached or is busy."""
        self._open()
        return self._send(asked)

    def _send(self, asked: Asked[T]) -> T:
        tried = 0
        while True:
            tried += 1
            try:
                answer = self._http.request(**_request(asked))
                if answer.status_code not in AGAIN:
                    return asked.read(answer.status_code, answer.content)
                wait = self._after(asked, tried, answer)
            except httpx.TransportError as error:
                wait = self._after(asked, tried, error)
            time.sleep(wait)

    def record(self, events: Event | Iterable[Event]) -> Accepted:
        """Record one event or many, in requests of `BATCH`; return when all are durable.

        `refused` counts from 1 over all of them. Raises AllRefused if none could be used.
        """
        done, sent, last = Accepted(0, 0, [], 0), 0, None
        for lot in asking.batches(events):
            try:
                answer = self.send(asking.recorded(lot))
            except AllRefused as error:
                answer, last = Accepted(0, 0, error.refused, 0), error
            done, sent = done.plus(answer, sent), sent + len(lot)
        return _some(done, last)

    def add(self, event: Event) -> None:
        """Put an event in line; it is sent with others, soon, and never lost while this runs.

        Beyond the `room` that events have to wait it sends them itself, and raises what that does.
        """
        self._open()
        given = asking.encoded(event)
        with self._guard:
            news = self._queue.add(given)
            full = len(self._queue.events) >= self._room
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="limner-client", daemon=True)
                self._thread.start()
            if news:
                self._guard.notify()
        if full:
            self._send_first()

    def flush(self) -> Accepted:
        """Send all that waits; what became of the events since the last flush, counted from 1.

        Raises Unreachable or Busy; then what was not sent waits on.
        """
        self._send_all()
        with self._guard:
            return self._queue.flushed()

    def _send_all(self) -> None:
        while self._send_first():
            pass

    def _send_first(self) -> bool:
        with self._sending:  # in their order, one batch at a time
            with self._guard:
                lot = self._queue.first()
            if not lot:
                return False
            answer: Accepted | AllRefused
            try:
                answer = self._send(asking.recorded(lot))
            except AllRefused as error:
                answer = error
            with self._guard:
                self._queue.answered(len(lot), answer)
            return True

    def _run(self) -> None:
        while True:
            with self._guard:
                if self._closed:
                    return
                due = self._queue.due
                if due is None or due > 0:
                    self._guard.wait(due)
                    continue
            try:
                self._send_first()
            except LimnerError as error:
                _log.warning("events wait on: %s", error.what)
                time.sleep(self._retries.first)

    def close(self) -> None:
        """Send what waits, and let the connections go. Raises Unreachable or Busy."""
        if self._closed:
            return
        try:
            self._send_all()
        finally:
            with self._guard:
                self._closed = True
                self._guard.notify()
            self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()


class AsyncClient(_Requests):
    """A client of a Limner server for asyncio; belongs to the loop that it is used in."""

    def __init__(self, url: str, key: str = "", **settings: Any) -> None:
        super().__init__(url, key, **settings)
        self._http = httpx.AsyncClient(**self._settings)
        self._sending = asyncio.Lock()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def send(self, asked: Asked[T]) -> T:
        """The answer to a request, tried again while the server cannot be reached or is busy."""
        self._open()
        return await self._send(asked)

    async def _send(self, asked: Asked[T]) -> T:
        tried = 0
        while True:
            tried += 1
            try:
                answer = await self._http.request(**_request(asked))
                if answer.status_code not in AGAIN:
                    return asked.read(answer.status_code, answer.content)
                wait = self._after(asked, tried, answer)
            except httpx.TransportError as error:
                wait = self._after(asked, tried, error)
            await asyncio.sleep(wait)

    async def record(self, events: Event | Iterable[Event]) -> Accepted:
        """Record one event or many, in requests of `BATCH`; return when all are durable.

        `refused` counts from 1 over all of them. Raises AllRefused if none could be used.
        """
        done, sent, last = Accepted(0, 0, [], 0), 0, None
        for lot in asking.batches(events):
            try:
                answer = await self.send(asking.recorded(lot))
            except AllRefused as error:
                answer, last = Accepted(0, 0, error.refused, 0), error
            done, sent = done.plus(answer, sent), sent + len(lot)
        return _some(done, last)

    async def add(self, event: Event) -> None:
        """Put an event in line; it is sent with others, soon, and never lost while this runs.

        Beyond the `room` that events have to wait it sends them itself, and raises what that does.
        """
        self._open()
        if self._queue.add(asking.encoded(event)):
            self._news.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="limner-client")
        if len(self._queue.events) >= self._room:
            await self._send_first()

    async def flush(self) -> Accepted:
        """Send all that waits; what became of the events since the last flush, counted from 1.

        Raises Unreachable or Busy; then what was not sent waits on.
        """
        await self._send_all()
        return self._queue.flushed()

    async def _send_all(self) -> None:
        while await self._send_first():
            pass

    async def _send_first(self) -> bool:
        async with self._sending:  # in their order, one batch at a time
            lot = self._queue.first()
            if not lot:
                return False
            answer: Accepted | AllRefused
            try:
                answer = await self._send(asking.recorded(lot))
            except AllRefused as error:
                answer = error
            self._queue.answered(len(lot), answer)
            return True

    async def _run(self) -> None:
        while True:
            due = self._queue.due
            if due is None or due > 0:
                self._news.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), due)
                continue
            try:
                await self._send_first()
            except LimnerError as error:
                _log.warning("events wait on: %s", error.what)
                await asyncio.sleep(self._retries.first)

    async def close(self) -> None:
        """Send what waits, and let the connections go. Raises Unreachable or Busy."""
        if self._closed:
            return
        try:
            await self._send_all()
        finally:
            self._closed = True
            if self._task is not None:
                self._task.cancel()
                with suppress(asyncio.CancelledError):
                    await self._task
            await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        await self.close()


def _some(done: Accepted, last: AllRefused | None) -> Accepted:
    if last is not None and not done.added and not done.repeated:
        last.refused = done.refused
        raise last
    return done
