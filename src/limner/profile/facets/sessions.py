"""Sessions: visits and baskets, their number, length, size, worth and the time between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from limner.errors import ConfigError
from limner.events.batch import I64, SECOND
from limner.profile.events import Events
from limner.profile.facet import FacetConfig, Lifted, Slot, View, duration
from limner.profile.merge import TIME, Column, Values
from limner.profile.pool import MapSpec
from limner.profile.words import length, money


@dataclass(frozen=True, slots=True)
class Sessions:
    """Sessions of a user: all events of one `group_id`, or what no pause of `gap` parts.

    By group, an entry per group keeps its end. By pause, what keeps the merge free of order is
    an entry per stretch of the clock as long as the gap, with its first and last event: events of
    one stretch lie closer than the gap, so they are of one session, and two neighbouring
    stretches are of one session if the end of one and the start of the next are. Sessions are
    thus joined when they are read, exactly, whatever the order of arrival.

    The newest `bound` entries are kept, and the number of older ones. By pause, older stretches
    are counted as so many sessions as the kept ones make on average; `error` is their share.
    """

    config: FacetConfig

    def __post_init__(self) -> None:
        if self.config.key not in ("", "group_id"):
            raise ConfigError(
                f"sessions cannot be told by {self.config.key!r}",
                where=f"facet {self.name!r}",
                mend='write key = "group_id", or no key for sessions that a pause of `gap` ends',
            )

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def grouped(self) -> bool:
        """Whether events name their session."""
        return self.config.key == "group_id"

    @property
    def gap(self) -> int:
        """The pause that ends a session, µs."""
        return int(duration(self.config.gap))

    @property
    def columns(self) -> tuple[Column, ...]:
        return (Column("first", "min", "i8"), Column("worth", "sum"))

    @property
    def map(self) -> MapSpec:
        if self.grouped:
            return MapSpec((TIME,), self.config.bound, key_dtype="i8", keep="newest")
        # the start, counted from the beginning of the stretch
        start = Column("start", "min", "u4" if self.gap < 1 << 32 else "i8")
        # stretches of two seconds or more are numbered within 4 bytes until 2106
        number = "i4" if self.gap >= 2 * SECOND else "i8"
        return MapSpec((TIME, start), self.config.bound, key_dtype=number, keep="newest")

    def starts_of(self, keys: npt.NDArray[Any], values: Values) -> I64:
        """When the first event of each stretch was, µs."""
        return keys.astype(np.int64) * self.gap + values["start"].astype(np.int64)

    def lift(self, events: Events) -> Lifted:
        mask = events.where(self.config.where)
        if self.grouped:
            mask = mask & (events.group != 0)
        touched = mask.nonzero()[0]
        time = events.time[touched]
        fixed = {"first": time, "worth": events.total(self.config.of)[touched]}
        if self.grouped:
            return Lifted(touched, fixed, entries=(touched, events.group[touched], {"t": time}))
        stretch, start = np.divmod(time, self.gap)
        entries: Values = {"t": time, "start": start.astype(self.map.columns[1].dtype)}
        return Lifted(touched, fixed, entries=(touched, stretch, entries))

    def read(self, view: View, now: int) -> list[Slot]:
        state = view.fixed(self.name)
        n, newest, first = int(state["n"][0]), int(state["t"][0]), int(state["first"][0])
        if not n:
            return []
        keys, values = view.entries(self.name)
        older = float(view.spilled(self.name)[0])
        sessions, error, spans = len(keys) + older, None, np.empty(0, dtype=np.int64)
        if not self.grouped:
            spans = self._spans(keys, values)
            sessions = len(spans) * (1 + older / len(keys))
            error = older / (older + len(keys)) or None
        between = (newest - first) / (sessions - 1) if sessions > 1 else 0.0
        size, worth = n / sessions, float(state["worth"][0]) / sessions
        every = f", about every {length(between)}" if between else ""
        one = "visit" if self.grouped else "session"
        basket = "basket" if self.grouped else self.name
        found = [
            (self.name, self.config.label, sessions, f"{sessions:,.0f}{every}", self.name),
            (f"{basket}_size", "", size, f"{size:.1f} events a {one}", "events"),
        ]
        if worth:
            found.append((f"{basket}_value", "", worth, f"{money(worth)} a {one}", "money"))
        if len(spans):
            dwell = float(spans.mean()) / 1e6
            text = f"{length(dwell * 1e6)} a session on average"
            found.append((f"{basket}_dwell", "", dwell, text, "seconds"))
        return [
            self.config.slot(
                value, text, n, newest, now, name=name, label=label or name.replace("_", " "),
                unit=unit, percentile=view.percentile(name, value), error=error, sure=sessions,
            )
            for name, label, value, text, unit in found
        ]  # fmt: skip

    def _spans(self, keys: npt.NDArray[Any], values: Values) -> I64:
        """How long each session of the kept stretches lasted, µs, oldest first."""
        order = np.argsort(keys)
        starts = self.starts_of(keys, values)[order]
        ends = values["t"][order]
        begins = np.append(True, starts[1:] - ends[:-1] > self.gap).nonzero()[0]
        stops = np.append(begins[1:], len(order)) - 1
        spans: I64 = ends[stops] - starts[begins]
        return spans
