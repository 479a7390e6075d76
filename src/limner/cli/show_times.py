"""Jobs and changes, drawn in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from limner.app import Run
from limner.cli.show import date
from limner.profile.changes import Change
from limner.profile.words import ago, length


def schedule(console: Console, runs: Sequence[Run], now: int) -> None:
    """Each job: when, how it went the last time, and when next."""
    if not runs:
        console.print("nothing is scheduled: set refresh under [refresh], [train] or a facet")
        return
    table = Table(title_justify="left")
    for name in ("job", "refresh", "last run", "outcome", "next run (UTC)"):
        table.add_column(name, overflow="fold")
    for run in runs:
        table.add_row(*map(Text, (run.name, run.refresh, _last(run, now), _outcome(run),
                                  _next(run, now))))  # fmt: skip
    console.print(table)


def _last(run: Run, now: int) -> str:
    if run.started is None:
        return "never"
    took = "" if run.seconds is None else f", took {run.seconds:.1f} s"
    return ago(max(now - run.started, 0)) + took


def _outcome(run: Run) -> str:
    said = run.said or run.error
    return "" if run.outcome == "never" else f"{run.outcome}{': ' * bool(said)}{said}"


def _next(run: Run, now: int) -> str:
    if run.next_run is None or run.next_run <= now:
        return "when a server runs"
    return f"{date(run.next_run)}, in {length(run.next_run - now)}"


def change(console: Console, found: Change) -> None:
    """One change: who, what, before and after."""
    who = found.user_id or f"(erased {found.user[:8]})"
    before = found.before.text if found.before else "nothing"
    after = found.after.text if found.after else "nothing"
    what = {"interest_shift": "interest shifts", "portrait_changed": "changes"}.get(
        found.kind, found.kind.replace("audience_", "")
    )
    console.print(
        Text.assemble(
            (f"{found.id}  {date(found.time)}  ", "dim"), (f"user {who}", "bold"),
            f": {found.slot} {what}: {before} → {after}",
        ),
        soft_wrap=True,
    )  # fmt: skip
