"""Random conditions over random columns: all rows at once equal one row at a time."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.errors import ExpressionError
from limner.events.arrays import Vocabulary
from limner.events.expression import (
    Binary,
    Exists,
    Field,
    Literal,
    Node,
    Unary,
    Within,
    parse,
    unknown,
)
from limner.events.matching import Column, matches

GRADES = ("low", "middle", "high", "top")
TEXTS = ("tea", "milk", "30", "30.0", "")
SIGNS = {"==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
         ">": operator.gt, ">=": operator.ge}  # fmt: skip
SUMS = {"+": operator.add, "-": operator.sub, "*": operator.mul}
Row = Mapping[str, Any]


# -- one row at a time, with None for what is not known -----------------------------------------


def plain(node: Node, row: Row) -> Any:
    match node:
        case Literal(value=value):
            return value
        case Field():
            return row[str(node)]
        case Exists(field=field):
            return row[str(field)] is not None
        case Unary(sign="not"):
            inner = plain(node.of, row)
            return None if inner is None else not inner
        case Unary():
            inner = plain(node.of, row)
            return None if inner is None else -inner
        case Within():
            met = [equal("==", plain(node.of, row), plain(o, row)) for o in node.options]
            return True if True in met else None if None in met else False
        case Binary(sign="and"):
            sides = [plain(node.left, row), plain(node.right, row)]
            return False if False in sides else None if None in sides else True
        case Binary(sign="or"):
            sides = [plain(node.left, row), plain(node.right, row)]
            return True if True in sides else None if None in sides else False
        case Binary(sign=sign):
            left, right = plain(node.left, row), plain(node.right, row)
            if sign in SIGNS:
                return equal(sign, left, right)
            if left is None or right is None or (sign == "/" and right == 0):
                return None
            found = left / right if sign == "/" else SUMS[sign](left, right)
            return found if math.isfinite(found) else None


def equal(sign: str, left: Any, right: Any) -> bool | None:
    if left is None or right is None:
        return None
    if {left, right} <= set(GRADES):
        left, right = GRADES.index(left), GRADES.index(right)
    elif isinstance(left, str) != isinstance(right, str):
        try:
            left, right = float(left), float(right)
        except ValueError:
            return None
    return bool(SIGNS[sign](left, right))


# -- random conditions, written out ------------------------------------------------------------

NUMBERS, WORDS, TIERS, TRUTHS = ("n.a", "n.b"), ("t.a", "t.b"), ("g.a", "g.b"), ("c.a",)
number = st.recursive(
    st.sampled_from(NUMBERS) | st.sampled_from(["0", "1", "2.5", "30"]),
    lambda inner: (
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda parts: f"({' '.join(parts)})")
        | inner.map(lambda text: f"-{text}")
    ),
    max_leaves=3,
)
word = st.sampled_from(WORDS)
quoted = st.sampled_from([f'"{text}"' for text in (*TEXTS, "unheard of")])
grade = st.sampled_from(TIERS)
graded = st.sampled_from([f"'{name}'" for name in GRADES])


def compared(left: Any, sign: Any, right: Any) -> st.SearchStrategy[str]:
    return st.tuples(left, sign, right).map(" ".join)


def listed(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(inner, min_size=1, max_size=3).map(lambda given: f"[{', '.join(given)}]")


equality, within = st.sampled_from(["==", "!="]), st.sampled_from(["in", "not in"])
simple = st.one_of(
    compared(number, st.sampled_from(list(SIGNS)), number),
    compared(word, equality, quoted | word),
    compared(word, st.sampled_from(list(SIGNS)), st.just("30")),
    compared(grade, st.sampled_from(list(SIGNS)), graded | grade),
    compared(number, within, listed(number)),
    compared(word, within, listed(quoted)),
    compared(grade, within, listed(graded)),
    st.sampled_from([*NUMBERS, *WORDS, *TIERS, *TRUTHS]).map(lambda name: f"exists {name}"),
    st.sampled_from(TRUTHS),
    st.sampled_from(["true", "false", "c.a == true", "c.a != false"]),
)
conditions = st.recursive(
    simple,
    lambda inner: (
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(
            lambda parts: f"({' '.join(parts)})"
        )
        | inner.map(lambda text: f"not ({text})")
    ),
    max_leaves=6,
)
rows_of = st.lists(
    st.fixed_dictionaries(
        {name: st.none() | st.sampled_from([-1.0, 0.0, 1.0, 2.5, 30.0]) for name in NUMBERS}
        | {name: st.none() | st.sampled_from(TEXTS) for name in WORDS}
        | {name: st.none() | st.sampled_from(GRADES) for name in TIERS}
        | {name: st.none() | st.booleans() for name in TRUTHS}
    ),
    max_size=6,
)
ORDERED, OTHERS = Vocabulary(GRADES), {name: Vocabulary(TEXTS[::step]) for name, step in
                                       zip(WORDS, (1, -1), strict=True)}  # fmt: skip


def column(name: str, rows: list[Row]) -> Column:
    given = [row[name] for row in rows]
    known = np.array([value is not None for value in given], dtype=bool)
    if name in NUMBERS:
        values = np.array([math.nan if v is None else v for v in given], dtype=np.float64)
        return Column("number", values, known)
    if name in TRUTHS:
        return Column("truth", np.array([bool(v) for v in given], dtype=bool), known)
    words = ORDERED if name in TIERS else OTHERS[name]
    codes = np.array([-1 if v is None else words.code(v) for v in given], dtype=np.int32)
    return Column("grade" if name in TIERS else "text", codes, known, words)


@settings(max_examples=150, deadline=None)
@given(text=conditions, rows=rows_of)
def test_all_rows_at_once_equal_one_at_a_time(text: str, rows: list[Row]) -> None:
    tree = parse(text)
    found = matches(tree, lambda field: column(str(field), rows))
    expected = [plain(tree, row) is True for row in rows]
    assert np.broadcast_to(found, len(rows)).tolist() == expected


def test_times_are_compared_with_dates() -> None:
    times = Column("time", np.array([0, 86_400_000_000 * 365]), np.array([True, True]))
    for text, expected in (
        ('t > "1970-06-01"', [False, True]),
        ("t == 0", [True, False]),
        ('t in ["1971-01-01"]', [False, True]),
    ):
        assert matches(parse(text), lambda field: times).tolist() == expected


@pytest.mark.parametrize(
    ("text", "at", "said"),
    [
        ("n.a", 1, "this is a number, and no condition"),
        ("not n.a", 5, "no condition"),
        ("n.a == true", 5, "a number cannot be compared with a condition"),
        ("n.a > 'x'", 5, "the text 'x' cannot be compared with a number"),
        ("t.a > 'x'", 5, "a text is not more or less"),
        ("g.a == 'hihg'", 5, "did you mean 'high'"),
        ("g.a > 3", 5, "a grade cannot be compared with a number"),
        ("-c.a > 3", 2, "this is a condition, and no number"),
        ("'x' + 1 > 3", 1, "this is a text, and no number"),
        ("z.z > 3", 1, "did you mean 'n'"),
    ],
)
def test_what_cannot_be_compared_is_said_with_its_column(text: str, at: int, said: str) -> None:
    def resolve(field: Field) -> Column:
        if field.parts[0].text == "z":
            raise unknown(field.parts[0], "field", ["n"])
        return column(str(field), [])

    with pytest.raises(ExpressionError) as found:
        matches(parse(text), resolve)
    assert said in str(found.value) or (text == "z.z > 3" and "there are n" in str(found.value))
    assert found.value.where == f"column {at}"
