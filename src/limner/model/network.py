"""The architecture of the sequence model, whole in this file: parameters, forward pass, losses.

One token is one moment (a basket, or a single event where there are no baskets): the sum over its
events of the item's vector, the event's kind and its value, plus the time since the moment before.
From the state after a moment, and how long after it is asked, the model tells the items of the
next moment (all of them at once, so no order is made up among the lines of a basket), the kind of
the next event and its value. The state after the newest moment is the user's vector U.

Blocks are pre-norm: a mixer over the moments, then a gated MLP. The mixer is the only thing that
differs between the four kinds of model:

    transformer  causal attention with a learned bias by how long ago (log-spaced buckets, after
                 HSTU, Zhai et al. 2024) and by how many moments ago, its output gated
    gru, lstm    recurrent (Cho et al. 2014; Hochreiter and Schmidhuber 1997)
    cnn          causal convolutions of three moments, dilated twice as far in each block
                 (NextItNet, Yuan et al. 2019), gated
    mlp          the history pooled by those same biases, without looking at what is in it

Everything is a function of a dictionary of tensors. PyTorch (the extra `model`) is imported inside
functions only. Shapes: B sequences, L moments, D width, H heads, N items, T states with a target,
K candidates, P pairs of a state with a target.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from limner.errors import ConfigError, MissingExtra
from limner.events.batch import F64, I32
from limner.model.protocol import F32
from limner.model.sequences import Batch

if TYPE_CHECKING:
    from torch import Tensor

Params: TypeAlias = "dict[str, Tensor]"
Weights = dict[str, F32]
"""Parameters as arrays."""
Kind = Literal["transformer", "gru", "lstm", "cnn", "mlp"]

TIMES = 24  # buckets of time: doublings of a minute, up to 16 years
STEPS = 32  # moments ago told apart
VALUES = 16  # buckets of value: 0 unknown, then doublings from 1/8 up
ASIDE = 0.1  # what the heads for kind and value count beside that for items


@dataclass(frozen=True, slots=True)
class SequenceConfig:
    """One dial, `depth`: that many blocks, a width of 32 × depth, one head for each 32 of it, and a
    rate that falls with the width. 1 is a toy for tests, 21 has some 100 million parameters.

    `kind`: what mixes the moments (see above); `length`: moments seen, at least (see
    `moments.read_from`); `passes`: over the training
    data, at most, by default as many as the data is small (see `sequence.SEEN`); `patience`: passes
    without a better value on what is held out before it ends; `update_passes`: over what is new in
    an update, and `distil` how much it holds on to the answers of before; `asked_later`: whether
    how long ago the newest moment was when it is asked is told;
    `beyond`: what the moment after the next counts as a target beside it, the one after that the
    square of it (see `sequences.beyond`); `hide`: the share of events that a training does not see,
    others each time;
    `tokens`: moments a batch, padding included; `accumulate`: batches a step; `repeat_weight`:
    what a target counts that the user already had (1 = as much as a new one; families for repeats
    do those better); `half_life_days`: of the popularity in the output bias, and `popularity`
    whether there is one; `dropout`: by default the more, the more often the data is passed over
    (`sequence.dropout_of`); `holdout`: the share of users whose last moment is held out where
    nothing else is given to stop on; `members`: how many networks are trained, each from a seed of
    its own, whose answers are averaged: better lists for as many times the work; `threads`:
    PyTorch's, at most; `device`: "cpu", "cuda", …;
    `bfloat16`: matrix products in it; `compile`: the backend of `torch.compile` that training goes
    through, "" for none.
    """

    kind: Kind = "transformer"
    depth: int = 2
    length: int = 96
    passes: int | None = None
    patience: int = 8
    update_passes: int = 1
    distil: float = 1.0
    tokens: int = 1024
    accumulate: int = 1
    learning_rate: float = 4e-3
    weight_decay: float = 0.1
    dropout: float | None = None
    hide: float = 0.0
    beyond: float = 0.0
    repeat_weight: float = 0.5
    negatives: int = 2048
    full_softmax_below: int = 20_000
    half_life_days: float = 14.0
    popularity: bool = True
    asked_later: bool = True
    holdout: float = 0.05
    members: int = 1
    threads: int = 1
    device: str = "cpu"
    bfloat16: bool = False
    compile: str = ""
    seed: int = 0

    def check(self, where: str = "") -> None:
        """Raise ConfigError for a number that means nothing."""
        least = {
            "depth": 1, "length": 1, "passes": 1, "patience": 1, "update_passes": 1, "tokens": 1,
            "accumulate": 1, "negatives": 1, "members": 1, "threads": 1, "distil": 0.0,
            "weight_decay": 0.0, "repeat_weight": 0.0, "dropout": 0.0, "holdout": 0.0,
            "hide": 0.0, "beyond": 0.0,
        }  # fmt: skip
        for name, low in least.items():
            value = getattr(self, name)
            high = 1.0 if name in ("dropout", "holdout", "hide") else math.inf
            if value is not None and not low <= value < high:
                asked = f"{low:g} or more" + (", below 1" if high == 1.0 else "")
                raise ConfigError(
                    f"sequence.{name} = {value} is out of range", where=where, mend=f"use {asked}"
                )
        for name in ("learning_rate", "half_life_days"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(
                    f"sequence.{name} = {getattr(self, name)} is out of range",
                    where=where,
                    mend="use more than 0",
                )

    @property
    def width(self) -> int:
        """D."""
        return 32 * self.depth

    @property
    def heads(self) -> int:
        """H."""
        return self.depth

    @property
    def rate(self) -> float:
        """The learning rate at this width: `learning_rate` is that of width 64."""
        return self.learning_rate * math.sqrt(64 / self.width)


# ---------------------------------------------------------------- parameters


def new_params(
    config: SequenceConfig,
    n_items: int,
    sizes: dict[str, int],
    *,
    content: dict[str, int] | None = None,
    kinds: int = 1,
) -> Params:
    """Fresh parameters. `sizes`: how many values each attribute has; `content`: how wide each
    content vector is; `kinds`: how many kinds of events there are.
    """
    torch = torch_()
    d = config.width

    def normal(*shape: int, scale: float) -> Tensor:
        out: Tensor = torch.randn(*shape) * scale
        return out

    params = {"items": normal(n_items, d, scale=0.02)}
    for name, size in sizes.items():
        params[f"attribute.{name}"] = normal(size, d, scale=0.02)
    for name, size in (content or {}).items():
        params[f"content.{name}"] = normal(size, d, scale=0.02)
    params["kind"] = torch.zeros(kinds, d)
    params["value"] = torch.zeros(VALUES, d)
    params["gap"] = torch.zeros(TIMES, d)
    params["ahead"] = torch.zeros(TIMES, d)
    params["in"] = normal(d, d, scale=d**-0.5)
    params["scale"] = torch.ones(1) * 4.0
    for block in range(config.depth):
        at = f"block{block}."
        params[at + "norm1"] = torch.ones(d)
        if config.kind in ("transformer", "mlp"):
            params[at + "time"] = torch.zeros(TIMES, config.heads)
            params[at + "step"] = torch.zeros(STEPS, config.heads)
        if config.kind == "transformer":
            params[at + "qkv"] = normal(d, 3 * d, scale=d**-0.5)
        elif config.kind == "cnn":
            params[at + "filter"] = normal(2 * d, d, 3, scale=(3 * d) ** -0.5)
        elif config.kind in ("gru", "lstm"):
            gates = 3 if config.kind == "gru" else 4
            params[at + "into"] = normal(gates * d, d, scale=d**-0.5)
            params[at + "again"] = normal(gates * d, d, scale=d**-0.5)
        params[at + "out"] = torch.zeros(d, d)
        params[at + "norm2"] = torch.ones(d)
        params[at + "up"] = normal(d, 4 * d, scale=d**-0.5)
        params[at + "down"] = torch.zeros(2 * d, d)
    params["norm"] = torch.ones(d)
    params["next_kind"] = torch.zeros(d, kinds)
    params["next_value"] = torch.zeros(d, VALUES)
    return params


@dataclass(frozen=True, slots=True)
class ItemTable:
    """What is known of N items: `codes` (attributes, N) of their attributes, −1 where unknown, in
    the order of the parameters; `content`: (N, C) by name, 0 where there is none.
    """

    codes: Tensor
    content: dict[str, Tensor]


def item_vectors(params: Params, table: ItemTable, items: Tensor) -> Tensor:
    """Vectors of `items` (n,): their own, plus those of attributes, plus content projected, (n, D).

    An item that nobody has touched has the last two.
    """
    vectors = params["items"][items]
    names = [name for name in params if name.startswith("attribute.")]
    for row, name in enumerate(names):
        code = table.codes[row][items]
        known = (code >= 0).to(vectors.dtype)[:, None]
        vectors = vectors + params[name][code.clamp(min=0)] * known
    for name, content in table.content.items():
        vectors = vectors + content[items] @ params[f"content.{name}"]
    return vectors


# ---------------------------------------------------------------- forward


def encode(
    params: Params,
    config: SequenceConfig,
    tokens: Tensor,
    minutes: Tensor,
    valid: Tensor,
    *,
    dropout: float = 0.0,
) -> Tensor:
    """States after each moment, (B, L, D), from summed events `tokens` (B, L, D).

    `minutes`: time of each moment, (B, L) float64; `valid`: (B, L), False in the padding after
    the sequence, which no earlier moment can see.
    """
    x, _ = _through(params, config, tokens, minutes, valid, dropout=dropout)
    states: Tensor = x * valid[..., None]
    return states


def newest(
    params: Params, config: SequenceConfig, tokens: Tensor, minutes: Tensor, valid: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """The states after the newest moments alone, (B, D), and for `step` what each block needs of
    each moment later on, (B, L, C): the transformer keys and values (C = 2 D), the others D.

    The last block asks for nothing but the newest moments, which saves nearly half.
    """
    x, rows = _through(params, config, tokens, minutes, valid, last=True)
    return x[:, 0], rows


def _through(
    params: Params,
    config: SequenceConfig,
    tokens: Tensor,
    minutes: Tensor,
    valid: Tensor,
    *,
    dropout: float = 0.0,
    last: bool = False,
) -> tuple[Tensor, list[Tensor]]:
    """(B, L, D), or with `last` (B, 1, D) of the newest; and (B, L, C) of each block."""
    torch = torch_()
    functional = torch.nn.functional
    d = tokens.shape[-1]

    def drop(x: Tensor) -> Tensor:
        return functional.dropout(x, dropout) if dropout else x

    gaps = torch.zeros_like(minutes)
    gaps[:, 1:] = minutes[:, 1:] - minutes[:, :-1]
    x = drop(functional.rms_norm(tokens @ params["in"], (d,)) + params["gap"][bucket(gaps)])
    rows, newest = torch.arange(len(x), device=x.device), valid.sum(dim=1) - 1
    biased = "block0.time" in params
    apart = _apart(minutes) if biased and not (last and config.depth == 1) else None
    found = []
    for block in range(config.depth):
        at = f"block{block}."
        y = functional.rms_norm(x, (d,), params[at + "norm1"])
        if last and block == config.depth - 1:
            x = x[rows, newest][:, None]
            apart = _apart(minutes, newest) if biased else None
        row = y
        if config.kind == "transformer":
            asked = y if y.shape[1] == x.shape[1] else y[rows, newest][:, None]
            q, row = _keyed(asked, y, params[at + "qkv"])
            y = _attend(q, row, _bias(params, config, block, apart))
        elif config.kind == "mlp":
            y = _pool(y, _bias(params, config, block, apart))
        elif config.kind == "cnn":
            y = _convolve(y, params[at + "filter"], 2**block)
        else:
            y = row = _recur(y, config.kind, params[at + "into"], params[at + "again"])
        found.append(row)
        if y.shape[1] != x.shape[1]:
            y = y[rows, newest][:, None]
        x = x + drop(y @ params[at + "out"])
        y = functional.rms_norm(x, (d,), params[at + "norm2"])
        gate, up = (y @ params[at + "up"]).chunk(2, dim=-1)
        x = x + drop((functional.silu(gate) * up) @ params[at + "down"])
    return functional.rms_norm(x, (d,), params["norm"]) * params["scale"], found


@cache
def compiled(backend: str) -> Callable[..., Tensor]:
    """`encode` through `torch.compile`, for batches of any size: the same up to rounding.

    Raises ConfigError if PyTorch has no such backend.
    """
    torch = torch_()
    known = torch.compiler.list_backends(exclude_tags=())
    if backend not in known:
        raise ConfigError(
            f"sequence.compile = {backend!r} is no backend of torch.compile",
            mend=f'use one of {", ".join(known)}, or "" for none',
        )
    out: Callable[..., Tensor] = torch.compile(encode, backend=backend, dynamic=True)
    return out


@dataclass(frozen=True, slots=True)
class _Apart:
    """How far keys lie before those that ask: buckets of time (B, Q, L), moments (B or 1, Q, L),
    and a penalty for what came after, which cannot be seen.
    """

    time: Tensor
    steps: Tensor
    unseen: Tensor


def _apart(minutes: Tensor, asked: Tensor | None = None) -> _Apart:
    """All moments ask (Q = L), or of each sequence the one at its place of `asked` (Q = 1)."""
    torch = torch_()
    place = torch.arange(minutes.shape[1], device=minutes.device)
    if asked is None:
        asking, ahead = minutes[:, :, None], place[None, :, None] - place
    else:
        rows = torch.arange(len(minutes), device=minutes.device)
        asking, ahead = minutes[rows, asked][:, None, None], asked[:, None, None] - place
    unseen = torch.zeros(ahead.shape, device=minutes.device).masked_fill(ahead < 0, -1e9)
    return _Apart(bucket(asking - minutes[:, None, :]), ahead.clamp(0, STEPS - 1), unseen)


def _bias(params: Params, config: SequenceConfig, block: int, apart: _Apart | None) -> Tensor:
    """(B, H, Q, L): by how long, and by how many moments, a key came before."""
    assert apart is not None
    at = f"block{block}."
    time, steps = apart.time.reshape(-1), apart.steps.reshape(-1)
    heads = [  # picked head by head: its gradient takes a third of the time
        params[at + "time"][:, head].index_select(0, time).view(apart.time.shape)
        + (
            params[at + "step"][:, head].index_select(0, steps).view(apart.steps.shape)
            + apart.unseen
        )
        for head in range(config.heads)
    ]
    out: Tensor = torch_().stack(heads, dim=1)
    return out


def _keyed(asked: Tensor, y: Tensor, qkv: Tensor) -> tuple[Tensor, Tensor]:
    """Queries (B, Q, D) of those `asked`, keys and values (B, L, 2 D) of all of `y`."""
    d = y.shape[-1]
    if asked is not y:
        return asked @ qkv[:, :d], y @ qkv[:, d:]
    found = y @ qkv
    return found[..., :d], found[..., d:]


def _attend(q: Tensor, kv: Tensor, bias: Tensor) -> Tensor:
    """(B, Q, D): what queries (B, Q, D) find among keys and values (B, L, 2 D)."""
    b, asked, d = q.shape
    h = bias.shape[1]
    k, v = kv.view(b, kv.shape[1], 2, h, -1).permute(2, 0, 3, 1, 4)  # (B, H, L, D/H)
    q = q.view(b, asked, h, -1).transpose(1, 2)
    out = torch_().nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
    mixed: Tensor = out.transpose(1, 2).reshape(b, asked, d)
    return mixed


def _pool(y: Tensor, bias: Tensor) -> Tensor:
    b, length, d = y.shape
    shares = bias.softmax(dim=-1).to(y.dtype)  # (B, H, Q, L)
    parts = y.view(b, length, bias.shape[1], -1).transpose(1, 2)  # (B, H, L, D/H)
    mixed: Tensor = (shares @ parts).transpose(1, 2).reshape(b, bias.shape[2], d)
    return mixed


def _convolve(y: Tensor, filters: Tensor, dilation: int) -> Tensor:
    functional = torch_().nn.functional
    before = functional.pad(y.transpose(1, 2), (2 * dilation, 0))  # causal: only what was
    gate, out = functional.conv1d(before, filters, dilation=dilation).chunk(2, dim=1)
    mixed: Tensor = (functional.silu(gate) * out).transpose(1, 2)
    return mixed


def _recur(y: Tensor, kind: Kind, into: Tensor, again: Tensor) -> Tensor:
    torch = torch_()
    start = y.new_zeros(1, y.shape[0], y.shape[-1])
    if kind == "gru":
        out, _ = torch.gru(y, start, [into, again], False, 1, 0.0, False, False, True)
    else:
        out, *_ = torch.lstm(y, [start, start], [into, again], False, 1, 0.0, False, False, True)
    mixed: Tensor = out
    return mixed


def bucket(minutes: Tensor) -> Tensor:
    """Log-spaced bucket of a span of minutes; negative spans count as none."""
    torch = torch_()
    found: Tensor = torch.log2(minutes.clamp(min=0.0) + 1.0).long().clamp(max=TIMES - 1)
    return found


def value_bucket(values: F32 | F64) -> I32:
    """Log-spaced bucket of a value; 0 where it is unknown (NaN) or none."""
    known = np.nan_to_num(np.asarray(values, dtype=np.float64), nan=0.0)
    found = np.floor(np.log2(np.maximum(known, 1e-9))) + 4
    return np.asarray(np.where(known > 0, np.clip(found, 1, VALUES - 1), 0), dtype=np.int32)


# ---------------------------------------------------------------- one moment more


def steps(kind: Kind) -> bool:
    """Whether `step` can go on from what `newest` has found; PyTorch does not tell LSTMs' cells."""
    return kind != "lstm"


