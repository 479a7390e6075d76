"""Measuring how good the lists are: of a store, or of a file beside any store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from limner.cli.session import Session, common, moment_of, pairs, with_session
from limner.errors import UsageError

if TYPE_CHECKING:
    from limner.config import Config
    from limner.evaluate.ranked import Report
    from limner.model.protocol import ItemFeatures, Model, Progress

EPILOG = """\b
Examples:
  limner evaluate --cutoff 2017-12-01
  limner evaluate --protocol loo ml-100k/ml-100k.inter --seeds 3
  limner evaluate --protocol time ratings.dat --models popularity,item_to_item
  limner evaluate --protocol off-policy shown.jsonl"""


@click.command(epilog=EPILOG)
@click.argument("data", required=False, type=click.Path(path_type=Path))
@click.option(
    "--protocol",
    type=click.Choice(["basket", "loo", "time", "prequential", "off-policy"]),
    help="What is asked; loo for a file and basket for the store, if not given.",
)
@click.option("--cutoff", metavar="DATE", help="Basket: train before it, ask after it.")
@click.option(
    "--validation-cutoff", metavar="DATE", help="Basket: where the blend's weights are learned."
)
@click.option(
    "--items", type=click.Path(path_type=Path), help="The items' attributes, if not beside DATA."
)
@click.option(
    "--map", "columns", multiple=True, metavar="FIELD=COLUMN", help="Name a column of DATA."
)
@click.option("--models", metavar="NAME,…", help="Only these families, instead of all.")
@click.option("--seeds", type=click.IntRange(1), default=1, help="How many seeds: 0, 1, …")
@click.option("--refit", is_flag=True, help="Loo: learn the validation's items before the test.")
@click.option("--query-time", is_flag=True, help="Loo: the moment of asking is known.")
@click.option(
    "--share", type=click.FloatRange(0.0, 0.9, True, True), default=0.1,
    help="Time, prequential: the last part of time that is asked, a tenth if not given.",
)  # fmt: skip
@click.option(
    "--windows", type=click.IntRange(1), default=10, help="Prequential: how often models learn."
)
@click.option(
    "--validation-only", is_flag=True, help="Do not read the test: to choose between settings."
)
@common
@with_session
def evaluate(
    session: Session,
    /,
    data: Path | None,
    protocol: str | None,
    cutoff: str | None,
    validation_cutoff: str | None,
    **options: Any,
) -> None:
    """Measure the lists on what users did next, beside simple baselines.

    Reads DATA (a file, or a folder of a known data set) without a store, or else the store.
    Off-policy: what another policy would have earned, from a file of what was shown.
    """
    from limner.cli import show

    chosen = protocol or ("basket" if data is None else "loo")
    if chosen != "basket":
        if cutoff or validation_cutoff:
            raise UsageError(
                "--cutoff is for --protocol basket", mend="leave it out, or use --share"
            )
        if chosen == "off-policy":
            _off_policy(session, data)
            return
        with session.progress() as progress:
            found = _ranked(session, data, chosen, options, progress)
        if session.json:
            session.emit(found.to_json())
        else:
            _show(session, found)
        return
    if data is not None:
        raise UsageError(
            "--protocol basket measures the store",
            mend="import the file and leave it out here, or use --protocol loo, time, prequential",
        )
    test, validation = moment_of(session, cutoff), moment_of(session, validation_cutoff)
    with session.progress() as progress, session.open(write=False, progress=progress) as app:
        report = app.evaluate(cutoff=test, validation_cutoff=validation, progress=progress)
    if session.json:
        session.emit(report.to_json())
    else:
        show.report(session.console(), report)


def _off_policy(session: Session, data: Path | None) -> None:
    from limner.evaluate.logged import read_log
    from limner.evaluate.off_policy import estimate

    if data is None:
        raise UsageError("--protocol off-policy needs a file of what was shown",
                         mend="name one: JSON Lines, an item shown a line")  # fmt: skip
    found = estimate(*read_log(data))
    if session.json:
        session.emit(found.to_json())
        return
    from rich.table import Table

    console = session.console()
    console.print(
        f"{found.rows:,} rows, worth {found.effective_rows:,.0f} of the policy's own; their mean "
        f"reward {found.logged_mean:.4f}; weights: mean {found.mean_weight:.3f}, largest "
        f"{found.largest_weight:,.1f}"
    )
    table = Table("", "mean reward under the policy", title="Off-policy", title_justify="left")
    for name, one in found.values.items():
        table.add_row(name, _cell(one))
    console.print(table)
    console.print("in brackets the 95 % interval (bootstrap)")


def _ranked(
    session: Session, data: Path | None, protocol: str, options: dict[str, Any], progress: Progress
) -> Report:
    from limner.evaluate import protocols
    from limner.sources.dataset import load, with_content

    given: dict[str, Any] = {"seeds": range(options["seeds"]), "progress": progress}
    given["test"] = not options["validation_only"]
    if data is None:
        with session.open(write=False, progress=progress) as app:
            interactions, features = app.training_data()
        given |= {"name": session.settings().store, "timed": True}
    else:
        found = load(data, items=options["items"], columns=pairs(options["columns"], "--map"))
        found = with_content(found, session.settings().encoders, progress=progress)
        interactions, features = found.interactions, found.features
        given |= {"name": found.name, "timed": found.timed}
        for note in found.notes:
            click.echo(f"note: {note}", err=True)
        if found.left_out:
            click.echo(f"note: {found.left_out:,} rows were left out", err=True)
    given["make"] = _models(options["models"], features, session.settings())
    run: Callable[..., Report]
    if protocol == "loo":
        run = protocols.loo
        given |= {"refit": options["refit"], "query_time": options["query_time"]}
    elif protocol == "time":
        run, given["share"] = protocols.in_time, options["share"]
    else:
        run = protocols.prequential
        given |= {"share": options["share"], "windows": options["windows"]}
    return run(interactions, features, **given)


def _models(
    names: str | None, features: ItemFeatures, settings: Config
) -> Callable[[int], dict[str, Model]]:
    """All families that can work here, or those that are named, as configured."""
    from limner.model.blend import FAMILIES
    from limner.model.training import families

    wanted = [name.strip() for name in (names or "").split(",") if name.strip()]
    if unknown := [name for name in wanted if name not in FAMILIES]:
        raise UsageError(
            f"there is no family {unknown[0]!r}", mend=f"choose from {', '.join(FAMILIES)}"
        )

    def make(seed: int) -> dict[str, Model]:
        sequence = settings.sequence if wanted or settings.train.sequence else None
        every = families(features, seed=seed, sequence=sequence)
        if not wanted:
            return every
        return {name: every[name] if name in every else FAMILIES[name]() for name in wanted}

    return make


def _show(session: Session, found: Report) -> None:
    console = session.console()
    data = found.data
    how = "refit with the validation" if found.refit else "strict"
    console.print(
        f"{found.protocol} on {data['name']}: {data['users']:,} users, {data['items']:,} items, "
        f"{data['events']:,} events; {found.questions:,} questions, all items ranked, {how}"
    )
    measured = found.systems if found.test else found.validation
    from rich.table import Table

    table = Table(title="Test" if found.test else "Validation", title_justify="left")
    for column in ("", f"HR at {found.k}", f"NDCG at {found.k}", f"{found.main} − it, NDCG", "s"):
        table.add_column(column, justify="right" if column else "left")
    for name in measured:
        cells = []
        for metric in ("hit_rate", "ndcg"):
            if found.test:
                cells.append(_cell(found.systems[name][metric]))
            else:
                cells.append(f"{found.validation[name][metric]:.4f}")
        lead = found.differences.get(name)
        cells.append(_cell(lead["ndcg"], sign="+") if lead else "")
        seconds = found.seconds.get(name)
        cells.append("" if seconds is None else f"{seconds:.1f}")
        mark = " *" if name == found.best_baseline else ""
        table.add_row(name + mark, *cells, style="bold" if name == found.main else "")
    console.print(table)
    if found.test:
        console.print("* the best baseline; in brackets the 95 % interval (bootstrap, paired)")
    for window in found.windows:
        lead = window["systems"].get(found.main, {}).get("ndcg")
        said = "nothing" if lead is None else f"NDCG {lead:.4f}"
        console.print(f"  window of {window['questions']:,} questions: {said}")


def _cell(found: Any, sign: str = "") -> str:
    return f"{found.mean:{sign}.4f} [{found.low:{sign}.4f}, {found.high:{sign}.4f}]"
