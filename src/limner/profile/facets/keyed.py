"""By what a keyed facet counts: a column of the event, an attribute of its item, or words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from limner.catalog.catalog import Catalog
from limner.events.batch import F64, I64, Bool, plain_text
from limner.events.tokens import tokens
from limner.profile.cells import cells, inside, spelled
from limner.profile.events import Events
from limner.profile.facet import FacetConfig, View
from limner.profile.words import WEEKDAYS


class Keys(Protocol):
    """What a map's keys are and what they are called."""

    @property
    def texts(self) -> tuple[tuple[str, str], ...]:
        """For `MapSpec.texts`."""
        ...

    def of(self, events: Events, mask: Bool) -> tuple[I64, npt.NDArray[Any]]:
        """(events, keys): which event of `mask` has which key; several keys give several pairs."""
        ...

    def names(self, view: View) -> Sequence[str]:
        """The name of each key, by its number."""
        ...


@dataclass(frozen=True, slots=True)
class Column:
    """Values of a path; those of items are the catalog's texts, others the state's own."""

    path: str

    @property
    def texts(self) -> tuple[tuple[str, str], ...]:
        return (("key", self.path),)

    def of(self, events: Events, mask: Bool) -> tuple[I64, npt.NDArray[Any]]:
        index, keys = events.keys(self.path)
        chosen = mask[index]
        return index[chosen], keys[chosen]

    def names(self, view: View) -> Sequence[str]:
        return view.vocabulary(self.path).values


@dataclass(frozen=True, slots=True)
class Listed:
    """The texts of a list in a column, which is JSON: `["tea", "soap"]`; each counts."""

    path: str

    @property
    def texts(self) -> tuple[tuple[str, str], ...]:
        return (("key", self.path),)

    def of(self, events: Events, mask: Bool) -> tuple[I64, npt.NDArray[Any]]:
        words = events.vocabulary(self.path)
        indices, keys = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int32)]
        for index, texts in texts_of(events, (self.path,), mask) if mask.any() else ():
            found = [list(dict.fromkeys(_read(text))) for text in texts]
            indices.append(np.repeat(index, [len(each) for each in found]))
            keys.append(words.encode([key for each in found for key in each]))
        return np.concatenate(indices), np.concatenate(keys)

    def names(self, view: View) -> Sequence[str]:
        return view.vocabulary(self.path).values


def _read(text: str) -> list[str]:
    """The texts of a list in JSON; none in what is no such list.

    >>> _read('["tea", "soap"]'), _read("tea")
    (['tea', 'soap'], [])
    """
    try:
        return msgspec.json.decode(text, type=list[str])
    except (msgspec.DecodeError, UnicodeError):
        return []


@dataclass(frozen=True, slots=True)
class Clock:
    """The hour of the day or the day of the week, in the user's own zone."""

    part: str

    @property
    def texts(self) -> tuple[tuple[str, str], ...]:
        return ()

    def of(self, events: Events, mask: Bool) -> tuple[I64, npt.NDArray[Any]]:
        index = mask.nonzero()[0]
        return index, clock_place(events.local_hours[index], self.part)

    def names(self, view: View) -> Sequence[str]:
        return HOURS if self.part == "hour" else WEEKDAYS


@dataclass(frozen=True, slots=True)
class Bands:
    """Ranges of a number: below the first bound, between two, from the last one on."""

    path: str
    bounds: tuple[float, ...]

    @property
    def texts(self) -> tuple[tuple[str, str], ...]:
        return ()

    def of(self, events: Events, mask: Bool) -> tuple[I64, npt.NDArray[Any]]:
        number = events.number(self.path)
        index = (mask & ~np.isnan(number)).nonzero()[0]
        return index, np.searchsorted(self.bounds, number[index], side="right").astype(np.int32)

    def names(self, view: View) -> Sequence[str]:
        said = [f"{bound:g}" for bound in self.bounds]
        between = [f"{low} to {high}" for low, high in pairwise(said)]
        return [f"under {said[0]}", *between, f"{said[-1]} and over"]


