"""The newest events of a user, as people and models read them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from limner.events.batch import F64
from limner.profile.events import Events
from limner.profile.facet import FacetConfig, Lifted, Slot, View
from limner.profile.facets.keyed import titles
from limner.profile.merge import POSITION, TIME, Column, Values
from limner.profile.pool import MapSpec
from limner.profile.words import listed

SHOWN = 10

NO_VALUE = -128

I8 = npt.NDArray[np.int8]


def octaves(values: F64) -> I8:
    """What events were worth, to a power of two: ⌊log₂⌋ of each, `NO_VALUE` for none (NaN, ≤ 0).

    A byte an entry, and as fine as models read values.

    >>> octaves(np.array([5.0, 0.5, np.nan, -2.0])).tolist()
    [2, -1, -128, -128]
    """
    known = values > 0  # not so of NaN
    if not known.any():
        return np.full(len(values), NO_VALUE, dtype=np.int8)
    found = np.floor(np.log2(np.where(known, values, 1.0))).clip(-100, 100)
    return np.where(known, found, NO_VALUE).astype(np.int8)


def worths(octave: I8) -> F64:
    """The powers of two behind `octaves`, NaN for none."""
    return np.where(octave == NO_VALUE, np.nan, np.exp2(octave.astype(np.float64)))


@dataclass(frozen=True, slots=True)
class History:
    """The `bound` newest events with an item: entries keyed by (time, position).

    The union of two such sets, cut to the newest `bound`, is the set of the whole, so the merge
    is free of order. The one named "history" is also the model's view of the user.
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
        columns = (
            TIME,
            POSITION,
            Column("w", "latest", "f4", few=True),
            Column("group", "latest", "i4"),
            Column("octave", "latest", "i1"),
        )
        return MapSpec(columns, self.config.bound, key_dtype="u4", unique=False, keep="newest")

    def lift(self, events: Events) -> Lifted:
        weights = events.weights(self.config.weights)
        chosen = events.where(self.config.where) & (weights != 0) & (events.item >= 0)
        touched = chosen.nonzero()[0]
        entries: Values = {
            "t": events.time[touched],
            "p": events.position[touched],
            "w": weights[touched].astype(np.float32),
            "group": (events.group[touched] & 0x7FFFFFFF).astype(np.int32),
            "octave": octaves(events.number("value")[touched]),
        }
        return Lifted(touched, {}, entries=(touched, events.item[touched], entries))

    def read(self, view: View, now: int) -> list[Slot]:
        state = view.fixed(self.name)
        n, newest = int(state["n"][0]), int(state["t"][0])
        if not n:
            return []
        items, values = view.entries(self.name)
        names = view.catalog.ids.values
        # by name where the time is the same, so that it does not show who came first
        times = np.unique(values["t"])[::-1][: 3 * SHOWN]
        some = (values["t"] >= times[-1]).nonzero()[0].tolist()
        newest_first = sorted((-int(values["t"][i]), names[items[i]], int(items[i])) for i in some)
        shown = np.array(list(dict.fromkeys(i for *_, i in newest_first))[:SHOWN], dtype=np.int32)
        ids = [names[item] for item in shown]
        text = listed(titles(view.catalog, shown[:3], now))
        return [self.config.slot(ids, text, n, newest, now, unit="items")]
