"""Declared attributes: what a user (or the product) says of them; the last word holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from limner.events.batch import PROPERTY, plain_text
from limner.events.raw import EXPIRES, USER
from limner.profile.events import Events
from limner.profile.facet import FacetConfig, Lifted, Slot, View
from limner.profile.merge import POSITION, TIME, Column, Values
from limner.profile.pool import MapSpec

VALUES = "declared.value"
NAMES = "declared.name"
RESERVED = "$"
"""What names of attributes begin with that are choices of the user, and no slots."""


@dataclass(frozen=True, slots=True)
class Declared:
    """A register per attribute: the value with the greatest (time, position)."""

    config: FacetConfig

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def columns(self) -> tuple[Column, ...]:
        return ()

    @property
    def map(self) -> MapSpec:
        columns = (TIME, POSITION, Column("value", "latest", "i4"))
        texts = (("key", NAMES), ("value", VALUES))
        return MapSpec(columns, self.config.bound, keep="newest", texts=texts)

    def lift(self, events: Events) -> Lifted:
        codes, values = events.codes("event_type")
        if USER not in values:
            return Lifted(np.empty(0, dtype=np.int64), {})
        touched = np.flatnonzero(codes == values.index(USER))
        names, texts = events.vocabulary(NAMES), events.vocabulary(VALUES)
        index, keys, words = [], [], []
        if len(touched):
            for attribute in events.properties:
                if attribute == EXPIRES:
                    continue
                found, given = events.codes(PROPERTY + attribute)
                rows = touched[found[touched] >= 0]
                if len(rows):
                    index.append(rows)
                    keys.append(np.full(len(rows), names.encode([attribute])[0]))
                    words.append(
                        texts.translate(found[rows], [plain_text(value) or "" for value in given])
                    )
        if not index:
            return Lifted(touched, {})
        rows = np.concatenate(index)
        entries: Values = {
            "t": events.time[rows],
            "p": events.position[rows],
            "value": np.concatenate(words),
        }
        return Lifted(touched, {}, entries=(rows, np.concatenate(keys), entries))

    def read(self, view: View, now: int) -> list[Slot]:
        keys, values = view.entries(self.name)
        names, texts = view.vocabulary(NAMES).values, view.vocabulary(VALUES).values
        slots = []
        for index in np.argsort([names[key] for key in keys]).tolist():
            attribute, text = names[keys[index]], texts[values["value"][index]]
            if attribute.startswith(RESERVED):
                continue
            said_at = int(values["t"][index])
            slots.append(
                self.config.slot(
                    text,
                    text,
                    1,
                    said_at or None,
                    now,
                    name=attribute,
                    label=attribute.replace("_", " "),
                    sure=20,
                )
            )
        return slots
