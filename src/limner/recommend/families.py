"""What a list is scored by: the trained blend, or families by their names.

The families of the model are trained; those of `LIVE` are read from the present state, need no
training, and know of the last event and the newest item. Each can be asked alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Protocol
from weakref import WeakKeyDictionary

import numpy as np

from limner.errors import UsageError
from limner.events.batch import DAY, F64, I64, Bool
from limner.model.blend import FAMILIES, Task
from limner.model.protocol import History
from limner.profile.choices import Choices, choices_of
from limner.profile.facets.affinity import Affinity
from limner.profile.facets.declared import NAMES, RESERVED, Declared
from limner.profile.facets.taste import InterestVector, unit
from limner.profile.merge import NEVER
from limner.profile.population import Population
from limner.profile.standing import everything as standing_of
from limner.profile.state import ProfileState
from limner.profile.users import CHUNK, Users
from limner.recommend.crowd import HALF_LIFE, crowd
from limner.recommend.retrieval import vectors_of
from limner.recommend.scorer import Scorer

NEIGHBOURS = 100
"""The most alike users, whose choices are counted."""
NEW_HALF_LIFE = 14 * DAY
USUAL = 5.0
"""Events' worth of everybody's shares that a user's start from."""
BEGIN = 10.0
"""Events that a group's shares start with."""
LEANING = 0.25
"""What a log ratio of shares counts beside a cosine."""


class Scores(Protocol):
    """What scores the catalog in parts that sum to the score."""

    @property
    def version(self) -> str | None:
        """The model's version, None where nothing trained takes part."""
        ...

    def parts(self, history: History, task: Task) -> dict[str, F64]:
        """Each part's contribution to the score of every item of the catalog."""
        ...

    def parts_of(self, histories: Sequence[History], items: I64, task: Task) -> dict[str, F64]:
        """Each part's contribution to some items under several histories, (n, k)."""
        ...

    def attribute(self, history: History, items: I64, task: Task) -> F64:
        """What each event adds to items' scores by the parts that can say, (k, n)."""
        ...


@dataclass(frozen=True, slots=True)
class Mixture:
    """The families `names` of a state; without names the blend, or what there is without one.

    Of several, one that the blend has learned a weight of counts as much; any other is scaled to
    spread by 1 over the items. One alone is as it is.
    """

    state: ProfileState
    scorer: Scorer | None
    names: tuple[str, ...] = ()
    population: Population | None = None

    def __post_init__(self) -> None:
        known = [*LIVE, *(self.scorer.families if self.scorer is not None else ())]
        for name in self.names:
            if name not in known:
                close = get_close_matches(name, known, 1)
                untrained = name in FAMILIES and self.scorer is None
                raise UsageError(
                    f"family {name!r} is not there",
                    mend="train it first: limner train"
                    if untrained
                    else (f"did you mean {close[0]!r}? " if close else "")
                    + f"there are {', '.join(sorted(known))}",
                )

    @property
    def version(self) -> str | None:
        """The model's, if one of its families takes part."""
        if self.scorer is None or (self.names and set(self.names) <= set(LIVE)):
            return None
        return self.scorer.version

    def parts(self, history: History, task: Task) -> dict[str, F64]:
        """Each part's contribution to the score of every item of the catalog."""
        return self._parts(history, task, history)

    def _parts(self, history: History, task: Task, like: History) -> dict[str, F64]:
        """The same, weighed as for who has the history `like`."""
        if self.names:
            return {name: self._weighed(name, history, task, like) for name in self.names}
        if not len(history) and (group := self._live("group", history)).any():
            return {"group": group}  # it starts from what everybody chooses
        if self.scorer is not None:
            out = self.scorer.parts(history, task, like)
        else:
            out = {"popularity": crowd(self.state, history.now).popular.copy()}
            if len(history):
                out["portrait"] = _spread_by_one(self._live("portrait", history))
        return out

    def together(self, histories: Sequence[History], task: Task) -> list[dict[str, F64] | None]:
        """The `parts` of several, read together as far as models read them; None of the others."""
        out: list[dict[str, F64] | None] = [None] * len(histories)
        rows = [row for row, history in enumerate(histories) if len(history)]
        if self.names or self.scorer is None or not rows:
            return out
        for row, parts in zip(
            rows, self.scorer.parts_together([histories[row] for row in rows], task), strict=True
        ):
            out[row] = parts
        return out

    def parts_of(self, histories: Sequence[History], items: I64, task: Task) -> dict[str, F64]:
        """Each part's contribution to some items under several histories, (n, k).

        All are weighed as the first: the others are what it would be without some events.
        """
        if not self.names and self.scorer is not None and all(map(len, histories)):
            return self.scorer.parts_of(histories, items, task)
        none = np.zeros(len(items))
        found = [
            {
                name: column[items]
                for name, column in self._parts(history, task, histories[0]).items()
            }
            for history in histories
        ]
        names = dict.fromkeys(name for parts in found for name in parts)
        return {name: np.stack([parts.get(name, none) for parts in found]) for name in names}

    def attribute(self, history: History, items: I64, task: Task) -> F64:
        """What each event adds to items' scores, (k, n); events of like items where none says."""
        out = np.zeros((len(items), len(history)))
        if self.scorer is not None:
            said = self.scorer.attribute(history, items, task, self.names)
            if not self.names or said.any():
                return said
        vectors = vectors_of(self.state)
        if len(history) and len(vectors):
            out += np.maximum(vectors[items] @ vectors[history.items].T, 0) * history.weights
        return out

    def _live(self, name: str, history: History) -> F64:
        return LIVE[name](self, history)

    def _weighed(self, name: str, history: History, task: Task, like: History) -> F64:
        live = name in LIVE
        weight = 0.0 if live or self.scorer is None else self.scorer.weight(name, task, like)
        if live:
            found = self._live(name, history)
        else:
            assert self.scorer is not None
            found = self.scorer.alone(name, history)
        if len(self.names) == 1:
            return found
        return found * weight if weight else _spread_by_one(found)


