"""MusiCNN (Pons and Serra 2019): what kind of music a recording is, in 200 numbers.

The network is written here. Its weights, learned on MagnaTagATune, are those of the package
musicnn 0.1.0, a TensorFlow checkpoint that is read without TensorFlow and checked by hash.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from limner.catalog.encoders import F32, Kind
from limner.catalog.encoders.audio import MELS, log_mel
from limner.catalog.encoders.image import threads_of
from limner.catalog.encoders.weights import folder_of, in_package
from limner.errors import MissingExtra, ModelError

if TYPE_CHECKING:
    from torch import Tensor

WINDOW = 187
"""Frames that the network sees at once: three seconds."""
WINDOWS = 10
"""Windows of a recording that are heard, spread over it."""

_INDEX = "da2d7bb670b2b31e9bc441bb1bd75eca31b5b061f963cc1f9630c1aff3238f57"
_DATA = "041f3935e981a65cea739842d30c188d3a7d2adf4410955c8668eb3de4a5acab"


def installed() -> bool:
    """Whether the weights, and PyTorch to run them, are there."""
    return folder_of("musicnn") is not None and folder_of("torch") is not None


class MusiCnn:
    """The layer before the 50 tags, averaged over three-second windows."""

    kind: Kind = "audio"
    width = 200
    name = "musicnn-mtt-0.1.0"

    def __init__(self, threads: int = 1) -> None:
        if not installed():
            raise MissingExtra("encoding sound", "media")
        self._threads = threads

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """Every tensor of the checkpoint by its name, without the optimiser's."""
        import torch

        folder = "MTT_musicnn/"
        index = in_package("musicnn", folder + ".index", _INDEX, "encoding sound")
        data = in_package("musicnn", folder + ".data-00000-of-00001", _DATA, "encoding sound")
        return {
            name: torch.from_numpy(array)
            for name, array in checkpoint(index, data)
            if "Adam" not in name
        }

    def encode(self, contents: Sequence[F32]) -> F32:
        """Vectors (n, 200)."""
        import torch

        out = np.empty((len(contents), self.width), dtype=np.float32)
        with torch.inference_mode(), threads_of(self._threads):
            for row, samples in enumerate(contents):
                patches = torch.from_numpy(windows(log_mel(samples)))
                out[row] = self.features(patches).mean(dim=0).numpy()
        return out

    def tags(self, samples: F32) -> F32:
        """The chances of the 50 tags, averaged over windows; to check the network by."""
        import torch

        with torch.inference_mode():
            found = self.features(torch.from_numpy(windows(log_mel(samples))))
            w = self.weights
            chances = torch.sigmoid(found @ w["dense_1/kernel"] + w["dense_1/bias"])
            mean: F32 = chances.mean(dim=0).numpy()
        return mean

    def features(self, patches: Tensor) -> Tensor:
        """(n, 200) of n log-mel windows (n, 187, 96)."""
        import torch
        from torch.nn import functional as f

        x = self._norm(patches[:, None], 0)  # (n, 1, T, 96)
        tall = f.pad(x, (0, 0, 3, 3))
        parts = [
            self._norm(self._conv(tall, layer), layer + 1).amax(dim=3) for layer in (0, 1)
        ]  # timbre: shapes of the spectrum, wherever they lie
        for layer, size in ((2, 128), (3, 64), (4, 32)):  # rhythm
            longer = f.pad(x, (0, 0, (size - 1) // 2, size // 2))
            parts.append(self._norm(self._conv(longer, layer), layer + 1).amax(dim=3))
        front = torch.cat(parts, dim=1)  # (n, 561, T)
        first = self._middle(front, 5)
        second = self._middle(first, 6) + first
        third = self._middle(second, 7) + second
        whole = torch.cat([front, first, second, third], dim=1)  # (n, 753, T)
        pooled = torch.stack([whole.amax(dim=2), whole.mean(dim=2)], dim=2).flatten(1)
        w = self.weights
        dense = f.relu(self._norm(pooled, 9) @ w["dense/kernel"] + w["dense/bias"])
        return self._norm(dense, 10)

    def _middle(self, x: Tensor, layer: int) -> Tensor:
        """A convolution over seven frames of all channels: (n, C, T) → (n, 64, T)."""
        from torch.nn import functional as f

        rows = f.pad(x.transpose(1, 2)[:, None], (0, 0, 3, 3))  # (n, 1, T + 6, C)
        return self._norm(self._conv(rows, layer)[:, :, :, 0], layer + 1)

    def _conv(self, x: Tensor, layer: int) -> Tensor:
        from torch.nn import functional as f

        name = "conv2d" + (f"_{layer}" if layer else "")
        kernel = self.weights[name + "/kernel"].permute(3, 2, 0, 1)
        return f.relu(f.conv2d(x, kernel, self.weights[name + "/bias"]))

    def _norm(self, x: Tensor, layer: int) -> Tensor:
        from torch.nn import functional as f

        at = "batch_normalization" + (f"_{layer}/" if layer else "/")
        w = self.weights
        return f.batch_norm(
            x, w[at + "moving_mean"], w[at + "moving_variance"], w[at + "gamma"], w[at + "beta"],
            eps=1e-3,
        )  # fmt: skip


def windows(spectrum: F32) -> F32:
    """At most ten windows (n, 187, 96), evenly spread; a short recording is repeated."""
    if len(spectrum) < WINDOW:
        spectrum = np.tile(spectrum, (-(-WINDOW // len(spectrum)), 1))
    last = len(spectrum) - WINDOW
    n = min(WINDOWS, 1 + last // WINDOW)
    starts = np.linspace(0, last, n).astype(int) if n > 1 else np.zeros(1, dtype=int)
    out = np.empty((n, WINDOW, MELS), dtype=np.float32)
    for row, start in enumerate(starts.tolist()):
        out[row] = spectrum[start : start + WINDOW]
    return out


# -- TensorFlow's checkpoint: an index, which is a LevelDB table, and the bytes of the tensors ---

_MAGIC = 0xDB4775248B80FB57
_FLOAT = 1  # the number of its type


def checkpoint(index: Path, data: Path) -> Iterator[tuple[str, F32]]:
    """Names and arrays of the checkpoint in two files. Raises ModelError if it is none."""
    table, raw = index.read_bytes(), data.read_bytes()
    if len(table) < 48 or struct.unpack("<Q", table[-8:])[0] != _MAGIC:
        raise ModelError("is no index of a checkpoint", where=str(index))
    place = _varint(table, _varint(table, len(table) - 48)[1])[1]  # behind the metadata's handle
    for _, handle in _entries(table, table, place):
        for name, entry in _entries(table, handle, 0):
            if not name:  # the header of the whole
                continue
            said = _fields(entry)
            kind, offset, size = (_number(said, key) for key in (1, 4, 5))
            dims = [dim for shape in said.get(2, []) for dim in _fields(shape).get(2, [])]
            shape = [_number(_fields(dim), 1) for dim in dims]
            if kind == _FLOAT:
                array: F32 = np.frombuffer(raw, "<f4", size // 4, offset).reshape(shape)
                yield name.decode(), array.copy()


def _entries(table: bytes, handle: bytes, place: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of the block whose handle (offset, size) lies at `place` of `handle`."""
    offset, place = _varint(handle, place)
    size, _ = _varint(handle, place)
    block = table[offset : offset + size]
    restarts = struct.unpack("<I", block[-4:])[0]
    at, end, key = 0, len(block) - 4 - 4 * restarts, b""
    while at < end:
        shared, at = _varint(block, at)
        more, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + more]
        at += more
        yield key, block[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """(the number at `at`, where it ends)."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _number(fields: dict[int, list[bytes]], key: int) -> int:
    return _varint(fields[key][0], 0)[0] if key in fields else 0


def _fields(message: bytes) -> dict[int, list[bytes]]:
    """The fields of a protocol buffer's message by their numbers; numbers as they are written."""
    out: dict[int, list[bytes]] = {}
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        if tag & 7 == 0:
            start, (_, at) = at, _varint(message, at)
            value = message[start:at]
        elif tag & 7 == 2:
            length, at = _varint(message, at)
            value, at = message[at : at + length], at + length
        else:  # fixed width, of which nothing is needed
            width = 8 if tag & 7 == 1 else 4
            value, at = message[at : at + width], at + width
        out.setdefault(tag >> 3, []).append(value)
    return out
