"""The one training loop: steps, schedule, early stopping, checkpoints, exact resume.

What is random in step s of pass p is drawn from (seed, p, s) alone, so a run that was stopped goes
on from its checkpoint to the very same parameters. Where `torch.distributed` is initialised each
process takes every n-th batch and gradients are averaged, so the parameters stay equal on all.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from limner.errors import ModelError
from limner.model.artifacts import read_json, write_json
from limner.model.network import Params, torch_
from limner.model.protocol import Progress

if TYPE_CHECKING:
    from torch import Tensor

Item = TypeVar("Item")

CLIP = 5.0
"""Length that a step's gradient is cut to."""

WARM = 0.05
"""Share of all steps in which the rate rises."""


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """`passes` over the data at most; it ends after `patience` passes without a better value."""

    passes: int
    rate: float
    weight_decay: float
    patience: int
    accumulate: int = 1
    bfloat16: bool = False
    threads: int = 1
    seed: int = 0


@dataclass(slots=True)
class Curve:
    """What a training went through, a row a pass; values are losses, the lower the better."""

    loss: list[float] = field(default_factory=list)
    value: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    best: int = -1
    """The pass whose parameters were kept; −1 where nothing was held out."""


@dataclass(frozen=True, slots=True)
class Work(Generic[Item]):
    """What is trained: `batches` of pass p, the loss of one of them, and a value after a pass."""

    batches: Callable[[int], Sequence[Item]]
    loss: Callable[[Item, np.random.Generator], Tensor | None]
    value: Callable[[], float] | None = None


def train(
    params: Params,
    work: Work[Item],
    config: LoopConfig,
    *,
    what: str,
    progress: Progress,
    checkpoint: Path | None = None,
    fingerprint: str = "",
) -> tuple[Params, Curve]:
    """Train from `params`, which change; (the best parameters, what happened).

    With `checkpoint`, a folder, all that is needed to go on is written after each pass, and a run
    of the same `fingerprint` that finds it goes on from there; it is removed at the end.
    """
    torch = torch_()
    rank, world = _place()
    tensors = [tensor.requires_grad_(True) for tensor in params.values()]
    optimizer = torch.optim.AdamW(
        tensors, lr=config.rate, weight_decay=config.weight_decay, betas=(0.9, 0.98)
    )
    curve, kept, first = Curve(), dict[str, Any](), 0
    if checkpoint is not None and _same(checkpoint, fingerprint):
        curve, kept, first = _read(checkpoint, params, optimizer)
    with threads(config.threads), torch.random.fork_rng():
        for number in range(first, config.passes):
            started, total, weight = time.perf_counter(), 0.0, 0
            batches = work.batches(number)
            stride = config.accumulate * world
            own = rank * config.accumulate
            for at in range(0, len(batches), stride):
                share = (number + at / len(batches)) / config.passes
                for group in optimizer.param_groups:
                    group["lr"] = config.rate * schedule(share)
                optimizer.zero_grad(set_to_none=True)
                together = min(stride, len(batches) - at)
                for place in range(at + own, min(at + own + config.accumulate, len(batches))):
                    key = [config.seed, number, place]
                    draws = np.random.default_rng(key)
                    torch.manual_seed(int(draws.integers(2**31)))
                    with _precision(params, config.bfloat16):
                        loss = work.loss(batches[place], draws)
                    if loss is not None:
                        (loss / together).backward()  # type: ignore[no-untyped-call]
                        total, weight = total + float(loss.detach()), weight + 1
                _average(tensors, world)
                torch.nn.utils.clip_grad_norm_(tensors, CLIP)
                optimizer.step()
                progress(what, number * len(batches) + min(at + stride, len(batches)),
                         config.passes * len(batches))  # fmt: skip
            curve.loss.append(total / max(weight, 1))
            curve.seconds.append(time.perf_counter() - started)
            if work.value is not None:
                with torch.no_grad():
                    curve.value.append(work.value())
                if curve.best < 0 or curve.value[-1] < curve.value[curve.best]:
                    curve.best = number
                    kept = {name: tensor.detach().clone() for name, tensor in params.items()}
                if number - curve.best >= config.patience:
                    break
            if checkpoint is not None and rank == 0 and number + 1 < config.passes:
                _write(checkpoint, fingerprint, params, kept, optimizer, curve)
    if checkpoint is not None and rank == 0:
        shutil.rmtree(checkpoint, ignore_errors=True)
    return kept or {name: tensor.detach() for name, tensor in params.items()}, curve


