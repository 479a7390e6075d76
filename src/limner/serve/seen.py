"""Every request as it is seen from outside: its route, status and time, for whoever wants to know.

`Seen` stands before the door and `Routed` right before the routes, so that what the door refuses
is seen too, and a request is named by its route's template and never by a user's id.
"""

from __future__ import annotations

import re
from collections.abc import Callable, MutableMapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from time import perf_counter
from typing import Any
from uuid import uuid4

from limner.serve.door import Asgi, Receive, Scope, Send

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
AS_OF = b"limner-as-of"
"""The header of the log position that an answer reflects."""
_REQUEST_ID = re.compile(rb"[\w.:+/=-]{1,128}")
_NAME = "limner.request"


@dataclass(slots=True)
class Request:
    """A request and its answer: `route` is a template, "none" where there is none.

    `status` is 0 where who asked went away before an answer. `as_of`: the log position that the
    answer reflects, −1 if it reflects none.
    """

    method: str
    request_id: str
    route: str = "none"
    status: int = 0
    seconds: float = 0.0
    as_of: int = -1


Onlooker = Callable[[Request, Scope], AbstractContextManager[object]]
"""Called when a request comes; what it returns is held until it is answered."""


class Seen:
    """ASGI middleware: shows each request to the onlookers; gives it an id."""

    def __init__(self, app: Asgi, onlookers: Sequence[Onlooker]) -> None:
        self._app = app
        self._onlookers = onlookers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in METHODS else "other"
        request = Request(method, _id_of(scope))
        scope[_NAME] = request
        name = request.request_id.encode()
        began = perf_counter()

        async def tell(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                request.status = message["status"]
                headers = message.setdefault("headers", [])
                for key, value in headers:
                    if key == AS_OF:
                        request.as_of = int(value)
                    elif key == b"content-type" and value.startswith(b"text/event-stream"):
                        request.seconds = perf_counter() - began  # what follows is no answering
                message["headers"] = [*headers, (b"x-request-id", name)]
            await send(message)

        with ExitStack() as onlooking:
            for onlooker in self._onlookers:
                onlooking.enter_context(onlooker(request, scope))
            try:
                await self._app(scope, receive, tell)
            except BaseException:
                request.status = request.status or 500
                raise
            finally:
                request.seconds = request.seconds or perf_counter() - began


class Routed:
    """ASGI middleware right before the routes: notes which of them answers."""

    def __init__(self, app: Asgi) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        try:
            await self._app(scope, receive, send)
        finally:
            request = scope.get(_NAME)
            if request is not None:
                request.route = getattr(scope.get("route"), "path", "none")


def _id_of(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return str(value.decode())
    return uuid4().hex
