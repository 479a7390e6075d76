from __future__ import annotations

import math

import numpy as np
import pytest

from limner.metrics.intervals import bootstrap_interval, paired_bootstrap


def test_interval_of_a_share_is_about_the_normal_one() -> None:
    values = np.repeat([0.0, 1.0], [300, 100])
    interval = bootstrap_interval(values, seed=3)
    half = 1.96 * math.sqrt(0.25 * 0.75 / 400)
    assert interval.mean == 0.25
    assert interval.low == pytest.approx(0.25 - half, abs=0.01)
    assert interval.high == pytest.approx(0.25 + half, abs=0.01)


def test_same_seed_same_interval() -> None:
    values = np.random.default_rng(0).random(50)
    assert bootstrap_interval(values, seed=5) == bootstrap_interval(values, seed=5)
    assert bootstrap_interval(values, seed=5) != bootstrap_interval(values, seed=6)


def test_pairing_shows_a_small_steady_lead_that_separate_intervals_hide() -> None:
    ours = np.random.default_rng(1).random(200)
    theirs = ours - 0.01
    assert paired_bootstrap(ours, theirs).excludes(0.0)
    assert bootstrap_interval(ours).low < bootstrap_interval(theirs).high


def test_nothing_measured_is_nan_and_excludes_zero_never() -> None:
    interval = bootstrap_interval([])
    assert math.isnan(interval.mean)
    assert not math.isnan(interval.mean) or interval.low != interval.low


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        paired_bootstrap([1.0], [1.0, 2.0])


def test_what_one_user_did_is_resampled_whole() -> None:
    rng = np.random.default_rng(0)
    of_user = rng.random(50) < 0.4
    users = np.repeat(np.arange(50), 40)  # 40 equal answers a user are no more than one
    values = np.repeat(of_user.astype(float), 40)
    whole = bootstrap_interval(values, users=users)
    one = bootstrap_interval(of_user.astype(float))
    assert whole.mean == one.mean == pytest.approx(of_user.mean())
    assert (whole.low, whole.high) == pytest.approx((one.low, one.high))
    assert bootstrap_interval(values).high - whole.mean < 0.3 * (whole.high - whole.mean)
