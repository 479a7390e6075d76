"""What is printed adds up."""

from __future__ import annotations

import io
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from limner.cli import show
from limner.profile.facet import SECTIONS, Section, Slot
from limner.profile.portrait import Portrait
from limner.recommend.rank import Recommendation, Recommendations, Step

numbers = st.floats(-1e6, 1e6, allow_nan=False)


@given(st.dictionaries(st.text(max_size=5), numbers, min_size=1, max_size=8), st.integers(0, 4))
def test_printed_parts_sum_to_the_printed_score(parts: dict[str, float], digits: int) -> None:
    whole = sum(parts.values())
    shown, score = show.summing(parts, whole, digits)
    assert sum(map(Decimal, shown)) == Decimal(score)
    unit = 10.0**-digits
    for text, value in zip(shown, parts.values(), strict=True):
        assert abs(float(text) - value) <= unit * (1 + 1e-6)
    assert abs(float(score) - whole) <= unit


def printed(width: int, *arguments: object) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, markup=False, emoji=False, highlight=False)
    draw, value = arguments
    draw(console, value)  # type: ignore[operator]
    return stream.getvalue()


def listed(n: int) -> Recommendations:
    parts = {f"part_{i}": 0.1 * i for i in range(n)}
    item = Recommendation(
        "p1", "Yogurt, 32 oz", 1, sum(parts.values()), parts, (Step("caps", 3, 1),), "bought twice"
    )
    return Recommendations("u1", "r", 0, 0, (item,))


@pytest.mark.parametrize("width", [60, 80, 110, 160])
def test_a_list_fits_the_screen_with_all_its_parts(width: int) -> None:
    text = printed(width, show.recommendations, listed(6))
    assert max(map(len, text.splitlines())) <= width
    assert "1.500" in text
    for i in range(6):
        assert f"{0.1 * i:.3f}" in text
    assert "Yogurt, 32 oz" in text
    assert "caps: from 3 to 1" in text


def slot(section: Section) -> dict[str, Slot]:
    name = "slot_of_a_long_name"
    made = Slot(name, section, "label", 1, "said in plain words", 0.5, 7, 0)
    return {name: replace(made, percentile=0.9, tier="high")}


@pytest.mark.parametrize("width", [80, 110])
def test_a_portrait_fits_the_screen_and_points_to_its_evidence(width: int) -> None:
    basic, behaviour, interests, value = (slot(section) for section in SECTIONS)
    seen = Portrait("u1", 3 * 86_400_000_000, 9, basic, behaviour, interests, value)
    text = printed(width, show.portrait, seen)
    boxed = [line for line in text.splitlines() if line.startswith(("│", "╭", "╰"))]
    assert {len(line) for line in boxed} == {width}
    for section in SECTIONS:
        assert f"{section}.slot_of_a_long_name" in text
    for part in ("said in plain words", "7 events, newest 3 days ago", "████░░░░ 50 %"):
        assert part in text


def test_an_empty_section_says_so() -> None:
    assert printed(80, show.portrait, Portrait("u1", 0, 0)).count("nothing is known yet") == 4
