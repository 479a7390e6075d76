"""How a number is spread, and how many different things there are: mergeable summaries."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import numpy as np
import numpy.typing as npt

from limner.events.batch import F64, I64
from limner.profile.events import Events
from limner.profile.facet import FacetConfig, Lifted, Slot, View
from limner.profile.facets.keyed import amounts
from limner.profile.merge import Column, Values
from limner.profile.pool import MapSpec
from limner.profile.words import money, percent

REGISTERS = 256


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean, variance and skewness of a number, from Σx, Σx² and Σx³.

    Plain power sums merge by addition in any order, which running means do not. Their price is
    cancellation: of the variance about (mean ÷ deviation)²·1e-16 is rounding, so a deviation
    below a millionth of the mean reads as none. The variance is the unbiased one (n − 1), the
    skewness m₃/m₂^1.5 (Joanes and Gill, 1998, g₁).
    """

    config: FacetConfig

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def columns(self) -> tuple[Column, ...]:
        return (Column("powers", "sum", "f8", 3),)

    @property
    def map(self) -> None:
        return None

    def lift(self, events: Events) -> Lifted:
        touched, x = amounts(events, self.config)
        return Lifted(touched, {"powers": np.stack([x, x**2, x**3], axis=1)})

    @staticmethod
    def of(state: Values) -> tuple[F64, F64, F64]:
        """(mean, variance, skewness) of each of these states; 0 where they are not known."""
        n = state["n"].astype(np.float64)
        mean, square, cube = (state["powers"] / np.maximum(n, 1)[:, None]).T
        second = square - mean**2
        second = np.where(second < 1e-12 * square, 0.0, second)
        third = cube - 3 * mean * square + 2 * mean**3
        skew = np.divide(third, second**1.5, out=np.zeros(len(n)), where=second > 0)
        return mean, second * n / np.maximum(n - 1, 1), skew

    def read(self, view: View, now: int) -> list[Slot]:
        state = view.fixed(self.name)
        n, newest = int(state["n"][0]), int(state["t"][0])
        if not n:
            return []
        mean, variance, skew = (float(found[0]) for found in self.of(state))
        side = (
            ""
            if abs(skew) < 1
            else ", now and then much more"
            if skew > 0
            else (", now and then much less")
        )
        label = self.config.label or self.name
        slots = (
            ("", label, mean, f"{money(mean)} on average, ± {money(variance**0.5)}{side}"),
            ("_variance", f"{label}, variance", variance, f"{variance:,.3g}"),
            ("_skew", f"{label}, skewness", skew, f"{skew:.2f}"),
        )
        return [
            self.config.slot(
                value, text, n, newest, now, name=self.name + ending, label=called,
                percentile=None if ending else view.percentile(self.name, value),
            )
            for ending, called, value, text in slots
        ]  # fmt: skip


