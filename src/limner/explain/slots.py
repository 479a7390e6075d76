"""How a slot comes: formula, confidence in numbers, events, and what would change it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import exp2, isclose
from typing import Any

from limner.events.batch import DAY, Event
from limner.profile import standing
from limner.profile.facet import FacetConfig, Reader, Slot
from limner.profile.facets.label import Label
from limner.profile.facets.money import TIERS
from limner.profile.formulas import STAYS, Formula, formula
from limner.profile.population import PopulationConfig


@dataclass(frozen=True, slots=True)
class SlotExplained:
    """A slot of a portrait, and all that says how it came to be.

    `kind` is the facet's ("standing" for what compares users), `settings` are those of its
    configuration that the formula depends on, `evidence` its newest events, newest first.
    `error` is empty where none is stated.
    """

    user_id: str
    path: str
    slot: Slot
    kind: str
    formula: str
    confidence: str
    changes: list[str]
    error: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    evidence: list[Event] = field(default_factory=list)


def explained(
    user_id: str,
    slot: Slot,
    reader: Reader | None,
    evidence: list[Event],
    *,
    population: PopulationConfig,
    now: int,
) -> SlotExplained:
    """A slot that `reader` gave at `now` (µs), or that compares the user with all if it is None."""
    if reader is None:
        said, kind, settings = standing_formula(slot, population), "standing", {}
    else:
        config: FacetConfig | None = getattr(reader, "config", None)
        said = formula(reader, slot)
        kind = config.kind if config is not None else type(reader).__name__
        given = {name: getattr(config, name) for name in said.settings}
        settings = {name: value for name, value in given.items() if value or value == 0}
    if reader is None:
        sure = f"that of the least sure slot that it rests on: {slot.confidence:.3f}"
    elif isinstance(reader, Label):
        sure = f"the calibrated probability that the model gives it: {slot.confidence:.3f}"
    else:
        sure = confidence_in_numbers(slot, now, said.counts)
    error = f"{slot.error:.3g}: {said.error}".removesuffix(": ") if slot.error else ""
    return SlotExplained(
        user_id, f"{slot.section}.{slot.name}", slot, kind, said.text, sure, [*said.changes],
        error, settings, evidence,
    )  # fmt: skip


def confidence_in_numbers(slot: Slot, now: int, counts: str = "") -> str:
    """n'/(n' + 5) with n' = n · 2^(−age/half-life), with the numbers of this slot put in.

    `counts` names what n counts where that is not the slot's events: n then follows from the
    confidence. A kind whose confidence is another is told without a formula.
    """
    at = now if slot.refreshed_at is None else slot.refreshed_at
    age = max(at - (at if slot.changed_at is None else slot.changed_at), 0) / DAY
    half_life = slot.half_life or 365.0
    faded = exp2(-age / half_life)
    sure = slot.confidence
    if counts and 0 < sure < 1 and faded > 0:
        n = 5 * sure / (1 - sure) / faded
    else:
        n, counts = float(slot.events), "events" if slot.events != 1 else "event"
    effective = n * faded
    if not isclose(effective / (effective + 5), sure, rel_tol=1e-6, abs_tol=1e-9):
        return f"{sure:.3f}, as this kind of facet states it"
    return (
        f"n ÷ (n + 5) with n = {n:,.6g} {counts} × 2^(−{age:.2f} days ÷ {half_life:g} days) "
        f"= {effective:.6g}: {sure:.3f}"
    )


def standing_formula(slot: Slot, config: PopulationConfig) -> Formula:
    """How a slot that compares a user with all is calculated."""
    moves = ("it moves with what the user does and with what all others do", STAYS)
    again = "others count as they stood at the last survey; the next one changes it for all at once"
    measures = {name: getattr(config, name) for name in standing.MEASURES}
    if slot.name == "tier":
        steps = ", ".join(f"{name} from {least:.0%}" for least, name in TIERS)
        text = f"The place of {config.monetary} among all users: {steps}."
    elif slot.name == "rfm":
        given = ", ".join(path for path in measures.values() if path)
        text = (
            f"The segment that the quintiles of {given} fall in: recency by itself, the mean of "
            "the others rounded up at a half."
        )
    elif slot.name == "cluster":
        text = (
            f"The group of users whose middle lies nearest to this user's shares in "
            f"{config.interests} and quintiles."
        )
    else:
        path = measures[slot.name.removesuffix("_quintile")]
        text = f"In which fifth of all users {path} lies, 5 for the most lately, often or worth."
    return Formula(text, (moves[0], again), settings=())


def compares(slot: Slot, config: PopulationConfig) -> bool:
    """Whether a slot is one that compares the user with all, and no facet's."""
    if f"{slot.section}.{slot.name}" not in standing.STANDINGS:
        return False
    needs = {"tier": "monetary", "rfm": "recency", "cluster": "interests"}
    return bool(getattr(config, needs.get(slot.name, slot.name.removesuffix("_quintile"))))
