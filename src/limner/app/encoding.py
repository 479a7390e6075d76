"""Items' content: encoded at training, by a job or on demand, never while an event is taken in."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from limner.catalog.cache import Note, VectorCache
from limner.catalog.content import Reader
from limner.catalog.encoded import Encoded, encode_items
from limner.catalog.encoders import Kind, opened
from limner.catalog.known import Content, learned
from limner.model.protocol import ItemFeatures, Progress
from limner.profile.facets.taste import InterestVector

if TYPE_CHECKING:
    from limner.app.limner import Limner

_log = logging.getLogger(__name__)

FOLDER = "content"


@dataclass(frozen=True, slots=True)
class EncodedKind:
    """What became of one kind of content.

    `items` have a vector; `encoded` different ones were new and took `seconds`. `projection` is
    the version of what brings the vectors into portraits. `error`: why it could not go on.
    """

    kind: Kind
    encoder: str
    width: int
    items: int
    encoded: int
    seconds: float
    projection: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class EncodedItems:
    """What `Limner.encode_items` did; `missing`: kinds whose encoder is not installed, and why."""

    items: int
    kinds: list[EncodedKind]
    missing: dict[Kind, str]
    notes: list[Note]


def encode(app: Limner, progress: Progress) -> EncodedItems:
    """`Limner.encode_items`."""
    encoded = _encoded(app, progress)
    projections = app.content.projections if app.content is not None else {}
    kinds = [
        EncodedKind(
            part.kind,
            part.encoder,
            part.vectors.shape[1],
            part.items,
            part.encoded,
            part.seconds,
            projections[part.encoder].version if part.encoder in projections else "",
            part.error,
        )
        for part in encoded.parts
    ]
    missing = opened(app.config.encoders).missing
    return EncodedItems(len(encoded.keys), kinds, missing, encoded.notes)


def described(app: Limner, attributes: ItemFeatures, progress: Progress) -> ItemFeatures:
    """The attributes with the content vectors of the same items, encoded as far as need be."""
    encoded = _encoded(app, progress)
    if app.content is None or not encoded.parts:
        return attributes
    n = len(attributes.available)
    keys = np.zeros(n, dtype=np.int64)  # what came since says nothing yet
    keys[: len(encoded.keys)] = encoded.keys[:n]
    return replace(attributes, vectors=app.content.of(keys))


def anything_new(app: Limner) -> bool:
    """Whether items were described since they were last encoded in this process."""
    return app.encoded_up_to != app.state.catalog.versions


def notes(app: Limner) -> list[Note]:
    """`Limner.item_notes`."""
    return _cache(app).notes()


def load(app: Limner) -> None:
    """Take what was encoded before, if anything."""
    if app.store.home is not None:
        _use(app, Content.load(app.store.home / FOLDER))


def _encoded(app: Limner, progress: Progress) -> Encoded:
    encoders = opened(app.config.encoders).encoders
    if not encoders:
        return Encoded()
    with app.encoding:
        catalog = app.state.catalog
        versions = catalog.versions
        encoded = encode_items(
            catalog,
            encoders,
            _cache(app),
            Reader(Path(app.config.encoders.folder or "."), app.config.encoders.network),
            lock=app.writer.lock,
            progress=progress,
        )
        for part in encoded.parts:
            if part.error:
                _log.warning("%s could not be encoded: %s", part.kind, part.error)
        content = learned(encoded, app.content)
        if content.tables and app.store.home is not None and app.writable:
            try:
                content.save(app.store.home / FOLDER)
            except OSError as error:
                _log.warning("content vectors are not kept: %s", error)
            else:  # from now on mapped instead of held
                content = Content.load(app.store.home / FOLDER, list(content.tables)) or content
        _use(app, content if content.tables else None)
        app.encoded_up_to = versions
        return encoded


def _use(app: Limner, content: Content | None) -> None:
    with app.writer.lock:
        app.content = content
        apply(app)
        if app._scorer is not None:
            app._scorer.use(content)


def apply(app: Limner) -> None:
    """Have the interest vectors of the state in use rest on it."""
    for facet in app.state.facets:
        if isinstance(facet, InterestVector):
            facet.vectors.use(app.content)


def _cache(app: Limner) -> VectorCache:
    if app.vector_cache is None:
        home = app.store.home
        app.vector_cache = VectorCache(None if home is None else home / FOLDER / "vectors.db")
    return app.vector_cache
