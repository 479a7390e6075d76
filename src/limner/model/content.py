"""What resembles the history by its attributes (category, type, brand, …) and by its content.

For each attribute the share of a user's decayed history that has the item's value is compared
with everyone's share of it. The score is the mean log ratio over attributes, plus how much of its
value's sales an item makes, so that among equals the better known comes first. Where items'
text, image or sound was encoded, likeness is added: the cosine between an item and the decayed
mean of the history, in 64 dimensions of each encoder. It serves items that nobody bought yet as
well as others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from limner.catalog.known import NARROW
from limner.catalog.projection import Projection, learn
from limner.events.batch import DAY, F64, I32, I64
from limner.model.artifacts import read_arrays, write_arrays
from limner.model.popularity import ages, first_times
from limner.model.products import products
from limner.model.protocol import F32, History, Interactions, ItemFeatures, Progress


@dataclass(frozen=True, slots=True)
class ContentConfig:
    """`half_life_days`: of a history's events; `prior`: events' worth of everyone's shares that a
    history starts from; `within`: weight of an item's popularity within its values; `likeness`:
    weight of likeness by content, and `likeness_prior` the events' worth of likeness to nothing
    that it starts from.
    """

    half_life_days: float = 365.0
    prior: float = 60.0
    within: float = 0.3
    likeness: float = 4.0
    likeness_prior: float = 5.0


class Content:
    """Mean log ratio of a user's share to everyone's, over the attributes of an item."""

    def __init__(self, config: ContentConfig | None = None) -> None:
        self.config = config or ContentConfig()
        self.codes: dict[str, np.ndarray] = {}
        self.shares: dict[str, F64] = {}
        self.values: dict[str, list[str]] = {}
        self.rarity: dict[str, F64] = {}  # of each value, what `within` has for an untried item
        self.within: F32 = np.zeros(0, dtype=np.float32)
        self.projections: dict[str, Projection] = {}
        self.kin: dict[str, F32] = {}  # by encoder, unit vectors (n_items, 64) of the content

    @property
    def name(self) -> str:
        """`content`."""
        return "content"

    def fit(self, data: Interactions, features: ItemFeatures, *, progress: Progress) -> None:
        """Count everyone's shares of each value, and project content."""
        self.codes, self.shares, self.values, self.rarity = {}, {}, {}, {}
        weights = data.weights * ages(data.times, self.config.half_life_days)
        rows = first_times(data)
        tried = _counts(data.items[rows], weights[rows], data.n_items)
        within = np.zeros(data.n_items)
        for name, known in features.codes.items():
            codes = np.full(data.n_items, -1, dtype=np.int32)
            codes[: len(known)] = known[: data.n_items]
            size = int(codes.max(initial=-1)) + 2  # the last place is for unknown values
            codes[codes < 0] = size - 1
            counts = _counts(codes[data.items], weights, size)
            shares = (counts + 0.5) / (counts.sum() + 0.5 * size)
            by_value = np.bincount(codes, tried, minlength=size)
            within += np.log((tried + 0.1) / (by_value[codes] + 1.0))
            self.codes[name], self.shares[name] = codes, shares
            self.values[name] = list(features.values.get(name, []))
            # an item of which nothing is said is no rarity of its own
            by_value[-1] = by_value.max()
            self.rarity[name] = np.log(0.1 / (by_value + 1.0))
        self.within = (within * (self.config.within / max(1, len(self.codes)))).astype(np.float32)
        self.projections = {
            name: learn(name, vectors, NARROW) for name, vectors in features.vectors.items()
        }
        self.kin = {
            name: _rows(self.projections[name](vectors), data.n_items)
            for name, vectors in features.vectors.items()
        }

    def update(self, data: Interactions, features: ItemFeatures, *, progress: Progress) -> None:
        """Count again: one pass over `data`."""
        self.fit(data, features, progress=progress)

    def entered(self, features: ItemFeatures) -> Content:
        """The same with items after those it was fitted on, known by their attributes alone.

        `features` has a row for each. A value that nobody had then says nothing.
        """
        out = Content(self.config)
        out.shares, out.values, out.rarity = self.shares, self.values, self.rarity
        fresh = np.zeros(len(features.available))
        for name, codes in self.codes.items():
            unknown = len(self.shares[name]) - 1
            places = {value: code for code, value in enumerate(self.values[name][:unknown])}
            move = [places.get(value, unknown) for value in features.values.get(name, [])]
            given = features.codes.get(name, np.full(len(fresh), -1, dtype=np.int32))
            new = np.array([*move, unknown], dtype=np.int32)[given]
            out.codes[name] = np.concatenate([codes, new])
            fresh += self.rarity[name][new]
        fresh *= self.config.within / max(1, len(self.codes))
        out.within = np.concatenate([self.within, fresh.astype(np.float32)])
        out.projections = self.projections
        for name, kin in self.kin.items():
            vectors = features.vectors.get(name)
            none = np.zeros((len(fresh), NARROW), dtype=np.float32)
            known = none if vectors is None else self.projections[name](vectors)
            out.kin[name] = np.concatenate([kin, known])
        return out

    def embed(self, histories: Sequence[History]) -> F32:
        """No vector."""
        return np.zeros((len(histories), 0), dtype=np.float32)

    def score(self, histories: Sequence[History], items: I64 | None = None) -> F32:
        """Scores (n, n_items) or (n, len(items))."""
        if items is not None:
            return self._some(histories, items)
        out = np.tile(self.within, (len(histories), 1))
        sums = {
            name: np.zeros((len(histories), kin.shape[1]), dtype=np.float32)
            for name, kin in self.kin.items()
        }
        for row, history in enumerate(histories):
            age = (history.now - history.times) / DAY
            weights = history.weights * np.exp2(-age / self.config.half_life_days)
            total = max(weights.sum(), 0.0) + self.config.prior
            for name, codes in self.codes.items():
                shares = self.shares[name]
                own = _counts(codes[history.items], weights, len(shares))
                ratio: F64 = np.log((own + self.config.prior * shares) / (total * shares))
                ratio[-1] = 0.0  # an unknown value says nothing
                out[row] += (ratio / len(self.codes)).astype(np.float32)[codes]
            held = max(weights.sum(), 0.0) + self.config.likeness_prior
            scale = self.config.likeness / (held * max(1, len(self.kin)))
            for name, kin in self.kin.items():
                sums[name][row] = (weights @ kin[history.items]) * scale
        for name, kin in self.kin.items():
            out += products(sums[name], kin)
        return out

    def _some(self, histories: Sequence[History], items: I64) -> F32:
        had, place = np.unique(
            np.concatenate([np.zeros(0, np.int32), *(h.items for h in histories)]),
            return_inverse=True,
        )
        owners = np.repeat(np.arange(len(histories)), [len(h) for h in histories])
        worth = np.zeros((len(histories), len(had)))
        decayed = [
            h.weights * np.exp2((h.times - h.now) / (DAY * self.config.half_life_days))
            for h in histories
        ]
        np.add.at(worth, (owners, place.reshape(-1)), np.concatenate([np.zeros(0), *decayed]))
        held = np.maximum(worth.sum(axis=1, keepdims=True), 0.0)
        total = held + self.config.prior
        out = np.tile(self.within[items].astype(np.float64), (len(histories), 1))
        for name, codes in self.codes.items():
            mine = codes[items]
            shares = self.shares[name][mine]
            own = worth @ (codes[had][:, None] == mine)
            ratio: F64 = np.log((own + self.config.prior * shares) / (total * shares))
            ratio[:, mine == len(self.shares[name]) - 1] = 0.0  # an unknown value says nothing
            out += ratio / len(self.codes)
        scale = self.config.likeness / ((held + self.config.likeness_prior) * max(1, len(self.kin)))
        for kin in self.kin.values():
            out += (worth @ (kin[had] @ kin[items].T)) * scale
        return out.astype(np.float32)

    def save(self, folder: Path) -> None:
        """Write codes and shares."""
        arrays: dict[str, np.ndarray] = {"within": self.within}
        for number, name in enumerate(self.codes):
            arrays[f"codes{number}"] = self.codes[name]
            arrays[f"shares{number}"] = self.shares[name]
            arrays[f"rarity{number}"] = self.rarity[name]
        for number, (name, kin) in enumerate(self.kin.items()):
            arrays[f"kin{number}"] = kin
            arrays[f"mean{number}"] = self.projections[name].mean
            arrays[f"directions{number}"] = self.projections[name].directions
        meta = {
            "config": asdict(self.config),
            "encoders": [[name, self.projections[name].learned_from] for name in self.kin],
            "attributes": list(self.codes),
            "values": [self.values[name] for name in self.codes],
        }
        write_arrays(folder, arrays, meta)

    def load(self, folder: Path) -> None:
        """Read what `save` wrote."""
        arrays, meta = read_arrays(folder, ("within",))
        self.config, self.within = ContentConfig(**meta["config"]), arrays["within"]
        names = meta["attributes"]
        kinds = ("codes", "shares", "rarity")
        arrays, _ = read_arrays(folder, [f"{kind}{n}" for n in range(len(names)) for kind in kinds])
        self.values = dict(zip(names, meta.get("values", []), strict=True))
        self.rarity = {name: arrays[f"rarity{n}"] for n, name in enumerate(names)}
        self.codes = {name: arrays[f"codes{n}"] for n, name in enumerate(names)}
        self.shares = {name: arrays[f"shares{n}"] for n, name in enumerate(names)}
        encoders: list[tuple[str, int]] = meta.get("encoders", [])
        kinds = ("kin", "mean", "directions")
        files = [f"{kind}{n}" for n in range(len(encoders)) for kind in kinds]
        arrays, _ = read_arrays(folder, files)
        self.kin = {name: arrays[f"kin{n}"] for n, (name, _) in enumerate(encoders)}
        self.projections = {
            name: Projection(name, arrays[f"mean{n}"], arrays[f"directions{n}"], learned_from)
            for n, (name, learned_from) in enumerate(encoders)
        }


def _rows(vectors: F32, n: int) -> F32:
    """The first n rows; 0 where there are fewer."""
    return np.pad(vectors[:n], ((0, max(n - len(vectors), 0)), (0, 0)))


def _counts(codes: I32, weights: F64, size: int) -> F64:
    """Weighted counts, at least 0: what was taken back leaves nothing."""
    return np.maximum(np.bincount(codes, weights, minlength=size), 0.0)
