"""Training sequences for the sequence model: moments, pieces of histories, batches by length."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from limner.events.batch import F64, I32, I64, SECOND, Bool
from limner.model.moments import in_order, owners_of, ranges, starts
from limner.model.popularity import first_times
from limner.model.protocol import F32, Interactions

MINUTE = 60.0 * SECOND

HORIZON = 3
"""Moments ahead that count as targets where not only the next does."""


@dataclass(frozen=True, slots=True)
class Moments:
    """The moments of many users: moment m is rows `first[m]:first[m + 1]` of the events."""

    first: I64  # (M + 1,)
    owner: I64  # (M,)
    minutes: F64  # (M,)
    items: I32  # (rows,)
    weights: F32  # (rows,)
    targets: F32  # (rows,), what the row counts as a target
    kinds: I64  # (rows,)
    values: I64  # (rows,), buckets

    @classmethod
    def of(
        cls,
        data: Interactions,
        repeat_weight: float,
        *,
        kinds: I64 | None = None,
        values: I64 | None = None,
    ) -> Moments:
        """All moments of `data`; `kinds` and `values` of its rows, 0 where they are not told."""
        owners = owners_of(data.offsets)
        order = in_order(data.times, data.groups)
        opens = np.flatnonzero(starts(owners, order, data.groups))
        targets = np.full(len(data.items), repeat_weight, dtype=np.float32)
        targets[first_times(data)] = 1.0
        none = np.zeros(len(data.items), dtype=np.int64)
        return cls(
            np.append(opens, len(data.items)),
            owners[opens],
            data.times[opens] / MINUTE,
            data.items,
            data.weights.astype(np.float32),
            targets * np.maximum(data.weights, 0.0).astype(np.float32),
            none if kinds is None else kinds,
            none if values is None else values,
        )


def chunks(moments: Moments, length: int) -> I64:
    """(first moment, number of moments) of training sequences, (C, 2): at most `length` + 1 each.

    A long history is cut into pieces from its newest moment backwards, so that the newest, which
    matter most, have the longest context. Each moment but a user's first is a target once.
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


def by_length(pieces: I64, tokens: int, rng: np.random.Generator) -> list[I64]:
    """Batches of pieces of about one length, each of at most `tokens` moments with its padding (or
    of one piece), in random order; which pieces share a batch is a little random too.
    """
    lengths = pieces[:, 1] - 1
    order = np.argsort(lengths * rng.uniform(0.9, 1.1, len(lengths)), kind="stable")
    out: list[I64] = []
    start, widest = 0, 0
    for place, length in enumerate(lengths[order].tolist()):
        widest = max(widest, length)
        if place > start and widest * (place + 1 - start) > tokens:
            out.append(order[start:place])
            start, widest = place, length
    if start < len(order):
        out.append(order[start:])
    return [out[place] for place in rng.permutation(len(out))]


@dataclass(frozen=True, slots=True)
class Batch:
    """A padded batch of sequences, and the pairs of a token with each item of its next moment."""

    minutes: F64  # (B, L)
    valid: Bool  # (B, L)
    ahead: F64  # (B, L) minutes until the model is asked, at most until the next moment
    bag_items: I64  # items of all moments, end to end
    bag_weights: F32
    bag_kind: I64
    bag_value: I64
    bag_token: I64  # flat index b · L + l of the moment an item is in
    pair_token: I64  # (P,) flat index of the predicting token
    pair_item: I64  # (P,)
    pair_weight: F32  # (P,)
    pair_kind: I64  # (P,)
    pair_value: I64  # (P,)
    nearest: int  # so many of the pairs, the first ones, are of the next moment


def batch_of(
    moments: Moments,
    pieces: I64,
    *,
    keep: Bool | None = None,
    rng: np.random.Generator | None = None,
) -> Batch:
    """A batch from `pieces` (B, 2) as `chunks` gives them; the last moment is target only.

    `keep` says which moments count as targets. With `rng` each state is asked at some time
    between its moment and the next, else at the next.
    """
    lengths = pieces[:, 1] - 1
    wide = int(lengths.max())
    b = len(pieces)
    index = pieces[:, :1] + np.arange(wide)[None, :]
    valid = np.arange(wide)[None, :] < lengths[:, None]
    index = np.where(valid, index, 0)
    flat = np.flatnonzero(valid.ravel())
    shown = index.ravel()[flat]
    rows = ranges(moments.first[shown], moments.first[shown + 1])
    sizes = moments.first[shown + 1] - moments.first[shown]
    following = shown + 1
    asked = np.ones(len(following), dtype=bool) if keep is None else keep[following]
    next_rows = ranges(moments.first[following[asked]], moments.first[following[asked] + 1])
    next_sizes = moments.first[following[asked] + 1] - moments.first[following[asked]]
    weight = moments.targets[next_rows]
    token = np.repeat(flat[asked], next_sizes)
    counted = weight > 0
    ahead = np.zeros(b * wide)
    ahead[flat] = moments.minutes[following] - moments.minutes[shown]
    if rng is not None:  # half of them at the next moment, as when a user is here; half before it
        ahead *= np.minimum(rng.uniform(0.0, 2.0, ahead.shape), 1.0)
    target = next_rows[counted]
    return Batch(
        np.where(valid, moments.minutes[index], 0.0).reshape(b, wide),
        valid,
        ahead.reshape(b, wide),
        moments.items[rows].astype(np.int64),
        moments.weights[rows] / np.sqrt(np.repeat(sizes, sizes)).astype(np.float32),
        moments.kinds[rows],
        moments.values[rows],
        np.repeat(flat, sizes),
        token[counted],
        moments.items[target].astype(np.int64),
        weight[counted],
        moments.kinds[target],
        moments.values[target],
        len(target),
    )


def hiding(batch: Batch, share: float, rng: np.random.Generator) -> Batch:
    """The batch with about this share of its events, drawn anew each time, not to be seen.

    They stay targets. A history with gaps is as likely a one: nothing is to rest on one event.
    """
    seen = rng.random(len(batch.bag_items)) >= share
    return replace(batch, bag_weights=batch.bag_weights * seen.astype(np.float32))


def beyond(batch: Batch, fade: float) -> Batch:
    """The batch with pairs of each moment and those after its next, up to `HORIZON` ahead.

    Each counts `fade` times what it would one moment nearer. Where the order of a few events is
    chance (bought on one day, told later), what comes soon tells as much as what comes next.
    """
    wide = batch.minutes.shape[1]
    place = batch.pair_token % wide
    every = [np.arange(len(place))]
    every += [np.flatnonzero(place >= back) for back in range(1, HORIZON)]
    back = np.repeat(np.arange(HORIZON), [len(rows) for rows in every])
    rows = np.concatenate(every)
    return replace(
        batch,
        pair_token=batch.pair_token[rows] - back,
        pair_item=batch.pair_item[rows],
        pair_weight=batch.pair_weight[rows] * (fade**back).astype(np.float32),
        pair_kind=batch.pair_kind[rows],
        pair_value=batch.pair_value[rows],
    )
