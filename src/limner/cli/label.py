"""Label models: fitted on a table or on portraits, asked for one user or many."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from limner.cli.session import Session, common, with_session
from limner.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from limner.app.labels import Fitted
    from limner.model.label import Epoch, LabelConfig, LabelModel

EXAMPLES = """\b
Examples:
  limner label sample user_data.csv
  limner label fit user_data.csv --features X1,X2,X3,X4 --label label
  limner label predict --features 0.8,400,5,75"""

name_option = click.option("--name", metavar="NAME", default="", help="Which label.")


@dataclass(frozen=True, slots=True)
class Predicted:
    """What is said of one user: the likeliest class, the probability of each, and why."""

    name: str
    version: str
    predicted: str
    probabilities: dict[str, float]
    moved: dict[str, float]
    """What of that probability each feature brings, against its usual value."""


@click.group(epilog=EXAMPLES)
@common
def label() -> None:
    """Learn labels of users from their features, and ask for the probability of each."""


@label.command(
    epilog="\b\nExamples:\n"
    "  limner label fit user_data.csv --features X1,X2,X3,X4 --label label\n"
    "  limner label fit adult.csv --label income --trees\n"
    "  limner label fit --from portraits --label household"
)
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--from", "source", type=click.Choice(["portraits"]),
              help="From portraits; FILE then has user_id and the label.")  # fmt: skip
@click.option("--label", "column", metavar="COLUMN", required=True, help="What is to be learned.")
@click.option("--features", metavar="A,B,…", default="",
              help="From what; from all other columns if not given.")  # fmt: skip
@click.option("--categorical", metavar="A,B,…", default="",
              help="Features that are no numbers though they look like some.")  # fmt: skip
@click.option("--trees", is_flag=True, help="Gradient-boosted trees instead of a network.")
@click.option("--epochs", type=click.IntRange(1), default=10, help="Passes of the network.")
@click.option("--hidden", metavar="N,N", default="20,20", help="Widths of its hidden layers.")
@click.option("--seed", type=click.IntRange(0), default=42, help="Of the split and the weights.")
@click.option("--name", metavar="NAME", default="", help="Its name, if not the label's.")
@common
@with_session
def fit(
    session: Session,
    file: Path | None,
    source: str | None,
    column: str,
    features: str,
    categorical: str,
    trees: bool,
    epochs: int,
    hidden: str,
    seed: int,
    name: str,
) -> None:
    """Learn a label from the rows of FILE, or of portraits; measure it on some kept aside."""
    from limner.app import labels
    from limner.model.label import LabelConfig
    from limner.sources.files import whole

    if file is None and not source:
        raise UsageError(
            "there is nothing to learn from", mend="name a file, or write --from portraits"
        )
    config = LabelConfig(
        kind="trees" if trees else "mlp", epochs=epochs, hidden=_widths(hidden), seed=seed
    )
    say = session.console().print
    how: dict[str, Any] = {
        "features": _listed(features),
        "categorical": _listed(categorical),
        "learn": config,
        "name": name,
        "told": _epochs(session, config),
    }
    rows = whole(file) if file is not None else None
    with session.progress() as progress:
        if source:
            with session.open(write=False, progress=progress) as app:
                found = app.fit_label(column, known=rows, progress=progress, **how)
        else:
            settings = session.settings()
            found = labels.fit(settings, rows, column, source=str(file), progress=progress, **how)
    if session.json:
        session.emit(found)
    else:
        _show(session.console(), found)
        if source:
            say(f"portraits show it as {found.name!r}; a running server does after a restart",
                soft_wrap=True)  # fmt: skip
        say(f"kept as version {found.version} of label {found.name!r}\n", soft_wrap=True)
        say(f"Test accuracy: {found.report.test.accuracy:.4f}")


@label.command(
    epilog="\b\nExamples:\n  limner label predict --features 0.8,400,5,75\n"
    "  limner label predict --features X1=0.8,X2=400\n"
    "  limner label predict new_users.csv --out predicted.csv"
)
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--features", metavar="X,Y,…",
              help="One user: values in the order of the fit, or NAME=VALUE.")  # fmt: skip
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path),
              help="Write FILE and what is said of it to a .csv or .parquet.")  # fmt: skip
@name_option
@common
@with_session
def predict(
    session: Session, file: Path | None, features: str | None, out: Path | None, name: str
) -> None:
    """Say how probable each class is, for one user or for the rows of FILE."""
    from limner.app import labels

    if (file is None) == (features is None) or (file is None) != (out is None):
        raise UsageError(
            "one user or a file is asked for", mend="give --features, or FILE and --out"
        )
    named, model, version = labels.load(session.settings(), name)
    if file is not None and out is not None:
        rows = labels.predict_file(model, file, out)
        if session.json:
            session.emit({"name": named, "version": version, "rows": rows, "out": str(out)})
        else:
            session.console().print(f"wrote {rows:,} rows to {out}", soft_wrap=True)
        return
    found = _predicted(model, _values(model, features or ""), named, version)
    if session.json:
        session.emit(found)
    else:
        _show_predicted(session.console(), found)
        listed = " ".join(f"{p:.4f}" for p in found.probabilities.values())
        session.console().print(f"User prediction: [[{listed}]]", soft_wrap=True)


@label.command(name="list", epilog="\b\nExample:\n  limner label list")
@common
@with_session
def list_(session: Session) -> None:
    """List the labels that were fitted, with their versions and how good they are."""
    from rich.table import Table

    from limner.app import labels

    found = labels.known(session.settings())
    if session.json:
        session.emit(found)
        return
    if not found:
        session.console().print("no label was fitted yet: limner label fit FILE --label COLUMN")
        return
    table = Table()
    for heading in ("label", "version", "by", "classes", "from", "test accuracy"):
        table.add_column(heading, justify="right" if heading == "test accuracy" else "left",
                         overflow="fold")  # fmt: skip
    for one in found:
        table.add_row(one.name, one.version, one.report.kind, ", ".join(one.report.classes),
                      one.source, f"{one.report.test.accuracy:.4f}")  # fmt: skip
    session.console().print(table)


@label.command(epilog="\b\nExample:\n  limner label sample user_data.csv --users 100000")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--users", type=click.IntRange(1), default=100_000, help="How many rows.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Which users.")
@common
@with_session
def sample(session: Session, file: Path, users: int, seed: int) -> None:
    """Write a table of synthetic users of five groups, to try it out."""
    from limner.sources import groups

    if file.exists():
        raise UsageError("is there already, and is left as it is", where=str(file),
                         mend="name another file")  # fmt: skip
    found = groups.sample(users, seed)
    found.write(file)
    if session.json:
        session.emit({"file": str(file), "users": users, "attainable": found.attainable})
        return
    say = session.console().print
    say(f"wrote {users:,} users of {len(groups.GROUPS)} groups to {file}", soft_wrap=True)
    for column, meaning in groups.FEATURES.items():
        say(f"  {column}: {meaning}")
    say(f"the best accuracy that can be reached on them (Bayes): {found.attainable:.4f}")


def _listed(text: str) -> list[str]:
    """The parts between commas, but for those within a key: interests.type["bread, white"]."""
    parts = re.split(r',(?![^\["]*"\])', text)
    return [part.strip() for part in parts if part.strip()]


def _widths(text: str) -> tuple[int, ...]:
    parts = _listed(text)
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"--hidden {text}: no widths", mend="write numbers: --hidden 20,20")
    return tuple(int(part) for part in parts)


def _values(model: LabelModel, text: str) -> dict[str, str]:
    """The features of one user, in the order of the fit or by name; missing where empty."""
    names = [feature.name for feature in model.features]
    parts = [part.strip() for part in text.split(",")]
    if all("=" in part for part in parts):
        given = {name.strip(): value for name, _, value in (part.partition("=") for part in parts)}
        unknown = [name for name in given if name not in names]
        if unknown:
            raise UsageError(
                f"{unknown[0]!r} is no feature of this label", mend=f"use {', '.join(names)}"
            )
        return given
    if len(parts) != len(names):
        raise UsageError(
            f"{len(parts)} values are given for {len(names)} features",
            mend=f"give {', '.join(names)}, in this order; leave one empty if it is missing",
        )
    return dict(zip(names, parts, strict=True))


def _predicted(model: LabelModel, values: dict[str, str], name: str, version: str) -> Predicted:
    row = model.row(values)
    probabilities, moved = model.explained(row)
    return Predicted(
        name,
        version,
        model.classes[int(probabilities[0].argmax())],
        dict(zip(model.classes, probabilities[0].tolist(), strict=True)),
        dict(zip([f.name for f in model.features], moved[0].tolist(), strict=True)),
    )


def _epochs(session: Session, config: LabelConfig) -> Callable[[Epoch], object]:
    """Says each epoch as it ends, if somebody reads along."""
    if session.json:
        return lambda epoch: None

    def say(epoch: Epoch) -> None:
        session.console().print(
            f"Epoch {epoch.epoch}/{config.epochs}  loss {epoch.loss:.4f}  "
            f"validation loss {epoch.validation_loss:.4f}  "
            f"validation accuracy {epoch.validation_accuracy:.4f}  {epoch.seconds:.1f} s"
        )

    return say


def _show(console: Console, found: Fitted) -> None:
    report, test = found.report, found.report.test
    how = f"{report.trees:,} trees" if report.kind == "trees" else "a network"
    console.print(
        f"\n{how} on {report.training:,} rows, {report.validation:,} for validation, "
        f"{test.rows:,} for the test, in {report.seconds:.1f} s"
    )
    if report.left_out:
        console.print(
            f"{report.left_out:,} rows were left out: without a label, or of a class that fewer "
            "than three have",
            style="yellow",
        )
    _table(
        console,
        "On the test rows",
        ("class", "precision", "recall", "F1", "rows"),
        [
            (c.name, f"{c.precision:.3f}", f"{c.recall:.3f}", f"{c.f1:.3f}", f"{c.rows:,}")
            for c in test.classes
        ],
    )
    _table(
        console,
        "Confusion: rows are what they are, columns what was said",
        ("", *report.classes),
        [
            (name, *(f"{n:,}" for n in row))
            for name, row in zip(report.classes, test.confusion, strict=True)
        ],
    )
    console.print(
        f"calibrated with temperature {report.temperature:.2f}: log loss {test.log_loss:.4f} "
        f"(without {report.uncalibrated.log_loss:.4f}), calibration error "
        f"{test.calibration_error:.4f}; always saying the most frequent class would be right "
        f"{test.usual:.4f} of the time"
    )


def _show_predicted(console: Console, found: Predicted) -> None:
    ranked = sorted(found.probabilities.items(), key=lambda one: -one[1])
    _table(console, "", ("class", "probability"), [(name, f"{p:.4f}") for name, p in ranked])
    moved = sorted(found.moved.items(), key=lambda one: -abs(one[1]))[:3]
    listed = ", ".join(f"{name} {share:+.3f}" for name, share in moved)
    console.print(f"{found.predicted}; what moved it most: {listed}", soft_wrap=True)


def _table(
    console: Console, title: str, heads: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    from rich.table import Table

    table = Table(title=title or None, title_justify="left")
    for place, head in enumerate(heads):
        table.add_column(head, justify="right" if place else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)
