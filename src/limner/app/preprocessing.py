"""What cleaning has done so far: its rules, what each has touched, and what is usual here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any, Literal

from limner.app.quarantine import disclosed
from limner.events.raw import Holding
from limner.events.rules import RULES, Rule

if TYPE_CHECKING:
    from limner.app.limner import Limner

Effect = Literal["refuses", "doubts", "notes"]


@dataclass(frozen=True, slots=True)
class RuleSaid:
    """One rule, and what it has touched.

    `touched` counts rows: refused ones ever, or events of the log that carry its flag; `held`
    those that wait in quarantine. `last` is when it spoke last (µs), `example` the newest row.
    """

    rule: str
    version: int
    effect: Effect
    on: bool
    says: str
    touched: int
    held: int = 0
    last: int | None = None
    example: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Usual:
    """What amounts of an event type are like: how many, their mean and standard deviation."""

    event_type: str
    measure: str
    n: int
    mean: float
    deviation: float


@dataclass(frozen=True, slots=True)
class CleaningReport:
    """The rules in the order in which they are asked, and the usual amounts.

    `day_bound` is the number of events a day beyond which a user is taken for a robot, None while
    too few days are known.
    """

    rules: tuple[RuleSaid, ...]
    usual: tuple[Usual, ...]
    day_bound: float | None


def cleaning(app: Limner) -> CleaningReport:
    """`Limner.cleaning`."""
    config = app.config.clean
    with app.writer.lock:
        norms = app.writer.norms
        touched, moments = norms.touched(), norms.scales.moments()
        bound = norms.days.bound(
            cut=config.robot_day_cut, observed=config.outlier_least, least=config.robot_day_least
        )
    holdings = app.store.quarantine.holdings()
    said = []
    for name in [*RULES, *(name for name in sorted(holdings) if name not in RULES)]:
        rule = RULES.get(name, Rule(1, name.replace("_", " "), needed=True))
        if rule.bit:
            count = touched[name]
            said.append(
                RuleSaid(name, rule.version, "doubts" if rule.doubt else "notes",
                         config.asks(name), rule.reason, count.n, 0, count.last or None,
                         _event(app, count.position) if count.n else None)
            )  # fmt: skip
            continue
        held = holdings.get(name, Holding(0, 0, 0))
        newest = app.store.quarantine.rows(limit=1, rule=name) if held.held else []
        example = disclosed(app, newest[0]).row if newest else None
        said.append(
            RuleSaid(name, rule.version, "refuses", config.asks(name), rule.reason, held.ever,
                     held.held, held.last or None, example)
        )  # fmt: skip
    return CleaningReport(tuple(said), _usual(moments), bound if bound < 2**62 else None)


def _event(app: Limner, position: int) -> dict[str, Any] | None:
    """The event at a position with the product's own ids, None once it is erased or undone."""
    for first, batch in app.store.log.read(position, position + 1):
        for event in batch.events([first]):
            row = {n: v for n, v in asdict(event).items() if v not in (None, {}, -1)}
            for name in ("user_id", "target_user_id"):
                if name in row:
                    row[name] = app.own_id(row[name])
            return row
    return None


def _usual(
    moments: Mapping[tuple[str, int], Mapping[str, tuple[int, float, float]]],
) -> tuple[Usual, ...]:
    """The moments of all kinds of items together, by event type and measure."""
    sums: dict[tuple[str, str], tuple[int, float, float]] = {}
    for (event_type, _), by_measure in moments.items():
        for measure, (n, mean, deviation) in by_measure.items():
            m, total, squares = sums.get((event_type, measure), (0, 0.0, 0.0))
            sums[event_type, measure] = (
                m + n, total + n * mean, squares + n * (deviation**2 + mean**2),
            )  # fmt: skip
    return tuple(
        Usual(kind, measure, n, total / n, sqrt(max(squares / n - (total / n) ** 2, 0.0)))
        for (kind, measure), (n, total, squares) in sorted(sums.items())
    )
