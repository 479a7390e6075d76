"""The type of a property whose source does not say it: decided once, then kept to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limner.events.batch import Bool

Decided = Literal["number", "truth", "text", "list"]

_TRUTH = {"true": True, "false": False}
_TYPES: dict[Decided, pa.DataType] = {
    "number": pa.float64(),
    "truth": pa.bool_(),
    "text": pa.string(),
    "list": pa.list_(pa.string()),
}
_NAMES = frozenset({"title", "category", "brand"})  # text, whatever it looks like
_EXACT = 2.0**53


class Settled:
    """The types of one source's properties, each decided by the first batch that has values.

    A column of text is a number if every value of that batch is one, and none is a code (007, or
    an integer of more than 15 digits, which a float would change); a truth if all are true or
    false; a list if named so or if all are JSON lists; else text. A later value that does not
    fit is not lost: it goes, as text, to a column beside, `NAME.text`, so the column's own type
    never changes. Without `guess` (JSON, which tells "12" from 12) text is text; a title,
    category or brand always is.
    """

    __slots__ = ("_decided", "_guess", "_lists")

    def __init__(self, lists: frozenset[str] = frozenset(), *, guess: bool = True) -> None:
        self._lists = lists
        self._guess = guess
        self._decided: dict[str, Decided] = {}

    def __call__(self, name: str, array: pa.Array, *, split: str = "|") -> Iterator[
        tuple[str, pa.Array]
    ]:  # fmt: skip
        """(name, typed column), and (name.text, misfits) if there are any.

        `split` separates the values of a list in text form.
        """
        if array.null_count == len(array):
            decided = self._decided.get(name)
            yield name, pa.nulls(len(array), _TYPES[decided] if decided else pa.null())
            return
        decided = self._decided.get(name)
        if decided is None:
            decided = self._decided[name] = (
                "list"
                if name in self._lists
                else _decide(array, self._guess and name not in _NAMES)
            )
        typed, misfit = _as(decided, array, split)
        yield name, typed
        if misfit is not None:
            kept = pc.if_else(pa.array(misfit), _text(array), pa.scalar(None, pa.string()))
            yield f"{name}.text", kept


def _decide(array: pa.Array, guess: bool) -> Decided:
    kind = array.type
    if pa.types.is_floating(kind) or pa.types.is_integer(kind):
        return "number"
    if pa.types.is_boolean(kind):
        return "truth"
    if pa.types.is_list(kind):
        return "list"
    if not guess:
        return "text"
    values = array.drop_null()
    first = values[0].as_py()
    if first.lower() in _TRUTH:
        texts = pc.unique(values).to_pylist()
        if all(text.lower() in _TRUTH for text in texts):
            return "truth"
    if first.startswith("["):
        texts = pc.unique(values).to_pylist()
        if all(_json_list(text) is not None for text in texts):
            return "list"
    return "number" if _numbers(values)[1] is None else "text"


def _as(decided: Decided, array: pa.Array, split: str) -> tuple[pa.Array, Bool | None]:
    """(the column in the decided type, mask of the values that do not fit or None)."""
    if array.type == _TYPES[decided]:
        return array, None
    if decided == "text":
        return _text(array), None
    if decided == "list":
        return _split(_text(array), split), None
    if decided == "number":
        return _numbers(_text(array))
    encoded = _text(array).dictionary_encode()
    truths = [_TRUTH.get(text.lower()) for text in encoded.dictionary.to_pylist()]
    typed = pa.array(truths, pa.bool_()).take(encoded.indices)
    misfit = pc.and_(pc.is_valid(encoded), pc.is_null(typed)).to_numpy(zero_copy_only=False)
    return typed, misfit if misfit.any() else None


def _text(array: pa.Array) -> pa.Array:
    if pa.types.is_string(array.type):
        return array
    if pa.types.is_list(array.type):
        rows = array.to_pylist()
        return pa.array(
            [None if row is None else msgspec.json.encode(row).decode() for row in rows],
            pa.string(),
        )
    return array.cast(pa.string())


def _numbers(texts: pa.Array) -> tuple[pa.Array, Bool | None]:
    """(float64 column, mask of what is no number, or would not come back from one)."""
    codes = _codes(texts)
    try:
        numbers = texts.cast(pa.float64())
    except pa.ArrowInvalid:
        encoded = texts.dictionary_encode()
        read = [_number(text) for text in encoded.dictionary.to_pylist()]
        numbers = pa.array(read, pa.float64()).take(encoded.indices)
    finite = pc.fill_null(pc.is_finite(numbers), False).to_numpy(zero_copy_only=False)
    valid = pc.is_valid(texts).to_numpy(zero_copy_only=False)
    misfit: Bool = valid & (~finite | codes)
    if not misfit.any():
        return numbers, None
    return pc.if_else(pa.array(misfit), pa.scalar(None, pa.float64()), numbers), misfit


def _number(text: str) -> float | None:
    try:
        return float(text) if "_" not in text else None
    except ValueError:
        return None


def _codes(texts: pa.Array) -> Bool:
    """Texts of digits that are no amounts: a leading zero, or more digits than a float holds."""
    n = len(texts)
    if n == 0:
        return np.zeros(0, dtype=bool)
    offsets = np.frombuffer(texts.buffers()[1], dtype=np.int32)[texts.offset : texts.offset + n + 1]
    data = texts.buffers()[2]
    if data is None or data.size == 0:
        return np.zeros(n, dtype=bool)
    letters = np.frombuffer(data, dtype=np.uint8)
    start = offsets[:-1]
    length = np.diff(offsets)
    two = length > 1
    first = letters[np.where(two, start, 0)]
    second = letters[np.where(two, start + 1, 0)]
    codes: Bool = two & (first == ord("0")) & (second >= ord("0")) & (second <= ord("9"))
    for row in np.flatnonzero(length > 15).tolist():
        text = texts[row].as_py()
        if text is not None and text.strip().lstrip("+-").isdigit():
            codes[row] = len(text.strip().lstrip("+-")) > 15
    return codes


def _split(texts: pa.Array, split: str) -> pa.Array:
    """Lists from text: JSON lists, or values between `split`; blank values are left out."""
    encoded = texts.dictionary_encode()
    lists = []
    for text in encoded.dictionary.to_pylist():
        values = _json_list(text) if text.startswith("[") else None
        if values is None:
            values = [part.strip() for part in text.split(split)]
        lists.append([value for value in values if value])
    return pa.array(lists, pa.list_(pa.string())).take(encoded.indices)


def _json_list(text: str) -> list[str] | None:
    if not text.startswith("["):
        return None
    try:
        values = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None
    return texts_of(values)


def texts_of(values: Sequence[Any]) -> list[str]:
    """The values of a JSON list as texts, nulls left out; what is no text becomes its JSON."""
    return [
        value if isinstance(value, str) else msgspec.json.encode(value).decode()
        for value in values
        if value is not None
    ]


def json_column(values: Sequence[Any]) -> pa.Array:
    """JSON values as one column: float64, bool, list of text, or else text (JSON, if nested).

    Integers that a float would change stay text.
    """
    present = [value for value in values if value is not None]
    if not present:
        return pa.nulls(len(values))
    kinds = {type(value) for value in present}
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds <= {int, float} and all(abs(value) <= _EXACT for value in present):
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    if kinds == {list}:
        return pa.array(
            [None if value is None else texts_of(value) for value in values],
            pa.list_(pa.string()),
        )
    return text_column(values)


def text_column(values: Sequence[Any]) -> pa.Array:
    """JSON values as text: strings as they are, all else as its JSON; 7.0 is "7", as in tables."""
    return pa.array([value if value is None else _spelled(value) for value in values], pa.string())


def _spelled(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
        return str(int(value))
    return msgspec.json.encode(value, order="sorted").decode()
