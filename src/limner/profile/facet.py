"""What a facet is: one measurable aspect of a user, defined once, as a monoid (law 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import exp2, isfinite
from typing import Any, Literal, Protocol

import numpy.typing as npt

from limner.catalog.catalog import Catalog
from limner.errors import ConfigError
from limner.events.arrays import Vocabulary
from limner.events.batch import DAY, F64, I64
from limner.events.rules import bits_of
from limner.profile.events import Events, check_path
from limner.profile.merge import TIME, Column, Values
from limner.profile.pool import MapSpec

Section = Literal["basic", "behaviour", "interests", "value"]
SECTIONS: tuple[Section, ...] = ("basic", "behaviour", "interests", "value")

COUNTED = (Column("n", "sum", "u4"), TIME)
"""Columns that every facet has: how many events support it, and the newest one's time."""


@dataclass(frozen=True, slots=True)
class Lifted:
    """What a batch contributes to one facet.

    `touched`: indices of the events that support it, ascending. `fixed`: its own fixed columns
    for these events. `scattered`: for a wide column of sums or maxima of which an event touches
    one place, (place, value) for these events. `entries`: (event index, key, columns) for its map.
    """

    touched: I64
    fixed: Values
    scattered: Mapping[str, tuple[I64, npt.NDArray[Any]]] = field(default_factory=dict)
    entries: tuple[I64, npt.NDArray[Any], Values] | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a slot that ranks things: its share of the user's whole, and its movement."""

    key: str
    weight: float
    share: float
    recent_share: float
    against_all: float | None = None
    """Share ÷ the share among all users; 1 is ordinary."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One line of a portrait.

    `value` is a number, a text, or a list of entries, in `unit`; `text` says it in plain words.
    `confidence` is n/(n + 5) with n the supporting events, each counted 2^(−age/half-life), the
    age being the newest one's: five fresh events give one half. `percentile` and `tier` place a
    number among all users. Times are µs, half-life is in days.
    """

    name: str
    section: Section
    label: str
    value: Any
    text: str
    confidence: float
    events: int
    changed_at: int | None
    unit: str | None = None
    half_life: float | None = None
    percentile: float | None = None
    tier: str | None = None
    error: float | None = None
    facet: str = ""
    refreshed_at: int | None = None
    """When a slot that is kept from one refresh to the next was read; None for one read now."""
    as_of: int | None = None
    """The log position that it reflects then."""
    model: str | None = None
    """The version of the model that says it; None for what is counted."""
    moved: Mapping[str, float] | None = None
    """How much of the confidence in a model's word each feature brings, the most moving first."""


class View(Protocol):
    """One user's state, as `Facet.read` sees it."""

    def fixed(self, facet: str) -> Values:
        """The facet's fixed columns as arrays of length 1."""
        ...

    def entries(self, facet: str) -> tuple[npt.NDArray[Any], Values]:
        """The keys and columns of the facet's map."""
        ...

    def spilled(self, facet: str) -> F64:
        """Count and sums of the entries that the facet's map let go."""
        ...

    def error(self, facet: str, now: int) -> float:
        """The stated error of the facet's map: what any one key may lack, in weight at `now`."""
        ...

    def vocabulary(self, path: str) -> Vocabulary:
        """The texts behind the codes of a path."""
        ...

    def totals(self, facet: str, keys: npt.NDArray[Any]) -> F64:
        """Among all users: sums of the map's numeric columns for each key, (n, columns)."""
        ...

    def whole(self, facet: str) -> F64:
        """The same over all keys, (columns,)."""
        ...

    def percentile(self, slot: str, value: float) -> float | None:
        """Which share of users have a smaller value; None while unknown."""
        ...

    def facet(self, name: str) -> Facet | None:
        """Another facet of the same state."""
        ...

    @property
    def catalog(self) -> Catalog:
        """The items."""
        ...


class Reader(Protocol):
    """What gives slots: a facet, or a label that a model says."""

    @property
    def name(self) -> str:
        """Unique among them; slots and evidence refer to it."""
        ...

    def read(self, view: View, now: int) -> list[Slot]:
        """The slots at a moment (µs); empty while nothing is known."""
        ...


