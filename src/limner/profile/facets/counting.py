"""Counts: how often, how recently, at what pace, and when in the day and week."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from limner.errors import ConfigError
from limner.events.batch import DAY, F64
from limner.profile.events import Events
from limner.profile.facet import FacetConfig, Lifted, Slot, View, duration
from limner.profile.facets.keyed import clock_place, keys_of
from limner.profile.merge import Column, Values, decayed
from limner.profile.pool import MapSpec
from limner.profile.words import WEEKDAYS, ago, length, pace, percent


@dataclass(frozen=True, slots=True)
class Count:
    """How many events there are, of each key if one is given."""

    config: FacetConfig

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def columns(self) -> tuple[Column, ...]:
        return ()

    @property
    def map(self) -> MapSpec | None:
        if not self.config.key:
            return None
        columns = (Column("count", "sum", "u4"),)
        return MapSpec(columns, self.config.bound, texts=keys_of(self.config).texts)

    def lift(self, events: Events) -> Lifted:
        if not self.config.key:
            return Lifted(events.chosen(self.config.where), {})
        index, keys = keys_of(self.config).of(events, events.where(self.config.where))
        entries: Values = {"count": np.ones(len(index), dtype=np.uint32)}
        return Lifted(events.unique(index), {}, entries=(index, keys, entries))

    def read(self, view: View, now: int) -> list[Slot]:
        state = view.fixed(self.name)
        n, newest = int(state["n"][0]), int(state["t"][0])
        if not n:
            return []
        if not self.config.key:
            said = self.config.text.format(f"{n:,}") if self.config.text else f"{n:,} events"
            place = view.percentile(self.name, n)
            return [self.config.slot(n, said, n, newest, now, unit="events", percentile=place)]
        keys, values = view.entries(self.name)
        words = keys_of(self.config).names(view)
        found = [(words[key], int(n)) for key, n in zip(keys, values["count"], strict=True)]
        counts = dict(sorted(found, key=lambda pair: (-pair[1], pair[0])))
        text = ", ".join(f"{n:,} × {key.replace('_', ' ')}" for key, n in counts.items())
        error = view.error(self.name, now) or None
        return [self.config.slot(counts, text, n, newest, now, unit="events", error=error)]


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
        name, text = "days_since_" + self.name, ago(now - newest) + known
        return [self.config.slot(days, text, n, newest, now, name=name, unit="days")]


@dataclass(frozen=True, slots=True)
class Frequency:
    """How many events a day at the present pace.

    Of a steady rate r since the first event, A ago, the decayed count S with half-life h is
    r·h/ln 2·(1 − 2^(−A/h)) on average, so the rate is S·ln 2/h ÷ (1 − 2^(−A/h)); A is taken as
    a day at least, since less tells no pace.
    """

    config: FacetConfig

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def columns(self) -> tuple[Column, ...]:
        half = (duration(self.config.half_life),)
        return (Column("first", "min", "i8"), Column("recent", "decay", "f8", 1, half))

    @property
    def map(self) -> None:
        return None

    def lift(self, events: Events) -> Lifted:
        touched = events.chosen(self.config.where)
        return Lifted(touched, {"first": events.time[touched], "recent": np.ones(len(touched))})

    def per_day(self, state: Values, now: int) -> F64:
        """The present pace of each of these states; it means nothing where there are no events."""
        half = duration(self.config.half_life)
        known = np.maximum(now - state["first"].astype(np.float64), DAY)
        faded: F64 = decayed(state, self.columns[1], now)
        per_day: F64 = faded * np.log(2) / half * DAY / (1 - np.exp2(-known / half))
        return per_day

    def read(self, view: View, now: int) -> list[Slot]:
        state = view.fixed(self.name)
        n, newest, first = int(state["n"][0]), int(state["t"][0]), int(state["first"][0])
        if not n:
            return []
        half = duration(self.config.half_life)
        per_day = float(self.per_day(state, now)[0])
        every = f", about every {length((newest - first) / (n - 1))}" if newest > first else ""
        place = view.percentile(self.name, per_day)
        return [
            self.config.slot(
                per_day, f"{pace(per_day)} at the present pace{every}", n, newest, now,
                unit="events a day", half_life=half, percentile=place,
            )
        ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Histogram:
    """Events by hour of the day or by weekday, in the user's own time zone."""

    config: FacetConfig

    def __post_init__(self) -> None:
        self.config.need("key", 'key = "hour"')
        if self.config.key not in ("hour", "weekday"):
            raise ConfigError(
                f"a histogram goes by hour or weekday, not by {self.config.key!r}",
                where=f"facet {self.name!r}",
                mend='write key = "hour" or key = "weekday", or count by a key: kind = "count"',
            )

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
        place = clock_place(events.local_hours[touched], self.config.key)
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
        return [self.config.slot(value, text, n, newest, now, unit="events")]
