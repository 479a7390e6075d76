"""Cleaning: what is refused, what is flagged, and the types that columns have from here on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from limner.events.batch import DAY, F64, I32, I64, PROPERTY, SCHEMA, Bool, EventBatch
from limner.events.raw import ALIAS, USER, RawBatch, Refused
from limner.events.scales import MEASURES, Scales
from limner.events.timestamps import Times, to_micros
from limner.events.vocabulary import DEFAULT_UNIT, NEEDS_ITEM, RESERVED, TYPES, canonical_all

_TEXT = SCHEMA.field("item_id").type

OUTLIER_VALUE = 1
OUTLIER_QUANTITY = 2
"""Bits of `flags`. A new version of a rule takes a new bit, so a flag names rule and version."""

Kinds = Callable[[list[str]], I32]
"""Item ids → codes of their groups (say, of their category), −1 for unknown."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One cleaning rule: its version, what it says of a row, and how to mend the row.

    A rule without `reason` keeps the row: it counts it, or flags it.
    """

    version: int
    reason: str = ""
    mend: str = ""


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "missing_type": Rule(
            1,
            "no event type",
            "name its column: --map event_type=COLUMN",
        ),
        "missing_user": Rule(1, "no user", "name the column of the user: --map user_id=COLUMN"),
        "missing_alias": Rule(
            1,
            "an alias needs the id that was used before",
            "send it as previousId, or target_user_id",
        ),
        "missing_item": Rule(
            1, "this event type needs an item", "name its column: --map item_id=COLUMN"
        ),
        "missing_time": Rule(1, "no time", "name its column: --map timestamp=COLUMN"),
        "bad_time": Rule(
            1, "the time cannot be read", "say how it is written: --time-format '%d/%m/%Y %H:%M'"
        ),
        "impossible_time": Rule(
            1,
            "the time is before 1990 or more than a day from now",
            "check the column's unit and zone, or allow it in [clean] of limner.toml",
        ),
        "bad_number": Rule(
            1,
            "value or quantity is no number",
            "write digits with a point and no sign of currency or thousands",
        ),
        "negative_quantity": Rule(
            1, "the quantity is below zero", "send what comes back as event type refund"
        ),
        "no_quantity_no_value": Rule(
            1, "a purchase of nothing: quantity and value are zero", "send what was bought, if any"
        ),
        "duplicate_line": Rule(
            1,
            "a line like this came just before",
            "nothing, if it was sent twice; else give each an event_id",
        ),
        "unknown_type": Rule(1),
        "outlier_value": Rule(1),
        "outlier_quantity": Rule(1),
    }
)
"""The rules in the order in which they are asked; a row is refused by the first that objects.

`no_quantity_no_value` asks for both to be zero, on purpose. In 1,469,307 real grocery lines
11,226 have value 0: of these 2,143 have a quantity and a discount (a free item, paid by a coupon)
and 263 a quantity alone, and they are purchases and stay. 8,820 have quantity 0 too: 5,834 voided
lines, and 2,986 lines of the coupons themselves, nearly all on a product number of no product.
Nothing was bought there, whatever the discount says, so they are refused. The 49 lines with
quantity 0 and a value stay: something was paid for.

