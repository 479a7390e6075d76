"""What is a usual amount here: mergeable histograms, and outliers by robust statistics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from limner.events.batch import F64, I32, I64, Bool

MEASURES = ("value", "quantity")
"""The two amounts of an event that have a scale."""

_BINS_A_DECADE = 16
_FIRST_DECADE = -6
_BINS = 18 * _BINS_A_DECADE  # 1e-6 to 1e12; what lies outside counts in the outermost bin
_LEAST_SPREAD = 0.2 * _BINS_A_DECADE
_NORMAL = 1.4826  # standard deviations in one median absolute deviation of a normal


class Scales:
    """For each (event type, group of items): how large its values and quantities usually are.

    One histogram of log10(amount) a measure, 16 bins a decade, so a median or spread read from
    it is right within 7.5 %. Adding two adds their counts, in any order (it is a monoid). Groups
    are the caller's codes (say, of the item's category), −1 for unknown; they must mean the same
    whenever the same scales are used. Amounts that are not above zero have no logarithm and are
    neither counted nor judged. `observe` changes the object; all else leaves it alone.
    """

    __slots__ = ("_counts", "_keys", "_rows")

    def __init__(self) -> None:
        self._rows: dict[tuple[str, int], int] = {}
        self._keys: list[tuple[str, int]] = []
        self._counts: I64 = np.zeros((len(MEASURES), 16, _BINS), dtype=np.int64)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Scales) and self._as_dict() == other._as_dict()

    __hash__ = None  # type: ignore[assignment]  # changes as it observes

    def _as_dict(self) -> dict[tuple[str, int], bytes]:
        return {
            key: self._counts[:, row].tobytes()
            for key, row in self._rows.items()
            if self._counts[:, row].any()
        }

    def __add__(self, other: Scales) -> Scales:
        total = Scales()
        for part in (self, other):
            rows = total._add_keys(part._keys)
            total._counts[:, rows] += part._counts[:, : len(part._keys)]
        return total

    def _add_keys(self, keys: Iterable[tuple[str, int]]) -> npt.NDArray[np.intp]:
        rows = []
        for key in keys:
            row = self._rows.get(key)
            if row is None:
                row = self._rows[key] = len(self._keys)
                self._keys.append(key)
            rows.append(row)
        have = self._counts.shape[1]
        if len(self._keys) > have:
            room = np.zeros((len(MEASURES), max(len(self._keys), 2 * have), _BINS), dtype=np.int64)
            room[:, :have] = self._counts
            self._counts = room
        return np.asarray(rows, dtype=np.intp)

    def places(
        self, types: Sequence[str], type_codes: I32, groups: npt.NDArray[np.integer[Any]]
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Where each event belongs: (rows of this batch, index into them by event).

        `type_codes` index `types` and must not be negative.
        """
        low = int(groups.min(initial=-1))
        span = int(groups.max(initial=-1)) - low + 1
        pairs = type_codes.astype(np.int64) * span + (groups - low)
        unique, inverse = np.unique(pairs, return_inverse=True)
        keys = [(types[pair // span], pair % span + low) for pair in unique.tolist()]
        return self._add_keys(keys), inverse

    def outliers(
        self,
        measure: str,
        rows: npt.NDArray[np.intp],
        inverse: npt.NDArray[np.intp],
        amounts: F64,
        *,
        cut: float,
        least: int,
    ) -> Bool:
        """Amounts further than `cut` robust standard deviations from their group's median.

        On the log scale; one deviation is 1.4826 times the median absolute deviation, which is
        taken as at least 0.2 decades, since where nearly all buy exactly one the deviation is 0
        (so with cut 3.5 only what is over 11 times the median, or under a eleventh, can be
        flagged). Nothing is flagged in a group of fewer than `least` observations. The rule is
        Iglewicz and Hoaglin's modified z-score (1993), whose usual cut is 3.5.
        """
        if np.isnan(amounts).all():  # most events have no quantity: nothing to judge
            return np.zeros(len(amounts), dtype=bool)
        counts = self._counts[MEASURES.index(measure)][rows]
        below = np.cumsum(counts, axis=1)
        n = below[:, -1]
        if n.max(initial=0) < least:
            return np.zeros(len(amounts), dtype=bool)
        middle = (below >= (n[:, None] + 1) // 2).argmax(axis=1)
        # Observations within d bins of the median, for every d: the first d to hold half is MAD.
        padded = np.concatenate([np.zeros((len(rows), 1), dtype=np.int64), below], axis=1)
        reach = np.arange(_BINS)
        high = np.minimum(middle[:, None] + reach + 1, _BINS)
        low = np.maximum(middle[:, None] - reach, 0)
        within = np.take_along_axis(padded, high, 1) - np.take_along_axis(padded, low, 1)
        spread = (within >= (n[:, None] + 1) // 2).argmax(axis=1)
        limit = cut * _NORMAL * np.maximum(spread, _LEAST_SPREAD)
        limit = np.where(n >= least, limit, np.inf)
        counted, bins = _bins(amounts)
        flagged: Bool = (np.abs(bins - middle[inverse]) > limit[inverse]) & counted
        return flagged

    def observe(
        self,
        measure: str,
        rows: npt.NDArray[np.intp],
        inverse: npt.NDArray[np.intp],
        amounts: F64,
    ) -> None:
        """Count these amounts; NaN and amounts not above zero count nowhere."""
        if np.isnan(amounts).all():
            return
        counted, bins = _bins(amounts)
        np.add.at(
            self._counts[MEASURES.index(measure)],
            (rows[inverse[counted]], bins[counted]),
            1,
        )

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The state as arrays, for a snapshot: types (text), groups and counts."""
        return {
            "types": np.array([key[0] for key in self._keys], dtype=np.str_),
            "groups": np.array([key[1] for key in self._keys], dtype=np.int64),
            "counts": self._counts[:, : len(self._keys)].copy(),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Scales:
        """What `arrays` gave. Raises ValueError if the bins are not these."""
        counts = arrays["counts"]
        if counts.shape != (len(MEASURES), len(arrays["types"]), _BINS):
            raise ValueError(f"scales of shape {counts.shape} have other bins than this version")
        scales = cls()
        keys = zip(arrays["types"].tolist(), arrays["groups"].tolist(), strict=True)
        rows = scales._add_keys(keys)
        scales._counts[:, rows] = counts
        return scales


def _bins(amounts: F64) -> tuple[Bool, I64]:
    counted = amounts > 0  # NaN is not
    logs = np.log10(np.where(counted, amounts, 1.0))
    bins = np.floor((logs - _FIRST_DECADE) * _BINS_A_DECADE).astype(np.int64)
    return counted, np.clip(bins, 0, _BINS - 1)
