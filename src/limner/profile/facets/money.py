"""Value: what a user spends, at which prices, and how they pay less."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from limner.events.batch import DAY, F64
from limner.profile.events import Events
from limner.profile.facet import FacetConfig, Lifted, Slot, View, duration
from limner.profile.facets.keyed import keys_of
from limner.profile.merge import Column, Values, decayed
from limner.profile.pool import MapSpec
from limner.profile.words import money, percent

TIERS = ((0.9, "top"), (0.7, "high"), (0.3, "middle"), (0.0, "low"))
MONTH = 30.44 * DAY


def tier(percentile: float | None) -> str | None:
    """The name of a place among all users: top tenth, high, middle or low third.

    >>> tier(0.95), tier(0.5), tier(None)
    ('top', 'middle', None)
    """
    if percentile is None:
        return None
    return next(name for least, name in TIERS if percentile >= least)


@dataclass(frozen=True, slots=True)
class Sum:
    """The sum of a measure: all of it, and a month's worth at the present rate.

    A decayed sum with half-life h of a steady rate r is r·h/ln 2, so the rate is the sum · ln 2/h.
    """

    config: FacetConfig

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def columns(self) -> tuple[Column, ...]:
        half = duration(self.config.half_life)
        return (Column("total", "sum"), Column("recent", "decay", "f8", 1, (half,)))

    @property
    def map(self) -> None:
        return None

    def lift(self, events: Events) -> Lifted:
        touched = events.chosen(self.config.where)
        amount = events.total(self.config.of)[touched]
        return Lifted(touched, {"total": amount, "recent": amount})

    def monthly(self, state: Values, now: int) -> F64:
        """A month's worth at the present rate of each of these states."""
        rate: F64 = decayed(state, self.columns[1], now) * np.log(2)
        return rate / duration(self.config.half_life) * MONTH

    def read(self, view: View, now: int) -> list[Slot]:
        state = view.fixed(self.name)
        n, newest = int(state["n"][0]), int(state["t"][0])
        if not n:
            return []
        half = duration(self.config.half_life)
        total, monthly = float(state["total"][0]), float(self.monthly(state, now)[0])
        place = view.percentile(self.name, total)
        among = f"; more than {percent(place)} of all" if place is not None else ""
        unit = self.config.unit or "money"
        in_all, a_month = f"{money(total)} in all{among}", f"{money(monthly)} at the present rate"
        rate = self.name + "_monthly"
        return [
            self.config.slot(
                total, in_all, n, newest, now, unit=unit, percentile=place, tier=tier(place)
            ),
            self.config.slot(
                monthly, a_month, n, newest, now, name=rate, label=f"{self.config.label} a month",
                unit=unit, half_life=half, percentile=view.percentile(rate, monthly),
            ),
        ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rate:
    """One decayed sum over another: an average, or a share of the whole.

    Of the events that meet `where`, `of` is summed over those that also meet `only`, `over` over
    those that also meet `among`. So a click-through rate is `only` clicks `among` impressions.
    """

    config: FacetConfig

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def columns(self) -> tuple[Column, ...]:
        half = (duration(self.config.half_life),)
        return (Column("a", "decay", "f8", 1, half), Column("b", "decay", "f8", 1, half))

    @property
    def map(self) -> None:
        return None

    def lift(self, events: Events) -> Lifted:
        mask = events.where(self.config.where)
        above = events.total(self.config.of)
        if self.config.only:
            above = np.where(events.where(self.config.only), above, 0.0)
        below = events.total(self.config.over)
        counts = below != 0
        if self.config.among:
            below = np.where(events.where(self.config.among), below, 0.0)
            counts = (below != 0) | (above != 0)
        touched = (mask & counts).nonzero()[0]
        return Lifted(touched, {"a": above[touched], "b": below[touched]})

    def read(self, view: View, now: int) -> list[Slot]:
        state = view.fixed(self.name)
        n, newest = int(state["n"][0]), int(state["t"][0])
        below = float(state["b"][0])
        if not n or not below:
            return []
        value = float(state["a"][0]) / below
        is_share = self.config.unit == "share"
        said = percent(value) if is_share else money(value)
        place = view.percentile(self.name, value)
        half = duration(self.config.half_life)
        text = self.config.text.format(said) if self.config.text else said
        return [
            self.config.slot(
                value, text, n, newest, now, half_life=half, percentile=place, tier=tier(place)
            )
        ]


@dataclass(frozen=True, slots=True)
class PriceLevel:
    """How dear a user buys within each kind of thing, against what all users pay there.

    Per key n and Σ log(unit price); the level is exp of the n-weighted mean difference between
    the user's and everybody's mean log price. The comparison happens when it is read, so what
    everybody pays may move without any state of the user changing (law 1).
    """

    config: FacetConfig

    def __post_init__(self) -> None:
        self.config.need("key", 'key = "item.category"')

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def columns(self) -> tuple[Column, ...]:
        return ()

    @property
    def map(self) -> MapSpec:
        columns = (Column("count", "sum", "u4"), Column("log", "sum", "f8"))
        return MapSpec(columns, self.config.bound, texts=keys_of(self.config).texts)

    def lift(self, events: Events) -> Lifted:
        amount = events.total(self.config.of)
        quantity = np.nan_to_num(events.number("quantity"), nan=1.0)
        priced = (amount > 0) & (quantity > 0)
        mask = events.where(self.config.where) & priced
        index, keys = keys_of(self.config).of(events, mask)
        entries: Values = {
            "count": np.ones(len(index), dtype=np.uint32),
            "log": np.log(amount[index] / quantity[index]),
        }
        return Lifted(events.unique(index), {}, entries=(index, keys, entries))

    def read(self, view: View, now: int) -> list[Slot]:
        state = view.fixed(self.name)
        n, newest = int(state["n"][0]), int(state["t"][0])
        keys, values = view.entries(self.name)
        count, log = values["count"].astype(np.float64), values["log"]
        everybody = view.totals(self.name, keys)
        shared = everybody[:, 0] > count
        counted = float(count[shared].sum())
        if not counted:
            return []
        usual = everybody[shared, 1] / everybody[shared, 0]
        level = float(np.exp((log[shared] - count[shared] * usual).sum() / counted))
        place = view.percentile(self.name, level)
        if abs(level - 1) < 0.005:
            said = "pays what others pay for the same kinds of things"
        else:
            more = "more" if level > 1 else "less"
            said = f"pays {percent(abs(level - 1))} {more} than others for the same kinds of things"
        return [
            self.config.slot(
                level, said, n, newest, now, unit="ratio", percentile=place, tier=tier(place)
            )
        ]