A negative quantity is refused, save in `refund` and `remove_from_cart`, where the sign repeats
what the type says and is dropped. `duplicate_line` looks within one batch, at rows without an
event id (a repeated id is the log's to ignore), and not at the types of `keep_identical`: real
shops sell two of the same.
"""


@dataclass(frozen=True, slots=True)
class CleanConfig:
    """How to clean.

    `aliases`: own event type names → canonical ones. `tz`: zone of times that name none.
    `time_format`: strptime codes, if times are in no ISO form. `earliest`: µs since 1970, and
    `ahead`: µs after now, bound what is a possible time. `keep_identical`: types in which
    identical lines are separate events. `outlier_cut`: robust standard deviations from the
    median; `outlier_least`: observations before any flag.
    """

    aliases: Mapping[str, str] = field(default_factory=dict)
    tz: str = "UTC"
    time_format: str | None = None
    earliest: int = 7_305 * DAY  # 1990-01-01
    ahead: int = DAY
    keep_identical: tuple[str, ...] = ("purchase", "refund")
    outlier_cut: float = 3.5
    outlier_least: int = 50


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What came of a batch: the rows kept, the rows refused, and how often each rule spoke.

    `len(batch) + len(refused)` is the number of rows read; `lines` are those of the rows kept;
    `found` counts refusals and flags by rule name.
    """

    batch: EventBatch
    lines: I64
    refused: list[Refused]
    found: Counter[str]


def clean(
    raw: RawBatch,
    *,
    now: int,
    config: CleanConfig,
    scales: Scales,
    kinds: Kinds | None = None,
    count: bool = True,
) -> Cleaned:
    """Judge each row of an admitted batch by `RULES`; give the kept ones the types of `SCHEMA`.

    `now` (µs) is the time of receipt. Amounts are judged against `scales`, which then counts
    them: so a batch is judged by what came before it. A writer that must count an event once
    however often it is sent (law 2), and after a crash (law 3), passes `count=False` and gives
    the rows that the log took to `count_amounts`. Item and user versions (the reserved types)
    may lack a time; theirs is then 0, "from the beginning".
    Raises ConfigError for an unknown `config.tz`.
    """
    rows = _Rows(raw)
    found: Counter[str] = Counter()

    types, names = _types(rows, config)
    reserved = _is(types, names, RESERVED)
    users = rows.binary("user_id")
    items = rows.text("item_id")
    times = rows.times(config)
    value, bad_value = rows.number("value")
    quantity, bad_quantity = rows.number("quantity")
    gives_back = _is(types, names, {"refund", "remove_from_cart"})
    quantity = np.where(gives_back, np.abs(quantity), quantity)

    possible = (times.micros >= np.where(reserved, 0, config.earliest)) & (
        times.micros <= now + config.ahead
    )
    timed = ~(times.missing | times.unreadable)
    nothing = (quantity == 0) & (np.isnan(value) | (value == 0))
    objections = {
        "missing_type": types < 0,
        "missing_user": _missing(users) & (~reserved | _is(types, names, {USER, ALIAS})),
        "missing_alias": _missing(rows.binary("target_user_id")) & _is(types, names, {ALIAS}),
        "missing_item": _missing(items) & _is(types, names, NEEDS_ITEM),
        "missing_time": times.missing & ~reserved,
        "bad_time": times.unreadable,
        "impossible_time": timed & ~possible,
        "bad_number": bad_value | bad_quantity,
        "negative_quantity": quantity < 0,
        "no_quantity_no_value": nothing & _is(types, names, {"purchase"}),
        "duplicate_line": rows.repeated() & ~_is(types, names, set(config.keep_identical)),
    }
    order = list(objections)
    verdict = np.full(len(rows), -1, dtype=np.int8)
    for code, mask in enumerate(objections.values()):
        if mask.any():
            verdict[(verdict < 0) & mask] = code
    kept = verdict < 0

    known = TYPES | RESERVED
    unknown = [code for code, name in enumerate(names) if name not in known]
    if unknown:
        found["unknown_type"] = int((np.isin(types, unknown) & kept).sum())
    flags = _flag(types, names, items, {"value": value, "quantity": quantity}, kept & ~reserved,
                  config, scales, kinds, found, count)  # fmt: skip

    columns: dict[str, pa.Array] = {
        "user_id": users,
        "item_id": items,
        "event_type": _dictionary(types, names),
        "timestamp": pa.array(times.micros),
        "received_at": rows.received(now),
        "digest": rows.digest(),
        "check": rows.check(),
        "event_id": rows.plain_text("event_id"),
        "source": rows.constant(raw.source),
        "value": _nullable(value),
        "unit": rows.unit(types, names, value),
        "quantity": _nullable(quantity),
        "group_id": rows.text("group_id"),
        "recommendation_id": rows.text("recommendation_id"),
        "target_user_id": rows.binary("target_user_id"),
        "tz": rows.text("tz"),
        "flags": pa.array(flags),
        "import_id": pa.array(np.zeros(len(rows), dtype=np.int32)),
    }
    for name in raw.table.column_names:
        if name.startswith(PROPERTY):
            columns[name] = _settled(rows.column(name))
    table = pa.table(columns)
    refused: list[Refused] = []
    lines: I64 = rows.column("line").to_numpy(zero_copy_only=False)
    if not kept.all():
        lines = lines[kept]
        refused = _refuse(raw, verdict, order, times.ambiguous)
        found.update(refusal.rule for refusal in refused)
        table = table.filter(pa.array(kept))
        for name in ("user_id", "target_user_id"):  # no trace of a user whose row was refused
            place = table.column_names.index(name)
            table = table.set_column(place, name, _compact(table.column(name)))
    return Cleaned(EventBatch(table), lines, refused, +found)


class _Rows:
    """The columns of a raw batch, each read as one of the types that `SCHEMA` wants."""

    def __init__(self, raw: RawBatch) -> None:
        self.table = raw.table
        self.names = set(raw.table.column_names)
        self.n = int(raw.table.num_rows)

    def __len__(self) -> int:
        return self.n

    def column(self, name: str) -> pa.Array:
        column = self.table.column(name)
        if column.num_chunks == 1:
            return column.chunk(0)
        if column.num_chunks == 0:
            return pa.array([], column.type)
        return column.combine_chunks()

    def _has(self, name: str) -> bool:
        return name in self.names and not pa.types.is_null(self.table.schema.field(name).type)

    def nulls(self, name: str) -> pa.Array:
        return pa.nulls(self.n, SCHEMA.field(name).type)

    def text(self, name: str) -> pa.Array:
        """A dictionary column; blank text is null."""
        if not self._has(name):
            return self.nulls(name)
        return _encoded(self.column(name))

    def plain_text(self, name: str) -> pa.Array:
        if not self._has(name):
            return self.nulls(name)
        array = self.column(name)
        if pa.types.is_dictionary(array.type):
            array = array.cast(array.type.value_type)
        return _cast(array, pa.string())

    def binary(self, name: str) -> pa.Array:
        """A column of pseudonyms, 16 bytes each."""
        if not self._has(name):
            return self.nulls(name)
        array = self.column(name)
        wanted = SCHEMA.field(name).type
        if array.type == wanted:
            return array
        if not pa.types.is_dictionary(array.type):
            array = array.dictionary_encode()
        return pa.DictionaryArray.from_arrays(
            array.indices.cast(pa.int32()), array.dictionary.cast(wanted.value_type)
        )

    def times(self, config: CleanConfig) -> Times:
        if not self._has("timestamp"):
            none = np.zeros(self.n, dtype=bool)
            return Times(np.zeros(self.n, dtype=np.int64), ~none, none, none)
        array = self.column("timestamp")
        return to_micros(array, tz=config.tz, time_format=config.time_format)

    def number(self, name: str) -> tuple[F64, Bool]:
        """(numbers, NaN where missing; where there is something that is no finite number)."""
        if not self._has(name):
            return np.full(self.n, np.nan), np.zeros(self.n, dtype=bool)
        return _read_numbers(self.column(name))

    def received(self, now: int) -> pa.Array:
        if not self._has("received_at"):
            return pa.array(np.full(self.n, now, dtype=np.int64))
        return pc.fill_null(self.column("received_at").cast(pa.int64()), now)

    def digest(self) -> pa.Array:
        if not self._has("digest"):
            return self.nulls("digest")
        return _cast(self.column("digest"), pa.binary(16))

    def check(self) -> pa.Array:
        if not self._has("check"):
            return self.nulls("check")
        return _cast(self.column("check"), pa.uint64())

    def constant(self, text: str) -> pa.Array:
        indices = pa.array(np.zeros(self.n, dtype=np.int32))
        return pa.DictionaryArray.from_arrays(indices, pa.array([text], pa.string()))

    def unit(self, types: I32, names: list[str], value: F64) -> pa.Array:
        """The unit given, or else the type's usual one; none where there is no value."""
        units = sorted(set(DEFAULT_UNIT.values()))
        usual = [units.index(DEFAULT_UNIT[x]) if x in DEFAULT_UNIT else -1 for x in names]
        codes = np.array([*usual, -1], dtype=np.int32)[types]
        codes[np.isnan(value)] = -1
        array = _dictionary(codes, units)
        if not self._has("unit"):
            return array
        own = self.text("unit")
        return pc.coalesce(own.cast(pa.string()), array.cast(pa.string())).dictionary_encode()

    def repeated(self) -> Bool:
        """Rows without an event id whose content an earlier row of the batch has."""
        out = np.zeros(self.n, dtype=bool)
        name = "check" if self._has("check") else "content"
        if not self._has(name) or self.n < 2:
            return out
        content = self.column(name)
        codes = content.to_numpy(zero_copy_only=False)
        if name == "content":
            codes = content.dictionary_encode().indices.to_numpy(zero_copy_only=False)
        first = np.unique(codes, return_index=True)[1]
        if len(first) < self.n:
            out[:] = True
            out[first] = False
            if self._has("event_id"):
                out &= pc.is_null(self.column("event_id")).to_numpy(zero_copy_only=False)
        return out


def _types(rows: _Rows, config: CleanConfig) -> tuple[I32, list[str]]:
    """(codes, canonical type names), −1 where there is no type."""
    array = rows.text("event_type")
    wanted = canonical_all(array.dictionary.to_pylist(), config.aliases)
    names = [name for name in dict.fromkeys(wanted) if name]
    place = {name: code for code, name in enumerate(names)}
    translate = np.array([*(place.get(name, -1) for name in wanted), -1], dtype=np.int32)
    codes = pc.fill_null(array.indices, -1).to_numpy(zero_copy_only=False)
    return translate[codes], names


def _is(types: I32, names: list[str], wanted: set[str] | frozenset[str]) -> Bool:
    """Rows whose type is one of these."""
    mask: Bool = np.array([*(name in wanted for name in names), False], dtype=bool)[types]
    return mask


def _missing(array: pa.Array) -> Bool:
    if array.null_count == 0:
        return np.zeros(len(array), dtype=bool)
    mask: Bool = pc.is_null(array).to_numpy(zero_copy_only=False)
    return mask


def _dictionary(codes: I32, values: list[str]) -> pa.Array:
    indices = pa.array(codes, mask=codes < 0)
    return pa.DictionaryArray.from_arrays(indices, pa.array(values, pa.string()))


def _nullable(numbers: F64) -> pa.Array:
    return pa.array(numbers, mask=np.isnan(numbers))


def _cast(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    """`array.cast`, but free where there is nothing to do: live events come one by one."""
    return array if array.type == wanted else array.cast(wanted)


def _encoded(array: pa.Array) -> pa.Array:
    """As dictionary<int32, string>; blank text is null."""
    if not pa.types.is_dictionary(array.type):
        array = _cast(array, pa.string()).dictionary_encode()
    values = _cast(array.dictionary, pa.string())
    blank = pc.index(values, "").as_py()
    if blank < 0 and array.type == _TEXT:
        return array
    indices = _cast(array.indices, pa.int32())
    if blank >= 0:
        codes = pc.fill_null(indices, -1).to_numpy(zero_copy_only=False)
        indices = pa.array(codes, mask=(codes < 0) | (codes == blank))
    return pa.DictionaryArray.from_arrays(indices, values)


def _compact(column: pa.ChunkedArray) -> pa.Array:
    """A dictionary column without the values that no row uses."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], column.type)
    codes = pc.fill_null(array.indices, -1).to_numpy(zero_copy_only=False)
    used = np.zeros(len(array.dictionary) + 1, dtype=bool)
    used[codes] = True
    used[-1] = False
    translate = np.append(np.cumsum(used[:-1]) - 1, -1).astype(np.int32)
    codes = translate[codes]
    indices = pa.array(codes, mask=codes < 0)
    return pa.DictionaryArray.from_arrays(indices, array.dictionary.filter(pa.array(used[:-1])))


_NO_NUMBER = frozenset({"", "nan", "null", "none", "na", "n/a", "-"})


def _read_numbers(array: pa.Array) -> tuple[F64, Bool]:
    kind = array.type
    if pa.types.is_dictionary(kind):
        inner, bad = _read_numbers(array.dictionary)
        codes = pc.fill_null(array.indices, -1).to_numpy(zero_copy_only=False)
        return np.append(inner, np.nan)[codes], np.append(bad, False)[codes]
    if pa.types.is_string(kind):
        try:
            array = array.cast(pa.float64())
        except pa.ArrowInvalid:  # some are no numbers: read each distinct text once
            encoded = array.dictionary_encode()
            texts = [text.strip() for text in encoded.dictionary.to_pylist()]
            read = np.array([_number(text) for text in texts], dtype=np.float64)
            blank = np.array([text.lower() in _NO_NUMBER for text in texts], dtype=bool)
            bad = ~np.isfinite(read) & ~blank
            codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
            read[bad] = np.nan
            return np.append(read, np.nan)[codes], np.append(bad, False)[codes]
    elif not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        if not (pa.types.is_decimal(kind) or pa.types.is_boolean(kind)):
            return np.full(len(array), np.nan), ~_missing(array)
        array = array.cast(pa.int8()) if pa.types.is_boolean(kind) else array
    if not pa.types.is_float64(array.type):
        array = array.cast(pa.float64(), safe=False)
    # Arrow gives NaN for the nulls of a float column.
    numbers: F64 = array.to_numpy(zero_copy_only=False)
    bad = np.isinf(numbers)
    return (np.where(bad, np.nan, numbers) if bad.any() else numbers), bad


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def _settled(array: pa.Array) -> pa.Array:
    """A property in one of the types the log keeps.

    float64, int64, bool, dictionary text or list of text; times and dates become ISO text, an
    integer beyond int64 becomes text, and whatever else there is becomes its text.
    """
    kind = array.type
    if pa.types.is_floating(kind):
        return _cast(array, pa.float64())
    if pa.types.is_uint64(kind) and pc.any(pc.greater(array, 2**63 - 1)).as_py():
        return array.cast(pa.string()).dictionary_encode()
    if pa.types.is_integer(kind):
        return array.cast(pa.int64())
    if pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return array
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return array.cast(pa.list_(pa.string()))
    if pa.types.is_decimal(kind):
        return array.cast(pa.float64())
    return _encoded(array)


def count_amounts(scales: Scales, batch: EventBatch, kinds: Kinds | None = None) -> None:
    """Let `scales` count the amounts of a clean batch, as `clean` would have.

    Also what rebuilds scales from the log: in any order, and any grouping into batches.
    """
    types, names = batch.codes("event_type")
    rows = np.flatnonzero((types >= 0) & ~_is(types, names, RESERVED))
    if len(rows):
        groups = _groups(batch.array("item_id"), kinds)
        places, inverse = scales.places(names, types[rows], groups[rows])
        for measure in MEASURES:
            scales.observe(measure, places, inverse, batch.numbers(measure)[rows])


def _groups(items: pa.Array, kinds: Kinds | None) -> I64:
    """The group of each row's item, −1 for none or unknown."""
    if kinds is None or not len(items.dictionary):
        return np.full(len(items), -1, dtype=np.int64)
    codes = pc.fill_null(items.indices, -1).to_numpy(zero_copy_only=False)
    groups: I64 = np.append(kinds(items.dictionary.to_pylist()), -1).astype(np.int64)[codes]
    return groups


def _flag(
    types: I32,
    names: list[str],
    items: pa.Array,
    amounts: dict[str, F64],
    judged: Bool,
    config: CleanConfig,
    scales: Scales,
    kinds: Kinds | None,
    found: Counter[str],
    count: bool,
) -> npt.NDArray[np.uint32]:
    """Flag outliers among the `judged` rows, then let `scales` count these rows."""
    flags = np.zeros(len(types), dtype=np.uint32)
    index = np.flatnonzero(judged)
    if not len(index):
        return flags
    rows, inverse = scales.places(names, types[index], _groups(items, kinds)[index])
    for measure, bit in zip(MEASURES, (OUTLIER_VALUE, OUTLIER_QUANTITY), strict=True):
        amount = amounts[measure][index]
        out = scales.outliers(
            measure, rows, inverse, amount, cut=config.outlier_cut, least=config.outlier_least
        )
        if out.any():
            flags[index[out]] |= np.uint32(bit)
            found[f"outlier_{measure}"] = int(out.sum())
        if count:
            scales.observe(measure, rows, inverse, amount)
    return flags


def _refuse(
    raw: RawBatch, verdict: npt.NDArray[np.int8], order: list[str], ambiguous: Bool
) -> list[Refused]:
    """The refused rows with reason and mend; values as JSON can hold them."""
    index = np.flatnonzero(verdict >= 0)
    table = raw.table.take(pa.array(index))
    lines = table.column("line").to_pylist()
    names = [n for n in table.column_names if n not in ("line", "content")]
    columns = [_shown(table.column(name)) for name in names]
    out = []
    for place, row in enumerate(index.tolist()):
        rule = order[verdict[row]]
        kept = {
            name: values[place]
            for name, values in zip(names, columns, strict=True)
            if values[place] is not None
        }
        kept.setdefault("source", raw.source)  # a part of what tells it from others
        reason = RULES[rule].reason
        if rule == "bad_time":
            reason = f"the time {kept.get('timestamp')!r} cannot be read"
            if ambiguous[row]:
                reason += ", since it may be day/month or month/day"
        reason = f"{reason}; to mend it: {RULES[rule].mend}"
        out.append(Refused(raw.where, int(lines[place]), rule, reason, kept))
    return out


def _shown(column: pa.ChunkedArray) -> list[Any]:
    """A column's values as JSON can hold them: bytes in hexadecimal, times as text."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_temporal(kind) or pa.types.is_decimal(kind):
        column = column.cast(pa.string())
    values: list[Any] = column.to_pylist()
    if pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return [None if value is None else value.hex() for value in values]
    return values
