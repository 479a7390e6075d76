"""Where a user stands among all: tier, quintiles, segment and cluster.

They are read against a `Population`: nothing of them is kept a user, so who comes between two
surveys has them too, and a survey changes them for all at once.

Quintiles (Hughes, "Strategic Database Marketing", 1994): by percentile, 5 for the fifth of users
who did it most lately, most often, or for most; users alike are in one quintile, the one that
the middle of them falls in. A segment is named by recency R and the mean FM of the other two
(of those that are known, rounded up at a half): `SEGMENTS` has the table.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy  # its parts are loaded when used: opening a store should not wait for them

from limner.events.arrays import Vocabulary
from limner.events.batch import DAY, F64, I64
from limner.events.matching import Column, numbers
from limner.profile import clusters
from limner.profile.columns import facet_slots
from limner.profile.facet import Section, Slot
from limner.profile.facets.affinity import Affinity
from limner.profile.facets.money import TIERS, tier
from limner.profile.merge import NEVER
from limner.profile.offered import key_words
from limner.profile.population import Cluster, Clusters, Population, PopulationConfig, StateView
from limner.profile.users import Offer, SlotColumn, Users
from limner.profile.words import percent, times

GRADES = Vocabulary([name for _, name in reversed(TIERS)])
"""The tiers in rising order."""

SEGMENTS: Mapping[str, tuple[str, str, str]] = {
    "champions": ("5", "45", "lately, often and for much"),
    "loyal": ("34", "45", "often, and not long ago"),
    "potential loyal": ("45", "23", "lately, and now and then"),
    "new": ("5", "1", "lately, for the first times"),
    "promising": ("4", "1", "not long ago, for the first times"),
    "needs attention": ("3", "3", "in the middle in all of it"),
    "about to sleep": ("3", "12", "seldom, and some time ago"),
    "cannot lose": ("12", "5", "once among the best, long ago"),
    "at risk": ("12", "34", "once a good deal, long ago"),
    "hibernating": ("12", "12", "seldom, and long ago"),
}
"""Segment → the R, the FM, and what it means. Every pair of the two has its segment."""

_NAMES = Vocabulary(SEGMENTS)
_TABLE = np.full((6, 6), -1, dtype=np.int32)
for _name, (_recency, _worth, _) in SEGMENTS.items():
    for _r in _recency:
        for _fm in _worth:
            _TABLE[int(_r), int(_fm)] = _NAMES.code(_name)

MEASURES = ("recency", "frequency", "monetary")
QUINTILES: Mapping[str, tuple[Section, str]] = {
    "recency": ("behaviour", "how lately"),
    "frequency": ("behaviour", "how often"),
    "monetary": ("value", "for how much"),
}

STANDINGS = (
    *(f"{section}.{name}_quintile" for name, (section, _) in QUINTILES.items()),
    "value.tier", "value.rfm", "interests.cluster",
)  # fmt: skip
"""The paths of all slots of standing."""


def everything(users: Users, wanted: Collection[str]) -> Offer:
    """All that can be read of these users, by path: slots of facets, and their standing.

    What can only be read one by one is there if it is `wanted`, or something wanted is not known.
    """
    own = {path for path in wanted if path not in STANDINGS}
    if own != set(wanted):
        own |= set(rests_on(users.population.config))
    found = facet_slots(users, own)
    return {**found, **standing(users, found)}


def rests_on(config: PopulationConfig) -> list[str]:
    """The slots that standing rests on, as far as they are set."""
    paths = [getattr(config, name) for name in (*MEASURES, "interests")]
    return [path for path in paths if path]


def standing(users: Users, offer: Offer) -> Offer:
    """The slots that only all users together give, from the slots that they rest on."""
    known = measures(users, offer)
    out: dict[str, Callable[[], SlotColumn]] = {}
    for name in known:
        out[f"{QUINTILES[name][0]}.{name}_quintile"] = lambda name=name: _quintile(  # type: ignore[misc]
            users, name, known[name]()
        )
    if "monetary" in known:
        out["value.tier"] = lambda: _tier(users, known["monetary"]())
    if "recency" in known and len(known) > 1:
        out["value.rfm"] = lambda: _segment(users, {name: read() for name, read in known.items()})
    found = users.population.clusters
    if found is not None and users.population.config.interests in offer:
        out["interests.cluster"] = lambda: _cluster(users, found, offer)
    return out


def _percentiles(users: Users, measure: str, slot: SlotColumn) -> F64:
    """Where users stand in a measure, the higher the better; NaN where they do not."""
    path: str = getattr(users.population.config, measure)
    assert slot.value is not None
    values = slot.value.values
    if measure == "recency":  # days grow for everybody: they stand as they stood at the survey
        values = values - max(users.now - users.population.at, 0) / DAY
    found = users.population.percentiles(path.partition(".")[2], values)
    return np.where(slot.known, 1 - found if measure == "recency" else found, np.nan)


def quintiles(percentiles: F64) -> F64:
    """1 for the lowest fifth to 5 for the highest; NaN where unknown.

    >>> quintiles(np.array([0.0, 0.21, 0.99, 1.0, np.nan])).tolist()
    [1.0, 2.0, 5.0, 5.0, nan]
    """
    out: F64 = np.minimum(np.floor(5 * percentiles + 1e-9) + 1, 5)
    return out


def _quintile(users: Users, measure: str, slot: SlotColumn) -> SlotColumn:
    found = quintiles(_percentiles(users, measure, slot))
    value = numbers(np.nan_to_num(found), ~np.isnan(found))
    return replace(slot, known=value.known, value=value)


def _tier(users: Users, slot: SlotColumn) -> SlotColumn:
    value = graded(_percentiles(users, "monetary", slot))
    return replace(slot, known=value.known, value=value)


def graded(percentiles: F64) -> Column:
    """Percentiles as tiers."""
    rising = [least for least, _ in reversed(TIERS)]
    codes = np.searchsorted(rising, percentiles, side="right") - 1
    known = ~np.isnan(percentiles)
    return Column("grade", np.where(known, codes, -1).astype(np.int32), known, GRADES)


def _segment(users: Users, slots: Mapping[str, SlotColumn]) -> SlotColumn:
    found = {name: quintiles(_percentiles(users, name, slot)) for name, slot in slots.items()}
    recency = found.pop("recency")
    others = np.stack(list(found.values()))
    given = ~np.isnan(others)
    worth = np.nansum(others, axis=0) / np.where(given.any(axis=0), given.sum(axis=0), np.nan)
    worth = np.floor(worth + 0.5)
    known = ~np.isnan(recency) & ~np.isnan(worth)
    r, fm = (np.where(known, q, 0).astype(np.int64) for q in (recency, worth))
    return _least_sure(list(slots.values()), Column("text", _TABLE[r, fm], known, _NAMES))


def _least_sure(slots: list[SlotColumn], value: Column) -> SlotColumn:
    """A slot that rests on several: as sure as the least, as new as the newest of them."""
    known = np.array([slot.known for slot in slots])
    return SlotColumn(
        value.known,
        value,
        np.where(known, [slot.events for slot in slots], 0).max(axis=0),
        np.where(known, [slot.newest for slot in slots], NEVER).max(axis=0),
        np.where(known, [slot.confidence for slot in slots], 1.0).min(axis=0),
        slots[-1].facet,
    )


def measures(users: Users, offer: Offer) -> dict[str, Callable[[], SlotColumn]]:
    """What reads recency, frequency and worth, as far as they are set and there."""
    config = users.population.config
    return {name: offer[path] for name in MEASURES if (path := getattr(config, name)) in offer}


def habits(users: Users, offer: Offer) -> F64:
    """The three quintiles of each user, (n, 3), NaN where unknown."""
    out = np.full((len(users), 3), np.nan)
    known = measures(users, offer)
    for place, name in enumerate(MEASURES):
        if name in known:
            out[:, place] = quintiles(_percentiles(users, name, known[name]()))
    return out


def interest_shares(users: Users, facet: Affinity, keys: I64) -> clusters.Sparse:
    """The share that each of these keys has in each user's interest, (n, keys); 0 for key −1."""
    owner, found, values = users.entries(facet.name)
    weight = np.maximum(facet.weights_of(values, users.now)[:, 1], 0)
    total = np.bincount(owner, weights=weight, minlength=len(users))
    place = _places(found, keys)
    chosen = place >= 0
    owner = owner[chosen]
    share = weight[chosen] / np.maximum(total[owner], 1e-300)
    return scipy.sparse.csr_array((share, (owner, place[chosen])), shape=(len(users), len(keys)))


