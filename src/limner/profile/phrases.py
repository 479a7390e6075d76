"""The settings of a facet in plain words, as formulas say them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from limner.events.batch import DAY, PROPERTY
from limner.profile.events import TARGET
from limner.profile.facet import FacetConfig, duration
from limner.profile.facets.keyed import LIST
from limner.profile.words import length, listed


def conditions(where: Mapping[str, Any]) -> str:
    """The conditions of a `where`, after the word "event" or "events".

    >>> conditions({"event_type": ["view", "purchase"], "value": ">0"})
    ' of type view or purchase whose value is > 0'
    """
    out, whose = "", []
    for path, wanted in where.items():
        texts = _texts(wanted)
        if path == "event_type":
            out = f" of type {either(texts)}"
        elif path == "flags":
            whose.append(f"cleaning marks are {either(texts)}")
        else:
            sign = texts[0].rstrip("0123456789.e+-")
            bound = texts[0].removeprefix(sign)
            compared = f"{sign} {bound}" if sign in ("<", ">", "<=", ">=") else either(texts)
            whose.append(f"{column(path)} is {compared}")
    return out + (f" whose {listed(whose)}" if whose else "")


def both(where: Mapping[str, Any], also: Mapping[str, Any]) -> str:
    """The same of events that meet two of them.

    >>> both({"event_type": ["view", "click"]}, {"event_type": "click", "value": ">0"})
    ' of type click whose value is > 0'
    >>> both({"value": ">0"}, {"value": "<5"})
    ' whose value is > 0, if also one whose value is < 5'
    """
    shared = [path for path in where if path in also]
    if all(set(_texts(also[path])) <= set(_texts(where[path])) for path in shared):
        return conditions({**where, **also})
    return f"{conditions(where)}, if also one{conditions(also)}"


def _texts(wanted: Any) -> list[str]:
    return [str(wanted)] if isinstance(wanted, str | int | float) else [*map(str, wanted)]


def either(texts: Sequence[str]) -> str:
    """Alternatives as a sentence lists them.

    >>> either(["a", "b", "c"])
    'a, b or c'
    """
    return " or ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def column(path: str) -> str:
    """What a column is called.

    >>> column("item.category"), column("properties.shop_id"), column("target_user_id")
    ('item category', 'shop id', 'target user')
    """
    name = path.removeprefix(PROPERTY).replace("item.", "item ").removesuffix(LIST)
    return (
        "item"
        if name == "item_id"
        else name.removesuffix("_user_id").replace("_", " ") + (" user" if name == TARGET else "")
    )


def amount(paths: Sequence[str]) -> str:
    """What is summed up.

    >>> amount(["value", "properties.discount"]), amount(["1"])
    ('value + discount', '1')
    """
    return " + ".join(map(column, paths))


def key(config: FacetConfig, default: str = "") -> str:
    """What a facet counts by."""
    if config.cell:
        where = " and ".join(map(column, config.of))
        return f"cell of the earth ({config.cell} letters of the geohash of {where})"
    name = column(config.key or default)
    if config.bands:
        return f"range of {name} (cut at {', '.join(f'{bound:g}' for bound in config.bands)})"
    return name


def span(text: str) -> str:
    """A duration of the config in words.

    >>> span("90d"), span("30m")
    ('90 days', '30 minutes')
    """
    micros = duration(text)
    days = micros / DAY
    return f"{days:g} days" if days > 1 else length(micros)


def weighed(config: FacetConfig) -> str:
    """What an event weighs by its type, those that weigh something.

    >>> weighed(FacetConfig("f", "ties", "basic", weights={"a": 1, "b": -1, "c": 1, "d": 0}))
    'a, c 1; b -1'
    """
    by: dict[float, list[str]] = {}
    for name, weight in config.weights.items():
        by.setdefault(weight, []).append(name)
    return "; ".join(f"{', '.join(names)} {weight:g}" for weight, names in by.items() if weight)


def kept(config: FacetConfig, what: str, lightest: str = "lightest") -> str:
    """How many are kept, and which are let go."""
    return f"At most {config.bound:,} {what} a user are kept; beyond that the {lightest} are let go"


def events_of(config: FacetConfig) -> str:
    """The events that a facet is made of."""
    return f"events{conditions(config.where)}"


def one_more(config: FacetConfig) -> str:
    """One more of them."""
    return f"another event{conditions(config.where)}"


def fading(text: str) -> str:
    """How events fade with a half-life."""
    return f"each halved for every {span(text)} of its age"


def summed(paths: Sequence[str], events: str) -> str:
    """A sum over events, as their number if each adds 1."""
    return f"number of {events}" if [*paths] == ["1"] else f"sum of {amount(paths)} over {events}"


def added(paths: Sequence[str]) -> str:
    """What one event adds to such a sum."""
    return "1" if [*paths] == ["1"] else f"its {amount(paths)}"
