"""What a reason says of the events it names."""

from __future__ import annotations

import numpy as np

from limner.events.batch import DAY
from limner.explain.reasons import _repeat_text
from limner.model.protocol import History


def test_only_what_was_bought_is_counted_and_dated_as_bought() -> None:
    looks, bought = np.array([0.2, 1.0, 0.2, 1.0, 0.2]), np.arange(5) * 10 * DAY
    history = History(
        np.zeros(5, np.int32), bought, looks, np.zeros(5, np.int64), np.arange(5), 50 * DAY
    )
    said = _repeat_text(history, np.arange(5))
    assert said == "bought 2 times, about every 20 days, last 20 days ago"
    assert _repeat_text(history, np.array([0, 2])).startswith("looked at 2 times")
