"""Numbers and times in words, at the edges where the wording changes."""

from __future__ import annotations

import pytest

from limner.events.batch import DAY, SECOND
from limner.profile.words import ago, length, money, percent, times

HOUR = 3_600 * SECOND


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0, "0 %"),
        (0.0004, "0.0 %"),
        (0.0094, "0.9 %"),
        (0.0096, "1 %"),
        (0.5, "50 %"),
        (1, "100 %"),
    ],
)
def test_percent(share: float, said: str) -> None:
    assert percent(share) == said


@pytest.mark.parametrize(
    ("span", "said"),
    [
        (0, "0 seconds"),
        (119 * SECOND, "119 seconds"),
        (120 * SECOND, "2 minutes"),
        (2 * HOUR - SECOND, "120 minutes"),
        (2 * HOUR, "2 hours"),
        (DAY, "24 hours"),
        (2 * DAY, "2 days"),
        (91 * DAY, "91 days"),
        (92 * DAY, "3 months"),
        (365 * DAY, "12 months"),
    ],
)
def test_length(span: float, said: str) -> None:
    assert length(span) == said


def test_ago() -> None:
    assert ago(-5 * SECOND) == ago(59 * SECOND) == "just now"
    assert ago(60 * SECOND) == "60 seconds ago"
    assert ago(3 * HOUR) == "3 hours ago"


def test_money_and_times() -> None:
    assert [money(x) for x in (0, -3.5, 99.5, 1234.5)] == ["0.00", "-3.50", "99.50", "1,234"]
    assert [times(x) for x in (0.25, 9.5, 12.3)] == ["0.2 ×", "9.5 ×", "12 ×"]