def schedule(share: float) -> float:
    """The rate's share when this share of all is done: up at first, then down to a fiftieth.

    >>> [round(schedule(share), 2) for share in (0.0, 0.025, 0.05, 0.5, 1.0)]
    [0.0, 0.49, 0.95, 0.51, 0.02]
    """
    return min(1.0, share / WARM + 1e-3) * (0.02 + 0.98 * (1 - share))


def _place() -> tuple[int, int]:
    """(which process this is, how many there are)."""
    distributed = torch_().distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _average(params: list[Tensor], world: int) -> None:
    """Sum the gradients of all processes; each has its share of the batches already."""
    if world == 1:
        return
    torch = torch_()
    for tensor in params:
        if tensor.grad is None:
            tensor.grad = torch.zeros_like(tensor)
    flat = torch.cat([tensor.grad.reshape(-1) for tensor in params if tensor.grad is not None])
    torch.distributed.all_reduce(flat)
    start = 0
    for tensor in params:
        if tensor.grad is not None:
            tensor.grad.copy_(flat[start : start + tensor.numel()].view_as(tensor))
            start += tensor.numel()


def _precision(params: Params, bfloat16: bool) -> Any:
    if not bfloat16:
        return nullcontext()
    torch = torch_()
    device = next(iter(params.values())).device.type
    return torch.autocast(device, dtype=torch.bfloat16)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """PyTorch bounded to `count` threads, and as it was afterwards."""
    torch = torch_()
    before = torch.get_num_threads()
    torch.set_num_threads(min(count, before))
    try:
        yield
    finally:
        torch.set_num_threads(before)


# ---------------------------------------------------------------- checkpoints


def _same(folder: Path, fingerprint: str) -> bool:
    return (folder / "state.json").is_file() and (
        read_json(folder / "state.json").get("fingerprint") == fingerprint
    )


def _write(
    folder: Path,
    fingerprint: str,
    params: Params,
    kept: Params,
    optimizer: Any,
    curve: Curve,
) -> None:
    from safetensors.torch import save_file

    tensors = {f"now.{name}": tensor.detach() for name, tensor in params.items()}
    tensors |= {f"best.{name}": tensor for name, tensor in kept.items()}
    for name, tensor in params.items():
        for key, value in optimizer.state[tensor].items():
            tensors[f"optimizer.{key}.{name}"] = value.detach()
    aside = folder.with_name(f".{folder.name}-{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    save_file({name: value.contiguous() for name, value in tensors.items()},
              aside / "state.safetensors")  # fmt: skip
    write_json(aside / "state.json", {"fingerprint": fingerprint, "curve": asdict(curve)})
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)


def _read(folder: Path, params: Params, optimizer: Any) -> tuple[Curve, Params, int]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    torch = torch_()
    try:
        tensors = load_file(folder / "state.safetensors")
        kept: Params = {}
        with torch.no_grad():
            for name, tensor in params.items():
                tensor.copy_(tensors[f"now.{name}"])
                if f"best.{name}" in tensors:
                    kept[name] = tensors[f"best.{name}"].to(tensor.device)
                optimizer.state[tensor] = {
                    key: tensors[f"optimizer.{key}.{name}"].to(
                        "cpu" if key == "step" else tensor.device
                    )
                    for key in ("step", "exp_avg", "exp_avg_sq")
                    if f"optimizer.{key}.{name}" in tensors
                }
        curve = Curve(**read_json(folder / "state.json")["curve"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"the checkpoint cannot be read: {error}",
            where=str(folder),
            mend="remove the folder; the training then starts anew",
        ) from error
    return curve, kept, len(curve.loss)
