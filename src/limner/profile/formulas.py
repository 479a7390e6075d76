"""How the slots of a facet are calculated, in plain words with the facet's own settings.

A kind is added by registering a function for its class; of a kind that registers none, what its
class says of itself is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from inspect import getdoc

from limner.profile.events import TARGET
from limner.profile.facet import Reader, Slot
from limner.profile.facets.affinity import Affinity
from limner.profile.facets.counting import Count, Frequency, Histogram, Recency
from limner.profile.facets.declared import Declared
from limner.profile.facets.history import History
from limner.profile.facets.label import Label
from limner.profile.facets.money import PriceLevel, Rate, Sum
from limner.profile.facets.numbers import ACCURACY, Distinct, Moments, Quantiles
from limner.profile.facets.opinion import Preference, Proposed, Sentiment
from limner.profile.facets.places import Places
from limner.profile.facets.sessions import Sessions
from limner.profile.facets.social import Ties
from limner.profile.facets.taste import NEWEST, InterestVector
from limner.profile.facets.text import Topics
from limner.profile.phrases import (
    added,
    amount,
    both,
    column,
    conditions,
    either,
    events_of,
    fading,
    kept,
    key,
    one_more,
    span,
    summed,
    weighed,
)
from limner.profile.words import percent

STAYS = "time alone does not change it"


@dataclass(frozen=True, slots=True)
class Formula:
    """How a slot is calculated, and each thing that would change it.

    `settings` names those of the facet's config that it depends on, `counts` says what confidence
    counts if that is not the slot's events, and `error` what its stated error means.
    """

    text: str
    changes: tuple[str, ...]
    settings: tuple[str, ...] = ("where",)
    counts: str = ""
    error: str = ""


@singledispatch
def formula(reader: Reader, slot: Slot) -> Formula:
    """How `slot`, which `reader` gave, is calculated."""
    said = (getdoc(type(reader)) or type(reader).__name__).partition("\n\n")[0]
    return Formula(" ".join(said.split()), ("another event that it is made of",), settings=())


# -- counts and times --------------------------------------------------------------------------


@formula.register
def _(facet: Count, slot: Slot) -> Formula:
    config = facet.config
    if not config.key:
        text = f"The number of {events_of(config)}."
        return Formula(text, (f"{one_more(config)} adds 1", STAYS))
    by = key(config)
    return Formula(
        f"The number of {events_of(config)}, for each {by}. {kept(config, 'of these', 'rarest')}.",
        (f"{one_more(config)} adds 1 to its {by}", STAYS),
        ("where", "key", "bands", "bound"),
        error="events that the count of any one key may lack",
    )


@formula.register
def _(facet: Recency, slot: Slot) -> Formula:
    return Formula(
        f"The days from the newest of the {events_of(facet.config)} to now.",
        (
            f"a newer event{conditions(facet.config.where)} sets it to the days since that one",
            "every day adds 1",
        ),
    )


@formula.register
def _(facet: Frequency, slot: Slot) -> Formula:
    config = facet.config
    half = span(config.half_life)
    return Formula(
        f"The number of {events_of(config)}, {fading(config.half_life)}; × ln 2 ÷ {half}, which "
        "makes it a pace a day, ÷ (1 − 2^(−A ÷ half-life)) with A the time since the first of them "
        "(a day at least), so that a short acquaintance is not taken for a slow pace.",
        (
            f"{one_more(config)} raises it",
            f"without new events it falls, in the long run by half every {half}",
        ),
        ("where", "half_life"),
    )


@formula.register
def _(facet: Histogram, slot: Slot) -> Formula:
    by = "hour of the day" if facet.config.key == "hour" else "day of the week"
    return Formula(
        f"The number of {events_of(facet.config)} in each {by}, in the user's own time zone.",
        (f"{one_more(facet.config)} adds 1 to its {by}", STAYS),
        ("where", "key"),
    )


@formula.register
def _(facet: Sessions, slot: Slot) -> Formula:
    config = facet.config
    if facet.grouped:
        one = "visit"
        session = "all events of one group_id are one visit"
        older = "older ones are counted only"
    else:
        one = "session"
        session = f"a pause of more than {span(config.gap)} ends a session"
        older = "older ones are counted as so many sessions as these make on average"
    what = {
        facet.name: f"The number of {one}s",
        f"{'basket' if facet.grouped else facet.name}_size": f"Events ÷ {one}s",
        f"{'basket' if facet.grouped else facet.name}_value": (
            f"The sum of {amount(config.of)} ÷ {one}s"
        ),
        f"{facet.name}_dwell": "The mean time from the first to the last event of a session",
    }
    part = "visits" if facet.grouped else "stretches of the clock"
    return Formula(
        f"{what.get(slot.name, what[facet.name])}, of {events_of(config)}; {session}. "
        f"The newest {config.bound:,} {part} are kept; {older}.",
        (
            f"{one_more(config)} makes a {one} of its own, or makes one larger",
            STAYS,
        ),
        ("where", "bound", *(("key",) if facet.grouped else ("gap",)), "of"),
        counts=f"{one}s",
        error="the share of the clock's stretches with events that are no longer kept one by one",
    )


# -- amounts -----------------------------------------------------------------------------------


@formula.register
def _(facet: Sum, slot: Slot) -> Formula:
    config = facet.config
    what, more, half = summed(config.of, events_of(config)), added(config.of), config.half_life
    if slot.name == facet.name:
        changes = (f"{one_more(config)} adds {more}", STAYS)
        return Formula(f"The {what}.", changes, ("where", "of"))
    month = f"× ln 2 ÷ {span(half)} × 30.44 days"
    return Formula(
        f"The {what}, {fading(half)}; {month}, which makes it a month's worth.",
        (
            f"{one_more(config)} adds {more} {month}",
            f"without new events it halves every {span(half)}",
        ),
        ("where", "of", "half_life"),
    )


@formula.register
def _(facet: Rate, slot: Slot) -> Formula:
    config = facet.config
    above, below = (both(config.where, also) for also in (config.only, config.among))
    adds = f"another event{above} adds {added(config.of)} to what is divided"
    adds += " and " if above == below else f", another event{below} "
    adds += f"{added(config.over)} to what divides it"
    return Formula(
        f"The {summed(config.of, f'events{above}')} ÷ the "
        f"{summed(config.over, f'events{below}')}; in both, "
        f"{fading(config.half_life)}.",
        (
            adds,
            "time alone does not change it, since both sums fade alike",
        ),
        ("where", "of", "only", "over", "among", "half_life"),
    )


@formula.register
def _(facet: PriceLevel, slot: Slot) -> Formula:
    config = facet.config
    by = key(config)
    return Formula(
        f"For each {by}, the mean logarithm of {amount(config.of)} ÷ quantity over "
        f"{events_of(config)}, less that of all users; averaged by how many events each has, and "
        "raised to e: 1 is what others pay. Only where somebody else paid something too. "
        f"{kept(config, 'of these', 'rarest')}.",
        (
            f"{one_more(config)} dearer than what others pay for its {by} raises it, a cheaper one "
            "lowers it",
            "it moves with what others pay",
        ),
        ("where", "of", "key", "bands", "bound"),
    )


@formula.register
def _(facet: Moments, slot: Slot) -> Formula:
    config = facet.config
    what = {
        "_variance": "The variance (n − 1) of",
        "_skew": "The skewness (third moment ÷ deviation³) of",
    }.get(slot.name.removeprefix(facet.name), "The mean of")
    return Formula(
        f"{what} {amount(config.of)} over {events_of(config)}, all alike however old.",
        (f"{one_more(config)} counts as one more number", STAYS),
        ("where", "of"),
    )


@formula.register
def _(facet: Quantiles, slot: Slot) -> Formula:
    config = facet.config
    return Formula(
        f"Of {amount(config.of)} over {events_of(config)}, the values that 10, 25, 50, 75 and 90 % "
        f"do not exceed, from counts in ranges (DDSketch). {kept(config, 'ranges', 'rarest')}.",
        (f"{one_more(config)} counts as one more number", STAYS),
        ("where", "of", "bound"),
        error=f"each is within {percent(ACCURACY)} of its value; the rest is the share of numbers "
        "in ranges that were let go",
    )


@formula.register
def _(facet: Distinct, slot: Slot) -> Formula:
    config = facet.config
    what = column(config.key or "item_id")
    return Formula(
        f"How many different values of {what} there are in {events_of(config)}, estimated from 256 "
        "registers (HyperLogLog).",
        (f"{one_more(config)} with a new {what} adds about 1, one seen before adds none", STAYS),
        ("where", "key"),
        error="the standard error of the estimate, as a share of it",
    )


# -- what a user leans to ------------------------------------------------------------------------


@formula.register
def _(facet: Affinity, slot: Slot) -> Formula:
    config = facet.config
    words = config.kind == "keywords"
    by = f"word of {either([column(path) for path in config.texts])}" if words else key(config)
    long, short = span(config.half_life), span(config.short_half_life)
    base = (
        f"For each {by}, the weights of {events_of(config)} are added up ({weighed(config)}), each "
        f"halved for every {long} of its age; lately, for every {short}. A share is the sum of a "
        "key ÷ the sum of all that weigh more than nothing. "
    )
    settings = ("where", "texts" if words else "key", "bands", "weights", "half_life",
                "short_half_life", "bound")  # fmt: skip
    same = "time alone does not change the shares, since all weights fade alike"
    if slot.name != facet.name:
        return Formula(
            base + "The drift is half the sum of the differences between each key's share lately "
            "and in the long run: 0 alike, 1 nothing in common.",
            (
                f"{one_more(config)} moves the shares lately more than those in the long run, "
                "and so the drift",
                same,
            ),
            settings,
        )
    return Formula(
        base + f"Against all: a share ÷ the share among all users. {kept(config, 'keys')}.",
        (
            f"{one_more(config)} adds its weight to each {by} that it has, and so takes share from "
            "the others",
            same,
            "what it says against all moves with other users",
        ),
        settings,
        error="the share that any one key may lack, because keys were let go",
    )


@formula.register
def _(facet: History, slot: Slot) -> Formula:
    config = facet.config
    return Formula(
        f"The items of the newest {events_of(config)} whose type has a weight ({weighed(config)}). "
        f"The newest {config.bound:,} are kept.",
        (f"{one_more(config)} with an item comes first", STAYS),
        ("where", "weights", "bound"),
    )


@formula.register
def _(facet: InterestVector, slot: Slot) -> Formula:
    config = facet.config
    long, short = span(config.half_life), span(config.short_half_life)
    half = {"": long, "_short": short}.get(slot.name.removeprefix(facet.name))
    base = (
        f"The vectors of the items in the newest {NEWEST} events of {facet.source.name!r} are "
        "added up by the events' weights, each halved for every "
    )
    text = f"{half} of its age; the sum is scaled to length 1."
    drift = f"{long} of its age, and once for every {short}; the drift is 1 − the cosine of both."
    return Formula(
        base + (text if half else drift),
        (
            f"another event in {facet.source.name!r} turns it towards the vector of its item",
            "time alone does not turn it, since all weights fade alike",
            "better vectors of items change it at once",
        ),
        ("reads", "half_life", "short_half_life"),
    )


@formula.register
def _(facet: Topics, slot: Slot) -> Formula:
    config = facet.source.config
    return Formula(
        f"The user's words in {config.name!r}, each weight halved for every "
        f"{span(config.half_life)} of its age, divided among the topics last learned of all users; "
        "lately, for every "
        f"{span(config.short_half_life)}. Topics of 1 % or less are not told.",
        (
            f"{one_more(config)} with a topic's words raises the share of it",
            "time alone does not change the shares, since all weights fade alike",
            "topics learned anew change it at once",
        ),
        ("reads",),
    )


# -- what a user says ----------------------------------------------------------------------------


@formula.register
def _(facet: Declared, slot: Slot) -> Formula:
    return Formula(
        f"What was declared last as {slot.name.replace('_', ' ')}, by event time. "
        f"{kept(facet.config, 'attributes', 'oldest')}.",
        (f"declaring {slot.name} anew replaces it", STAYS),
        ("bound",),
        counts="events, as what is declared counts for",
    )


@formula.register
def _(facet: Preference, slot: Slot) -> Formula:
    config = facet.config
    by = key(config, "item_id")
    return Formula(
        f"For each {by}, what the newest of the {events_of(config)} says: like, bookmark and "
        "follow 1, dislike −1, a rating (stars − 3) ÷ 2 within ±1; taking one of them back leaves "
        f"nothing. {kept(config, 'opinions', 'oldest')}.",
        (f"{one_more(config)} that says something of the same {by} replaces it at once", STAYS),
        ("where", "key", "bound"),
    )


@formula.register
def _(facet: Proposed, slot: Slot) -> Formula:
    config = facet.config
    texts = either([column(path) for path in config.texts])
    return Formula(
        f"For each topic that a language model found in {texts} of {events_of(config)}, whether "
        "the newest text that says something of it is for it, 1, or against it, −1; a topic whose "
        f"words are not in the text was dropped. {kept(config, 'topics', 'oldest')}.",
        (
            "a newer text that says something of the same topic replaces it, once the model has "
            "read it",
            "taking the text back takes away what rests on it",
            STAYS,
        ),
        ("where", "texts", "bound"),
    )


@formula.register
def _(facet: Sentiment, slot: Slot) -> Formula:
    config = facet.config
    texts = either([column(path) for path in config.texts])
    return Formula(
        f"The mean mood of {texts} in {events_of(config)}, "
        f"from −1 to 1, {fading(config.half_life)}; English is judged by VADER, Chinese by "
        "SnowNLP.",
        (
            f"{one_more(config)} with a text moves it towards the mood of that text",
            "time alone does not change it, since all texts fade alike",
        ),
        ("where", "texts", "half_life"),
    )


@formula.register
def _(facet: Places, slot: Slot) -> Formula:
    config = facet.config
    by = key(config)
    home = slot.name != facet.name
    text = (
        f"The {by} with the most {events_of(config)} between 19:00 and 8:00 in the user's own time "
        f"zone (at any hour, if there are none of these), {fading(config.half_life)}."
        if home
        else f"The share of each {by} in {events_of(config)}, {fading(config.half_life)}."
    )
    return Formula(
        f"{text} {kept(config, 'places')}.",
        (
            f"{one_more(config)} adds 1 to its place" + (", if it is at such an hour" * home),
            "time alone does not change it, since all events fade alike",
        ),
        ("where", "of" if config.cell else "key", "cell", "half_life", "bound"),
        error="the share that any one place may lack, because places were let go",
    )


@formula.register
def _(facet: Ties, slot: Slot) -> Formula:
    config = facet.config
    half = span(config.half_life)
    return Formula(
        f"For each {key(config, TARGET)}, the weights of {events_of(config)} are added up "
        f"({weighed(config)}), each halved for every {half} of its age. {kept(config, 'ties')}.",
        (
            f"{one_more(config)} adds its weight to its {key(config, TARGET)}",
            f"without new events every strength halves every {half}",
        ),
        ("where", "key", "weights", "half_life", "bound"),
        error="the strength that any one tie may lack, because ties were let go",
    )


@formula.register
def _(facet: Label, slot: Slot) -> Formula:
    moved = [f"{name} {by:+.2f}" for name, by in (slot.moved or {}).items() if abs(by) >= 0.005]
    most = f" What moves it most, against the usual: {', '.join(moved[:5])}." if moved else ""
    return Formula(
        f"The likeliest class by the label model {slot.model}, which reads "
        f"{len(slot.moved or {})} features of the other slots.{most}",
        ("it moves with the slots that it is read from", "a label learned anew changes it at once"),
        settings=(),
    )