class Facet(Reader, Protocol):
    """The contract. `limner.testing` ships the tests of law 1 for any implementation."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """Its fixed columns, beside `COUNTED`."""
        ...

    @property
    def map(self) -> MapSpec | None:
        """Its keyed map, if it has one."""
        ...

    def lift(self, events: Events) -> Lifted:
        """What each event contributes; MUST depend on the event and its item version only."""
        ...


@dataclass(frozen=True, slots=True)
class FacetConfig:
    """One `[[facet]]` of a domain file or of limner.toml.

    `where` selects events, `key` names what a keyed facet counts by (`bands` cuts a number into
    ranges for it; `cell` makes a place of two numbers), `of` and `over` the numeric columns summed
    above and below a ratio (`only` and `among` narrow what counts above and below), `texts` the
    columns of text that are read, `reads` the facet whose state a facet without one of its own
    reads, `half_life` (and `short_half_life`) durations such as "30d", `gap` the pause that ends a
    session, `bound` how many keys or events are kept a user, `weights` the worth of each event
    type, `options` what a kind of your own needs, `refresh` when its slots are brought up to date
    (`profile.refresh`).
    """

    name: str
    kind: str
    section: Section
    label: str = ""
    where: Mapping[str, Any] = field(default_factory=dict)
    key: str = ""
    bands: Sequence[float] = ()
    cell: int = 0
    of: Sequence[str] = ("value",)
    over: Sequence[str] = ("1",)
    only: Mapping[str, Any] = field(default_factory=dict)
    among: Mapping[str, Any] = field(default_factory=dict)
    texts: Sequence[str] = ("properties.text", "properties.title", "properties.query")
    reads: str = ""
    half_life: str = "180d"
    short_half_life: str = "14d"
    gap: str = "30m"
    bound: int = 128
    unit: str = ""
    text: str = ""
    weights: Mapping[str, float] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    # not a part of what the state means: a snapshot outlives a change of it
    refresh: str = field(default="on_read", repr=False)

    def check(self) -> None:
        """Raise ConfigError if a setting cannot be understood or means nothing."""
        at = f"facet {self.name!r}"
        if self.section not in SECTIONS:
            raise ConfigError(
                f"section {self.section!r} does not exist",
                where=at,
                mend=f"use one of {', '.join(SECTIONS)}",
            )
        for path in [
            *self.where,
            *self.only,
            *self.among,
            *self.of,
            *self.over,
            *self.texts,
            *([self.key] if self.key else []),
        ]:
            check_path(path, at)
        for condition in (self.where, self.only, self.among):
            if "flags" in condition:
                bits_of(condition["flags"])
        duration(self.half_life, f"{at}, half_life")
        duration(self.short_half_life, f"{at}, short_half_life")
        duration(self.gap, f"{at}, gap")
        if self.bound < 1:
            raise ConfigError(f"bound = {self.bound} keeps nothing", where=at, mend="use 1 or more")
        if list(self.bands) != sorted(set(self.bands)) or not all(map(isfinite, self.bands)):
            raise ConfigError(
                f"bands = {list(self.bands)} are no ascending numbers",
                where=at,
                mend="write where one range ends and the next begins: bands = [5, 10, 20]",
            )
        for name, weight in self.weights.items():
            if not isfinite(weight):
                raise ConfigError(
                    f"weights.{name} = {weight} is no weight", where=at, mend="use a number"
                )
        try:
            self.text.format("1")
        except (IndexError, KeyError, ValueError, AttributeError):
            raise ConfigError(
                f"text = {self.text!r} does not say one number",
                where=at,
                mend="write {} once where the number goes, and {{ for a brace",
            ) from None

    def need(self, setting: str, example: str) -> None:
        """Raise ConfigError if a setting that this kind cannot do without is empty."""
        if not getattr(self, setting):
            raise ConfigError(
                f"a facet of kind {self.kind!r} needs {setting}",
                where=f"facet {self.name!r}",
                mend=f"say it, for instance: {example}",
            )

    def slot(
        self,
        value: Any,
        text: str,
        n: float,
        newest: int | None,
        now: int,
        *,
        name: str = "",
        label: str = "",
        unit: str | None = None,
        half_life: float | None = None,
        percentile: float | None = None,
        tier: str | None = None,
        error: float | None = None,
        sure: float | None = None,
        facet: str = "",
    ) -> Slot:
        """A slot of this facet, resting on `n` events of which the newest is at `newest` (µs).

        `half_life` is in µs. `sure` is the number of supporting things where that is not `n`.
        What is not given is the facet's own.
        """
        return Slot(
            name=name or self.name,
            section=self.section,
            label=label or self.label,
            value=value,
            text=text,
            confidence=confidence(
                n if sure is None else sure, now if newest is None else newest, half_life, now
            ),
            events=int(n),
            changed_at=newest,
            unit=unit or self.unit or None,
            half_life=None if half_life is None else half_life / DAY,
            percentile=percentile,
            tier=tier,
            error=error,
            facet=facet or self.name,
        )


UNITS = {"s": 1.0 / 86_400, "m": 1.0 / 1_440, "h": 1.0 / 24, "d": 1.0, "w": 7.0, "y": 365.25}


@lru_cache(maxsize=1024)
def duration(text: str, where: str = "") -> float:
    """A duration such as "30d", "2w", "12h" in µs; finite and more than nothing.

    >>> duration("2w") == 14 * DAY
    True
    """
    try:
        length = float(text[:-1]) * UNITS[text[-1]] * DAY
        if not (isfinite(length) and length > 0):
            raise ValueError(text)
        return length
    except (KeyError, ValueError, IndexError):
        raise ConfigError(
            f"{text!r} is no duration", where=where, mend='write a number and a unit: "30d", "12h"'
        ) from None


def confidence(n: float, newest: int | None, half_life: float | None, now: int) -> float:
    """n'/(n' + 5), n' = n · 2^(−age/half-life): grows with evidence, fades with its age.

    Without a half-life of its own a slot is taken to fade by half in a year.
    """
    if newest is None or n <= 0:
        return 0.0
    age = max(now - newest, 0)
    effective = float(n) * exp2(-age / (half_life or 365 * DAY))
    return effective / (effective + 5)
