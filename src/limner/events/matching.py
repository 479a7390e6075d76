"""Which rows meet an expression: its tree evaluated over columns, all rows at once.

What is not known stays not known, as in SQL: a comparison with it is neither true nor false,
`not` of that neither, and a row counts only where the whole is true. `exists` asks.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from typing import Literal as OneOf

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from limner.events.arrays import Vocabulary
from limner.events.batch import F64, Bool
from limner.events.expression import (
    ARITHMETIC,
    Binary,
    Exists,
    Field,
    Literal,
    Node,
    Part,
    Unary,
    Within,
    problem,
    unknown,
)
from limner.events.timestamps import to_micros

Kind = OneOf["number", "text", "grade", "time", "truth"]

_A: Mapping[Kind, str] = {
    "number": "a number", "text": "a text", "grade": "a grade", "time": "a time",
    "truth": "a condition",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Column:
    """A value for each row: `values` (n,), which hold only where `known`.

    `text` and `grade` are codes into `words`; a grade's words are in rising order. Times are µs.
    A `constant` has length 1. `present` is what `exists` asks for, if that is not `known`: a key
    that a user lacks has the weight 0, and is not there.
    """

    kind: Kind
    values: npt.NDArray[Any]
    known: Bool
    words: Vocabulary | None = None
    present: Bool | None = None
    constant: bool = False


Resolve = Callable[[Field], Column]


def numbers(values: npt.NDArray[Any], known: Bool) -> Column:
    """A column of numbers; what is no finite number is not known."""
    plain: F64 = np.asarray(values, dtype=np.float64)
    return Column("number", plain, known & np.isfinite(plain))


def matches(tree: Node, resolve: Resolve) -> Bool:
    """Rows that meet the condition, (n,); (1,) if it names no field.

    `resolve` gives a field's column or raises ExpressionError (see `expression.unknown`).
    Raises ExpressionError where things are compared that cannot be.
    """
    found = _evaluate(tree, resolve)
    if found.kind != "truth":
        raise problem(f"this is {_A[found.kind]}, and no condition", tree.at,
                      "compare it with something: … > 10")  # fmt: skip
    return found.values & found.known


def _evaluate(node: Node, resolve: Resolve) -> Column:
    match node:
        case Literal(value=value):
            return _constant(value)
        case Field():
            return resolve(node)
        case Exists(field=field):
            found = resolve(field)
            return _truth(found.known if found.present is None else found.present)
        case Unary(sign="not"):
            inner = _condition(node.of, resolve)
            return replace(inner, values=~inner.values)
        case Unary():
            inner = _number(node.of, resolve)
            return replace(inner, values=-inner.values, present=None)
        case Within():
            left = _evaluate(node.of, resolve)
            met = [_compared("==", left, _evaluate(o, resolve), o.at) for o in node.options]
            out = met[0]
            for other in met[1:]:
                out = _either(out, other)
            return out
        case Binary(sign="and"):
            left, right = _condition(node.left, resolve), _condition(node.right, resolve)
            no = _either(replace(left, values=~left.values), replace(right, values=~right.values))
            return replace(no, values=~no.values)
        case Binary(sign="or"):
            return _either(_condition(node.left, resolve), _condition(node.right, resolve))
        case Binary(sign=sign) if sign in ARITHMETIC:
            left, right = _number(node.left, resolve), _number(node.right, resolve)
            with np.errstate(all="ignore"):
                values = _ARITHMETIC[sign](left.values, right.values)
            return numbers(values, left.known & right.known)
        case Binary():
            left, right = _evaluate(node.left, resolve), _evaluate(node.right, resolve)
            return _compared(node.sign, left, right, node.at)


_ARITHMETIC: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": np.divide,
}  # fmt: skip
_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt,
    ">=": operator.ge,
}  # fmt: skip


def _constant(value: float | str | bool) -> Column:
    known = np.ones(1, dtype=bool)
    if isinstance(value, bool):
        return Column("truth", np.array([value]), known, constant=True)
    if isinstance(value, str):
        code = np.zeros(1, dtype=np.int32)
        return Column("text", code, known, Vocabulary([value]), constant=True)
    return Column("number", np.array([value]), known, constant=True)


def _truth(values: Bool) -> Column:
    return Column("truth", values, np.ones(len(values), dtype=bool))


def _either(left: Column, right: Column) -> Column:
    """One of two conditions: true if one is known to be, false if both are known not to be."""
    yes = (left.values & left.known) | (right.values & right.known)
    return Column("truth", yes, yes | (left.known & right.known))


def _condition(node: Node, resolve: Resolve) -> Column:
    found = _evaluate(node, resolve)
    if found.kind != "truth":
        raise problem(f"this is {_A[found.kind]}, and no condition", node.at,
                      "compare it with something: … > 10")  # fmt: skip
    return found


def _number(node: Node, resolve: Resolve) -> Column:
    found = _evaluate(node, resolve)
    if found.kind == "text" and found.words is not None and not isinstance(node, Literal):
        return _spelled_numbers(found)
    if found.kind != "number":
        raise problem(f"this is {_A[found.kind]}, and no number", node.at)
    return found


def _compared(sign: str, left: Column, right: Column, at: int) -> Column:
    left, right = _alike(left, right, at)
    if left.kind in ("text", "truth") and sign not in ("==", "!="):
        raise problem(f"{_A[left.kind]} is not more or less than another", at, "use == or !=")
    values = _COMPARE[sign](left.values, right.values)
    return Column("truth", values, left.known & right.known)


def _alike(left: Column, right: Column, at: int) -> tuple[Column, Column]:
    """Two columns of one kind, texts of one vocabulary; raises where there is no such."""
    kinds = {left.kind, right.kind}
    if kinds == {"number", "text"}:
        return _as_numbers(left, at), _as_numbers(right, at)
    if kinds == {"time", "text"}:
        return _as_time(left, at), _as_time(right, at)
    if kinds == {"time", "number"}:
        return replace(left, kind="time"), replace(right, kind="time")
    if kinds == {"grade", "text"} or kinds == {"grade"}:
        grade, other = (left, right) if left.kind == "grade" else (right, left)
        translated = _graded(other, grade, at)
        return (left, translated) if grade is left else (translated, right)
    if len(kinds) > 1:
        raise problem(f"{_A[left.kind]} cannot be compared with {_A[right.kind]}", at)
    if left.words is None or right.words is None or left.words is right.words:
        return left, right
    return _of_words(left, right.words), right


def _of_words(column: Column, words: Vocabulary) -> Column:
    """A column of texts in the codes of another vocabulary; −2 for a text that is not in it."""
    assert column.words is not None
    if len(column.words) > len(column.values):  # as a constant beside many words
        own, place = np.unique(column.values, return_inverse=True)
        codes = own.tolist()
    else:
        codes, place = list(range(len(column.words))), column.values
    table = np.array([_code(words, column.words.values[code]) for code in codes] or [-2])
    return replace(column, values=table[place], words=words)


def _code(words: Vocabulary, text: str) -> int:
    code = words.code(text)
    return code if code >= 0 else -2


def _graded(column: Column, grade: Column, at: int) -> Column:
    assert column.words is not None and grade.words is not None
    if column.words is grade.words:
        return column
    out = _of_words(column, grade.words)
    if column.constant and out.values[0] < 0:
        text = column.words.values[column.values[0]]
        raise unknown(Part(text, True, at), "grade of this field", grade.words.values)
    return replace(out, kind="grade", known=out.known & (out.values >= 0))


def _as_numbers(column: Column, at: int) -> Column:
    if column.kind == "number":
        return column
    out = _spelled_numbers(column)
    if column.constant and not out.known[0] and column.words is not None:
        text = column.words.values[column.values[0]]
        raise problem(f"the text {text!r} cannot be compared with a number", at)
    return out


def _spelled_numbers(column: Column) -> Column:
    """Texts that spell numbers as these numbers; others are not known."""
    assert column.words is not None
    used, place = np.unique(np.where(column.known, column.values, -1), return_inverse=True)
    spelled = [column.words.values[code] if code >= 0 else "" for code in used.tolist()]
    return numbers(np.array([_spelled(text) for text in spelled])[place], column.known)


def _spelled(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def _as_time(column: Column, at: int) -> Column:
    if column.kind == "time":
        return column
    assert column.words is not None
    times = to_micros(pa.array(column.words.values[:1], pa.string()))
    if not column.constant or times.missing[0] or times.unreadable[0]:
        raise problem("this cannot be compared with a time", at, 'write a date: "2024-01-31"')
    return Column("time", times.micros, column.known)
