"""The events of one fold as the facets see them: dense ids, codes and numbers in columns."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from limner.catalog.catalog import Catalog, hash64
from limner.errors import ConfigError
from limner.events.arrays import Vocabulary, text_hashes
from limner.events.batch import F64, I32, I64, PROPERTY, SECOND, Bool, EventBatch, plain_text
from limner.events.raw import ALIAS, CORRECTION, DELETE_ITEM, ITEM, RETRACTION, TOPIC, USER
from limner.events.rules import bits_of

Where = Mapping[str, str | float | Sequence[str]]
"""Column path → what it must be: a text, one of several texts, or a comparison such as ">0"."""

TARGET = "target_user_id"
"""The path of other users: its texts are pseudonyms in hexadecimal."""

QUARTER = 900 * SECOND
"""Time zones are apart by multiples of a quarter of an hour."""
RESERVED = (ITEM, USER, DELETE_ITEM, ALIAS, CORRECTION, RETRACTION, TOPIC)
"""Types of rows that are no behaviour of their own."""
_COMPARISONS: dict[str, Callable[[Any, float], Any]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


class Events:
    """Rows of a batch sorted by user row, with the item version valid at each event's time.

    `at` says which rows of the batch, in their order; None for all of them. Columns are read from
    the batch when they are asked for, so nobody copies those that no facet reads.

    Paths name columns: `event_type`, `value`, `quantity`, `hour`, `weekday`, `properties.NAME`
    and `item.NAME` (an attribute of the item's version).
    """

    def __init__(
        self,
        batch: EventBatch,
        positions: I64,
        rows: I64,
        items: I32,
        catalog: Catalog,
        words: dict[str, Vocabulary],
        timezone: str,
        at: I64 | None = None,
    ) -> None:
        self._batch = batch
        self._at = at
        self.row = rows
        self.position = positions
        self.item = items
        self.time = self._here(batch.times())
        self.catalog = catalog
        self._words = words
        self._timezone = timezone
        self._codes: dict[str, tuple[I32, list[str]]] = {}
        self._keys: dict[str, tuple[I64, I32]] = {}
        self._numbers: dict[str, F64] = {}
        self._totals: dict[tuple[str, ...], F64] = {}
        self._masks: dict[str, Bool] = {}
        self._chosen: dict[str, I64] = {}

    def __len__(self) -> int:
        return len(self.row)

    def _here(self, column: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A column of the batch, as the events lie."""
        return column if self._at is None else column[self._at]

    @property
    def properties(self) -> list[str]:
        """Names of the properties that the batch has."""
        return self._batch.properties

    @cached_property
    def version(self) -> I32:
        """The item version of each event, −1 where there is none."""
        return self.catalog.versions_at(self.item, self.time)

    @cached_property
    def ordinary(self) -> Bool:
        """Events of users, as opposed to items' and users' attributes."""
        codes, values = self.codes("event_type")
        return np.array([value not in RESERVED for value in values] + [False])[codes]

    def codes(self, name: str) -> tuple[I32, list[str]]:
        """A text column of the batch as (codes, values), −1 where null."""
        if name not in self._codes:
            codes, values = self._batch.codes(name)
            self._codes[name] = self._here(codes), values
        return self._codes[name]

    def weights(self, by_type: Mapping[str, float]) -> F64:
        """What each event weighs, by its type; 0 for types that are not named."""
        codes, values = self.codes("event_type")
        return np.array([by_type.get(value, 0.0) for value in values] + [0.0])[codes]

    @cached_property
    def group(self) -> I64:
        """64-bit hash of each event's group; 0 where it has none."""
        array = self._batch.array("group_id")
        table = np.append(text_hashes(array.dictionary) >> np.uint64(1), np.uint64(0))
        indices = array.indices.fill_null(-1) if array.indices.null_count else array.indices
        codes = indices.to_numpy(zero_copy_only=False)
        group: I64 = table.astype(np.int64)[self._here(codes)]
        return group

    @cached_property
    def local_hours(self) -> I64:
        """Hours since 1970 in each user's own time zone."""
        codes, values = self.codes("tz")
        zones = [*values, self._timezone]
        quarters = self.time // QUARTER
        if not values:
            return self._local_quarters(self._timezone, quarters) // 4
        out = np.empty_like(quarters)
        for code in np.unique(codes).tolist():
            mine = codes == code
            out[mine] = self._local_quarters(zones[code], quarters[mine])
        return out // 4

    @staticmethod
    def _local_quarters(zone: str, quarters: I64) -> I64:
        unique, inverse = (
            np.unique(quarters, return_inverse=True)
            if len(quarters) > 1
            else (quarters, slice(None))
        )
        local = np.array([_local(zone, quarter) for quarter in unique.tolist()], dtype=np.int64)
        return local[inverse]

    def where(self, where: Where) -> Bool:
        """Ordinary events that meet every condition."""
        whole = str(where)
        if whole not in self._masks:
            mask = self.ordinary
            for path, wanted in where.items():
                known = f"{path} {wanted}"
                if known not in self._masks:
                    self._masks[known] = self._condition(path, wanted)
                mask = mask & self._masks[known]
            self._masks[whole] = mask
        return self._masks[whole]

    def chosen(self, where: Where) -> I64:
        """Indices of the events of `where`, ascending."""
        known = str(where)
        if known not in self._chosen:
            self._chosen[known] = self.where(where).nonzero()[0]
        return self._chosen[known]

    def _condition(self, path: str, wanted: str | float | Sequence[str]) -> Bool:
        if path == "flags":
            bits, some = bits_of(wanted)
            given = self._batch.array("flags")
            if given.null_count:
                given = given.fill_null(0)
            flags = self._here(given.to_numpy(zero_copy_only=False))
            touched: Bool = (flags & np.uint32(bits)) > 0
            return touched if some else ~touched
        comparison = _comparison(wanted)
        if comparison is not None:
            compare, bound = comparison
            numbers = self.number(path)
            mask: Bool = compare(numbers, bound) & ~np.isnan(numbers)
            return mask
        texts = [wanted] if isinstance(wanted, str | int | float) else list(wanted)
        if not path.startswith("item."):  # without learning texts that nobody's state holds
            given, values = self.codes(path)
            wants = {str(text) for text in texts}
            return np.array([value in wants for value in values] + [False])[given]
        index, codes = self.keys(path)
        words = self.vocabulary(path)
        accepted = [words.code(str(text)) for text in texts]
        mask = np.zeros(len(self), dtype=bool)
        mask[index[np.isin(codes, accepted)]] = True
        return mask

    def unique(self, index: I64) -> I64:
        """Different event indices, ascending."""
        if len(index) < 2:
            return index
        return np.bincount(index, minlength=len(self)).nonzero()[0]

    def hashes(self, path: str) -> tuple[I64, npt.NDArray[np.uint64]]:
        """(events, 64-bit hashes of their values): as `keys`, but no text is kept."""
        if path == "item_id":
            index, items = self.keys(path)
            return index, self.catalog.hashes.view[items]
        index, codes, values = self.given(path)
        used, inverse = np.unique(codes, return_inverse=True)
        table = np.array([hash64(_text(values[code])) for code in used.tolist()], dtype=np.uint64)
        return index, table[inverse]

    def given(self, path: str) -> tuple[I64, I32, Sequence[Any]]:
        """(events, codes, what these stand for) where a text is given, without keeping it."""
        if path.startswith("item."):
            index, codes = self.keys(path)
            return index, codes, self.vocabulary(path).values
        found, values = self.codes(path)
        index = (found >= 0).nonzero()[0]
        return index, found[index], values

    def vocabulary(self, path: str) -> Vocabulary:
        """The texts that the codes of a path stand for."""
        return vocabulary(path, self.catalog, self._words)

    def number(self, path: str) -> F64:
        """A numeric column, NaN where missing; "1" is the number one."""
        if path not in self._numbers:
            self._numbers[path] = self._number(path)
        return self._numbers[path]

    def _number(self, path: str) -> F64:
        if path == "1":
            return np.ones(len(self))
        if path.startswith("item."):
            return self.catalog.numbers_at(path.removeprefix("item."), self.version)
        return self._here(self._batch.numbers(path))

    def total(self, paths: Sequence[str]) -> F64:
        """The sum of several numeric columns, missing ones as 0."""
        known = tuple(paths)
        if known not in self._totals:
            out = np.zeros(len(self))
            for path in known:
                number = self.number(path)
                out += np.where(np.isnan(number), 0.0, number)
            self._totals[known] = out
        return self._totals[known]

    def keys(self, path: str) -> tuple[I64, I32]:
        """(events, codes): which event has which value of a text column."""
        if path not in self._keys:
            self._keys[path] = self._find_keys(path)
        return self._keys[path]

    def _find_keys(self, path: str) -> tuple[I64, I32]:
        if path.startswith("item."):
            return self.catalog.codes_at(path.removeprefix("item."), self.version)
        if path == "item_id":
            index = (self.item >= 0).nonzero()[0]
            return index, self.item[index]
        codes, values = self.codes(path)
        codes = self.vocabulary(path).translate(codes, [_text(value) for value in values])
        index = (codes >= 0).nonzero()[0]
        return index, codes[index]


def _text(value: Any) -> str:
    """A value as a key; a user (who is bytes) in hexadecimal."""
    return value.hex() if isinstance(value, bytes) else plain_text(value) or ""


def vocabulary(path: str, catalog: Catalog, words: dict[str, Vocabulary]) -> Vocabulary:
    """The vocabulary of a path: the catalog's for items and `item.NAME`, else the state's own."""
    if path == "item_id":
        return catalog.ids
    if path.startswith("item."):
        return catalog.words.setdefault(path.removeprefix("item."), Vocabulary())
    return words.setdefault(path, Vocabulary())


def check_path(path: str, where: str) -> None:
    """Raise ConfigError if a path names no column that an event can have."""
    plain = (
        "event_type",
        "item_id",
        "target_user_id",
        "value",
        "quantity",
        "group_id",
        "unit",
        "source",
        "tz",
        "flags",
        "hour",
        "weekday",
        "1",
    )
    if path not in plain and not path.startswith(("item.", PROPERTY)):
        raise ConfigError(
            f"{path!r} is no column of an event",
            where=where,
            mend=f"use one of {', '.join(plain)}, item.NAME or properties.NAME",
        )


def _comparison(wanted: object) -> tuple[Callable[[Any, float], Any], float] | None:
    if not isinstance(wanted, str):
        return None
    for sign, compare in _COMPARISONS.items():
        if wanted.startswith(sign):
            try:
                return compare, float(wanted.removeprefix(sign))
            except ValueError:
                return None
    return None


@lru_cache(maxsize=200_000)
def _local(zone: str, quarter: int) -> int:
    """A quarter of an hour since 1970 UTC as one of a zone's wall clock; UTC if unknown."""
    try:
        moment = datetime.fromtimestamp(quarter * 900, UTC).astimezone(ZoneInfo(zone))
    except (KeyError, ValueError, OSError, OverflowError):
        return quarter
    offset = moment.utcoffset()
    return quarter + (int(offset.total_seconds()) // 900 if offset else 0)