def _places(found: npt.NDArray[Any], keys: I64) -> I64:
    """Where each code is among `keys`; −1 if it is not."""
    table = np.full(int(max(found.max(initial=0), keys.max(initial=0))) + 2, -1)
    table[keys] = np.arange(len(keys))
    table[-1] = -1  # where keys of −1 went
    places: I64 = table[found]
    return places


def _codes(words: Vocabulary, found: Clusters) -> I64:
    """The codes of a clustering's keys, −1 for a text that nobody has any more."""
    return words.find(found.keys).astype(np.int64)


def _cluster(users: Users, found: Clusters, offer: Offer) -> SlotColumn:
    facet = next(f for f in users.state.facets if f.name == found.facet)
    assert isinstance(facet, Affinity)
    keys = _codes(key_words(facet.keys, users.vocabulary), found)
    shares = interest_shares(users, facet, keys)
    points = clusters.points_of(shares, habits(users, offer))
    group = clusters.nearest(points, found.centroids)
    slot = offer[users.population.config.interests]()
    names = Vocabulary([cluster.name for cluster in found.groups])
    value = Column("text", np.where(slot.known, group, -1).astype(np.int32), slot.known, names)
    return replace(slot, value=value, keyed=None)


# -- one user's slots -------------------------------------------------------------------------


