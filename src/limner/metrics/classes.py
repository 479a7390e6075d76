"""How good predicted classes are: from probabilities (n, classes) and the true classes (n,)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from limner.events.batch import F64, I64

BINS = 10
"""Bins of equal width that the calibration error is taken over."""


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One class against all others; `rows` is how many are truly of it."""

    name: str
    precision: float
    recall: float
    f1: float
    rows: int


@dataclass(frozen=True, slots=True)
class Scores:
    """All of it. `usual` is the accuracy of always saying the most frequent class.

    `confusion[i][j]`: rows of class i that were said to be j. `calibration_error` is the mean
    distance between confidence and accuracy (Guo et al. 2017), over `BINS` bins of confidence.
    """

    rows: int
    accuracy: float
    usual: float
    log_loss: float
    calibration_error: float
    classes: list[ClassScore]
    confusion: list[list[int]]


def scores(probabilities: F64, truth: I64, names: Sequence[str]) -> Scores:
    """Everything that is said of predictions on `n` ≥ 1 rows."""
    n = len(truth)
    table = confusion(probabilities.argmax(axis=1), truth, len(names))
    right = np.diag(table).astype(np.float64)
    true, said = table.sum(axis=1), table.sum(axis=0)
    precision, recall = right / np.maximum(said, 1), right / np.maximum(true, 1)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    return Scores(
        n,
        float(right.sum() / n),
        float(true.max() / n),
        log_loss(probabilities, truth),
        calibration_error(probabilities, truth),
        [
            ClassScore(name, float(precision[i]), float(recall[i]), float(f1[i]), int(true[i]))
            for i, name in enumerate(names)
        ],
        table.tolist(),
    )


def confusion(said: I64, truth: I64, classes: int) -> I64:
    """How many rows of class i were said to be j, (classes, classes).

    >>> confusion(np.array([0, 1, 1]), np.array([0, 0, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    counts = np.bincount(truth * classes + said, minlength=classes * classes)
    return counts.reshape(classes, classes)


def log_loss(probabilities: F64, truth: I64) -> float:
    """The mean of −log p of the true class, p at least 1e-12; nats."""
    p = probabilities[np.arange(len(truth)), truth]
    return float(-np.log(np.maximum(p, 1e-12)).mean())


def calibration_error(probabilities: F64, truth: I64) -> float:
    """Σ over bins of rows/n · |mean confidence − accuracy|; 0 is perfect.

    >>> calibration_error(np.array([[0.5, 0.5], [0.5, 0.5]]), np.array([0, 1]))
    0.0
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    places = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    gaps = np.bincount(places, weights=confidence - right, minlength=BINS)
    return float(np.abs(gaps).sum() / len(truth))
