"""What goes in and what goes out: import, erase."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from limner.cli.session import Session, common, pairs, url_option, with_session
from limner.errors import InputError, UsageError

if TYPE_CHECKING:
    from limner.app import Erased, Limner
    from limner.config import Config
    from limner.events.raw import Refused
    from limner.model.protocol import Progress
    from limner.sources.columns import Kind


@dataclass(frozen=True, slots=True)
class Example:
    """A refused row, as an example of a rule."""

    line: int
    row: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Complaint:
    """What one rule refused: how many rows, why, how to mend them, and the first of them."""

    rule: str
    rows: int
    reason: str
    mend: str
    examples: list[Example]


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of one file."""

    file: str
    kind: Kind
    import_id: int | None
    rows: int
    added: int
    repeated: int
    refused: list[Complaint]
    flagged: dict[str, int]
    seconds: float
    rate: float = field(default=0.0)


@dataclass(frozen=True, slots=True)
class Job:
    """One file to import. Raises InputError if it is not there, before any file is imported."""

    kind: Kind
    path: Path
    source: str
    columns: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.path.is_file():
            raise InputError("there is no such file", where=str(self.path), mend="check the path")

    def named(self, progress: Progress) -> Progress:
        """The same progress, with the file's name in the stage."""
        return lambda stage, done, total: progress(f"{self.path.name}: {stage}", done, total)


@click.command(
    "import",
    epilog="\b\nExamples:\n  limner import events.csv --items items.csv --users users.csv\n"
    "  limner import sales.csv --map user_id=buyer --map timestamp=day --set event_type=purchase\n"
    "  limner import --undo 3",
)
@click.argument("files", nargs=-1, metavar="[FILE]...", type=click.Path(path_type=Path))
@click.option("--items", multiple=True, metavar="FILE", type=click.Path(path_type=Path),
              help="A file of items and their attributes.")  # fmt: skip
@click.option("--users", multiple=True, metavar="FILE", type=click.Path(path_type=Path),
              help="A file of users and their declared attributes.")  # fmt: skip
@click.option("--map", "maps", multiple=True, metavar="FIELD=COLUMN",
              help="Which column a field is, where its name does not tell.")  # fmt: skip
@click.option("--set", "sets", multiple=True, metavar="FIELD=VALUE",
              help="A value that all rows have in common.")  # fmt: skip
@click.option("--source", default="file", metavar="NAME",
              help="Where the rows come from; with an event's id it makes it unique.")  # fmt: skip
@click.option("--time-format", metavar="FORMAT", help="How times are written: '%d/%m/%Y %H:%M'.")
@click.option("--undo", type=int, metavar="ID", help="Take an import back, as if it never was.")
@click.option("--list", "list_", is_flag=True, help="List the imports so far.")
@url_option
@common
@with_session
def import_(
    session: Session,
    files: tuple[Path, ...],
    items: tuple[Path, ...],
    users: tuple[Path, ...],
    maps: tuple[str, ...],
    sets: tuple[str, ...],
    source: str,
    time_format: str | None,
    undo: int | None,
    list_: bool,
    url: str,
) -> int | None:
    """Import events from FILEs; CSV, TSV, Parquet, JSON Lines or JSON.

    Columns are found by their names. Rows that cannot be used are set aside with the reason (see
    limner quarantine) and do not stop the rest. A row imported before changes nothing, so an
    import that was interrupted is simply started again.

    --map and --set are for the event FILEs; items or users that need them are imported by a
    command of their own.
    """
    from limner.cli import show

    columns, constants = pairs(maps, "--map"), pairs(sets, "--set")
    kinds: dict[Kind, tuple[Path, ...]] = {"items": items, "users": users, "events": files}
    mapped: Kind = next((kind for kind in ("events", "items", "users") if kinds[kind]), "events")
    jobs = [
        Job(kind, path, source, columns, constants) if kind == mapped else Job(kind, path, source)
        for kind, paths in kinds.items()
        for path in paths
    ]
    if list_ or undo is not None:
        if jobs or url:
            raise UsageError("--list and --undo are about the store", mend="give them alone")
        if undo is not None:
            _undo(session, undo)
        else:
            _list(session)
        return 0
    if not jobs:
        raise UsageError("no file is given", mend="limner import events.csv --items items.csv")
    settings = session.settings()
    if time_format:
        if url:
            raise UsageError("--time-format is not for --url",
                             mend="set it under [clean] where the server runs")  # fmt: skip
        settings = replace(settings, clean=replace(settings.clean, time_format=time_format))
    found = _send(session, url, jobs) if url else _take(session, settings, jobs)
    if session.json:
        session.emit({"imports": found})
    else:
        show.imports(session.console(), found)
    rows, kept = sum(one.rows for one in found), sum(one.added + one.repeated for one in found)
    return 1 if rows and not kept else 0


