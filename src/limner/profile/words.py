"""Numbers and times in the words of a layman."""

from __future__ import annotations

from limner.events.batch import DAY, SECOND

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def percent(share: float) -> str:
    """A share as a percentage.

    >>> percent(0.1234), percent(0.004)
    ('12 %', '0.4 %')
    """
    return f"{100 * share:.1f} %" if 0 < share < 0.0095 else f"{100 * share:.0f} %"


def ago(span: float) -> str:
    """A span of µs before now.

    >>> ago(3 * DAY), ago(40 * SECOND), ago(400 * DAY)
    ('3 days ago', 'just now', '13 months ago')
    """
    return "just now" if span < 60 * SECOND else f"{length(span)} ago"


def length(span: float) -> str:
    """A span of µs.

    >>> length(90 * 60 * SECOND), length(DAY), length(9.6 * DAY)
    ('90 minutes', '24 hours', '10 days')
    """
    for unit, size, least in (
        ("months", 30.44 * DAY, 3),
        ("days", DAY, 2),
        ("hours", 3600 * SECOND, 2),
        ("minutes", 60 * SECOND, 2),
    ):
        if span >= least * size:
            return f"{span / size:.0f} {unit}"
    return f"{span / SECOND:.0f} seconds"


def money(amount: float) -> str:
    """An amount of money without its currency, which the events do not name.

    >>> money(1234.5), money(2.498)
    ('1,234', '2.50')
    """
    return f"{amount:,.0f}" if abs(amount) >= 100 else f"{amount:,.2f}"


def times(ratio: float) -> str:
    """How many times as much as usual.

    >>> times(3.21), times(0.4)
    ('3.2 ×', '0.4 ×')
    """
    return f"{ratio:.1f} ×" if ratio < 10 else f"{ratio:.0f} ×"


def pace(per_day: float) -> str:
    """A rate of events, in the unit that makes it easiest to picture.

    >>> pace(3.2), pace(0.3), pace(0.05)
    ('3.2 a day', '2.1 a week', '1.5 a month')
    """
    for size, unit in ((1.0, "day"), (7.0, "week")):
        if per_day * size >= 1:
            return f"{per_day * size:.1f} a {unit}"
    return f"{per_day * 30.44:.1f} a month"


def listed(names: list[str]) -> str:
    """Names as a sentence lists them.

    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
