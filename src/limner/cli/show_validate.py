"""What the linter found, drawn in the terminal, in words for everybody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from limner.cli.show import date, gauge
from limner.sources.lint import LintReport, Problem

_MARKS = {"error": ("✗", "bold red"), "warning": ("!", "yellow"), "note": ("·", "dim")}


def sparkline(counts: Sequence[int], width: int = 60) -> str:
    """Counts as a line of bars; neighbours are added where there are more than `width`.

    >>> sparkline([0, 1, 4, 8])
    ' ▁▄█'
    """
    parts = np.array_split(np.asarray(counts, dtype=np.float64), min(width, max(len(counts), 1)))
    sums = np.array([part.sum() for part in parts])
    top = sums.max(initial=0) or 1
    return "".join(" ▁▂▃▄▅▆▇█"[int(np.ceil(8 * value / top))] for value in sums)


def report(console: Console, found: LintReport) -> None:
    """One file: what is in it, and what is wrong with it."""
    console.print(Text.assemble((found.where, "bold"), f"  {found.kind}"))
    bad = found.rows - found.good
    console.print(f"{found.rows:,} rows, {found.good:,} good" + (f", {bad:,} would be refused"
                                                                   if bad else ""))  # fmt: skip
    if found.days:
        console.print(
            f"{found.users:,} users, {found.items:,} items, from {date(found.first)} to "
            f"{date(found.last)} UTC"
        )
        days = _every_day(found.days)
        each = f"{len(days):,} days" if len(days) > 1 else "one day"
        console.print(f"Events a day over {each}, at most {max(days):,}:")
        console.print("  " + sparkline(days))
    if len(found.types) > 1 or found.kind == "events":
        _types(console, found)
    if found.map:
        said = ", ".join(f"{field} = {column}" for field, column in found.map.items())
        console.print(Text(f"Read as: {said}", "dim"))
    for problem in found.problems:
        _problem(console, problem)
    if not found.problems:
        console.print("Nothing is wrong with it.", style="green")
    if found.command and found.kind == "events":
        console.print(Text(f"To import it:  {found.command}"))


def _types(console: Console, found: LintReport) -> None:
    whole = max(sum(found.types.values()), 1)
    table = Table(box=None, show_header=False, padding=(0, 2))
    for name, n in list(found.types.items())[:12]:
        near = found.aliases.get(name)
        label = Text(name) if near is None else Text(f"{name} (did you mean {near}?)", "yellow")
        table.add_row(label, Text(f"{n:,}"), Text(gauge(n / whole, 20)))
    if len(found.types) > 12:
        table.add_row(f"and {len(found.types) - 12} more", "", "")
    if found.types:
        console.print(table)


def _problem(console: Console, problem: Problem) -> None:
    mark, style = _MARKS[problem.level]
    rows = f"{problem.rows:,} rows: " if problem.rows else ""
    console.print(Text(f"{mark} {rows}{problem.text}", style))
    if problem.lines:
        named = ", ".join(map(str, problem.lines))
        more = ", …" if problem.rows > len(problem.lines) else ""
        said = f", for instance {problem.example}" if problem.example else ""
        console.print(Text(f"    lines {named}{more}{said}", "dim"))
    if problem.mend:
        console.print(Text(f"    to mend it: {problem.mend}"))


def _every_day(days: Mapping[str, int]) -> list[int]:
    """Counts of all days from the first to the last, those without events too."""
    first, last = np.datetime64(min(days)), np.datetime64(max(days))
    return [days.get(str(day), 0) for day in np.arange(first, last + 1)]
