import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.events.scales import BINS, MEASURES, Scales, robust


def observed(amounts: list[float], group: int = 0, kind: str = "purchase") -> Scales:
    scales = Scales()
    n = len(amounts)
    rows, inverse = scales.places([kind], np.zeros(n, np.int32), np.full(n, group))
    scales.observe("quantity", rows, inverse, np.array(amounts))
    return scales


def flagged(scales: Scales, amounts: list[float], group: int = 0, least: int = 50) -> list[bool]:
    n = len(amounts)
    rows, inverse = scales.places(["purchase"], np.zeros(n, np.int32), np.full(n, group))
    out = scales.outliers("quantity", rows, inverse, np.array(amounts), cut=3.5, least=least)
    result: list[bool] = out.tolist()
    return result


def test_far_from_the_median_is_flagged_on_both_sides() -> None:
    scales = observed([1.0] * 60 + [2.0] * 40)
    assert flagged(scales, [1, 2, 5, 100, 0.01, 0, np.nan]) == [
        False, False, False, True, True, False, False,
    ]  # fmt: skip


def test_fuel_by_the_thousandth_of_a_gallon_is_no_outlier_in_its_own_group() -> None:
    scales = observed([1.0] * 99, group=0) + observed([8_000.0, 12_000.0, 17_000.0] * 33, group=7)
    assert flagged(scales, [12_000.0], group=0) == [True]
    assert flagged(scales, [12_000.0], group=7) == [False]


def test_nothing_is_flagged_before_enough_was_seen() -> None:
    assert flagged(observed([1.0] * 49), [1e6]) == [False]
    assert flagged(observed([1.0] * 50), [1e6]) == [True]
    assert flagged(Scales(), [1e6]) == [False]


def test_a_wide_spread_allows_more() -> None:
    rng = np.random.default_rng(3)
    wide = observed((10 ** rng.normal(0, 1, 500)).tolist())
    assert flagged(wide, [300.0, 1e6]) == [False, True]


amounts = st.lists(st.floats(1e-9, 1e14), max_size=30)
parts = st.lists(st.tuples(amounts, st.integers(-1, 3), st.sampled_from(["view", "purchase"])))


@given(parts, st.randoms())
def test_adding_is_a_commutative_monoid(data: list, random) -> None:  # type: ignore[no-untyped-def,type-arg]
    pieces = [observed(*piece) for piece in data]
    total = sum(pieces, Scales())
    random.shuffle(pieces)
    assert sum(pieces, Scales()) == total
    assert total + Scales() == Scales() + total == total


@given(parts)
def test_arrays_come_back(data: list) -> None:  # type: ignore[type-arg]
    scales = sum((observed(*piece) for piece in data), Scales())
    again = Scales.from_arrays(scales.arrays())
    assert again == scales
    assert (again + scales) == (scales + scales)


def test_other_bins_are_refused() -> None:
    arrays = observed([1.0]).arrays()
    arrays["counts"] = arrays["counts"][:, :, :-1]
    with pytest.raises(ValueError, match="other bins"):
        Scales.from_arrays(arrays)
    assert MEASURES == ("value", "quantity")


@given(
    st.lists(
        st.dictionaries(st.integers(0, BINS - 1), st.integers(0, 60), max_size=6),
        min_size=2,
        max_size=4,
    )
)
def test_one_histogram_says_what_it_says_among_others(given: list[dict[int, int]]) -> None:
    counts = np.zeros((len(given), BINS), dtype=np.int64)
    for row, bins in enumerate(given):
        for place, n in bins.items():
            counts[row, place] = n
    middles, limits = robust(counts, cut=3.5, least=20)
    for row, (middle, limit) in enumerate(zip(middles.tolist(), limits.tolist(), strict=True)):
        one, own = robust(counts[row : row + 1], cut=3.5, least=20)
        assert own.tolist() == [limit]
        assert np.isinf(limit) or one.tolist() == [middle]