ACCURACY = 0.02
_GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
_LEAST = 1e-9
POINTS = (0.1, 0.25, 0.5, 0.75, 0.9)
POINT_NAMES = tuple(f"p{point * 100:.0f}" for point in POINTS)


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Quantiles of a number within 2 % of their value: DDSketch (Masson, Rim and Lee, 2019).

    A positive x falls into bucket ⌈log_γ(x/1e-9)⌉ with γ = 1.02/0.98, a negative one into its
    mirror image, one nearer to 0 than 1e-9 into bucket 0. Counts of buckets merge by addition. A
    user with more than `bound` buckets (128 of them span a factor of 160) loses the rarest; the
    slot's error then says how far, in ranks, a quantile may be off.
    """

    config: FacetConfig

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def columns(self) -> tuple[Column, ...]:
        return ()

    @property
    def map(self) -> MapSpec:
        return MapSpec((Column("count", "sum", "u4"),), self.config.bound)

    def lift(self, events: Events) -> Lifted:
        touched, x = amounts(events, self.config)
        entries: Values = {"count": np.ones(len(touched), dtype=np.uint32)}
        return Lifted(touched, {}, entries=(touched, buckets(x), entries))

    def read(self, view: View, now: int) -> list[Slot]:
        state = view.fixed(self.name)
        n, newest = int(state["n"][0]), int(state["t"][0])
        keys, values = view.entries(self.name)
        if not len(keys):
            return []
        order = np.argsort(keys)
        counts = values["count"][order].astype(np.int64)
        middle = middles(keys[order].astype(np.int64))
        place = np.searchsorted(np.cumsum(counts), np.array(POINTS) * (counts.sum() - 1), "right")
        found = dict(zip(POINT_NAMES, middle[place].tolist(), strict=True))
        said = (
            f"half are {money(found['p50'])} or less, most between "
            f"{money(found['p10'])} and {money(found['p90'])}"
        )
        missing = max(n - int(counts.sum()), 0) / n
        error = ACCURACY + missing
        return [self.config.slot(found, said, n, newest, now, error=error)]


def buckets(x: F64) -> I64:
    """The bucket of each number."""
    size = np.maximum(np.abs(x), _LEAST)
    index = np.maximum(np.ceil(np.log(size / _LEAST) / log(_GAMMA)), 1)
    return np.where(np.abs(x) < _LEAST, 0, np.sign(x) * index).astype(np.int32)


def middles(keys: I64) -> F64:
    """The number that stands for each bucket: within 2 % of all in it."""
    size = _LEAST * 2 * _GAMMA ** np.abs(keys).astype(np.float64) / (_GAMMA + 1)
    return np.where(keys == 0, 0.0, np.sign(keys) * size)


@dataclass(frozen=True, slots=True)
class Distinct:
    """How many different items (or values of `key`), by a HyperLogLog sketch of 256 registers.

    Relative standard error 1.04/√256 = 6.5 % (Flajolet et al., 2007), linear counting below
    2.5 × 256; registers merge by maximum, so law 1 holds exactly. Only registers that are not 0
    are kept, in a map that holds all 256.
    """

    config: FacetConfig

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def columns(self) -> tuple[Column, ...]:
        return ()

    @property
    def map(self) -> MapSpec:
        return MapSpec((Column("rank", "max", "u1"),), REGISTERS, key_dtype="u1", keep="newest")

    def lift(self, events: Events) -> Lifted:
        index, hashes = events.hashes(self.config.key or "item_id")
        chosen = events.where(self.config.where)[index]
        index, hashes = index[chosen], hashes[chosen]
        register = (hashes >> np.uint64(56)).astype(np.uint8)
        # rank = leading zeros of the other 56 bits, plus one
        rest = (hashes & np.uint64((1 << 56) - 1)).astype(np.float64)
        rank = np.where(rest > 0, 56 - np.floor(np.log2(np.maximum(rest, 1))), 57)
        entries: Values = {"rank": rank.astype(np.uint8)}
        return Lifted(events.unique(index), {}, entries=(index, register, entries))

    def read(self, view: View, now: int) -> list[Slot]:
        state = view.fixed(self.name)
        n, newest = int(state["n"][0]), int(state["t"][0])
        if not n:
            return []
        registers = np.zeros(REGISTERS, dtype=np.uint8)
        keys, values = view.entries(self.name)
        registers[keys] = values["rank"]
        items = self.config.key in ("", "item_id")
        different = estimate(registers)
        if items:
            different = min(different, n)
            repeats = f"; {percent(1 - different / n)} are repeats"
        what = "items" if items else "ones"
        return [
            self.config.slot(
                round(different),
                f"about {different:,.0f} different {what}{repeats if items else ''}",
                n, newest, now, unit="items" if items else None,
                percentile=view.percentile(self.name, different), error=1.04 / REGISTERS**0.5,
            )
        ]  # fmt: skip


def estimate(registers: npt.NDArray[np.uint8]) -> float:
    """The number of different things behind HyperLogLog registers (256,)."""
    rest = np.exp2(-registers[registers > 0].astype(np.float64)).sum(keepdims=True)
    return float(estimated(rest, np.array([(registers == 0).sum()]))[0])


def estimated(rest: F64, empty: I64) -> F64:
    """The same of many: Σ 2^(−rank) of each one's filled registers, and how many are empty."""
    m = REGISTERS
    raw = 0.7213 / (1 + 1.079 / m) * m * m / (rest + empty)
    linear = m * np.log(m / np.maximum(empty, 1))
    out: F64 = np.where((raw <= 2.5 * m) & (empty > 0), linear, raw)
    return out
