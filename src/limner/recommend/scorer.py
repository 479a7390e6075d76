"""Scores for a live user: a trained blend in the catalog's item ids.

A model knows items by the ids they had when it was fitted; the catalog may have grown since, or
have been rebuilt in another order. The scorer translates, so neither has to know, and has new
items enter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from limner.catalog.catalog import Catalog
from limner.catalog.known import Content
from limner.events.batch import F64, I32, I64
from limner.model.blend import Blend, Task
from limner.model.entering import entered
from limner.model.interactions import features
from limner.model.protocol import History
from limner.profile.facets import HISTORY
from limner.profile.facets.history import worths
from limner.profile.merge import Values
from limner.profile.state import ProfileState


@runtime_checkable
class Attributable(Protocol):
    """A family that says which events its score of an item comes from."""

    def attribute(self, history: History, items: I64) -> F64:
        """What each event of the history adds to each item's score, (k, n): exactly, of a family
        whose scores are sums; of the sequence model to the first order.
        """
        ...


@runtime_checkable
class Keeping(Protocol):
    """A family that keeps what it found of live users, to go on from there."""

    def keep(self, most: int) -> None:
        """Keep it from now on, up to `most` bytes; nothing with 0."""
        ...

    def let_go(self) -> None:
        """Let go of all that is kept."""
        ...


def history_of(state: ProfileState, row: int, now: int) -> History:
    """A user's newest interactions from the live state, oldest first; empty for row −1."""
    if row < 0:
        none = np.empty(0, dtype=np.int64)
        return History(none.astype(np.int32), none, none.astype(np.float64), none, none, now)
    return history_from(state.pools[HISTORY].entries(row), now, row)


def history_from(entries: tuple[npt.NDArray[Any], Values], now: int, row: int = -1) -> History:
    """The same from what the facet's map has of the user, values to a power of two."""
    items, values = entries
    return History(
        items.astype(np.int32),
        values["t"].astype(np.int64),
        values["w"].astype(np.float64),
        np.where(values["group"] == 0, -1, values["group"]).astype(np.int64),  # 0: of none
        values["p"].astype(np.int64),
        now,
        worths(values["octave"]),
        row,
    )


@dataclass(frozen=True, slots=True)
class _Reach:
    """A blend, and which of its items is which of the catalog's.

    `entered`: the catalog's items that came after the fit, and the `versions` they had.
    """

    blend: Blend
    to_model: I32
    to_catalog: I64
    entered: I64
    versions: I32
    alike: bool
    """Whether each item has the same id in both."""


