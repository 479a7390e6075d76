"""The linter over files and request bodies: reads them as an import would, and records nothing."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from limner.errors import InputError
from limner.events.raw import RawBatch, Refused
from limner.events.rules import CleanConfig
from limner.events.timestamps import to_micros
from limner.sources import files
from limner.sources.columns import Columns, Kind, map_columns
from limner.sources.lint import Known, Lint, LintReport, Problem
from limner.sources.suggest import guess_columns, guess_event_type, guess_time_format, settings_text

_OPTION = {"events": "", "items": "--items ", "users": "--users "}


def validate_file(
    path: Path,
    *,
    kind: Kind = "events",
    config: CleanConfig,
    now: int,
    columns: Mapping[str, str],
    constants: Mapping[str, str],
    items: Known | None = None,
    users: Known | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> LintReport:
    """Check a file, in a stream. Raises InputError if it cannot be read at all."""
    sample = files.sample(path, kind=kind)
    before: list[Problem] = []
    chosen = dict(columns)
    found, lacking = _mapped(sample, kind, chosen, constants, path)
    if found is None:
        guessed = guess_columns(sample, lacking, now=now)
        for field, column in guessed.items():
            before.append(
                Problem("guessed_column", "error", 0,
                        f"no column's name tells the {_WORDS[field]}; {column!r} seems to be it",
                        f"--map {field}={shlex.quote(column)}")
            )  # fmt: skip
        chosen |= guessed
        found, lacking = _mapped(sample, kind, chosen, constants, path)
    if found is not None and kind == "events" and "event_type" not in {*found.fields, *constants}:
        free = {name: sample[name] for name in sample if name not in found.fields.values()}
        if (named := guess_event_type(free)) is not None:
            before.append(
                Problem("guessed_column", "error", 0,
                        f"no column's name tells the event type; {named!r} seems to be it",
                        f"--map event_type={shlex.quote(named)}")
            )  # fmt: skip
            chosen["event_type"] = named
            found, lacking = _mapped(sample, kind, chosen, constants, path)
    lint = Lint(kind, config, now=now, items=items, users=users)
    if found is None:
        said = ", ".join(_WORDS[field] for field in lacking)
        mend = " ".join(f"--map {field}=COLUMN" for field in lacking)
        text = f"no column is known to be {said}; the columns are {', '.join(sample)}"
        return lint.report(str(path), None, [*before, Problem("no_column", "error", 0, text, mend)])
    form = config.time_format or _time_format(sample, found, config)
    if form != config.time_format:
        before.append(
            Problem("time_format", "error", 0, f"times are written as {form}",
                    f"--time-format '{form}'")
        )  # fmt: skip
        lint = Lint(kind, replace(config, time_format=form), now=now, items=items, users=users)
    done = 0
    for raw in files.read_file(
        path, kind=kind, refuse=lint.refuse, columns=chosen, constants=constants, source="file"
    ):
        lint.add(raw)
        done += len(raw)
        if progress is not None:
            progress(kind, done, 0)
    command = _command(path, kind, chosen, constants, form)
    report = lint.report(str(path), found, before, time_format=form, command=command)
    text = settings_text(report.aliases, form, where=str(path), command=command)
    return replace(report, settings=text)


def validate_batches(
    batches: Iterable[RawBatch],
    unreadable: Iterable[Refused],
    *,
    where: str,
    config: CleanConfig,
    now: int,
    items: Known | None = None,
    users: Known | None = None,
) -> LintReport:
    """Check events that were read already, such as those of a request."""
    lint = Lint("events", config, now=now, items=items, users=users)
    for refused in unreadable:
        lint.refuse(refused)
    for raw in batches:
        lint.add(raw)
    return lint.report(where)


def ids_of(path: Path, kind: Kind) -> set[str]:
    """The ids that a file of items or users describes."""
    name = "item_id" if kind == "items" else "user_id"
    found: set[str] = set()
    for raw in files.read_file(path, kind=kind, refuse=lambda _: None, source="file"):
        column = raw.table.column(name).combine_chunks()
        values = column.dictionary if pa.types.is_dictionary(column.type) else column
        found.update(value for value in values.to_pylist() if value is not None)
    return found


_WORDS = {"user_id": "user", "item_id": "item", "timestamp": "time"}
_NEEDED: Mapping[Kind, tuple[str, ...]] = {
    "events": ("user_id", "timestamp"),
    "items": ("item_id",),
    "users": ("user_id",),
}


def _mapped(
    sample: Mapping[str, pa.Array],
    kind: Kind,
    columns: Mapping[str, str],
    constants: Mapping[str, str],
    path: Path,
) -> tuple[Columns | None, list[str]]:
    """(the reading of the columns, []) or (None, the fields for which there is no column)."""
    names = list(sample)
    lacking = []
    for field in _NEEDED[kind]:
        given = dict.fromkeys(set(_NEEDED[kind]) - {field}, "-")
        try:
            map_columns(
                names, kind=kind, columns=columns, constants={**given, **constants}, where=str(path)
            )
        except InputError:
            lacking.append(field)
    if lacking:
        return None, lacking
    return map_columns(names, kind=kind, columns=columns, constants=constants, where=str(path)), []


def _time_format(sample: Mapping[str, pa.Array], found: Columns, config: CleanConfig) -> str | None:
    column = found.fields.get("timestamp")
    if column is None:
        return None
    texts = sample[column].drop_null()
    times = to_micros(texts, tz=config.tz)
    unread = pc.unique(texts.filter(pa.array(times.unreadable))).to_pylist()
    if int(times.unreadable.sum()) * 2 <= len(texts):
        return None
    return guess_time_format([text for text in unread if text.strip()])


def _command(
    path: Path,
    kind: Kind,
    columns: Mapping[str, str],
    constants: Mapping[str, str],
    form: str | None,
) -> str:
    def options() -> Iterator[str]:
        for field, column in columns.items():
            yield f"--map {shlex.quote(f'{field}={column}')}"
        for field, value in constants.items():
            yield f"--set {shlex.quote(f'{field}={value}')}"
        if form is not None and kind == "events":
            yield f"--time-format {shlex.quote(form)}"

    return " ".join(["limner import " + _OPTION[kind] + shlex.quote(str(path)), *options()])
