"""Cleaning: what is refused, what is flagged, and the types that columns have from here on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from limner.events.batch import DAY, F64, I32, I64, PROPERTY, Bool, EventBatch
from limner.events.missing import FIELDS, Policy
from limner.events.norms import (
    Kinds,
    Norms,
    Prices,
    codes_of,
    groups_of,
    item_keys,
    of_types,
    user_keys,
)
from limner.events.raw import ALIAS, TOPIC, USER, RawBatch, Refused
from limner.events.robots import numbered
from limner.events.rules import BITS, RULES, CleanConfig
from limner.events.scales import MEASURES, distinct
from limner.events.timestamps import Times
from limner.events.typed import REPEATED, Typed, compact, dictionary, missing, nullable, settled
from limner.events.vocabulary import (
    BY_HAND,
    DEFAULT_UNIT,
    NEEDS_ITEM,
    RESERVED,
    TYPES,
    UNITS,
    canonical_all,
)

MOST = 1e15
"""Amounts beyond this are ids or overflows, and their sums would be too large to be exact."""

_MONEY = frozenset(name for name, unit in DEFAULT_UNIT.items() if unit == "money")


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
    norms: Norms,
    kinds: Kinds | None = None,
    prices: Prices | None = None,
) -> Cleaned:
    """Judge each row of an admitted batch by `RULES`; give the kept ones the types of `SCHEMA`.

    `now` (µs) is the time of receipt. Events are judged against `norms`, which this leaves as
    they are: what the log takes is for `Norms.observe`, so that an event counts once however
    often it is sent (law 2), and after a crash (law 3). Item and user versions (the reserved
    types) may lack a time; theirs is then 0, "from the beginning". Raises ConfigError for an
    unknown `config.tz`.
    """
    rows = Typed(raw)
    part = _Part(rows, config, now)
    _convert(part)
    for policy in config.policies():
        _fill(part, policy, prices)
    types, names = part.types, part.names
    reserved = of_types(types, names, RESERVED)
    times, value, quantity = part.times, part.value, part.quantity
    gives_back = of_types(types, names, {"refund", "remove_from_cart"})
    quantity = part.quantity = np.where(gives_back, np.abs(quantity), quantity)

    possible = (times.micros >= np.where(reserved, 0, config.earliest)) & (
        times.micros <= now + config.ahead
    )
    timed = ~(times.missing | times.unreadable)
    nothing = (quantity == 0) & (np.isnan(value) | (value == 0))
    objections = {
        "missing_type": types < 0,
        "missing_user": missing(part.users)
        & (~reserved | of_types(types, names, {USER, ALIAS, TOPIC})),
        "missing_alias": missing(rows.binary("target_user_id")) & of_types(types, names, {ALIAS}),
        "missing_item": missing(part.texts["item_id"]) & of_types(types, names, NEEDS_ITEM),
        "missing_time": times.missing & ~reserved,
        "missing_field": part.lacking >= 0,
        "bad_time": times.unreadable,
        "impossible_time": timed & ~possible,
        "bad_number": part.bad,
        "impossible_amount": (np.abs(value) > MOST) | (np.abs(quantity) > MOST) | rows.boundless(),
        "negative_quantity": quantity < 0,
        "no_quantity_no_value": nothing & of_types(types, names, {"purchase"}),
        "duplicate_line": rows.repeated(~of_types(types, names, set(config.keep_identical))),
    }
    order = list(objections)
    verdict = np.full(len(rows), -1, dtype=np.int8)
    for code, (rule, mask) in enumerate(objections.items()):
        if config.asks(rule) and mask.any():
            verdict[(verdict < 0) & mask] = code
    kept = verdict < 0

    known = TYPES | RESERVED
    unknown = {name for name in names if name not in known}
    if unknown:
        part.flag("unknown_type", of_types(types, names, unknown))
    scores = _judge(part, kept & ~reserved, norms, kinds)

    columns: dict[str, pa.Array] = {
        "user_id": part.users,
        "item_id": part.texts["item_id"],
        "event_type": dictionary(types, names),
        "timestamp": pa.array(times.micros),
        "received_at": rows.received(now),
        "digest": rows.digest(),
        "check": rows.check(),
        "event_id": rows.plain_text("event_id"),
        "source": rows.sources(raw.source),
        "value": nullable(value),
        "unit": part.unit_column(),
        "quantity": nullable(quantity),
        "group_id": part.texts["group_id"],
        "recommendation_id": rows.text("recommendation_id"),
        "target_user_id": rows.binary("target_user_id"),
        "tz": part.texts["tz"],
        "flags": pa.array(part.flags),
        "import_id": pa.array(np.zeros(len(rows), dtype=np.int32)),
    }
    for name in raw.table.column_names:
        if name.startswith(PROPERTY):
            columns[name] = settled(rows.column(name))
    for measure, score in scores.items():
        columns[f"{PROPERTY}{measure}_z"] = nullable(score)
    table = pa.table(columns)
    refused: list[Refused] = []
    found = Counter[str]()
    if part.flags.any():
        for rule, bit in BITS.items():
            found[rule] = int(np.count_nonzero(part.flags[kept] & bit))
    lines: I64 = rows.column("line").to_numpy(zero_copy_only=False)
    if not kept.all():
        lines = lines[kept]
        refused = _refuse(raw, verdict, order, times.ambiguous, part.lacking)
        found.update(refusal.rule for refusal in refused)
        table = table.filter(pa.array(kept))
        for name in ("user_id", "target_user_id"):  # no trace of a user whose row was refused
            place = table.column_names.index(name)
            table = table.set_column(place, name, compact(table.column(name)))
    return Cleaned(EventBatch(table), lines, refused, +found)


class _Part:
    """A batch on its way: the columns that rules change, and what they said so far."""

    def __init__(self, rows: Typed, config: CleanConfig, now: int) -> None:
        self.rows = rows
        self.config = config
        self.now = now
        self.types, self.names = _types(rows, config)
        self.users = rows.binary("user_id")
        self.texts = {name: rows.text(name) for name in ("item_id", "group_id", "tz")}
        self.times: Times = rows.times(config)
        self.value, bad_value = rows.number("value")
        self.quantity, bad_quantity = rows.number("quantity")
        self.bad = bad_value | bad_quantity
        self.own_units = rows.own_units()
        self.flags = np.zeros(len(rows), dtype=np.uint32)
        self.lacking = np.full(len(rows), -1, dtype=np.int8)

    def flag(self, rule: str, mask: Bool) -> None:
        """Let a rule that keeps rows say so."""
        if self.config.asks(rule):
            self.flags[mask] |= np.uint32(BITS[rule])

    def code(self, name: str) -> int:
        """The code of a type, a new one if need be."""
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)

    def unit_column(self) -> pa.Array:
        """The unit given, or else the type's usual one; none where there is no value."""
        units = sorted(set(DEFAULT_UNIT.values()))
        usual = [units.index(DEFAULT_UNIT[x]) if x in DEFAULT_UNIT else -1 for x in self.names]
        codes = np.array([*usual, -1], dtype=np.int32)[self.types]
        codes[np.isnan(self.value)] = -1
        array = dictionary(codes, units)
        if self.own_units is None:
            return array
        own = self.own_units.cast(pa.string())
        return pc.coalesce(own, array.cast(pa.string())).dictionary_encode()


