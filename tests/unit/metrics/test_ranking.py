from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from limner.metrics.ranking import hit_rate, hits, ndcg, ranks, recall, top_k

TABLES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.integers(1, 1500)),
    elements=st.sampled_from([-np.inf, 0.0, 0.25, 1.0, 3.0]),
)


@given(TABLES, st.integers(1, 12))
def test_top_k_is_a_stable_full_sort_cut_off(table: np.ndarray, k: int) -> None:
    for line, ranked in zip(table, top_k(table, k), strict=True):
        order = [i for i in np.argsort(-line, kind="stable") if line[i] > -np.inf][:k]
        assert ranked.tolist() == order + [-1] * (k - len(order))


def test_metrics_of_one_known_list() -> None:
    found = hits([[5, 2, 9, -1]], [[2, 9, 30]])
    assert found.tolist() == [[False, True, True, False]]
    assert hit_rate(found, 1).tolist() == [0.0]
    assert hit_rate(found, 2).tolist() == [1.0]
    assert recall(found, [3], 4) == pytest.approx([2 / 3])
    gain = 1 / np.log2(3) + 1 / np.log2(4)
    assert ndcg(found, [3], 4) == pytest.approx([gain / (1 + gain)])


def test_a_perfect_list_scores_one_however_many_are_true() -> None:
    found = hits([[1, 2]], [[1, 2, 3, 4]])
    assert ndcg(found, [4], 2) == pytest.approx([1.0])
    assert recall(found, [4], 2) == pytest.approx([0.5])


def test_lists_shorter_than_k_are_scored() -> None:
    assert ndcg(hits([[7]], [[7]]), [1], 10) == pytest.approx([1.0])


@given(hnp.arrays(np.float64, (4, 9), elements=st.sampled_from([0.0, 0.5, 1.0])))
def test_ranks_of_all_items_add_up_whatever_ties(scores: np.ndarray) -> None:
    every = sum(ranks(scores, np.full(4, item)) for item in range(9))
    assert every == pytest.approx(np.full(4, 45.0))
