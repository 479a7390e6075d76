"""All items' content as vectors: what is known from the cache, the rest in batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from limner.catalog.cache import Kept, Note, VectorCache, half
from limner.catalog.catalog import Catalog
from limner.catalog.content import Reader, Said, digest, said
from limner.catalog.encoders import F32, KINDS, Encoder, Kind, audio, image
from limner.errors import InputError, LimnerError
from limner.events.batch import I64

BATCH: Mapping[Kind, int] = {"text": 64, "image": 16, "audio": 8}
"""Contents that are encoded, and then kept, at once."""
CHUNK = 256
"""Items that are looked at while the catalog is locked."""


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of content of all items.

    `vectors` (n_items, width), 0 where an item has none; `items` have it, `encoded` of the
    different ones were new and took `seconds`; `error`: why the encoder could not go on, if so.
    """

    encoder: str
    kind: Kind
    vectors: F32
    items: int
    encoded: int
    seconds: float
    error: str = ""


@dataclass(frozen=True, slots=True)
class Encoded:
    """What items' content became. `keys[item]`: of what each item says now, 0 for nothing."""

    parts: list[Part] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    keys: I64 = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


def encode_items(
    catalog: Catalog,
    encoders: Mapping[Kind, Encoder],
    cache: VectorCache,
    reader: Reader,
    *,
    lock: AbstractContextManager[Any],
    progress: Callable[[str, int, int], None],
) -> Encoded:
    """Vectors of what every item says now, and a note for each that says something unusable.

    `lock` is taken for a few hundred items at a time. An encoder that fails leaves the items that
    it had not come to without a vector. Contents that are alike are encoded once.
    """
    with lock:
        n = len(catalog)
    sayings: list[Said] = []
    ids: list[str] = []
    for start in range(0, n, CHUNK):
        with lock:
            for item in range(start, min(start + CHUNK, n)):
                live = not catalog.deleted.data[item]
                sayings.append(said(catalog.describe(item) if live else {}))
                ids.append(catalog.ids.values[item])
    return encode_said(ids, sayings, encoders, cache, reader, progress=progress)


def encode_said(
    ids: Sequence[str],
    sayings: Sequence[Said],
    encoders: Mapping[Kind, Encoder],
    cache: VectorCache,
    reader: Reader,
    *,
    progress: Callable[[str, int, int], None],
) -> Encoded:
    """The same of items by their ids and what each says."""
    notes = [
        Note(ids[item], "text", f"{name} is empty", "describe the item anew")
        for item, says in enumerate(sayings)
        for name in says.empty
    ]
    parts = []
    for kind in KINDS:
        named = [says.parts.get(kind) for says in sayings]
        if kind in encoders and any(named):
            part, faults = _encode_kind(encoders[kind], named, cache, reader, progress)
            parts.append(part)
            notes += [Note(ids[item], kind, *fault) for item, fault in faults.items()]
    cache.note(notes)
    keys = np.array([says.key if says.parts else 0 for says in sayings], dtype=np.int64)
    return Encoded(parts, notes, keys)


def _encode_kind(
    encoder: Encoder,
    named: Sequence[str | None],
    cache: VectorCache,
    reader: Reader,
    progress: Callable[[str, int, int], None],
) -> tuple[Part, dict[int, tuple[str, str]]]:
    """The vectors of one kind, and the faults of items."""
    started = time.perf_counter()
    faults: dict[int, tuple[str, str]] = {}
    items: dict[bytes, list[int]] = {}
    names: dict[bytes, str] = {}
    for item, name in enumerate(named):
        if name:
            try:
                key = _hash(encoder.kind, name, reader)
            except InputError as fault:
                faults[item] = (fault.what, fault.mend)
                continue
            items.setdefault(key, []).append(item)
            names[key] = name
    error, encoded, width = "", 0, 0
    found: dict[bytes, Kept] = {}
    try:
        width = encoder.width
        found = cache.find(encoder.name, width, list(items))
        # alike lengths together: a batch takes as long as its longest
        new = sorted((key for key in items if key not in found), key=lambda k: len(names[k]))
        size = BATCH[encoder.kind]
        for start in range(0, len(new), size):
            progress(f"encoding {encoder.kind}", start, len(new))
            batch = {key: names[key] for key in new[start : start + size]}
            fresh = _encode_batch(encoder, batch, reader)
            cache.put(encoder.name, fresh)
            found |= fresh
            encoded += sum(kept.vector is not None for kept in fresh.values())
        if new:
            progress(f"encoding {encoder.kind}", len(new), len(new))
    except LimnerError as failed:
        error = str(failed)
    vectors = np.zeros((len(named), width), dtype=np.float32)
    for key, kept in found.items():
        if kept.vector is None:
            faults.update(dict.fromkeys(items[key], kept.fault))
        else:
            vectors[items[key]] = kept.vector
    n = int(vectors.any(axis=1).sum())
    seconds = time.perf_counter() - started
    return Part(encoder.name, encoder.kind, vectors, n, encoded, seconds, error), faults


def _hash(kind: Kind, name: str, reader: Reader) -> bytes:
    if kind == "text":
        return digest(name.encode("utf-8", "replace"))
    return digest(name.encode() if reader.fixed(name) else reader.read(name))


def _encode_batch(
    encoder: Encoder, batch: Mapping[bytes, str], reader: Reader
) -> dict[bytes, Kept]:
    out: dict[bytes, Kept] = {}
    contents: dict[bytes, Any] = {}
    for key, name in batch.items():
        try:
            contents[key] = _content(encoder.kind, name, reader)
        except InputError as unusable:
            out[key] = Kept(None, (unusable.what, unusable.mend))
    if contents:
        for key, vector in zip(contents, encoder.encode(list(contents.values())), strict=True):
            sound = bool(np.isfinite(vector).all()) and bool(np.abs(vector).max() < 60_000)
            fault = ("", "") if sound else ("the encoder gave no usable vector", "")
            out[key] = Kept(half(vector) if sound else None, fault)
    return out


def _content(kind: Kind, name: str, reader: Reader) -> Any:
    if kind == "text":
        return name
    data = reader.read(name)
    return image.decoded(data) if kind == "image" else audio.decoded(data)
