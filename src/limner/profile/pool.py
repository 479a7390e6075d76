"""Keyed maps and histories of many users: entries whose number varies, in size classes.

Each user's entries of one map lie in one block; blocks of one capacity lie together in columns,
so that a batch touching thousands of users is looked up and merged with a few numpy calls, and a
block that is full moves to the next class. A map that is bounded drops the entry that matters
least when it overflows. Its stated error is a bound on what any key lacks: the greatest weight
of each overflow, added up, since a key that was dropped may come back and be dropped again.
Whoever let something go is in the largest class, and what was let go is counted there only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from limner.events.arrays import Grow
from limner.events.batch import F64, I64, Bool
from limner.profile import merging
from limner.profile.blocks import Blocks, capacities, present, shaped
from limner.profile.compact import Compact, wide_enough
from limner.profile.merge import Column, Values, group_starts, merge, reduce_groups
from limner.profile.rows import NO_ROOM, Arrays
from limner.profile.spilled import Spilled

SLACK = 4
"""Least room beyond the bound, so that a full map is not cut at every event."""


@dataclass(frozen=True, slots=True)
class MapSpec:
    """A keyed map of a facet: key → `columns`, at most `bound` entries a user.

    `keep` says which entries stay when a user has more: "heaviest" (the greatest first value of
    the first decayed or summed column) or "newest" (the greatest time). What a "newest" map lets
    go is added up in `Pool.spilled`, so its totals stay exact; its keys are remembered, so that one
    that comes back is counted once. A history is a map with `unique=False`: entries never merge,
    and the newest `bound` of them are the state.

    The time of a decayed sum is only what it is told as of. Where no half-life is under an hour it
    is kept to the minute, and the sums as of that minute; `entries` says so too (`Compact`).

    `texts` pairs what holds codes of texts ("key" or a column) with the path of their vocabulary.
    It MUST name them all: erasing a user forgets the texts that no map holds (law 6).
    """

    columns: tuple[Column, ...]
    bound: int
    key_dtype: str = "i4"
    unique: bool = True
    keep: Literal["heaviest", "newest"] = "heaviest"
    texts: tuple[tuple[str, str], ...] = ()


class Pool:
    """The entries of one map for all users, by row of the user."""

    def __init__(self, spec: MapSpec) -> None:
        self.spec = spec
        self.summed = [column.name for column in spec.columns if column.op == "sum"]
        self._sizes = np.array(capacities(spec.bound + max(spec.bound // 4, SLACK)))
        mergeable = spec.unique and spec.keep == "heaviest"
        self._kept_as = Compact(spec.columns, minutes=mergeable)
        lost = [0] * (len(self._sizes) - 1) + [3 + len(self.summed)]
        self._classes = [
            Blocks(spec.key_dtype, self._columns, int(size), numbers)
            for size, numbers in zip(self._sizes, lost, strict=True)
        ]
        self._class = Grow("i1", -1)
        self._block = Grow("i4", -1)
        self._gone = Spilled() if spec.unique and spec.keep == "newest" else None
        self._table: _Table | None = None
        self._compiled = merging.takes(self._columns)

    @property
    def _columns(self) -> tuple[Column, ...]:
        return self._kept_as.kept

    def resize(self, rows: int) -> None:
        """Make room for users up to row `rows`."""
        self._class.resize(rows)
        self._block.resize(rows)

    def clear(self, rows: I64) -> None:
        """Forget the entries of these users, none twice; their blocks are overwritten."""
        self._table = None
        sizes = self._class.data[rows]
        for size in present(sizes):
            self._classes[size].wipe(self._block.data[rows[sizes == size]])
        self._class.data[rows] = -1
        self._block.data[rows] = -1
        if self._gone is not None:
            self._gone.clear(rows)

    def count(self, row: int) -> int:
        """How many entries a user has."""
        size = int(self._class.data[row])
        return int(self._classes[size].count.data[self._block.data[row]]) if size >= 0 else 0

    def entries(self, row: int) -> tuple[npt.NDArray[Any], Values]:
        """A user's (keys, columns); for a history the newest `bound`, oldest first. Copies."""
        keys, values = self._told(row)
        if not self.spec.unique:
            order = np.lexsort((values["p"], values["t"]))[-self.spec.bound :]
            keys = keys[order]
            values = {name: column[order] for name, column in values.items()}
        return keys, values

    def every(self, rows: I64 | None = None) -> tuple[I64, npt.NDArray[Any], Values]:
        """(users, keys, columns) of all entries of all users; for population passes.

        Of these `rows` only, if given; a user is then a place in `rows`.
        """
        owners, keys = [np.empty(0, np.int64)], [np.empty(0, self.spec.key_dtype)]
        columns = self._no_parts()
        for cls, mine, blocks in self._blocks_of(rows):
            inside = np.arange(cls.capacity) < cls.count.view[blocks][:, None]
            owners.append(np.broadcast_to(mine[:, None], inside.shape)[inside])
            keys.append(cls.keys.view[blocks][inside])
            for column in self._columns:
                data = cls.columns[column.name].view[blocks]
                columns[column.name].append(shaped(data, column)[inside])
        values = {name: np.concatenate(parts) for name, parts in columns.items()}
        return np.concatenate(owners), np.concatenate(keys), self._kept_as.told(values)

    def _no_parts(self) -> dict[str, list[Any]]:
        return {
            column.name: [np.empty((0, column.width) if column.width > 1 else 0, narrow.data.dtype)]
            for column in self._columns
            for narrow in (self._classes[0].columns[column.name],)
        }

    def find(self, rows: I64, key: int) -> tuple[I64, Values]:
        """(places in `rows`, columns) of the users among `rows` who have an entry of a key."""
        owners = [np.empty(0, np.int64)]
        columns = self._no_parts()
        for cls, mine, blocks in self._blocks_of(rows):
            same = cls.keys.view[blocks] == key
            same &= np.arange(cls.capacity) < cls.count.view[blocks][:, None]
            which, place = same.nonzero()
            owners.append(mine[which])
            for column in self._columns:
                cells = shaped(cls.columns[column.name].view, column)
                columns[column.name].append(cells[blocks[which], place])
        values = {name: np.concatenate(parts) for name, parts in columns.items()}
        return np.concatenate(owners), self._kept_as.told(values)

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

    def _blocks_of(self, rows: I64 | None) -> Iterator[tuple[Blocks, I64, I64]]:
        """(class, users, their blocks) for each class that a user has a block in."""
        classes = self._class.view if rows is None else self._class.view[rows]
        for size, cls in enumerate(self._classes):
            mine = np.flatnonzero(classes == size)
            if len(mine):
                yield cls, mine, self._block.view[mine if rows is None else rows[mine]]

    def add(self, rows: I64, keys: npt.NDArray[Any], values: Values) -> None:
        """Merge contributions: (row, key) may repeat, in any order."""
        if len(rows):
            if self._kept_as.too_coarse(values):
                self._widen("t", np.dtype("i8"))
                for cls in self._classes:
                    cls.refine(self._kept_as.unit)
                self._kept_as.refine()
            values = self._kept_as.short(values)
            if self._compiled and merging.compiled is not None:
                left = self._add_compiled(rows, keys, values)
                if not len(left):
                    return
                rows, keys = rows[left], keys[left]
                values = {name: column[left] for name, column in values.items()}
            self._fit("", keys)
            self._table = None
            self._add(rows, keys, values)

    def _add_compiled(self, rows: I64, keys: npt.NDArray[Any], values: Values) -> I64:
        """Merge in place, entry by entry; the indices of what takes the plain way."""
        assert merging.compiled is not None
        given = merging.given(self._columns, values)
        whole: I64 | None = None
        rows, keys = np.ascontiguousarray(rows, np.int64), np.ascontiguousarray(keys, np.int64)
        plain = []
        while True:
            table = self._table = self._table or _Table(self)
            left = np.empty(len(rows), dtype=np.int8)
            over, moved = merging.compiled.add(
                table.numbers, table.shape, table.spec, table.lives,
                self._class.data, self._block.data, rows, keys, given, left,
            )  # fmt: skip
            if moved:
                self._moved(table)
            if not over:
                break
            plain.append(np.flatnonzero(left == merging.PLAIN))
            again = np.flatnonzero(left == merging.ROOM)
            if whole is not None:
                plain[-1] = whole[plain[-1]]
            if not len(again):
                break
            for size in np.flatnonzero(table.numbers[:, _WANTED]).tolist():
                self._classes[size].reserve(int(table.numbers[size, _WANTED]))
            self._table = None
            whole = again if whole is None else whole[again]
            rows, keys = rows[again], keys[again]
            values = {name: column[again] for name, column in values.items()}
            given = merging.given(self._columns, values)
        return np.sort(np.concatenate(plain)) if plain else np.empty(0, dtype=np.int64)

    def _moved(self, table: _Table) -> None:
        """Say of the classes what became of their blocks, and close up what is worth it."""
        for size, (blocks, free) in table.changed():
            self._classes[size].used(blocks, free)
            if self._classes[size].worth_closing_up:
                self._close_up(size)

    def _put(
        self,
        cls: Blocks,
        blocks: npt.NDArray[Any] | int,
        places: npt.NDArray[Any] | slice,
        values: Values,
    ) -> None:
        """Write entries' columns, having them fit first, whatever was made of what came."""
        for column in self._columns:
            self._fit(column.name, values[column.name])
        cls.put(blocks, places, self._columns, values)

    def _fit(self, name: str, values: npt.NDArray[Any]) -> None:
        """Have a column, or the keys (which have no name), take these numbers."""
        dtype = self._grown(self._classes[0], name).data.dtype
        if dtype.kind in "iu" and (wide := wide_enough(dtype, values)) != dtype:
            self._widen(name, wide)

    def _widen(self, name: str, dtype: np.dtype[Any]) -> None:
        self._table = None
        for cls in self._classes:
            self._grown(cls, name).widen(dtype)

    @staticmethod
    def _grown(cls: Blocks, name: str) -> Grow:
        return cls.columns[name] if name else cls.keys

    def _add(self, rows: I64, keys: npt.NDArray[Any], values: Values) -> None:
        columns = self._columns
        if self.spec.unique:
            if len(rows) > 1:
                order, starts = _grouped(rows, keys)
                values = reduce_groups(columns, values, order, starts)
                first = order[starts]
                rows, keys = rows[first], keys[first]
            missing = self._merge_known(rows, keys, values)
            if not len(missing):
                return
            rows, keys = rows[missing], keys[missing]
            values = {name: column[missing] for name, column in values.items()}
            if self._gone:
                self._take_back(rows, keys)
        elif len(rows) > 1:
            order = np.argsort(rows, kind="stable")
            rows, keys = rows[order], keys[order]
            values = {name: column[order] for name, column in values.items()}
        self._insert(rows, keys, values)

    def _take_back(self, rows: I64, keys: npt.NDArray[Any]) -> None:
        """Keys that were let go once count among the kept from now on; `rows` is sorted."""
        assert self._gone is not None
        full = (self._class.data[rows] == len(self._classes) - 1).nonzero()[0]
        if not len(full):
            return
        rows, keys = rows[full], keys[full]
        starts = group_starts(rows)
        for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(rows)], strict=True):
            row = int(rows[start])
            back = self._gone.take(row, keys[start:stop])
            if back:
                self._lost(row)[2] -= back

    def overflowed(self, row: int) -> bool:
        """Whether this user's map ever let an entry go."""
        return bool(self._lost(row).any())

    def spilled(self, row: int) -> F64:
        """How many entries a "newest" map of a user let go, and the sums of their columns."""
        return self._lost(row)[2:]

    def spilled_by(self, rows: I64) -> F64:
        """`spilled` of each of these users, (n, 1 + summed columns)."""
        out = np.zeros((len(rows), 1 + len(self.summed)))
        full = np.flatnonzero(self._class.view[rows] == len(self._classes) - 1)
        out[full] = self._classes[-1].lost.view[self._block.view[rows[full]], 2:]
        return out

    def _lost(self, row: int) -> F64:
        """What a user's map let go: stated error, the time it is as of, and `spilled`."""
        if self._class.data[row] < len(self._classes) - 1:
            return np.zeros(3 + len(self.summed))
        lost: F64 = self._classes[-1].lost.data[self._block.data[row]]
        return lost

    def absorb(self, rows: I64, other: Pool, other_rows: I64) -> None:
        """Merge another pool's users into these rows, none twice, each into its place."""
        owners, keys, values = other.every(other_rows)
        self.add(rows[owners], keys, values)
        full = other._class.data[other_rows] == len(other._classes) - 1
        for row, other_row in zip(rows[full].tolist(), other_rows[full].tolist(), strict=True):
            lost = other._lost(other_row)
            if lost.any():
                one = np.array([row])
                self._table = None
                self._make_room(one, self._counts(one), self._sizes[-1:])
                self._let_go(row, *lost[:2].tolist())
                self._lost(row)[2:] += lost[2:]
                if self._gone is not None and other._gone is not None:
                    theirs = np.setdiff1d(other._gone.of(other_row), self._told(row)[0])
                    self._lost(row)[2] += self._gone.add(row, theirs) - lost[2]

    def _merge_known(self, rows: I64, keys: npt.NDArray[Any], values: Values) -> I64:
        """Merge into entries that exist; return the indices of those that do not."""
        if len(rows) == 1:
            return self._merge_one(int(rows[0]), keys[0], values)
        found = np.zeros(len(rows), dtype=bool)
        sizes = self._class.data[rows]
        for size in present(sizes):
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
                column.name: shaped(cls.columns[column.name].data, column)[blocks, place]
                for column in self._columns
            }
            new = {name: column[chosen] for name, column in values.items()}
            merged = merge(self._columns, kept, new)
            self._put(cls, blocks, place, merged)
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
            column.name: shaped(cls.columns[column.name].data[block], column)[at]
            for column in self._columns
        }
        merged = merge(self._columns, cells, values)
        self._put(cls, block, at, merged)
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
        for size in present(sizes):
            cls = self._classes[size]
            chosen = (sizes == size).nonzero()[0]
            blocks, slots = self._block.data[rows[chosen]], place[chosen]
            cls.keys.data[blocks, slots] = keys[chosen]
            given = {column.name: values[column.name][chosen] for column in self._columns}
            self._put(cls, blocks, slots, given)
        for size in present(self._class.data[owners]):
            mine = (self._class.data[owners] == size).nonzero()[0]
            self._classes[size].count.data[self._block.data[owners[mine]]] = (
                counts[mine] + added[mine]
            )

    def _counts(self, owners: I64) -> I64:
        counts = np.zeros(len(owners), dtype=np.int64)
        sizes = self._class.data[owners]
        for size in present(sizes):
            mine = (sizes == size).nonzero()[0]
            counts[mine] = self._classes[size].count.data[self._block.data[owners[mine]]]
        return counts

    def _make_room(self, owners: I64, counts: I64, needed: I64) -> None:
        wanted = np.searchsorted(self._sizes, needed)
        sizes = self._class.data[owners].astype(np.int64)
        moving = (wanted > sizes).nonzero()[0]
        if not len(moving):
            return
        ways = ((sizes[moving] + 1) * len(self._sizes) + wanted[moving]).astype(np.int16)
        order = np.argsort(ways, kind="stable")
        moving, ways = moving[order], ways[order]
        for chosen in np.split(moving, group_starts(ways)[1:]):
            old, new = int(sizes[chosen[0]]), int(wanted[chosen[0]])
            target, users = self._classes[new], owners[chosen]
            blocks = target.take(len(chosen))
            if old >= 0:
                source = self._classes[old]
                before = self._block.data[users].astype(np.int64)
                target.copy(blocks, source, before)
                source.wipe(before)
            self._class.data[users] = new
            self._block.data[users] = blocks
        for old in set(sizes[moving].tolist()):
            self._close_up(old)

    def _close_up(self, size: int) -> None:
        """Move blocks into those that others left, once these are many, and free the rest."""
        cls = self._classes[size]
        if size < 0 or not cls.worth_closing_up:
            return
        self._table = None
        stop = cls.live
        owners = (self._class.view == size).nonzero()[0]
        owners = owners[self._block.view[owners] >= stop]
        self._block.view[owners] = cls.close_up(self._block.view[owners])

    def _overflow(self, row: int, keys: npt.NDArray[Any], values: Values) -> None:
        """A user whose entries exceed the largest block: keep the ones that matter most."""
        one = np.array([row])
        kept_keys, kept = self._told(row)
        self._make_room(one, self._counts(one), self._sizes[-1:])
        all_keys = np.concatenate([kept_keys, keys])
        values = self._kept_as.told(values)
        told = {name: np.concatenate([kept[name], column]) for name, column in values.items()}
        if self.spec.keep == "newest":
            ties = told.get("p", all_keys)
            order = np.lexsort((ties, told["t"]))[::-1]
            if self._gone is not None:
                lost = order[self.spec.bound :]
                self._lost(row)[2] += self._gone.add(row, all_keys[lost])
                for place, name in enumerate(self.summed, 3):
                    self._lost(row)[place] += told[name][lost].sum()
        else:
            newest = int(told["t"].max()) if "t" in told else 0
            weight = self.weights(told, newest)
            order = np.lexsort((all_keys, -weight))
            lost = order[self.spec.bound :]
            self._let_go(row, float(weight[lost].max(initial=0.0)), newest)
        stay = np.sort(order[: self.spec.bound])
        cls, block = self._classes[-1], int(self._block.data[row])
        cls.count.data[block] = len(stay)
        cls.keys.data[block, : len(stay)] = all_keys[stay]
        staying = self._kept_as.short({name: column[stay] for name, column in told.items()})
        self._put(cls, block, slice(0, len(stay)), staying)

    def _told(self, row: int) -> tuple[npt.NDArray[Any], Values]:
        """A user's (keys, columns), as they lie. Copies."""
        size = int(self._class.data[row])
        if size < 0:
            none = {name: parts[0] for name, parts in self._no_parts().items()}
            return np.empty(0, self.spec.key_dtype), self._kept_as.told(none)
        cls, block = self._classes[size], int(self._block.data[row])
        n = int(cls.count.data[block])
        return cls.keys.data[block, :n].astype(self.spec.key_dtype), self._kept_as.told({
            column.name: shaped(cls.columns[column.name].data[block], column)[:n].copy()
            for column in self._columns
        })  # fmt: skip

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
        weight, since = self._lost(row)[:2].tolist()
        if not weight:
            return 0.0
        return float(weight * self._faded(max(at - since, 0.0)))

    def _faded(self, age: float) -> float:
        column = self._weighing
        return 2.0 ** (-age / column.half_lives[-1]) if column.op == "decay" else 1.0

    def _let_go(self, row: int, weight: float, at: float) -> None:
        if not weight:
            return
        lost = self._lost(row)
        known, since = lost[:2].tolist()
        newest = max(since, at)
        lost[:2] = known * self._faded(newest - since) + weight * self._faded(newest - at), newest

    # -- snapshots ---------------------------------------------------------------------------

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Everything, by name, for a snapshot."""
        out = {f"numbers.{name}": numbers for name, numbers in self._kept_as.numbers.items()}
        out |= {"unit": np.array([self._kept_as.unit])}
        out |= {"class": self._class.view, "block": self._block.view}
        if self._gone is not None:
            out |= self._gone.arrays()
        for cls in self._classes:
            at = f"{cls.capacity}."
            out[at + "keys"] = cls.keys.view
            out[at + "count"] = cls.count.view
            out[at + "lost"] = cls.lost.view
            out[at + "free"] = cls.free.view.astype(np.int64)
            for name, grown in cls.columns.items():
                out[f"{at}columns.{name}"] = grown.view
        return out

    def load(self, arrays: Arrays, rooms: Arrays = NO_ROOM) -> None:
        """Take what `arrays` gave; see `ProfileState.load`."""
        self._table = None
        if int(arrays["unit"][0]) == 1:
            self._kept_as.refine()
        for name in self._kept_as.numbers:
            self._kept_as.take_numbers(name, arrays[f"numbers.{name}"])

        def take(grown: Grow, name: str) -> None:
            grown.load(arrays[name], rooms.get(name))

        take(self._class, "class")
        take(self._block, "block")
        if self._gone is not None:
            self._gone.load(arrays)
        for cls in self._classes:
            at = f"{cls.capacity}."
            take(cls.keys, at + "keys")
            take(cls.count, at + "count")
            take(cls.lost, at + "lost")
            cls.free.load(arrays[at + "free"].astype(np.int32))
            for name, grown in cls.columns.items():
                take(grown, f"{at}columns.{name}")


_USED, _FREED, _WANTED, _FIXED = 1, 9, 10, 11
"""Places in a row of the table of classes, as `_merging.c` numbers them."""


class _Table:
    """Where the blocks of a pool lie, as the compiled way reads it, until one of them moves."""

    __slots__ = ("_was", "lives", "numbers", "shape", "spec")

    def __init__(self, pool: Pool) -> None:
        classes, columns = pool._classes, pool._columns
        first = classes[0]
        kept = [first.columns[column.name].data.dtype for column in columns]
        at = range(_FIXED, _FIXED + len(columns))
        self.spec = merging.spec(columns, kept, at)
        self.lives = merging.lives(columns)
        unique, careful = pool.spec.unique, pool._gone is not None
        self.shape = np.array(
            [len(classes), _FIXED + len(columns), merging.TYPES[first.keys.data.dtype],
             unique, careful], dtype=np.int64,
        )  # fmt: skip
        self.numbers = np.array([self._row(cls, columns) for cls in classes], dtype=np.int64)
        self._was = self.numbers[:, [_USED, _FREED]].copy()

    @staticmethod
    def _row(cls: Blocks, columns: tuple[Column, ...]) -> list[int]:
        space = cls.space
        cls.free.reserve(space)
        wide, lost = cls.count.data.dtype.itemsize > 1, cls.lost.data.shape[1] * 8
        where = [_address(cls.columns[column.name]) for column in columns]
        return [
            cls.capacity, cls.keys.n, space, _address(cls.keys), _address(cls.count), wide,
            _address(cls.lost), lost, _address(cls.free), cls.free.n, 0, *where,
        ]  # fmt: skip

    def changed(self) -> list[tuple[int, tuple[int, int]]]:
        """(class, (blocks in use or free, free ones)) where that is not what it was."""
        now = self.numbers[:, [_USED, _FREED]]
        sizes = np.flatnonzero((now != self._was).any(axis=1)).tolist()
        self._was = now
        return [(size, (int(now[size, 0]), int(now[size, 1]))) for size in sizes]


def _address(grown: Grow) -> int:
    data = grown.data
    if not (data.flags.writeable and data.flags.c_contiguous):
        raise ValueError("a pool's arrays are to be written to")
    return int(data.__array_interface__["data"][0])


def _grouped(rows: I64, keys: npt.NDArray[Any]) -> tuple[I64, I64]:
    """(order by row and key, where the groups of one row and key begin in it)."""
    if keys.dtype.itemsize <= 4 and int(rows.max()) < 1 << 31:  # one sort of both
        both = (rows.astype(np.int64) << 32) + keys
        order = np.argsort(both, kind="stable")  # rows are often in order: nearly no work
        return order, group_starts(both[order])
    order = np.lexsort((keys, rows))
    r, k = rows[order], keys[order]
    fresh = np.ones(len(order), dtype=bool)
    fresh[1:] = (r[1:] != r[:-1]) | (k[1:] != k[:-1])
    return order, fresh.nonzero()[0]
