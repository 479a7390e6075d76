"""API keys: who may ask what of a server.

A key is 256 bits of chance, so the store keeps its plain SHA-256: there is nothing to guess that a
slow hash would protect, and a request can afford this one. The key itself is shown once.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, Protocol, get_args

from limner.errors import NotFound, UsageError

Scope = Literal["ingest", "read", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
PREFIX = "limner_"
"""What every key begins with, so that scanners for lost secrets know one."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as the store keeps it: without the key. Times in µs; 0 for never.

    `digest` is its SHA-256 in hexadecimal. After a rotation `old_digest` opens until `old_until`.
    """

    name: str
    digest: str
    scopes: tuple[Scope, ...]
    made_at: int
    rotated_at: int = 0
    revoked_at: int = 0
    old_digest: str = ""
    old_until: int = 0

    def may(self, scope: Scope) -> bool:
        """Whether it is good for a scope; `admin` is good for all."""
        return scope in self.scopes or "admin" in self.scopes


class ApiKeys(Protocol):
    """Keeps keys. May be written by a process that does not hold the store's write lock."""

    def every(self) -> list[ApiKey]:
        """All keys by name, revoked ones too."""
        ...

    def add(self, key: ApiKey) -> bool:
        """Keep a key; False, and nothing kept, if there is one of its name."""
        ...

    def save(self, key: ApiKey) -> None:
        """Put a key in the place of the one of its name."""
        ...


def digest_of(secret: bytes) -> str:
    """What a store knows a key by.

    >>> digest_of(b"limner_x")[:8]
    'cb7c87d7'
    """
    return hashlib.sha256(secret).hexdigest()


def add(keys: ApiKeys, name: str, scopes: Iterable[str], now: int) -> tuple[ApiKey, str]:
    """Make a key; (as it is kept, the key itself). Raises UsageError for a name that is taken."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name for a key",
            mend="use up to 64 letters, digits, dots, dashes and underscores",
        )
    wanted = set(scopes)
    if not wanted or not wanted <= set(SCOPES):
        raise UsageError(
            f"{', '.join(sorted(wanted - set(SCOPES))) or 'nothing'} is no scope",
            mend=f"use {', '.join(SCOPES)}",
        )
    secret = _secret()
    key = ApiKey(name, digest_of(secret.encode()), tuple(s for s in SCOPES if s in wanted), now)
    if not keys.add(key):
        raise UsageError(
            f"there is a key {name!r} already, or was",
            mend=f"choose another name, or: limner keys rotate {name}",
        )
    return key, secret


def rotate(keys: ApiKeys, name: str, now: int, overlap: int = 0) -> tuple[ApiKey, str]:
    """Replace the secret of a key; the old one opens for another `overlap` µs.

    Raises NotFound, and UsageError for a key that was revoked.
    """
    old = _named(keys, name)
    if old.revoked_at:
        raise UsageError(f"the key {name!r} was revoked", mend="add another one")
    secret = _secret()
    key = replace(
        old,
        digest=digest_of(secret.encode()),
        rotated_at=now,
        old_digest=old.digest if overlap else "",
        old_until=now + overlap if overlap else 0,
    )
    keys.save(key)
    return key, secret


def revoke(keys: ApiKeys, name: str, now: int) -> ApiKey:
    """Have a key open nothing any more; its entry stays. Raises NotFound."""
    old = _named(keys, name)
    key = replace(old, revoked_at=old.revoked_at or now, old_digest="", old_until=0)
    keys.save(key)
    return key


def opened_by(keys: Iterable[ApiKey], secret: bytes, now: int) -> ApiKey | None:
    """The key that `secret` is. All are compared, each in constant time."""
    given, found = digest_of(secret), None
    for key in keys:
        current = hmac.compare_digest(given, key.digest)
        before = hmac.compare_digest(given, key.old_digest) and now < key.old_until
        if (current or before) and not key.revoked_at:
            found = key
    return found


def _named(keys: ApiKeys, name: str) -> ApiKey:
    for key in keys.every():
        if key.name == name:
            return key
    raise NotFound(f"there is no key {name!r}", mend="limner keys list")


def _secret() -> str:
    return PREFIX + secrets.token_urlsafe(32)