def step(weights: Weights, config: SequenceConfig, token: F32, minutes: F64, rows: F32) -> F32:
    """The state after the last of L moments, (D,), up to rounding what `newest` has of all of them.

    `token`: that moment's summed events, (D,); `minutes`: time of each, (L,), L > 1; `rows`
    (blocks, L, C): what was found of those before, in the last place of which that of this one is
    put. No moment sees a later one, so what was found stays. `weights` are the parameters as
    arrays: for one moment of one user, NumPy takes a fraction of the time.
    """
    d, length = len(token), len(minutes)
    time = bucket(torch_().from_numpy(minutes[-1] - minutes)).numpy()
    ago = np.minimum(np.arange(length - 1, -1, -1), STEPS - 1)
    x = _normed(token @ weights["in"]) + weights["gap"][time[-2]]
    for block in range(config.depth):
        at, past = f"block{block}.", rows[block]
        y = _normed(x) * weights[at + "norm1"]
        if config.kind == "gru":
            y = past[-1] = _recurred(y, past[-2], weights[at + "into"], weights[at + "again"])
        elif config.kind == "cnn":
            past[-1] = y
            taps, mixed = weights[at + "filter"], np.zeros(2 * d, dtype=np.float32)
            for tap in range(3):
                place = length - 1 - (2 - tap) * 2**block
                if place >= 0:
                    mixed += taps[:, :, tap] @ past[place]
            y = _silu(mixed[:d]) * mixed[d:]
        else:
            bias = (weights[at + "time"][time] + weights[at + "step"][ago]).T  # (H, L)
            if config.kind == "transformer":
                found = y @ weights[at + "qkv"]
                past[-1] = found[d:]
                keys, y = past[:, :d], past[:, d:]
                q = found[:d].reshape(config.heads, -1, 1)
                bias = bias + (_by_head(keys, config.heads) @ q)[..., 0] * q.shape[1] ** -0.5
            else:
                past[-1] = y
                y = past
            shares = np.exp(bias - bias.max(axis=1, keepdims=True))
            shares /= shares.sum(axis=1, keepdims=True)
            y = (shares[:, None] @ _by_head(y, config.heads)).reshape(d)
        x = x + y @ weights[at + "out"]
        up = _normed(x) * weights[at + "norm2"]
        gate = np.asarray(up @ weights[at + "up"], dtype=np.float32)
        x = x + (_silu(gate[: 2 * d]) * gate[2 * d :]) @ weights[at + "down"]
    state: F32 = _normed(x) * weights["norm"] * weights["scale"]
    return state


