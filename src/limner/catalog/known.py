"""Content vectors as they are asked for: by what an item says, mapped from disk.

What was encoded is kept in one table an encoder, sorted by the key of what items say
(`content.Said.key`), so that a process that starts finds it without encoding or reading it all.
Nothing here encodes: what is not known yet is zero until the next `encoded.encode_items`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt

from limner.catalog import projection
from limner.catalog.catalog import Catalog
from limner.catalog.content import said
from limner.catalog.encoded import Encoded
from limner.catalog.encoders import F32
from limner.catalog.projection import Projection
from limner.errors import StoreCorrupt
from limner.events.batch import I64

_log = logging.getLogger(__name__)

NARROW = 64
"""The width at which content enters portraits."""
GROWN = 2.0
"""A projection is learned anew once there are so many times the vectors it was learned from."""
FILE = "projections.npz"


@dataclass(frozen=True, slots=True)
class Table:
    """Vectors of one encoder, in half precision: `rows` of (key, vector), sorted by key."""

    rows: npt.NDArray[np.void]

    @classmethod
    def of(cls, keys: I64, vectors: F32) -> Table:
        """Of items' keys and vectors (n, width); those of no content are left out."""
        _, first = np.unique(keys, return_index=True)
        first = first[(keys[first] != 0) & vectors[first].any(axis=1)]
        kind = np.dtype([("key", "<i8"), ("vector", "<f2", (vectors.shape[1],))])
        rows = np.empty(len(first), dtype=kind)
        rows["key"], rows["vector"] = keys[first], vectors[first]
        return cls(rows)

    def find(self, keys: I64) -> F32:
        """The vectors (n, width) of some content, 0 where it is not known."""
        known = self.rows["key"]
        out = np.zeros((len(keys), self.rows["vector"].shape[1]), dtype=np.float32)
        if len(known):
            at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
            there = known[at] == keys
            out[there] = self.rows["vector"][at[there]]
        return out

    def save(self, path: Path) -> None:
        """Write it in one step, so that readers see the old one or the new one."""
        fresh = path.with_suffix(".new")
        with fresh.open("wb") as file:
            np.save(file, self.rows, allow_pickle=False)
        fresh.replace(path)

    @classmethod
    def load(cls, path: Path) -> Table:
        """What `save` wrote, mapped rather than read. Raises StoreCorrupt."""
        try:
            rows = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise StoreCorrupt(f"cannot be read: {error}", where=str(path)) from None
        if (
            not isinstance(rows, np.ndarray)
            or rows.dtype.names != ("key", "vector")
            or rows.ndim != 1
        ):
            raise StoreCorrupt("holds something else", where=str(path))
        return cls(rows)


@dataclass(frozen=True, slots=True)
class Content:
    """What is known of all content, by encoder."""

    tables: Mapping[str, Table]
    projections: Mapping[str, Projection]

    def vectors(self, catalog: Catalog, items: I64 | None = None) -> dict[str, F32]:
        """By encoder, of all items or of some: unit vectors (n, width) about the mean of all.

        0 where an item says nothing, or nothing that has been encoded.
        """
        chosen = np.arange(len(catalog)) if items is None else items
        keys = np.array([said(catalog.describe(item)).key for item in chosen.tolist()], np.int64)
        return self.of(keys)

    def of(self, keys: I64) -> dict[str, F32]:
        """The same by the keys of what items say."""
        return {
            name: self.projections[name].centred(table.find(keys))
            for name, table in self.tables.items()
        }

    def narrow(self, key: int) -> F32 | None:
        """All encoders' vectors projected and added, of length 1 (64,); None where none is."""
        keys = np.array([key], dtype=np.int64)
        total = np.zeros((1, NARROW), dtype=np.float32)
        for name, table in self.tables.items():
            total += self.projections[name](table.find(keys))
        return projection.unit(total)[0] if total.any() else None

    def save(self, folder: Path) -> None:
        """Write it into a folder of its own, which is made."""
        folder.mkdir(parents=True, exist_ok=True)
        projection.save(folder / FILE, dict(self.projections))
        for name, table in self.tables.items():
            table.save(folder / _file(name))

    @classmethod
    def load(cls, folder: Path, encoders: Sequence[str] | None = None) -> Content | None:
        """What `save` wrote, of all encoders or some; None if there is none, or it is broken."""
        try:
            projections = projection.load(folder / FILE)
            names = [n for n in projections if encoders is None or n in encoders]
            tables = {name: Table.load(folder / _file(name)) for name in names}
        except StoreCorrupt as error:
            if (folder / FILE).exists():
                _log.warning("%s; items have to be encoded again", error)
            return None
        return cls(tables, {name: projections[name] for name in names}) if names else None


def learned(encoded: Encoded, before: Content | None) -> Content:
    """What was encoded, with the projections of before as long as they will do."""
    tables, projections = {}, {}
    for part in encoded.parts:
        if not part.items:
            continue
        tables[part.encoder] = table = Table.of(encoded.keys, part.vectors)
        old = before.projections.get(part.encoder) if before is not None else None
        if old is None or len(table.rows) > GROWN * old.learned_from:
            different = table.rows["vector"].astype(np.float32)
            old = projection.learn(part.encoder, different, NARROW)
        projections[part.encoder] = old
    return Content(tables, projections)


def _file(encoder: str) -> str:
    return blake2b(encoder.encode(), digest_size=8).hexdigest() + ".npy"
