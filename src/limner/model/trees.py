"""Gradient-boosted trees for tables, by LightGBM; on disk in its text format, never pickle."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from limner.errors import MissingExtra, ModelError
from limner.events.batch import F64, I64

FILE = "trees.txt"
SILENT = {"verbosity": -1, "num_threads": 1}


@dataclass(frozen=True, slots=True)
class Trees:
    """A forest over the columns of a matrix; `booster` is LightGBM's."""

    booster: Any
    classes: int

    def logits(self, rows: F64) -> F64:
        """Rows (n, features), NaN where missing → (n, classes)."""
        raw = self.booster.predict(rows, raw_score=True, num_threads=1)
        if self.classes == 2:
            return np.stack([np.zeros(len(rows)), np.asarray(raw)], axis=1)
        return np.asarray(raw, dtype=np.float64).reshape(len(rows), self.classes)

    @property
    def size(self) -> int:
        """How many trees there are."""
        return int(self.booster.num_trees())

    def save(self, folder: Path) -> None:
        """Write the trees as text."""
        (folder / FILE).write_text(self.booster.model_to_string(), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, classes: int) -> Trees:
        """What `save` wrote. Raises ModelError if it cannot be read."""
        lightgbm = _lightgbm()
        path = folder / FILE
        try:
            text = path.read_text(encoding="utf-8")
            booster = lightgbm.Booster(model_str=text)
        except (OSError, UnicodeDecodeError, lightgbm.basic.LightGBMError) as error:
            raise ModelError(
                f"cannot be read: {error}", where=str(path), mend="fit again: limner label fit"
            ) from error
        return cls(booster, classes)


def fit(
    rows: F64,
    y: I64,
    classes: int,
    *,
    validation: tuple[F64, I64],
    categorical: Sequence[int],
    rounds: int,
    patience: int,
    learning_rate: float,
    leaves: int,
    share: float,
    seed: int,
    told: Callable[[int, int], None],
) -> Trees:
    """Boost trees on classes `y` until `validation` has not gained for `patience` rounds.

    Each tree sees a `share` of the features. Deterministic for a seed. Raises MissingExtra.
    """
    lightgbm = _lightgbm()
    goal = {"objective": "binary"} if classes == 2 else {
        "objective": "multiclass", "num_class": classes,
    }  # fmt: skip
    settings = {
        **goal, **SILENT, "learning_rate": learning_rate, "num_leaves": leaves,
        "feature_fraction": share, "seed": seed, "deterministic": True, "force_row_wise": True,
        # small tables must be able to split too
        "min_data_in_leaf": int(min(20, max(1, len(rows) // 20))),
    }  # fmt: skip
    data = lightgbm.Dataset(rows, y, categorical_feature=list(categorical))
    held = lightgbm.Dataset(*validation, reference=data)

    def tell(state: Any) -> None:
        told(state.iteration + 1, rounds)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        booster = lightgbm.train(
            settings,
            data,
            rounds,
            valid_sets=[held],
            callbacks=[tell, lightgbm.early_stopping(patience, verbose=False)],
        )
    # as text and back: what is used now is what will be read
    text = booster.model_to_string(num_iteration=booster.best_iteration)
    return Trees(lightgbm.Booster(model_str=text), classes)


def _lightgbm() -> Any:
    try:
        import lightgbm
    except ImportError as error:
        raise MissingExtra("gradient-boosted trees", "trees") from error
    return lightgbm
