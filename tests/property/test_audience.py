"""Audiences: a condition over all users at once is the condition of each user's portrait."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.property.test_columns import CONFIG, SHOP, state_of

from limner.errors import ExpressionError
from limner.events.batch import DAY
from limner.events.expression import Binary, Exists, Field, Literal, Node, Unary, Within, parse
from limner.events.raw import USER
from limner.profile import portrait
from limner.profile.audience import find
from limner.profile.facet import Entry
from limner.profile.facets.money import tier
from limner.profile.population import Population
from limner.profile.state import ProfileState
from limner.profile.survey import survey
from limner.testing.laws import LAWS, START, Row, event_rows, item_rows

NOW = START + 9 * DAY
TIERS = ["low", "middle", "high", "top"]
FIELDS = {
    "value.spend": ["0", "3.5", "40"],
    "value.spend.percentile": ["0.2", "0.7"],
    "value.spend.confidence": ["0.2", "0.5"],
    "value.spend.events": ["1", "2"],
    "behaviour.days_since_last": ["4", "8.5"],
    'behaviour.events["view"]': ["0", "1"],
    'interests.category["category1"].weight': ["0", "0.4"],
    'interests.category["category1"].share': ["0.2", "0.9"],
    'interests.type["type0"].against_all': ["1", "2"],
    "behaviour.recency_quintile": ["2", "4"],
    "basic.age": ['"age0"', '"age1"'],
    "value.tier": ['"middle"', '"high"'],
    "value.average_price.tier": ['"middle"'],
    "value.rfm": ['"champions"', '"loyal"', '"hibernating"'],
}
ORDERED = ("value.tier", "value.average_price.tier")


def simple(name: str) -> st.SearchStrategy[str]:
    texts = FIELDS[name][0].startswith('"')
    signs = ["==", "!="] if texts and name not in ORDERED else ["<", "<=", ">", ">=", "==", "!="]
    option = st.sampled_from(FIELDS[name])
    return st.one_of(
        st.tuples(st.just(name), st.sampled_from(signs), option).map(" ".join),
        st.lists(option, min_size=1, max_size=2).map(lambda few: f"{name} in [{', '.join(few)}]"),
        st.just(f"exists {name}"),
    )


DECLARED: Row = {"user_id": b"d" * 16, "event_type": USER, "timestamp": START,
                 "properties.age": "age1"}  # fmt: skip

conditions = st.recursive(
    st.sampled_from(sorted(FIELDS)).flatmap(simple),
    lambda inner: (
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(
            lambda parts: f"({' '.join(parts)})"
        )
        | inner.map(lambda text: f"not {text}")
    ),
    max_leaves=5,
)


# -- one user at a time ------------------------------------------------------------------------


def value(node: Field, seen: portrait.Portrait, population: Population) -> tuple[Any, bool]:
    """(what a field is for a user, None if unknown; whether it is there)."""
    section, name, *rest = (part.text for part in node.parts)
    slot = seen.slot(f"{section}.{name}")
    if slot is None:
        return None, False
    if node.parts[-1].keyed or (len(rest) == 2):
        if isinstance(slot.value, dict):
            return slot.value.get(rest[0], 0), rest[0] in slot.value
        entry = next((e for e in slot.value if isinstance(e, Entry) and e.key == rest[0]), None)
        if entry is not None:
            return getattr(entry, rest[1]), True
        # nobody has the key: its share against everybody's is 0 ÷ 0
        nobody = rest[1] == "against_all" and rest[0] not in population_keys(population, name)
        return None if nobody else 0.0, False
    if rest:
        if rest[0] in ("percentile", "tier"):
            place = population.percentile(name, slot.value)
            return (place if rest[0] == "percentile" else tier(place)), place is not None
        return getattr(slot, rest[0]), True
    return slot.value, True


def population_keys(population: Population, facet: str) -> set[str]:
    keys, sums = population.sums[facet]
    return {WORDS[-1][key] for key, total in zip(keys, sums[:, -1], strict=True) if total > 0}


WORDS: list[list[str]] = []
"""The item types of the state at hand, by their codes."""


def judged(node: Node, seen: portrait.Portrait, population: Population) -> bool | None:
    def inner(of: Node) -> Any:
        if isinstance(of, Field):
            return value(of, seen, population)[0]
        return of.value if isinstance(of, Literal) else judged(of, seen, population)

    match node:
        case Exists(field=field):
            return value(field, seen, population)[1]
        case Unary(of=below):
            found = inner(below)
            return None if found is None else not found
        case Within(of=below, options=options):
            return None if inner(below) is None else inner(below) in [inner(o) for o in options]
        case Binary(sign="and" | "or" as sign, left=left, right=right):
            sides = (inner(left), inner(right))
            decides = sign == "or"
            return decides if decides in sides else None if None in sides else not decides
        case Binary(sign=sign, left=left, right=right):
            a, b = inner(left), inner(right)
            if a is None or b is None:
                return None
            if a in TIERS:
                a, b = TIERS.index(a), TIERS.index(b)
            met: bool = {
                "==": a == b, "!=": a != b, "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b,
            }[sign] if isinstance(a, int | float) else (a == b) == (sign == "==")  # fmt: skip
            return met
    raise AssertionError(node)


@settings(LAWS, max_examples=12)
@given(
    items=item_rows(),
    rows=event_rows(users=22, min_size=30, max_size=50),
    texts=st.lists(conditions, min_size=5, max_size=5),
)
def test_an_audience_is_whose_portraits_meet_the_condition(
    items: list[Row], rows: list[Row], texts: list[str]
) -> None:
    state = state_of(SHOP, items, [*rows, DECLARED])
    population = survey(state, NOW, CONFIG.population)
    WORDS[:] = [state.vocabulary("item.type").values]
    for text in texts:
        expected = {
            user
            for user, row in state.rows.items()
            if judged(
                parse(text), portrait.read(state, row, population, NOW, user_id=""), population
            )
        }
        found = find(state, population, NOW, text)
        assert set(found.page(1_000)) == expected, text
        assert len(found) == len(expected)


# -- what is said ------------------------------------------------------------------------------


def shop() -> ProfileState:
    rows: list[Row] = [
        {
            "user_id": bytes([n, 255 - n] * 8),
            "event_type": "purchase",
            "timestamp": START + n * DAY // 10,
            "item_id": f"item{n % 3}",
            "value": float(n),
        }
        for n in range(60)
    ]
    items: list[Row] = [
        {"item_id": f"item{n}", "event_type": "$item", "timestamp": START,
         "properties.category": ("TEA", "COFFEE", "BREAD")[n]} for n in range(3)
    ]  # fmt: skip
    return state_of(SHOP, items, rows)


@pytest.mark.parametrize(
    ("text", "column", "said"),
    [
        ("valeu.spend > 3", 1, "did you mean 'value'"),
        ("value.spent > 3", 7, "did you mean 'spend'"),
        ("value > 3", 1, "name a slot: value.NAME"),
        ("value.spend.percentil > 0.5", 13, "did you mean 'percentile'"),
        ('value.spend["x"] > 0.5', 13, "has no keys"),
        ("interests.category > 0.5", 1, "name one"),
        ('interests.category["TEA"].shere > 0.5', 27, "did you mean 'share'"),
        ("interests.category.tier == 'high'", 20, "there are changed_at, confidence, events"),
        ("value.tier == 'hihg'", 12, "did you mean 'high'"),
        ("value.spend", 1, "this is a number, and no condition"),
    ],
)
def test_what_is_wrong_is_said_with_its_column_and_the_nearest_name(
    text: str, column: int, said: str
) -> None:
    state = shop()
    with pytest.raises(ExpressionError) as found:
        find(state, survey(state, NOW, CONFIG.population), NOW, text)
    assert said in str(found.value)
    assert found.value.where == f"column {column}"


def test_a_key_that_nobody_has_is_noted_with_the_nearest() -> None:
    state = shop()
    found = find(state, Population(), NOW, 'interests.category["COFFE"].share > 0.1')
    assert len(found) == 0
    assert found.notes == ("nobody has interests.category['COFFE']; did you mean 'COFFEE'?",)
    assert find(state, Population(), NOW, 'exists interests.category["TEA"]').notes == ()


def test_pages_are_all_users_once_in_an_order_that_stays() -> None:
    state = shop()
    found = find(state, Population(), NOW, "value.spend >= 10")
    assert (len(found), found.of) == (50, 60)
    seen: list[bytes] = []
    while page := found.page(7, seen[-1] if seen else b""):
        seen += page
    assert seen == sorted(seen) and len(seen) == 50
    assert set(seen) == {user for user in state.rows if user[0] >= 10}
    gone = seen[3]
    state.erase(gone)
    again = find(state, Population(), NOW, "value.spend >= 10")
    assert again.page(3, gone) == seen[4:7]
    assert len(find(state, Population(), NOW, "not exists value.spend or true")) == 59


def test_an_index_is_the_share_in_the_audience_over_the_share_of_all() -> None:
    state = shop()
    group = 'exists interests.category["TEA"]'
    found = find(state, Population(), NOW, group, index="interests.category")
    marks = {mark.key: mark for mark in found.index}
    assert marks["TEA"].index == pytest.approx(300)
    assert (marks["COFFEE"].index, marks["COFFEE"].share) == (0, 0)
    assert marks["COFFEE"].overall == pytest.approx(1 / 3)
    population = survey(state, NOW, CONFIG.population)
    by_tier = find(state, population, NOW, "value.spend > 53", index="value.tier").index
    assert next((mark.key, round(mark.share, 3)) for mark in by_tier) == ("top", 1.0)
    with pytest.raises(ExpressionError, match="no slot that an index can be of"):
        find(state, population, NOW, group, index="behaviour.nothing")
    with pytest.raises(ExpressionError, match="of shares or of texts"):
        find(state, population, NOW, group, index="value.spend")


def test_nobody_is_an_empty_audience_and_mistakes_are_still_found() -> None:
    state = ProfileState(SHOP)
    found = find(state, Population(), NOW, "value.spend > 3", index="interests.category")
    assert (len(found), found.of, found.page(5), found.index) == (0, 0, [], ())
    with pytest.raises(ExpressionError, match="did you mean 'spend'"):
        find(state, Population(), NOW, "value.spent > 3")
    assert np.array_equal(found.pseudonyms, np.empty((0, 2), dtype=np.uint64))
