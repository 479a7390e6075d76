"""A small language of conditions: `value.spend > 100 and interests.category["tea"].share > 0.3`.

What it speaks of is not decided here: a field is a path, and whoever evaluates says what columns
there are (`limner.events.matching`). So audiences over users and filters over items share it.

    condition   = condition "or" condition | condition "and" condition | "not" condition
                | "exists" FIELD | operand [comparison operand] | operand ["not"] "in" list
    comparison  = "==" | "!=" | "<" | "<=" | ">" | ">="
    operand     = FIELD | NUMBER | TEXT | "true" | "false" | "(" condition ")" | "-" operand
                | operand ("+" | "-" | "*" | "/") operand
    list        = "[" operand {"," operand} "]"
    FIELD       = NAME {"." NAME | "[" TEXT "]"}

A Pratt parser (V. Pratt, "Top down operator precedence", 1973); nothing is ever executed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from math import isfinite

from limner.errors import ExpressionError

LONGEST = 10_000
DEEPEST = 60
MOST = 200
"""Characters, levels of nesting and operators beyond which an expression is refused."""

ARITHMETIC = ("+", "-", "*", "/")
COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
_BINDS = {"or": 1, "and": 2, "in": 4, "not": 4, **dict.fromkeys(COMPARISONS, 4)} | {
    "+": 5, "-": 5, "*": 6, "/": 6,
}  # fmt: skip
_NOT, _MINUS = 3, 7
_WORDS = ("and", "or", "not", "in", "exists", "true", "false")
_MEANT = {"=": "==", "&&": "and", "||": "or", "!": "not", "<>": "!=", "===": "==", "&": "and",
          "|": "or"}  # fmt: skip

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
  | (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
  | (?P<name>[^\W\d]\w*)
  | (?P<sign>===|==|!=|<=|>=|<>|&&|\|\||[-<>+*/()\[\],.=!&|])
  | (?P<end>$)
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Literal:
    """A number, a text or a truth."""

    value: float | str | bool
    at: int


@dataclass(frozen=True, slots=True)
class Part:
    """A step of a path: a name, or with `keyed` a text in brackets."""

    text: str
    keyed: bool
    at: int


@dataclass(frozen=True, slots=True)
class Field:
    """A path into what is known: `interests.category["tea"].share`."""

    parts: tuple[Part, ...]

    @property
    def at(self) -> int:
        """Where it begins."""
        return self.parts[0].at

    def __str__(self) -> str:
        return "".join(
            f'["{part.text}"]' if part.keyed else f".{part.text}" for part in self.parts
        ).removeprefix(".")


@dataclass(frozen=True, slots=True)
class Unary:
    """`not` or `-` before something."""

    sign: str
    of: Node
    at: int


@dataclass(frozen=True, slots=True)
class Binary:
    """Two things and what stands between them."""

    sign: str
    left: Node
    right: Node
    at: int


@dataclass(frozen=True, slots=True)
class Within:
    """Whether something is one of a list."""

    of: Node
    options: tuple[Node, ...]
    at: int


@dataclass(frozen=True, slots=True)
class Exists:
    """Whether a field is known."""

    field: Field
    at: int


Node = Literal | Field | Unary | Binary | Within | Exists


def problem(what: str, at: int, mend: str = "") -> ExpressionError:
    """The error of a place in an expression; columns are counted from 1."""
    return ExpressionError(what, where=f"column {at + 1}", mend=mend)


def unknown(part: Part, what: str, known: Iterable[str]) -> ExpressionError:
    """The error of a name that is not among the known ones; it names the nearest.

    >>> print(unknown(Part("categry", False, 4), "slot of interests", ["category", "brand"]))
    column 5: 'categry' is no slot of interests
      to mend it: did you mean 'category'? there are brand, category
    """
    names = sorted(known)
    close = get_close_matches(part.text, names, 1, 0.5)
    listed = ", ".join(names[:30]) + (", …" if len(names) > 30 else "")
    meant = f"did you mean {close[0]!r}? " if close else ""
    mend = f"{meant}there are {listed}" if names else "nothing is known of it yet"
    return problem(f"{part.text!r} is no {what}", part.at, mend)


def parse(text: str) -> Node:
    """The tree of an expression.

    Raises ExpressionError, with the column, for what is none.

    >>> str(parse('interests.category["tea"].share > 0.3').left)
    'interests.category["tea"].share'
    >>> parse("value.spend >> 3")
    Traceback (most recent call last):
    limner.errors.ExpressionError: column 14: a value is needed here, not '>'
    """
    if len(text) > LONGEST:
        raise problem(f"the expression has more than {LONGEST:,} characters", LONGEST)
    parser = _Parser(_tokens(text))
    tree = parser.expression(0)
    if parser.next.kind != "end":
        raise problem(f"{parser.next.text!r} is not expected here", parser.next.at,
                      "join two conditions by and, or")  # fmt: skip
    return tree


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


def _tokens(text: str) -> list[_Token]:
    out = []
    place = 0
    while True:
        found = _TOKEN.match(text, place)
        if found is None:
            rest = text[place:].lstrip()
            at = len(text) - len(rest)
            if rest[0] in "\"'":
                raise problem("the text that begins here has no end", at, f"add {rest[0]}")
            word = re.match(r"\d[\w.]*|.", rest)
            raise problem(f"{word.group() if word else rest[0]!r} is not understood", at,
                          "texts stand in quotes, numbers have no unit")  # fmt: skip
        kind = str(found.lastgroup)
        token = _Token(kind, found.group(kind), found.start(kind))
        if kind == "sign" and token.text in _MEANT:
            raise problem(f"{token.text!r} is no sign", token.at, f"write {_MEANT[token.text]}")
        out.append(token)
        if kind == "end":
            return out
        place = found.end()


class _Parser:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._place = 0
        self._depth = 0
        self._operators = 0

    @property
    def next(self) -> _Token:
        return self._tokens[self._place]

    def _take(self) -> _Token:
        token = self.next
        self._place += 1
        return token

    def _need(self, text: str, why: str) -> None:
        if self.next.text != text or self.next.kind == "text":
            raise problem(f"{text!r} is needed here {why}", self.next.at)
        self._place += 1

    def _binding(self) -> int:
        token = self.next
        if token.kind == "sign" or (token.kind == "name" and token.text in ("and", "or", "in")):
            return _BINDS.get(token.text, 0)
        if token.kind == "name" and token.text == "not":  # only as "not in"
            after = self._tokens[self._place + 1]
            return _BINDS["not"] if after.kind == "name" and after.text == "in" else 0
        return 0

    def expression(self, least: int) -> Node:
        """What binds tighter than `least`."""
        self._depth += 1
        if self._depth > DEEPEST:
            raise problem("the expression is nested too deeply", self.next.at)
        left = self._first()
        while (binds := self._binding()) > least:
            token = self._take()
            self._operators += 1
            if self._operators > MOST:
                raise problem(f"the expression has more than {MOST} operators", token.at)
            if token.text in ("in", "not"):
                if token.text == "not":
                    self._take()
                found: Node = Within(left, self._list(), token.at)
                left = Unary("not", found, token.at) if token.text == "not" else found
            else:
                left = Binary(token.text, left, self.expression(binds), token.at)
            if binds == _BINDS["=="] and self._binding() == binds:
                raise problem(
                    "comparisons do not follow one another", self.next.at, "write a < b and b < c"
                )
        self._depth -= 1
        return left

    def _first(self) -> Node:
        token = self._take()
        if token.kind == "number":
            number = float(token.text)
            if not isfinite(number):
                raise problem(f"{token.text} is too large", token.at)
            return Literal(number, token.at)
        if token.kind == "text":
            return Literal(_unquoted(token.text), token.at)
        if token.kind == "sign" and token.text == "(":
            inner = self.expression(0)
            self._need(")", f"to close the parenthesis of column {token.at + 1}")
            return inner
        if token.kind == "sign" and token.text == "-":
            return Unary("-", self.expression(_MINUS), token.at)
        if token.kind == "name":
            if token.text == "not":
                return Unary("not", self.expression(_NOT), token.at)
            if token.text in ("true", "false"):
                return Literal(token.text == "true", token.at)
            if token.text == "exists":
                field = self._first()
                if not isinstance(field, Field):
                    raise problem("exists asks for a field", token.at, "write exists value.spend")
                return Exists(field, token.at)
            if token.text not in _WORDS:
                return self._field(token)
        named = repr(token.text) if token.text else "the end"
        raise problem(f"a value is needed here, not {named}", token.at)

    def _field(self, first: _Token) -> Field:
        parts = [Part(first.text, False, first.at)]
        while self.next.kind == "sign" and self.next.text in (".", "["):
            dot = self._take().text == "."
            token = self._take()
            if dot and token.kind == "name":
                parts.append(Part(token.text, False, token.at))
            elif not dot and token.kind in ("text", "number"):
                text = _unquoted(token.text) if token.kind == "text" else token.text
                parts.append(Part(text, True, token.at))
                self._need("]", "after the key")
            else:
                raise problem(f"a {'name' if dot else 'key in quotes'} is needed here", token.at)
        return Field(tuple(parts))

    def _list(self) -> tuple[Node, ...]:
        self._need("[", "to begin a list")
        options = [self.expression(0)]
        while self.next.text == "," and self.next.kind == "sign":
            self._take()
            options.append(self.expression(0))
        self._need("]", "to end the list")
        return tuple(options)


def _unquoted(text: str) -> str:
    r"""A text without its quotes; a backslash takes the next character as it is.

    >>> _unquoted(r'"a \"b\" c"')
    'a "b" c'
    """
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)


def walk(tree: Node) -> Iterable[Node]:
    """A tree's nodes, each before what it is made of."""
    yield tree
    below: tuple[Node, ...] = ()
    match tree:
        case Unary(of=inner):
            below = (inner,)
        case Binary(left=left, right=right):
            below = (left, right)
        case Within(of=inner, options=options):
            below = (inner, *options)
        case Exists(field=field):
            below = (field,)
    for node in below:
        yield from walk(node)
