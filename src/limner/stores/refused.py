"""How a refused row is kept: as JSON, and what tells it from another."""

from __future__ import annotations

from dataclasses import replace
from hashlib import blake2b
from typing import Any

import msgspec
import numpy as np

from limner.events.raw import Refused

USER_FIELDS = ("user_id", "target_user_id")


def pack(row: dict[str, Any], held_at: int = 0) -> str:
    """A row's fields as JSON, with the time of refusal beside them if there is one.

    Pseudonyms become hexadecimal, as `Event` spells them.

    >>> pack({"user_id": bytes(2), "value": 1.5})
    '{"user_id":"0000","value":1.5}'
    """
    plain = {key: value.hex() if isinstance(value, bytes) else value for key, value in row.items()}
    if held_at:
        plain["held_at"] = held_at
    return msgspec.json.encode(plain, enc_hook=_plain).decode()


def key_of(refused: Refused) -> bytes:
    """What a row is known by: 16 bytes of its identity and content, else of all there is."""
    row = refused.row
    told = (
        [row["digest"], row.get("check")]
        if row.get("digest")
        else [refused.where, refused.line, refused.rule, pack(row)]
    )
    return blake2b(msgspec.json.encode(told), digest_size=16).digest()


def unpack(text: str) -> dict[str, Any]:
    """The row that `pack` wrote."""
    row: dict[str, Any] = msgspec.json.decode(text)
    row.pop("held_at", None)
    return row


def held_since(text: str) -> int:
    """When the row that `pack` wrote was refused, µs; 0 if that is not known."""
    return int(msgspec.json.decode(text).get("held_at") or 0)


def normal(refused: Refused) -> Refused:
    """The row as it will be read back."""
    return replace(refused, row=unpack(pack(refused.row)))


def names(row: dict[str, Any], user: bytes) -> bool:
    """Whether a row that was read back is of this pseudonym, or about it."""
    return any(row.get(field) == user.hex() for field in USER_FIELDS)


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else str(value)
