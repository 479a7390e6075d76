"""Times in any usual unit or ISO form, to microseconds since 1970 UTC."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from limner.errors import ConfigError
from limner.events.batch import I64, Bool

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_DATE = -(2**63)
_LIMIT = 2**62
"""Times beyond ± 2**62 µs (146,000 years) are unreadable, so that sums of times stay in range."""

_ISO = re.compile(
    r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})"
    r"(?:[T ]+(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?)?"
    r"\s*(Z|z|UTC|GMT|[+-]\d{2}:?\d{2}|[+-]\d{2})?$"
)
_AMBIGUOUS = re.compile(r"\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}\b")


@dataclass(frozen=True, slots=True)
class Times:
    """Parsed times: `micros` (0 where there is none), and why there is none.

    `missing`: the source had no value. `unreadable`: it had one that is no time. `ambiguous`
    (a part of `unreadable`): a date such as 03/04/2024, which may be March or April.
    """

    micros: I64
    missing: Bool
    unreadable: Bool
    ambiguous: Bool


def to_micros(array: pa.Array, *, tz: str = "UTC", time_format: str | None = None) -> Times:
    """Read `array`: numbers, numeric text, ISO 8601 text, Arrow timestamps or dates.

    Numbers are seconds, milliseconds, microseconds or nanoseconds by their magnitude (below
    1e11, 1e14, 1e17, and above): right from 1973 on for each unit. Whole numbers that spell a
    date (20240131, 20240131235959) are dates. Text without a zone is in `tz`. With
    `time_format` (strptime's codes), text is read by it and by nothing else.
    Raises ConfigError for an unknown zone.

    >>> import pyarrow as pa
    >>> to_micros(pa.array(["2023-11-14 22:13:20", "1700000000", "1700000000000"])).micros.tolist()
    [1700000000000000, 1700000000000000, 1700000000000000]
    >>> to_micros(pa.array([1.5e18, float("nan"), 1e300])).unreadable.tolist()
    [False, False, True]
    >>> to_micros(pa.array(["03/04/2024"])).ambiguous.tolist()
    [True]
    """
    zone = _zone(tz)
    if pa.types.is_dictionary(array.type):
        inner = to_micros(array.dictionary, tz=tz, time_format=time_format)
        codes = pc.fill_null(array.indices, -1).to_numpy(zero_copy_only=False)
        return _spread(inner, codes)
    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        return _from_arrow(array, tz)
    if _is_text(array.type):
        return _from_text(array.cast(pa.string()), zone, tz, time_format)
    if pa.types.is_integer(array.type) or pa.types.is_floating(array.type):
        return _from_numbers(array)
    if pa.types.is_decimal(array.type):
        return _from_numbers(array.cast(pa.float64()))
    missing = _null(array)
    return Times(np.zeros(len(array), np.int64), missing, ~missing, np.zeros(len(array), bool))


def _zone(tz: str) -> ZoneInfo:
    try:
        return ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(
            f"{tz!r} is no time zone", mend="use a name such as Europe/Berlin, or UTC"
        ) from None


def _is_text(kind: pa.DataType) -> bool:
    view = getattr(pa.types, "is_string_view", None)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or (view and view(kind)))


def _null(array: pa.Array) -> Bool:
    mask: Bool = pc.is_null(array).to_numpy(zero_copy_only=False)
    return mask


def _plain(micros: I64, missing: Bool, unreadable: Bool) -> Times:
    micros = np.where(missing | unreadable, 0, micros)
    return Times(micros, missing, unreadable, np.zeros(len(micros), bool))


def _spread(inner: Times, codes: npt.NDArray[Any]) -> Times:
    """The times of a dictionary's values at its codes; −1 is missing."""
    return Times(
        np.append(inner.micros, 0)[codes],
        np.append(inner.missing, True)[codes],
        np.append(inner.unreadable, False)[codes],
        np.append(inner.ambiguous, False)[codes],
    )


def _from_arrow(array: pa.Array, tz: str) -> Times:
    missing = _null(array)
    try:
        if pa.types.is_date(array.type):
            array = array.cast(pa.timestamp("ms"))
        # Nanoseconds are cut to microseconds, so `safe` would refuse what is only more precise.
        coarse = array.type.unit in ("s", "ms")
        if array.type.tz is None and tz != "UTC":
            array = pc.assume_timezone(array, tz, ambiguous="earliest", nonexistent="latest")
        wanted = pa.timestamp("us", array.type.tz)
        micros = array.cast(wanted, safe=coarse).cast(pa.int64())
    except pa.ArrowInvalid:  # some values are beyond the range of int64 µs
        unit = 1_000_000 if array.type.unit == "s" else 1_000
        count: I64 = pc.fill_null(array.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
        beyond = np.abs(count.astype(np.float64)) * unit >= _LIMIT
        return _plain(np.where(beyond, 0, count) * unit, missing, beyond)
    values: I64 = pc.fill_null(micros, 0).to_numpy(zero_copy_only=False)
    return _plain(values, missing, np.zeros(len(values), bool))


def _from_numbers(array: pa.Array) -> Times:
    missing = _null(array)
    if pa.types.is_floating(array.type):
        real = pc.fill_null(array.cast(pa.float64()), 0.0).to_numpy(zero_copy_only=False)
        missing = missing | np.isnan(real)
        whole = np.abs(real) < 2.0**63
        unreadable = ~whole & ~missing
        real = np.where(whole & ~missing, real, 0.0)
        scale = _scale(np.abs(real))
        # Seconds and milliseconds keep their fraction; the rest is already fine enough.
        micros = np.where(scale >= 1, np.rint(real * scale), np.floor(real * scale))
        unreadable |= np.abs(micros) >= _LIMIT
        return _dated(np.where(unreadable, 0, micros).astype(np.int64), real, missing, unreadable)
    if pa.types.is_uint64(array.type):
        return _from_numbers(array.cast(pa.float64(), safe=False))
    whole_number: I64 = pc.fill_null(array.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    size = np.abs(whole_number.astype(np.float64))
    scale = _scale(size)
    micros = np.where(
        scale >= 1, whole_number * scale.astype(np.int64), np.floor_divide(whole_number, 1000)
    )
    return _dated(micros, whole_number, missing, np.zeros(len(micros), bool))


def _scale(size: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Microseconds in one unit of a number of this size."""
    return np.select([size < 1e11, size < 1e14, size < 1e17], [1e6, 1e3, 1.0], 1e-3)


def _dated(micros: I64, numbers: npt.NDArray[Any], missing: Bool, unreadable: Bool) -> Times:
    """Replace whole numbers that spell a date by that date.

    As seconds, 19000101 … 21001231 would be a day of 1970; as milliseconds, the fourteen digits
    of a date and time would be the years 2572 to 2635. Neither is a time anybody means.
    """
    day = (numbers >= 19_000_101) & (numbers <= 21_001_231)
    moment = (numbers >= 19_000_101_000_000) & (numbers <= 21_001_231_235_959)
    if not (day | moment).any():
        return _plain(micros, missing, unreadable)
    micros = micros.copy()
    for rows, form in ((day, "%Y%m%d"), (moment, "%Y%m%d%H%M%S")):
        texts, places = np.unique(numbers[rows].astype(np.int64), return_inverse=True)
        spelt = np.array([_spelt(str(text), form) for text in texts.tolist()], dtype=np.int64)
        found = spelt[places] if len(texts) else spelt
        micros[rows] = np.where(found == _NO_DATE, micros[rows], found)
    return _plain(micros, missing, unreadable)


def _spelt(digits: str, form: str) -> int:
    try:
        return _micros(datetime.strptime(digits, form).replace(tzinfo=UTC))
    except ValueError:
        return _NO_DATE


def _from_text(array: pa.Array, zone: ZoneInfo, tz: str, time_format: str | None) -> Times:
    if time_format is None:
        ways = (_fast_iso, _fast_integers)
        first = pc.drop_null(array.slice(0, 100))
        if len(first) and first[0].as_py().isdigit():
            ways = (_fast_integers, _fast_iso)
        for fast in ways:
            quick = fast(array, tz)
            if quick is not None:
                return quick
    # What is left is rare or mixed: read each distinct text once.
    encoded = array.dictionary_encode()
    values = encoded.dictionary.to_pylist()
    found = [_one(value, zone, time_format) for value in values]
    micros = np.array([0 if isinstance(x, str) else x for x in found], dtype=np.int64)
    inner = Times(
        micros,
        np.array([x == "missing" for x in found], dtype=bool),
        np.array([x in ("unreadable", "ambiguous") for x in found], dtype=bool),
        np.array([x == "ambiguous" for x in found], dtype=bool),
    )
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    return _spread(inner, codes)


def _fast_iso(array: pa.Array, tz: str) -> Times | None:
    try:
        return _from_arrow(array.cast(pa.timestamp("us")), tz)
    except pa.ArrowInvalid:
        pass
    try:
        return _from_arrow(array.cast(pa.timestamp("us", "UTC")), tz)
    except pa.ArrowInvalid:
        return None


def _fast_integers(array: pa.Array, tz: str) -> Times | None:
    try:
        return _from_numbers(array.cast(pa.int64()))
    except pa.ArrowInvalid:
        return None


def _one(text: str, zone: ZoneInfo, time_format: str | None) -> int | str:
    """One text as µs, or why it is none."""
    text = text.strip()
    if not text or text.lower() in ("nan", "nat", "null", "none", "na", "n/a"):
        return "missing"
    if time_format is not None:
        try:
            when = datetime.strptime(text, time_format)
        except ValueError:
            return "unreadable"
        return _micros(when if when.tzinfo else when.replace(tzinfo=zone))
    match = _ISO.match(text)
    if match:
        return _iso(match, zone)
    try:
        times = _from_numbers(pa.array([int(text)], pa.int64()))
    except (ValueError, OverflowError, pa.ArrowInvalid):
        try:
            times = _from_numbers(pa.array([float(text)]))
        except ValueError:
            return "ambiguous" if _AMBIGUOUS.match(text) else "unreadable"
    return "unreadable" if times.unreadable[0] else int(times.micros[0])


def _iso(match: re.Match[str], zone: ZoneInfo) -> int | str:
    year, month, day, hour, minute, second, fraction, offset = match.groups()
    try:
        when = datetime(
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0),
            int((fraction or "0").ljust(6, "0")[:6]), tzinfo=zone,
        )  # fmt: skip
    except ValueError:
        return "unreadable"
    if offset is None:
        return _micros(when)
    if offset[0] in "+-":
        digits = offset[1:].replace(":", "").ljust(4, "0")
        shift = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
        when = when.replace(tzinfo=UTC)
        return _micros(when - shift if offset[0] == "+" else when + shift)
    return _micros(when.replace(tzinfo=UTC))


def _micros(when: datetime) -> int:
    return (when - _EPOCH) // timedelta(microseconds=1)
