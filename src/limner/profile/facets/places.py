"""Where users are: places, and the one that is home."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from limner.errors import ConfigError
from limner.events.batch import F64, I64
from limner.profile.cells import MOST, said
from limner.profile.events import Events
from limner.profile.facet import FacetConfig, Lifted, Slot, View, duration
from limner.profile.facets.keyed import keys_of
from limner.profile.merge import TIME, Column, Values, decayed, scaled
from limner.profile.pool import MapSpec
from limner.profile.words import percent

SHOWN = 12
EVENING, MORNING = 19, 8
"""Hours between which people are mostly at home."""


@dataclass(frozen=True, slots=True)
class Places:
    """Decayed weight per place, all events alike; home is the place of evenings and nights.

    A place is what `key` says, or the `cell` of the earth that the two columns `of` lie in.
    Home: the greatest weight of events between 19:00 and 8:00 in the user's own zone, or over
    the whole day where there is none of these.
    """

    config: FacetConfig

    def __post_init__(self) -> None:
        config = self.config
        if not config.cell:
            config.need("key", 'key = "properties.region", or cell = 5 and of = [LAT, LON]')
        elif config.key or len(config.of) != 2 or not 1 <= config.cell <= MOST:
            raise ConfigError(
                f"cell = {config.cell}, key = {config.key!r}, of = {list(config.of)} are no cells",
                where=f"facet {config.name!r}",
                mend=f'write cell (1 to {MOST} letters) and of = ["properties.lat", '
                '"properties.lon"], and no key',
            )

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def columns(self) -> tuple[Column, ...]:
        return ()

    @property
    def weight(self) -> Column:
        """The entry column of weights: at home hours, and at all hours."""
        half = duration(self.config.half_life)
        return Column("w", "decay", "f8", 2, (half, half))

    @property
    def map(self) -> MapSpec:
        texts = keys_of(self.config).texts
        return MapSpec((TIME, self.weight), self.config.bound, texts=texts)

    def shares_of(self, values: Values, newest: I64, owner: I64, users: int) -> F64:
        """The share of each entry at home hours and at all hours, (n, 2), of its `owner`'s whole.

        `newest`: the time of each entry's owner's newest event, which shares do not depend on,
        but which keeps weights from vanishing.
        """
        age = newest - values["t"]
        weight = scaled(values["w"], age, self.weight)
        whole = np.stack([np.bincount(owner, w, users) for w in weight.T], axis=1)
        shares: F64 = np.round(weight / np.maximum(whole[owner], 1e-300), 9)
        return shares

    def lift(self, events: Events) -> Lifted:
        index, keys = keys_of(self.config).of(events, events.where(self.config.where))
        hours = events.local_hours[index] % 24
        w = np.ones((len(index), 2))
        w[:, 0] = (hours >= EVENING) | (hours < MORNING)
        entries: Values = {"t": events.time[index], "w": w}
        return Lifted(events.unique(index), {}, entries=(index, keys, entries))

    def read(self, view: View, now: int) -> list[Slot]:
        state = view.fixed(self.name)
        n, newest = int(state["n"][0]), int(state["t"][0])
        if not n:
            return []
        keys, values = view.entries(self.name)
        nobody = np.zeros(len(keys), dtype=np.int64)
        shares = self.shares_of(values, np.full(len(keys), newest), nobody, 1)
        words = keys_of(self.config).names(view)
        names = [words[key] for key in keys.tolist()]
        ranked = sorted(range(len(keys)), key=lambda i: (-shares[i, 1], names[i]))
        found = {names[i]: float(shares[i, 1]) for i in ranked[:SHOWN]}
        column = 0 if shares[:, 0].any() else 1
        home = max(ranked, key=lambda i: shares[i, column])
        text = ", ".join(f"{name} ({percent(share)})" for name, share in list(found.items())[:4])
        half = duration(self.config.half_life)
        when = "evenings and nights" if column == 0 else "the whole day"
        called = said(names[home]) if self.config.cell else names[home]
        at_home = f"{called}: {percent(float(shares[home, column]))} of {when}"
        whole = float(decayed(values, self.weight, newest)[:, 1].sum())
        error = view.error(self.name, newest) / whole or None
        return [
            self.config.slot(
                found, text, n, newest, now, unit="share", half_life=half, error=error
            ),
            self.config.slot(
                names[home], at_home, n, newest, now, name=self.name + "_home",
                label=f"{self.config.label}, home", half_life=half,
            ),
        ]  # fmt: skip
