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
BINS = 18 * _BINS_A_DECADE  # 1e-6 to 1e12; what lies outside counts in the outermost bin
_LEAST_SPREAD = 0.2 * _BINS_A_DECADE
_NORMAL = 1.4826  # standard deviations in one median absolute deviation of a normal


class Scales:
    """For each (event type, group of items): how large its values and quantities usually are.

    One histogram of log10(amount) a measure, 16 bins a decade, so a median or spread read from
    it is right within 7.5 %; and the count, mean and sum of squared deviations of the amounts
    themselves. Adding two adds their counts, in any order (it is a monoid). Groups
    are the caller's codes (say, of the item's category), −1 for unknown; they must mean the same
    whenever the same scales are used. Amounts that are not above zero have no logarithm and are
    not in the histograms and not judged. `observe` changes the object; all else leaves it alone.
    """

    __slots__ = ("_counts", "_keys", "_moments", "_rows")

    def __init__(self) -> None:
        self._rows: dict[tuple[str, int], int] = {}
        self._keys: list[tuple[str, int]] = []
        self._counts: I64 = np.zeros((len(MEASURES), 16, BINS), dtype=np.int64)
        self._moments: F64 = np.zeros((len(MEASURES), 16, 3))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Scales) or self._as_dict() != other._as_dict():
            return False
        mine, theirs = self.moments(), other.moments()
        return mine.keys() == theirs.keys() and all(
            np.allclose(mine[key][name], theirs[key][name], rtol=1e-9, atol=0)
            for key in mine
            for name in mine[key]
        )

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
            moments = part._moments[:, : len(part._keys)]
            total._moments[:, rows] = _chan(total._moments[:, rows], moments)
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
            room = np.zeros((len(MEASURES), max(len(self._keys), 2 * have), BINS), dtype=np.int64)
            room[:, :have] = self._counts
            self._counts = room
            moments = np.zeros((len(MEASURES), room.shape[1], 3))
            moments[:, :have] = self._moments
            self._moments = moments
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
        unique, inverse = distinct(pairs, len(types) * span)
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
        middle, limit = robust(self._counts[MEASURES.index(measure)][rows], cut=cut, least=least)
        if np.isinf(limit).all():
            return np.zeros(len(amounts), dtype=bool)
        counted, bins = log_bins(amounts)
        flagged: Bool = (np.abs(bins - middle[inverse]) > limit[inverse]) & counted
        return flagged

    def standard(
        self,
        measure: str,
        rows: npt.NDArray[np.intp],
        inverse: npt.NDArray[np.intp],
        amounts: F64,
        *,
        least: int,
    ) -> F64:
        """(x − μ)/σ of these amounts, μ and σ those of their group so far.

        NaN where there is no amount, in a group of fewer than `least` (and 2) observations, and
        in one whose amounts are all the same.
        """
        n, mean, squares = self._moments[MEASURES.index(measure), rows].T
        known = (n >= max(least, 2)) & (squares > 0)
        deviation = np.sqrt(np.where(known, squares, 1.0) / np.maximum(n, 1.0))
        scale = np.where(known, deviation, np.nan)
        z: F64 = (amounts - mean[inverse]) / scale[inverse]
        return z

    def moments(self) -> dict[tuple[str, int], dict[str, tuple[int, float, float]]]:
        """Of each (type, group), and of each measure: (observations, mean, standard deviation)."""
        out: dict[tuple[str, int], dict[str, tuple[int, float, float]]] = {}
        for key, row in self._rows.items():
            for place, measure in enumerate(MEASURES):
                n, mean, squares = self._moments[place, row].tolist()
                if n:
                    out.setdefault(key, {})[measure] = (int(n), mean, float(np.sqrt(squares / n)))
        return out

    def observe(
        self,
        measure: str,
        rows: npt.NDArray[np.intp],
        inverse: npt.NDArray[np.intp],
        amounts: F64,
    ) -> None:
        """Count these amounts; NaN counts nowhere, and what is not above zero in no histogram."""
        given = ~np.isnan(amounts)
        if not given.any():
            return
        place = MEASURES.index(measure)
        counted, bins = log_bins(amounts)
        np.add.at(self._counts[place], (rows[inverse[counted]], bins[counted]), 1)
        own, x = inverse[given], amounts[given]
        n = np.bincount(own, minlength=len(rows)).astype(np.float64)
        mean = np.bincount(own, x, minlength=len(rows)) / np.maximum(n, 1.0)
        squares = np.bincount(own, (x - mean[own]) ** 2, minlength=len(rows))
        added = np.column_stack([n, mean, squares])
        self._moments[place, rows] = _chan(self._moments[place, rows], added)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The state as arrays, for a snapshot: types (text), groups and counts."""
        return {
            "types": np.array([key[0] for key in self._keys], dtype=np.str_),
            "groups": np.array([key[1] for key in self._keys], dtype=np.int64),
            "counts": self._counts[:, : len(self._keys)].copy(),
            "moments": self._moments[:, : len(self._keys)].copy(),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Scales:
        """What `arrays` gave. Raises ValueError if the bins are not these."""
        counts = arrays["counts"]
        if counts.shape != (len(MEASURES), len(arrays["types"]), BINS):
            raise ValueError(f"scales of shape {counts.shape} have other bins than this version")
        scales = cls()
        keys = zip(arrays["types"].tolist(), arrays["groups"].tolist(), strict=True)
        rows = scales._add_keys(keys)
        scales._counts[:, rows] = counts
        scales._moments[:, rows] = arrays["moments"]
        return scales


def log_bins(amounts: F64) -> tuple[Bool, I64]:
    """(which amounts are above zero, the bin of log10 of each)."""
    counted = amounts > 0  # NaN is not
    logs = np.log10(np.where(counted, amounts, 1.0))
    bins = np.floor((logs - _FIRST_DECADE) * _BINS_A_DECADE).astype(np.int64)
    return counted, np.clip(bins, 0, BINS - 1)


def robust(counts: I64, *, cut: float, least: int) -> tuple[I64, F64]:
    """(median, furthest distance from it that is usual) of each histogram of bins, in bins.

    `counts` is (histograms, BINS); the distance is `cut` robust standard deviations, as in
    `Scales.outliers`, infinite for fewer than `least` observations.
    """
    if len(counts) == 1:
        return _robust_one(counts[0], cut=cut, least=least)
    below = np.cumsum(counts, axis=1)
    n = below[:, -1]
    if n.max(initial=0) < least:
        return np.zeros(len(counts), dtype=np.int64), np.full(len(counts), np.inf)
    middle: I64 = (below >= (n[:, None] + 1) // 2).argmax(axis=1)
    # The first d for which half of the observations lie within d bins of the median is the MAD;
    # the further, the more, so it is found by halving.
    padded = np.concatenate([np.zeros((len(counts), 1), dtype=np.int64), below], axis=1)
    row, half = np.arange(len(counts)), (n + 1) // 2
    spread, beyond = np.zeros(len(counts), dtype=np.int64), np.full(len(counts), BINS)
    while (spread < beyond).any():
        reach = (spread + beyond) // 2
        high = np.minimum(middle + reach + 1, BINS)
        enough = padded[row, high] - padded[row, np.maximum(middle - reach, 0)] >= half
        beyond = np.where(enough, reach, beyond)
        spread = np.where(enough, spread, np.minimum(reach + 1, beyond))
    limit = cut * _NORMAL * np.maximum(spread, _LEAST_SPREAD)
    return middle, np.where(n >= least, limit, np.inf)


def _robust_one(counts: I64, *, cut: float, least: int) -> tuple[I64, F64]:
    """`robust` of one histogram, as a live event asks for it, with few numpy calls."""
    below = np.append(0, counts.cumsum())
    n = int(below[-1])
    if n < least:
        return np.zeros(1, dtype=np.int64), np.full(1, np.inf)
    middle, half = int(below[1:].searchsorted((n + 1) // 2)), (n + 1) // 2
    spread, beyond = 0, BINS
    while spread < beyond:
        reach = (spread + beyond) // 2
        within = below[min(middle + reach + 1, BINS)] - below[max(middle - reach, 0)]
        spread, beyond = (spread, reach) if within >= half else (reach + 1, beyond)
    limit = cut * _NORMAL * max(spread, _LEAST_SPREAD)
    return np.array([middle], dtype=np.int64), np.array([limit])


def distinct(codes: I64, span: int) -> tuple[I64, npt.NDArray[np.intp]]:
    """`np.unique` with its inverse, for codes in [0, span): without sorting where span is small."""
    if span > 4 * len(codes) + 1024:
        return np.unique(codes, return_inverse=True)
    used = np.zeros(span, dtype=bool)
    used[codes] = True
    unique = np.flatnonzero(used)
    places = np.zeros(span, dtype=np.intp)
    places[unique] = np.arange(len(unique))
    return unique, places[codes]


def _chan(a: F64, b: F64) -> F64:
    """Two lots of (n, mean, sum of squared deviations), (…, 3), as one.

    Chan, Golub and LeVeque (1979): M2 = M2a + M2b + δ²·na·nb/n.
    """
    n = a[..., 0] + b[..., 0]
    whole = np.maximum(n, 1.0)
    delta = b[..., 1] - a[..., 1]
    mean = a[..., 1] + delta * b[..., 0] / whole
    squares = a[..., 2] + b[..., 2] + delta**2 * a[..., 0] * b[..., 0] / whole
    return np.stack([n, mean, squares], axis=-1)