@dataclass(frozen=True, slots=True)
class Words:
    """The words of some columns of text, without stop words; in Chinese, pairs of characters."""

    facet: str
    paths: tuple[str, ...]

    @property
    def path(self) -> str:
        """Where the state keeps the words."""
        return f"keywords.{self.facet}"

    @property
    def texts(self) -> tuple[tuple[str, str], ...]:
        return (("key", self.path),)

    def of(self, events: Events, mask: Bool) -> tuple[I64, npt.NDArray[Any]]:
        words = events.vocabulary(self.path)
        indices, keys = [], []
        for index, texts in texts_of(events, self.paths, mask):
            found = [tokens(text) for text in texts]
            sizes = np.array([len(each) for each in found], dtype=np.int64)
            indices.append(np.repeat(index, sizes))
            keys.append(words.encode([word for each in found for word in each]))
        if not indices:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int32)
        return np.concatenate(indices), np.concatenate(keys)

    def names(self, view: View) -> Sequence[str]:
        return view.vocabulary(self.path).values


@dataclass(frozen=True, slots=True)
class Cells:
    """Cells of the earth about two columns of degrees, by their geohash."""

    lat: str
    lon: str
    letters: int

    @property
    def path(self) -> str:
        """Where the state keeps the names of cells."""
        return f"cells.{self.letters}"

    @property
    def texts(self) -> tuple[tuple[str, str], ...]:
        return (("key", self.path),)

    def of(self, events: Events, mask: Bool) -> tuple[I64, npt.NDArray[Any]]:
        lat, lon = events.number(self.lat), events.number(self.lon)
        index = (mask & inside(lat, lon)).nonzero()[0]
        found = cells(lat[index], lon[index], self.letters)
        different, inverse = np.unique(found, return_inverse=True)
        names = [spelled(cell, self.letters) for cell in different.tolist()]
        return index, events.vocabulary(self.path).encode(names)[inverse]

    def names(self, view: View) -> Sequence[str]:
        return view.vocabulary(self.path).values


LIST = "[]"
"""What the path of a column of lists ends in."""

HOURS = tuple(f"{hour:02d}" for hour in range(24))


def keys_of(config: FacetConfig, default: str = "") -> Keys:
    """What a facet counts by, as its config says."""
    path = config.key or default
    if config.cell:
        return Cells(config.of[0], config.of[1], config.cell)
    if config.bands:
        return Bands(path, tuple(config.bands))
    if path in ("hour", "weekday"):
        return Clock(path)
    if path.endswith(LIST):
        return Listed(path.removesuffix(LIST))
    return Column(path)


def clock_place(local_hours: I64, part: str) -> I64:
    """The hour of the day, or the weekday from Monday = 0, of hours since 1970."""
    # 1970-01-01 was a Thursday, the fourth day of a week that starts on Monday
    return local_hours % 24 if part == "hour" else (local_hours // 24 + 3) % 7


def texts_of(events: Events, paths: Sequence[str], mask: Bool) -> Iterator[tuple[I64, list[str]]]:
    """Per column of text that has any: (events of `mask`, the text of each)."""
    for path in paths:
        index, codes, values = events.given(path)
        chosen = mask[index]
        if chosen.any():
            texts = [plain_text(values[code]) or "" for code in codes[chosen].tolist()]
            yield index[chosen], texts


def amounts(events: Events, config: FacetConfig) -> tuple[I64, F64]:
    """(events, numbers): those events of `where` of which a number is known, and the number."""
    known = np.zeros(len(events), dtype=bool)
    for path in config.of:
        known |= ~np.isnan(events.number(path))
    index = (events.where(config.where) & known).nonzero()[0]
    return index, events.total(config.of)[index]


def titles(catalog: Catalog, items: npt.NDArray[np.int32], now: int) -> list[str]:
    """What these items are called at a moment: their title, or their id where they have none."""
    names = [catalog.ids.values[item] for item in items.tolist()]
    versions = catalog.versions_at(items, np.full(len(items), now))
    rows, codes = catalog.codes_at("title", versions)
    for row, code in zip(rows.tolist(), codes.tolist(), strict=True):
        names[row] = catalog.words["title"].values[code]
    return names
