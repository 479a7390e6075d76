"""Whether the reasons of the sequence model are the reasons: necessity, sufficiency, agreement.

    python benchmarks/reasons.py DATA [--asked 500] [--passes 4] [--newest 3] [--greedily]

The model learns what came before a cutoff. Each user then is served a list of ten that they did
not have, and one item of it is explained: gradient × input shortlists three events, to which
`--newest N` adds the N newest; of these three are named that deletion says cost most, each by
itself, or `--greedily` one after another. Necessity: without the named events the item leaves the
list. Sufficiency: with nothing but them it stays. Beside it, with as many events each: greedy
deletion over the whole history (the oracle), and random events of the same user.
Agreement: of gradient × input and of Captum's integrated gradients with full deletion.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.stats

from limner.app import quiet
from limner.events.batch import F64, I64
from limner.explain.reasons import NAMED
from limner.metrics.intervals import bootstrap_interval, paired_bootstrap
from limner.model.network import SequenceConfig
from limner.model.protocol import History, ItemFeatures
from limner.model.sequence import SequenceModel
from limner.model.training import cutoff_of
from limner.sources.dataset import load

LIST = 10
AGREED = 100
"""Recommendations that the three ways of attribution are compared on."""
STEPS = 32
"""Steps of integrated gradients."""


def falls(model: SequenceModel, history: History, item: int, among: Sequence[int]) -> F64:
    """By how much the score of the item falls without each event of `among`."""
    asked = np.array([item])
    histories = [history, *(history.without([row]) for row in among)]
    scores = model.score(histories, asked)[:, 0].astype(np.float64)
    return np.asarray(scores[0] - scores[1:])


def greedy(
    model: SequenceModel, history: History, item: int, n: int, among: I64 | None = None
) -> I64:
    """The events that greedy deletion takes: each time the one whose deletion costs most."""
    every = range(len(history)) if among is None else among.tolist()
    gone: list[int] = []
    while len(gone) < n:
        left = [row for row in every if row not in gone]
        places = [row - sum(other < row for other in gone) for row in left]
        dropped = falls(model, history.without(gone), item, places)
        gone.append(left[int(dropped.argmax())])
    return np.array(gone)


def listed(model: SequenceModel, histories: Sequence[History], had: I64) -> I64:
    """The first `LIST` items for each history, of those that were not had, (n, LIST)."""
    scores = np.array(model.score(histories))
    scores[:, had] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :LIST]


def copies(read: Any, k: int) -> Any:
    """What the network is given of one history, `k` times over."""
    import torch

    wide = read.valid.shape[1]
    return replace(
        read,
        events=read.events.repeat(k, 1),
        places=(read.places[None] + wide * torch.arange(k)[:, None]).reshape(-1),
        minutes=read.minutes.expand(k, wide),
        valid=read.valid.expand(k, wide),
        ahead=read.ahead.expand(k),
    )


def integrated(model: SequenceModel, history: History, item: int) -> F64:
    """Captum's integrated gradients of the item's score, from events of nothing, (n,)."""
    import torch
    from captum.attr import IntegratedGradients  # type: ignore[import-untyped]

    read = model._read([history])
    n, width = read.events.shape
    vectors, bias = torch.from_numpy(model.vectors), torch.from_numpy(model.bias)

    def score(events: Any) -> Any:
        k = len(events)
        logits = model._after(copies(read, k), events.reshape(k * n, width)) @ vectors.T + bias
        return logits[:, item] - logits.logsumexp(dim=1)

    found = IntegratedGradients(score).attribute(
        read.events.detach()[None], n_steps=STEPS, internal_batch_size=STEPS
    )
    out = np.zeros(len(history))
    out[len(history) - n :] = found[0].sum(dim=1).detach().numpy()
    return out


def agreement(ours: F64, truth: F64) -> tuple[float, float]:
    """(rank correlation, share of the first three that are the truth's)."""
    both = set(np.argsort(-ours)[:NAMED].tolist()) & set(np.argsort(-truth)[:NAMED].tolist())
    return float(scipy.stats.spearmanr(ours, truth).statistic), len(both) / NAMED


def measured(
    path: str, asked: int, passes: int, seed: int = 0, newest: int = 0, greedily: bool = False
) -> dict[str, Any]:
    """The figures as JSON values."""
    found = load(path)
    data, features = found.interactions, found.features
    assert isinstance(features, ItemFeatures)
    cutoff = cutoff_of(data)
    config = SequenceConfig(depth=1, passes=passes, seed=seed, dropout=0.2)
    model = SequenceModel(config)
    model.fit(data.before(cutoff), features, progress=quiet)
    rng = np.random.default_rng(seed)
    users = [data.history(user, cutoff) for user in range(data.n_users)]
    histories = [history for history in users if len(history) > 2 * NAMED]
    chosen = [histories[row] for row in rng.permutation(len(histories))[:asked].tolist()]
    held: dict[str, list[float]] = {}
    agreed: dict[str, list[tuple[float, float]]] = {"gradient": [], "integrated": []}
    named = 0
    for number, history in enumerate(chosen):
        print(f"{number} of {len(chosen)}", end="\r", file=sys.stderr)
        had = np.unique(history.items).astype(np.int64)
        item = int(rng.choice(listed(model, [history], had)[0]))
        given = model.attribute(history, np.array([item]))[0]
        short = np.argsort(-given, kind="stable")[:NAMED]
        if newest:
            short = np.union1d(short, np.arange(len(history))[-newest:])
        if greedily:
            shown = greedy(model, history, item, NAMED, short)
        else:
            fall = falls(model, history, item, short.tolist())
            best = np.argsort(-fall, kind="stable")[:NAMED]
            shown = short[best][fall[best] > 0]
        if not len(shown):
            continue
        named += len(shown)
        sets = {
            "reasons": shown,
            "greedy": greedy(model, history, item, len(shown)),
            "random": rng.permutation(len(history))[: len(shown)],
        }
        without = [history.without(rows) for rows in sets.values()]
        only = [
            history.without(np.setdiff1d(np.arange(len(history)), rows)) for rows in sets.values()
        ]
        lists = listed(model, [*without, *only], had)
        for place, name in enumerate(sets):
            held.setdefault(f"necessity {name}", []).append(item not in lists[place])
            held.setdefault(f"sufficiency {name}", []).append(item in lists[place + len(sets)])
        if number < AGREED:
            seen = np.flatnonzero(given)
            truth = falls(model, history, item, seen.tolist())
            agreed["gradient"].append(agreement(given[seen], truth))
            ours = integrated(model, history, item)[seen]
            agreed["integrated"].append(agreement(ours, truth))
    out: dict[str, Any] = {
        "data": path,
        "served": len(chosen),
        "newest": newest,
        "greedily": greedily,
        "explained": len(held["necessity reasons"]),
        "events named": named / len(held["necessity reasons"]),
    }
    for name, values in held.items():
        interval = bootstrap_interval(np.array(values, dtype=float))
        out[name] = [interval.mean, interval.low, interval.high]
    for what in ("necessity", "sufficiency"):
        ours, best = (np.array(held[f"{what} {who}"], float) for who in ("reasons", "greedy"))
        control = np.array(held[f"{what} random"], float)
        gain = paired_bootstrap(ours, control)
        out[f"{what}: of the oracle's"] = float(ours.mean() / best.mean()) if best.any() else None
        out[f"{what}: over random"] = [gain.mean, gain.low, gain.high]
    for name, pairs in agreed.items():
        rank, first = np.nanmean(np.array(pairs), axis=0)
        out[f"agreement with full deletion, {name}"] = {
            "rank correlation": float(rank),
            "of the first three": float(first),
        }
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--asked", type=int, default=500)
    parser.add_argument("--passes", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--newest", type=int, default=0)
    parser.add_argument("--greedily", action="store_true")
    given = parser.parse_args()
    found = measured(
        given.data, given.asked, given.passes, given.seed, given.newest, given.greedily
    )
    json.dump(found, sys.stdout, indent=2)
    print()
