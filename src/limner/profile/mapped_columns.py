"""Many users' percentiles, places, ties and topics at once, from the maps that hold them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from limner.events.arrays import Vocabulary
from limner.events.batch import F64, I64, Bool
from limner.events.matching import Column, numbers
from limner.profile.events import TARGET
from limner.profile.facet import duration
from limner.profile.facets.keyed import keys_of
from limner.profile.facets.numbers import POINT_NAMES, POINTS, Quantiles, middles
from limner.profile.facets.places import Places
from limner.profile.facets.social import Ties
from limner.profile.facets.text import Topics, told
from limner.profile.merge import group_starts
from limner.profile.offered import key_words, offered, path_of, spread, sums
from limner.profile.users import Keyed, Offer, SlotColumn, Users


@offered.register
def _(facet: Quantiles, users: Users) -> Offer:
    @cache
    def found() -> tuple[Bool, F64]:
        """(who has any number, the percentiles of each user, (users, points))."""
        owner, keys, values = users.entries(facet.name)
        order = np.lexsort((keys, owner))
        owner, keys, count = owner[order], keys[order], values["count"][order].astype(np.int64)
        entries = np.bincount(owner, minlength=len(users))
        starts, whole = np.cumsum(entries) - entries, sums(users, owner, count)
        upto = np.append(0, np.cumsum(count))
        within = upto[1:] - upto[starts][owner]
        known = entries > 0
        out = np.zeros((len(users), len(POINTS)))
        for place, point in enumerate(POINTS):
            before = within <= point * (whole[owner] - 1)
            at = starts + np.bincount(owner[before], minlength=len(users))
            out[known, place] = middles(keys[at[known]].astype(np.int64))
        return known, out

    def read() -> SlotColumn:
        n, newest = users.fixed(facet.name, "n", "t")
        known = users.state.pools[facet.name].counts(users.rows) > 0
        sure = users.confidence(n, newest)
        return SlotColumn(known, None, n, newest, sure, facet.name, keyed, names)

    def keyed(key: str) -> Mapping[str, Column]:
        known, points = found()
        place = names.code(key)
        value = points[:, place] if place >= 0 else np.zeros(len(users))
        return {"": replace(numbers(value, known), present=known & (place >= 0))}

    names = Vocabulary(POINT_NAMES)
    return {path_of(facet.config): read}


@offered.register
def _(facet: Places, users: Users) -> Offer:
    config = facet.config
    half = duration(config.half_life)
    words = key_words(keys_of(config), users.vocabulary)

    @cache
    def shares() -> tuple[I64, npt.NDArray[Any], F64]:
        """(users, places, their shares at home hours and at all hours)."""
        owner, keys, values = users.entries(facet.name)
        (newest,) = users.fixed(facet.name, "t")
        return owner, keys, facet.shares_of(values, newest[owner], owner, len(users))

    def column(value: Column | None, keyed: Keyed | None) -> SlotColumn:
        n, newest = users.fixed(facet.name, "n", "t")
        sure = users.confidence(n, newest, half)
        return SlotColumn(n > 0, value, n, newest, sure, facet.name, keyed, words)

    def keyed(key: str) -> Mapping[str, Column]:
        (n,) = users.fixed(facet.name, "n")
        owner, keys, share = shares()
        mine = (keys == words.code(key)).nonzero()[0]
        return {"": spread(users, owner[mine], share[mine, 1], n > 0)}

    def home() -> SlotColumn:
        owner, keys, share = shares()
        at_home = sums(users, owner, share[:, 0])[owner] > 0
        most = np.where(at_home, share[:, 0], share[:, 1])
        # ties as `read` has them: by the whole day, then by name
        order = np.lexsort((_name_order(words, keys), -share[:, 1], -most, owner))
        first = order[group_starts(owner[order])]
        codes, known = np.full(len(users), -1, dtype=np.int32), np.zeros(len(users), dtype=bool)
        codes[owner[first]], known[owner[first]] = keys[first], True
        return column(Column("text", codes, known, words), None)

    return {
        path_of(config): lambda: column(None, keyed),
        path_of(config, facet.name + "_home"): home,
    }


def _name_order(words: Vocabulary, codes: npt.NDArray[Any]) -> I64:
    """Numbers for these codes that are ordered like their texts."""
    different, inverse = np.unique(codes, return_inverse=True)
    texts = [words.values[code] for code in different.tolist()]
    rank = np.empty(len(texts), dtype=np.int64)
    rank[sorted(range(len(texts)), key=texts.__getitem__)] = np.arange(len(texts))
    return rank[inverse]


@offered.register
def _(facet: Ties, users: Users) -> Offer:
    half = duration(facet.config.half_life)
    words = key_words(keys_of(facet.config, TARGET), users.vocabulary)

    @cache
    def known() -> Bool:
        """Who is tied to anybody; a user who was erased has no name."""
        owner, keys, values = users.entries(facet.name)
        different, inverse = np.unique(keys, return_inverse=True)
        named = np.array([bool(words.values[code]) for code in different.tolist()], dtype=bool)
        tied = named[inverse] & (facet.strengths(values, users.now) > 0)
        return np.bincount(owner[tied], minlength=len(users)) > 0

    def read() -> SlotColumn:
        n, newest = users.fixed(facet.name, "n", "t")
        sure = users.confidence(n, newest, half)
        return SlotColumn(known(), None, n, newest, sure, facet.name, keyed, words)

    def keyed(key: str) -> Mapping[str, Column]:
        who, values = users.state.pools[facet.name].find(users.rows, words.code(key))
        strength = np.maximum(facet.strengths(values, users.now), 0)
        found = spread(users, who, strength, known())
        return {"": replace(found, present=found.known & (found.values > 0))}

    return {path_of(facet.config): read}


@offered.register
def _(facet: Topics, users: Users) -> Offer:
    source = facet.source
    half = duration(source.config.half_life)
    # the past does not know later topics (law 4)
    model = facet.learned[-1] if facet.learned and facet.learned[-1].at <= users.now else None
    names = list(model.names) if model is not None else []

    @cache
    def shares() -> F64:
        """Lately and in the long run, (2, users, topics)."""
        if model is None:
            return np.zeros((2, len(users), 0))
        owner, keys, values = users.entries(source.name)
        (newest,) = users.fixed(source.name, "t")
        words = key_words(source.keys, users.vocabulary).values
        different, inverse = np.unique(keys, return_inverse=True)
        places = model.places([words[key] for key in different.tolist()])[inverse]
        return facet.shares_of(model, owner, places, values, newest[owner], len(users))

    def known() -> Bool:
        return np.asarray(told(shares()[1]).any(axis=1), dtype=bool)

    def read() -> SlotColumn:
        n, newest = users.fixed(source.name, "n", "t")
        sure, words = users.confidence(n, newest, half), Vocabulary(dict.fromkeys(names))
        return SlotColumn(known(), None, n, newest, sure, source.name, keyed, words)

    def keyed(key: str) -> Mapping[str, Column]:
        nothing = np.zeros(len(users))
        recent, lasting = shares()[:, :, names.index(key)] if key in names else (nothing, nothing)
        there = told(lasting)
        share, lately = (
            replace(numbers(np.where(there, x, 0.0), known()), present=there)
            for x in (lasting, recent)
        )
        other = replace(share, known=np.zeros(len(users), dtype=bool))
        return {
            "": share,
            "weight": share,
            "share": share,
            "recent_share": lately,
            "against_all": other,
        }

    return {path_of(facet.config): read}
