"""A small network for tables: ReLU layers and a softmax, learned by PyTorch, used by numpy.

What reads a portrait needs neither PyTorch nor its start: three products of small matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from limner.errors import MissingExtra, ModelError
from limner.events.batch import F64, I64
from limner.model.protocol import F32

WEIGHTS = "weights.safetensors"

Told = Callable[[int, float, F64], None]
"""Called after each epoch with its number, mean training loss and the validation logits."""


@dataclass(frozen=True, slots=True)
class Perceptron:
    """Layers of (weights (in, out), bias (out,)); the last one gives a logit a class."""

    layers: tuple[tuple[F32, F32], ...]

    def logits(self, x: F32) -> F64:
        """Inputs (n, in) → (n, classes)."""
        for weights, bias in self.layers[:-1]:
            x = np.maximum(x @ weights + bias, 0)
        weights, bias = self.layers[-1]
        out: F64 = (x @ weights + bias).astype(np.float64)
        return out

    def save(self, folder: Path) -> None:
        """Write the weights."""
        from safetensors.numpy import save_file

        named = {}
        for place, (weights, bias) in enumerate(self.layers):
            named[f"{place}.weights"] = np.ascontiguousarray(weights)
            named[f"{place}.bias"] = np.ascontiguousarray(bias)
        save_file(named, folder / WEIGHTS)

    @classmethod
    def load(cls, folder: Path) -> Perceptron:
        """What `save` wrote. Raises ModelError if it is not whole."""
        try:
            from safetensors import SafetensorError
            from safetensors.numpy import load_file
        except ImportError as error:
            raise MissingExtra("the label model", "model") from error
        path = folder / WEIGHTS
        try:
            named = load_file(path)
            return cls(
                tuple(
                    (named[f"{place}.weights"], named[f"{place}.bias"])
                    for place in range(len(named) // 2)
                )
            )
        except (OSError, SafetensorError, KeyError) as error:
            raise ModelError(
                f"cannot be read: {error}", where=str(path), mend="fit again: limner label fit"
            ) from error


def fit(
    x: F32,
    y: I64,
    classes: int,
    *,
    validation: F32,
    hidden: Sequence[int],
    epochs: int,
    batch: int,
    learning_rate: float,
    seed: int,
    told: Told,
) -> Perceptron:
    """Learn classes `y` (n,) of inputs (n, in): Adam on the cross-entropy of small batches.

    Weights begin as in Glorot & Bengio (2010), biases at 0. Deterministic for a seed on one
    thread, which for matrices this small is also the fastest. Raises MissingExtra.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtra("fitting the label model", "model") from error

    random = torch.Generator().manual_seed(seed)
    sizes = [x.shape[1], *hidden, classes]
    layers = []
    for fan_in, fan_out in pairwise(sizes):
        bound = (6 / (fan_in + fan_out)) ** 0.5
        weights = (torch.rand(fan_in, fan_out, generator=random) * 2 - 1) * bound
        layers.append((weights.requires_grad_(), torch.zeros(fan_out, requires_grad=True)))
    optimizer = torch.optim.Adam(
        [part for layer in layers for part in layer], lr=learning_rate, fused=True
    )
    given, wanted = torch.from_numpy(x), torch.from_numpy(y)

    def learned() -> Perceptron:
        return Perceptron(tuple((_array(w), _array(b)) for w, b in layers))

    # Not `loop.train`: the classic recipe is Adam at one rate, without that loop's schedule and
    # clipping, and in steps this small (32 rows) what exact resume needs in each of them makes
    # the fit 2.6 times as long.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for epoch in range(1, epochs + 1):
            total = 0.0
            order = torch.randperm(len(x), generator=random)
            for rows in torch.split(order, batch):
                out = given[rows]
                for weights, bias in layers[:-1]:
                    out = torch.relu(torch.addmm(bias, out, weights))
                out = torch.addmm(layers[-1][1], out, layers[-1][0])
                loss = torch.nn.functional.cross_entropy(out, wanted[rows])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                total += float(loss.detach()) * len(rows)
            told(epoch, total / len(x), learned().logits(validation))
    finally:
        torch.set_num_threads(before)
    return learned()


def _array(tensor: Any) -> F32:
    array: F32 = tensor.detach().numpy().copy()
    return array
