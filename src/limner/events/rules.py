"""The rules of cleaning and what can be set about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import MappingProxyType

from limner.errors import ConfigError
from limner.events.batch import DAY
from limner.events.missing import Policy, policies
from limner.events.vocabulary import UNITS


@dataclass(frozen=True, slots=True)
class Rule:
    """One cleaning rule: its version, what it says of a row, and how to mend the row.

    A rule without `bit` refuses rows. One with it keeps them and sets that bit of their `flags`,
    so that what it touched can be counted from the log: it doubts the row (`doubt`), or notes
    what was done to it. A new version of a rule takes a new bit. `needed`: it cannot be switched
    off, since without what it asks for a row is no event.
    """

    version: int
    reason: str
    mend: str = ""
    bit: int = 0
    doubt: bool = False
    needed: bool = False


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "missing_type": Rule(
            1, "no event type", "name its column: --map event_type=COLUMN", needed=True
        ),
        "missing_user": Rule(
            1, "no user", "name the column of the user: --map user_id=COLUMN", needed=True
        ),
        "missing_alias": Rule(
            1,
            "an alias needs the id that was used before",
            "send it as previousId, or target_user_id",
            needed=True,
        ),
        "missing_item": Rule(
            1,
            "this event type needs an item",
            "name its column: --map item_id=COLUMN",
            needed=True,
        ),
        "missing_time": Rule(1, "no time", "name its column: --map timestamp=COLUMN", needed=True),
        "missing_field": Rule(
            1,
            "a field is missing that [clean.missing] asks for",
            "send it, or give it a default in [clean.missing] of limner.toml",
        ),
        "bad_time": Rule(
            1,
            "the time cannot be read",
            "say how it is written: --time-format '%d/%m/%Y %H:%M'",
            needed=True,
        ),
        "impossible_time": Rule(
            1,
            "the time is before 1990 or more than a day from now",
            "check the column's unit and zone, or allow it in [clean] of limner.toml",
        ),
        "bad_number": Rule(
            1,
            "value or quantity is no number",
            "write digits with a point and no sign of currency or thousands",
            needed=True,
        ),
        "impossible_amount": Rule(
            2,
            "value or quantity is beyond 1e15, or a number among the properties beyond 1e30",
            "check the column: this is an id or an overflow rather than an amount",
            needed=True,
        ),
        "negative_quantity": Rule(
            1, "the quantity is below zero", "send what comes back as event type refund"
        ),
        "no_quantity_no_value": Rule(
            1, "a purchase of nothing: quantity and value are zero", "send what was bought, if any"
        ),
        "duplicate_line": Rule(
            1,
            "a line like this came just before",
            "nothing, if it was sent twice; else give each an event_id",
        ),
        "unknown_type": Rule(1, "an event type that is no known one", bit=128),
        "outlier_value": Rule(
            1, "a value far from what is usual for its type and kind of item", bit=1, doubt=True
        ),
        "outlier_quantity": Rule(
            1, "a quantity far from what is usual for its type and kind of item", bit=2, doubt=True
        ),
        "robot_speed": Rule(
            1, "more different items within seconds than a hand can reach", bit=4, doubt=True
        ),
        "robot_volume": Rule(1, "more events in a day than a person makes", bit=8, doubt=True),
        "unit_converted": Rule(1, "the value came in another unit and was converted", bit=16),
        "missing_default": Rule(1, "a missing field got its default", bit=32),
        "missing_inferred": Rule(1, "a missing field was inferred", bit=64),
    }
)
"""The rules in the order in which they are asked; a row is refused by the first that objects.

`no_quantity_no_value` asks for both to be zero, on purpose. In 1,469,307 real grocery lines
11,226 have value 0: of these 2,143 have a quantity and a discount (a free item, paid by a coupon)
and 263 a quantity alone, and they are purchases and stay. 8,820 have quantity 0 too: 5,834 voided
lines, and 2,986 lines of the coupons themselves, nearly all on a product number of no product.
Nothing was bought there, whatever the discount says, so they are refused. The 49 lines with
quantity 0 and a value stay: something was paid for.

