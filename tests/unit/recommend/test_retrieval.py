"""The nearest items: exactly up to 200,000, above that by an index whose recall is measured."""

from __future__ import annotations

import numpy as np
import pytest

from limner.model.protocol import F32
from limner.recommend.retrieval import EXACT, Nearest


def vectors(n: int, width: int) -> F32:
    found = np.random.default_rng(1).normal(size=(n, width)).astype(np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found


def test_up_to_the_bound_every_item_is_looked_at() -> None:
    found = Nearest(vectors(2_000, 8))
    assert found.exact
    assert found.recall(100) == 1.0
    query = found.vectors[7]
    places, near = found.search(query, 10)
    assert places.tolist() == np.argsort(-(found.vectors @ query), kind="stable")[:10].tolist()
    assert near[0] == (found.vectors @ query).max()
    assert len(found.search(query, 5_000)[0]) == 2_000


def test_above_the_bound_an_index_finds_nearly_the_same() -> None:
    found = Nearest(vectors(5_001, 16), exact_up_to=5_000)
    assert not found.exact
    assert found.recall(100, probes=30) >= 0.95


@pytest.mark.real
def test_above_the_bound_of_200_000_too() -> None:
    found = Nearest(vectors(EXACT + 1, 16))
    assert not found.exact
    assert found.recall(100, probes=30) >= 0.95
