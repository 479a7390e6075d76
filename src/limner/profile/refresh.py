"""Refresh policies: when the value that is shown of something is brought up to date.

Folding takes every event in at once, so the state is always the truth; a policy says when what
is *shown* follows it. It is a plain value, usable for anything that has a name: a facet, a label,
a model's embedding, the population pass, a training.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Literal
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from limner.errors import ConfigError, ExpressionError
from limner.events import expression
from limner.events.batch import SECOND
from limner.profile.events import check_path

Mode = Literal["on_read", "on_event", "every", "cron", "when"]

FORMS = '"on_read", "on_event", "every 5m", "cron 0 3 * * 1" or "when purchase where value > 50"'
UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
"""Seconds of a unit of `every`."""


@dataclass(frozen=True, slots=True)
class RefreshConfig:
    """When what belongs to no single user is brought up to date; "" for never by itself.

    `population`: percentiles, tiers and shares against everybody. `snapshot`: the state beside
    the log, which makes a start quick; both are skipped while nothing new was recorded.
    `retention`: taking out what is kept no longer. `audiences`: who meets the condition of an
    audience, or meets it no more, by time alone.
    """

    population: str = "every 1m"
    snapshot: str = "every 1h"
    retention: str = "every 1d"
    audiences: str = "every 1h"


@dataclass(frozen=True, slots=True)
class Refresh:
    """A policy, made from its text by `parse`.

    `every` is a length in µs; `cron` five fields as Debian's cron reads them (weekday 0 and 7 are
    Sunday; day of month *or* weekday where both are given); `event_type` and `condition` (an
    expression over columns of an event) say which events of a user a `when` waits for.
    """

    text: str = "on_read"
    mode: Mode = "on_read"
    every: int = 0
    cron: str = ""
    event_type: str = ""
    condition: expression.Node | None = None

    @classmethod
    def parse(cls, text: str, where: str = "") -> Refresh:
        """The policy that a text means; ConfigError (at `where`) for what is none.

        >>> Refresh.parse("every 5m").every == 300 * SECOND
        True
        >>> Refresh.parse('when purchase where value > 50 and item.category == "tea"').event_type
        'purchase'
        >>> Refresh.parse("evry 5m")
        Traceback (most recent call last):
        limner.errors.ConfigError: 'evry 5m' is no refresh policy
          to mend it: did you mean 'every'?
        """
        mode, _, rest = " ".join(text.split()).partition(" ")
        rest = rest.strip("\"'") if mode in ("every", "cron") else rest
        if mode in ("on_read", "on_event") and not rest:
            return cls(mode, mode)  # type: ignore[arg-type]
        if mode == "every":
            return cls(f"every {rest}", "every", every=_length(rest, where))
        if mode == "cron":
            return cls(f"cron {rest}", "cron", cron=_cron(rest, where))
        if mode == "when":
            kind, said, asked = rest.partition(" where ")
            if kind and " " not in kind and kind != "where" and bool(said) == bool(asked):
                tree = _condition(asked, where) if asked else None
                return cls(f"when {rest}", "when", event_type=kind, condition=tree)
        close = get_close_matches(mode, ("on_read", "on_event", "every", "cron", "when"), 1)
        mend = f"did you mean {close[0]!r}?" if close and close[0] != mode else f"write {FORMS}"
        raise ConfigError(f"{text!r} is no refresh policy", where=where, mend=mend)

    @classmethod
    def timed(cls, text: str, where: str = "") -> Refresh | None:
        """A policy that names times, `every` or `cron`; None for "": only when asked to.

        Raises ConfigError for another policy: what belongs to all users follows no user's events.
        """
        if not text.strip():
            return None
        found = cls.parse(text, where)
        if found.mode not in ("every", "cron"):
            raise ConfigError(
                f"{text!r} names no times",
                where=where,
                mend='write "every 5m", "cron 0 3 * * 1", or "" for only when asked to',
            )
        return found

    @property
    def kept(self) -> bool:
        """Whether what is shown is kept from one refresh to the next, and not read anew."""
        return self.mode in ("every", "cron", "when")

    def next_after(self, moment: int, timezone: str = "UTC") -> int | None:
        """The first time (µs) after `moment` at which it is due; None if no clock decides.

        Cron fields are read in `timezone`, and over a change of clocks as Debian's cron does.

        >>> monday = int(datetime(2026, 11, 23, tzinfo=UTC).timestamp()) * SECOND
        >>> due = Refresh.parse("cron 0 3 * * 1").next_after(monday)
        >>> str(datetime.fromtimestamp(due / SECOND, UTC))
        '2026-11-23 03:00:00+00:00'
        """
        if self.mode == "every":
            return moment + self.every
        if self.mode == "cron":
            start = datetime.fromtimestamp(moment // SECOND, UTC).astimezone(ZoneInfo(timezone))
            found = next(CronSim(self.cron, start))
            return int(found.astimezone(UTC).timestamp()) * SECOND
        return None


def _length(text: str, where: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", text)
    seconds = float(match[1]) * UNITS[match[2]] if match else 0.0
    if not 1 <= seconds <= 366 * UNITS["d"]:
        raise ConfigError(
            f"every {text!r} is no interval from a second to a year",
            where=where,
            mend='write a number and s, m, h, d or w: "every 5m"',
        )
    return round(seconds * SECOND)


def _cron(text: str, where: str) -> str:
    try:
        if len(text.split()) != 5:
            raise CronSimError(f"it has {len(text.split())} fields")
        next(CronSim(text, datetime(2024, 1, 1, tzinfo=UTC)))
    except (CronSimError, StopIteration) as error:
        said = str(error) or "it never comes"
        raise ConfigError(
            f"cron {text!r} cannot be read: {said[0].lower()}{said[1:]}",
            where=where,
            mend='write minute, hour, day of month, month and weekday: "cron 0 3 * * 1" is '
            "Mondays at three",
        ) from None
    return text


def _condition(text: str, where: str) -> expression.Node:
    try:
        tree = expression.parse(text)
    except ExpressionError as error:
        at = f"{where}, in {text!r}" if where else repr(text)
        raise ConfigError(error.what, where=f"{at}, {error.where}",
                          mend=error.mend or f"write {FORMS}") from None  # fmt: skip
    for node in expression.walk(tree):
        if isinstance(node, expression.Field):
            check_path(str(node), where)
    return tree
