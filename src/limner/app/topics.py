"""Topics: learned from the keywords of all users, kept beside the log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from limner.errors import UsageError
from limner.profile.facets.text import Topics
from limner.profile.topics import LEAST_USERS, TopicModel, learn

if TYPE_CHECKING:
    from limner.app.limner import Limner


def readers(app: Limner) -> Iterator[Topics]:
    """The facets of kind "topics"."""
    return (facet for facet in app.state.facets if isinstance(facet, Topics))


def known(app: Limner) -> dict[str, TopicModel]:
    """The topics in use, by the name of their facet."""
    return {facet.name: facet.learned[-1] for facet in readers(app) if facet.learned}


def learn_topics(app: Limner, n: int, *, seed: int = 0) -> Mapping[str, TopicModel]:
    """`Limner.learn_topics`."""
    if not any(True for _ in readers(app)):
        raise UsageError(
            "no facet shows topics",
            mend='add one of kind "topics", and one of kind "keywords" that it reads',
        )
    for facet in readers(app):
        with app.writer.lock:
            now = app.now()
            users, keys, values = app.state.pools[facet.source.name].every()
            weights = facet.source.weights_of(values, now)[:, 1]
            words = list(app.state.vocabulary(facet.source.path).values)
        model = learn(users, keys, weights, words, topics=n, at=now, seed=seed)
        _use(app, facet, model)
    return known(app)


def load(app: Limner) -> None:
    """Take the topics that were learned before, if any; those in use stay."""
    for facet in readers(app):
        path = _path(app, facet)
        if not facet.learned and path is not None and path.exists():
            facet.learned.append(TopicModel.load(path))


def forget_rare(app: Limner) -> None:
    """Drop words that too few users have since one was erased (law 6)."""
    for facet in readers(app):
        if facet.learned:
            users, keys, _ = app.state.pools[facet.source.name].every()
            words = app.state.vocabulary(facet.source.path).values
            pairs = np.unique(np.stack([keys.astype(np.int64), users]), axis=1)
            shared = np.flatnonzero(np.bincount(pairs[0], minlength=1) >= LEAST_USERS)
            kept = {words[code] for code in shared.tolist()}
            if not kept.issuperset(facet.learned[-1].words):
                _use(app, facet, facet.learned[-1].only(kept))


def _use(app: Limner, facet: Topics, model: TopicModel) -> None:
    path = _path(app, facet)
    if path is not None:
        model.save(path)
    facet.learned[:] = [model]


def _path(app: Limner, facet: Topics) -> Path | None:
    home = app.store.home
    return None if home is None else home / "topics" / f"{facet.name}.npz"
