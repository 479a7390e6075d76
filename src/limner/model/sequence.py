"""The sequence model: a small causal transformer over a user's moments, whole in this file.

One token is one moment (a basket, or a single event where there are no baskets): the sum of its
items' vectors. From the state after each moment the model predicts the items of the next moment,
all of them at once, so no order is made up among the lines of a basket. The training target is a
softmax over the catalogue: full below `full_softmax_below` items, else over sampled negatives
with the log-Q correction (Bengio & Senécal 2008; Yi et al. 2019). The output bias is fixed to log
popularity, so that the vectors learn what a history adds to it.

Attention sees how long ago a moment was (log-spaced buckets of relative time, after HSTU, Zhai et
al. 2024) and how many moments ago. Blocks are pre-norm with a gated MLP.

Needs the extra `model` (PyTorch), imported only inside functions. Shapes: B sequences, L moments,
D width, H heads, N items, T tokens with a target, K candidates, P (token, target item) pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from limner.errors import MissingExtra, ModelError
from limner.events.batch import F64, I32, I64, SECOND, Bool
from limner.model.artifacts import read_json, write_json
from limner.model.moments import owners_of, starts
from limner.model.popularity import ages, first_times
from limner.model.protocol import F32, History, Interactions, ItemFeatures, Progress

if TYPE_CHECKING:
    from torch import Tensor

    Params = dict[str, Tensor]

_TIMES = 24  # buckets of relative time: doublings of a minute, up to 16 years
_STEPS = 32  # relative positions told apart


@dataclass(frozen=True, slots=True)
class SequenceConfig:
    """One dial, `depth`: that many blocks, a width of 32 × depth and one head for each 32.

    `length`: moments seen; `passes`: over the training data; `repeat_weight`: what a target counts
    that the user already had (1 = as much as a new one; families for repeats do those better);
    `half_life_days`: of the popularity in the output bias; `threads`: PyTorch's, at most.
    """

    depth: int = 2
    length: int = 96
    passes: int = 3
    update_passes: int = 1
    batch: int = 48
    learning_rate: float = 4e-3
    weight_decay: float = 2.0
    dropout: float = 0.2
    repeat_weight: float = 0.5
    negatives: int = 2048
    full_softmax_below: int = 20_000
    half_life_days: float = 14.0
    holdout: float = 0.05
    threads: int = 1
    seed: int = 0

    @property
    def width(self) -> int:
        """D."""
        return 32 * self.depth

    @property
    def heads(self) -> int:
        """H."""
        return self.depth


# ---------------------------------------------------------------- architecture


def new_params(config: SequenceConfig, n_items: int, sizes: dict[str, int]) -> Params:
    """Fresh parameters; `sizes` holds the number of values of each attribute."""
    torch = _torch()
    d = config.width

    def normal(*shape: int, scale: float) -> Tensor:
        out: Tensor = torch.randn(*shape) * scale
        return out

    params = {"items": normal(n_items, d, scale=0.02)}
    for name, size in sizes.items():
        params[f"attribute.{name}"] = normal(size, d, scale=0.02)
    params["gap"] = torch.zeros(_TIMES, d)
    params["in"] = normal(d, d, scale=d**-0.5)
    params["scale"] = torch.ones(1) * 4.0
    for block in range(config.depth):
        at = f"block{block}."
        params[at + "norm1"] = torch.ones(d)
        params[at + "qkv"] = normal(d, 3 * d, scale=d**-0.5)
        params[at + "time"] = torch.zeros(_TIMES, config.heads)
        params[at + "step"] = torch.zeros(_STEPS, config.heads)
        params[at + "out"] = torch.zeros(d, d)
        params[at + "norm2"] = torch.ones(d)
        params[at + "up"] = normal(d, 4 * d, scale=d**-0.5)
        params[at + "down"] = torch.zeros(2 * d, d)
    params["norm"] = torch.ones(d)
    return params


def item_vectors(params: Params, codes: Tensor, items: Tensor) -> Tensor:
    """Vectors of `items` (n,), their own plus those of their attributes: (n, D).

    `codes`: (attributes, N), −1 where unknown.
    """
    vectors = params["items"][items]
    names = [name for name in params if name.startswith("attribute.")]
    for row, name in enumerate(names):
        code = codes[row][items]
        known = (code >= 0).to(vectors.dtype)[:, None]
        vectors = vectors + params[name][code.clamp(min=0)] * known
    return vectors


def encode(
    params: Params,
    config: SequenceConfig,
    tokens: Tensor,
    minutes: Tensor,
    valid: Tensor,
    *,
    dropout: float = 0.0,
) -> Tensor:
    """States after each moment, (B, L, D), from summed item vectors `tokens` (B, L, D).

    `minutes`: time of each moment, (B, L) float64; `valid`: (B, L), False in the padding after
    the sequence, which no earlier moment can see.
    """
    torch = _torch()
    functional = torch.nn.functional
    b, length, d = tokens.shape
    h = config.heads

    def drop(x: Tensor) -> Tensor:
        return functional.dropout(x, dropout) if dropout else x

    gaps = torch.zeros_like(minutes)
    gaps[:, 1:] = minutes[:, 1:] - minutes[:, :-1]
    x = drop(functional.rms_norm(tokens @ params["in"], (d,)) + params["gap"][_bucket(gaps)])
    # (B, L, L): how long, and how many moments, before the query the key was.
    apart = _bucket(minutes[:, :, None] - minutes[:, None, :])
    place = torch.arange(length)
    steps = (place[:, None] - place[None, :]).clamp(0, _STEPS - 1)  # (L, L)
    seen = place[None, :] <= place[:, None]
    unseen = torch.zeros(length, length).masked_fill(~seen, -1e9)
    for block in range(config.depth):
        at = f"block{block}."
        y = functional.rms_norm(x, (d,), params[at + "norm1"])
        q, k, v = (y @ params[at + "qkv"]).view(b, length, 3, h, d // h).permute(2, 0, 3, 1, 4)
        bias = params[at + "time"][apart] + params[at + "step"][steps]  # (B, L, L, H)
        mask = bias.permute(0, 3, 1, 2) + unseen
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # (B, H, L, D/H)
        x = x + drop(y.transpose(1, 2).reshape(b, length, d) @ params[at + "out"])
        y = functional.rms_norm(x, (d,), params[at + "norm2"])
        gate, up = (y @ params[at + "up"]).chunk(2, dim=-1)
        x = x + drop((functional.silu(gate) * up) @ params[at + "down"])
    x = functional.rms_norm(x, (d,), params["norm"]) * params["scale"]
    states: Tensor = x * valid[..., None]
    return states


def _bucket(minutes: Tensor) -> Tensor:
    """Log-spaced bucket of a span of minutes; negative spans count as none."""
    torch = _torch()
    bucket: Tensor = torch.log2(minutes.clamp(min=0.0) + 1.0).long().clamp(max=_TIMES - 1)
    return bucket


# ---------------------------------------------------------------- data


@dataclass(frozen=True, slots=True)
class Moments:
    """The moments of many users: moment m is rows `first[m]:first[m + 1]` of the events."""

    first: I64  # (M + 1,)
    owner: I64  # (M,)
    minutes: F64  # (M,)
    items: I32  # (rows,)
    weights: F32  # (rows,)
    targets: F32  # (rows,), what the row counts as a target

    @classmethod
    def of(cls, data: Interactions, repeat_weight: float) -> Moments:
        """All moments of `data`."""
        owners = owners_of(data.offsets)
        opens = np.flatnonzero(starts(owners, data.times, data.groups))
        targets = np.full(len(data.items), repeat_weight, dtype=np.float32)
        targets[first_times(data)] = 1.0
        return cls(
            np.append(opens, len(data.items)),
            owners[opens],
            data.times[opens] / (60.0 * SECOND),
            data.items,
            data.weights.astype(np.float32),
            targets * np.maximum(data.weights, 0.0).astype(np.float32),
        )


def chunks(moments: Moments, length: int) -> I64:
    """(first moment, number of moments) of training sequences, (C, 2): at most `length` + 1 each.

    A long history is cut into pieces from its newest moment backwards, so that the newest, which
    matter most, have the longest context; pieces overlap by half.
    """
    out = []
    opens = np.flatnonzero(np.diff(moments.owner, prepend=-1))
    for start, stop in zip(opens, np.append(opens[1:], len(moments.owner)), strict=True):
        end = int(stop)
        while end - start >= 2:
            begin = max(int(start), end - length - 1)
            out.append((begin, end - begin))
            if begin == start:
                break
            end = begin + 1
    return np.array(out, dtype=np.int64).reshape(-1, 2)


def _rows(first: I64, last: I64) -> I64:
    """The ranges first[i]:last[i] end to end."""
    lengths = last - first
    shift = np.repeat(first - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
    return np.asarray(np.arange(int(lengths.sum())) + shift)


@dataclass(frozen=True, slots=True)
class Batch:
    """A padded batch of sequences, and the pairs of a token with each item of its next moment."""

    minutes: F64  # (B, L)
    valid: Bool  # (B, L)
    bag_items: I64  # items of all moments, end to end
    bag_weights: F32
    bag_token: I64  # flat index b · L + l of the moment an item is in
    pair_token: I64  # (P,) flat index of the predicting token
    pair_item: I64  # (P,)
    pair_weight: F32  # (P,)


def batch_of(moments: Moments, pieces: I64, *, keep: Bool | None = None) -> Batch:
    """A batch from `pieces` (B, 2) as `chunks` gives them; the last moment is target only.

    `keep` says which moments count as targets.
    """
    lengths = pieces[:, 1] - 1
    wide = int(lengths.max())
    b = len(pieces)
    index = pieces[:, :1] + np.arange(wide)[None, :]
    valid = np.arange(wide)[None, :] < lengths[:, None]
    index = np.where(valid, index, 0)
    flat = np.flatnonzero(valid.ravel())
    shown = index.ravel()[flat]
    rows = _rows(moments.first[shown], moments.first[shown + 1])
    sizes = moments.first[shown + 1] - moments.first[shown]
    following = shown + 1
    if keep is not None:
        asked = keep[following]
    else:
        asked = np.ones(len(following), dtype=bool)
    next_rows = _rows(moments.first[following[asked]], moments.first[following[asked] + 1])
    next_sizes = moments.first[following[asked] + 1] - moments.first[following[asked]]
    weight = moments.targets[next_rows]
    token = np.repeat(flat[asked], next_sizes)
    counted = weight > 0
    return Batch(
        np.where(valid, moments.minutes[index], 0.0).reshape(b, wide),
        valid,
        moments.items[rows].astype(np.int64),
        moments.weights[rows] / np.sqrt(np.repeat(sizes, sizes)).astype(np.float32),
        np.repeat(flat, sizes),
        token[counted],
        moments.items[next_rows].astype(np.int64)[counted],
        weight[counted],
    )


# ---------------------------------------------------------------- training


@dataclass(frozen=True, slots=True)
class Candidates:
    """What the softmax is over: `bias` is log popularity, `proposal` where negatives come from."""

    bias: F32  # (N,)
    cumulative: F64 | None  # (N,) of the proposal; None = full softmax
    log_proposal: F32  # (N,)

    @classmethod
    def of(cls, items: I32, weights: F32 | F64, n_items: int, *, full: bool) -> Candidates:
        """From counts; the proposal is popularity to the power ¾, flattened a little."""
        counts = np.bincount(items, weights, minlength=n_items)
        bias = np.log((counts + 0.1) / (counts.sum() + 0.1 * n_items)).astype(np.float32)
        proposal = (counts + 0.5) ** 0.75
        proposal /= proposal.sum()
        return cls(
            bias,
            None if full else np.cumsum(proposal),
            np.log(proposal).astype(np.float32),
        )


def loss_of(
    params: Params,
    config: SequenceConfig,
    codes: Tensor,
    batch: Batch,
    candidates: Candidates,
    rng: np.random.Generator,
    *,
    dropout: float,
) -> Tensor:
    """Weighted mean over the pairs of −log softmax(target | history)."""
    torch = _torch()
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
    vectors = item_vectors(params, codes, torch.from_numpy(used))  # (U, D)
    d = config.width
    b, length = batch.minutes.shape
    tokens = torch.zeros(b * length, d).index_add(
        0,
        torch.from_numpy(batch.bag_token),
        vectors[torch.from_numpy(place[batch.bag_items])]
        * torch.from_numpy(batch.bag_weights)[:, None],
    )
    states = encode(
        params,
        config,
        tokens.view(b, length, d),
        torch.from_numpy(batch.minutes),
        torch.from_numpy(batch.valid),
        dropout=dropout,
    ).reshape(b * length, d)
    asking, which = np.unique(batch.pair_token, return_inverse=True)
    asked = states[torch.from_numpy(asking)]  # (T, D)
    bias = torch.from_numpy(candidates.bias)
    pool = torch.from_numpy(drawn)
    logits = asked @ vectors[torch.from_numpy(place[drawn])].T + bias[pool]  # (T, K)
    pair = torch.from_numpy(which.reshape(-1))
    target = torch.from_numpy(batch.pair_item)
    own = (asked[pair] * vectors[torch.from_numpy(place[batch.pair_item])]).sum(-1) + bias[target]
    if candidates.cumulative is None:
        total = torch.logsumexp(logits, dim=1)[pair]
    else:
        shift = torch.from_numpy(candidates.log_proposal[drawn]) + math.log(config.negatives)
        total = torch.logaddexp(torch.logsumexp(logits - shift, dim=1)[pair], own)
    weight = torch.from_numpy(batch.pair_weight)
    loss: Tensor = ((total - own) * weight).sum() / weight.sum()
    return loss


# ---------------------------------------------------------------- the family


class SequenceModel:
    """log(N · P(item | history)) of the transformer: 0 is chance.

    A history is read up to its last `length` moments; an empty one scores as popularity does.
    Raises MissingExtra where PyTorch is not installed.
    """

    def __init__(self, config: SequenceConfig | None = None) -> None:
        _torch()
        self.config = config or SequenceConfig()
        self.params: Params = {}
        self.attributes: dict[str, list[str]] = {}
        self.vectors: F32 = np.zeros((0, self.config.width), dtype=np.float32)  # (N, D)
        self.bias: F32 = np.zeros(0, dtype=np.float32)  # (N,)
        self.trained_to = -(2**62)  # newest event time learned from, µs

    @property
    def name(self) -> str:
        """`sequence`."""
        return "sequence"

    def fit(self, data: Interactions, features: ItemFeatures, *, progress: Progress) -> None:
        """Train from nothing; the best pass on a held-out tenth of users' last moments is kept."""
        torch = _torch()
        self.attributes = {name: list(values) for name, values in features.values.items()}
        sizes = {name: len(values) for name, values in self.attributes.items() if values}
        with _threads(self.config.threads), torch.random.fork_rng():
            torch.manual_seed(self.config.seed)
            self.params = new_params(self.config, data.n_items, sizes)
            self._train(
                data, features, self.config.passes, self.config.learning_rate, None, progress
            )

    def update(self, data: Interactions, features: ItemFeatures, *, progress: Progress) -> None:
        """Continue at a low rate on the moments after the last one learned from.

        Items and attribute values that are new start from their attributes alone.
        """
        if not self.params:
            self.fit(data, features, progress=progress)
            return
        torch = _torch()
        with _threads(self.config.threads), torch.random.fork_rng():
            torch.manual_seed(self.config.seed + 1)
            self._grow(data.n_items, features)
            self._train(
                data,
                features,
                self.config.update_passes,
                self.config.learning_rate / 10,
                self.trained_to,
                progress,
            )

    def embed(self, histories: Sequence[History]) -> F32:
        """The vector U of each user, (n, D): the state after the last moment, else 0."""
        torch = _torch()
        out = np.zeros((len(histories), self.config.width), dtype=np.float32)
        rows = [row for row, history in enumerate(histories) if len(history)]
        with _threads(1 if len(rows) == 1 else self.config.threads), torch.no_grad():
            for start in range(0, len(rows), 64):
                part = rows[start : start + 64]
                out[part] = self._states([histories[row] for row in part])
        return out

    def score(self, histories: Sequence[History]) -> F32:
        """Scores (n, N)."""
        scores: F32 = self.embed(histories) @ self.vectors.T
        scores += self.bias
        top = scores.max(axis=1, keepdims=True, initial=-np.inf)
        if scores.size:
            total = top[:, 0] + np.log(np.exp(scores - top).sum(axis=1))
            scores += np.float32(math.log(len(self.bias))) - total[:, None]
        return scores

    def save(self, folder: Path) -> None:
        """Write `weights.safetensors` and `meta.json`."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        torch = _torch()
        tensors = {name: value.detach().contiguous() for name, value in self.params.items()}
        tensors["~vectors"] = torch.from_numpy(np.array(self.vectors))
        tensors["~bias"] = torch.from_numpy(np.array(self.bias))
        save_file(tensors, folder / "weights.safetensors")
        write_json(
            folder / "meta.json",
            {
                "config": asdict(self.config),
                "attributes": self.attributes,
                "trained_to": self.trained_to,
                "parameters": list(self.params),
            },
        )

    def load(self, folder: Path) -> None:
        """Read what `save` wrote. Raises ModelError if it does not fit."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        meta = read_json(folder / "meta.json")
        path = folder / "weights.safetensors"
        try:
            tensors = load_file(path)
            self.config = SequenceConfig(**meta["config"])
            self.params = {name: tensors[name] for name in meta["parameters"]}
            self.vectors = tensors["~vectors"].numpy()
            self.bias = tensors["~bias"].numpy()
            self.attributes = meta["attributes"]
            self.trained_to = int(meta["trained_to"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ModelError(
                f"cannot be read: {error}", where=str(path), mend="train again: limner train"
            ) from error

    # ------------------------------------------------------------ inside

    def _states(self, histories: list[History]) -> F32:
        torch = _torch()
        d = self.config.width
        lengths = []
        items, weights, token, minutes = [], [], [], []
        for row, history in enumerate(histories):
            opens = starts(np.zeros(len(history), dtype=np.int64), history.times, history.groups)
            moment = np.cumsum(opens) - 1
            skip = max(0, int(moment[-1]) + 1 - self.config.length)
            kept = moment >= skip
            place = moment[kept] - skip
            lengths.append(int(place[-1]) + 1)
            sizes = np.bincount(place)
            items.append(history.items[kept])
            weights.append(history.weights[kept] / np.sqrt(sizes[place]))
            token.append(row * self.config.length + place)
            minutes.append(history.times[kept & opens] / (60.0 * SECOND))
        wide = max(lengths)
        valid = np.arange(wide)[None, :] < np.array(lengths)[:, None]
        clock = np.zeros(valid.shape)
        clock[valid] = np.concatenate(minutes)
        flat = np.concatenate(token)
        flat = flat // self.config.length * wide + flat % self.config.length
        vectors = self.vectors[np.concatenate(items)]
        vectors *= np.concatenate(weights).astype(np.float32)[:, None]
        tokens = torch.zeros(len(histories) * wide, d).index_add(
            0, torch.from_numpy(flat), torch.from_numpy(vectors)
        )
        states = encode(
            self.params,
            self.config,
            tokens.view(len(histories), wide, d),
            torch.from_numpy(clock),
            torch.from_numpy(valid),
        )
        last = torch.tensor(lengths) - 1
        out: F32 = states[torch.arange(len(histories)), last].numpy()
        return out

    def _codes(self, features: ItemFeatures, n_items: int) -> Tensor:
        """(attributes, N) in the order of the parameters, under the codes of `attributes`."""
        torch = _torch()
        kept = [key[len("attribute.") :] for key in self.params if key.startswith("attribute.")]
        table = np.full((len(kept), n_items), -1, dtype=np.int64)
        for row, name in enumerate(kept):
            known = {value: code for code, value in enumerate(self.attributes[name])}
            move = np.array([known.get(v, -1) for v in features.values.get(name, [])] + [-1])
            codes = features.codes.get(name)
            if codes is not None:
                table[row, : len(codes)] = move[codes]
        out: Tensor = torch.from_numpy(table)
        return out

    def _grow(self, n_items: int, features: ItemFeatures) -> None:
        torch = _torch()
        for name, values in self.attributes.items():
            known = set(values)
            fresh = [value for value in features.values.get(name, []) if value not in known]
            key = f"attribute.{name}"
            if fresh and key in self.params:
                self.attributes[name] = values + fresh
                more = torch.zeros(len(fresh), self.config.width)
                self.params[key] = torch.cat([self.params[key].detach(), more])
        more = torch.zeros(max(0, n_items - len(self.params["items"])), self.config.width)
        self.params["items"] = torch.cat([self.params["items"].detach(), more])

    def _train(
        self,
        data: Interactions,
        features: ItemFeatures,
        passes: int,
        rate: float,
        since: int | None,
        progress: Progress,
    ) -> None:
        torch = _torch()
        config = self.config
        rng = np.random.default_rng(config.seed)
        codes = self._codes(features, data.n_items)
        moments = Moments.of(data, config.repeat_weight)
        pieces = chunks(moments, config.length)
        full = data.n_items < config.full_softmax_below
        candidates = Candidates.of(data.items, moments.targets, data.n_items, full=full)
        keep = np.ones(len(moments.owner), dtype=bool)
        if since is not None:
            keep = moments.minutes > since / (60.0 * SECOND)
        newest = pieces[:, 0] + pieces[:, 1] - 1
        held = np.zeros(len(keep), dtype=bool)
        if since is None and config.holdout:
            last = np.flatnonzero(np.diff(moments.owner, append=-1))
            held[rng.permutation(last)[: int(len(last) * config.holdout)]] = True
            keep &= ~held
        if since is not None:
            pieces = pieces[moments.minutes[newest] > since / (60.0 * SECOND)]
        checks = pieces[held[pieces[:, 0] + pieces[:, 1] - 1]]
        order = np.argsort(pieces[:, 1], kind="stable")
        batches = [order[s : s + config.batch] for s in range(0, len(order), config.batch)]
        for tensor in self.params.values():
            tensor.requires_grad_(True)
        optimizer = torch.optim.AdamW(
            list(self.params.values()), lr=rate, weight_decay=config.weight_decay, fused=True
        )
        steps = max(1, passes * len(batches))
        best, kept = math.inf, {}
        done = 0
        for _ in range(passes):
            for which in rng.permutation(len(batches)):
                warm = min(1.0, (done + 1) / (0.05 * steps + 1))
                for group in optimizer.param_groups:
                    group["lr"] = rate * warm * (0.02 + 0.98 * (1 - done / steps))
                batch = batch_of(moments, pieces[batches[which]], keep=keep)
                if len(batch.pair_item):
                    loss = loss_of(
                        self.params, config, codes, batch, candidates, rng, dropout=config.dropout
                    )
                    optimizer.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                done += 1
                progress("training the sequence model", done, steps)
            if len(checks):
                value = self._validate(moments, checks, held, codes, candidates)
                if value < best:
                    best = value
                    kept = {n: t.detach().clone() for n, t in self.params.items()}
        self.params = kept or {name: tensor.detach() for name, tensor in self.params.items()}
        every = torch.arange(data.n_items)
        with torch.no_grad():
            self.vectors = item_vectors(self.params, codes, every).numpy()
        weights = moments.targets * ages(data.times, config.half_life_days)
        self.bias = Candidates.of(data.items, weights, data.n_items, full=True).bias
        self.trained_to = int(data.times.max(initial=self.trained_to))

    def _validate(
        self,
        moments: Moments,
        checks: I64,
        held: Bool,
        codes: Tensor,
        candidates: Candidates,
    ) -> float:
        torch = _torch()
        rng = np.random.default_rng(self.config.seed)  # the same negatives each time
        total, weight = 0.0, 0.0
        with torch.no_grad():
            for start in range(0, len(checks), self.config.batch):
                part = checks[start : start + self.config.batch]
                batch = batch_of(moments, part, keep=held)
                if not len(batch.pair_item):
                    continue
                loss = loss_of(self.params, self.config, codes, batch, candidates, rng, dropout=0.0)
                share = float(batch.pair_weight.sum())
                total += float(loss) * share
                weight += share
        return total / weight if weight else math.inf


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise MissingExtra("the sequence model", "model") from error
    return torch


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """PyTorch bounded to `count` threads, and as it was afterwards."""
    torch = _torch()
    before = torch.get_num_threads()
    torch.set_num_threads(min(count, before))
    try:
        yield
    finally:
        torch.set_num_threads(before)