def _by_head(y: F32, heads: int) -> F32:
    """(L, D) as (H, L, D/H)."""
    return y.reshape(len(y), heads, -1).transpose(1, 0, 2)


def _normed(x: F32) -> F32:
    """RMS norm as PyTorch has it (Zhang and Sennrich 2019)."""
    out: F32 = x / np.sqrt(x @ x / np.float32(len(x)) + np.finfo(np.float32).eps)
    return out


def _sigmoid(x: F32) -> F32:
    out: F32 = 0.5 * np.tanh(0.5 * x) + np.float32(0.5)
    return out


def _silu(x: F32) -> F32:
    return x * _sigmoid(x)


def _recurred(y: F32, state: F32, into: F32, again: F32) -> F32:
    """The next state of a GRU, as PyTorch has it."""
    reset, keep, new = np.split(into @ y, 3)
    reset_again, keep_again, new_again = np.split(again @ state, 3)
    kept = _sigmoid(keep + keep_again)
    fresh = np.tanh(new + _sigmoid(reset + reset_again) * new_again)
    out: F32 = fresh + kept * (state - fresh)
    return out


# ---------------------------------------------------------------- loss


@dataclass(frozen=True, slots=True)
class Candidates:
    """What the softmax is over: `bias` is log popularity, `proposal` where negatives come from."""

    bias: F32  # (N,)
    cumulative: F64 | None  # (N,) of the proposal; None = full softmax
    log_proposal: F32  # (N,)

    @classmethod
    def of(
        cls, items: I32, weights: F32 | F64, n_items: int, *, full: bool, popularity: bool = True
    ) -> Candidates:
        """From counts; the proposal is popularity to the power ¾, flattened a little."""
        counts = np.bincount(items, weights, minlength=n_items)
        bias = np.log((counts + 0.1) / (counts.sum() + 0.1 * n_items)).astype(np.float32)
        proposal = (counts + 0.5) ** 0.75
        proposal /= proposal.sum()
        return cls(
            bias if popularity else np.zeros_like(bias),
            None if full else np.cumsum(proposal),
            np.log(proposal).astype(np.float32),
        )


