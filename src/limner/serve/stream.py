"""`GET /v1/stream`: changes as server-sent events.

https://html.spec.whatwg.org/multipage/server-sent-events.html

Nothing waits for a consumer: a stream is a place in the outbox, and reads the next page only when
the last one has been taken. So a slow one holds one page, and neither memory nor the writer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from limner.app import Limner
from limner.errors import UsageError
from limner.profile.changes import Change, Kind, News
from limner.serve.gather import Full
from limner.serve.openapi import PROBLEMS, answers
from limner.serve.requests import Shop
from limner.serve.scopes import Scoped
from limner.serve.wire import encode

router = APIRouter(prefix="/v1", route_class=Scoped, responses=PROBLEMS)

EVENT_STREAM = "text/event-stream"
HEARTBEAT_SECONDS = 15.0
"""The longest silence; proxies close what is silent for a minute."""

PAGE = 100
"""Changes that a stream holds at a time."""

STREAMS = 1_000
"""Streams at a time; more are answered 429."""


class Streams:
    """The open streams of a server: how many there are, when there is news, when to end."""

    def __init__(self, news: News) -> None:
        self.open = 0
        self.ended = False
        self._news = news
        self._loop: asyncio.AbstractEventLoop | None = None
        self._next: asyncio.Future[None] | None = None

    def attach(self) -> None:
        """Listen for news, to be told in the loop that runs; raises Full with too many open."""
        if self.open >= STREAMS:
            raise Full
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._news.listen(self._tell)

    def upcoming(self) -> asyncio.Future[None]:
        """Done at the next news or when all streams end; shared by those who wait."""
        if self._next is None or self._next.done():
            self._next = asyncio.get_running_loop().create_future()
            if self.ended:
                self._next.set_result(None)
        return self._next

    def end(self) -> None:
        """End all streams, from within the loop: clients go on elsewhere after their last id."""
        self.ended = True
        self._fire()

    def _tell(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._fire)

    def _fire(self) -> None:
        if self._next is not None and not self._next.done():
            self._next.set_result(None)


@router.get(
    "/stream",
    tags=["changes"],
    summary="Changes as they come",
    response_class=Response,
    responses=answers(Change, media_type=EVENT_STREAM, description="Events, each a change."),
)
async def get_stream(
    app: Shop,
    request: Request,
    kind: Annotated[list[Kind] | None, Query(description="Only changes of these kinds.")] = None,
    user: Annotated[list[str] | None, Query(description="Only changes of these users.")] = None,
    after: Annotated[
        int | None, Query(ge=0, description="The change seen last; from now on if left out.")
    ] = None,
    last_event_id: Annotated[
        str | None, Header(description="The same, as browsers send it when they reconnect.")
    ] = None,
) -> Response:
    """Server-sent events: the id of each is that of its change, its name the change's kind.

    `missed` is sent where the bound has let go of changes before they were read.
    """
    streams: Streams = request.app.state.streams
    start = await run_in_threadpool(_start, app, last_event_id, after)
    streams.attach()
    found = _events(app, streams, start, kind, user)
    return StreamingResponse(found, media_type=EVENT_STREAM, headers={"X-Accel-Buffering": "no"})


def _start(app: Limner, last_event_id: str | None, after: int | None) -> int:
    if last_event_id:
        if not (last_event_id.isascii() and last_event_id.isdigit()) or len(last_event_id) > 18:
            raise UsageError(
                f"Last-Event-ID {last_event_id[:40]!r} is no id of a change",
                mend="send back the id that came last, or leave it out",
            )
        return int(last_event_id)
    return app.store.outbox.last() if after is None else after


async def _events(
    app: Limner,
    streams: Streams,
    last: int,
    kinds: Collection[str] | None,
    users: Collection[str] | None,
) -> AsyncIterator[bytes]:
    streams.open += 1
    try:
        yield b"retry: 1000\nid: %d\n\n" % last
        while not streams.ended:
            upcoming = streams.upcoming()  # before it is read, so that no news falls between
            page = await run_in_threadpool(app.changes, last, limit=PAGE, kinds=kinds, users=users)
            if page.missed:
                yield b"event: missed\ndata: {}\n\n"
            went_on, last = page.last > last or page.missed, page.last
            if page.missed and not page.changes:
                last = max(last, app.store.outbox.dropped())
            parts = [
                b"id: %d\nevent: %s\ndata: %s\n\n"
                % (change.id, change.kind.encode(), encode(change))
                for change in page.changes
            ]
            if parts:
                yield b"".join(parts)
            if went_on:
                continue
            await asyncio.wait({upcoming}, timeout=HEARTBEAT_SECONDS)
            if not upcoming.done():
                yield b": still here\nid: %d\n\n" % last
    finally:
        streams.open -= 1
