"""What cleaning did, and the rows it refused: look at them, mend and readmit them, or drop them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec

from limner.cli.session import Session, common, pairs, url_option, with_session
from limner.errors import InputError

PATH = "/v1/quarantine"


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which rows a command is about."""

    ids: tuple[int, ...]
    rule: str | None
    import_id: int | None


def _choosing(command: Any) -> Any:
    for option in (
        click.option("--import", "import_id", type=int, metavar="ID", help="All of this import."),
        click.option("--rule", metavar="NAME", help="All that this rule refused."),
        click.argument("ids", nargs=-1, type=int, metavar="[ID]..."),
    ):
        command = option(command)
    return command


@click.command(epilog="\b\nExample:\n  limner clean --all")
@click.option("--all", "all_", is_flag=True, help="Rules that have touched nothing too.")
@url_option
@common
@with_session
def clean(session: Session, all_: bool, url: str) -> None:
    """Say what the rules of cleaning have refused and flagged so far, each with an example."""
    from limner.app.preprocessing import CleaningReport
    from limner.cli import show

    if url:
        found = session.remote(url).ask("GET", "/v1/cleaning", CleaningReport)
    else:
        with session.open(write=False) as app:
            found = app.cleaning()
    if not all_:
        rules = tuple(rule for rule in found.rules if rule.touched)
        found = CleaningReport(rules, found.usual, found.day_bound)
    if session.json:
        session.emit(found)
    else:
        show.cleaning(session.console(), found)


@click.group(
    invoke_without_command=True,
    epilog="\b\nExamples:\n  limner quarantine list --rule bad_time\n"
    "  limner quarantine readmit 12 --set timestamp=2024-03-01\n"
    "  limner quarantine drop --import 3",
)
@common
@click.pass_context
def quarantine(context: click.Context) -> None:
    """The rows that were refused: list, show, readmit or drop them. Alone: list."""
    if context.invoked_subcommand is None:
        context.invoke(list_)


@quarantine.command("list", epilog="\b\nExample:\n  limner quarantine list --import 3")
@click.option("--import", "import_id", type=int, metavar="ID", help="Of this import only.")
@click.option("--rule", metavar="NAME", help="Refused by this rule only.")
@click.option("--limit", type=click.IntRange(1), default=20, help="How many rows, at most.")
@url_option
@common
@with_session
def list_(
    session: Session,
    import_id: int | None = None,
    rule: str | None = None,
    limit: int = 20,
    url: str = "",
) -> None:
    """List refused rows, the newest first, with their numbers, why, and how to mend them."""
    from limner.cli import show
    from limner.serve.answers import Quarantined

    if url:
        found = session.remote(url).ask(
            "GET", PATH, Quarantined, import_id=import_id, rule=rule, limit=limit
        )
    else:
        with session.open(write=False) as app:
            held = app.quarantine
            found = Quarantined(
                held.counts(), held.rows(limit=limit, import_id=import_id, rule=rule)
            )
    if session.json:
        session.emit(found)
    else:
        show.quarantine(session.console(), found.counts, found.rows)


@quarantine.command("show", epilog="\b\nExample:\n  limner quarantine show 12")
@click.argument("row_id", type=int, metavar="ID")
@url_option
@common
@with_session
def show_(session: Session, row_id: int, url: str) -> None:
    """Show the refused row with the number ID, every field of it."""
    from limner.cli import show
    from limner.events.raw import Refused

    if url:
        found = session.remote(url).ask("GET", f"{PATH}/{row_id}", Refused)
    else:
        with session.open(write=False) as app:
            found = app.quarantine.row(row_id)
    if session.json:
        session.emit(found)
    else:
        show.refused(session.console(), found)


@quarantine.command(
    "readmit",
    epilog="\b\nExamples:\n  limner quarantine readmit --rule bad_time\n"
    "  limner quarantine readmit 12 13 --set event_type=purchase\n"
    "  limner quarantine readmit --file corrected.jsonl",
)
@_choosing
@click.option("--set", "sets", multiple=True, metavar="FIELD=VALUE",
              help="Correct a field of all of them.")  # fmt: skip
@click.option("--file", "file", type=click.Path(path_type=Path), metavar="FILE",
              help="Corrected rows, one JSON object a line, each with its row_id.")  # fmt: skip
@url_option
@common
@with_session
def readmit(
    session: Session,
    ids: tuple[int, ...],
    rule: str | None,
    import_id: int | None,
    sets: tuple[str, ...],
    file: Path | None,
    url: str,
) -> int:
    """Send refused rows through the door again: corrected, or after a setting has changed.

    Rows that are admitted leave the quarantine and count as the events they would have been. Rows
    that are refused again stay, with the new reason. Without --set or --file they go as they are.
    """
    from limner.app.quarantine import Readmitted
    from limner.cli import show

    change, corrected = pairs(sets, "--set"), _corrected(file)
    if url:
        body = {"ids": ids, "rule": rule, "import_id": import_id, "set": change, "rows": corrected}
        done = session.remote(url).ask("POST", f"{PATH}/readmit", Readmitted, body=body)
    else:
        with session.open(write=True) as app:
            done = app.quarantine.readmit(
                ids, rule=rule, import_id=import_id, change=change, corrected=corrected
            )
    if session.json:
        session.emit(done)
    else:
        show.readmitted(session.console(), done)
    return 1 if done.refused and not (done.added or done.repeated) else 0


@quarantine.command("drop", epilog="\b\nExample:\n  limner quarantine drop 12 13")
@_choosing
@url_option
@common
@with_session
def drop(
    session: Session, ids: tuple[int, ...], rule: str | None, import_id: int | None, url: str
) -> None:
    """Give refused rows up for good: read again, they are not held again."""
    from limner.serve.answers import Dropped

    if url:
        body = {"ids": ids, "rule": rule, "import_id": import_id}
        done = session.remote(url).ask("POST", f"{PATH}/drop", Dropped, body=body)
    else:
        with session.open(write=True) as app:
            done = Dropped(app.quarantine.drop(ids, rule=rule, import_id=import_id))
    if session.json:
        session.emit(done)
    else:
        session.console().print(f"{done.dropped:,} refused rows are given up")


def _corrected(file: Path | None) -> Sequence[dict[str, Any]]:
    """The rows of a file of JSON lines. Raises InputError for a line that is no object."""
    if file is None:
        return []
    if not file.is_file():
        raise InputError("there is no such file", where=str(file), mend="check the path")
    rows = []
    for line, text in enumerate(file.read_bytes().splitlines(), 1):
        if not text.strip():
            continue
        try:
            rows.append(msgspec.json.decode(text, type=dict[str, Any]))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InputError(
                f"line {line} is no JSON object ({error})",
                where=str(file),
                mend='write one a line: {"row_id": 7, "timestamp": "2024-03-01"}',
            ) from None
    return rows