def _spread_by_one(values: F64) -> F64:
    spread = float(values.std()) if len(values) else 0.0
    return values / spread if spread > 1e-12 else values


# -- the live families -------------------------------------------------------------------------


def _popular(of: Mixture, history: History) -> F64:
    return crowd(of.state, history.now).popular.copy()


def _trending(of: Mixture, history: History) -> F64:
    return crowd(of.state, history.now).velocity.copy()


def _new(of: Mixture, history: History) -> F64:
    since = crowd(of.state, history.now).since
    age = np.maximum(history.now - since.astype(np.float64), 0)
    return np.where(since > 0, np.exp2(-age / NEW_HALF_LIFE), 0.0)


def _neighbours(of: Mixture, history: History) -> F64:
    """Σ likeness · what they chose ÷ Σ likeness, over the users whose choices are most alike."""
    all_ = crowd(of.state, history.now)
    out = np.zeros(all_.n_items)
    if not len(history) or not len(all_.rows):
        return out
    age = np.maximum(history.now - history.times.astype(np.float64), 0)
    worth = np.maximum(history.weights, 0) * np.exp2(-age / HALF_LIFE)
    own = np.log1p(np.bincount(history.items, worth, minlength=all_.n_items)) * all_.damping
    length = float(np.linalg.norm(own))
    alike = np.asarray(all_.chosen @ (own / max(length, 1e-12)))
    if 0 <= history.row < len(alike):
        alike[history.row] = 0.0
    k = min(NEIGHBOURS, len(alike))
    near = np.argpartition(-alike, k - 1)[:k]
    near = near[alike[near] > 0]
    if not len(near):
        return out
    found = np.asarray(all_.chosen[near].T @ alike[near]).ravel() / alike[near].sum()
    return np.asarray(found, dtype=np.float64)


def _portrait(of: Mixture, history: History) -> F64:
    """How near items lie to the interest vectors, and to what the user leans to.

    The mean cosine to the long- and the short-term vector, plus `LEANING` × the mean log ratio of
    the user's share of an item's values, in the attributes that affinities are kept of, to
    everybody's.
    """
    state, catalog = of.state, of.state.catalog
    out = np.zeros(len(catalog))
    if not len(history):
        return out
    taste = next((f for f in state.facets if isinstance(f, InterestVector)), None)
    newest = history.times.max()
    choices = choices_of(state, history.row)
    if taste is not None and (counts := _allowed(choices, taste, history)).any():
        vectors = vectors_of(state)
        sums = [
            (weights * counts) @ vectors[history.items].astype(np.float64)
            for weights in taste.weights_of(history.times, newest, history.weights)
        ]
        out += vectors @ unit(np.stack(sums)).sum(axis=0) / len(sums)
    everyone = crowd(state, history.now)
    leanings = [
        (facet, facet.path.removeprefix("item."))
        for facet in state.facets
        if isinstance(facet, Affinity) and facet.path.startswith("item.")
    ]
    for facet, name in leanings:
        counts = _allowed(choices, facet, history)
        if not counts.any():
            continue
        codes = catalog.codes_now(name)
        size = int(codes.max(initial=-1)) + 2  # the last place is for unknown values
        codes[codes < 0] = size - 1
        usual = np.bincount(codes, everyone.of_late, minlength=size) + 0.5
        usual /= usual.sum()
        for half_life in reversed(facet.weight.half_lives):
            worth = np.maximum(history.weights, 0) * np.exp2((history.times - newest) / half_life)
            worth *= counts
            own = np.bincount(codes[history.items], worth, minlength=size)
            ratio = np.log((own + USUAL * usual) / ((own.sum() + USUAL) * usual))
            ratio[-1] = 0.0
            out += ratio[codes] * (LEANING / (2 * len(leanings)))
    return out


