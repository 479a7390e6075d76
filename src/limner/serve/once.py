"""Requests that carry an `Idempotency-Key`: sent again, they are answered as they were.

As the draft "The Idempotency-Key HTTP Header Field" (IETF, httpapi) has it. The answer is kept in
a commit of its own after what it tells of; a crash between the two leaves a repeat to be done
again, which for events changes nothing (law 2).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any

from anyio import to_thread
from starlette.responses import Response

from limner.app import Limner
from limner.serve.door import Asgi, Receive, Scope, Send
from limner.serve.problems import problem
from limner.serve.scopes import GRANTED
from limner.stores.answered import Answered

READING = frozenset({"/v1/recommendations", "/v1/audiences/query", "/v1/validate"})
"""POSTs that change nothing: they are answered anew."""

LONGEST = 255
"""Characters of a key."""


class Once:
    """ASGI middleware: the same key and request within a day has the same answer."""

    def __init__(self, app: Asgi, limner: Limner) -> None:
        self._app = app
        self._limner = limner
        self._turns: dict[bytes, _Turn] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        given = _key_of(scope)
        if given is None or not self._limner.writable:
            await self._app(scope, receive, send)
        elif not 0 < len(given) <= LONGEST:
            refusal = _refusal(
                400, f"an Idempotency-Key has 1 to {LONGEST} characters", "send a new UUID"
            )
            await refusal(scope, receive, send)
        else:
            body = await _body(receive)
            await self._once(given, body, scope, _Again(body, receive), send)

    async def _once(
        self, given: bytes, body: deque[Any], scope: Scope, receive: Receive, send: Send
    ) -> None:
        kind = dict(scope["headers"]).get(b"content-type", b"")
        place = b"\n".join(
            [
                scope[GRANTED].name.encode() if scope.get(GRANTED) else b"",  # nobody else's
                scope["method"].encode(),
                scope["path"].encode(),
                scope.get("query_string", b""),
            ]
        )
        content = b"".join(part.get("body", b"") for part in body)
        key = self._limner.keys.digests([place + b"\n" + given], person=b"request key")
        request = self._limner.keys.digests([kind + b"\n" + content], person=b"request")
        turn = self._turns.setdefault(key, _Turn())
        turn.waiting += 1
        try:
            async with turn.lock:  # a repeat that comes before the answer waits for it
                answer = await to_thread.run_sync(self._kept, key)
                if answer is None:
                    await self._answer(key, request, scope, receive, send)
                    return
        finally:
            turn.waiting -= 1
            if not turn.waiting:
                del self._turns[key]
        await _repeat(answer, request)(scope, receive, send)

    async def _answer(
        self, key: bytes, request: bytes, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Have the request answered, and keep that before it is told."""
        told: list[MutableMapping[str, Any]] = []

        async def hear(message: MutableMapping[str, Any]) -> None:
            told.append(message)

        await self._app(scope, receive, hear)
        status = int(told[0]["status"]) if told else 500
        if status < 500 and status not in (401, 403, 404, 405, 409, 429):
            headers = dict(told[0]["headers"])
            answer = Answered(
                request,
                self._limner.received(),
                status,
                headers.get(b"content-type", b"").decode("latin-1"),
                b"".join(part.get("body", b"") for part in told[1:]),
            )
            await to_thread.run_sync(self._keep, key, answer)
        for message in told:
            await send(message)

    def _kept(self, key: bytes) -> Answered | None:
        return self._limner.store.answers.get(key, self._limner.received())

    def _keep(self, key: bytes, answer: Answered) -> None:
        with self._limner.writer.commit_lock:
            self._limner.store.answers.put(key, answer)


@dataclass(slots=True)
class _Turn:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0


class _Again:
    """What was received, once more, and then what else comes."""

    def __init__(self, first: deque[MutableMapping[str, Any]], receive: Receive) -> None:
        self._first = deque(first)
        self._receive = receive

    async def __call__(self) -> MutableMapping[str, Any]:
        return self._first.popleft() if self._first else await self._receive()


async def _body(receive: Receive) -> deque[MutableMapping[str, Any]]:
    """The messages of the body."""
    out: deque[MutableMapping[str, Any]] = deque()
    while True:
        message = await receive()
        out.append(message)
        if message["type"] != "http.request" or not message.get("more_body", False):
            break
    return out


def _key_of(scope: Scope) -> bytes | None:
    """The key of a request that changes something."""
    if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH", "DELETE"):
        return None
    if scope["path"] in READING:
        return None
    headers: dict[bytes, bytes] = dict(scope["headers"])
    return headers.get(b"idempotency-key")


def _repeat(answer: Answered, request: bytes) -> Response:
    if answer.request != request:
        return _refusal(
            422,
            "another request had this Idempotency-Key",
            "send each request under a key of its own, and a repeat with the same body",
        )
    if answer.body is None:
        return _refusal(
            409,
            "this request was answered before, and its answer went when a user was erased",
            "it was done; do not send it again",
        )
    return Response(
        answer.body,
        answer.status,
        {"Idempotent-Replayed": "true"},
        media_type=answer.kind or None,
    )


def _refusal(status: int, detail: str, mend: str) -> Response:
    return problem(
        status,
        "The Idempotency-Key does not fit",
        detail,
        kind="urn:limner:error:idempotency",
        mend=mend,
    )