def tokens_of(params: Params, config: SequenceConfig, batch: Batch, vectors: Tensor) -> Tensor:
    """(B, L, D) of a batch's events, whose items' vectors are `vectors` (events, D)."""
    torch = torch_()
    b, length = batch.minutes.shape
    place = torch.from_numpy(batch.bag_token).to(vectors.device)
    weights = torch.from_numpy(batch.bag_weights).to(vectors.device)[:, None]
    told = params["kind"][torch.from_numpy(batch.bag_kind).to(vectors.device)]
    told = told + params["value"][torch.from_numpy(batch.bag_value).to(vectors.device)]
    summed = torch.zeros(b * length, config.width, device=vectors.device, dtype=vectors.dtype)
    tokens: Tensor = summed.index_add(0, place, (vectors + told) * weights)
    return tokens.view(b, length, -1)


@dataclass(frozen=True, slots=True)
class Asked:
    """The states of a batch that are asked something, and the candidates they are asked about."""

    states: Tensor  # (T, D)
    pool: Tensor  # (K, D) vectors of the candidates
    bias: Tensor  # (K,)
    own: Tensor  # (P,) logit of each target
    which: Tensor  # (P,) place in `states` of each target's pair
    drawn: np.ndarray[Any, np.dtype[np.int64]]  # (K,)

    @property
    def logits(self) -> Tensor:
        """(T, K)."""
        found: Tensor = torch_().addmm(self.bias, self.states, self.pool.T)
        return found


