"""What the language of conditions is, and what it refuses, with the column."""

from __future__ import annotations

import pytest

from limner.errors import ExpressionError
from limner.events.expression import Binary, Field, Literal, Node, Unary, Within, parse, walk


def shape(tree: Node) -> str:
    """A tree with all its parentheses."""
    match tree:
        case Literal(value=value):
            return repr(value)
        case Field():
            return str(tree)
        case Unary(sign=sign, of=inner):
            return f"({sign} {shape(inner)})"
        case Binary(sign=sign, left=left, right=right):
            return f"({shape(left)} {sign} {shape(right)})"
        case Within(of=inner, options=options):
            return f"({shape(inner)} in {', '.join(map(shape, options))})"
        case _:
            return f"(exists {tree.field})"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.b > 3 and not a.c == 'x' or exists a.d", "(((a.b > 3.0) and (not (a.c == 'x'))) or "
         "(exists a.d))"),
        ("a + 2 * b - 1 >= -c / 2", "(((a + (2.0 * b)) - 1.0) >= ((- c) / 2.0))"),
        ('i.category["GREEN TEA"].share <= .5', '(i.category["GREEN TEA"].share <= 0.5)'),
        ("a in [1, 2] or a not in ['x']", "((a in 1.0, 2.0) or (not (a in 'x')))"),
        ("not a.b and a.c", "((not a.b) and a.c)"),
        ("(a or b) and c == true", "((a or b) and (c == True))"),
        (r'a == "say \"hi\""', "(a == 'say \"hi\"')"),
        ("größe.länge > 1e3", "(größe.länge > 1000.0)"),
        ("not exists a.b", "(not (exists a.b))"),
        ("a.hours[8] > 1", '(a.hours["8"] > 1.0)'),
    ],
)  # fmt: skip
def test_what_binds_what(text: str, expected: str) -> None:
    assert shape(parse(text)) == expected


@pytest.mark.parametrize(
    ("text", "column", "said"),
    [
        ("", 1, "a value is needed here, not the end"),
        ("a >", 4, "a value is needed"),
        ("a = 3", 3, "write =="),
        ("a == 3 && b", 8, "write and"),
        ("a == 'x", 6, "has no end"),
        ("a < b < c", 7, "write a < b and b < c"),
        ("(a", 3, "')' is needed"),
        ("a b", 3, "not expected here"),
        ("a in 3", 6, "'[' is needed"),
        ("a in []", 7, "a value is needed"),
        ("exists 3", 1, "asks for a field"),
        ("a.[3]", 3, "a name"),
        ("a[b]", 3, "a key in quotes"),
        ("a > 14d", 5, "'14d' is not understood"),
        ("a > 1e999", 5, "too large"),
        ("a # b", 3, "'#' is not understood"),
        ("__import__('os')", 11, "not expected"),
        ("(" * 5_000 + "a", 61, "nested too deeply"),
        ("not " * 2_000 + "a", 241, "nested too deeply"),
        ("+".join("a" * 2_000), 402, "more than 200 operators"),
        ("a" * 10_001, 10_001, "10,000 characters"),
    ],
)
def test_what_is_refused_and_where(text: str, column: int, said: str) -> None:
    with pytest.raises(ExpressionError) as found:
        parse(text)
    assert said in str(found.value)
    assert found.value.where == f"column {column}"


def test_a_long_list_is_no_deep_tree() -> None:
    tree = parse(f"a in [{', '.join(map(str, range(1_000)))}]")
    assert isinstance(tree, Within) and len(tree.options) == 1_000


def test_walking_meets_every_field() -> None:
    tree = parse("not (a.b + 1 > c) or d in [e, 2] and exists f")
    assert [str(n) for n in walk(tree) if isinstance(n, Field)] == ["a.b", "c", "d", "e", "f"]
