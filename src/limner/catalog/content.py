"""What an item says: its text, and where its image and its sound are."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from limner.catalog.encoders import KINDS, Kind
from limner.catalog.encoders.text import LONGEST
from limner.errors import InputError
from limner.events.batch import plain_text
from limner.events.raw import EXPIRES

TITLES = ("title", "name")
PROSE = (*TITLES, "description", "text", "summary", "reviews", "review")
"""Attributes whose words count, not the text as a whole; in the order they are read."""
MEDIA: Mapping[str, Kind] = {"image": "image", "audio": "audio"}
"""Attributes that name a file, and of which kind."""

LARGEST = 32 << 20
"""Bytes of an image or a recording."""
SECONDS = 20.0
"""How long is waited for one that is fetched."""


@dataclass(frozen=True, slots=True)
class Said:
    """What one version of an item says; a kind of which it says nothing is not in `parts`.

    `parts[kind]`: the text itself, or what names the image or sound. `empty`: attributes of text
    that are there and hold nothing.
    """

    parts: Mapping[Kind, str]
    empty: tuple[str, ...] = ()

    @property
    def key(self) -> int:
        """64 bits that stand for all of it."""
        said = "\0".join(f"{kind}\0{self.parts.get(kind, '')}" for kind in KINDS)
        return int.from_bytes(digest(said.encode("utf-8", "replace"))[:8], "little", signed=True)


def digest(data: bytes) -> bytes:
    """16 bytes that stand for some content."""
    return blake2b(data, digest_size=16).digest()


def said(described: Mapping[str, Any]) -> Said:
    """What attributes say: prose, or without a title the other attributes; image; audio.

    >>> said({"title": "Green tea", "brand": "Koi", "image": "tea.png"}).parts
    {'text': 'Green tea', 'image': 'tea.png'}
    >>> said({"type": "tea", "brand": "Koi", "price": 4.5}).parts
    {'text': 'Koi, tea'}
    """
    prose: list[str] = []
    empty = []
    for name in PROSE:
        if name in described:
            texts = [text for each in _values(described[name]) if (text := _plain(each))]
            prose += texts
            if not texts:
                empty.append(name)
    if not any(name in described and name not in empty for name in TITLES):
        known = [
            text
            for name, value in sorted(described.items())
            if name not in PROSE and name not in MEDIA and name != EXPIRES
            for each in _values(value)
            if isinstance(each, str) and (text := _plain(each))
        ]
        prose.insert(0, ", ".join(dict.fromkeys(known)))
    parts: dict[Kind, str] = {}
    if text := ". ".join(part for part in prose if part)[:LONGEST]:
        parts["text"] = text
    for name, kind in MEDIA.items():
        named = [text for each in _values(described.get(name)) if (text := _plain(each))]
        if named:
            parts[kind] = named[0]
    return Said(parts, tuple(empty))


def _values(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _plain(value: Any) -> str:
    return (plain_text(value) or "").replace("\0", " ").strip()


@dataclass(frozen=True, slots=True)
class Reader:
    """Brings the bytes that items name. `folder`: where paths begin, and end."""

    folder: Path
    network: bool = False

    def read(self, name: str) -> bytes:
        """The bytes behind a path, a data: URL, base64 text, or an address if `network`.

        Raises InputError, saying which of these it was and what is wrong.
        """
        if name.startswith("data:"):
            return _data_url(name)
        if re.match(r"https?://", name, re.I):
            return self._fetched(name)
        inline = _base64(name)
        return self._file(name) if inline is None else inline

    def fixed(self, name: str) -> bool:
        """Whether it is taken to stay as it is: an address is not fetched a second time."""
        return bool(re.match(r"https?://", name, re.I))

    def _file(self, name: str) -> bytes:
        shown = name if len(name) <= 120 else name[:117] + "…"
        plain = unquote(urlsplit(name).path) if name.startswith("file://") else name
        try:
            folder = self.folder.resolve()
            path = (folder / plain).resolve()
            if not path.is_relative_to(folder):
                raise InputError(
                    f"{shown} lies outside of the folder for items' files, {folder}",
                    mend="move the file there, or set encoders.folder",
                )
            if not path.is_file():
                raise InputError(
                    f"{shown} does not exist",
                    mend=f"paths begin at {folder}; encoders.folder says where",
                )
            if path.stat().st_size > LARGEST:
                raise _too_large(shown)
            data = path.read_bytes()
        except (OSError, ValueError) as error:  # a ValueError for a name that no file can have
            said = getattr(error, "strerror", None) or str(error)
            raise InputError(f"{shown} cannot be read: {said}", mend="check the path") from None
        if not data:
            raise InputError(f"{shown} is empty", mend="replace the file")
        return data

    def _fetched(self, url: str) -> bytes:
        if not self.network:
            raise InputError(
                f"{url[:120]} is not fetched",
                mend="set encoders.network = true, or name a file",
            )
        from urllib.error import URLError  # with HTTP and TLS behind it: not for every command
        from urllib.request import Request, urlopen

        try:
            request = Request(url, headers={"User-Agent": "limner"})
            with urlopen(request, timeout=SECONDS) as answer:
                data: bytes = answer.read(LARGEST + 1)
        except (URLError, OSError, ValueError) as error:
            raise InputError(f"{url[:120]} cannot be fetched: {error}", mend="check it") from None
        if len(data) > LARGEST:
            raise _too_large(url[:120])
        if not data:
            raise InputError(f"{url[:120]} is empty", mend="check the address")
        return data


def _too_large(what: str) -> InputError:
    return InputError(f"{what} has more than {LARGEST >> 20} MB", mend="give a smaller one")


def _data_url(url: str) -> bytes:
    head, comma, body = url[5:].partition(",")
    try:
        if not comma:
            raise ValueError("it has no comma")
        coded = head.endswith(";base64")
        plain = "".join(unquote(body).split()) if coded else ""
        data = base64.b64decode(plain, validate=True) if coded else unquote_to_bytes(body)
    except (ValueError, binascii.Error) as error:
        raise InputError(f"the data: URL cannot be read: {error}", mend="encode it anew") from None
    if not data:
        raise InputError("the data: URL is empty", mend="encode it anew")
    return data


_MAGIC = (
    b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*", b"OggS", b"fLaC",
    b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2",
)  # fmt: skip


def _base64(text: str) -> bytes | None:
    """The bytes, if a text is base64 of an image or a recording: paths are never that."""
    if len(text) < 40 or not re.match(r"[A-Za-z0-9+/]{40}", text):
        return None
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (ValueError, binascii.Error):
        return None
    return data if data.startswith(_MAGIC) else None
