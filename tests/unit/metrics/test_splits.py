from __future__ import annotations

import numpy as np

from limner.metrics.splits import first_group_after, leave_one_out

OFFSETS = np.array([0, 5, 7, 7])
ITEMS = np.array([1, 2, 3, 4, 9, 5, 6], dtype=np.int32)
TIMES = np.array([10, 20, 20, 20, 30, 10, 25])
GROUPS = np.array([1, 2, 2, 2, 3, -1, -1])


def test_the_first_basket_at_or_after_the_cutoff_is_the_truth() -> None:
    truth = first_group_after(OFFSETS, ITEMS, TIMES, GROUPS, 20)
    assert truth.users.tolist() == [0, 1]
    assert [items.tolist() for items in truth.items] == [[2, 3, 4], [6]]


def test_the_span_ends_before_its_end() -> None:
    assert len(first_group_after(OFFSETS, ITEMS, TIMES, GROUPS, 11, before=20)) == 0


def test_an_event_without_a_group_stands_alone() -> None:
    truth = first_group_after(OFFSETS, ITEMS, TIMES, np.full(7, -1), 20)
    assert [items.tolist() for items in truth.items] == [[2], [6]]


def test_leave_one_out_keeps_order_and_short_histories() -> None:
    train, validation, test = leave_one_out(OFFSETS)
    assert (test.tolist(), validation.tolist()) == ([4], [3])
    assert np.flatnonzero(~train).tolist() == [3, 4]
