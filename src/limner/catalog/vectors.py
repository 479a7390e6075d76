"""Vectors of items: what is alike lies close. They need no model and no fitting, and better ones
once items' content has been encoded.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from limner.catalog.catalog import Catalog, hash64
from limner.catalog.content import MEDIA, PROSE, said
from limner.catalog.known import Content
from limner.events.arrays import Grow
from limner.events.batch import F64, I32, Bool, plain_text
from limner.events.raw import EXPIRES
from limner.events.tokens import tokens

F32 = npt.NDArray[np.float32]

WIDTH = 64

AT_ONCE = 8_192
"""Items whose vectors are made together."""


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
        missing = (place < 0).nonzero()[0]
        for start in range(0, len(missing), AT_ONCE):
            # an item may be asked for twice; of those with a version, by the version alone
            part = missing[start : start + AT_ONCE]
            pairs = np.stack([np.where(versions[part] < 0, items[part], -1), versions[part]])
            _, first, same = np.unique(pairs, axis=1, return_index=True, return_inverse=True)
            few = part[first]
            added = known.add(items[few], versions[few],
                              self._vectors(catalog, items[few], versions[few]))  # fmt: skip
            place[part] = added[same.reshape(-1)]
        vectors: F32 = known.vectors.view[place]
        return vectors

    def _vectors(self, catalog: Catalog, items: I32, versions: I32) -> F32:
        total, told = _summed(catalog, versions)
        for index in np.flatnonzero(~told).tolist():
            total[index] = _direction("id=" + catalog.ids.values[items[index]])
        total /= _lengths(total)
        if self._content is not None:
            for index in np.flatnonzero(versions >= 0).tolist():
                described = catalog.described(int(versions[index]))
                content = self._content.narrow(said(described).key) if described else None
                if content is not None:
                    total[index] += content
            total /= _lengths(total)
        return total.astype(np.float32)


class _Known:
    """The vectors of one catalog that were asked for so far."""

    def __init__(self) -> None:
        self.vectors = Grow(np.float32, 0, WIDTH)
        self.item = Grow(np.int32, -1)
        self.version = Grow(np.int32, -1)

    def add(self, items: I32, versions: I32, vectors: F32) -> npt.NDArray[np.int64]:
        """Keep the vectors of these items (by their versions, if they have one); their places."""
        at = np.arange(self.vectors.n, self.vectors.n + len(items))
        self.vectors.resize(self.vectors.n + len(items))
        self.vectors.view[at] = vectors
        described = versions >= 0
        self.version.view[versions[described]] = at[described]
        self.item.view[items[~described]] = at[~described]
        return at


@lru_cache(maxsize=65_536)
def _direction(feature: str) -> npt.NDArray[np.int8]:
    """64 signs; kept, since items have their brands, categories and words in common."""
    bits = np.array([hash64(feature)], dtype="<u8").view(np.uint8)
    return 2 * np.unpackbits(bits, bitorder="little").astype(np.int8) - 1


def _lengths(vectors: F64) -> F64:
    lengths: F64 = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    return np.maximum(lengths, 1e-12)[:, None]


def _summed(catalog: Catalog, versions: I32) -> tuple[F64, Bool]:
    """(sums of the directions of all features of each version (n, 64), which have any).

    Attribute by attribute in the order of their names, so that a sum does not depend on what else
    is asked for.
    """
    total = np.zeros((len(versions), WIDTH))
    told = np.zeros(len(versions), dtype=bool)
    for name in sorted(catalog.attributes):
        if name == EXPIRES or name in MEDIA:  # says nothing in words of what the item is
            continue
        rows, codes = catalog.codes_at(name, versions)
        if not len(rows):
            continue
        alone = np.bincount(rows, minlength=len(versions)) == 1
        numbers = catalog.numbers_at(name, versions)
        numeric = alone[rows] & ~np.isnan(numbers[rows])
        if numeric.any() and name not in PROSE:
            at = rows[numeric]
            near = np.sign(numbers[at]) * np.round(np.log2(np.abs(numbers[at]) + 1))
            powers, which = np.unique(near, return_inverse=True)
            total[at] += np.stack([_direction(f"{name}~{power:g}") for power in powers])[which]
            told[at] = True
            rows, codes = rows[~numeric], codes[~numeric]
            if not len(rows):
                continue
        different, which = np.unique(codes, return_inverse=True)
        words = catalog.words[name].values
        sums = np.zeros((len(different), WIDTH))
        count = np.ones(len(different))
        for place, code in enumerate(different.tolist()):
            if name in PROSE:
                found = [f"word={word}" for word in tokens(words[code])]
                count[place] = len(found)
            else:
                found = [f"{name}={plain_text(words[code])}"]
            for feature in found:
                sums[place] += _direction(feature)
        each = np.bincount(rows, count[which], minlength=len(versions))
        own = np.zeros_like(total)
        np.add.at(own, rows, sums[which])
        some = np.flatnonzero(each)
        total[some] += own[some] * (each[some] ** -0.5)[:, None]
        told[some] = True
    return total, told
