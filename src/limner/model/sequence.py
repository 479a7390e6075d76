"""The sequence model: a family of scores from the order, times and kinds of what a user did.

What it computes is in `network`, what it is trained on in `sequences`, how in `loop`.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from limner.errors import ModelError
from limner.events.batch import F64, I32, I64, Bool
from limner.metrics.splits import Truth
from limner.model.artifacts import read_json, write_json
from limner.model.loop import Curve, LoopConfig, Work, threads, train
from limner.model.network import (
    Asked,
    Candidates,
    ItemTable,
    Params,
    SequenceConfig,
    Weights,
    ask,
    bucket,
    divergence,
    item_vectors,
    loss_of,
    new_params,
    newest,
    step,
    steps,
    torch_,
    value_bucket,
)
from limner.model.popularity import ages
from limner.model.products import products
from limner.model.protocol import F32, History, Interactions, ItemFeatures, Progress
from limner.model.report import page
from limner.model.sequences import MINUTE, Moments, batch_of, beyond, by_length, chunks, hiding
from limner.model.states import Kept, States, Window

if TYPE_CHECKING:
    from torch import Tensor

SEEN = 8_000_000
"""Events a default training sees, one pass after another: a large shop's few times, a small one's
often."""

LEAST_PASSES, MOST_PASSES = 3, 20

LEAST_DROPOUT, MOST_DROPOUT = 0.2, 0.5
"""Of a training with the fewest passes, and of one with the most."""

_STEPS = 6
"""Moments that are stepped through one by one; of more a history is read whole, which is faster."""

_AT_ONCE = 2048
"""Items whose scores are summed at once."""

APART = 1_000
"""Between the seeds of two members, so that runs of neighbouring seeds share none."""

CHECKED = 5_000
"""Users on whose held-out moments a training is judged after each pass, at most."""


@dataclass(frozen=True, slots=True)
class Next:
    """What a user does next, besides with which item: a distribution over kinds of events, which
    are told apart by their weight, and the bucket of the value expected (see `value_bucket`).
    """

    kinds: dict[float, float]
    value: float


@dataclass(frozen=True, slots=True)
class _Read:
    """Histories as the network is given them.

    `events` (E, D): what each event adds to the moment at its place of `places` (E,), in (B · L);
    `minutes` and `valid` (B, L); `ahead` (B,): minutes from the last moment to that of asking.
    """

    events: Tensor
    places: Tensor
    minutes: Tensor
    valid: Tensor
    ahead: Tensor


class SequenceModel:
    """log(N · P(item | history)): 0 is chance.

    A history is read from its last `length` moments on, or from a few before; an empty one scores
    as popularity does.
    With `config.members`, as many networks are trained from seeds of their own, and P is the
    geometric mean of theirs, made to sum to 1 again (after Lakshminarayanan et al. 2017, who take
    the arithmetic mean): what one believes by the chance of its seed the others do not confirm.
    This object is the first of them, and `others` has the rest.
    Of live users it keeps what a reading found, if it is told to (`keep`).
    `checkpoints`: a folder where an interrupted training goes on from. Raises MissingExtra where
    PyTorch is not installed.
    """

    def __init__(
        self, config: SequenceConfig | None = None, *, checkpoints: Path | None = None
    ) -> None:
        torch_()
        self.config = config or SequenceConfig()
        self.checkpoints = checkpoints
        self.params: Params = {}
        self.attributes: dict[str, list[str]] = {}
        self.kinds: F64 = np.zeros(1)  # (K,) the weights that tell kinds of events apart
        self.vectors: F32 = np.zeros((0, self.config.width), dtype=np.float32)  # (N, D)
        self.bias: F32 = np.zeros(0, dtype=np.float32)  # (N,)
        self.trained_to = -(2**62)  # newest event time learned from, µs
        self.curve = Curve()
        self.others: list[SequenceModel] = []
        self._joined: tuple[F32, F32] | None = None
        self._states: States | None = None
        self._weights: tuple[Params, Weights] | None = None
        # items from `lasting` on may become others, and with them the edition
        self.lasting, self.edition = 2**31, object()

    @property
    def name(self) -> str:
        """`sequence`."""
        return "sequence"

    @property
    def weights(self) -> Weights:
        """The parameters as arrays, which share their memory."""
        if self._weights is None or self._weights[0] is not self.params:
            arrays = {name: tensor.detach().cpu().numpy() for name, tensor in self.params.items()}
            self._weights = self.params, arrays
        return self._weights[1]

    @property
    def parameters(self) -> int:
        """How many numbers it has learned."""
        own = sum(tensor.numel() for tensor in self.params.values())
        return own + sum(other.parameters for other in self.others)

    def fit(
        self,
        data: Interactions,
        features: ItemFeatures,
        *,
        progress: Progress,
        held: tuple[Sequence[History], Truth] | None = None,
    ) -> None:
        """Train from nothing, and keep the best pass.

        Judged by NDCG@10 on `held` (histories, and what came next) if that is given, else by the
        loss on the last moments of some users, which are then not learned from.
        """
        self._states = None
        self.attributes = {name: list(values) for name, values in features.values.items()}
        self.kinds = np.unique(data.weights) if len(data.weights) else np.zeros(1)
        self.params = self._fresh(data, features)
        members, self.others = self.config.members, []
        self._train(data, features, _told(progress, 1, members), held=held)
        for number in range(1, members):
            other = copy.copy(self)
            other.config = replace(self.config, members=1, seed=self.config.seed + APART * number)
            other.checkpoints = self.checkpoints and self.checkpoints / f"member{number}"
            other.others = []
            other.fit(data, features, progress=_told(progress, number + 1, members), held=held)
            self.others.append(other)
        self._joined = None

    def update(self, data: Interactions, features: ItemFeatures, *, progress: Progress) -> None:
        """Continue at a low rate on the moments after the last one learned from.

        Each batch of these has as many pieces of what was learned before beside it, on which the
        answers stay near those of the parameters it started from (replay, and distillation after
        Hinton et al. 2015); of the item table only the rows of items with new events move. Items
        and attribute values that are new start from their attributes and content alone.
        """
        if not self.params:
            self.fit(data, features, progress=progress)
            return
        self._states = None
        self._grow(data.n_items, features)
        members = 1 + len(self.others)
        self._train(data, features, _told(progress, 1, members), since=self.trained_to)
        for number, other in enumerate(self.others, 2):
            other.update(data, features, progress=_told(progress, number, members))
        self._joined = None

    def embed(self, histories: Sequence[History]) -> F32:
        """The vector U of each user, (n, D): the state after the last moment, else 0.

        With several members theirs side by side, (n, D · members), so that scores follow from it.
        """
        own = self._embed(histories)
        if not self.others:
            return own
        return np.concatenate([own, *(other._embed(histories) for other in self.others)], axis=1)

    def keep(self, most: int) -> None:
        """Keep what readings of live users find, up to `most` bytes; nothing with 0.

        Until it learns anew or is loaded: nothing is taken from what another model found.
        """
        members = [self, *self.others]
        for member in members:
            member._states = States(most // len(members)) if most else None

    def let_go(self) -> None:
        """Let go of all that is kept of users."""
        for member in (self, *self.others):
            if member._states is not None:
                member._states.clear()

    def _embed(self, histories: Sequence[History]) -> F32:
        """The states of this member alone, (n, D)."""
        torch = torch_()
        out = np.zeros((len(histories), self.config.width), dtype=np.float32)
        rows = [row for row, history in enumerate(histories) if len(history)]
        with threads(1 if len(rows) == 1 else self.config.threads), torch.no_grad():
            out[rows] = self._states_of([histories[row] for row in rows])
        return out

    def _states_of(self, histories: list[History]) -> F32:
        """Those of histories that are not empty; where enough is kept of one, from there on."""
        torch = torch_()
        out = np.zeros((len(histories), self.config.width), dtype=np.float32)
        anew: list[tuple[int, Window]] = []
        for place, history in enumerate(histories):
            window, row = Window.of(history, self.config.length), history.row
            kept = self._states.get(row) if self._states is not None and row >= 0 else None
            since = kept.agrees(window, self.edition, self.lasting) if kept is not None else 0
            if kept is not None and len(window) - since <= min(since, _STEPS):
                out[place] = self._onward(window, kept, since)
            else:
                anew.append((place, window))
        anew.sort(key=lambda one: len(one[1]))  # of one length: little padding
        for start in range(0, len(anew), 64):
            places, windows = zip(*anew[start : start + 64], strict=True)
            read = self._given(windows)
            states, rows = self._newest(read, read.events)
            out[list(places)] = states
            for number, window in enumerate(windows):
                if self._states is not None and window.history.row >= 0:
                    kept_rows = np.stack([row[number, : len(window)].numpy() for row in rows])
                    self._keep(window, kept_rows, states[number].numpy().copy())
        ahead = torch.tensor([(h.now - h.times[-1]) / MINUTE for h in histories])
        found: F32 = self._asked(torch.from_numpy(out), ahead).numpy()
        return found

    def _onward(self, window: Window, kept: Kept, since: int) -> F32:
        """The state after a window (D,), of whose moments `since` are as they were kept."""
        state, rows, length = kept.newest, kept.rows, len(window)
        if since < length:
            h, place = window.history, window.place
            blocks, _, wide = kept.rows.shape
            rows = np.empty((blocks, length, wide), dtype=np.float32)
            rows[:, :since] = kept.rows[:, :since]
            first = int(place.searchsorted(since))
            values = None if h.values is None else h.values[first:]
            sizes = np.bincount(place[first:] - since)[place[first:] - since]
            events = self._events(h.items[first:], h.weights[first:], values, sizes)
            minutes = h.times[window.opens] / MINUTE
            for moment in range(since, length):
                upto = slice(None, moment + 1)
                token = events[place[first:] == moment].sum(axis=0)
                state = step(self.weights, self.config, token, minutes[upto], rows[:, upto])
            self._keep(window, rows, state)
        return state

    def _keep(self, window: Window, rows: F32, newest: F32) -> None:
        if self._states is not None:
            if not steps(self.config.kind):
                rows = rows[:, :0].copy()
            kept = Kept(window.told, window.place, window.age, rows, newest, self.edition)
            self._states.put(window.history.row, kept)

    def _events(self, items: I32, weights: F64, values: F64 | None, sizes: I64) -> F32:
        """What events add to their moments, which have so many, (E, D)."""
        told = self.weights["kind"][self._kinds_of(weights)]
        if values is None:
            told = told + self.weights["value"][0]
        else:
            told = told + self.weights["value"][value_bucket(values)]
        share = (weights / np.sqrt(sizes)).astype(np.float32)[:, None]
        out: F32 = (self.vectors[items] + told) * share
        return out

    def score(self, histories: Sequence[History], items: I64 | None = None) -> F32:
        """Scores (n, N) or (n, len(items))."""
        states = self.embed(histories)
        vectors, bias = self._common()
        if items is not None:
            some: F32 = states @ vectors[items].T + bias[items]
            return some + (math.log(len(bias)) - self._partition(states))[:, None]
        scores = products(states, vectors)
        scores += bias
        top = scores.max(axis=1, keepdims=True, initial=-np.inf)
        if scores.size:
            total = top[:, 0] + np.log(np.exp(scores - top).sum(axis=1))
            scores += np.float32(math.log(len(bias))) - total[:, None]
        return scores

    def _partition(self, states: F32) -> F32:
        """Log Σ exp(state · vector + bias) over all items, (n,), without the table of them."""
        vectors, bias = self._common()
        most = float(bias.max(initial=-np.inf))
        popular = np.exp(bias - most)
        top = np.full(len(states), -np.inf, dtype=np.float32)
        total = np.zeros(len(states), dtype=np.float32)
        for start in range(0, len(vectors), _AT_ONCE):
            rows = slice(start, start + _AT_ONCE)
            logits = states @ vectors[rows].T  # (n, rows), in the cache of the processor
            above = np.maximum(top, logits.max(axis=1))
            logits -= above[:, None]
            np.exp(logits, out=logits)
            total = total * np.exp(top - above) + logits @ popular[rows]
            top = above
        out: F32 = top + np.log(total) + np.float32(most)
        return out

    def _common(self) -> tuple[F32, F32]:
        """What U is multiplied by and what is added to it for the logits: (N, D · members), (N,).

        With several members the means of theirs.
        """
        if not self.others:
            return self.vectors, self.bias
        if self._joined is None:
            members = [self, *self.others]
            wide: F32 = np.concatenate([member.vectors for member in members], axis=1)
            wide /= np.float32(len(members))
            bias: F32 = np.mean([member.bias for member in members], axis=0, dtype=np.float32)
            self._joined = wide, bias
        return self._joined

    def attribute(self, history: History, items: I64) -> F64:
        """About what each event adds to the score of each of `items`, (k, n): gradient × input.

        To the first order, that is how far the score falls without the event (Shrikumar et al.,
        2016); it ranks events, and deletion says what they are worth. 0 for what is not read.
        One pass forward, and one back for all items at once.
        """
        out = np.zeros((len(items), len(history)))
        if not len(history) or not len(items):
            return out
        torch = torch_()
        vectors, bias = self._common()
        members = [self, *self.others]
        with threads(1), torch.enable_grad():
            passes = []
            for member in members:
                read = member._read([history])
                events = read.events.detach().requires_grad_()
                passes.append((events, member._after(read, events)))
            state = np.concatenate([after.detach().numpy() for _, after in passes], axis=1)
            shares = _softmax(state @ vectors.T + bias)[0]
            for member, (events, after) in zip(members, passes, strict=True):
                towards = torch.from_numpy(member.vectors[items] - shares @ member.vectors)
                (gradient,) = torch.autograd.grad(
                    after, events, towards[:, None], is_grads_batched=True
                )
                added = (gradient * events).sum(dim=2).detach().numpy()
                out[:, len(history) - len(events) :] += added / len(members)
        return out

    def next(self, histories: Sequence[History]) -> list[Next]:
        """What each of these users does next, besides with which item."""
        kinds, values = (
            np.mean([m._told_next(head, histories) for m in (self, *self.others)], axis=0)
            for head in ("next_kind", "next_value")
        )
        expected = values @ np.arange(values.shape[1])
        return [
            Next(dict(zip(self.kinds.tolist(), row, strict=True)), value)
            for row, value in zip(kinds.tolist(), expected.tolist(), strict=True)
        ]

    def _told_next(self, head: str, histories: Sequence[History]) -> F32:
        return _softmax(self._embed(histories) @ self.params[head].numpy())

    def save(self, folder: Path) -> None:
        """Write `weights.safetensors`, `meta.json`, and `training.html` for people; the same of
        each further member in a folder of its own.
        """
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        torch = torch_()
        tensors = {name: value.detach().contiguous() for name, value in self.params.items()}
        tensors["~vectors"] = torch.from_numpy(np.array(self.vectors))
        tensors["~bias"] = torch.from_numpy(np.array(self.bias))
        save_file(tensors, folder / "weights.safetensors")
        write_json(
            folder / "meta.json",
            {
                "config": asdict(self.config),
                "attributes": self.attributes,
                "kinds": self.kinds.tolist(),
                "trained_to": self.trained_to,
                "parameters": list(self.params),
                "curve": asdict(self.curve),
            },
        )
        (folder / "training.html").write_text(self.report(), encoding="utf-8")
        for number, other in enumerate(self.others, 1):
            other.save(folder / f"member{number}")

    def report(self) -> str:
        """The last training on one page of HTML."""
        seconds = sum(self.curve.seconds)
        return page(
            f"Training of the {self.config.kind}",
            f"{self.parameters:,} parameters, {len(self.vectors):,} items, "
            f"{len(self.curve.loss)} passes in {seconds:,.0f} s.",
            {
                "loss on what is learned": self.curve.loss,
                "loss on what is held out": self.curve.value,
                "seconds": self.curve.seconds,
            },
            {**asdict(self.config), "width": self.config.width, "rate": self.config.rate},
            best=self.curve.best,
        )

    def load(self, folder: Path) -> None:
        """Read what `save` wrote. Raises ModelError if it does not fit."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        self._states = None
        meta = read_json(folder / "meta.json")
        path = folder / "weights.safetensors"
        try:
            tensors = load_file(path)
            self.config = SequenceConfig(**meta["config"])
            self.params = {name: tensors[name] for name in meta["parameters"]}
            self.vectors = tensors["~vectors"].numpy()
            self.bias = tensors["~bias"].numpy()
            self.attributes = meta["attributes"]
            self.kinds = np.array(meta["kinds"])
            self.trained_to = int(meta["trained_to"])
            self.curve = Curve(**meta["curve"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ModelError(
                f"cannot be read: {error}", where=str(path), mend="train again: limner train"
            ) from error
        self.others, self._joined = [], None
        for number in range(1, self.config.members):
            other = copy.copy(self)
            other.load(folder / f"member{number}")
            self.others.append(other)

    # ------------------------------------------------------------ inside

    def _fresh(self, data: Interactions, features: ItemFeatures) -> Params:
        """What a training starts from."""
        torch = torch_()
        sizes = {name: len(values) for name, values in self.attributes.items() if values}
        content = {name: vectors.shape[1] for name, vectors in features.vectors.items()}
        with torch.random.fork_rng():
            torch.manual_seed(self.config.seed)
            return new_params(
                self.config, data.n_items, sizes, content=content, kinds=len(self.kinds)
            )

    def _kinds_of(self, weights: F64) -> I64:
        """The kind of each event: that of the nearest weight known."""
        places = np.searchsorted(self.kinds, weights).clip(1, max(len(self.kinds) - 1, 1))
        if len(self.kinds) == 1:
            return np.zeros(len(weights), dtype=np.int64)
        lower = weights - self.kinds[places - 1] < self.kinds[places] - weights
        return np.asarray(places - lower, dtype=np.int64)

    def _moments(self, data: Interactions) -> Moments:
        values = None if data.values is None else value_bucket(data.values).astype(np.int64)
        return Moments.of(
            data, self.config.repeat_weight, kinds=self._kinds_of(data.weights), values=values
        )

    def _read(self, histories: list[History]) -> _Read:
        """What the network is given of histories that are not empty."""
        return self._given([Window.of(history, self.config.length) for history in histories])

    def _given(self, windows: Sequence[Window]) -> _Read:
        torch = torch_()
        lengths = np.array([len(window) for window in windows])
        wide = int(lengths.max())
        valid = np.arange(wide)[None, :] < lengths[:, None]
        clock = np.zeros(valid.shape)
        clock[valid] = np.concatenate([w.history.times[w.opens] for w in windows]) / MINUTE
        flat = np.concatenate([row * wide + w.place for row, w in enumerate(windows)])
        some = [window.history for window in windows]
        events = self._events(
            np.concatenate([h.items for h in some]),
            np.concatenate([h.weights for h in some]),
            np.concatenate(
                [np.full(len(h), np.nan) if h.values is None else h.values for h in some]
            ),
            np.bincount(flat, minlength=len(windows) * wide)[flat],
        )
        return _Read(
            torch.from_numpy(events),
            torch.from_numpy(flat),
            torch.from_numpy(clock),
            torch.from_numpy(valid),
            torch.tensor([(h.now - h.times[-1]) / MINUTE for h in some]),
        )

    def _newest(self, read: _Read, events: Tensor) -> tuple[Tensor, list[Tensor]]:
        """What `newest` finds, had the events been `events`."""
        rows, wide = read.valid.shape
        tokens = torch_().zeros(rows * wide, self.config.width)
        tokens = tokens.index_add(0, read.places, events).view(rows, wide, -1)
        return newest(self.params, self.config, tokens, read.minutes, read.valid)

    def _after(self, read: _Read, events: Tensor) -> Tensor:
        """The states at the moments of asking, (B, D), had the events been `events`."""
        states, _ = self._newest(read, events)
        return self._asked(states, read.ahead)

    def _asked(self, states: Tensor, ahead: Tensor) -> Tensor:
        """States (B, D), so many minutes later (B,)."""
        if not self.config.asked_later:
            return states
        return states + self.params["ahead"][bucket(ahead)]

    def _table(self, features: ItemFeatures, n_items: int) -> ItemTable:
        """The items as the parameters know them: codes under `attributes`, and content."""
        torch = torch_()
        device = self.config.device
        kept = [key[len("attribute.") :] for key in self.params if key.startswith("attribute.")]
        table = np.full((len(kept), n_items), -1, dtype=np.int64)
        for row, name in enumerate(kept):
            known = {value: code for code, value in enumerate(self.attributes[name])}
            move = np.array([known.get(v, -1) for v in features.values.get(name, [])] + [-1])
            codes = features.codes.get(name)
            if codes is not None:
                table[row, : len(codes)] = move[codes]
        content = {}
        for key, weights in self.params.items():
            if key.startswith("content."):
                name = key[len("content.") :]
                given = features.vectors.get(name, np.zeros((0, weights.shape[0]), np.float32))
                full = np.zeros((n_items, weights.shape[0]), dtype=np.float32)
                full[: len(given)] = given[:n_items]
                content[name] = torch.from_numpy(full).to(device)
        return ItemTable(torch.from_numpy(table).to(device), content)

    def _grow(self, n_items: int, features: ItemFeatures) -> None:
        torch = torch_()
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
        progress: Progress,
        *,
        held: tuple[Sequence[History], Truth] | None = None,
        since: int | None = None,
    ) -> None:
        torch = torch_()
        config = self.config
        self.params = {name: tensor.to(config.device) for name, tensor in self.params.items()}
        table = self._table(features, data.n_items)
        moments = self._moments(data)
        pieces = chunks(moments, config.length)
        full = data.n_items < config.full_softmax_below
        candidates = Candidates.of(
            data.items, moments.targets, data.n_items, full=full, popularity=config.popularity
        )
        keep, kept_out = self._kept(moments, since, held is not None)
        newest = pieces[:, 0] + pieces[:, 1] - 1
        every = pieces
        if since is not None:
            pieces = pieces[moments.minutes[newest] > since / MINUTE]
        checks = pieces[kept_out[pieces[:, 0] + pieces[:, 1] - 1]]
        teacher = _copied(self.params) if since is not None else None
        touched = self._touched(moments, since, data.n_items)

        def batches(number: int) -> list[I64]:
            rng = np.random.default_rng([config.seed, number])
            return by_length(pieces, config.tokens, rng)

        def loss(which: I64, rng: np.random.Generator) -> Tensor | None:
            batch = batch_of(moments, pieces[which], keep=keep, rng=rng)
            if not len(batch.pair_item):
                return None
            if config.hide:
                batch = hiding(batch, config.hide, rng)
            if config.beyond:
                batch = beyond(batch, config.beyond)
            params = self.params
            if touched is not None:  # rows that nothing new touches stay as they are
                rows = torch.where(touched, params["items"], params["items"].detach())
                params = {**params, "items": rows}
            asked = ask(params, config, table, batch, candidates, rng, dropout=dropout)
            found = loss_of(params, config, asked, batch, candidates)
            if teacher is None:
                return found
            again = batch_of(moments, every[rng.integers(0, len(every), len(which))], rng=rng)
            if not len(again.pair_item):
                return found

            def asked_again(of: Params) -> Asked:
                drawn = np.random.default_rng(int(which[0]))  # both are asked the same items
                return ask(of, config, table, again, candidates, drawn, dropout=0.0)

            old = asked_again(params)
            with torch.no_grad():
                known = asked_again(teacher)
            logits = old.logits.float()
            shares = logits.log_softmax(dim=1)
            partition = logits[:, 0] - shares[:, 0] if full else None
            kept = loss_of(params, config, old, again, candidates, partition=partition)
            return found + kept + config.distil * divergence(known.logits, shares)

        def settle() -> None:
            with torch.no_grad():
                every = torch.arange(data.n_items, device=config.device)
                self.vectors = item_vectors(self.params, table, every).cpu().numpy()

        def value() -> float:
            if held is not None:
                settle()
                return self._missed(held)
            return self._check(moments, checks, kept_out, table, candidates)

        weights = moments.targets * ages(data.times, config.half_life_days)
        self.bias = Candidates.of(
            data.items, weights, data.n_items, full=True, popularity=config.popularity
        ).bias
        passes = config.update_passes if since is not None else self._passes(len(data.items))
        dropout = dropout_of(passes) if config.dropout is None else config.dropout
        loop = LoopConfig(
            passes,
            config.rate if since is None else config.rate / 10,
            config.weight_decay if since is None else 0.0,
            config.patience,
            config.accumulate,
            config.bfloat16,
            config.threads,
            config.seed if since is None else config.seed + 1,
        )
        judged = since is None and (held is not None or len(checks) > 0)
        work = Work(batches, loss, value if judged else None)
        self.params, self.curve = train(
            self.params,
            work,
            loop,
            what="training the sequence model",
            progress=progress,
            checkpoint=self.checkpoints,
            fingerprint=self._fingerprint(data, since),
        )
        settle()
        self.params = {name: tensor.cpu() for name, tensor in self.params.items()}
        self.trained_to = int(data.times.max(initial=self.trained_to))

    def _passes(self, rows: int) -> int:
        if self.config.passes is not None:
            return self.config.passes
        return int(np.clip(SEEN // max(rows, 1), LEAST_PASSES, MOST_PASSES))

    def _kept(self, moments: Moments, since: int | None, given: bool) -> tuple[Bool, Bool]:
        """(moments that are learned, moments that are held out to judge by)."""
        keep = np.ones(len(moments.owner), dtype=bool)
        held = np.zeros(len(keep), dtype=bool)
        if since is not None:
            keep = moments.minutes > since / MINUTE
        elif self.config.holdout and not given:
            last = np.flatnonzero(np.diff(moments.owner, append=-1))
            rng = np.random.default_rng(self.config.seed)
            held[rng.permutation(last)[: int(len(last) * self.config.holdout)]] = True
            keep &= ~held
        return keep, held

    def _missed(self, held: tuple[Sequence[History], Truth]) -> float:
        """1 − NDCG@10 on what came next; what was had is not ranked where nothing had came next."""
        histories, truth = held
        total = 0.0
        chosen = np.arange(len(histories))
        if len(chosen) > CHECKED:
            chosen = np.random.default_rng(self.config.seed).permutation(chosen)[:CHECKED]
        had = any(np.isin(truth.items[row], histories[row].items).any() for row in chosen.tolist())
        for start in range(0, len(chosen), 256):
            part = chosen[start : start + 256].tolist()
            scores = self._embed([histories[row] for row in part]) @ self.vectors.T + self.bias
            for line, row in zip(scores, part, strict=True):
                if not had:
                    line[histories[row].items] = -np.inf
                own = line[truth.items[row]]
                ranks = (line[None, :] > own[:, None]).sum(axis=1)
                best = 1 / np.log2(np.arange(min(len(own), 10)) + 2)
                total += float((1 / np.log2(ranks[ranks < 10] + 2)).sum() / best.sum())
        return 1 - total / max(len(chosen), 1)

    def _check(
        self,
        moments: Moments,
        checks: I64,
        held: Bool,
        table: ItemTable,
        candidates: Candidates,
    ) -> float:
        """The loss on the moments that are held out."""
        total, weight = 0.0, 0.0
        for start in range(0, len(checks), 64):
            batch = batch_of(moments, checks[start : start + 64], keep=held)
            if not len(batch.pair_item):
                continue
            rng = np.random.default_rng(self.config.seed)  # the same negatives each time
            asked = ask(self.params, self.config, table, batch, candidates, rng, dropout=0.0)
            share = float(batch.pair_weight.sum())
            total += share * float(loss_of(self.params, self.config, asked, batch, candidates))
            weight += share
        return total / weight if weight else math.inf

    def _touched(self, moments: Moments, since: int | None, n_items: int) -> Tensor | None:
        """(N, 1): which items have events after `since`."""
        if since is None:
            return None
        torch = torch_()
        rows = np.zeros(n_items, dtype=bool)
        late = np.repeat(moments.minutes > since / MINUTE, np.diff(moments.first))
        rows[moments.items[late]] = True
        out: Tensor = torch.from_numpy(rows)[:, None].to(self.config.device)
        return out

    def _fingerprint(self, data: Interactions, since: int | None) -> str:
        """Whether a checkpoint is of the same training."""
        content = hashlib.sha256(repr((asdict(self.config), since, data.n_items)).encode())
        for array in (data.offsets, data.items, data.times, data.weights):
            content.update(np.ascontiguousarray(array).tobytes())
        return content.hexdigest()


def dropout_of(passes: int) -> float:
    """The dropout of a training of so many passes: what is seen often is learned by heart.

    >>> [round(dropout_of(passes), 3) for passes in (1, 3, 8, 20, 60)]
    [0.2, 0.2, 0.288, 0.5, 0.5]
    """
    share = (passes - LEAST_PASSES) / (MOST_PASSES - LEAST_PASSES)
    return LEAST_DROPOUT + (MOST_DROPOUT - LEAST_DROPOUT) * min(max(share, 0.0), 1.0)


def _told(progress: Progress, number: int, of: int) -> Progress:
    """`progress` that says which member it is of, where there are several."""
    if of == 1:
        return progress
    return lambda stage, done, total: progress(f"{stage}, {number} of {of}", done, total)


def _copied(params: Params) -> Params:
    return {name: tensor.detach().clone() for name, tensor in params.items()}


def _softmax(logits: F32) -> F32:
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    out: F32 = shares / shares.sum(axis=1, keepdims=True)
    return out
