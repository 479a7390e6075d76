"""Law 2, *once*: which rows are new, which repeat an earlier one, which contradict it.

Digests are 128 bits under a secret key, so they are uniform and nobody can choose them; two
that are equal mean the same event.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from limner.events.batch import Bool

U64 = npt.NDArray[np.uint64]
Column = npt.NDArray[np.generic]
Run = tuple[Column, ...]


class SortedRuns:
    """Columns under a uint64 key, in sorted runs that merge as they grow.

    Each run is at least twice as long as the next, so a look-up touches O(log n) of them and an
    added row is merged O(log n) times: no random writes, and small adds stay cheap. Within a
    run, rows of one key keep the order in which they were added.

    >>> runs = SortedRuns()
    >>> runs.add(np.array([7, 3], np.uint64))
    >>> runs.add(np.array([3], np.uint64))
    >>> runs.count(np.array([3, 4], np.uint64)).tolist()
    [2, 0]
    """

    __slots__ = ("runs",)

    def __init__(self) -> None:
        self.runs: list[Run] = []

    def __len__(self) -> int:
        return sum(len(run[0]) for run in self.runs)

    def add(self, key: U64, *columns: Column) -> None:
        """Add rows; every call gives the same number of columns, of the same types."""
        if not len(key):
            return
        order = np.argsort(key)
        ordered = key[order]
        if _repeats(ordered):
            run = sorted_run((key, *columns))
        else:
            run = (ordered, *(column[order] for column in columns))
        while self.runs and len(self.runs[-1][0]) < 2 * len(run[0]):
            run = sorted_run(
                tuple(np.concatenate(pair) for pair in zip(self.runs.pop(), run, strict=True))
            )
        self.runs.append(run)

    def count(self, key: U64) -> npt.NDArray[np.int64]:
        """How many rows each key has."""
        total = np.zeros(len(key), np.int64)
        for run in self.runs:
            total += np.searchsorted(run[0], key, "right") - np.searchsorted(run[0], key, "left")
        return total

    def rows(self, keys: U64) -> list[Run]:
        """The rows of these keys, no key twice: those of each run that has some."""
        found = []
        for run in self.runs:
            starts, stops = (np.searchsorted(run[0], keys, side) for side in ("left", "right"))
            sizes = stops - starts
            if sizes.any():
                before = np.cumsum(sizes) - sizes
                at = np.repeat(starts - before, sizes) + np.arange(sizes.sum())
                found.append(tuple(column[at] for column in run))
        return found

    def keep(self, masks: list[Bool]) -> None:
        """Keep only the rows under each run's mask."""
        runs = [
            tuple(column[mask] for column in run)
            for run, mask in zip(self.runs, masks, strict=True)
        ]
        self.runs = [run for run in runs if len(run[0])]


class Seen:
    """The digests in a log, each with the check of its content; 24 bytes a row.

    `base` are runs that lie elsewhere, in mapped files for instance; what is added is kept here.
    """

    __slots__ = ("_runs", "base")

    def __init__(self, base: Sequence[Run] = ()) -> None:
        self.base = list(base)
        self._runs = SortedRuns()

    def __len__(self) -> int:
        return len(self._runs) + sum(len(run[0]) for run in self.base)

    def sift(self, digest: pa.Array, check: pa.Array) -> tuple[Bool, Bool]:
        """(kept, conflict) of a batch, as in `Appended`; nothing is added.

        Raises ValueError if a digest is null: a row without identity cannot be told from a
        repeat.
        """
        if digest.null_count:
            raise ValueError("every row of a batch needs a digest; privacy.admit gives it one")
        high, low = halves(digest)
        checks = checks_of(check)
        kept, conflict = np.zeros(len(high), bool), np.zeros(len(high), bool)
        if not len(high):
            return kept, conflict
        order = np.argsort(high)  # several times faster than a stable order
        if _repeats(high[order]):  # rows of one digest are to stay in batch order
            order = np.lexsort((low, high))
        high, low = high[order], low[order]
        leads = np.ones(len(high), bool)
        leads[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
        leaders = order[leads]
        found, known = self._find(high[leads], low[leads])
        reference = np.where(found, known, checks[leaders])
        conflict[order] = checks[order] != reference[np.cumsum(leads) - 1]
        kept[leaders[~found]] = True
        return kept, conflict

    def has(self, digest: pa.Array) -> Bool:
        """Whether each digest is here; none may be null."""
        return self._find(*halves(digest))[0]

    def add(self, digest: pa.Array, check: pa.Array) -> None:
        """Add rows that `sift` kept; null digests (rows that were forgotten) are left out."""
        if digest.null_count:
            valid = digest.is_valid()
            digest, check = digest.filter(valid), check.filter(valid)
        high, low = halves(digest)
        self._runs.add(high, low, checks_of(check))

    def discard(self, digest: pa.Array) -> None:
        """Forget digests, so that their rows may be added again."""
        gone = Seen()
        gone.add(digest, pa.nulls(len(digest), pa.uint64()))
        # each run is sorted by its first half only, which is all that `_find` asks of a query
        self._runs.keep([~gone._find(run[0], run[1])[0] for run in self._runs.runs])
        for place, run in enumerate(self.base):
            found, _ = gone._find(run[0], run[1])
            if found.any():
                self.base[place] = tuple(column[~found] for column in run)

    def _find(
        self, high: npt.NDArray[np.generic], low: npt.NDArray[np.generic]
    ) -> tuple[Bool, U64]:
        """(found, check) for each digest; sorted queries are the fastest."""
        found = np.zeros(len(high), bool)
        checks = np.zeros(len(high), np.uint64)
        for run_high, run_low, run_check in (*self.base, *self._runs.runs):
            at = np.searchsorted(run_high, high)
            pending = np.flatnonzero(at < len(run_high))
            pending = pending[run_high[at[pending]] == high[pending]]
            while len(pending):  # a second pass only where two digests share their first half
                same = run_low[at[pending]] == low[pending]
                hit, pending = pending[same], pending[~same]
                found[hit], checks[hit] = True, run_check[at[hit]]
                at[pending] += 1
                pending = pending[at[pending] < len(run_high)]
                pending = pending[run_high[at[pending]] == high[pending]]
        return found, checks


def halves(digests: pa.Array) -> tuple[U64, U64]:
    """A `binary(16)` array without nulls as two uint64 arrays: first and second half.

    >>> [half.tolist() for half in halves(pa.array([bytes([1] + [0] * 14 + [2])], pa.binary(16)))]
    [[72057594037927936], [2]]
    """
    start = digests.offset * 16
    body = digests.buffers()[1] if len(digests) else b""
    pairs = np.frombuffer(body, ">u8", count=2 * len(digests), offset=start if body else 0)
    pairs = pairs.reshape(-1, 2).astype(np.uint64)
    return pairs[:, 0].copy(), pairs[:, 1].copy()


def checks_of(check: pa.Array) -> U64:
    """The `check` column as uint64, 0 where null."""
    check = check.fill_null(0) if check.null_count else check
    values: U64 = check.to_numpy(zero_copy_only=False)
    return values


def _repeats(ordered: U64) -> bool:
    return bool((ordered[1:] == ordered[:-1]).any())


def sorted_run(run: Run) -> Run:
    """A run in order of its first column; rows of one key stay in the order they have."""
    order = np.argsort(run[0], kind="stable")  # near linear on two runs end to end
    return tuple(column[order] for column in run)