def _types(rows: Typed, config: CleanConfig) -> tuple[I32, list[str]]:
    """(codes, canonical type names), −1 where there is no type."""
    array = rows.text("event_type")
    wanted = canonical_all(array.dictionary.to_pylist(), config.aliases)
    names = [name for name in dict.fromkeys(wanted) if name]
    place = {name: code for code, name in enumerate(names)}
    translate = np.array([*(place.get(name, -1) for name in wanted), -1], dtype=np.int32)
    return translate[codes_of(array)], names


# -- units and missing values ----------------------------------------------------------------


def _convert(part: _Part) -> None:
    """Values in cents, milliseconds, percent and the like, in the unit they are kept in."""
    if not part.config.asks("unit_converted"):
        return
    factor = np.ones(len(part.rows))
    for name, unit in part.config.units.items():
        if name in part.names:
            factor[part.types == part.names.index(name)] = UNITS[unit][1]
    if part.own_units is not None:
        texts = part.own_units.dictionary.to_pylist()
        own = [UNITS.get(text.strip().casefold(), (text, 1.0)) for text in texts]
        codes = codes_of(part.own_units)
        factor = np.where(codes >= 0, np.array([*(size for _, size in own), 1.0])[codes], factor)
        if texts != (names := [unit for unit, _ in own]):
            part.own_units = dictionary(codes, names).cast(pa.string()).dictionary_encode()
    changed = (factor != 1.0) & ~np.isnan(part.value)
    if changed.any():
        part.value = np.where(changed, part.value * factor, part.value)
        part.flag("unit_converted", changed)