def _allowed(choices: Choices, facet: InterestVector | Affinity, history: History) -> Bool:
    """Which events a slot's facet may rest on by the user's choices, (n,)."""
    since = choices.since(f"{facet.config.section}.{facet.name}")
    out: Bool = np.zeros(len(history), bool) if since is None else history.times > since
    return out


def _group(of: Mixture, history: History) -> F64:
    """What users of the same cluster, or who declared the same, choose.

    The mean, over the groups the user is in, of log(1 + 1000 · the item's share of what they
    choose), the share starting from everybody's with `BEGIN` events. 0 for who is in no group.
    """
    everyone = crowd(of.state, history.now)
    overall = everyone.of_late / max(everyone.of_late.sum(), 1e-12)
    groups = groups_of(of.state, history, of.population)
    out = np.zeros(everyone.n_items)
    for members in groups.values():
        mine = members[everyone.rows]
        if 0 <= history.row < len(members):
            mine &= everyone.rows != history.row
        counts = np.bincount(
            everyone.items[mine], everyone.recent[mine], minlength=everyone.n_items
        )
        out += np.log1p(1000 * (counts + BEGIN * overall) / (counts.sum() + BEGIN))
    return out / max(len(groups), 1)


LIVE: Mapping[str, Callable[[Mixture, History], F64]] = {
    "popular": _popular,
    "trending": _trending,
    "new": _new,
    "portrait": _portrait,
    "neighbours": _neighbours,
    "group": _group,
}
"""The families that are read from the live state, by name."""


def groups_of(
    state: ProfileState, history: History, population: Population | None
) -> dict[str, Bool]:
    """The groups that a user is in, by what makes them: which rows are members of each."""
    out: dict[str, Bool] = {}
    if history.row < 0:
        return out
    choices = choices_of(state, history.row)
    declared = next((facet for facet in state.facets if isinstance(facet, Declared)), None)
    if declared is not None:
        pool = state.pools[declared.name]
        keys, values = pool.entries(history.row)
        rows, every, theirs = pool.every()
        names = state.vocabulary(NAMES).values
        said = dict(zip(keys.tolist(), values["t"].tolist(), strict=True))
        for key, value in zip(keys.tolist(), values["value"].tolist(), strict=True):
            since = choices.since(f"{declared.config.section}.{names[key]}")
            if names[key].startswith(RESERVED) or since is None or said[key] <= since:
                continue
            same = np.zeros(state.rows.size, dtype=bool)
            same[rows[(every == key) & (theirs["value"] == value)]] = True
            if same.sum() > 1:
                out[f"declared {names[key]}"] = same
    clustered = choices.since("interests.cluster") == NEVER
    if clustered and population is not None and population.clusters is not None and len(history):
        codes = _cluster_of(state, population, history.now)
        if codes[history.row] >= 0:
            out["cluster"] = codes == codes[history.row]
    return out


_clusters: WeakKeyDictionary[ProfileState, tuple[Population, int, int, I64]] = WeakKeyDictionary()


def _cluster_of(state: ProfileState, population: Population, now: int) -> I64:
    """Each row's cluster, −1 for none; kept until the log has grown by a hundredth."""
    kept = _clusters.get(state)
    if kept is not None:
        of, position, removals, out = kept
        fresh = 0 <= state.position - position <= position // 100
        if of is population and fresh and (removals, len(out)) == (state.removals, state.rows.size):
            return out
    out = np.full(state.rows.size, -1, dtype=np.int64)
    rows, path = state.rows.live, "interests.cluster"
    for start in range(0, len(rows), CHUNK):
        users = Users(state, rows[start : start + CHUNK], population, now)
        offer = standing_of(users, [path])
        if path in offer and (value := offer[path]().value) is not None:
            out[users.rows] = np.where(value.known, value.values, -1)
    _clusters[state] = population, state.position, state.removals, out
    return out
