"""What every request passes first: the key, and ids with slashes made safe for routing."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from starlette.responses import Response

from limner.serve.problems import problem

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]


class Door:
    """ASGI middleware: with a `key` all but health needs it; without, only this machine may ask."""

    def __init__(self, app: Asgi, key: str = "") -> None:
        self._app = app
        self._key = key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] == "http":
            refusal = self._refusal(scope)
            if refusal is not None:
                await refusal(scope, receive, send)
                return
            scope = {**scope, "path": _routable(scope)}
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        if self._key:
            if scope["path"].startswith("/health/") or self._opens(headers):
                return None
            return problem(
                401,
                "The key is missing or wrong",
                "this server asks for its API key",
                kind="urn:limner:error:key",
                mend="send it as `Authorization: Bearer KEY` or as `X-API-Key: KEY`",
                headers={"WWW-Authenticate": "Bearer"},
            )
        # Without a key only this machine may ask; a web page in its browser is not this machine.
        host = headers.get(b"host", b"").decode("latin-1")
        origin = headers.get(b"origin", b"").decode("latin-1")
        foreign = bool(origin) and urlsplit(origin).netloc != host
        if foreign or not is_local(urlsplit(f"//{host}").hostname or ""):
            return problem(
                403,
                "Only this machine may ask",
                "a server without an API key answers no page of another site",
                kind="urn:limner:error:key",
                mend="set api_key under [serve] in limner.toml, or LIMNER_API_KEY",
            )
        return None

    def _opens(self, headers: dict[bytes, bytes]) -> bool:
        scheme, _, bearer = headers.get(b"authorization", b"").partition(b" ")
        given = bearer.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")
        return hmac.compare_digest(given, self._key)


def _routable(scope: Scope) -> str:
    """The path, decoded but for % and / inside an id, which the id's own decoding turns back."""
    raw: bytes | None = scope.get("raw_path")
    if not raw:
        return quote(scope["path"], safe="/")
    path = raw.partition(b"?")[0].decode("latin-1").replace("%25", "%2525")
    return unquote(path.replace("%2F", "%252F").replace("%2f", "%252F"))


def is_local(name: str) -> bool:
    """Whether a host name or address can only mean this machine."""
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
