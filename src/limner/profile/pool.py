"""Keyed maps and histories of many users: entries whose number varies, in size classes.

Each user's entries of one map lie in one block; blocks of one capacity lie together in columns,
so that a batch touching thousands of users is looked up and merged with a few numpy calls, and a
block that is full moves to the next class. A map that is bounded drops the entry that matters
least when it overflows. Its stated error is a bound on what any key lacks: the greatest weight
of each overflow, added up, since a key that was dropped may come back and be dropped again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from limner.events.arrays import Grow
from limner.events.batch import F64, I64, Bool
from limner.profile.merge import Column, Values, group_starts, merge, reduce_groups

SMALLEST = 4


@dataclass(frozen=True, slots=True)
class MapSpec:
    """A keyed map of a facet: key → `columns`, at most `bound` entries a user.

    `keep` says which entries stay when a user has more: "heaviest" (the greatest first value of
    the first decayed or summed column) or "newest" (the greatest time). What a "newest" map lets
    go is added up in `Pool.spilled`, so its totals stay exact. A history is a map with
    `unique=False`: entries never merge, and the newest `bound` of them are the state.

    `texts` pairs what holds codes of texts ("key" or a column) with the path of their vocabulary.
    It MUST name them all: erasing a user forgets the texts that no map holds (law 6).
    """

    columns: tuple[Column, ...]
    bound: int
    key_dtype: str = "i4"
    unique: bool = True
    keep: Literal["heaviest", "newest"] = "heaviest"
    texts: tuple[tuple[str, str], ...] = ()


class _Class:
    """All blocks of one capacity."""

    __slots__ = ("capacity", "columns", "count", "free", "keys")

    def __init__(self, spec: MapSpec, capacity: int) -> None:
        self.capacity = capacity
        self.keys = Grow(spec.key_dtype, 0, capacity)
        self.count = Grow("i4", 0)
        self.columns = {
            column.name: Grow(column.dtype, column.identity, capacity * column.width)
            for column in spec.columns
        }
        self.free: list[int] = []

    def take(self, n: int) -> I64:
        """Numbers of `n` empty blocks."""
        reused = [self.free.pop() for _ in range(min(n, len(self.free)))]
        start = self.keys.n
        stop = start + n - len(reused)
        self.keys.resize(stop)
        self.count.resize(stop)
        for grown in self.columns.values():
            grown.resize(stop)
        return np.array(reused + list(range(start, stop)), dtype=np.int64)


class Pool:
    """The entries of one map for all users, by row of the user."""

    def __init__(self, spec: MapSpec) -> None:
        self.spec = spec
        self._slack = max(spec.bound // 4, SMALLEST)
        sizes = [SMALLEST]
        while sizes[-1] < spec.bound + self._slack:
            sizes.append(min(sizes[-1] * 2, spec.bound + self._slack))
        self._sizes = np.array(sizes)
        self._classes = [_Class(spec, size) for size in sizes]
        self._class = Grow("i1", -1)
        self._block = Grow("i4", -1)
        self.dropped = Grow("f8", 0.0, 2)
        """Per user (weight, time): the stated error of a full map and the time it is as of."""
        self.summed = [column.name for column in spec.columns if column.op == "sum"]
        self.spilled = Grow("f8", 0.0, 1 + len(self.summed))
        """Per user how many entries a "newest" map let go, and the sums of their columns."""

    def resize(self, rows: int) -> None:
        """Make room for users up to row `rows`."""
        for column in (self._class, self._block, self.dropped, self.spilled):
            column.resize(rows)

    def clear(self, row: int) -> None:
        """Forget a user's entries; the block's content is overwritten."""
        size = int(self._class.data[row])
        if size >= 0:
            block = int(self._block.data[row])
            self._wipe(size, np.array([block]))
        self._class.data[row] = -1
        self._block.data[row] = -1
        self.dropped.data[row] = 0
        self.spilled.data[row] = 0

    def _wipe(self, size: int, blocks: I64) -> None:
        cls = self._classes[size]
        cls.keys.data[blocks] = 0
        cls.count.data[blocks] = 0
        for grown in cls.columns.values():
            grown.data[blocks] = grown.fill
        cls.free.extend(blocks.tolist())

    def count(self, row: int) -> int:
        """How many entries a user has."""
        size = int(self._class.data[row])
        return int(self._classes[size].count.data[self._block.data[row]]) if size >= 0 else 0

    def entries(self, row: int) -> tuple[npt.NDArray[Any], Values]:
        """A user's (keys, columns); for a history the newest `bound`, oldest first. Copies."""
        keys, values = self._raw(row)
        if not self.spec.unique:
            order = np.lexsort((values["p"], values["t"]))[-self.spec.bound :]
            keys = keys[order]
            values = {name: column[order] for name, column in values.items()}
        return keys, values

    def _no_entries(self) -> tuple[npt.NDArray[Any], Values]:
        return np.empty(0, self.spec.key_dtype), {
            column.name: np.empty((0, column.width) if column.width > 1 else 0, column.dtype)
            for column in self.spec.columns
        }

    def every(self, rows: I64 | None = None) -> tuple[I64, npt.NDArray[Any], Values]:
        """(users, keys, columns) of all entries of all users; for population passes.

        Of these `rows` only, if given; a user is then a place in `rows`.
        """
        owners, keys = [], []
        columns: dict[str, list[Any]] = {column.name: [] for column in self.spec.columns}
        for cls, mine, blocks in self._blocks_of(rows):
            inside = np.arange(cls.capacity) < cls.count.view[blocks][:, None]
            owners.append(np.broadcast_to(mine[:, None], inside.shape)[inside])
            keys.append(cls.keys.view[blocks][inside])
            for column in self.spec.columns:
                data = cls.columns[column.name].view[blocks]
                columns[column.name].append(_shaped(data, column)[inside])
        if not owners:
            none, empty = self._no_entries()
            return np.empty(0, np.int64), none, empty
        return (
            np.concatenate(owners),
            np.concatenate(keys),
            {name: np.concatenate(parts) for name, parts in columns.items()},
        )

    def find(self, rows: I64, key: int) -> tuple[I64, Values]:
        """(places in `rows`, columns) of the users among `rows` who have an entry of a key."""
        owners = []
        columns: dict[str, list[Any]] = {column.name: [] for column in self.spec.columns}
        for cls, mine, blocks in self._blocks_of(rows):
            same = cls.keys.view[blocks] == key
            same &= np.arange(cls.capacity) < cls.count.view[blocks][:, None]
            which, place = same.nonzero()
            owners.append(mine[which])
            for column in self.spec.columns:
                cells = _shaped(cls.columns[column.name].view, column)
                columns[column.name].append(cells[blocks[which], place])
        if not owners:
            return np.empty(0, np.int64), self._no_entries()[1]
        return np.concatenate(owners), {n: np.concatenate(parts) for n, parts in columns.items()}

    def positive(self, rows: I64, column: str) -> Bool:
        """Whether any entry of each of these users has more than 0 in a column (the last of it)."""
        out = np.zeros(len(rows), dtype=bool)
        width = next(c.width for c in self.spec.columns if c.name == column)
        for cls, mine, blocks in self._blocks_of(rows):
            above = cls.columns[column].view[blocks, width - 1 :: width] > 0
            above &= np.arange(cls.capacity) < cls.count.view[blocks][:, None]
            out[mine] = above.any(axis=1)
        return out

    def counts(self, rows: I64) -> I64:
        """How many entries each of these users has."""
        return self._counts(rows)

    def _blocks_of(self, rows: I64 | None) -> Iterator[tuple[_Class, I64, I64]]:
        """(class, users, their blocks) for each class that a user has a block in."""
        classes = self._class.view if rows is None else self._class.view[rows]
        for size, cls in enumerate(self._classes):
            mine = np.flatnonzero(classes == size)
            if len(mine):
                yield cls, mine, self._block.view[mine if rows is None else rows[mine]]

    def add(self, rows: I64, keys: npt.NDArray[Any], values: Values) -> None:
        """Merge contributions: (row, key) may repeat, in any order."""
        if not len(rows):
            return
        columns = self.spec.columns
        if self.spec.unique:
            if len(rows) > 1:
                order = np.lexsort((keys, rows))
                r, k = rows[order], keys[order]
                fresh = np.ones(len(order), dtype=bool)
                fresh[1:] = (r[1:] != r[:-1]) | (k[1:] != k[:-1])
                starts = fresh.nonzero()[0]
                values = reduce_groups(columns, values, order, starts)
                rows, keys = r[starts], k[starts]
            missing = self._merge_known(rows, keys, values)
            if not len(missing):
                return
            rows, keys = rows[missing], keys[missing]
            values = {name: column[missing] for name, column in values.items()}
        elif len(rows) > 1:
            order = np.argsort(rows, kind="stable")
            rows, keys = rows[order], keys[order]
            values = {name: column[order] for name, column in values.items()}
        self._insert(rows, keys, values)

    def overflowed(self, row: int) -> bool:
        """Whether this user's map ever let an entry go."""
        return bool(self.spilled.data[row, 0] > 0 or np.any(self.dropped.data[row]))

    def absorb(self, row: int, other: Pool, other_row: int) -> None:
        """Merge another pool's user into this row."""
        keys, values = other._raw(other_row)
        self.add(np.full(len(keys), row, dtype=np.int64), keys, values)
        self._let_go(row, *other.dropped.data[other_row].tolist())
        self.spilled.data[row] += other.spilled.data[other_row]

    def _merge_known(self, rows: I64, keys: npt.NDArray[Any], values: Values) -> I64:
        """Merge into entries that exist; return the indices of those that do not."""
        if len(rows) == 1:
            return self._merge_one(int(rows[0]), keys[0], values)
        found = np.zeros(len(rows), dtype=bool)
        sizes = self._class.data[rows]
        for size in _present(sizes):
            cls = self._classes[size]
            chosen = (sizes == size).nonzero()[0]
            blocks = self._block.data[rows[chosen]]
            same = cls.keys.data[blocks] == keys[chosen, None]
            # empty places hold key 0: only the first `count` places are real
            same &= np.arange(cls.capacity) < cls.count.data[blocks][:, None]
            place = same.argmax(axis=1)
            hit = same[np.arange(len(chosen)), place]
            chosen, blocks, place = chosen[hit], blocks[hit], place[hit]
            found[chosen] = True
            kept = {
                column.name: _shaped(cls.columns[column.name].data, column)[blocks, place]
                for column in self.spec.columns
            }
            new = {name: column[chosen] for name, column in values.items()}
            merged = merge(self.spec.columns, kept, new)
            for column in self.spec.columns:
                _shaped(cls.columns[column.name].data, column)[blocks, place] = merged[column.name]
        return (~found).nonzero()[0]

    def _merge_one(self, row: int, key: Any, values: Values) -> I64:
        """The same for one entry, as a live event brings it, with few numpy calls."""
        size = int(self._class.data[row])
        if size < 0:
            return np.zeros(1, dtype=np.int64)
        cls, block = self._classes[size], int(self._block.data[row])
        place = (cls.keys.data[block, : int(cls.count.data[block])] == key).nonzero()[0]
        if not len(place):
            return np.zeros(1, dtype=np.int64)
        at = slice(int(place[0]), int(place[0]) + 1)
        cells = {
            column.name: _shaped(cls.columns[column.name].data[block], column)[at]
            for column in self.spec.columns
        }
        for name, merged in merge(self.spec.columns, cells, values).items():
            cells[name][:] = merged
        return np.empty(0, dtype=np.int64)

    def _insert(self, rows: I64, keys: npt.NDArray[Any], values: Values) -> None:
        """Add entries whose keys are not there yet; `rows` is sorted."""
        starts = group_starts(rows)
        owners, added = rows[starts], np.empty_like(starts)
        np.subtract(starts[1:], starts[:-1], out=added[:-1])
        added[-1] = len(rows) - starts[-1]
        largest = int(self._sizes[-1])
        counts = self._counts(owners)
        if (counts + added > largest).any():
            over = np.flatnonzero(counts + added > largest)
            full = np.isin(rows, owners[over])
            for index in over.tolist():
                part = slice(int(starts[index]), int(starts[index] + added[index]))
                self._overflow(
                    int(owners[index]), keys[part], {n: v[part] for n, v in values.items()}
                )
            keep = ~full
            if not keep.any():
                return
            self._insert(rows[keep], keys[keep], {n: v[keep] for n, v in values.items()})
            return
        self._make_room(owners, counts, counts + added)
        place = np.repeat(counts - starts, added) + np.arange(len(rows))
        sizes = self._class.data[rows]
        for size in _present(sizes):
            cls = self._classes[size]
            chosen = (sizes == size).nonzero()[0]
            blocks, slots = self._block.data[rows[chosen]], place[chosen]
            cls.keys.data[blocks, slots] = keys[chosen]
            for column in self.spec.columns:
                cells = _shaped(cls.columns[column.name].data, column)
                cells[blocks, slots] = values[column.name][chosen]
        for size in _present(self._class.data[owners]):
            mine = (self._class.data[owners] == size).nonzero()[0]
            self._classes[size].count.data[self._block.data[owners[mine]]] = (
                counts[mine] + added[mine]
            )

    def _counts(self, owners: I64) -> I64:
        counts = np.zeros(len(owners), dtype=np.int64)
        sizes = self._class.data[owners]
        for size in _present(sizes):
            mine = (sizes == size).nonzero()[0]
            counts[mine] = self._classes[size].count.data[self._block.data[owners[mine]]]
        return counts

    def _make_room(self, owners: I64, counts: I64, needed: I64) -> None:
        wanted = np.searchsorted(self._sizes, needed)
        sizes = self._class.data[owners].astype(np.int64)
        moving = (wanted > sizes).nonzero()[0]
        for old, new in set(zip(sizes[moving].tolist(), wanted[moving].tolist(), strict=True)):
            chosen = moving[(sizes[moving] == old) & (wanted[moving] == new)]
            target = self._classes[new]
            blocks = target.take(len(chosen))
            if old >= 0:
                source = self._classes[old]
                before = self._block.data[owners[chosen]].astype(np.int64)
                width = source.capacity
                target.keys.data[blocks, :width] = source.keys.data[before]
                target.count.data[blocks] = source.count.data[before]
                for column in self.spec.columns:
                    target.columns[column.name].data[blocks, : width * column.width] = (
                        source.columns[column.name].data[before]
                    )
                self._wipe(old, before)
            self._class.data[owners[chosen]] = new
            self._block.data[owners[chosen]] = blocks

    def _overflow(self, row: int, keys: npt.NDArray[Any], values: Values) -> None:
        """A user whose entries exceed the largest block: keep the ones that matter most."""
        kept_keys, kept = self._raw(row)
        all_keys = np.concatenate([kept_keys, keys])
        merged = {name: np.concatenate([kept[name], column]) for name, column in values.items()}
        if self.spec.keep == "newest":
            ties = merged.get("p", all_keys)
            order = np.lexsort((ties, merged["t"]))[::-1]
            if self.spec.unique:
                lost = order[self.spec.bound :]
                self.spilled.data[row, 0] += len(lost)
                for place, name in enumerate(self.summed, 1):
                    self.spilled.data[row, place] += merged[name][lost].sum()
        else:
            newest = int(merged["t"].max()) if "t" in merged else 0
            weight = self.weights(merged, newest)
            order = np.lexsort((all_keys, -weight))
            lost = order[self.spec.bound :]
            self._let_go(row, float(weight[lost].max(initial=0.0)), newest)
        stay = np.sort(order[: self.spec.bound])
        size = int(self._class.data[row])
        if size >= 0:
            self._wipe(size, np.array([int(self._block.data[row])]))
        self._class.data[row] = -1
        rows = np.full(len(stay), row, dtype=np.int64)
        self._insert(rows, all_keys[stay], {n: column[stay] for n, column in merged.items()})

    def _raw(self, row: int) -> tuple[npt.NDArray[Any], Values]:
        size = int(self._class.data[row])
        if size < 0:
            return self._no_entries()
        cls, block = self._classes[size], int(self._block.data[row])
        n = int(cls.count.data[block])
        return cls.keys.data[block, :n].copy(), {
            column.name: _shaped(cls.columns[column.name].data[block], column)[:n].copy()
            for column in self.spec.columns
        }

    @property
    def _weighing(self) -> Column:
        return next(c for c in self.spec.columns if c.op in ("decay", "sum"))

    def weights(self, values: Values, at: int) -> F64:
        """What each entry weighs at a time (µs): its first column, in the longest half-life."""
        column = self._weighing
        data = values[column.name].astype(np.float64).reshape(-1, column.width)[:, -1]
        if column.op == "decay":
            data = data * np.exp2((values["t"].astype(np.float64) - at) / column.half_lives[-1])
        weights: F64 = np.abs(data)
        return weights

    def error(self, row: int, at: int) -> float:
        """How much weight at a time (µs) any one key of a "heaviest" map may lack, at most."""
        weight, since = self.dropped.data[row].tolist()
        if not weight:
            return 0.0
        return float(weight * self._faded(max(at - since, 0.0)))

    def _faded(self, age: float) -> float:
        column = self._weighing
        return 2.0 ** (-age / column.half_lives[-1]) if column.op == "decay" else 1.0

    def _let_go(self, row: int, weight: float, at: float) -> None:
        if not weight:
            return
        known, since = self.dropped.data[row].tolist()
        newest = max(since, at)
        self.dropped.data[row] = (
            known * self._faded(newest - since) + weight * self._faded(newest - at),
            newest,
        )

    # -- snapshots ---------------------------------------------------------------------------

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Everything, by name, for a snapshot."""
        out = {
            "class": self._class.view,
            "block": self._block.view,
            "dropped": self.dropped.view,
            "spilled": self.spilled.view,
        }
        for cls in self._classes:
            at = f"{cls.capacity}."
            out[at + "keys"] = cls.keys.view
            out[at + "count"] = cls.count.view
            out[at + "free"] = np.array(cls.free, dtype=np.int64)
            for name, grown in cls.columns.items():
                out[f"{at}columns.{name}"] = grown.view
        return out

    def load(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        """Take what `arrays` gave."""
        self._class.load(arrays["class"])
        self._block.load(arrays["block"])
        self.dropped.load(arrays["dropped"])
        self.spilled.load(arrays["spilled"])
        for cls in self._classes:
            at = f"{cls.capacity}."
            cls.keys.load(arrays[at + "keys"])
            cls.count.load(arrays[at + "count"])
            cls.free = arrays[at + "free"].tolist()
            for name, grown in cls.columns.items():
                grown.load(arrays[f"{at}columns.{name}"])


def _present(sizes: npt.NDArray[Any]) -> list[int]:
    """The different size classes among these, −1 (no block yet) left out."""
    return (
        [size for size in set(sizes.tolist()) if size >= 0]
        if len(sizes) < 8
        else (np.flatnonzero(np.bincount(sizes[sizes >= 0])).tolist())
    )


def _shaped(data: npt.NDArray[Any], column: Column) -> npt.NDArray[Any]:
    """(…, capacity × width) as (…, capacity, width), or as it is for width 1."""
    if column.width == 1:
        return data
    return data.reshape(*data.shape[:-1], -1, column.width)
