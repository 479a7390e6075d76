"""The label model: from the features of a user to a label, with probabilities that can be believed.

The classic way to a portrait label: numbers standardised, a small network (20-20 with ReLU and a
softmax, Adam at 1e-3 on the cross-entropy, batches of 32, 10 epochs) on 80 % of the rows, of which
10 % are for validation, and an accuracy measured on the other 20 %. Or gradient-boosted trees,
which often win on tables. Probabilities are calibrated by one temperature, found on the validation
rows (Guo et al., "On Calibration of Modern Neural Networks", 2017).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limner.errors import InputError, ModelError, UsageError
from limner.events.batch import F64, I64
from limner.metrics.classes import Scores, log_loss, scores
from limner.model import perceptron, tabular, trees
from limner.model.artifacts import read_json, write_json
from limner.model.perceptron import Perceptron
from limner.model.protocol import Progress
from limner.model.tabular import Feature
from limner.model.trees import Trees

LEAST_ROWS = 20
LEAST_OF_A_CLASS = 3
LEAST_CALIBRATION = 30
"""Validation rows below which the temperature stays at 1."""

Kind = Literal["mlp", "trees"]


@dataclass(frozen=True, slots=True)
class LabelConfig:
    """How a label is learned. The defaults of the network are those of the classic example.

    `test` of all rows are for the test, and `validation` of the others; `hidden` to `batch` are
    the network's, `rounds` to `share` the trees' (`perceptron.fit`, `trees.fit`).
    """

    kind: Kind = "mlp"
    test: float = 0.2
    validation: float = 0.1
    seed: int = 42
    hidden: tuple[int, ...] = (20, 20)
    epochs: int = 10
    batch: int = 32
    learning_rate: float = 1e-3
    rounds: int = 1000
    patience: int = 50
    trees_rate: float = 0.05
    leaves: int = 15
    share: float = 0.5


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the training rows: the mean loss, and what it came to on validation."""

    epoch: int
    loss: float
    validation_loss: float
    validation_accuracy: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """What was learned from what, and how good it is on rows that were not learned from."""

    kind: Kind
    label: str
    features: list[str]
    classes: list[str]
    training: int
    validation: int
    left_out: int
    """Rows without a label, or of a class that fewer than three rows have."""
    test: Scores
    temperature: float
    uncalibrated: Scores
    """The test with a temperature of 1."""
    epochs: list[Epoch] = field(default_factory=list)
    trees: int = 0
    seconds: float = 0.0


def _quiet(stage: str, done: int, total: int) -> None:
    pass


