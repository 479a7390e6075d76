"""Items that came after a fit are scored at once, without a refit.

The families that know items by what they are (content, and the sequence model's attribute rows
and content projections) score a new item as they do others, and take it in as part of a history.
Every other family gives it the least it gives any item, and passes over it in histories.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from limner.events.batch import I64
from limner.model.blend import Blend
from limner.model.content import Content
from limner.model.protocol import F32, History, Interactions, ItemFeatures, Model, Progress
from limner.model.sequence import SequenceModel


def entered(blend: Blend, known: int, features: ItemFeatures) -> Blend:
    """A blend that was fitted on `known` items, with those that `features` has a row for after.

    `blend` itself is left as it is, and shares what it learned.
    """
    models: dict[str, Model] = {}
    for name, model in blend.models.items():
        if isinstance(model, Content):
            models[name] = model.entered(features)
        elif isinstance(model, SequenceModel):
            models[name] = _sequence(model, features)
        else:
            models[name] = Least(model, known, known + len(features.available))
    return Blend(models, blend.weights)


@dataclass(frozen=True, slots=True)
class Least:
    """A family that knows the first `known` of `n_items` items."""

    model: Model
    known: int
    n_items: int

    @property
    def name(self) -> str:
        """The family's."""
        return self.model.name

    def score(self, histories: Sequence[History], items: I64 | None = None) -> F32:
        """Scores (n, n_items) or (n, len(items))."""
        known = [self._known(history) for history in histories]
        if items is not None and len(items) and items.max() < self.known:
            return self.model.score(known, items)
        given = self.model.score(known)
        least = given.min(axis=1, keepdims=True) if self.known else np.zeros((len(given), 1))
        fresh = np.broadcast_to(least, (len(given), self.n_items - self.known))
        out: F32 = np.concatenate([given, fresh], axis=1, dtype=np.float32)
        return out if items is None else out[:, items]

    def embed(self, histories: Sequence[History]) -> F32:
        """The family's vectors."""
        return self.model.embed([self._known(history) for history in histories])

    def fit(self, data: Interactions, features: ItemFeatures, *, progress: Progress) -> None:
        """Fit the family."""
        self.model.fit(data, features, progress=progress)

    def update(self, data: Interactions, features: ItemFeatures, *, progress: Progress) -> None:
        """Update the family."""
        self.model.update(data, features, progress=progress)

    def save(self, folder: Path) -> None:
        """Save the family."""
        self.model.save(folder)

    def load(self, folder: Path) -> None:
        """Load the family."""
        self.model.load(folder)

    def _known(self, history: History) -> History:
        new = np.flatnonzero(history.items >= self.known)
        return history.without(new) if len(new) else history


def _sequence(model: SequenceModel, features: ItemFeatures) -> SequenceModel:
    """Vectors from attribute rows and content projections; as unpopular as the least popular."""
    fresh = np.zeros((len(features.available), model.vectors.shape[1]), dtype=np.float32)
    for name, values in model.attributes.items():
        rows, codes = model.params.get(f"attribute.{name}"), features.codes.get(name)
        if rows is None or codes is None:
            continue
        places = {value: code for code, value in enumerate(values)}
        move = np.array([places.get(v, -1) for v in features.values.get(name, [])] + [-1])
        found = move[codes]
        fresh[found >= 0] += rows.detach().numpy()[found[found >= 0]]
    for name, vectors in features.vectors.items():
        projection = model.params.get(f"content.{name}")
        if projection is not None:
            fresh += vectors @ projection.detach().numpy()
    out = copy.copy(model)
    least = model.bias.min() if len(model.bias) else 0.0
    out.vectors = np.concatenate([model.vectors, fresh])
    out.bias = np.concatenate([model.bias, np.full(len(fresh), least, dtype=np.float32)])
    out.others = [_sequence(other, features) for other in model.others]
    out._joined = None
    out.lasting, out.edition = len(model.vectors), object()
    return out