def ask(
    params: Params,
    config: SequenceConfig,
    table: ItemTable,
    batch: Batch,
    candidates: Candidates,
    rng: np.random.Generator,
    *,
    dropout: float,
) -> Asked:
    """Run a batch through the model up to the states that are asked, of all items or of some that
    `rng` draws.
    """
    torch = torch_()
    device = params["items"].device
    n_items = len(candidates.bias)
    if candidates.cumulative is None:
        drawn = np.arange(n_items)
        used, place = drawn, drawn
    else:
        points = rng.random(config.negatives) * candidates.cumulative[-1]
        drawn = np.searchsorted(candidates.cumulative, points).clip(max=n_items - 1)
        # Vectors are built once for the items this batch touches, not for the whole catalogue.
        used = np.unique(np.concatenate([batch.bag_items, batch.pair_item, drawn]))
        place = np.zeros(n_items, dtype=np.int64)
        place[used] = np.arange(len(used))

    def to(array: Any) -> Tensor:
        out: Tensor = torch.from_numpy(np.ascontiguousarray(array)).to(device)
        return out

    # what is only asked and not learned from is not worth a second compilation
    compiling = config.compile and torch.is_grad_enabled()
    encoding = compiled(config.compile) if compiling else encode
    vectors = item_vectors(params, table, to(used))  # (U, D)
    tokens = tokens_of(params, config, batch, vectors[to(place[batch.bag_items])])
    states = encoding(
        params, config, tokens, to(batch.minutes), to(batch.valid), dropout=dropout
    ).reshape(-1, config.width)
    asking, which = np.unique(batch.pair_token, return_inverse=True)
    asked = states[to(asking)]  # (T, D)
    if config.asked_later:
        asked = asked + params["ahead"][bucket(to(batch.ahead.ravel()[asking]))]
    bias = to(candidates.bias)
    pool = vectors if candidates.cumulative is None else vectors[to(place[drawn])]
    pair, target = to(which.reshape(-1)), to(place[batch.pair_item])
    own = (asked[pair] * vectors[target]).sum(-1) + bias[to(batch.pair_item)]
    return Asked(asked, pool, bias[to(drawn)], own, pair, drawn)


