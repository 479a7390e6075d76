"""Labels: fitted on a table or on portraits, and kept beside the store."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from limner.config import Config
from limner.errors import UsageError
from limner.model import label, labels
from limner.model.label import Epoch, LabelConfig, LabelModel, Report
from limner.model.protocol import Progress
from limner.sources.files import whole
from limner.stores import home_of


@dataclass(frozen=True, slots=True)
class Fitted:
    """A label that was fitted: its version, from which file, when (µs), and how good it is."""

    name: str
    version: str
    source: str
    at: int
    report: Report


def home(config: Config) -> Path:
    """Where labels are kept: beside the store. Raises UsageError for one in memory."""
    found = home_of(config.store)
    if found is None:
        raise no_home()
    return found


def no_home() -> UsageError:
    """What is raised where labels would be kept in memory."""
    return UsageError(
        "a store in memory keeps no labels", mend="name one on disk: --store sqlite:///shop.db"
    )


def fit(
    config: Config,
    table: Any,
    column: str,
    *,
    source: str,
    features: Sequence[str] = (),
    categorical: Collection[str] = (),
    learn: LabelConfig | None = None,
    name: str = "",
    at: int | None = None,
    progress: Progress,
    told: Callable[[Epoch], object] = lambda epoch: None,
) -> Fitted:
    """Learn a column of a table (`label.fit`) and publish it, as `name` or the column's own."""
    place, named = home(config), name or column
    labels.check_name(named)
    moment = time.time_ns() // 1_000 if at is None else at
    model, report = label.fit(
        table,
        column,
        features=features,
        categorical=categorical,
        config=learn,
        at=moment,
        progress=progress,
        told=told,
    )
    return published(place, named, model, report, source=source, at=moment)


def published(
    place: Path,
    name: str,
    model: LabelModel,
    report: Report,
    *,
    source: str,
    at: int,
    more: Mapping[str, Any] | None = None,
) -> Fitted:
    """Put a label to use, with the record of how it was learned, and `more` beside it."""
    meta = {"source": source, "at": at, "report": msgspec.to_builtins(report), **(more or {})}
    version = labels.publish(place, name, model, meta)
    return Fitted(name, version.name, source, at, report)


def load(config: Config, name: str = "") -> tuple[str, LabelModel, str]:
    """A label's name, its model in use and the version; of the only one if none is named."""
    named, _ = labels.version(home(config), name)
    model, version = labels.load(home(config), named)
    return named, model, version.name


def known(config: Config) -> list[Fitted]:
    """The labels that were fitted, each as of its version in use."""
    place, out = home(config), []
    for name in labels.names(place):
        _, version = labels.version(place, name)
        meta = version.meta
        report = msgspec.convert(meta["report"], Report)
        out.append(Fitted(name, version.name, meta["source"], int(meta["at"]), report))
    return out


def predict_file(model: LabelModel, file: Path, out: Path) -> int:
    """Write the rows of a file with the likeliest class and the probability of each; how many.

    Columns `predicted` and `p(CLASS)` are added. Raises UsageError for an unknown ending.
    """
    if out.suffix not in (".csv", ".parquet"):
        raise UsageError(
            f"{out.suffix or out.name!r} is no kind of file that tables are written to",
            mend="name a file that ends in .csv or .parquet",
        )
    table = whole(file)
    found = model.predict(table)
    likeliest = pa.array(model.classes).take(pa.array(found.argmax(axis=1)))
    table = table.append_column("predicted", likeliest)
    for place, name in enumerate(model.classes):
        table = table.append_column(f"p({name})", pa.array(found[:, place]))
    if out.suffix == ".csv":
        pcsv.write_csv(table, out)
    else:
        pq.write_table(table, out)
    return len(table)
