"""What is done where a field of an event is missing: refuse, a default, or infer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Literal

from limner.errors import ConfigError

FIELDS = (
    "event_type", "timestamp", "item_id", "quantity", "value", "unit", "group_id", "tz",
)  # fmt: skip
"""The fields that a policy can be about, in the order in which they are filled."""

INFERRED = {
    "event_type": "from the amounts: a quantity or a basket makes a purchase, a value from 0.5 to "
    "10 in halves a rating, another value a purchase, none a view",
    "timestamp": "from the time of receipt",
    "value": "from the item's price at that time, times the quantity (one, if that is missing)",
    "unit": "from clean.currency, where the event type's value is money",
}
"""How a field is inferred, for those that can be."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What to do where `field` is missing in events of `event_type` ("": of all types)."""

    event_type: str
    field: str
    action: Literal["refuse", "default", "infer"]
    default: str = ""


@lru_cache(maxsize=64)
def policies(given: Sequence[tuple[str, str]]) -> tuple[Policy, ...]:
    """Policies from (FIELD or TYPE.FIELD, "refuse", "infer" or "default:VALUE").

    In the order of `FIELDS`, and those of a single type first. Raises ConfigError for what is
    none.

    >>> policies((("purchase.quantity", "default:1"),))
    (Policy(event_type='purchase', field='quantity', action='default', default='1'),)
    """
    found = [_policy(name, what) for name, what in given]
    return tuple(sorted(found, key=lambda p: (FIELDS.index(p.field), not p.event_type)))


def _policy(name: str, what: str) -> Policy:
    event_type, _, field = name.rpartition(".")
    where = "clean.missing"
    if field not in FIELDS:
        near = get_close_matches(field, FIELDS, 1)
        mend = f"did you mean {near[0]}?" if near else f"use one of {', '.join(FIELDS)}"
        if field == "user_id":
            mend = "leave it out: an event without a user is always refused"
        raise ConfigError(f"there is no policy about {name!r}", where=where, mend=mend)
    if field == "event_type" and event_type:
        raise ConfigError(f"{name!r} cannot be", where=where, mend="write event_type alone")
    action, colon, value = what.partition(":")
    if what == "refuse":
        return Policy(event_type, field, "refuse")
    if what == "infer":
        if field not in INFERRED:
            raise ConfigError(
                f"{field} cannot be inferred",
                where=where,
                mend=f"use refuse or default:VALUE; inferred are {', '.join(INFERRED)}",
            )
        return Policy(event_type, field, "infer")
    if action == "default" and colon and value and field != "timestamp":
        if field in ("quantity", "value"):
            _number(name, value, where)
        return Policy(event_type, field, "default", value)
    raise ConfigError(
        f"{name} = {what!r} is no policy",
        where=where,
        mend='use "refuse", "infer" or "default:VALUE" (a time has no default)',
    )


def _number(name: str, value: str, where: str) -> None:
    try:
        if abs(float(value)) < 1e15:
            return
    except ValueError:
        pass
    raise ConfigError(
        f"{name} has the default {value!r}, no number", where=where, mend="use digits"
    )