def _take(session: Session, settings: Config, jobs: list[Job]) -> list[Summary]:
    """Import into the store."""
    out = []
    with session.progress() as progress, session.open(
        write=True, settings=settings, progress=progress
    ) as app:  # fmt: skip
        for job in jobs:
            done = app.import_file(
                job.path, kind=job.kind, columns=job.columns, constants=job.constants,
                source=job.source, progress=job.named(progress),
            )  # fmt: skip
            entry, refused = done.entry, app.disclosed(done.refused)
            out.append(
                Summary(
                    str(job.path), job.kind, entry.import_id, entry.rows, entry.added,
                    entry.repeated, complaints(refused, done.found), flags(done.found),
                    done.seconds, done.rate,
                )
            )  # fmt: skip
    return out


def _send(session: Session, url: str, jobs: list[Job]) -> list[Summary]:
    """Send to a running server."""
    remote = session.remote(url)
    out = []
    with session.progress() as progress:
        for job in jobs:
            started = time.perf_counter()
            done, refused = remote.import_file(
                job.path, kind=job.kind, columns=job.columns, constants=job.constants,
                source=job.source, progress=job.named(progress),
            )  # fmt: skip
            seconds = time.perf_counter() - started
            rows = done.added + done.repeated + len(refused)
            found = Counter(row.rule for row in refused)
            out.append(
                Summary(
                    str(job.path), job.kind, None, rows, done.added, done.repeated,
                    complaints(refused, found), {}, seconds, rows / seconds,
                )
            )  # fmt: skip
    return out


def complaints(refused: Sequence[Refused], found: Mapping[str, int]) -> list[Complaint]:
    """What each rule refused, the most first; `refused` are the rows that are at hand.

    At most three of them are examples. `found` counts what cleaning said by rule, flags too.
    """
    from limner.events.rules import RULES

    at_hand: dict[str, list[Refused]] = {}
    for row in refused:
        at_hand.setdefault(row.rule, []).append(row)
    flagged = flags(found)
    out = []
    for rule in [*at_hand, *(rule for rule in found if rule not in at_hand)]:
        rows = at_hand.get(rule, [])
        if rule in flagged or not (rows or found[rule]):
            continue
        reason, _, mend = rows[0].reason.partition("; to mend it: ") if rows else ("", "", "")
        known = RULES.get(rule)
        out.append(
            Complaint(
                rule,
                max(found.get(rule, 0), len(rows)),
                reason or (known.reason if known else rule.replace("_", " ")),
                mend or (known.mend if known else "see limner quarantine"),
                [Example(row.line, shown(row.row)) for row in rows[:3]],
            )
        )
    return sorted(out, key=lambda complaint: -complaint.rows)


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """The fields of a refused row that say something."""
    inner = {"line", "source", "received_at", "import_id", "flags"}
    return {name: value for name, value in row.items() if value is not None and name not in inner}


def flags(found: Mapping[str, int]) -> dict[str, int]:
    """What cleaning noticed and kept, by rule."""
    from limner.events.rules import RULES

    return {rule: int(n) for rule, n in found.items() if rule in RULES and RULES[rule].bit and n}