class Scorer:
    """A trained blend, under catalog ids.

    Items that came after the fit enter as they come (`model.entering`). To be asked with the
    catalog at rest, as under the writer's lock. `content`: what is known of what they say;
    `memory`: bytes of what families may keep of live users, to be let go of (`let_go`) when events
    or users are removed.
    """

    def __init__(
        self,
        blend: Blend,
        item_ids: Sequence[str],
        catalog: Catalog,
        version: str,
        content: Content | None = None,
        *,
        memory: int = 0,
    ) -> None:
        self.version = version
        self._memory = memory
        self._content = content
        self.catalog = catalog
        self._item_ids = item_ids
        self._blend = blend
        self._known = len(item_ids)
        to_catalog: I64 = catalog.ids.encode(item_ids).astype(np.int64)
        catalog.intern(np.empty(0, np.int32), [])
        to_model = np.full(len(catalog), -1, dtype=np.int32)
        to_model[to_catalog] = np.arange(self._known, dtype=np.int32)
        self._fitted = to_model, to_catalog
        self._now: _Reach | None = None
        keeping = [model for model in blend.models.values() if isinstance(model, Keeping)]
        for model in keeping:
            model.keep(memory // len(keeping))

    def let_go(self) -> None:
        """Let go of all that is kept of users."""
        for model in self._blend.models.values():
            if isinstance(model, Keeping):
                model.let_go()

    def over(self, catalog: Catalog) -> Scorer:
        """The same model, under the ids of another catalog."""
        return Scorer(
            self._blend,
            self._item_ids,
            catalog,
            self.version,
            self._content,
            memory=self._memory,
        )

    def use(self, content: Content | None) -> None:
        """Know this of what items say from now on."""
        self._content, self._now = content, None

    def _reach(self) -> _Reach:
        catalog, reach = self.catalog, self._now
        if (
            reach is not None
            and len(reach.to_model) == len(catalog)
            and np.array_equal(catalog.current.view[reach.entered], reach.versions)
        ):
            return reach
        to_model, to_catalog = self._fitted
        grown = np.full(len(catalog), -1, dtype=np.int32)
        grown[: len(to_model)] = to_model
        fresh = np.flatnonzero(grown < 0)
        blend = self._blend
        if len(fresh):
            blend = entered(blend, self._known, features(catalog, fresh, self._content))
            grown[fresh] = np.arange(self._known, self._known + len(fresh), dtype=np.int32)
            to_catalog = np.concatenate([to_catalog, fresh])
        alike = len(to_catalog) == len(grown) and bool((np.diff(to_catalog) == 1).all())
        reach = _Reach(blend, grown, to_catalog, fresh, catalog.current.view[fresh].copy(), alike)
        self._now = reach
        return reach

    @property
    def families(self) -> tuple[str, ...]:
        """The names of its parts, those too that the blend gives no weight."""
        return tuple(self._blend.models)

    def weight(self, family: str, task: Task, history: History | None = None) -> float:
        """What the blend learned that a family counts, or counts for who has this history."""
        blend = self._blend
        weights = blend.weights[task] if history is None else blend.weights_for(history, task)
        return float(weights.get(family, 0.0))

    def parts(self, history: History, task: Task, like: History | None = None) -> dict[str, F64]:
        """Each part's contribution to the score of every item of the catalog.

        `like`: the history by which it is weighed, if not its own.
        """
        [found] = self.parts_together([history], task, like)
        return found

    def parts_together(
        self, histories: Sequence[History], task: Task, like: History | None = None
    ) -> list[dict[str, F64]]:
        """The same for several, which models read together."""
        reach = self._reach()
        known = [_translated(history, reach.to_model)[0] for history in histories]
        given = reach.blend.parts(known, task, like=like)
        out = []
        for row, history in enumerate(known):
            weights = reach.blend.weights_for(history if like is None else like, task)
            own = [name for name in given if weights.get(name)] or list(given)
            out.append({name: self._spread(reach, given[name][row]) for name in own})
        return out

    def alone(self, family: str, history: History) -> F64:
        """What one family by itself gives every item of the catalog, without a weight."""
        reach = self._reach()
        known = _translated(history, reach.to_model)[0]
        return self._spread(reach, reach.blend.models[family].score([known])[0])

    def _spread(self, reach: _Reach, scores: npt.NDArray[Any]) -> F64:
        """Scores of the blend's items as those of the catalog's."""
        row = np.asarray(scores, dtype=np.float64)
        if reach.alike:
            return row
        column = np.empty(len(self.catalog))
        column[reach.to_catalog] = row
        if len(row) < len(column):  # what no model can know is as little as anything
            column[reach.to_model < 0] = row.min(initial=0.0)
        return column

    def parts_of(self, histories: Sequence[History], items: I64, task: Task) -> dict[str, F64]:
        """Each part's contribution to some items under several histories, (n, k).

        All are weighed as the first: the others are what it would be without some events.
        """
        reach = self._reach()
        given = reach.blend.parts(
            [_translated(history, reach.to_model)[0] for history in histories],
            task,
            reach.to_model[items],
            like=histories[0],
        )
        return {name: np.asarray(v, dtype=np.float64) for name, v in given.items()}

    def attribute(self, history: History, items: I64, task: Task, only: Sequence[str] = ()) -> F64:
        """What each event of `history` adds to items' scores by the parts that can say, (k, n).

        With `only`, of these: one counts 1, several as in the blend, or 1 without a weight.
        """
        out = np.zeros((len(items), len(history)))
        to_model = self._fitted[0]
        places = np.full(len(items), -1, dtype=np.int64)
        places[items < len(to_model)] = to_model[items[items < len(to_model)]]
        asked = np.flatnonzero(places >= 0)
        if len(asked):
            known, kept = _translated(history, to_model)
            for name, model in self._blend.models.items():
                weight = self.weight(name, task, history)
                if only:
                    weight = ((len(only) > 1 and weight) or 1.0) * (name in only)
                if weight and isinstance(model, Attributable):
                    out[np.ix_(asked, kept)] += weight * model.attribute(known, places[asked])
        return out

    def enter(self) -> None:
        """Have the items enter that came meanwhile."""
        self._reach()

    def vector(self, history: History) -> list[float]:
        """The user vector U, empty if no part has one; of items that have entered (`enter`)."""
        [found] = self.vectors([history])
        return found

    def vectors(self, histories: Sequence[History]) -> list[list[float]]:
        """Those of several users, read together."""
        reach = self._now or self._reach()
        known = [_translated(history, reach.to_model)[0] for history in histories]
        found: list[list[float]] = reach.blend.embed(known).astype(np.float64).tolist()
        return found


def _translated(history: History, to_model: I32) -> tuple[History, I64]:
    """(the history in the model's ids, which of its entries are left)."""
    items = np.full(len(history), -1, dtype=np.int32)
    old = history.items < len(to_model)
    items[old] = to_model[history.items[old]]
    kept = np.flatnonzero(items >= 0)
    values = None if history.values is None else history.values[kept]
    return (
        History(
            items[kept],
            history.times[kept],
            history.weights[kept],
            history.groups[kept],
            history.positions[kept],
            history.now,
            values,
            history.row,
        ),
        kept,
    )
