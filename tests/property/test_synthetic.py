"""The synthetic shop is what its fields say, and always the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.errors import ConfigError
from limner.events.batch import DAY, I64
from limner.events.vocabulary import TYPES
from limner.sources import synthetic
from limner.sources.synthetic import Shop

SMALL = Shop(events=150_000, users=20_000, items=3_000, categories=30)

shops = st.builds(
    Shop,
    events=st.integers(1, 3_000),
    users=st.integers(1, 2_000),
    items=st.integers(60, 500),
    seed=st.integers(0, 2**32 - 1),
    days=st.integers(1, 400),
    loyalty=st.floats(0, 1),
    season=st.floats(0, 1),
)


def whole(shop: Shop) -> pa.Table:
    return pa.concat_tables(synthetic.events(shop))


def numbers(column: Any) -> I64:
    return np.array(pc.utf8_slice_codeunits(column, 1).cast(pa.int64()))


@given(shops)
@settings(max_examples=25, deadline=None)
def test_any_shop_is_deterministic_complete_and_in_order(shop: Shop) -> None:
    table = whole(shop)
    assert table.equals(whole(shop))
    assert len(table) == shop.events
    times = np.array(table["timestamp"].cast(pa.int64()))
    assert (np.diff(times) >= 0).all()
    assert times[0] >= shop.start
    assert set(table["event_type"].unique().to_pylist()) <= TYPES
    assert numbers(table["user_id"]).max() < shop.users
    assert numbers(table["item_id"]).max() < shop.items
    batches = list(synthetic.batches(shop))
    assert sum(map(len, batches)) == shop.events
    digests = {digest for batch in batches for digest in batch.array("digest").to_pylist()}
    assert len(digests) == shop.events
    some = np.arange(min(shop.users, 50))
    truth = synthetic.interests(shop, some, np.full(len(some), shop.start + shop.days * DAY))
    np.testing.assert_allclose(truth.sum(axis=1), 1)


def test_another_seed_is_another_shop() -> None:
    shop = Shop(events=500, users=100, items=60)
    assert not whole(shop).equals(whole(replace(shop, seed=1)))


@pytest.mark.parametrize("exponent", [0.7, 1.0, 1.3])
def test_users_and_items_are_as_uneven_as_asked(exponent: float) -> None:
    """The slope of log count against log(rank + shift), where counts are large, is the exponent."""
    shop = replace(SMALL, user_exponent=exponent, item_exponent=exponent, categories=1, season=0)
    table = whole(shop)
    for name, n, shift in (("user_id", shop.users, shop.users / 1000), ("item_id", shop.items, 2)):
        counts = np.bincount(numbers(table[name]), minlength=n)
        if name == "user_id":
            assert counts.min() >= 1  # every user comes
            counts = counts - round(shop.session_events)
        counts = np.sort(counts)[::-1][: n // 100]
        slope = np.polyfit(np.log(np.arange(len(counts)) + 0.5 + shift), np.log(counts), 1)[0]
        assert slope == pytest.approx(-exponent, abs=0.15)


def test_a_day_a_week_and_a_year_have_their_seasons() -> None:
    table = whole(SMALL)
    times = np.array(table["timestamp"].cast(pa.int64()))
    hour = np.bincount(times // (DAY // 24) % 24)
    assert hour[19:21].min() > 5 * hour[2:4].max()
    weekday = np.bincount((times // DAY + 3) % 7)
    assert weekday[5] > 1.2 * weekday[:3].max()
    assert np.unique(numbers(table["group_id"])).size == pytest.approx(150_000 / 4, rel=0.03)


def test_what_users_look_at_follows_their_interests_and_drifts_with_them() -> None:
    shop = replace(SMALL, season=0.0)
    table = whole(shop)
    opens = np.unique(numbers(table["group_id"]), return_index=True)[1]
    user = numbers(table["user_id"])[opens]
    time = np.array(table["timestamp"].cast(pa.int64()))[opens]
    about = synthetic.category_of(shop, numbers(table["item_id"])[opens])
    truth = synthetic.interests(shop, user, time)
    given_truth = truth[np.arange(len(user)), about]
    # of a session's first items, 85 % are drawn from the truth: E[sum p²] of them
    expected = 0.85 * (truth**2).sum(axis=1).mean() + 0.15 * truth.mean(axis=1).mean()
    assert given_truth.mean() == pytest.approx(expected, rel=0.05)
    half_a_year = 182 * DAY
    apart = np.abs(truth - synthetic.interests(shop, user, time + half_a_year)).sum(axis=1).mean()
    close = np.abs(truth - synthetic.interests(shop, user, time + DAY)).sum(axis=1).mean()
    assert apart > 0.5 > 0.05 > close
    still = replace(shop, loyalty=1.0)
    np.testing.assert_array_equal(
        synthetic.interests(still, user, time), synthetic.interests(still, user, time + half_a_year)
    )


def test_a_file_holds_the_same_events(tmp_path: Path) -> None:
    shop = Shop(events=2_000, users=300, items=100)
    seen: list[int] = []
    synthetic.write(shop, tmp_path / "events.parquet", lambda done, _: seen.append(done))
    assert pq.read_table(tmp_path / "events.parquet").equals(whole(shop))
    assert seen[-1] == shop.events
    assert sum(map(len, synthetic.raw(shop))) == shop.events
    assert len(synthetic.items(shop)) == shop.items
    assert len(synthetic.users(shop)) == shop.users
    prices = np.array(synthetic.items(shop)["price"])
    assert (prices > 0).all()


@pytest.mark.parametrize("field", ["events", "users", "drift_days", "loyalty", "items"])
def test_a_shop_that_cannot_be_is_refused(field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        Shop(**{field: -1})