def _undo(session: Session, import_id: int) -> None:
    with session.progress() as progress, session.open(write=True, progress=progress) as app:
        gone = app.undo_import(import_id, progress=progress)
    if session.json:
        session.emit({"import_id": import_id, "removed": gone})
    else:
        session.console().print(f"import {import_id} is undone: {gone:,} rows are gone")


def _list(session: Session) -> None:
    from limner.cli import show

    with session.open(write=False) as app:
        entries = app.store.imports.entries()
    if session.json:
        session.emit({"imports": entries})
    else:
        show.ledger(session.console(), entries)


@click.command(epilog="\b\nExample:\n  limner alias visitor-8f2 1643")
@click.argument("previous", metavar="PREVIOUS_ID")
@click.argument("user")
@url_option
@common
@with_session
def alias(session: Session, previous: str, user: str, url: str) -> int | None:
    """Say that PREVIOUS_ID, of a visitor not yet known, was USER: their histories become one."""
    from limner.cli.remote import user_path
    from limner.serve.answers import Accepted

    if url:
        path, body = user_path(user, "alias"), {"previous_id": previous}
        done = session.remote(url).ask("PUT", path, Accepted, body=body)
    else:
        with session.open(write=True) as app:
            found = app.alias(previous, user)
        if found.refused:
            reason, _, mend = found.refused[0].reason.partition("; to mend it: ")
            raise InputError(reason, where=previous, mend=mend)
        done = Accepted(found.added, found.repeated, [], found.as_of)
    if session.json:
        session.emit(done)
    else:
        session.console().print(f"{previous} and {user} are one user, as if known from the start")
    return 0


@click.command(epilog="\b\nExample:\n  limner expire")
@common
@with_session
def expire(session: Session) -> None:
    """Take out what is kept no longer: events by `retention`, and what `expires_at` ends."""
    with session.progress() as progress, session.open(write=True, progress=progress) as app:
        done = app.expire(progress=progress)
    if session.json:
        session.emit(done)
    else:
        rows = f"{done.rows:,} rows of {done.users:,} users are gone"
        session.console().print(f"{rows}, and {done.items:,} items from the lists")


@click.command(epilog="\b\nExample:\n  limner erase 1643 --yes")
@click.argument("user")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--retrain", is_flag=True, help="Train the models anew without the user, at once.")
@url_option
@common
@with_session
def erase(session: Session, user: str, yes: bool, retrain: bool, url: str) -> int | None:
    """Erase USER for good from everything that keeps data, and show the receipt."""
    from limner.app import Erased
    from limner.cli import show
    from limner.cli.remote import user_path

    if url:
        if not _sure(session, user, yes):
            return 1
        remote = session.remote(url)
        done = remote.ask("POST", user_path(user, "erase"), Erased)
        if retrain:
            with session.progress() as progress:
                remote.train(progress)
            done = _trained_anew(done)
    else:
        with session.open(write=True) as app:
            _known(app, user)
            if not _sure(session, user, yes):
                return 1
            done = app.erase(user)
            if retrain and done.retrain:
                with session.progress() as progress:
                    app.train(progress=progress)
                done = _trained_anew(done)
    if session.json:
        session.emit(done)
    else:
        show.receipt(session.console(), user, done)
    return 0 if all(done.clean.values()) else 1


def _trained_anew(done: Erased) -> Erased:
    """The receipt once a training has left the user out."""
    model = None if done.model is None else replace(done.model, due=[])
    return replace(done, retrain=False, model=model)


def _known(app: Limner, user: str) -> None:
    """Raise NotFound before anything is asked, if nothing is kept of this user."""
    pseudonym = app.keys.pseudonym(user)
    if not any(part.holds(pseudonym) for part in app.erasables()):
        app.known_row(user)


def _sure(session: Session, user: str, yes: bool) -> bool:
    if yes:
        return True
    if session.json or not sys.stdin.isatty():
        raise UsageError("there is nobody to ask whether it is meant", mend="add --yes")
    if click.confirm(f"Erase user {user!r} for good?"):
        return True
    click.echo("nothing was erased")
    return False