def loss_of(
    params: Params,
    config: SequenceConfig,
    asked: Asked,
    batch: Batch,
    candidates: Candidates,
    *,
    partition: Tensor | None = None,
) -> Tensor:
    """Weighted mean over the pairs of −log softmax(target | history).

    `partition` (T,): log Σ exp of the logits of a full softmax, where somebody built them already.

    Where there is more to tell than items, plus `ASIDE` times the mean of the same of the targets'
    kinds and of their values. Sampled candidates are corrected by their log proposal, the target
    among them (Bengio & Senécal 2008; Yi et al. 2019).
    """
    torch = torch_()
    device = asked.own.device
    if candidates.cumulative is None:
        if partition is None:
            partition = log_partition(asked.states, asked.pool, asked.bias)
        total = partition[asked.which]
    else:
        shift = torch.from_numpy(candidates.log_proposal[asked.drawn]).to(device)
        bias = asked.bias - shift - math.log(config.negatives)
        total = log_partition(asked.states, asked.pool, bias)[asked.which]
        total = torch.logaddexp(total, asked.own.float())
    weight = torch.from_numpy(batch.pair_weight).to(device)
    loss: Tensor = ((total - asked.own) * weight).sum() / weight.sum()
    for head, told in (("next_kind", batch.pair_kind), ("next_value", batch.pair_value)):
        told = told[: batch.nearest]
        if params[head].shape[1] > 1 and told.any():
            logits = (asked.states @ params[head])[asked.which[: batch.nearest]].float()
            label = torch.from_numpy(told).to(device)
            loss = loss + ASIDE * torch.nn.functional.cross_entropy(logits, label)
    return loss


