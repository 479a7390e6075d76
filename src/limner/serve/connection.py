"""A connection that does not wait for a client for ever."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from limner.serve.problems import MEDIA_TYPE, problem

HEAD_SECONDS = 10.0
"""Seconds in which the head of a request has to come; from the connection's first moment on."""
READ_SECONDS = 60.0
"""Seconds without any progress after which an answer that nobody reads is given up."""
HEAD_BYTES = 64 << 10
"""The most bytes of a head, those that came with it of the body included."""


class Connection(HttpToolsProtocol):
    """uvicorn's own, with a clock on the client and problem documents for what is no HTTP."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._patience: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._head = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client came."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._rest()
        self.resume_writing()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._wait()

    def on_headers_complete(self) -> None:
        """Its head is whole."""
        self._rest()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self._patience is not None:
            self._head += len(data)
        super().data_received(data)
        if self._patience is not None and self._head > HEAD_BYTES:
            self._refuse(431, "The head is too large", "the head of the request does not end")

    def on_response_complete(self) -> None:
        """It is answered."""
        super().on_response_complete()
        if self.cycle.more_body:  # an answer that did not wait for the body; the rest is to come
            self._wait()

    def pause_writing(self) -> None:
        """The client does not read."""
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(READ_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP."""
        self._refuse(400, "This is no request of HTTP", msg)

    def _wait(self) -> None:
        self._rest()
        self._head = 0
        self._patience = self.loop.call_later(HEAD_SECONDS, self._late)

    def _rest(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _late(self) -> None:
        self._patience = None
        if self.cycle is not None and not self.cycle.response_complete:
            return  # an answer to an earlier request of this connection is on its way
        self._refuse(408, "The request did not come", "the client was waited for in vain")

    def _refuse(self, status: int, title: str, detail: str) -> None:
        self._rest()
        if self.transport.is_closing():
            return
        body = problem(status, title, detail).body
        head = (
            f"HTTP/1.1 {status} {title}\r\ncontent-type: {MEDIA_TYPE}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode("latin-1") + bytes(body))
        self.transport.close()