def _fill(part: _Part, policy: Policy, prices: Prices | None) -> None:
    """Do what a policy says where its field is missing."""
    mask = ~of_types(part.types, part.names, RESERVED)
    if policy.event_type:
        mask &= of_types(part.types, part.names, {policy.event_type})
    field = policy.field
    if field == "event_type":
        mask &= part.types < 0
    elif field == "timestamp":
        mask &= part.times.missing
    elif field in ("value", "quantity"):
        mask &= np.isnan(getattr(part, field)) & ~part.bad
    elif field == "unit":
        mask &= ~np.isnan(part.value) & of_types(part.types, part.names, set(DEFAULT_UNIT))
        if part.own_units is not None:
            mask &= missing(part.own_units)
    else:
        mask &= missing(part.texts[field])
    if not mask.any():
        return
    if policy.action == "refuse":
        part.lacking[mask & (part.lacking < 0)] = FIELDS.index(field)
        return
    rule = "missing_default" if policy.action == "default" else "missing_inferred"
    if not part.config.asks(rule):
        return
    if policy.action == "default":
        _set(part, field, mask, policy.default)
    else:
        mask = _infer(part, field, mask, prices)
    part.flag(rule, mask)


def _set(part: _Part, field: str, mask: Bool, text: str) -> None:
    if field == "event_type":
        part.types = np.where(mask, part.code(canonical_all([text])[0]), part.types)
    elif field in ("value", "quantity"):
        setattr(part, field, np.where(mask, float(text), getattr(part, field)))
    elif field == "unit":
        own = part.rows.nulls("unit") if part.own_units is None else part.own_units
        part.own_units = _with(own, mask, text)
    else:
        part.texts[field] = _with(part.texts[field], mask, text)


def _with(array: pa.Array, mask: Bool, text: str) -> pa.Array:
    return pc.if_else(pa.array(mask), text, array.cast(pa.string())).dictionary_encode()


def _infer(part: _Part, field: str, mask: Bool, prices: Prices | None) -> Bool:
    """Infer a field as `missing.INFERRED` says; return the rows where that could be done."""
    if field == "timestamp":
        part.times = Times(
            np.where(mask, part.now, part.times.micros),
            part.times.missing & ~mask,
            part.times.unreadable,
            part.times.ambiguous,
        )
    elif field == "unit":
        mask = mask & of_types(part.types, part.names, _MONEY)
        _set(part, "unit", mask, part.config.currency)
    elif field == "event_type":
        value = part.value
        rated = (value >= 0.5) & (value <= 10) & (value * 2 % 1 == 0)
        bought = ~np.isnan(part.quantity) | ~missing(part.texts["group_id"])
        kinds = [bought, rated, ~np.isnan(value)]
        codes = [part.code(name) for name in ("purchase", "rating", "purchase")]
        found = np.select(kinds, codes, part.code("view")).astype(np.int32)
        part.types = np.where(mask, found, part.types)
    else:
        mask = mask & of_types(part.types, part.names, _MONEY) & ~part.times.missing
        items = part.texts["item_id"]
        rows = np.flatnonzero(mask)
        if prices is None or not len(rows):
            return np.zeros(len(mask), dtype=bool)
        price = np.full(len(mask), np.nan)
        names = items.dictionary.to_pylist()
        price[rows] = prices(names, codes_of(items)[rows].astype(np.int64), part.times.micros[rows])
        amount = price * np.where(np.isnan(part.quantity), 1.0, np.abs(part.quantity))
        mask = mask & ~np.isnan(amount)
        part.value = np.where(mask, amount, part.value)
    return mask


