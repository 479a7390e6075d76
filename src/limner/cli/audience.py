"""Questions about many users: audiences, and the population they are compared with."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from limner.cli.session import Session, common, url_option, with_session
from limner.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from limner.app import Standing
    from limner.profile.population import Mark
    from limner.serve.answers import Group

PAGE = 10_000
"""Users asked of a server at once."""


@click.command(
    epilog='\b\nExamples:\n  limner audience \'value.tier == "high" and '
    "behaviour.days_since_last < 14'\n"
    "  limner audience 'interests.category[\"COFFEE\"].share > 0.3' --out coffee.csv\n"
    "  limner audience 'basic.age == \"45-54\"' --index interests.category"
)
@click.argument("where")
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path),
              help="Write all of them to a .csv or .parquet file.")  # fmt: skip
@click.option("--limit", type=click.IntRange(0), default=20, help="How many to show, at most.")
@click.option("--index", metavar="SLOT", default="",
              help="What they lean to in a slot, by target-group index.")  # fmt: skip
@url_option
@common
@with_session
def audience(
    session: Session, where: str, out: Path | None, limit: int, index: str, url: str
) -> None:
    """Count and list the users whose portraits meet the condition WHERE."""
    from limner.serve.answers import Group

    if url:
        if out is not None:
            raise UsageError("a server writes no file", mend="leave out --out, or --url")
        body = {"where": where, "limit": min(limit, PAGE), "index": index}
        found = session.remote(url).ask("POST", "/v1/audiences/query", Group, body=body)
    else:
        with session.open(write=False) as app, session.progress() as progress:
            group = app.audience(where, index=index)
            written = group.write(out, progress) if out is not None else None
            found = Group.of_audience(group, limit)
        if out is not None and not session.json:
            session.console().print(f"wrote {written:,} users to {out}", soft_wrap=True)
    if session.json:
        session.emit(found)
    else:
        _show(session.console(), found)


@click.command(epilog="\b\nExamples:\n  limner population\n  limner population --refresh")
@click.option("--refresh", is_flag=True, help="Take a new survey of all users first.")
@url_option
@common
@with_session
def population(session: Session, refresh: bool, url: str) -> None:
    """Show what users are compared with: segments, tiers and clusters, as of the last survey."""
    from limner.app import Standing

    if url:
        if refresh:
            raise UsageError("a server takes its surveys itself", mend="leave out --refresh")
        found = session.remote(url).ask("GET", "/v1/population", Standing)
    else:
        with session.open(write=refresh) as app:
            if refresh:
                app.refresh_population()
                app.save_snapshot()
            found = app.standing()
    if session.json:
        session.emit(found)
    else:
        _show_standing(session.console(), found)


def _show(console: Console, found: Group) -> None:
    share = f" ({100 * found.count / found.of:.1f} %)" if found.of else ""
    console.print(f"{found.count:,} of {found.of:,} users{share}")
    for note in found.notes:
        console.print(note, style="yellow", soft_wrap=True)
    if found.users:
        more = found.count - len(found.users)
        console.print(", ".join(found.users) + (f" and {more:,} more" if more > 0 else ""))
    if found.index:
        _marks(console, "What they lean to", found.index[:20])


def _marks(console: Console, title: str, marks: Iterable[Mark]) -> None:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for name in ("key", "share there", "share of all", "index"):
        table.add_column(name, justify="left" if name == "key" else "right")
    for mark in marks:
        table.add_row(mark.key, f"{100 * mark.share:.1f} %", f"{100 * mark.overall:.1f} %",
                      f"{mark.index:.0f}")  # fmt: skip
    console.print(table)


def _show_standing(console: Console, found: Standing) -> None:
    from rich.table import Table

    from limner.cli.show import date

    console.print(
        f"{found.users:,} users as of {date(found.at) if found.users else 'never'} UTC, "
        f"by the log before {found.as_of:,}"
    )
    for title, counts in (("segment", found.segments), ("tier", found.tiers)):
        if any(counts.values()):
            table = Table()
            table.add_column(title)
            table.add_column("users", justify="right")
            for name, users in counts.items():
                table.add_row(name, f"{users:,}")
            console.print(table)
    if found.clusters:
        table = Table(title="People alike", title_justify="left")
        for name in ("cluster", "users", "marked by (100 is usual)"):
            table.add_column(name, justify="right" if name == "users" else "left", overflow="fold")
        for cluster in found.clusters:
            marked = ", ".join(f"{m.key.lower()} {m.index:.0f}" for m in cluster.marks[:4])
            table.add_row(cluster.name, f"{cluster.users:,}", marked)
        console.print(table)
