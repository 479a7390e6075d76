"""What every request passes first: whose it is, how often they ask, and what is never sent.

Ids with slashes are made safe for routing here too.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, MutableMapping, Sequence
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from starlette.responses import Response

from limner.privacy.access import ApiKey, ApiKeys, digest_of, opened_by
from limner.serve.problems import problem
from limner.serve.rate import Buckets
from limner.serve.scopes import GRANTED

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

KEYS_SECONDS = 1.0
"""How long the store's keys are believed before they are read again."""

HEADERS = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
"""On every answer that does not set them itself."""


class Known:
    """The keys that open: the configured one, which may do everything, and the store's."""

    def __init__(self, configured: str, kept: ApiKeys) -> None:
        self._kept = kept
        self._own = (
            [ApiKey("serve.api_key", digest_of(configured.encode()), ("admin",), 0)]
            if configured
            else []
        )
        self._keys: Sequence[ApiKey] = ()
        self._read_at = -KEYS_SECONDS

    def now(self) -> Sequence[ApiKey]:
        """All, with those revoked; once there has been one, nobody is let in without."""
        at = time.monotonic()
        if at - self._read_at >= KEYS_SECONDS:
            self._keys = [*self._own, *self._kept.every()]
            self._read_at = at
        return self._keys


class Door:
    """ASGI middleware: with keys all but health needs one; without, only this machine may ask."""

    def __init__(
        self, app: Asgi, known: Known, rate: float = 0.0, origins: Collection[str] = ()
    ) -> None:
        self._app = app
        self._known = known
        self._buckets = Buckets(rate)
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                given = list(message.get("headers", ()))
                names = {name.lower() for name, _ in given}
                more = [(name, value) for name, value in HEADERS if name not in names]
                message = {**message, "headers": given + more}
            await send(message)

        found = self._visitor(scope)
        if isinstance(found, Response):
            await found(scope, receive, guarded)
            return
        await self._app({**scope, "path": _routable(scope), GRANTED: found}, receive, guarded)

    def _visitor(self, scope: Scope) -> ApiKey | Response | None:
        """Whose key came along, None where none is needed, or why it is refused."""
        headers = {name.lower(): value for name, value in scope["headers"]}
        keys = self._known.now()
        if not keys:
            return self._stranger(headers)
        if scope["path"].startswith("/health/"):
            return None
        key = opened_by(keys, _given(headers), time.time_ns() // 1_000)
        if key is None:
            return problem(
                401,
                "The key is missing or wrong",
                "this server asks for an API key",
                kind="urn:limner:error:key",
                mend="send it as `Authorization: Bearer KEY` or as `X-API-Key: KEY`",
                headers={"WWW-Authenticate": "Bearer"},
            )
        seconds = self._buckets.wait(key.name, time.monotonic())
        if seconds:
            return problem(
                429,
                "Too many requests with this key",
                f"the key {key.name!r} has sent more than serve.rate allows",
                kind="urn:limner:error:rate",
                mend="send it again after the seconds that Retry-After says",
                headers={"Retry-After": str(seconds)},
            )
        return key

    def _stranger(self, headers: dict[bytes, bytes]) -> Response | None:
        # Without a key only this machine may ask; a web page in its browser is not this machine.
        host = headers.get(b"host", b"").decode("latin-1")
        origin = headers.get(b"origin", b"").decode("latin-1")
        foreign = bool(origin) and origin not in self._origins and urlsplit(origin).netloc != host
        if foreign or not is_local(urlsplit(f"//{host}").hostname or ""):
            return problem(
                403,
                "Only this machine may ask",
                "a server without an API key answers no page of another site",
                kind="urn:limner:error:key",
                mend="make a key with limner keys add, or set LIMNER_API_KEY",
            )
        return None


def _given(headers: dict[bytes, bytes]) -> bytes:
    scheme, _, bearer = headers.get(b"authorization", b"").partition(b" ")
    return bearer.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")


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
