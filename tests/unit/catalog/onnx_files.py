"""Tiny ONNX models and tokenizers, written byte by byte: protocol buffers are few enough rules."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

FLOAT, INT64 = 1, 7


def text(path: Path, table: npt.NDArray[np.float32]) -> None:
    """`input_ids`, `attention_mask` → the rows of a table, one a token."""
    weights = _message(
        *(_number(1, side) for side in table.shape), _number(2, FLOAT), _bytes(8, b"table"),
        _bytes(9, table.tobytes()),
    )  # fmt: skip
    gather = _node("Gather", ["table", "input_ids"], "out")
    inputs = [
        _value("input_ids", INT64, (None, None)),
        _value("attention_mask", INT64, (None,) * 2),
    ]
    _write(path, gather, [weights], inputs, _value("out", FLOAT, (None, None, table.shape[1])))


def mean(path: Path, shape: Sequence[int | None], axes: Sequence[int]) -> None:
    """`x` → its mean over some axes, which stay with length 1."""
    attribute = _message(_bytes(1, b"axes"), *(_number(8, axis) for axis in axes), _number(20, 7))
    node = _node("ReduceMean", ["x"], "out", attribute)
    out = [1 if place in axes else side for place, side in enumerate(shape)]
    _write(path, node, [], [_value("x", FLOAT, shape)], _value("out", FLOAT, out))


def tokenizer(path: Path, words: Mapping[str, int]) -> None:
    """A `tokenizer.json` that knows these words."""
    model = {"type": "WordLevel", "vocab": dict(words), "unk_token": "[PAD]"}
    rest = ("truncation", "padding", "normalizer", "post_processor", "decoder")
    said = {"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "Whitespace"}}
    path.write_text(json.dumps({**said, "model": model, **dict.fromkeys(rest)}))


def _write(
    path: Path, node: bytes, weights: list[bytes], inputs: list[bytes], output: bytes
) -> None:
    graph = _message(
        _bytes(1, node), _bytes(2, b"g"), *(_bytes(5, w) for w in weights),
        *(_bytes(11, each) for each in inputs), _bytes(12, output),
    )  # fmt: skip
    opset = _bytes(8, _message(_bytes(1, b""), _number(2, 13)))
    path.write_bytes(_message(_number(1, 8), _bytes(7, graph), opset))


def _node(kind: str, inputs: list[str], output: str, *attributes: bytes) -> bytes:
    return _message(
        *(_bytes(1, name.encode()) for name in inputs), _bytes(2, output.encode()),
        _bytes(4, kind.encode()), *(_bytes(5, each) for each in attributes),
    )  # fmt: skip


def _value(name: str, kind: int, shape: Sequence[int | None]) -> bytes:
    sides = [
        _bytes(1, _bytes(2, b"n%d" % place) if side is None else _number(1, side))
        for place, side in enumerate(shape)
    ]
    tensor = _message(_number(1, kind), _bytes(2, _message(*sides)))
    return _message(_bytes(1, name.encode()), _bytes(2, _bytes(1, tensor)))


def _message(*fields: bytes) -> bytes:
    return b"".join(fields)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
