"""The door: user ids become pseudonyms, rows get their identity, and the policy takes fields away.

Nothing behind this module ever sees a user's own id.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limner.errors import ConfigError
from limner.events.batch import DAY, I64, PROPERTY, SECOND, Bool
from limner.events.once import U64, SortedRuns
from limner.events.pieces import piece
from limner.events.raw import ITEM, USER, RawBatch
from limner.privacy.identity import Sealed
from limner.privacy.keys import BY_CONTENT, BY_ID, BY_REPEAT, CHECK, Keys, named, repeated

Change = Callable[[pa.Array, Keys], pa.Array]
Known = Callable[[Sequence[bytes]], Bool]
"""Pseudonyms → which of them have a sealed identity."""

_FIELDS = (
    "item_id",
    "timestamp",
    "received_at",
    "event_id",
    "source",
    "value",
    "unit",
    "quantity",
    "group_id",
    "recommendation_id",
    "target_user_id",
    "tz",
)
"""Columns a policy may name; without a user or a type a row would be no event."""

_ATTRIBUTES = {"user.": USER, "item.": ITEM}
_ACTIONS = "drop, hash, round:N, truncate:N, hour or day"


@dataclass(frozen=True, slots=True)
class PrivacyConfig:
    """What is taken from each row before anything keeps it.

    `fields` maps a field to an action. A field is a column of the event (`item_id`, `value`, …),
    `properties.NAME`, or an attribute: `user.NAME`, `item.NAME`. An action is `drop`; `hash` (a
    keyed digest: equal values stay equal); `round:N` (numbers, N decimals, −2 for hundreds);
    `truncate:N` (the first N characters); `hour` or `day` (times, down to that).
    A value that an action cannot read is dropped, never kept as it came.
    Raises ConfigError for an unknown field or action.
    """

    fields: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, action in self.fields.items():
            _check_field(name)
            _change(name, action)


_ODD = np.uint64(0x9E3779B97F4A7C15)
"""An odd number near 2^64 divided by the golden ratio: its multiples lie far apart."""


class Occurrences:
    """How often each content has come in one file, or in one of several bodies; 8 bytes a row.

    With a `stride` rows of several bodies come together, a row's line being its number in its
    body plus the stride times the body's place.

    It counts by 64 bits of the content's digest. Should two contents ever share them, the later
    one is numbered one too high, the same way at each reading of the file, so law 2 holds.

    >>> seen = Occurrences()
    >>> seen.number(np.array([5, 5, 7], np.uint64)).tolist()
    [0, 1, 0]
    >>> seen.number(np.array([7, 5], np.uint64)).tolist()
    [1, 2]
    >>> Occurrences(stride=100).number(np.array([5, 5], np.uint64), np.array([1, 101])).tolist()
    [0, 0]
    """

    __slots__ = ("_runs", "stride")

    def __init__(self, stride: int = 0) -> None:
        self._runs = SortedRuns()
        self.stride = stride

    def number(self, key: U64, lines: I64 | None = None) -> I64:
        """For each row, how many rows before it, in this file or body, have its content."""
        if self.stride and lines is not None:
            key = key ^ ((lines // self.stride).astype(np.uint64) * _ODD)
        order = np.argsort(key, kind="stable")
        ordered = key[order]
        starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(key)])
        sizes = np.diff(np.append(starts, len(key)))
        earlier = self._runs.count(ordered[starts])
        numbers = np.empty(len(key), np.int64)
        numbers[order] = np.arange(len(key)) + np.repeat(earlier - starts, sizes)
        self._runs.add(key)
        return numbers


@dataclass(frozen=True, slots=True)
class Admitted:
    """Rows that may go on, and the users they name: `pseudonyms` and, in the same order, `ids`.

    `sealed` has those of them that are sealed already.
    """

    raw: RawBatch
    pseudonyms: list[bytes]
    ids: pa.Array
    sealed: Mapping[bytes, Sealed] = field(default_factory=dict)

    def identities(self, keys: Keys, known: Known) -> list[Sealed]:
        """The users that are new, sealed. `known` says which pseudonyms have an identity; to say
        no of one that has costs time only.
        """
        if not self.pseudonyms:
            return []
        new = np.flatnonzero(~known(self.pseudonyms)).tolist()
        open_ = {self.pseudonyms[n]: n for n in new if self.pseudonyms[n] not in self.sealed}
        fresh = keys.seal_all((self.ids[n].as_py(), pseudonym) for pseudonym, n in open_.items())
        ready = {self.pseudonyms[n] for n in new} - open_.keys()
        return fresh + [self.sealed[pseudonym] for pseudonym in ready]

    def part(self, start: int, stop: int) -> Admitted:
        """Some of the rows, and the users that these name."""
        raw = piece(self.raw, start, stop)
        here: set[bytes] = set()
        for name in ("user_id", "target_user_id"):
            if name in raw.table.column_names:
                here.update(_column(raw.table, name).dictionary.to_pylist())
        kept = [n for n, pseudonym in enumerate(self.pseudonyms) if pseudonym in here]
        pseudonyms = [self.pseudonyms[n] for n in kept]
        return Admitted(raw, pseudonyms, self.ids.take(pa.array(kept, pa.int64())), self.sealed)


def admit(
    raw: RawBatch,
    keys: Keys,
    policy: PrivacyConfig,
    occurrences: Occurrences,
    known: dict[str, bytes] | None = None,
) -> Admitted:
    """Rows under pseudonyms, each with its `digest` and `check`, less what `policy` takes away.

    An event is identified by (source, id): its own `source` if it has one, else that of the
    batch. Without an id it is identified by its content and the number of its occurrence in the
    file, which `occurrences` counts: one per file or request. Rows that bring their `digest` and
    `check` (those of a quarantine) keep them. Digests are made of the row as it came, so a
    changed policy changes no identity. `known` are pseudonyms that were found before and is added
    to: for who reads many batches, since a pseudonym takes 3 µs.
    """
    table = raw.table.combine_chunks()
    if "digest" not in table.column_names:
        digest, check = _identify(table, raw.source, keys, occurrences)
        table = table.append_column("digest", digest).append_column("check", check)
    pseudonyms: list[bytes] = []
    ids: list[pa.Array] = []
    for name in ("user_id", "target_user_id"):
        if name in table.column_names:
            own, coded = _pseudonymise(_column(table, name), keys, known)
            pseudonyms += coded.dictionary.to_pylist()
            ids.append(own)
            table = table.set_column(table.column_names.index(name), name, coded)
    table = table.drop_columns(["content"])
    for name, action in policy.fields.items():
        table = _apply(table, name, _change(name, action), keys)
    every = pa.concat_arrays(ids) if ids else pa.array([], pa.string())
    return Admitted(RawBatch(table, raw.where, raw.source), pseudonyms, every)


def _identify(
    table: pa.Table, source: str, keys: Keys, occurrences: Occurrences
) -> tuple[pa.Array, pa.Array]:
    """The `digest` and `check` columns."""
    contents = _bytes_of(_column(table, "content"))
    named_rows, digests = np.zeros(len(table), bool), np.zeros((len(table), 16), np.uint8)
    checks = np.zeros(len(table), np.uint64)
    if "event_id" in table.column_names:
        ids = _as_text(_column(table, "event_id"))
        named_rows = _mask(pc.greater(pc.binary_length(ids), 0))
    rows = np.flatnonzero(named_rows)
    if len(rows):
        own = pa.nulls(len(table), pa.string())
        if "source" in table.column_names:
            own = _as_text(_column(table, "source"))
        sources = pc.fill_null(own, source).to_pylist()
        names = ids.to_pylist()
        messages = [named(sources[row], names[row]) for row in rows.tolist()]
        digests[rows] = _matrix(keys.digests(messages, person=BY_ID))
        content = [contents[row] for row in rows.tolist()]
        checks[rows] = np.frombuffer(keys.digests(content, person=CHECK, size=8), "<u8")
    rows = np.flatnonzero(~named_rows)
    if len(rows):
        content = [contents[row] for row in rows.tolist()]
        firsts = _matrix(keys.digests(content, person=BY_CONTENT))
        # its first half says what the content is, whatever the number of the occurrence
        checks[rows] = firsts[:, :8].copy().view("<u8")[:, 0]
        lines = _column(table, "line").to_numpy()[rows] if occurrences.stride else None
        numbers = occurrences.number(checks[rows], lines)
        again = np.flatnonzero(numbers)
        messages = [repeated(firsts[row].tobytes(), int(numbers[row])) for row in again]
        firsts[again] = _matrix(keys.digests(messages, person=BY_REPEAT))
        digests[rows] = firsts
    column = pa.Array.from_buffers(
        pa.binary(16), len(table), [None, pa.py_buffer(np.ascontiguousarray(digests))]
    )
    return column, pa.array(checks)


def _pseudonymise(
    column: pa.Array, keys: Keys, known: dict[str, bytes] | None
) -> tuple[pa.Array, pa.Array]:
    """The different ids of a column, and the column in their pseudonyms; empty is null."""
    coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    values = _as_text(coded.dictionary)
    used = np.unique(pc.drop_null(coded.indices).to_numpy(zero_copy_only=False))
    named_ids = zip(used.tolist(), values.take(pa.array(used)).to_pylist(), strict=True)
    ids = {code: user_id for code, user_id in named_ids if user_id and not user_id.isspace()}
    known = {} if known is None else known
    for user_id in ids.values():
        if user_id not in known:
            known[user_id] = keys.pseudonym(user_id)
    pseudonyms = {user_id: known[user_id] for user_id in ids.values()}
    places = {user_id: place for place, user_id in enumerate(pseudonyms)}
    table = np.full(len(values) + 1, -1, np.int32)
    for code, user_id in ids.items():
        table[code] = places[user_id]
    codes = table[pc.fill_null(coded.indices, len(values)).to_numpy(zero_copy_only=False)]
    return pa.array(list(pseudonyms), pa.string()), pa.DictionaryArray.from_arrays(
        pa.array(codes, mask=codes < 0), pa.array(list(pseudonyms.values()), pa.binary(16))
    )


def column_of(name: str) -> str:
    """The column that a field of a policy is in.

    >>> column_of("user.age"), column_of("value")
    ('properties.age', 'value')
    """
    prefix = next((p for p in _ATTRIBUTES if name.startswith(p)), None)
    return PROPERTY + name.removeprefix(prefix) if prefix else name


def _apply(table: pa.Table, name: str, change: Change, keys: Keys) -> pa.Table:
    """`table` with one field changed; an attribute only in rows of its kind."""
    prefix = next((p for p in _ATTRIBUTES if name.startswith(p)), None)
    column_name = column_of(name)
    if column_name not in table.column_names:
        return table
    column = _column(table, column_name)
    if column_name.startswith(PROPERTY):
        kinds = _as_text(_column(table, "event_type"))
        if prefix:
            rows = _mask(pc.equal(kinds, _ATTRIBUTES[prefix]))
        else:
            rows = ~_mask(pc.is_in(kinds, pa.array(list(_ATTRIBUTES.values()))))
        column = _mixed(rows, change(column.filter(pa.array(rows)), keys), column)
    else:
        column = change(column, keys)
    return table.set_column(table.column_names.index(column_name), column_name, column)


def _mixed(rows: Bool, changed: pa.Array, column: pa.Array) -> pa.Array:
    """`column` with `changed` in these rows; the old values there leave its buffers too."""
    if rows.all():
        return changed
    if not rows.any():
        return column
    rest = column.filter(pa.array(~rows))
    if changed.type != rest.type:
        changed, rest = _as_text(changed), _as_text(rest)
    order = np.empty(len(rows), np.int64)
    order[np.flatnonzero(rows)] = np.arange(len(changed))
    order[np.flatnonzero(~rows)] = np.arange(len(changed), len(rows))
    return pa.concat_arrays([changed, rest]).take(pa.array(order))


def _check_field(name: str) -> None:
    if name in _FIELDS or any(
        name.startswith(prefix) and len(name) > len(prefix) for prefix in (PROPERTY, *_ATTRIBUTES)
    ):
        return
    near = get_close_matches(name, _FIELDS, 1)
    if name in ("user_id", "event_type"):
        mend = "leave it out: the user becomes a pseudonym in any case, and no event lacks a type"
    elif near:
        mend = f"did you mean {near[0]}?"
    else:
        mend = f"name one of {', '.join(_FIELDS)}, properties.NAME, user.NAME or item.NAME"
    raise ConfigError(f"a privacy policy cannot change {name!r}", where="privacy.fields", mend=mend)


def _change(name: str, action: str) -> Change:
    """The function of an action."""
    word, _, amount = action.partition(":")
    if action == "drop":
        return _drop
    if name == "target_user_id":
        raise ConfigError(
            f"{action!r} is no action for {name}, which is a pseudonym already",
            where="privacy.fields",
            mend="drop it or leave it out",
        )
    if action == "hash":
        return _hash
    if word == "round" and re.fullmatch(r"-?\d{1,2}", amount):
        return lambda column, _: _round(column, int(amount))
    if word == "truncate" and re.fullmatch(r"\d{1,6}", amount):
        return lambda column, _: pc.utf8_slice_codeunits(_as_text(column), 0, int(amount))
    if action in ("hour", "day"):
        return lambda column, _: _coarsen(column, action)
    raise ConfigError(
        f"{action!r} is no action for {name}",
        where="privacy.fields",
        mend=f"use one of {_ACTIONS}, with a whole number for N",
    )


def _drop(column: pa.Array, keys: Keys) -> pa.Array:
    return pa.nulls(len(column), column.type)


def _hash(column: pa.Array, keys: Keys) -> pa.Array:
    coded = _as_text(column).dictionary_encode()
    values = keys.digests(
        (value.encode() for value in coded.dictionary.to_pylist()), person=b"field", size=8
    ).hex()
    names = pa.array([values[i : i + 16] for i in range(0, len(values), 16)], pa.string())
    return names.take(coded.indices)


def _round(column: pa.Array, digits: int) -> pa.Array:
    plain = _plain(column)
    if pa.types.is_integer(plain.type):
        return plain if digits >= 0 else pc.round(plain.cast(pa.float64()), digits)
    if not pa.types.is_floating(plain.type):
        plain = _numbers(plain)
    return pc.round(plain, digits)


_ISO = (
    r"^\s*(?P<year>\d{4})[-/](?P<month>\d{1,2})[-/](?P<day>\d{1,2})"
    r"(?:(?P<mark>[T ])(?P<hour>\d{1,2})(?::\d{2}(?::\d{2}(?:[.,]\d+)?)?)?)?\s*"
    r"(?P<zone>[Zz]|UTC|GMT|[+-]\d{2}(?::?\d{2})?)?\s*$"
)
_DIGITS = r"^\s*((?:19|20)\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])"
_PER_SECOND = (1, 10**3, 10**6, 10**9)


def _coarsen(column: pa.Array, to: str) -> pa.Array:
    """Times down to the hour or day: numbers of any usual unit in UTC, text in its own zone.

    Text stays text, because the zone of text that names none is known to the cleaning only.
    """
    plain = _plain(column)
    if pa.types.is_timestamp(plain.type):
        return pc.floor_temporal(plain, 1, to)
    text = _as_text(plain)
    text = pc.replace_substring_regex(text, _DIGITS + r"\s*$", r"\1-\2-\3")
    text = pc.replace_substring_regex(text, _DIGITS + r"(\d{2})\d{4}\s*$", r"\1-\2-\3 \4:00")
    parts = pc.extract_regex(text, _ISO)
    year, month, day, mark, hour, zone = (
        pc.struct_field(parts, name) for name in ("year", "month", "day", "mark", "hour", "zone")
    )
    if to == "day":
        hour = "00"
    clock = pc.if_else(
        pc.equal(mark, ""), zone, pc.binary_join_element_wise(mark, hour, ":00:00", zone, "")
    )
    date = pc.binary_join_element_wise(year, month, day, "-")
    iso = pc.binary_join_element_wise(date, clock, "")
    numbers = pc.if_else(pc.is_valid(iso), None, _numbers(text))
    length = (DAY if to == "day" else 3600 * SECOND) // SECOND
    return pc.coalesce(iso, _floor(numbers, length).cast(pa.string()))


def _floor(times: pa.Array, seconds: int) -> pa.Array:
    """Numbers in s, ms, µs or ns, told by their size (as in event times), floored; int64."""
    times = pc.if_else(pc.less(pc.abs(times), 2.0**62), times, None)
    values = pc.fill_null(times, 0.0).to_numpy(zero_copy_only=False)
    scale = np.array(_PER_SECOND)[np.searchsorted([1e11, 1e14, 1e17], np.abs(values))]
    step = seconds * scale
    floored = (np.floor(values / step)).astype(np.int64) * step
    return pa.array(floored, mask=~_mask(pc.is_valid(times)))


def _numbers(column: pa.Array) -> pa.Array:
    """Text as float64, null where it is no number."""
    text = pc.utf8_trim_whitespace(_as_text(column))
    number = pc.match_substring_regex(text, r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?$")
    return pc.if_else(number, text, None).cast(pa.float64())


def _column(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _plain(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _as_text(column: pa.Array) -> pa.Array:
    """Any column as text; a whole number is spelt without a fraction, so 7, 7.0 and "7" agree."""
    plain = _plain(column)
    if pa.types.is_nested(plain.type):
        return pa.array([None if v is None else str(v) for v in plain.to_pylist()], pa.string())
    if pa.types.is_floating(plain.type):
        plain = pc.if_else(pc.is_nan(plain), None, plain)
        whole = pc.equal(pc.floor(plain), plain)
        small = pc.less(pc.abs(plain), 2.0**53)
        integers = pc.if_else(pc.and_(whole, small), plain, None).cast(pa.int64())
        return pc.coalesce(integers.cast(pa.string()), plain.cast(pa.string()))
    return plain.cast(pa.string())


def _bytes_of(column: pa.Array) -> list[bytes]:
    if column.null_count:
        column = pc.fill_null(column, b"")
    if not pa.types.is_binary(column.type):
        column = column.cast(pa.binary())
    if not len(column):
        return []
    offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset :][: len(column) + 1]
    body = column.buffers()[2]
    data = body.to_pybytes() if body is not None else b""
    ends = offsets.tolist()
    return [data[start:stop] for start, stop in pairwise(ends)]


def _matrix(digests: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.frombuffer(bytearray(digests), np.uint8).reshape(-1, 16)


def _mask(values: pa.Array) -> Bool:
    mask: Bool = pc.fill_null(values, False).to_numpy(zero_copy_only=False)
    return mask