@dataclass(frozen=True, slots=True)
class LabelModel:
    """A label that was learned; immutable. `at`: when, µs."""

    label: str
    features: tuple[Feature, ...]
    classes: tuple[str, ...]
    learned: Perceptron | Trees
    temperature: float = 1.0
    at: int = 0

    def matrix(self, table: Any) -> F64:
        """The rows of a table (anything Arrow can take) as numbers, (n, features).

        Raises UsageError for a column that is missing or holds a text where numbers belong.
        """
        rows = _arrow(table)
        tabular.need(rows, [feature.name for feature in self.features])
        given = {
            f.name: tabular.column(rows[f.name], f.name, text=f.categories is not None)
            for f in self.features
        }
        return tabular.matrix(self.features, given)

    def predict(self, table: Any) -> F64:
        """The probability of each class, (n, classes), of the rows of a table."""
        return self.probabilities(self.matrix(table))

    def row(self, values: Mapping[str, float | str | None]) -> F64:
        """One row of a matrix from values by feature; see `tabular.row`."""
        return tabular.row(self.features, values)

    def probabilities(self, rows: F64) -> F64:
        """The same of a matrix."""
        return self._said(self._inputs(rows))

    @property
    def _forest(self) -> bool:
        return isinstance(self.learned, Trees)

    def _inputs(self, rows: F64) -> Any:
        """A matrix as what was learned takes it."""
        return rows if self._forest else tabular.inputs(self.features, rows)

    def _said(self, inputs: Any) -> F64:
        return softmax(self.learned.logits(inputs) / self.temperature)

    def logits(self, rows: F64) -> F64:
        """What the softmax is of, before calibration, (n, classes)."""
        return self.learned.logits(self._inputs(rows))

    def moved(self, rows: F64) -> F64:
        """What `explained` says of the parts."""
        return self.explained(rows)[1]

    def explained(self, rows: F64) -> tuple[F64, F64]:
        """Probabilities (n, classes), and what each feature brings of the likeliest (n, features).

        By deletion: it is the probability, minus what it is with that feature at its usual value.
        """
        n, d = rows.shape
        usual = np.array([[feature.usual for feature in self.features]])
        given = self._inputs(np.concatenate([rows, usual]))
        ends = np.cumsum([1] * d if self._forest else [f.width for f in self.features]).tolist()
        tried = np.repeat(given[None, :n], d + 1, axis=0)
        for place, (start, end) in enumerate(pairwise([0, *ends])):
            tried[place, :, start:end] = given[n, start:end]
        parts = self._said(tried.reshape((d + 1) * n, -1)).reshape(d + 1, n, -1)
        whole, each = parts[d], np.arange(n)
        said = whole.argmax(axis=1)
        brought: F64 = whole[each, said][:, None] - parts[:d, each, said].T
        return whole, brought

    def save(self, folder: Path) -> None:
        """Write `label.json`, and the weights as safetensors or the trees as text."""
        folder.mkdir(parents=True, exist_ok=True)
        self.learned.save(folder)
        about = {
            "kind": "trees" if self._forest else "mlp",
            "label": self.label,
            "features": [asdict(feature) for feature in self.features],
            "classes": list(self.classes),
            "temperature": self.temperature,
            "at": self.at,
        }
        write_json(folder / "label.json", about)

    @classmethod
    def load(cls, folder: Path) -> LabelModel:
        """What `save` wrote. Raises ModelError if it does not fit together."""
        about = read_json(folder / "label.json")
        try:
            features = tuple(
                Feature(**{**one, "categories": one["categories"] and tuple(one["categories"])})
                for one in about["features"]
            )
            classes = tuple(about["classes"])
            learned: Perceptron | Trees = (
                Trees.load(folder, len(classes))
                if about["kind"] == "trees"
                else Perceptron.load(folder)
            )
            return cls(
                about["label"],
                features,
                classes,
                learned,
                float(about["temperature"]),
                int(about["at"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(
                f"is no label model: {error!r}",
                where=str(folder),
                mend="fit again: limner label fit",
            ) from error


def softmax(logits: F64) -> F64:
    """Logits (n, classes) → probabilities, rows sum to 1."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    out: F64 = powers / powers.sum(axis=1, keepdims=True)
    return out


@dataclass(frozen=True, slots=True)
class _Labelled:
    """Rows with a label, in an order that does not depend on how they came."""

    given: dict[str, pa.Array]
    codes: I64
    left_out: int


def fit(
    table: Any,
    label: str,
    *,
    features: Sequence[str] = (),
    categorical: Collection[str] = (),
    config: LabelConfig | None = None,
    test: Any = None,
    at: int = 0,
    progress: Progress = _quiet,
    told: Callable[[Epoch], object] = lambda epoch: None,
) -> tuple[LabelModel, Report]:
    """Learn the column `label` of a table from its other columns (from `features` of them).

    `categorical` features are texts even if they look like numbers. Rows without a label, or of a
    class that fewer than three have, are left out. `test`: a table to measure on instead of a part
    of this one. The same rows in any order give the same model. `told` of each epoch.
    Raises UsageError for columns that are not there, ModelError if there is too little to learn.
    """
    started = time.perf_counter()
    config = config or LabelConfig()
    rows = _arrow(table)
    tabular.need(rows, [label])
    names = list(features) or [name for name in rows.schema.names if name != label]
    if label in names:
        raise UsageError(f"{label!r} is the label and a feature too", mend="leave it out of them")
    columns = tabular.columns(rows, names, categorical)
    classes, labelled = _labelled(columns, tabular.column(rows[label], label, text=True))
    total = len(labelled.codes)
    order = np.random.default_rng(config.seed).permutation(total)
    n_test = 0 if test is not None else max(1, round(config.test * total))
    n_validation = max(1, round(config.validation * (total - n_test)))
    tests, held, learn = np.split(order, [n_test, n_test + n_validation])
    described = tabular.described(labelled.given, learn)
    if not described:
        raise ModelError("no feature has a value", mend="name other columns with --features")
    every = tabular.matrix(described, labelled.given)
    codes = labelled.codes
    learned, epochs = _learn(
        config, described, (every[learn], codes[learn]), (every[held], codes[held]),
        len(classes), progress, told,
    )  # fmt: skip
    model = LabelModel(label, described, classes, learned, 1.0, at)
    logits = model.logits(every[held])
    temperature = _temperature(logits, codes[held])
    model = LabelModel(label, described, classes, learned, temperature, at)
    if test is None:
        asked, truth = every[tests], codes[tests]
    else:
        asked, truth = _tested(model, test)
    raw = model.logits(asked)
    report = Report(
        config.kind,
        label,
        [feature.name for feature in described],
        list(classes),
        len(learn),
        len(held),
        labelled.left_out,
        scores(softmax(raw / temperature), truth, classes),
        temperature,
        scores(softmax(raw), truth, classes),
        epochs,
        learned.size if isinstance(learned, Trees) else 0,
        time.perf_counter() - started,
    )
    return model, report


def _labelled(given: Mapping[str, pa.Array], label: pa.Array) -> tuple[tuple[str, ...], _Labelled]:
    counts = {one["values"]: one["counts"] for one in pc.value_counts(label).to_pylist()}
    classes = tuple(
        sorted(
            (name for name, n in counts.items() if name is not None and n >= LEAST_OF_A_CLASS),
            key=_by_number,
        )
    )
    codes = pc.index_in(label, value_set=pa.array(classes, pa.string()))
    keep = codes.is_valid()
    kept = {name: array.filter(keep) for name, array in given.items()}
    codes = codes.filter(keep)
    if len(classes) < 2 or len(codes) < LEAST_ROWS:
        raise ModelError(
            f"{len(codes):,} labelled rows of {len(classes)} classes are too few to learn from",
            mend=f"give {LEAST_ROWS} rows or more, of two classes that three rows or more have",
        )
    order = tabular.canonical({"": codes, **kept})
    kept = {name: array.take(pa.array(order)) for name, array in kept.items()}
    found = codes.to_numpy(zero_copy_only=False).astype(np.int64)[order]
    return classes, _Labelled(kept, found, len(label) - len(codes))


def _by_number(name: str) -> tuple[float, str]:
    """Classes that are numbers in the order of numbers."""
    try:
        return float(name), name
    except ValueError:
        return np.inf, name


def _tested(model: LabelModel, table: Any) -> tuple[F64, I64]:
    rows = _arrow(table)
    tabular.need(rows, [model.label])
    label = tabular.column(rows[model.label], model.label, text=True)
    codes = pc.index_in(label, value_set=pa.array(model.classes, pa.string()))
    keep = codes.is_valid().to_numpy(zero_copy_only=False)
    if not keep.any():
        raise InputError("no row of the test has a class that was learned",
                         mend="write the labels as in the other table")  # fmt: skip
    found = pc.fill_null(codes, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return model.matrix(rows)[keep], found[keep]


def _learn(
    config: LabelConfig,
    described: Sequence[Feature],
    learn: tuple[F64, I64],
    held: tuple[F64, I64],
    classes: int,
    progress: Progress,
    told: Callable[[Epoch], object],
) -> tuple[Perceptron | Trees, list[Epoch]]:
    (x, y), epochs = learn, list[Epoch]()
    if config.kind == "trees":
        forest = trees.fit(
            x,
            y,
            classes,
            validation=held,
            categorical=[i for i, f in enumerate(described) if f.categories is not None],
            rounds=config.rounds,
            patience=config.patience,
            learning_rate=config.trees_rate,
            leaves=config.leaves,
            share=config.share,
            seed=config.seed,
            told=lambda done, total: progress("trees", done, total),
        )
        return forest, epochs
    begun = time.perf_counter()

    def after(number: int, loss: float, logits: F64) -> None:
        right = logits.argmax(axis=1) == held[1]
        epochs.append(
            Epoch(number, loss, log_loss(softmax(logits), held[1]), float(right.mean()),
                  time.perf_counter() - begun)
        )  # fmt: skip
        progress("epochs", number, config.epochs)
        told(epochs[-1])

    network = perceptron.fit(
        tabular.inputs(described, x),
        y,
        classes,
        validation=tabular.inputs(described, held[0]),
        hidden=config.hidden,
        epochs=config.epochs,
        batch=config.batch,
        learning_rate=config.learning_rate,
        seed=config.seed,
        told=after,
    )
    return network, epochs


def _temperature(logits: F64, truth: I64) -> float:
    """What logits are divided by for the least log loss, between 1/8 and 8; 1 for few rows."""
    if len(truth) < LEAST_CALIBRATION:
        return 1.0
    from scipy.optimize import minimize_scalar

    def loss(power: float) -> float:
        return log_loss(softmax(logits / 2.0**power), truth)

    found = minimize_scalar(loss, bounds=(-3, 3), method="bounded")
    return float(2.0**found.x)


def _arrow(table: Any) -> pa.Table:
    if isinstance(table, pa.Table):
        return table
    if hasattr(table, "__arrow_c_stream__"):
        return pa.table(table)
    raise InputError(
        f"{type(table).__name__} is no table", mend="give an Arrow table or a DataFrame"
    )
