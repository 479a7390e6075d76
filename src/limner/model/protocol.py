"""What a model is: something that scores items for a user's history, in parts that add up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from limner.events.batch import F64, I32, I64

F32 = npt.NDArray[np.float32]

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total) during long work."""


@dataclass(frozen=True, slots=True)
class History:
    """One user's interactions, oldest first; arrays of one length n.

    `items`: dense item ids; `times`: µs; `weights`: worth of each event by its type
    (purchase 1, view .2 …); `groups`: equal within a basket or session, −1 for none;
    `positions`: places in the log, −1 if not logged. `now`: the moment of asking, µs. `values`:
    what each event was worth in its unit, NaN where unknown; None where nothing tells. `row`:
    the user's in the live state, −1 for nobody there.
    """

    items: I32
    times: I64
    weights: F64
    groups: I64
    positions: I64
    now: int
    values: F64 | None = None
    row: int = -1

    def __len__(self) -> int:
        return len(self.items)

    def without(self, drop: npt.ArrayLike) -> History:
        """The history as if these entries (indices) had not happened; for reasons."""
        keep = np.ones(len(self), dtype=bool)
        keep[np.asarray(drop, dtype=np.int64)] = False
        return self._where(keep)

    def since(self, first: int) -> History:
        """The history from its entry `first` on."""
        return self._where(slice(first, None))

    def _where(self, keep: npt.NDArray[np.bool_] | slice) -> History:
        return History(
            self.items[keep],
            self.times[keep],
            self.weights[keep],
            self.groups[keep],
            self.positions[keep],
            self.now,
            None if self.values is None else self.values[keep],
            self.row,
        )


@dataclass(frozen=True, slots=True)
class Interactions:
    """Many users' interactions for training: sorted by user, then time, then position.

    User u's rows are `offsets[u]:offsets[u + 1]`. Other arrays as in `History`.
    """

    offsets: I64
    items: I32
    times: I64
    weights: F64
    groups: I64
    positions: I64
    n_items: int
    values: F64 | None = None

    @property
    def n_users(self) -> int:
        """How many users there are, those without rows included."""
        return len(self.offsets) - 1

    def history(self, user: int, now: int, *, last: int | None = None) -> History:
        """What user `user` did before `now` (strictly), at most the `last` newest."""
        start, stop = int(self.offsets[user]), int(self.offsets[user + 1])
        stop = start + int(np.searchsorted(self.times[start:stop], now, side="left"))
        if last is not None:
            start = max(start, stop - last)
        rows = slice(start, stop)
        return History(
            self.items[rows],
            self.times[rows],
            self.weights[rows],
            self.groups[rows],
            self.positions[rows],
            now,
            None if self.values is None else self.values[rows],
        )

    def of(self, users: I64) -> Interactions:
        """Only what these users did; the others have no rows."""
        chosen = np.zeros(self.n_users, dtype=bool)
        chosen[users] = True
        return self.where(np.repeat(chosen, np.diff(self.offsets)))

    def before(self, cutoff: int) -> Interactions:
        """Only what happened before `cutoff` (strictly): no future (law 4)."""
        return self.where(self.times < cutoff)

    def where(self, keep: npt.NDArray[np.bool_]) -> Interactions:
        """Some rows; all users stay."""
        counts = np.add.reduceat(np.append(keep, False).astype(np.int64), self.offsets[:-1]) * (
            np.diff(self.offsets) > 0
        )
        return Interactions(
            np.concatenate([[0], np.cumsum(counts)]),
            self.items[keep],
            self.times[keep],
            self.weights[keep],
            self.groups[keep],
            self.positions[keep],
            self.n_items,
            None if self.values is None else self.values[keep],
        )


@dataclass(frozen=True, slots=True)
class ItemFeatures:
    """Attributes of items as codes: `codes[name][item]`, int32, −1 where unknown.

    `values[name][code]` is the attribute's text; `available[item]` is False for items that
    were deleted or never described and never seen. `vectors[name]`: content vectors of an
    encoder, (n_items, width), 0 where an item has no such content.
    """

    codes: dict[str, I32]
    values: dict[str, list[str]]
    available: npt.NDArray[np.bool_]
    vectors: dict[str, F32] = field(default_factory=dict)

    def take(self, items: I64) -> ItemFeatures:
        """Those of `items`, in that order; −1 for an item of which nothing is known."""
        known = items >= 0
        return ItemFeatures(
            {
                name: np.where(known, codes[items], np.int32(-1))
                for name, codes in self.codes.items()
            },
            self.values,
            known & self.available[items],
            {name: vectors[items] * known[:, None] for name, vectors in self.vectors.items()},
        )


class Model(Protocol):
    """A family of scores. An implementation is immutable between `fit`, `update` and `load`."""

    @property
    def name(self) -> str:
        """The part's name in a score: "frequency", "item_to_item", "sequence", …"""
        ...

    def fit(self, data: Interactions, features: ItemFeatures, *, progress: Progress) -> None:
        """Learn from all of `data`, from nothing. Deterministic for a seed."""
        ...

    def update(self, data: Interactions, features: ItemFeatures, *, progress: Progress) -> None:
        """Learn what `data` adds to what was learned; cheaper than `fit`."""
        ...

    def embed(self, histories: Sequence[History]) -> F32:
        """One vector a user, (n, d); d = 0 if the family has none."""
        ...

    def score(self, histories: Sequence[History], items: I64 | None = None) -> F32:
        """Scores on a scale comparable between users; the higher the better.

        Of all items (n, n_items), or of some of them (n, len(items)): the same up to the rounding
        of float32, and faster where they are few.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write arrays (npy or safetensors) and JSON, never pickle."""
        ...

    def load(self, folder: Path) -> None:
        """Read what `save` wrote. Raises ModelError if it does not fit."""
        ...
