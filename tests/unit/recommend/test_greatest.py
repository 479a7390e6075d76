"""The greatest scores, found by a sample first."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from limner.recommend.rank import greatest


@given(
    seed=st.integers(0, 10_000),
    size=st.sampled_from([1, 7, 500, 4_095, 4_096, 30_000]),
    n=st.integers(1, 600),
    levels=st.sampled_from([0, 3, 2_000]),
)
def test_the_greatest_are_those_a_sort_finds(seed: int, size: int, n: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    score = rng.standard_normal(size)
    if levels:  # many alike
        score = np.round(score * levels) / levels
    score[rng.random(size) < 0.1] = -np.inf
    ids = [f"i{place}" for place in rng.permutation(size)]
    n = min(n, size)
    found = greatest(score, n, ids)
    assert len(set(found)) == n
    np.testing.assert_array_equal(score[found], -np.sort(-score)[:n])
    assert found == sorted(found, key=lambda item: (-score[item], ids[item]))
