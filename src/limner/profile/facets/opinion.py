"""Opinions: what users say they like or dislike, and the mood of what they write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from limner.events.amend import texts_of as given_texts
from limner.events.batch import F64, I64, PROPERTY, Bool, EventBatch
from limner.events.raw import PROPOSED, RESTS_ON, TOPIC
from limner.profile.events import Events
from limner.profile.facet import FacetConfig, Lifted, Slot, View, duration
from limner.profile.facets.keyed import Column as Named
from limner.profile.facets.keyed import Keys, keys_of, texts_of
from limner.profile.merge import POSITION, TIME, Column, Values
from limner.profile.pool import MapSpec
from limner.profile.sentiment import require, sentiment
from limner.profile.words import listed

OPINIONS: Mapping[str, float] = {
    "like": 1.0,
    "bookmark": 1.0,
    "follow": 1.0,
    "dislike": -1.0,
    "remove_bookmark": 0.0,
    "unfollow": 0.0,
}
"""What an event of each type says of its key; 0 takes back what was said before."""

STARS = ("rating", "review")
"""Types that say it by a number of stars: (stars − 3)/2, within ±1."""

SHOWN = 12


@dataclass(frozen=True, slots=True)
class Preference:
    """What the user said they like or dislike: the last word for each key, from −1 to 1.

    A register per key (the item, if no key is given), so a later dislike supersedes a like at
    once. The newest `bound` of them are kept.
    """

    config: FacetConfig

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def columns(self) -> tuple[Column, ...]:
        return ()

    @property
    def keys(self) -> Keys:
        """What opinions are of."""
        return keys_of(self.config, "item_id")

    @property
    def map(self) -> MapSpec:
        return _register(self.config, self.keys)

    def lift(self, events: Events) -> Lifted:
        return _lifted(events, self.keys, self._said(events), events.where(self.config.where))

    @staticmethod
    def _said(events: Events) -> F64:
        codes, types = events.codes("event_type")
        table = [OPINIONS.get(name, np.nan) for name in types]
        said = np.array([*table, np.nan])[codes]
        by_stars = np.array([name in STARS for name in types] + [False])[codes]
        if by_stars.any():
            said[by_stars] = np.clip((events.number("value")[by_stars] - 3) / 2, -1, 1)
        return said

    def read(self, view: View, now: int) -> list[Slot]:
        return _last_words(self.config, self.keys, view, now)


@dataclass(frozen=True, slots=True)
class Proposed:
    """Topics that a language model takes a user's own texts to be for or against, −1 to 1.

    It reads `$topic` rows, each of one topic and the one text it rests on, and never that text:
    so a replay needs no model. A register per topic: the newest text that says something of it
    supersedes older ones at once. `where` and `texts` say which texts are put to the model.
    """

    config: FacetConfig

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def columns(self) -> tuple[Column, ...]:
        return ()

    @property
    def keys(self) -> Keys:
        """The topics."""
        return Named(PROPERTY + PROPOSED)

    @property
    def map(self) -> MapSpec:
        return _register(self.config, self.keys)

    def lift(self, events: Events) -> Lifted:
        codes, types = events.codes("event_type")
        cites, _ = events.codes(PROPERTY + RESTS_ON)
        mask = np.array([name == TOPIC for name in types] + [False])[codes] & (cites >= 0)
        if not mask.any():  # without learning texts that nobody's state holds
            return Lifted(np.empty(0, dtype=np.int64), {})
        return _lifted(events, self.keys, np.clip(events.number("value"), -1, 1), mask)

    def read(self, view: View, now: int) -> list[Slot]:
        return _last_words(self.config, self.keys, view, now)

    def cited(self, batch: EventBatch, rows: I64) -> I64:
        """Which events of a batch these rows of it rest on."""
        cited = set(given_texts(batch.take(rows), PROPERTY + RESTS_ON))
        digests = batch.array("digest").to_pylist()
        found = [row for row, digest in enumerate(digests) if digest and digest.hex() in cited]
        return np.array(found, dtype=np.int64)


def _register(config: FacetConfig, keys: Keys) -> MapSpec:
    columns = (TIME, POSITION, Column("opinion", "latest", "f4", few=True))
    return MapSpec(columns, config.bound, keep="newest", texts=keys.texts)


def _lifted(events: Events, keys: Keys, said: F64, mask: Bool) -> Lifted:
    """The last words of these events: what each of `mask` says of its key, if anything."""
    index, found = keys.of(events, mask & ~np.isnan(said))
    entries: Values = {
        "t": events.time[index],
        "p": events.position[index],
        "opinion": said[index].astype(np.float32),
    }
    return Lifted(events.unique(index), {}, entries=(index, found, entries))


def _last_words(config: FacetConfig, keys: Keys, view: View, now: int) -> list[Slot]:
    state = view.fixed(config.name)
    n, newest = int(state["n"][0]), int(state["t"][0])
    if not n:
        return []
    found, values = view.entries(config.name)
    names = keys.names(view)
    rows = zip(found, *(values[column] for column in ("t", "p", "opinion")), strict=True)
    said = sorted((-t, -p, names[key], float(opinion)) for key, t, p, opinion in rows)
    kept = [(name, opinion) for _, _, name, opinion in said if opinion and name]
    texts = [
        f"{verb} {listed(few)}"
        for verb, few in (
            ("likes", [name for name, opinion in kept if opinion > 0][:4]),
            ("dislikes", [name for name, opinion in kept if opinion < 0][:4]),
        )
        if few
    ]
    text = "; ".join(texts) or "has taken everything back"
    return [config.slot(dict(kept[:SHOWN]), text, n, newest, now, unit="opinion")]


@dataclass(frozen=True, slots=True)
class Sentiment:
    """The mood of what the user writes, from −1 to 1: a mean in which newer texts count more.

    Each text is judged by its language: English by VADER (Hutto and Gilbert, 2014), Chinese by
    SnowNLP's Bayes model of shopping reviews. Needs the extra `text`.
    """

    config: FacetConfig

    def __post_init__(self) -> None:
        require()

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def columns(self) -> tuple[Column, ...]:
        half = (duration(self.config.half_life),)
        return (Column("mood", "decay", "f8", 1, half), Column("texts", "decay", "f8", 1, half))

    @property
    def map(self) -> None:
        return None

    def lift(self, events: Events) -> Lifted:
        total, count = np.zeros(len(events)), np.zeros(len(events))
        mask = events.where(self.config.where)
        for index, texts in texts_of(events, self.config.texts, mask):
            total[index] += [sentiment(text) for text in texts]
            count[index] += 1
        touched = count.nonzero()[0]
        mood = total[touched] / count[touched]
        return Lifted(touched, {"mood": mood, "texts": np.ones(len(touched))})

    def read(self, view: View, now: int) -> list[Slot]:
        state = view.fixed(self.name)
        n, newest = int(state["n"][0]), int(state["t"][0])
        weight = float(state["texts"][0])
        if not n or not weight:
            return []
        mood = float(state["mood"][0]) / weight
        said = "positive" if mood > 0.3 else "negative" if mood < -0.3 else "neutral"
        place = view.percentile(self.name, mood)
        half = duration(self.config.half_life)
        text = f"mostly {said} in what they write ({mood:+.2f})"
        return [
            self.config.slot(
                mood, text, n, newest, now, unit="mood", half_life=half, percentile=place
            )
        ]
