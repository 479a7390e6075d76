"""The items that lie nearest: exactly up to 200,000 of them, above that by an index.

The exact answer is one matrix product. Of more items `usearch` (an HNSW graph, Malkov and
Yashunin 2018; the extra `retrieval`) finds nearly the same in a time that hardly grows, and how
nearly, is measured: `recall`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from limner.catalog.known import Content
from limner.catalog.vectors import HashedVectors, ItemVectors
from limner.errors import MissingExtra
from limner.events.batch import I32, I64
from limner.model.protocol import F32
from limner.profile.facets.taste import InterestVector
from limner.profile.state import ProfileState

EXACT = 200_000
"""Items up to which every one is looked at."""
LINKS, BUILD, SEARCH = 16, 128, 256
"""Of the graph: links a node, and how widely it is searched while built and when asked."""
PROBES = 200
"""Items whose neighbours the recall is measured on."""


@dataclass(frozen=True)
class Nearest:
    """Vectors (n, width) and which of them have the greatest inner product with another."""

    vectors: F32
    exact_up_to: int = EXACT

    @property
    def exact(self) -> bool:
        """Whether every vector is looked at."""
        return len(self.vectors) <= self.exact_up_to

    def search(self, query: npt.ArrayLike, k: int) -> tuple[I64, F32]:
        """(which, inner products) of the k nearest, the nearest first."""
        asked = np.asarray(query, dtype=np.float32)
        if self.exact:
            return best(self.vectors @ asked, k)
        found = np.asarray(self._index.search(asked, max(k, SEARCH)).keys, dtype=np.int64)
        order, near = best(self.vectors[found] @ asked, k)
        return found[order], near

    def recall(self, k: int = 100, probes: int = PROBES, seed: int = 0) -> float:
        """The share of the exact k nearest that are found, mean over some of the vectors."""
        if self.exact:
            return 1.0
        chosen = np.random.default_rng(seed).choice(len(self.vectors), probes, replace=False)
        hits = 0
        for query in self.vectors[chosen]:
            hits += len(np.intersect1d(best(self.vectors @ query, k)[0], self.search(query, k)[0]))
        return hits / (probes * k)

    @cached_property
    def _index(self) -> Any:
        try:
            from usearch.index import Index
        except ImportError:
            raise MissingExtra(f"searching {len(self.vectors):,} items", "retrieval") from None
        index = Index(
            ndim=self.vectors.shape[1], metric="ip", dtype="f32", connectivity=LINKS,
            expansion_add=BUILD, expansion_search=SEARCH,
        )  # fmt: skip
        index.add(np.arange(len(self.vectors)), self.vectors)
        return index


def best(values: npt.NDArray[Any], k: int) -> tuple[I64, Any]:
    """(places, values) of the k greatest, the greatest first; ties in the order of places."""
    k = min(k, len(values))
    if not k:
        return np.empty(0, dtype=np.int64), values[:0]
    found = np.argpartition(-values, k - 1)[:k]
    found = found[np.lexsort((found, -values[found]))]
    return found.astype(np.int64), values[found]


@dataclass(slots=True)
class _Space:
    """The vectors of all items of a catalog, in the versions that they were made of."""

    content: Content | None
    versions: I32
    vectors: F32
    near: Nearest | None = None


_spaces: WeakKeyDictionary[ProfileState, _Space] = WeakKeyDictionary()


def vectors_of(state: ProfileState) -> F32:
    """The unit vectors of all items as they are now, (n, 64): what interest vectors are made of."""
    return _space(state).vectors


def vectors_for(state: ProfileState, items: I32) -> F32:
    """Those of some items, without those of all."""
    versions: I32 = state.catalog.current.view[items]
    return _source(state).of(state.catalog, items, versions)


def nearest_of(state: ProfileState) -> Nearest:
    """What finds items near one another by these vectors."""
    space = _space(state)
    if space.near is None:
        space.near = Nearest(space.vectors)
    return space.near


def _space(state: ProfileState) -> _Space:
    source = _source(state)
    content = source.content if isinstance(source, HashedVectors) else None
    catalog, space = state.catalog, _spaces.get(state)
    now = catalog.current.view
    if space is None or space.content is not content:
        space = _Space(content, np.empty(0, np.int32), np.empty((0, source.width), np.float32))
    known = len(space.versions)
    changed = np.flatnonzero(space.versions != now[:known])
    if len(now) > known or len(changed):
        items = np.concatenate([changed, np.arange(known, len(now))]).astype(np.int32)
        vectors = np.concatenate(
            [space.vectors, np.zeros((len(now) - known, source.width), np.float32)]
        )
        vectors[items] = source.of(catalog, items, now[items])
        space = _Space(content, now.copy(), vectors)
    _spaces[state] = space
    return space


def _source(state: ProfileState) -> ItemVectors:
    taste = next((f for f in state.facets if isinstance(f, InterestVector)), None)
    return taste.vectors if taste is not None else _own


_own = HashedVectors()
