"""Affinities: what a user leans to, in a long and a short half-life, and the drift between.

Keywords are an affinity for the words of a text.

Each key holds Σ w·2^(−age/h) for both half-lives; sums of this kind merge exactly (law 1) and
two of them tell a lasting interest from a new one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from limner.events.batch import F64, I64
from limner.profile.events import Events
from limner.profile.facet import Entry, FacetConfig, Lifted, Slot, View, duration
from limner.profile.facets.keyed import Keys, Words, keys_of
from limner.profile.merge import TIME, Column, Values, decayed
from limner.profile.pool import MapSpec
from limner.profile.words import percent, times

SHOWN = 12


@dataclass(frozen=True, slots=True)
class Affinity:
    """Decayed weight per value of an attribute; an event weighs `weights[event_type]`."""

    config: FacetConfig

    def __post_init__(self) -> None:
        if self.config.kind == "affinity":
            self.config.need("key", 'key = "item.category"')

    @property
    def keys(self) -> Keys:
        """What it counts by: words for kind "keywords", else the key."""
        if self.config.kind == "keywords":
            return Words(self.name, tuple(self.config.texts))
        return keys_of(self.config)

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def columns(self) -> tuple[Column, ...]:
        return ()

    @property
    def path(self) -> str:
        """Where the texts of its keys are kept; empty if they are none."""
        return self.keys.texts[0][1] if self.keys.texts else ""

    @property
    def weight(self) -> Column:
        """The entry column of weights: short half-life first."""
        lives = (duration(self.config.short_half_life), duration(self.config.half_life))
        return Column("w", "decay", "f8", 2, lives)

    @property
    def map(self) -> MapSpec:
        return MapSpec((TIME, self.weight), self.config.bound, texts=self.keys.texts)

    def lift(self, events: Events) -> Lifted:
        weights = events.weights(self.config.weights)
        mask = events.where(self.config.where) & (weights != 0)
        index, keys = self.keys.of(events, mask)
        w = np.empty((len(index), 2))
        w[:] = weights[index, None]
        entries: Values = {"t": events.time[index], "w": w}
        return Lifted(events.unique(index), {}, entries=(index, keys, entries))

    def weights_of(self, values: Values, now: int | I64) -> F64:
        """The weights of entries at `now`, (n, 2): short and long."""
        return decayed(values, self.weight, now)

    def weights_now(self, view: View, now: int) -> tuple[I64, F64]:
        """(codes, weights at `now` (n, 2): short and long), heaviest long weight first.

        Weights that differ by no more than rounding are in the order of their texts.
        """
        keys, values = view.entries(self.name)
        weight = self.weights_of(values, now)
        words = self.keys.names(view)
        heaviest = np.abs(weight[:, 1]).max(initial=1e-300)
        rounded = (-np.round(weight[:, 1] / heaviest, 5)).tolist()
        texts = [words[key] for key in keys.tolist()]
        ranked = sorted(zip(rounded, texts, range(len(texts)), strict=True))
        order = [place for _, _, place in ranked]  # few: sorting texts in numpy takes longer
        return keys[order].astype(np.int64), weight[order]

    @property
    def shifts_at(self) -> Literal["shift"]:
        """Its drift is one of shares."""
        return "shift"

    @property
    def rests_on(self) -> str:
        """The facet whose events stand behind the drift: itself."""
        return self.name

    @property
    def drifts(self) -> bool:
        """Whether there is a drift: with two equal half-lives lately is the long run."""
        short, long = self.weight.half_lives
        return short != long

    def drift(self, view: View, now: int) -> float:
        """½ Σ |recent share − lasting share| over the keys: 0 for alike, 1 for nothing shared."""
        _, values = view.entries(self.name)
        return _moved(*_shares(self.weights_of(values, now)))

    def read(self, view: View, now: int) -> list[Slot]:
        state = view.fixed(self.name)
        n, newest = int(state["n"][0]), int(state["t"][0])
        if not n:
            return []
        keys, weight = self.weights_now(view, now)
        shares, total = _shares(weight)
        if not total[1]:
            return []
        words = self.keys.names(view)
        whole = view.whole(self.name)[-1]
        overall = view.totals(self.name, keys)[:, -1] / whole if whole > 0 else np.zeros(len(keys))
        recent, lasting = shares.T

        def entry(i: int) -> Entry:
            return Entry(
                key=words[keys[i]],
                weight=float(weight[i, 1]),
                share=float(lasting[i]),
                recent_share=float(recent[i]),
                against_all=float(lasting[i] / overall[i]) if overall[i] > 0 else None,
            )

        entries = [entry(i) for i in range(min(len(keys), SHOWN))]
        half_life = duration(self.config.half_life)
        drift = _moved(shares, total)
        most = np.argsort(np.round(lasting - recent, 5), kind="stable")[:2].tolist()
        rising = [entry(i) for i in most if recent[i] > 1.5 * lasting[i] and recent[i] > 0.02]
        moved = f"recent weeks differ from the long run by {percent(drift)}"
        if rising:
            moved += f"; rising: {', '.join(entry.key.lower() for entry in rising)}"
        error = view.error(self.name, now) / float(total[1])
        said, label = _sentence(entries), f"{self.config.label}, drift"
        leaning = self.config.slot(
            entries, said, n, newest, now, unit="share", half_life=half_life, error=error
        )
        if not self.drifts:
            return [leaning]
        return [
            leaning,
            self.config.slot(
                drift, moved, n, newest, now, name=self.name + "_drift", label=label, unit="share",
                half_life=duration(self.config.short_half_life),
            ),
        ]  # fmt: skip


def _shares(weight: F64) -> tuple[F64, F64]:
    """(the share of each key (n, 2), the sums (2,)) of what weighs more than nothing."""
    positive = np.maximum(weight, 0)
    total = positive.sum(axis=0)
    return positive / np.maximum(total, 1e-300), total


def _moved(shares: F64, total: F64) -> float:
    return 0.5 * float(np.abs(shares[:, 0] - shares[:, 1]).sum()) if total.all() else 0.0


def _sentence(entries: list[Entry]) -> str:
    """The three or four keys that tell most, with how far above the ordinary they are."""
    said = []
    for entry in entries[:4]:
        lift = entry.against_all
        more = f", {times(lift)} the usual" if lift and lift >= 1.5 else ""
        said.append(f"{entry.key.lower()} ({percent(entry.share)}{more})")
    return ", ".join(said)
