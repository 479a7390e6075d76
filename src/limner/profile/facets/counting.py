"""Counts: how often, how recently, when in the day and week, and how varied."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from limner.events.batch import DAY
from limner.profile.events import Events
from limner.profile.facet import FacetConfig, Lifted, Slot, View, confidence
from limner.profile.merge import TIME, Column, Values
from limner.profile.pool import MapSpec
from limner.profile.words import ago, percent

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True, slots=True)
class Tally:
    """How many events there are of each key, for instance of each event type."""

    config: FacetConfig

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def columns(self) -> tuple[Column, ...]:
        return ()

    @property
    def map(self) -> MapSpec:
        columns = (TIME, Column("count", "sum", "u4"))
        return MapSpec(columns, self.config.bound, texts=(("key", self.config.key),))

    def lift(self, events: Events) -> Lifted:
        mask = events.where(self.config.where)
        index, keys = events.keys(self.config.key)
        chosen = mask[index]
        index, keys = index[chosen], keys[chosen]
        entries: Values = {"t": events.time[index], "count": np.ones(len(index), dtype=np.uint32)}
        return Lifted(events.unique(index), {}, entries=(index, keys, entries))

    def read(self, view: View, now: int) -> list[Slot]:
        keys, values = view.entries(self.name)
        if not len(keys):
            return []
        words = view.vocabulary(self.config.key).values
        found = [(words[key], int(n)) for key, n in zip(keys, values["count"], strict=True)]
        counts = dict(sorted(found, key=lambda pair: (-pair[1], pair[0])))
        total, newest = sum(counts.values()), int(values["t"].max())
        return [
            Slot(
                name=self.name,
                section=self.config.section,
                label=self.config.label,
                value=counts,
                text=", ".join(f"{n:,} × {key.replace('_', ' ')}" for key, n in counts.items()),
                confidence=confidence(total, newest, None, now),
                events=total,
                changed_at=newest,
                unit="events",
                facet=self.name,
            )
        ]


@dataclass(frozen=True, slots=True)
class Recency:
    """When the user was first and last seen doing something."""

    config: FacetConfig

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def columns(self) -> tuple[Column, ...]:
        return (Column("first", "min", "i8"),)

    @property
    def map(self) -> None:
        return None

    def lift(self, events: Events) -> Lifted:
        touched = events.chosen(self.config.where)
        return Lifted(touched, {"first": events.time[touched]})

    def read(self, view: View, now: int) -> list[Slot]:
        state = view.fixed(self.name)
        n, newest, first = int(state["n"][0]), int(state["t"][0]), int(state["first"][0])
        if not n:
            return []
        days = (now - newest) / DAY
        known = f"; first seen {ago(now - first)}" if first != newest else ""
        return [
            Slot(
                name="days_since_" + self.name,
                section=self.config.section,
                label=self.config.label,
                value=days,
                text=ago(now - newest) + known,
                confidence=confidence(n, newest, None, now),
                events=n,
                changed_at=newest,
                unit="days",
                facet=self.name,
            )
        ]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Events by hour of the day or by weekday, in the user's own time zone."""

    config: FacetConfig

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def columns(self) -> tuple[Column, ...]:
        return (Column("bins", "sum", "u4", 24 if self.config.key == "hour" else 7),)

    @property
    def map(self) -> None:
        return None

    def lift(self, events: Events) -> Lifted:
        touched = events.chosen(self.config.where)
        hours = events.local_hours[touched]
        # 1970-01-01 was a Thursday, the fourth day of a week that starts on Monday
        place = hours % 24 if self.config.key == "hour" else (hours // 24 + 3) % 7
        return Lifted(touched, {}, {"bins": (place, np.ones(len(touched), dtype=np.uint32))})

    def read(self, view: View, now: int) -> list[Slot]:
        state = view.fixed(self.name)
        n, newest, bins = int(state["n"][0]), int(state["t"][0]), state["bins"][0]
        if not n:
            return []
        if self.config.key == "hour":
            start = int(np.argmax(np.convolve(np.tile(bins, 2)[:26], np.ones(3), "valid")[:24]))
            share = float(np.tile(bins, 2)[start : start + 3].sum() / n)
            text = f"mostly between {start}:00 and {(start + 3) % 24}:00 ({percent(share)})"
            value = {f"{hour:02d}": int(count) for hour, count in enumerate(bins) if count}
        else:
            best = np.argsort(-bins.astype(np.int64), kind="stable")[:2]
            share = float(bins[best].sum() / n)
            names = " and ".join(WEEKDAYS[day] for day in best if bins[day])
            text = f"mostly {names} ({percent(share)})"
            value = {WEEKDAYS[day]: int(count) for day, count in enumerate(bins) if count}
        return [
            Slot(
                name=self.name,
                section=self.config.section,
                label=self.config.label,
                value=value,
                text=text,
                confidence=confidence(n, newest, None, now),
                events=n,
                changed_at=newest,
                unit="events",
                facet=self.name,
            )
        ]


REGISTERS = 256


@dataclass(frozen=True, slots=True)
class Variety:
    """How many different items, by a HyperLogLog sketch of 256 registers.

    Relative standard error 1.04/√256 = 6.5 % (Flajolet et al., 2007), linear counting below
    2.5 × 256; registers merge by maximum, so law 1 holds exactly.
    """

    config: FacetConfig

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def columns(self) -> tuple[Column, ...]:
        return (Column("registers", "max", "u1", REGISTERS),)

    @property
    def map(self) -> None:
        return None

    def lift(self, events: Events) -> Lifted:
        touched = (events.where(self.config.where) & (events.item >= 0)).nonzero()[0]
        hashes = events.catalog.hashes.view[events.item[touched]]
        place = (hashes >> np.uint64(56)).astype(np.int64)
        # rank = leading zeros of the other 56 bits, plus one
        rest = (hashes & np.uint64((1 << 56) - 1)).astype(np.float64)
        rank = np.where(rest > 0, 56 - np.floor(np.log2(np.maximum(rest, 1))), 57)
        return Lifted(touched, {}, {"registers": (place, rank.astype(np.uint8))})

    def read(self, view: View, now: int) -> list[Slot]:
        state = view.fixed(self.name)
        n, newest = int(state["n"][0]), int(state["t"][0])
        if not n:
            return []
        registers = state["registers"][0]
        different = min(estimate(registers), n)
        repeats = 1 - different / n
        return [
            Slot(
                name=self.name,
                section=self.config.section,
                label=self.config.label,
                value=round(different),
                text=f"about {different:,.0f} different items; {percent(repeats)} are repeats",
                confidence=confidence(n, newest, None, now),
                events=n,
                changed_at=newest,
                unit="items",
                percentile=view.percentile(self.name, different),
                error=1.04 / REGISTERS**0.5,
                facet=self.name,
            )
        ]


def estimate(registers: npt.NDArray[np.uint8]) -> float:
    """The number of different things behind HyperLogLog registers (…, 256)."""
    m = registers.shape[-1]
    raw = 0.7213 / (1 + 1.079 / m) * m * m / np.exp2(-registers.astype(np.float64)).sum(-1)
    empty = (registers == 0).sum(-1)
    if raw <= 2.5 * m and empty:
        return float(m * np.log(m / empty))
    return float(raw)
