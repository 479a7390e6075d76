"""The catalog: item versions in columns.

A version is what was said of an item at one event time. The first version of an item also holds
for the time before it, since an item is usually described after it exists. Facets lift an event
with the version valid at the event's time (law 1), so what a version changes later never alters
what an earlier event meant.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable
from copy import copy
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limner.events.arrays import Grow, Vocabulary
from limner.events.batch import (
    F64,
    I32,
    I64,
    PROPERTY,
    Bool,
    EventBatch,
    as_codes,
    as_numbers,
    as_text,
    plain_text,
)


class Catalog:
    """Items under dense ids 0, 1, 2 …, their versions, and per attribute the codes of each."""

    def __init__(self) -> None:
        self.ids = Vocabulary()
        self.words: dict[str, Vocabulary] = {}
        """Per attribute the texts that its codes stand for."""
        self.current = Grow(np.int32, -1)
        """Item → its newest version, −1 while none is known."""
        self.deleted = Grow(np.bool_, False)
        self.last_event = Grow(np.int64, np.iinfo(np.int64).min)
        """Item → time of its newest event; tells whether a version comes late."""
        self.hashes = Grow(np.uint64, 0)
        """Item → 64-bit hash of its id: the same whatever the order of arrival."""
        self._item = Grow(np.int32)
        self._from = Grow(np.int64)
        self._position = Grow(np.int64)
        self._codes: dict[str, Grow] = {}
        self._numbers: dict[str, Grow] = {}
        self._lists: dict[str, dict[int, I32]] = {}
        """Per attribute the versions that have several values of it."""
        self._listed: dict[str, Grow] = {}
        self._many: dict[int, list[tuple[int, int, int]]] = {}
        """Items of several versions: (from, position, version) of each, ascending."""
        self._several = Grow(np.bool_, False)
        self._first = Grow(np.int64, np.iinfo(np.int64).max)
        """Item → time of its first version, which holds backwards too."""
        self._known_at: int | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def attributes(self) -> list[str]:
        """Names of the attributes that any version has."""
        return sorted(self._codes)

    def intern(self, codes: I32, values: list[str]) -> I32:
        """Dense ids of item texts; unknown items get one."""
        items = self.ids.translate(codes, values)
        self._make_room()
        return items

    def _make_room(self) -> None:
        start = self.hashes.n
        for column in (
            self.current,
            self.deleted,
            self.last_event,
            self.hashes,
            self._several,
            self._first,
        ):
            column.resize(len(self.ids))
        self.hashes.data[start : len(self.ids)] = [hash64(v) for v in self.ids.values[start:]]

    def put(self, batch: EventBatch, positions: I64) -> I32:
        """Add one version a row; return the items whose earlier events now mean something else.

        Those are items that had events and get their first version or an earlier first one, or
        a version dated before events that were already folded. Rows without an item are skipped.
        """
        described = pc.is_valid(batch.array("item_id")).to_numpy(zero_copy_only=False)
        batch, positions = batch.take(described), positions[described]
        items = self.intern(*batch.codes("item_id"))
        times = batch.times()
        start = self._item.n
        rows = np.arange(start, start + len(batch))
        for column, values in ((self._item, items), (self._from, times)):
            column.resize(start + len(batch))
            column.data[rows] = values
        self._position.resize(start + len(batch))
        self._position.data[rows] = positions
        for name in batch.properties:
            self._put_attribute(name, batch.array(PROPERTY + name), start, start + len(batch))
        never = np.iinfo(np.int64).min
        last = self.last_event.view[items]
        # without a version so far, the first one's time is greater than any
        late = (last != never) & ((times <= last) | (times < self._first.view[items]))
        for row, item in zip(rows.tolist(), items.tolist(), strict=True):
            self._link(item, row)
        np.minimum.at(self._first.view, items, times)
        self.deleted.view[items] = False
        return np.unique(items[late])

    def _link(self, item: int, row: int) -> None:
        newest = int(self.current.data[item])
        if newest < 0:
            self.current.data[item] = row
            return
        versions = self._many.setdefault(item, [self._version(newest)])
        self._several.data[item] = True
        versions.append(self._version(row))
        versions.sort()
        self.current.data[item] = versions[-1][2]

    def _version(self, row: int) -> tuple[int, int, int]:
        return int(self._from.data[row]), int(self._position.data[row]), row

    def _put_attribute(self, name: str, array: pa.Array, start: int, stop: int) -> None:
        words = self.words.setdefault(name, Vocabulary())
        codes = self._codes.setdefault(name, Grow(np.int32, -1))
        codes.resize(stop)
        several = _as_lists(array)
        if several is not None:
            lists = self._lists.setdefault(name, {})
            listed = self._listed.setdefault(name, Grow(np.bool_, False))
            listed.resize(stop)
            for row, values in enumerate(several, start):
                texts = dict.fromkeys(
                    plain_text(value) or "" for value in values or () if value is not None
                )
                if texts:
                    found = words.encode(list(texts))
                    codes.data[row] = found[0]
                    if len(found) > 1:
                        lists[row] = found
                        listed.data[row] = True
            return
        if pa.types.is_null(array.type):
            return
        if pa.types.is_floating(array.type) or pa.types.is_integer(array.type):
            numbers = self._numbers.setdefault(name, Grow(np.float64, np.nan))
            numbers.resize(stop)
            numbers.data[start:stop] = as_numbers(array)
            plain = [plain_text(value) for value in array.to_pylist()]
            array = pa.array(plain, pa.string())
        elif not pa.types.is_dictionary(array.type):
            array = as_text(array)
        codes.data[start:stop] = words.translate(*as_codes(array))

    def delete(self, batch: EventBatch) -> None:
        """Mark items as gone: they keep their past and are no longer recommended."""
        items = self.intern(*batch.codes("item_id"))
        self.deleted.view[items[items >= 0]] = True

    def versions_at(self, items: I32, times: I64) -> I32:
        """The version of each item valid at each time, −1 where the item has none."""
        if not self._item.n:
            return np.full(len(items), -1, dtype=np.int32)
        if self._known_at is not None:
            return self._known_versions(items, times)
        versions: I32 = np.where(items >= 0, self.current.view[items], np.int32(-1))
        if self._many:
            last = np.iinfo(np.int64).max
            for index in np.flatnonzero(self._several.view[items] & (items >= 0)).tolist():
                history = self._many[int(items[index])]
                place = bisect_right(history, (int(times[index]), last, 0))
                versions[index] = history[max(place - 1, 0)][2]
        return versions

    def anew(self) -> Catalog:
        """No item described yet, but each under its number."""
        out = Catalog()
        out.ids = Vocabulary(self.ids.values)
        out.words = {name: Vocabulary(words.values) for name, words in self.words.items()}
        out._make_room()
        return out

    def known_at(self, position: int) -> Catalog:
        """The same items as they had been described in the log before a position."""
        out = copy(self)
        out._known_at = position
        return out

    def _known_versions(self, items: I32, times: I64) -> I32:
        """`versions_at` among the versions told before `_known_at`."""
        assert self._known_at is not None
        versions: I32 = np.where(items >= 0, self.current.view[items], np.int32(-1))
        versions[self._position.view[versions] >= self._known_at] = -1
        for index in np.flatnonzero(self._several.view[items] & (items >= 0)).tolist():
            known = [v for v in self._many[int(items[index])] if v[1] < self._known_at]
            held = [v[2] for v in known if v[0] <= times[index]]
            versions[index] = held[-1] if held else known[0][2] if known else -1
        return versions

    def codes_at(self, name: str, versions: I32) -> tuple[I64, I32]:
        """(rows, codes): which of `versions` has which value of an attribute.

        A version with several values gives several pairs, one with none gives none.
        """
        column = self._codes.get(name)
        if column is None or not column.n:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int32)
        codes = np.where(
            (versions >= 0) & (versions < column.n),
            column.view[np.minimum(versions, column.n - 1)],
            np.int32(-1),
        )
        rows = np.flatnonzero(codes >= 0)
        lists = self._lists.get(name)
        if not lists:
            return rows, codes[rows]
        listed = self._listed[name]
        within = rows[versions[rows] < listed.n]
        several = within[listed.view[versions[within]]]
        more = [
            (row, lists[version][1:])
            for row, version in zip(several.tolist(), versions[several].tolist(), strict=True)
        ]
        return (
            np.concatenate([rows, *(np.full(len(c), row) for row, c in more)]),
            np.concatenate([codes[rows], *(c for _, c in more)]),
        )

    def numbers_at(self, name: str, versions: I32) -> F64:
        """A numeric attribute of each version, NaN where it has none."""
        column = self._numbers.get(name)
        if column is None or not column.n:
            return np.full(len(versions), np.nan)
        inside = (versions >= 0) & (versions < column.n)
        return np.where(inside, column.view[np.minimum(versions, column.n - 1)], np.nan)

    def codes_now(self, name: str, items: I64 | None = None) -> I32:
        """First value's code of an attribute for every item, or for `items`; −1 where unknown."""
        versions = self.current.view if items is None else self.current.view[items]
        out = np.full(len(versions), -1, dtype=np.int32)
        rows, codes = self.codes_at(name, versions)
        # later pairs are further values of the same item: the first one is kept
        out[rows[::-1]] = codes[::-1]
        return out

    def describe(self, item: int) -> dict[str, Any]:
        """The attributes of an item's newest version, as plain values."""
        version = int(self.current.view[item])
        return self.described(version) if version >= 0 else {}

    @property
    def versions(self) -> int:
        """How many versions there are; they are numbered from 0."""
        return self._item.n

    def described(self, version: int) -> dict[str, Any]:
        """The attributes of a version, as plain values."""
        out: dict[str, Any] = {}
        for name in self.attributes:
            words = self.words[name].values
            lists = self._lists.get(name, {})
            if version in lists:
                out[name] = [words[code] for code in lists[version]]
                continue
            column = self._codes[name]
            if version < column.n and (code := int(column.data[version])) >= 0:
                numbers = self._numbers.get(name)
                within = numbers is not None and version < numbers.n
                number = float(numbers.data[version]) if numbers is not None and within else np.nan
                out[name] = words[code] if np.isnan(number) else number
        return out

    def resting_on(self, batch: EventBatch) -> set[int]:
        """The items for which it matters that rows go: one may be the item's newest, or all."""
        codes, values = batch.codes("item_id")
        rows = np.flatnonzero(codes >= 0)
        items = self.ids.find(values)[codes[rows]]
        newest = self.last_event.view[items] <= batch.times()[rows]
        return set(items[(items >= 0) & (newest | (self.current.view[items] < 0))].tolist())

    def has_version(self, item: int) -> bool:
        """Whether the item has a version."""
        return bool(self.current.view[item] >= 0)

    def forget(self, items: Iterable[int]) -> None:
        """Drop items that nothing names any more: their id's text, and that they were seen."""
        gone = sorted(items)
        self.ids.blank(gone)
        self.last_event.view[gone] = np.iinfo(np.int64).min
        self.hashes.view[gone] = 0

    def described_from(self) -> I64:
        """The time of each item's first version, the greatest number there is without one."""
        return self._first.view

    def available(self) -> Bool:
        """Items that may be recommended: described or seen, and not deleted."""
        seen = self.last_event.view != np.iinfo(np.int64).min
        mask: Bool = ((self.current.view >= 0) | seen) & ~self.deleted.view
        return mask

    def touch(self, items: I32, times: I64) -> None:
        """Note the newest event time of each item."""
        np.maximum.at(self.last_event.view, items[items >= 0], times[items >= 0])

    # -- snapshots ---------------------------------------------------------------------------

    def tables(self) -> tuple[pa.Table, pa.Table, dict[str, pa.Array]]:
        """(items, versions, words): the whole catalog in Arrow, for a snapshot."""
        items = pa.table(
            {
                "id": pa.array(self.ids.values, pa.string()),
                "current": self.current.view,
                "deleted": self.deleted.view,
                "last_event": self.last_event.view,
                "hash": self.hashes.view,
            }
        )
        versions: dict[str, Any] = {
            "item": self._item.view,
            "from": self._from.view,
            "position": self._position.view,
        }
        n = self._item.n
        for name, codes in self._codes.items():
            codes.resize(n)
            versions["codes." + name] = codes.view
        for name, numbers in self._numbers.items():
            numbers.resize(n)
            versions["numbers." + name] = numbers.view
        for name, lists in self._lists.items():
            versions["lists." + name] = pa.array(
                [lists[row].tolist() if row in lists else None for row in range(n)],
                pa.list_(pa.int32()),
            )
        words = {name: pa.array(v.values, pa.string()) for name, v in self.words.items()}
        return items, pa.table(versions), words

    @classmethod
    def of_tables(cls, items: pa.Table, versions: pa.Table, words: dict[str, pa.Array]) -> Catalog:
        """The catalog that `tables` wrote."""
        out = cls()
        out.ids = Vocabulary(items["id"].to_pylist())
        for name, column in (
            ("current", out.current),
            ("deleted", out.deleted),
            ("last_event", out.last_event),
            ("hash", out.hashes),
        ):
            column.load(items[name].to_numpy().copy())
        for name, column in (
            ("item", out._item),
            ("from", out._from),
            ("position", out._position),
        ):
            column.load(versions[name].to_numpy().copy())
        for name in versions.column_names:
            kind, _, attribute = name.partition(".")
            if kind == "codes":
                out._codes[attribute] = Grow(np.int32, -1)
                out._codes[attribute].load(versions[name].to_numpy().copy())
            elif kind == "numbers":
                out._numbers[attribute] = Grow(np.float64, np.nan)
                out._numbers[attribute].load(versions[name].to_numpy().copy())
            elif kind == "lists":
                out._lists[attribute] = {
                    row: np.array(values, dtype=np.int32)
                    for row, values in enumerate(versions[name].to_pylist())
                    if values is not None
                }
                out._listed[attribute] = Grow(np.bool_, False)
                out._listed[attribute].load(
                    pc.is_valid(versions[name]).combine_chunks().to_numpy(zero_copy_only=False)
                )
        out.words = {name: Vocabulary(array.to_pylist()) for name, array in words.items()}
        out._first.resize(len(out.ids))
        np.minimum.at(out._first.view, out._item.view, out._from.view)
        counts = np.bincount(out._item.view, minlength=len(out.ids))
        out._several.load(counts > 1)
        for row in np.flatnonzero(counts[out._item.view] > 1):
            out._many.setdefault(int(out._item.data[row]), []).append(out._version(int(row)))
        for versions_of in out._many.values():
            versions_of.sort()
        return out


def _as_lists(array: pa.Array) -> list[Any] | None:
    """The values of a column that has lists, or text that is a JSON list; else None.

    A batch that had lists beside text holds both as text, and must mean what each meant alone.
    """
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        values: list[Any] = array.to_pylist()
        return values
    if not pa.types.is_dictionary(array.type):
        return None
    _, texts = as_codes(array)
    if not any(isinstance(text, str) and text.startswith("[") for text in texts):
        return None
    return [_parsed(text) for text in array.to_pylist()]


def _parsed(text: Any) -> list[Any]:
    if isinstance(text, str) and text.startswith("["):
        try:
            found = json.loads(text)
        except ValueError:
            found = text
        if isinstance(found, list):
            return found
    return [] if text is None else [text]


def hash64(text: str) -> int:
    """A 64-bit hash of a text that never changes between runs."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")
