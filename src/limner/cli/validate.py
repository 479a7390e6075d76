"""Checking data before it is imported."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from limner.cli.session import Session, common, pairs, with_session
from limner.errors import InputError, UsageError

if TYPE_CHECKING:
    from limner.sources.columns import Kind
    from limner.sources.lint import Known, LintReport


@click.command(
    epilog="\b\nExamples:\n  limner validate events.csv --items items.csv\n"
    "  limner validate sales.csv --map user_id=buyer --write-config limner.toml\n"
    "  zcat events.jsonl.gz | limner validate -"
)
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--items", "item_file", metavar="FILE", type=click.Path(path_type=Path),
              help="A file of items: checked too; which events name none of them?")  # fmt: skip
@click.option("--users", "user_file", metavar="FILE", type=click.Path(path_type=Path),
              help="A file of users, likewise.")  # fmt: skip
@click.option("--map", "maps", multiple=True, metavar="FIELD=COLUMN",
              help="Which column a field is, where its name does not tell.")  # fmt: skip
@click.option("--set", "sets", multiple=True, metavar="FIELD=VALUE",
              help="A value that all rows have in common.")  # fmt: skip
@click.option("--time-format", metavar="FORMAT", help="How times are written: '%d/%m/%Y %H:%M'.")
@click.option("--write-config", metavar="FILE", type=click.Path(path_type=Path),
              help="Write the suggested limner.toml there.")  # fmt: skip
@common
@with_session
def validate(
    session: Session,
    file: Path,
    item_file: Path | None,
    user_file: Path | None,
    maps: tuple[str, ...],
    sets: tuple[str, ...],
    time_format: str | None,
    write_config: Path | None,
) -> int:
    """Check FILE (or - for standard input) before it is imported; nothing is recorded.

    Says what an import would refuse and why, with the lines, and what looks odd: times in another
    unit, unknown event types, ids that are described nowhere, sessions of inhuman speed. Suggests
    how to read the file. With --store, ids are looked up in that store too.
    """
    from limner.cli import show_validate
    from limner.sources.validate import ids_of, validate_file

    if write_config is not None and write_config.exists():
        raise UsageError(
            "there is a file already", where=str(write_config), mend="name another, or move it"
        )
    for given in (file, item_file, user_file):
        if given is not None and str(given) != "-" and not given.is_file():
            raise InputError("there is no such file", where=str(given), mend="check the path")
    settings = session.settings()
    config = settings.clean
    if time_format:
        config = replace(config, time_format=time_format)
    now = time.time_ns() // 1_000
    columns, constants = pairs(maps, "--map"), pairs(sets, "--set")
    reports: list[LintReport] = []
    with session.progress() as progress, _known(session) as (items, users), _spooled(file) as path:
        extras: tuple[tuple[Kind, Path | None], ...] = (("items", item_file), ("users", user_file))
        for kind, extra in extras:
            if extra is None:
                continue
            reports.append(
                validate_file(
                    extra, kind=kind, config=config, now=now, columns={}, constants={},
                    progress=progress,
                )
            )  # fmt: skip
            if not reports[-1].map:
                continue  # no column of ids is known
            ids = ids_of(extra, kind)
            if kind == "items":
                items = _either(ids, items)
            else:
                users = _either(ids, users)
        report = validate_file(
            path, config=config, now=now, columns=columns, constants=constants,
            items=items, users=users, progress=progress,
        )  # fmt: skip
        reports.append(replace(report, where=str(file)) if path != file else report)
    if write_config is not None and reports[-1].settings:
        write_config.write_text(reports[-1].settings, "utf-8")
    if session.json:
        session.emit({"files": reports, "errors": sum(one.errors for one in reports)})
    else:
        for report in reports:
            show_validate.report(session.console(), report)
    return 1 if any(report.errors for report in reports) else 0


@contextmanager
def _known(session: Session) -> Iterator[tuple[Known | None, Known | None]]:
    """What the store of `--store` knows of items and users; nothing without one."""
    if not session.store:
        yield None, None
        return
    with session.open(write=False) as app:
        ids = app.state.catalog.ids
        yield (lambda item: ids.code(item) >= 0), (lambda user: app._row(user) >= 0)


def _either(ids: set[str], other: Known | None) -> Known:
    return lambda one: one in ids or (other is not None and other(one))


@contextmanager
def _spooled(file: Path) -> Iterator[Path]:
    """The file, or what standard input brings as one, told by its first character."""
    if str(file) != "-":
        yield file
        return
    with tempfile.TemporaryDirectory() as folder:
        start = sys.stdin.buffer.read(1 << 16)
        head = start.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
        path = Path(folder) / ("rows.jsonl" if head == b"{" else "rows.json" if head == b"["
                               else "rows.csv")  # fmt: skip
        with path.open("wb") as out:
            while start:
                out.write(start)
                start = sys.stdin.buffer.read(1 << 20)
        yield path
