from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.errors import ConfigError
from limner.events.timestamps import to_micros

MOMENT = datetime(2024, 1, 31, 10, 20, 30, 123456, tzinfo=UTC)
MICROS = 1_706_696_430_123_456
SECOND = MICROS // 1_000_000 * 1_000_000
DAY = 1_706_659_200_000_000


@pytest.mark.parametrize(
    ("value", "micros"),
    [
        (1_706_696_430, SECOND),
        (1_706_696_430_123, MICROS // 1000 * 1000),
        (MICROS, MICROS),
        (MICROS * 1000 + 789, MICROS),
        ("1706696430", SECOND),
        ("1706696430.5", SECOND + 500_000),
        ("1.70669643e9", SECOND),
        (" 1706696430 ", SECOND),
        (20240131, DAY),
        ("20240131102030", SECOND),
        ("2024-01-31", DAY),
        ("2024/01/31", DAY),
        ("2024-1-31 10:20:30", SECOND),
        ("2024-01-31T10:20:30.123456", MICROS),
        ("2024-01-31T10:20:30.123456789Z", MICROS),
        ("2024-01-31 10:20:30 UTC", SECOND),
        ("2024-01-31T12:20:30+02:00", SECOND),
        ("2024-01-31T05:20:30-0500", SECOND),
        ("2024-01-31 10:20", SECOND - 30_000_000),
    ],
)
def test_usual_forms(value: Any, micros: int) -> None:
    times = to_micros(pa.array([value, None]))
    assert times.micros.tolist() == [micros, 0]
    assert times.missing.tolist() == [False, True]
    assert not times.unreadable.any()


def test_one_column_may_mix_forms() -> None:
    texts = [
        "2024-01-31",
        "1706659200",
        "2024-01-31T01:00:00+01:00",
        "20240131",
        "2024/01/31 00:00",
    ]
    assert to_micros(pa.array(texts)).micros.tolist() == [DAY] * 5


@pytest.mark.parametrize("text", ["03/04/2024", "3.4.2024 10:00", "03-04-24"])
def test_ambiguous_dates_are_unreadable_and_said_to_be_ambiguous(text: str) -> None:
    times = to_micros(pa.array([text]))
    assert times.unreadable.tolist() == times.ambiguous.tolist() == [True]
    given = to_micros(pa.array(["03/04/2024"]), time_format="%d/%m/%Y")
    assert given.micros.tolist() == [1_712_102_400_000_000]


@pytest.mark.parametrize(
    "values",
    [
        [float("inf"), float("-inf"), 1e300],
        ["soon", "2024-13-01", "2024-02-30", "99999999999999999999999"],
        [True],
        [[1]],
    ],
)
def test_what_is_no_time_is_unreadable(values: list[Any]) -> None:
    times = to_micros(pa.array(values))
    assert times.unreadable.all() and not times.missing.any()
    assert not times.ambiguous.any()


@pytest.mark.parametrize("values", [[float("nan")], ["NaT"], [""], [None], ["null"]])
def test_what_says_nothing_is_missing(values: list[Any]) -> None:
    times = to_micros(pa.array(values))
    assert times.missing.all() and not times.unreadable.any()


def test_zone_is_for_times_that_name_none() -> None:
    texts = pa.array(["2024-01-31 11:20:30", "2024-01-31T10:20:30Z"])
    assert to_micros(texts, tz="Europe/Berlin").micros.tolist() == [SECOND, SECOND]
    naive = pa.array([MOMENT.replace(tzinfo=None)], pa.timestamp("us"))
    aware = pa.array([MOMENT], pa.timestamp("us", "America/New_York"))
    assert to_micros(naive, tz="Europe/Berlin").micros.tolist() == [MICROS - 3_600_000_000]
    assert to_micros(aware, tz="Europe/Berlin").micros.tolist() == [MICROS]
    with pytest.raises(ConfigError, match="Mars/Olympus"):
        to_micros(naive, tz="Mars/Olympus")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_arrow_times(unit: str) -> None:
    moment = MOMENT.replace(microsecond=0, tzinfo=None)
    assert to_micros(pa.array([moment], pa.timestamp(unit))).micros.tolist() == [SECOND]
    encoded = pa.array([moment, None, moment], pa.timestamp(unit)).dictionary_encode()
    assert to_micros(encoded).micros.tolist() == [SECOND, 0, SECOND]


def test_arrow_dates_and_far_times() -> None:
    assert to_micros(pa.array([date(2024, 1, 31)], pa.date32())).micros.tolist() == [DAY]
    far = to_micros(pa.array([2**62, 1_706_659_200, None], pa.timestamp("s")))
    assert far.unreadable.tolist() == [True, False, False]
    assert far.micros.tolist() == [0, DAY, 0]


@given(st.datetimes(datetime(1700, 1, 1), datetime(2900, 1, 1)))
def test_iso_text_comes_back(moment: datetime) -> None:
    since = moment - datetime(1970, 1, 1)  # in integers: total_seconds() is a rounded float
    wanted = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    for text in (moment.isoformat(), moment.isoformat(" ") + "Z"):
        assert to_micros(pa.array([text])).micros.tolist() == [wanted]


@given(st.lists(st.one_of(st.none(), st.floats(), st.integers(-(2**63), 2**63 - 1))))
def test_any_number_is_read_or_has_its_reason(values: list[Any]) -> None:
    for array in (
        pa.array([None if v is None else float(v) for v in values], pa.float64()),
        pa.array([None if v is None else repr(v) for v in values], pa.string()),
    ):
        times = to_micros(array)
        assert len(times.micros) == len(values)
        assert not (times.missing & times.unreadable).any()
        assert not times.micros[times.missing | times.unreadable].any()
