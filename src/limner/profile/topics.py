"""Topics: which words go together in what users read and write, learned from all of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import scipy  # its parts are loaded when used: opening a store should not wait for them

from limner.errors import MissingExtra, ModelError, StoreCorrupt
from limner.events.batch import F64, I64

SHOWN = 6
"""Words that name a topic."""

LEAST_USERS = 3
"""A word of fewer users is no part of a topic, so no topic tells what one user wrote."""

MOST_WORDS = 5_000


@dataclass(frozen=True)
class TopicModel:
    """Topics by non-negative matrix factorisation of users' TF-IDF weights of words.

    `weights` (topics, words), rows of length 1; `idf` (words,). `version` names the content and
    `at` is when it was learned, µs.
    """

    words: tuple[str, ...]
    idf: F64
    weights: F64
    at: int

    @cached_property
    def version(self) -> str:
        """The same for the same topics, whenever they were learned."""
        content = "\n".join(self.words).encode() + np.round(self.weights, 6).tobytes()
        return blake2b(content, digest_size=6).hexdigest()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Each topic's heaviest words, "tea, cup, green"."""
        return tuple(
            ", ".join(self.words[i] for i in np.argsort(-row, kind="stable")[:SHOWN] if row[i] > 0)
            for row in self.weights
        )

    @cached_property
    def _place(self) -> dict[str, int]:
        return {word: place for place, word in enumerate(self.words)}

    @cached_property
    def _root(self) -> F64:
        """R with RᵀR = the topics' inner products: least squares in `topics` unknowns only."""
        gram = self.weights @ self.weights.T
        return np.asarray(np.linalg.cholesky(gram + 1e-9 * np.eye(len(gram))).T, dtype=np.float64)

    def places(self, words: Sequence[str]) -> I64:
        """Where each of these is among the model's words, −1 if it is not."""
        return np.array([self._place.get(word, -1) for word in words], dtype=np.int64)

    def shares(self, owner: I64, places: I64, weights: F64, bags: int) -> F64:
        """The share of each topic in bags of words, (bags, topics); sums to 1.

        Bag `owner[i]` has the word at `places[i]` with `weights[i]`. Non-negative least squares
        of the TF-IDF weights. A bag without any known word has shares of 0.
        """
        from scipy.optimize import nnls  # here, since opening a store would wait for it

        known = places >= 0
        place, seen = places[known], np.maximum(weights[known], 0) * self.idf[places[known]]
        bag = scipy.sparse.csr_array((seen, (owner[known], place)), (bags, len(self.words)))
        aims = np.linalg.solve(self._root.T, np.asarray(bag @ self.weights.T).T).T
        mix = np.zeros(aims.shape)
        for row in np.flatnonzero(aims.any(axis=1)).tolist():
            mix[row], _ = nnls(self._root, aims[row])
        out: F64 = mix / np.maximum(mix.sum(axis=1, keepdims=True), 1e-300)
        return out

    def only(self, words: Collection[str]) -> TopicModel:
        """The same topics of these words alone."""
        kept = [place for place, word in enumerate(self.words) if word in words]
        weights = self.weights[:, kept]
        weights = weights[weights.any(axis=1)]
        length = np.linalg.norm(weights, axis=1, keepdims=True)
        words_kept = tuple(self.words[place] for place in kept)
        return TopicModel(words_kept, self.idf[kept], weights / length, self.at)

    def save(self, path: Path) -> None:
        """Write it as one file, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        work = path.with_suffix(".new")
        with work.open("wb") as file:
            np.savez(
                file, words=np.array(self.words, dtype=np.str_), idf=self.idf,
                weights=self.weights, at=self.at,
            )  # fmt: skip
        work.replace(path)

    @classmethod
    def load(cls, path: Path) -> TopicModel:
        """What `save` wrote. Raises StoreCorrupt if it is something else."""
        try:
            with np.load(path) as found:
                words = tuple(found["words"].tolist())
                return cls(words, found["idf"], found["weights"], int(found["at"]))
        except (OSError, ValueError, KeyError) as error:
            raise StoreCorrupt(
                f"{path.name} cannot be read: {error}",
                where=str(path.parent),
                mend="delete it and learn the topics anew: limner topics",
            ) from error


def learn(
    users: I64,
    keys: I64,
    weights: F64,
    words: Sequence[str],
    *,
    topics: int,
    at: int,
    seed: int = 0,
) -> TopicModel:
    """Topics of these bags: user `users[i]` has word `words[keys[i]]` with `weights[i]` > 0.

    Needs the extra `text` (scikit-learn's NMF; Cichocki and Phan, 2009). The result does not
    depend on the order of users or words. Raises MissingExtra, and ModelError if there is too
    little text.
    """
    if find_spec("sklearn") is None:
        raise MissingExtra("learning topics", "text")
    from scipy import sparse
    from sklearn.decomposition import NMF

    use = (weights > 0) & np.array([bool(word) for word in words] or [False])[keys]
    users, keys, weights = users[use], keys[use], weights[use]
    spread = np.bincount(keys, minlength=len(words))
    chosen = sorted(
        (-int(spread[k]), words[k], k) for k in np.flatnonzero(spread >= LEAST_USERS).tolist()
    )
    order = np.array([k for _, _, k in chosen[:MOST_WORDS]], dtype=np.int64)
    column = np.full(len(words), -1)
    column[order] = np.arange(len(order))
    use = column[keys] >= 0
    people, row = np.unique(users[use], return_inverse=True)
    if len(order) < 2 * topics or len(people) < 2 * topics:
        raise ModelError(
            f"there is too little text for {topics} topics: {len(order)} words that "
            f"{LEAST_USERS} users or more share, and {len(people)} users",
            mend="record events with texts, or ask for fewer topics",
        )
    bags = sparse.csr_matrix((weights[use], (row, column[keys[use]])), (len(people), len(order)))
    idf = np.log(len(people) / spread[order]) + 1
    scaled: Any = bags.multiply(idf).tocsr()
    scaled = (
        sparse.diags(1 / np.sqrt(np.asarray(scaled.multiply(scaled).sum(axis=1)).ravel())) @ scaled
    )
    # in an order that is the users' own, not that of their arrival
    scaled = scaled[np.lexsort((scaled @ np.arange(1, len(order) + 1), scaled.getnnz(axis=1)))]
    model = NMF(topics, init="nndsvda", random_state=seed, max_iter=400)
    model.fit(scaled)
    found = model.components_
    found = found[found.any(axis=1)]
    found = found / np.linalg.norm(found, axis=1, keepdims=True)
    return TopicModel(tuple(words[k] for k in order), idf, found, at)
