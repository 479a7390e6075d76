"""Slots of many users at once, for the kinds of facets that come with Limner.

A facet's `read` says what one user's slots are; `offered` says the same in columns, vectorised
for these kinds and one by one for any other. Both come to the same: a property test holds them
together. A kind is added by registering a function for its class.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy  # its parts are loaded when used: opening a store should not wait for them

import limner.profile.mapped_columns  # noqa: F401  # kinds registered there
from limner.events.batch import DAY, F64, I64, Bool
from limner.events.matching import Column, numbers
from limner.profile.facet import duration
from limner.profile.facets.affinity import Affinity
from limner.profile.facets.counting import Count, Frequency, Histogram, Recency
from limner.profile.facets.declared import NAMES, RESERVED, VALUES, Declared
from limner.profile.facets.history import History
from limner.profile.facets.keyed import HOURS, keys_of
from limner.profile.facets.money import PriceLevel, Rate, Sum
from limner.profile.facets.numbers import REGISTERS, Distinct, Moments, estimated
from limner.profile.facets.opinion import Preference, Proposed, Sentiment
from limner.profile.facets.sessions import Sessions
from limner.profile.facets.taste import NEWEST as TASTED
from limner.profile.facets.taste import InterestVector, drift, unit
from limner.profile.merge import NEVER
from limner.profile.offered import (
    key_words,
    number_column,
    offered,
    path_of,
    spread,
    sums,
    vectorised,
)
from limner.profile.users import Offer, SlotColumn, Users
from limner.profile.words import WEEKDAYS


def facet_slots(users: Users, wanted: Collection[str]) -> Offer:
    """The slots of all facets by path.

    Those that can only be read one by one take part only if a path is `wanted` that no other has.
    """
    found: dict[str, Callable[[], SlotColumn]] = {}
    for facet in users.state.facets:
        if vectorised(facet):
            found |= offered(facet, users)
    if not set(wanted) <= found.keys():
        for other in users.state.readers:
            if not vectorised(other):
                found |= offered(other, users)
    return found


@offered.register
def _(facet: History, users: Users) -> Offer:
    def read() -> SlotColumn:
        n, newest = users.fixed(facet.name, "n", "t")
        sure = users.confidence(n, newest)
        return SlotColumn(n > 0, None, n, newest, sure, facet.name, keyed)

    def keyed(item: str) -> Mapping[str, Column]:
        (n,) = users.fixed(facet.name, "n")
        pool = users.state.pools[facet.name]
        who, _ = pool.find(users.rows, users.state.catalog.ids.code(item))
        count = np.bincount(who, minlength=len(users))
        return {"": replace(numbers(count, n > 0), present=count > 0)}

    return {path_of(facet.config): read}


@offered.register
def _(facet: Declared, users: Users) -> Offer:
    pool, config = users.state.pools[facet.name], facet.config

    def read(code: int) -> SlotColumn:
        who, values = pool.find(users.rows, code)
        known = np.zeros(len(users), dtype=bool)
        codes, newest = np.full(len(users), -1, dtype=np.int32), np.full(len(users), NEVER)
        known[who], codes[who], newest[who] = True, values["value"], values["t"]
        words = users.vocabulary(VALUES)
        ones = np.ones(len(users))
        sure = users.confidence(20 * ones, np.where(newest == 0, users.now, newest))
        return SlotColumn(
            known, Column("text", codes, known, words), ones, newest, sure, facet.name
        )

    names = users.vocabulary(NAMES).values
    return {
        path_of(config, name): partial(read, code)
        for code, name in enumerate(names)
        if name and not name.startswith(RESERVED)
    }


@offered.register
def _(facet: Count, users: Users) -> Offer:
    def read() -> SlotColumn:
        n, newest = users.fixed(facet.name, "n", "t")
        if not facet.config.key:
            return number_column(facet, users, n, n > 0, n, newest)
        sure, names = (
            users.confidence(n, newest),
            key_words(keys_of(facet.config), users.vocabulary),
        )
        return SlotColumn(n > 0, None, n, newest, sure, facet.name, keyed, names)

    def keyed(key: str) -> Mapping[str, Column]:
        (n,) = users.fixed(facet.name, "n")
        code = key_words(keys_of(facet.config), users.vocabulary).code(key)
        who, values = users.state.pools[facet.name].find(users.rows, code)
        return {"": spread(users, who, values["count"], n > 0)}

    return {path_of(facet.config): read}


@offered.register
def _(facet: Recency, users: Users) -> Offer:
    def read() -> SlotColumn:
        n, newest = users.fixed(facet.name, "n", "t")
        days = (users.now - newest.astype(np.float64)) / DAY
        return number_column(facet, users, days, n > 0, n, newest)

    return {path_of(facet.config, "days_since_" + facet.name): read}


@offered.register
def _(facet: Histogram, users: Users) -> Offer:
    hours = facet.config.key == "hour"
    names = list(HOURS if hours else WEEKDAYS)

    def read() -> SlotColumn:
        n, newest = users.fixed(facet.name, "n", "t")
        sure = users.confidence(n, newest)
        return SlotColumn(n > 0, None, n, newest, sure, facet.name, keyed)

    def keyed(key: str) -> Mapping[str, Column]:
        n, bins = users.fixed(facet.name, "n", "bins")
        count = bins[:, names.index(key)] if key in names else np.zeros(len(users))
        return {"": replace(numbers(count, n > 0), present=count > 0)}

    return {path_of(facet.config): read}


@offered.register
def _(facet: Frequency, users: Users) -> Offer:
    half = duration(facet.config.half_life)

    def read() -> SlotColumn:
        state = users.state_of(facet, "first", "recent")
        n, newest = state["n"], state["t"]
        return number_column(facet, users, facet.per_day(state, users.now), n > 0, n, newest, half)

    return {path_of(facet.config): read}


@offered.register
def _(facet: Moments, users: Users) -> Offer:
    def read(which: int) -> SlotColumn:
        state = users.state_of(facet, "powers")
        n, newest = state["n"], state["t"]
        return number_column(facet, users, facet.of(state)[which], n > 0, n, newest)

    names = (facet.name + ending for ending in ("", "_variance", "_skew"))
    return {path_of(facet.config, name): partial(read, which) for which, name in enumerate(names)}


@offered.register
def _(facet: Distinct, users: Users) -> Offer:
    items = facet.config.key in ("", "item_id")

    def read() -> SlotColumn:
        n, newest = users.fixed(facet.name, "n", "t")
        owner, _, values = users.entries(facet.name)
        empty = REGISTERS - np.bincount(owner, minlength=len(users))
        rest = sums(users, owner, np.exp2(-values["rank"].astype(np.float64)))
        different = estimated(rest, empty)
        different = np.round(np.minimum(different, n) if items else different)
        return number_column(facet, users, different, n > 0, n, newest)

    return {path_of(facet.config): read}


@offered.register
def _(facet: Preference | Proposed, users: Users) -> Offer:
    def read() -> SlotColumn:
        n, newest = users.fixed(facet.name, "n", "t")
        sure = users.confidence(n, newest)
        return SlotColumn(n > 0, None, n, newest, sure, facet.name, keyed)

    def keyed(key: str) -> Mapping[str, Column]:
        (n,) = users.fixed(facet.name, "n")
        code = key_words(facet.keys, users.vocabulary).code(key)
        who, values = users.state.pools[facet.name].find(users.rows, code)
        found = spread(users, who, values["opinion"], n > 0)
        return {"": replace(found, present=found.known & (found.values != 0))}

    return {path_of(facet.config): read}


@offered.register
def _(facet: Sentiment, users: Users) -> Offer:
    def read() -> SlotColumn:
        n, newest, mood, texts = users.fixed(facet.name, "n", "t", "mood", "texts")
        known = (n > 0) & (texts != 0)
        value = np.divide(mood, texts, out=np.zeros(len(users)), where=known)
        return number_column(
            facet, users, value, known, n, newest, duration(facet.config.half_life)
        )

    return {path_of(facet.config): read}


@offered.register
def _(facet: Sessions, users: Users) -> Offer:
    pool, config = users.state.pools[facet.name], facet.config
    basket = "basket" if facet.grouped else facet.name

    def spans() -> tuple[F64, F64]:
        """(sessions of the kept stretches, how long they lasted together, µs) of each user."""
        owner, keys, values = users.entries(facet.name)
        order = np.lexsort((keys, owner))
        owner, ends = owner[order], values["t"][order]
        starts = facet.starts_of(keys, values)[order]
        fresh = np.ones(len(order), dtype=bool)
        fresh[1:] = (owner[1:] != owner[:-1]) | (starts[1:] - ends[:-1] > facet.gap)
        begins = fresh.nonzero()[0]
        stops = np.append(begins[1:], len(order)) - 1 if len(order) else begins
        sessions = np.bincount(owner[begins], minlength=len(users)).astype(np.float64)
        lasted = (ends[stops] - starts[begins]).astype(np.float64)
        return sessions, sums(users, owner[begins], lasted)

    def read(name: str) -> SlotColumn:
        n, newest, worth = users.fixed(facet.name, "n", "t", "worth")
        kept = pool.counts(users.rows).astype(np.float64)
        older = pool.spilled_by(users.rows)[:, 0]
        known = n > 0
        sessions, lasted = kept + older, np.zeros(len(users))
        if not facet.grouped:
            joined, lasted = spans()
            lasted = lasted / np.maximum(joined, 1) / 1e6
            sessions = joined * (1 + older / np.maximum(kept, 1))
        per = np.where(known, np.maximum(sessions, 1), 1.0)
        value: npt.NDArray[Any] = sessions
        if name == f"{basket}_size":
            value = n / per
        elif name == f"{basket}_value":
            value, known = worth / per, known & (worth != 0)
        elif name == f"{basket}_dwell":
            value = lasted
        return number_column(facet, users, value, known, n, newest, sure=sessions)

    names = [facet.name, f"{basket}_size", f"{basket}_value"]
    names += [] if facet.grouped else [f"{basket}_dwell"]
    return {path_of(config, name): partial(read, name) for name in names}


@offered.register
def _(facet: InterestVector, users: Users) -> Offer:
    source = facet.source.name
    newest = np.full(len(users), NEVER)

    @cache
    def directions() -> tuple[I64, F64, F64]:
        """(events, long, short) of each user; the vectors (users, width)."""
        owner, items, values = users.entries(source)
        n = np.bincount(owner, minlength=len(users))
        order = np.lexsort((values["p"], values["t"], owner))
        # the newest of each user, as `read` takes them
        back = np.cumsum(n)[owner[order]] - np.arange(len(order))
        order = order[back <= TASTED]
        owner, times = owner[order], values["t"][order]
        np.maximum.at(newest, owner, times)
        different, column = np.unique(items[order], return_inverse=True)
        vectors = facet.vectors_of(users.state.catalog, different, users.now)
        starts = np.searchsorted(owner, np.arange(len(users) + 1))
        weights = facet.weights_of(times, newest[owner], values["w"][order].astype(np.float64))
        shape = len(users), len(different)
        long, short = (
            unit(np.asarray(scipy.sparse.csr_matrix((w, column, starts), shape=shape) @ vectors))
            for w in weights
        )
        return n, long, short

    def read(ending: str) -> SlotColumn:
        n, long, short = directions()
        known = (long != 0).any(axis=1)
        life = facet.half_lives[1 if ending else 0]
        certain = users.confidence(n, newest, life)
        if ending == "_drift":
            turned = numbers(drift(long, short), known)
            return SlotColumn(known, turned, n, newest, certain, source)
        return SlotColumn(known, None, n, newest, certain, source, keyed)

    def keyed(_: str) -> Mapping[str, Column]:
        nothing = np.zeros(len(users), dtype=bool)  # a vector has no keys
        return {"": replace(numbers(np.zeros(len(users)), nothing), present=nothing)}

    endings = ("", "_short", "_drift")
    return {path_of(facet.config, facet.name + ending): partial(read, ending) for ending in endings}


@offered.register
def _(facet: Affinity, users: Users) -> Offer:
    pool, config = users.state.pools[facet.name], facet.config
    long = duration(config.half_life)

    def totals() -> tuple[I64, npt.NDArray[Any], F64, F64]:
        """(users, keys, positive weights, their sums by user); columns short and long."""
        owner, keys, values = users.entries(facet.name)
        positive = np.maximum(facet.weights_of(values, users.now), 0)
        whole = [sums(users, owner, w) for w in positive.T]
        return owner, keys, positive, np.stack(whole, axis=1)

    @cache
    def known() -> Bool:
        (n,) = users.fixed(facet.name, "n")
        # where no event weighs less than nothing, some weigh more
        if min(config.weights.values(), default=0.0) >= 0:
            return n > 0
        return (n > 0) & pool.positive(users.rows, "w")

    def read() -> SlotColumn:
        n, newest = users.fixed(facet.name, "n", "t")
        sure = users.confidence(n, newest, long)
        names = key_words(facet.keys, users.vocabulary)
        return SlotColumn(known(), None, n, newest, sure, facet.name, keyed, names)

    def keyed(key: str) -> Mapping[str, Column]:
        code = key_words(facet.keys, users.vocabulary).code(key)
        who, values = pool.find(users.rows, code)
        weight = facet.weights_of(values, users.now)
        return _Lazy(
            {
                "weight": lambda: spread(users, who, weight[:, 1], known()),
                "share": lambda: share(who, weight, 1),
                "": lambda: share(who, weight, 1),
                "recent_share": lambda: share(who, weight, 0),
                "against_all": lambda: against_all(who, weight, code),
            }
        )

    def share(who: I64, weight: F64, which: int) -> Column:
        total = totals()[3]
        shares = np.maximum(weight[:, which], 0) / np.maximum(total[who, which], 1e-300)
        return spread(users, who, shares, known())

    def against_all(who: I64, weight: F64, code: int) -> Column:
        own = share(who, weight, 1)
        overall = users.population.share(facet.name, code)
        if overall <= 0:
            return replace(own, known=np.zeros(len(users), dtype=bool))
        return replace(own, values=own.values / overall)

    def drift() -> SlotColumn:
        n, newest = users.fixed(facet.name, "n", "t")
        owner, _, positive, total = totals()
        shares = positive / np.maximum(total[owner], 1e-300)
        apart = np.abs(shares[:, 0] - shares[:, 1])
        moved = 0.5 * sums(users, owner, apart)
        moved = np.where(total[:, 0] > 0, moved, 0.0)
        certain = users.confidence(n, newest, duration(config.short_half_life))
        return SlotColumn(known(), numbers(moved, known()), n, newest, certain, facet.name)

    if not facet.drifts:
        return {path_of(config): read}
    return {path_of(config): read, path_of(config, facet.name + "_drift"): drift}


class _Lazy(dict[str, Any]):
    """Columns that are computed when they are asked for."""

    def __getitem__(self, name: str) -> Column:
        found: Column = super().__getitem__(name)()
        return found


@offered.register
def _(facet: Sum, users: Users) -> Offer:
    half = duration(facet.config.half_life)

    def total() -> SlotColumn:
        n, newest, spent = users.fixed(facet.name, "n", "t", "total")
        return number_column(facet, users, spent, n > 0, n, newest)

    def monthly() -> SlotColumn:
        state = users.state_of(facet, "recent")
        n, newest = state["n"], state["t"]
        return number_column(facet, users, facet.monthly(state, users.now), n > 0, n, newest, half)

    return {
        path_of(facet.config): total,
        path_of(facet.config, facet.name + "_monthly"): monthly,
    }


@offered.register
def _(facet: Rate, users: Users) -> Offer:
    def read() -> SlotColumn:
        n, newest, above, below = users.fixed(facet.name, "n", "t", "a", "b")
        known = (n > 0) & (below != 0)
        value = np.divide(above, below, out=np.zeros(len(users)), where=known)
        return number_column(
            facet, users, value, known, n, newest, duration(facet.config.half_life)
        )

    return {path_of(facet.config): read}


@offered.register
def _(facet: PriceLevel, users: Users) -> Offer:
    def read() -> SlotColumn:
        n, newest = users.fixed(facet.name, "n", "t")
        owner, keys, values = users.entries(facet.name)
        count, log = values["count"].astype(np.float64), values["log"]
        everybody = users.population.totals(facet.name, keys)
        shared = everybody[:, 0] > count
        owner, count, log, everybody = owner[shared], count[shared], log[shared], everybody[shared]
        apart = log - count * everybody[:, 1] / everybody[:, 0]
        counted = sums(users, owner, count)
        total = sums(users, owner, apart)
        known = counted > 0
        level = np.exp(np.divide(total, counted, out=np.zeros(len(users)), where=known))
        return number_column(facet, users, level, known, n, newest)

    return {path_of(facet.config): read}
