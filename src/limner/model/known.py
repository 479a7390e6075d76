"""How much is known of a user when a list is asked for, in a few named amounts.

Weights that are learned from long histories trust what a short one cannot tell: who repeats what,
of one event. So each amount has weights of its own (`Blend.weights`), learned from histories of
which all but so much is forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from limner.events.batch import I32, SECOND
from limner.metrics.splits import Truth
from limner.model.protocol import History, Interactions

LENGTH = 1800 * SECOND
"""How long a visit is taken to last at most."""
VISIT = "a visit"
AMOUNTS: dict[str, int] = {"nothing": 0, "1 event": 1, "2 events": 2, "3 to 5 events": 5}
"""Up to how many events each amount is, beside a visit."""


def amount(history: History) -> str | None:
    """How much is known, None for more than all amounts.

    A visit is whatever began within the last half hour: a session, or a user's first.
    """
    if len(history) and history.now - int(history.times.min()) <= LENGTH:
        return VISIT
    return next((name for name, most in AMOUNTS.items() if len(history) <= most), None)


def forgotten(history: History, name: str, rng: np.random.Generator) -> History:
    """A history of which only the newest events are left, as many as an amount may have."""
    sizes = [0, *AMOUNTS.values()]
    place = list(AMOUNTS).index(name)
    least = sizes[place] + 1 if AMOUNTS[name] else 0
    kept = int(rng.integers(least, AMOUNTS[name] + 1))
    return history.without(np.arange(max(len(history) - kept, 0)))


def visits(
    interactions: Interactions, cutoff: int, rng: np.random.Generator
) -> tuple[Truth, Sequence[History]]:
    """Of each user's first visit from `cutoff` on: half of it as the history, half to come.

    A visit is a basket or session, as far as half an hour goes; where no events have one, nothing
    says where a visit ends, and there is none: who rates a hundred films in a row does not say by
    half of them what the other half is. Which half is drawn; nothing else is known of the user.
    """
    users: list[int] = []
    answers: list[I32] = []
    histories: list[History] = []
    for user in range(interactions.n_users):
        start, stop = interactions.offsets[user : user + 2].tolist()
        rows = np.arange(start, stop)
        rows = rows[(interactions.times[start:stop] >= cutoff) & (interactions.weights[rows] > 0)]
        if not len(rows):
            continue
        group, times = int(interactions.groups[rows[0]]), interactions.times
        if group < 0:
            continue
        same = times[rows] - times[rows[0]] <= LENGTH
        rows = rows[same & (interactions.groups[rows] == group)]
        drawn = np.sort(rng.permutation(rows)[: len(rows) // 2])
        rest = np.setdiff1d(interactions.items[rows], interactions.items[drawn]).astype(np.int32)
        if not len(drawn) or not len(rest):
            continue
        whole = interactions.history(user, int(times[rows[-1]]) + 1)
        known = whole.without(np.setdiff1d(np.arange(len(whole)), drawn - start))
        users.append(user)
        answers.append(rest)
        histories.append(replace(known, now=int(known.times[-1]) + SECOND))
    return Truth(np.array(users, dtype=np.int64), answers), histories