def slots(view: StateView, population: Population, now: int, read: Iterable[Slot]) -> list[Slot]:
    """The standing of one user, whose slots of facets were `read`; as `standing` of many."""
    config = population.config
    found = {f"{slot.section}.{slot.name}": slot for slot in read}
    known = {name: found[path] for name in MEASURES if (path := getattr(config, name)) in found}
    out: list[Slot] = []
    fifths: dict[str, float] = {}
    for name, slot in known.items():
        place = _place(population, name, slot, now)
        if place is None:
            continue
        fifths[name] = float(min(int(5 * place + 1e-9) + 1, 5))
        section, label = QUINTILES[name]
        text = f"{fifths[name]:.0f} of 5 among all users"
        out.append(
            _slot(f"{name}_quintile", section, label, fifths[name], text, [slot], unit="quintile")
        )
        if name == "monetary":
            grade = tier(place)
            text = f"{grade}, by {slot.label or slot.name}"
            out.append(_slot("tier", "value", "tier", grade, text, [slot], tier=grade))
    others = [q for name, q in fifths.items() if name != "recency"]
    if "recency" in fifths and others:
        worth = int(sum(others) / len(others) + 0.5)
        segment = _NAMES.values[_TABLE[int(fifths["recency"]), worth]]
        text = f"{segment}: {SEGMENTS[segment][2]}"
        out.append(_slot("rfm", "value", "segment", segment, text, [*known.values()]))
    interest = found.get(config.interests)
    if population.clusters is not None and interest is not None:
        out.append(_cluster_slot(view, population.clusters, fifths, interest, now))
    return out


def _place(population: Population, measure: str, slot: Slot, now: int) -> float | None:
    value = float(slot.value)
    if measure == "recency":
        value -= max(now - population.at, 0) / DAY
    found = population.percentile(slot.name, value)
    return 1 - found if found is not None and measure == "recency" else found


def _cluster_slot(
    view: StateView, found: Clusters, fifths: Mapping[str, float], slot: Slot, now: int
) -> Slot:
    facet = view.facet(found.facet)
    assert isinstance(facet, Affinity)
    keys, values = view.entries(facet.name)
    weight = np.maximum(facet.weights_of(values, now)[:, 1], 0)
    place = _places(keys, _codes(key_words(facet.keys, view.vocabulary), found))
    share = weight[place >= 0] / max(float(weight.sum()), 1e-300)
    point = np.zeros((1, found.centroids.shape[1]))
    point[0, place[place >= 0]] = np.sqrt(share)
    point[0, -4] = np.sqrt(min(max(1 - float(share.sum()), 0), 1))
    habit = np.array([fifths.get(name, np.nan) for name in MEASURES])
    point[0, -3:] = clusters.habit_part(habit)
    group = int(clusters.nearest(point, found.centroids)[0])
    text = _alike(found.groups[group])
    return _slot("cluster", "interests", "people alike", found.groups[group].name, text, [slot])


def _slot(
    name: str,
    section: Section,
    label: str,
    value: Any,
    text: str,
    on: Sequence[Slot],
    *,
    unit: str | None = None,
    tier: str | None = None,
) -> Slot:
    """A slot that rests on others: as sure as the least, as new as the newest of them."""
    return Slot(
        name,
        section,
        label,
        value,
        text,
        min(slot.confidence for slot in on),
        max(slot.events for slot in on),
        max(slot.changed_at or NEVER for slot in on),
        unit,
        tier=tier,
        facet=on[-1].facet,
    )


def _alike(cluster: Cluster) -> str:
    marks = [mark for mark in cluster.marks if mark.index > 100 and mark.share >= 0.01][:3]
    listed = ", ".join(f"{mark.key.lower()} {times(mark.index / 100)}" for mark in marks)
    more = f"; they like more than others: {listed}" if listed else ""
    return f"{cluster.name}, as {percent(cluster.share)} of users{more}"
