"""Which events set off a `when` policy: its condition over the columns of a batch, all at once."""

from __future__ import annotations

import logging

import numpy as np

from limner.errors import ExpressionError
from limner.events import matching
from limner.events.arrays import Vocabulary
from limner.events.batch import Bool
from limner.events.expression import Field
from limner.profile.events import Events
from limner.profile.refresh import Refresh


def fired(policy: Refresh, events: Events) -> Bool:
    """Events that a `when` policy waits for, (n,).

    A condition that cannot be asked of these events (a text compared with a number) is met by
    none of them, and the log says so: no event is refused for it.
    """
    mask = events.where({"event_type": policy.event_type})
    if policy.condition is None or not mask.any():
        return mask
    try:
        return mask & matching.matches(policy.condition, lambda field: _column(field, events))
    except ExpressionError as error:
        logging.getLogger(__name__).warning("refresh %r: %s", policy.text, error)
        return np.zeros(len(events), dtype=bool)


def _column(field: Field, events: Events) -> matching.Column:
    path = str(field)
    known = np.ones(len(events), dtype=bool)
    if path in ("value", "quantity", "1"):
        return matching.numbers(events.number(path), known)
    if path in ("hour", "weekday"):
        hours = events.local_hours
        # 1970-01-01 was a Thursday, the fourth day of a week that starts on Monday
        return matching.numbers(hours % 24 if path == "hour" else (hours // 24 + 3) % 7, known)
    if path.startswith("item."):
        return _of_item(path, events)
    codes, values = events.codes(path)
    words = [value if isinstance(value, str) else str(value) for value in values]
    return matching.Column("text", codes, codes >= 0, Vocabulary(words))


def _of_item(path: str, events: Events) -> matching.Column:
    """An attribute of each event's item: its text, or its number; of several values the first."""
    rows, codes = events.keys(path)
    if not len(rows):
        numbers = events.number(path)
        return matching.numbers(numbers, ~np.isnan(numbers))
    first = np.full(len(events), -1, dtype=np.int32)
    first[rows[::-1]] = codes[::-1]
    return matching.Column("text", first, first >= 0, events.vocabulary(path))