A negative quantity is refused, save in `refund` and `remove_from_cart`, where the sign repeats
what the type says and is dropped. `duplicate_line` looks within one batch, at rows without an
event id (a repeated id is the log's to ignore), and not at the types of `keep_identical`: real
shops sell two of the same.
"""

BITS: Mapping[str, int] = MappingProxyType({n: rule.bit for n, rule in RULES.items() if rule.bit})
"""The bit of `flags` of each rule that keeps rows."""

DOUBTS = sum(rule.bit for rule in RULES.values() if rule.doubt)
"""The bits of the rules that doubt a row."""


def bits_of(wanted: object) -> tuple[int, bool]:
    """(bits, whether some of them must be set, or else none) of a condition on flags.

    "none": no doubt; a rule's name, or several: any of these; "!NAME", or several: none of these.
    Raises ConfigError for what is no rule that keeps rows, or for both kinds at once.

    >>> bits_of("none") == (DOUBTS, False), bits_of(["!robot_speed"]), bits_of("outlier_value")
    (True, (4, False), (1, True))
    """
    if wanted == "none":
        return DOUBTS, False
    texts = [wanted] if isinstance(wanted, str) else list(wanted)  # type: ignore[call-overload]
    names = [str(text).removeprefix("!") for text in texts]
    for name in names:
        _one_of(name, BITS, "flags", "rule that flags")
    if not texts or len({str(text).startswith("!") for text in texts}) > 1:
        raise ConfigError(
            f"flags = {wanted!r} says two things, or none",
            where="flags",
            mend='use "none", names of rules, or names that all begin with "!"',
        )
    return sum({BITS[name] for name in names}), not str(texts[0]).startswith("!")


@dataclass(frozen=True, slots=True)
class CleanConfig:
    """How to clean.

    `aliases`: own event type names → canonical ones. `tz`: zone of times that name none.
    `time_format`: strptime codes, if times are in no ISO form. `earliest`: µs since 1970, and
    `ahead`: µs after now, bound what is a possible time. `keep_identical`: types in which
    identical lines are separate events. `outlier_cut`: robust standard deviations from the
    median; `outlier_least`: observations before any flag. `robot_items` different items within
    `robot_seconds` are too fast for a hand; a day of more than `robot_day_least` events, and
    `robot_day_cut` robust standard deviations above the median of all users' days, is too much
    for a person. `units`: event type → unit its values come in. `currency`: the unit of money.
    `missing`: field, or TYPE.FIELD → what is done where it is missing (`events.missing`).
    `standardise`: amounts that get a column `properties.NAME_z` beside them. `off`: rules that
    are not asked.
    Raises ConfigError for an unknown name or policy.
    """

    aliases: Mapping[str, str] = field(default_factory=dict)
    tz: str = "UTC"
    time_format: str | None = None
    earliest: int = 7_305 * DAY  # 1990-01-01
    ahead: int = DAY
    keep_identical: tuple[str, ...] = ("purchase", "refund")
    outlier_cut: float = 3.5
    outlier_least: int = 50
    robot_items: int = 20
    robot_seconds: float = 5.0
    robot_day_least: int = 500
    robot_day_cut: float = 3.5
    units: Mapping[str, str] = field(default_factory=dict)
    currency: str = ""
    missing: Mapping[str, str] = field(default_factory=dict)
    standardise: tuple[str, ...] = ()
    off: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.off:
            _one_of(name, RULES, "clean.off", "rule")
            if RULES[name].needed:
                raise ConfigError(
                    f"rule {name!r} cannot be switched off",
                    where="clean.off",
                    mend="leave it out: without what it asks for a row is no event",
                )
        for unit in self.units.values():
            _one_of(unit, UNITS, "clean.units", "unit")
        for name in self.standardise:
            _one_of(name, ("value", "quantity"), "clean.standardise", "amount")
        if self.robot_items < 2 or self.robot_seconds <= 0:
            raise ConfigError(
                "robot_items and robot_seconds leave no event to a hand",
                where="clean",
                mend='use more than one item and more than 0 s, or off = ["robot_speed"]',
            )
        inferred = [p for p in self.policies() if p.field == "unit" and p.action == "infer"]
        if inferred and not self.currency:
            raise ConfigError(
                "a unit can be inferred only where the currency is known",
                where="clean.missing",
                mend='add under [clean]: currency = "EUR"',
            )

    def policies(self) -> tuple[Policy, ...]:
        """What is done about missing fields, in the order in which it is done."""
        return policies(tuple(self.missing.items()))

    def asks(self, rule: str) -> bool:
        """Whether a rule is on."""
        return rule not in self.off


def _one_of(name: str, known: object, where: str, what: str) -> None:
    names = list(known)  # type: ignore[call-overload]
    if name not in names:
        near = get_close_matches(name, names, 1)
        raise ConfigError(
            f"{name!r} is no {what}",
            where=where,
            mend=f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(names)}",
        )
