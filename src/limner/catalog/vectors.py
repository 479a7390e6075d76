"""Vectors of items: what is alike lies close. They need no model and no fitting, and better ones
once items' content has been encoded.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from limner.catalog.catalog import Catalog, hash64
from limner.catalog.content import MEDIA, PROSE, said
from limner.catalog.known import Content
from limner.events.arrays import Grow
from limner.events.batch import I32, plain_text
from limner.events.raw import EXPIRES
from limner.events.tokens import tokens

F32 = npt.NDArray[np.float32]

WIDTH = 64


class ItemVectors(Protocol):
    """Turns item versions into vectors."""

    @property
    def width(self) -> int:
        """Numbers a vector."""
        ...

    def of(self, catalog: Catalog, items: I32, versions: I32) -> F32:
        """Unit vectors (n, width) of items in these versions (−1: the item has none).

        MUST depend on what the version says only (and what is known of that content), not on the
        order in which items came.
        """
        ...

    def use(self, content: Content | None) -> None:
        """Rest on these vectors of content from now on, in place of any before."""
        ...


class HashedVectors:
    """Random projection of an item's attributes and words to 64 numbers (Achlioptas, 2003).

    Each `attribute=value`, and each word of a title or description, points in the direction
    whose 64 signs are the bits of its hash; a vector is the sum of its features' directions, an
    attribute with n values adding each with 1/√n, scaled to length 1. So the cosine of two items
    is their share of common features, give or take 1/√64; numbers are features by the power of
    two that they are nearest to. An item without a version points where its id does.

    Where the item's content has been encoded (`use`), its projected vector of length 1 is added
    before scaling: the cosine is then the mean of likeness by features and by content, and items
    of which nothing was encoded stay comparable with the others.
    """

    width = WIDTH

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Catalog, _Known] = WeakKeyDictionary()
        self._content: Content | None = None

    @property
    def content(self) -> Content | None:
        """What is known of what items say."""
        return self._content

    def use(self, content: Content | None) -> None:
        """Take these content vectors from now on, in place of any before."""
        self._content, self._known = content, WeakKeyDictionary()

    def of(self, catalog: Catalog, items: I32, versions: I32) -> F32:
        """Unit vectors (n, 64) of items in these versions."""
        known = self._known.setdefault(catalog, _Known())
        known.item.resize(len(catalog))
        known.version.resize(catalog.versions)
        place = np.where(
            versions >= 0,
            known.version.view[versions] if catalog.versions else -1,
            known.item.view[items],
        )
        for index in (place < 0).nonzero()[0].tolist():
            item, version = int(items[index]), int(versions[index])
            if (at := known.of(item, version)) < 0:
                at = known.add(item, version, self._vector(catalog, item, version))
            place[index] = at
        vectors: F32 = known.vectors.view[place]
        return vectors

    def _vector(self, catalog: Catalog, item: int, version: int) -> F32:
        described = catalog.described(version) if version >= 0 else {}
        features = _features(described)
        if not features:
            features = {"id=" + catalog.ids.values[item]: 1.0}
        total = np.zeros(WIDTH)
        for feature in sorted(features):
            total += features[feature] * _direction(feature)
        total /= max(float(np.linalg.norm(total)), 1e-12)
        if self._content is not None and described:
            content = self._content.narrow(said(described).key)
            if content is not None:
                total = total + content
                total /= max(float(np.linalg.norm(total)), 1e-12)
        return total.astype(np.float32)


class _Known:
    """The vectors of one catalog that were asked for so far."""

    def __init__(self) -> None:
        self.vectors = Grow(np.float32, 0, WIDTH)
        self.item = Grow(np.int32, -1)
        self.version = Grow(np.int32, -1)

    def of(self, item: int, version: int) -> int:
        return int(self.version.data[version] if version >= 0 else self.item.data[item])

    def add(self, item: int, version: int, vector: F32) -> int:
        at = self.vectors.n
        self.vectors.resize(at + 1)
        self.vectors.data[at] = vector
        if version >= 0:
            self.version.data[version] = at
        else:
            self.item.data[item] = at
        return at


@lru_cache(maxsize=65_536)
def _direction(feature: str) -> npt.NDArray[np.int8]:
    """64 signs; kept, since items have their brands, categories and words in common."""
    bits = np.array([hash64(feature)], dtype="<u8").view(np.uint8)
    return 2 * np.unpackbits(bits, bitorder="little").astype(np.int8) - 1


def _features(described: dict[str, Any]) -> dict[str, float]:
    out: dict[str, float] = {}
    for name, value in described.items():
        if name == EXPIRES or name in MEDIA:  # says nothing in words of what the item is
            continue
        values = value if isinstance(value, list) else [value]
        if name in PROSE:
            found = [f"word={word}" for each in values for word in tokens(str(each))]
        elif isinstance(value, float):
            found = [f"{name}~{np.sign(value) * np.round(np.log2(abs(value) + 1)):g}"]
        else:
            found = [f"{name}={plain_text(each)}" for each in values]
        for feature in found:
            out[feature] = out.get(feature, 0.0) + len(found) ** -0.5
    return out
