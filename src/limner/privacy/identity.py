"""The table that ties a pseudonym to the product's own user id, sealed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Sealed:
    """A user's own id under a data key of their own, and that key under the master key.

    Both are AES-256-GCM, nonce first, with the pseudonym as associated data, so that rows
    cannot be swapped. `key_version` names the pseudonym key and master key in use.
    """

    pseudonym: bytes
    key_version: int
    sealed_id: bytes
    wrapped_key: bytes

    def spelled(self) -> list[int | str]:
        """The seal without its pseudonym, as JSON can hold it beside one."""
        return [self.key_version, self.sealed_id.hex(), self.wrapped_key.hex()]

    @classmethod
    def read(cls, pseudonym: bytes, spelled: Sequence[Any]) -> Sealed:
        """What `spelled` gave."""
        version, sealed_id, key = spelled
        return cls(pseudonym, int(version), bytes.fromhex(sealed_id), bytes.fromhex(key))


class IdentityTable(Protocol):
    """Keeps the sealed identities; deleting a row cuts the link for good."""

    def add(self, rows: Sequence[Sealed]) -> None:
        """Keep rows whose pseudonym is new; leave the others as they are."""
        ...

    def get(self, pseudonym: bytes) -> Sealed | None:
        """The row of one pseudonym."""
        ...

    def known(self) -> set[bytes]:
        """Every pseudonym in the table."""
        ...

    def delete(self, pseudonym: bytes) -> bool:
        """Remove a row, its bytes in the files included; whether there was one."""
        ...
