"""What a request may be at most: bytes of its body, and seconds in which they come."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException

from limner.serve.door import Asgi, Receive, Scope, Send
from limner.serve.problems import of_status, problem
from limner.sources.payloads import MAX_BYTES

BODY_SECONDS = 20.0
"""Seconds in which a body has to come, and one more for each `BYTES_A_SECOND` that came."""
BYTES_A_SECOND = 20_000


class Bounds:
    """ASGI middleware: bodies that are too large, too slow or compressed are refused."""

    def __init__(self, app: Asgi) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        coding = headers.get(b"content-encoding", b"identity").strip().lower()
        if coding not in (b"", b"identity"):
            refusal = problem(
                415,
                "Compressed bodies are not read",
                f"the body is sent with Content-Encoding {coding.decode('latin-1')!r}",
                mend="send it as it is",
                headers={"Accept-Encoding": "identity", "Connection": "close"},
            )
            await refusal(scope, receive, send)
        elif int(headers.get(b"content-length", b"0")) > MAX_BYTES:
            refusal = of_status(HTTPException(413, _TOO_LARGE, _CLOSE))
            await refusal(scope, receive, send)
        elif b"content-length" in headers or b"transfer-encoding" in headers:
            bounded = _Bounded(receive, asyncio.get_running_loop().time() + BODY_SECONDS)
            try:
                await self._app(scope, bounded, send)
            except HTTPException as error:  # it was read outside of what answers errors
                await of_status(error)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


_CLOSE = {"Connection": "close"}
"""The rest of the body is not waited for."""
_TOO_LARGE = f"the body has more than {MAX_BYTES:,} bytes"


@dataclass(slots=True)
class _Bounded:
    """Receives a body; raises HTTPException at the first byte, or second, too many."""

    receive: Receive
    until: float
    size: int = 0
    ended: bool = False

    async def __call__(self) -> MutableMapping[str, Any]:
        if self.ended:  # what comes after the body is that the client went away
            return await self.receive()
        try:
            async with asyncio.timeout_at(self.until):
                message = await self.receive()
        except TimeoutError:
            raise HTTPException(
                408, f"the body stopped at {self.size:,} bytes, or came too slowly", _CLOSE
            ) from None
        more = len(message.get("body", b""))
        self.size += more
        self.until += more / BYTES_A_SECOND
        if self.size > MAX_BYTES:
            raise HTTPException(413, _TOO_LARGE, _CLOSE)
        self.ended = message["type"] != "http.request" or not message.get("more_body", False)
        return message
