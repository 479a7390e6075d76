"""The keys of a store: pseudonyms, sealed user ids, and digests of events.

They live in one file outside the store. Whoever has the store but not the file has pseudonyms
and no way back to a user.
"""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from limner.errors import KeyMissing, StoreCorrupt, StoreError, UsageError
from limner.events.durable import sync
from limner.privacy.identity import Sealed

PSEUDONYM_BYTES = 16
_KEY_BYTES = 32
_NONCE_BYTES = 12  # what AES-GCM is specified for (NIST SP 800-38D, 8.2)
_FORMAT = 1
_RESTORE = (
    "copy the key file back from your backup, or set LIMNER_KEY_FILE to where it is; "
    "without it the store's user ids cannot be opened"
)


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """Secret keys by version, and the version in use.

    `pseudonym` and `master` map a version to 32 bytes and may be rotated; `digest_key` never
    is, because an event must keep its identity for as long as the log lives (law 2).
    """

    version: int
    pseudonym_keys: Mapping[int, bytes]
    master_keys: Mapping[int, bytes]
    digest_key: bytes

    def __repr__(self) -> str:
        return f"Keys(version={self.version}, fingerprint={self.key_fingerprint})"

    @classmethod
    def generate(cls) -> Keys:
        """New random keys, in memory only."""
        first, second, third = (secrets.token_bytes(_KEY_BYTES) for _ in range(3))
        return cls(1, {1: first}, {1: second}, third)

    @classmethod
    def create(cls, path: Path) -> Keys:
        """New random keys in a new file of mode 600, on disk before this returns.

        Raises StoreError if the file exists: overwriting keys would lose every user id.
        """
        keys = cls.generate()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise StoreError(
                "a key file is there already, and new keys would make its store unreadable",
                where=str(path),
                mend="move it to a safe place first, or set LIMNER_KEY_FILE to another path",
            ) from None
        with os.fdopen(descriptor, "wb") as file:
            file.write(keys.to_json())
            file.flush()
            os.fsync(file.fileno())
        sync(path.parent)
        return keys

    @classmethod
    def load(cls, path: Path) -> Keys:
        """The keys of a file that `create` made.

        Raises KeyMissing if there is none or it is no key file, and StoreError if others than
        its owner can read it.
        """
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
            text = path.read_bytes()
        except FileNotFoundError:
            raise KeyMissing("there is no key file", where=str(path), mend=_RESTORE) from None
        except PermissionError:
            raise KeyMissing(
                "the key file may not be read by this user",
                where=str(path),
                mend="run as the owner of the file, or set LIMNER_KEY_FILE to another one",
            ) from None
        if os.name == "posix" and mode & 0o077:
            raise StoreError(
                f"others can read the key file (mode {mode:03o})",
                where=str(path),
                mend=f"chmod 600 {path}",
            )
        try:
            return cls.from_json(text)
        except (msgspec.MsgspecError, KeyError, TypeError, ValueError, AttributeError):
            raise KeyMissing("this is no Limner key file", where=str(path), mend=_RESTORE) from None

    @property
    def key_fingerprint(self) -> str:
        """32 hexadecimal digits that name these keys and tell nothing of them.

        The same for all rotations of one store's keys; a store keeps it to refuse others.
        """
        named = blake2b(digest_size=16, key=self.digest_key, person=b"limner keys")
        return named.hexdigest()

    def require(self, fingerprint: str, where: Path) -> None:
        """Raise KeyMissing unless these are the keys that a store remembers, from file `where`."""
        if fingerprint != self.key_fingerprint:
            raise KeyMissing(
                f"these keys are not the store's ({self.key_fingerprint}, not {fingerprint})",
                where=str(where),
                mend=_RESTORE,
            )

    def pseudonym(self, user_id: str) -> bytes:
        """The user's 16-byte pseudonym: HMAC-SHA-256, cut, under the version in use.

        White space around an id is no part of it, as where ids are read. Raises UsageError for
        an id that is no Unicode text.
        """
        key = self.pseudonym_keys[self.version]
        return hmac.digest(key, _spelled(user_id), "sha256")[:PSEUDONYM_BYTES]

    def seal(self, user_id: str) -> Sealed:
        """The user's own id, closed so that only these keys open it."""
        [sealed] = self.seal_all([(user_id, self.pseudonym(user_id))])
        return sealed

    def seal_all(self, users: Iterable[tuple[str, bytes]]) -> list[Sealed]:
        """`seal` of (user id, its pseudonym)s, with the master key made ready once."""
        wrap = AESGCM(self.master_keys[self.version]).encrypt
        out = []
        for user_id, pseudonym in users:
            fresh = os.urandom(_KEY_BYTES + 2 * _NONCE_BYTES)
            data_key, nonce = fresh[:_KEY_BYTES], fresh[_KEY_BYTES:-_NONCE_BYTES]
            sealed = nonce + AESGCM(data_key).encrypt(nonce, _spelled(user_id), pseudonym)
            nonce = fresh[-_NONCE_BYTES:]
            wrapped = nonce + wrap(nonce, data_key, pseudonym)
            out.append(Sealed(pseudonym, self.version, sealed, wrapped))
        return out

    def unseal(self, sealed: Sealed) -> str:
        """The user's own id.

        Raises KeyMissing if the master key of its version is not in the key file, and
        StoreCorrupt if the row was changed, swapped with another, or sealed under other keys.
        """
        master = self.master_keys.get(sealed.key_version)
        if master is None:
            raise KeyMissing(
                f"a user id was sealed under key version {sealed.key_version}, "
                f"and the key file has {sorted(self.master_keys)}",
                mend="put that version's keys back from your backup of the key file",
            )
        try:
            data_key = _decrypt(master, sealed.wrapped_key, sealed.pseudonym)
            return _decrypt(data_key, sealed.sealed_id, sealed.pseudonym).decode()
        except (InvalidTag, ValueError):
            raise StoreCorrupt(
                f"the sealed id of pseudonym {sealed.pseudonym.hex()} does not open",
                mend="restore the store, or the key file that belongs to it, from a backup",
            ) from None

    def digests(self, messages: Iterable[bytes], *, person: bytes = b"", size: int = 16) -> bytes:
        """Keyed BLAKE2b of each message (RFC 7693), `size` bytes each, end to end.

        `person` separates uses of the one key, so that equal messages of two uses differ.
        """
        # copying the keyed state costs less than keying anew for every row (.39 against .49 µs)
        keyed = blake2b(digest_size=size, key=self.digest_key, person=person)
        out = []
        for message in messages:
            state = keyed.copy()
            state.update(message)
            out.append(state.digest())
        return b"".join(out)

    def to_json(self) -> bytes:
        """All of them, in the clear: for the key file, and for a process that shares them."""

        def spell(keys: Mapping[int, bytes]) -> dict[str, str]:
            return {str(version): key.hex() for version, key in keys.items()}

        return msgspec.json.format(
            msgspec.json.encode(
                {
                    "limner_keys": _FORMAT,
                    "version": self.version,
                    "pseudonym": spell(self.pseudonym_keys),
                    "master": spell(self.master_keys),
                    "digest": self.digest_key.hex(),
                }
            )
        )

    @classmethod
    def from_json(cls, text: bytes) -> Keys:
        """What `to_json` gave. Raises one of several errors where it is something else."""
        data: dict[str, Any] = msgspec.json.decode(text)
        if data["limner_keys"] != _FORMAT:
            raise ValueError(data["limner_keys"])

        def read(keys: dict[str, str]) -> dict[int, bytes]:
            return {int(version): _key(key) for version, key in keys.items()}

        keys = cls(
            int(data["version"]), read(data["pseudonym"]), read(data["master"]),
            _key(data["digest"]),
        )  # fmt: skip
        if keys.version not in keys.pseudonym_keys or keys.version not in keys.master_keys:
            raise KeyError(keys.version)
        return keys


BY_ID, BY_CONTENT, BY_REPEAT, CHECK = b"event id", b"event content", b"event repeat", b"check"
"""The uses of the digest key in an event's identity (BLAKE2b personalisation)."""


def _spelled(user_id: str) -> bytes:
    """An id's bytes, the same where it is recorded and where it is asked for."""
    try:
        return user_id.strip().encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"user id {user_id!r} is no Unicode text", mend="give the id as UTF-8"
        ) from None


def named(source: str, event_id: str) -> bytes:
    """(source, id) as one message; the length in front makes it injective."""
    head = source.encode()
    return len(head).to_bytes(8, "little") + head + event_id.encode()


def repeated(first: bytes, occurrence: int) -> bytes:
    """The message of a later row of equal content, from the digest of the first one."""
    return first + occurrence.to_bytes(8, "little")


def _key(text: str) -> bytes:
    key = bytes.fromhex(text)
    if len(key) != _KEY_BYTES:
        raise ValueError(len(key))
    return key


def _decrypt(key: bytes, box: bytes, bound_to: bytes) -> bytes:
    return AESGCM(key).decrypt(box[:_NONCE_BYTES], box[_NONCE_BYTES:], bound_to)
