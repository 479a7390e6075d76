from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.metrics.classes import calibration_error, confusion, log_loss, scores


def test_by_hand() -> None:
    p = np.array([[0.8, 0.2], [0.4, 0.6], [0.9, 0.1], [0.3, 0.7]])
    truth = np.array([0, 0, 0, 1])
    found = scores(p, truth, ["no", "yes"])
    assert found.confusion == [[2, 1], [0, 1]]
    assert (found.accuracy, found.usual) == (0.75, 0.75)
    no, yes = found.classes
    assert [no.precision, no.recall, no.rows] == pytest.approx([1.0, 2 / 3, 3])
    assert [yes.precision, yes.recall, yes.f1] == pytest.approx([0.5, 1.0, 2 / 3])
    assert found.log_loss == pytest.approx(-np.log([0.8, 0.4, 0.9, 0.7]).mean())
    # alone in their bins: .8 and .9 and .7 are right, .6 is wrong
    assert found.calibration_error == pytest.approx((0.2 + 0.1 + 0.3 + 0.6) / 4)


@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.integers(1, 200))
@settings(max_examples=40, deadline=None)
def test_the_confusion_counts_every_row_once(seed: int, classes: int, n: int) -> None:
    random = np.random.default_rng(seed)
    said, truth = random.integers(0, classes, n), random.integers(0, classes, n)
    table = confusion(said, truth, classes)
    assert table.sum() == n
    assert table.sum(axis=1).tolist() == np.bincount(truth, minlength=classes).tolist()
    assert np.diag(table).sum() == (said == truth).sum()


def test_what_is_said_with_the_right_confidence_is_calibrated() -> None:
    random = np.random.default_rng(0)
    sure = random.uniform(0.5, 1, 200_000)
    p = np.stack([sure, 1 - sure], axis=1)
    truth = (random.random(len(sure)) > sure).astype(np.int64)
    assert calibration_error(p, truth) < 0.006
    bolder = p**3 / (p**3).sum(axis=1, keepdims=True)
    assert calibration_error(bolder, truth) > 0.08
    assert log_loss(bolder, truth) > log_loss(p, truth)