@cache
def _partition() -> Any:
    torch = torch_()

    class Partition(torch.autograd.Function):  # type: ignore[name-defined,misc]
        """Keeps one table where autograd would keep and write four: it is most of a step."""

        @staticmethod
        def forward(ctx: Any, states: Tensor, pool: Tensor, bias: Tensor) -> Tensor:
            table = torch.addmm(bias.to(states.dtype), states, pool.T).float()
            most = table.amax(dim=1, keepdim=True)
            total = table.sub_(most).exp_().sum(dim=1, keepdim=True)
            ctx.save_for_backward(states, pool, table, total)
            found: Tensor = (most + total.log()).squeeze(1)
            return found

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
            states, pool, table, total = ctx.saved_tensors
            shares = table.mul_(grad[:, None] / total)  # softmax × what comes from above
            return (shares.to(pool.dtype) @ pool, shares.T.to(states.dtype) @ states, None)

    return Partition


def log_partition(states: Tensor, pool: Tensor, bias: Tensor) -> Tensor:
    """Log Σ exp(states · poolᵀ + bias) over the pool, (T,) float32; no gradient for the bias.

    `states` (T, D), `pool` (K, D), `bias` (K,). Can be differentiated once.
    """
    found: Tensor = _partition().apply(states, pool, bias)
    return found


def divergence(known: Tensor, log_shares: Tensor) -> Tensor:
    """Mean over states of KL(softmax of `known` ‖ exp of `log_shares`), both (T, K)."""
    functional = torch_().nn.functional
    loss: Tensor = functional.kl_div(
        log_shares, known.float().log_softmax(dim=1),
        reduction="batchmean", log_target=True,
    )  # fmt: skip
    return loss


def torch_() -> Any:
    """PyTorch. Raises MissingExtra where it is not installed."""
    try:
        import torch
    except ImportError as error:
        raise MissingExtra("the sequence model", "model") from error
    return torch