# -- outliers and robots ---------------------------------------------------------------------


def _judge(part: _Part, judged: Bool, norms: Norms, kinds: Kinds | None) -> dict[str, F64]:
    """Flag outliers and robots among these rows; return what stands beside their amounts."""
    config = part.config
    index = np.flatnonzero(judged)
    scores: dict[str, F64] = {}
    if not len(index):
        return scores
    items = part.texts["item_id"]
    outlying = [m for m in MEASURES if config.asks(f"outlier_{m}")]
    if outlying or config.standardise:
        groups = groups_of(items, kinds)[index]
        rows, inverse = norms.scales.places(part.names, part.types[index], groups)
        for measure in MEASURES:
            amounts = getattr(part, measure)[index]
            if measure in outlying:
                out = norms.scales.outliers(
                    measure, rows, inverse, amounts,
                    cut=config.outlier_cut, least=config.outlier_least,
                )  # fmt: skip
                if out.any():
                    part.flags[index[out]] |= np.uint32(BITS[f"outlier_{measure}"])
            if measure in config.standardise:
                score = np.full(len(judged), np.nan)
                score[index] = norms.scales.standard(
                    measure, rows, inverse, amounts, least=config.outlier_least
                )
                scores[measure] = score
    if config.asks("robot_speed") or config.asks("robot_volume"):
        _robots(part, index, items, norms)
    return scores


def _robots(part: _Part, index: I64, items: pa.Array, norms: Norms) -> None:
    config = part.config
    users, times = user_keys(part.users)[index], part.times.micros[index]
    if config.asks("robot_speed"):
        hand = np.flatnonzero(of_types(part.types[index], part.names, BY_HAND))
        if len(hand):
            fast = norms.recent.too_fast(
                users[hand], times[hand], lambda: item_keys(items, index[hand]),
                most=config.robot_items, seconds=config.robot_seconds,
            )  # fmt: skip
            if fast.any():
                part.flags[index[hand[fast]]] |= np.uint32(BITS["robot_speed"])
    if not config.asks("robot_volume"):
        return
    days = times // DAY
    before = norms.days.so_far(users, days)
    if before.max() + len(index) <= config.robot_day_least:
        return
    bound = norms.days.bound(
        cut=config.robot_day_cut, observed=config.outlier_least, least=config.robot_day_least
    )
    if before.max() + len(index) <= bound:
        return
    codes = codes_of(part.users)[index].astype(np.int64)
    low, span = int(days.min()), int(days.max() - days.min()) + 1
    _, pairs = distinct(codes * span + (days - low), (int(codes.max()) + 1) * span)
    if (before + np.bincount(pairs)[pairs]).max() > bound:
        over = before + numbered(pairs) > bound
        part.flags[index[over]] |= np.uint32(BITS["robot_volume"])


def _refuse(
    raw: RawBatch,
    verdict: npt.NDArray[np.int8],
    order: list[str],
    ambiguous: Bool,
    lacking: npt.NDArray[np.int8],
) -> list[Refused]:
    """The refused rows with reason and mend; values as JSON can hold them."""
    index = np.flatnonzero(verdict >= 0)
    table = raw.table.take(pa.array(index))
    lines = table.column("line").to_pylist()
    names = [n for n in table.column_names if n not in ("line", "content", REPEATED)]
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
        if rule == "missing_field":
            reason = f"{FIELDS[lacking[row]]} is missing, and [clean.missing] asks for it"
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
