"""Webhooks: changes sent to addresses of the product's own, signed, and tried again.

As Standard Webhooks has it: https://www.standardwebhooks.com
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from limner.errors import ConfigError
from limner.profile.changes import KINDS, Change

PREFIX = "whsec_"
LEAST_BYTES = 24
"""The least that Standard Webhooks lets a secret have; the most is 64."""


@dataclass(frozen=True, slots=True)
class WebhookConfig:
    """Where changes are sent to.

    `kinds`: only changes of these kinds, all if it is empty. `secret`: what bodies are signed
    with, "whsec_" and base64; two with a space between while one follows the other. `secret_env`:
    the environment variable that has it instead. `timeout`: seconds until a target that does not
    answer counts as failed. `tries`: after so many a change is put on the list of the dead.
    """

    name: str
    url: str
    kinds: Sequence[str] = ()
    secret: str = ""
    secret_env: str = ""
    timeout: float = 10.0
    tries: int = 10

    def check(self, where: str) -> None:
        """Raise ConfigError for what cannot be."""
        parts = urlsplit(self.url)
        for wrong, what, mend in (
            (not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", self.name), f"name {self.name!r} is no name",
             "use letters, digits, dots, dashes and underscores"),
            (parts.scheme not in ("http", "https") or not parts.hostname,
             f"url {self.url!r} is no address", "write for instance https://shop.example/hooks"),
            (set(self.kinds) - set(KINDS), f"kinds {list(self.kinds)} are not all changes",
             f"use {', '.join(KINDS)}"),
            (not 0 < self.timeout <= 300, f"timeout = {self.timeout}", "use up to 300 seconds"),
            (self.tries < 1, f"tries = {self.tries}", "use 1 or more"),
        ):  # fmt: skip
            if wrong:
                raise ConfigError(what, where=where, mend=mend)
        _keys(self.secret, where)


@dataclass(frozen=True, slots=True)
class Letter:
    """A change that could not be delivered: what failed the last time, at `at` (µs).

    `again`: whether it is to be sent anew.
    """

    webhook: str
    change: Change
    error: str
    tries: int
    at: int
    again: bool = False


class DeadLetters(Protocol):
    """Keeps what could not be delivered; an `Erasable` too."""

    @property
    def name(self) -> str:
        """What a receipt calls it."""
        ...

    def put(self, letter: Letter) -> None:
        """Keep a letter, in place of the one of the same webhook and change."""
        ...

    def of(self, webhook: str) -> list[Letter]:
        """A webhook's letters, oldest change first."""
        ...

    def drop(self, webhook: str, change: int) -> None:
        """It was delivered after all."""
        ...

    def erase(self, user: bytes) -> int:
        """Remove a user's letters; return how many there were."""
        ...

    def holds(self, user: bytes) -> bool:
        """Whether a letter about this pseudonym is kept."""
        ...


def new_secret() -> str:
    """A secret of 256 bits."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def signature(secret: str, message: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`: HMAC-SHA-256 of id, time (s) and body, base64, by key.

    >>> secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    >>> signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='
    """
    signed = f"{message}.{timestamp}.".encode() + body
    return " ".join(
        "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        for key in _keys(secret, "webhooks")
    )


def _keys(secret: str, where: str) -> list[bytes]:
    keys = []
    for part in secret.split():
        try:
            keys.append(base64.b64decode(part.removeprefix(PREFIX), validate=True))
        except (binascii.Error, ValueError):
            keys.append(b"")
    if not keys or min(map(len, keys)) < LEAST_BYTES:
        raise ConfigError(
            "the secret is missing or no whsec_ with base64 of 24 bytes or more",
            where=where,
            mend="make one with limner webhooks secret, and set secret, or secret_env",
        )
    return keys
