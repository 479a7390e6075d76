"""What happens in time: the jobs of the schedule, and the changes of portraits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from limner.cli.session import Session, common, url_option, with_session

if TYPE_CHECKING:
    from limner.profile.changes import Change, Changes

PAGE = 1_000
"""Changes asked for at a time."""

POLL_SECONDS = 0.5
"""How often `--follow` looks: the changes come from another process."""


@click.command(
    epilog="\b\nExamples:\n  limner schedule\n  limner schedule --run population\n"
    "  limner schedule --run facet.spend --url http://127.0.0.1:8088"
)
@click.option("--run", "name", metavar="NAME", help="Run this job now, and wait for it.")
@url_option
@common
@with_session
def schedule(session: Session, name: str | None, url: str) -> int:
    """Show what is done at times: each job's last run and its next, or run one now."""
    from urllib.parse import quote

    from limner.app import Run
    from limner.cli import show_times
    from limner.serve.answers import Scheduled

    if url and name:
        path = f"/v1/schedule/{quote(name, safe='')}/run"
        runs = [session.remote(url).ask("POST", path, Run)]
    elif url:
        runs = session.remote(url).ask("GET", "/v1/schedule", Scheduled).jobs
    else:
        with session.open(write=bool(name)) as app:
            jobs = app.jobs()
            runs = [jobs.run(name)] if name else jobs.runs()
    if session.json:
        session.emit(runs[0] if name else Scheduled(runs))
    else:
        show_times.schedule(session.console(), runs, time.time_ns() // 1_000)
    return int(bool(name) and runs[0].outcome == "failed")


@click.command(
    epilog="\b\nExamples:\n  limner changes --after 17\n"
    "  limner changes --follow --kind interest_shift --json"
)
@click.option("--after", type=click.IntRange(0), metavar="ID",
              help="After the change with this id; with --follow from now on.")  # fmt: skip
@click.option("--limit", type=click.IntRange(1), default=100, help="How many, at most.")
@click.option("--kind", type=click.Choice(
    ["portrait_changed", "interest_shift", "audience_entered", "audience_left"]),
              help="Only changes of this kind.")  # fmt: skip
@click.option("--follow", is_flag=True, help="Wait for more, until interrupted; one a line.")
@url_option
@common
@with_session
def changes(
    session: Session, after: int | None, limit: int, kind: str | None, follow: bool, url: str
) -> None:
    """Show what changed in portraits, oldest first, and which interests shifted."""
    from limner.profile.changes import Changes

    def told(ask: Callable[[int, int], Changes]) -> None:
        start = after or 0
        if follow and after is None:
            start = ask(0, 1).newest
        try:
            _tell(session, _chosen(ask, start, kind, None if follow else limit), follow)
        except KeyboardInterrupt:
            if not follow:
                raise

    if url:
        remote = session.remote(url)
        told(lambda seen, n: remote.ask("GET", "/v1/changes", Changes, after=seen, limit=n))
        return
    with session.open(write=False) as app:
        told(lambda seen, n: app.changes(seen, limit=n))


def _chosen(
    ask: Callable[[int, int], Changes], after: int, kind: str | None, limit: int | None
) -> Iterator[Change]:
    """The changes after an id, of a kind; without a `limit` for ever."""
    left = limit
    while left is None or left > 0:
        page = ask(after, PAGE)
        for change in page.changes:
            after = change.id
            if kind in (None, change.kind) and left != 0:
                yield change
                left = left if left is None else left - 1
        if not page.changes:
            if limit is not None:
                return
            time.sleep(POLL_SECONDS)


def _tell(session: Session, found: Iterator[Change], follow: bool) -> None:
    from limner.cli import show_times

    if session.json and not follow:
        session.emit({"changes": list(found)})
        return
    console = session.console()
    shown = 0
    for change in found:
        shown += 1
        if session.json:
            session.emit(change)
        else:
            show_times.change(console, change)
    if not shown:
        console.print("nothing has changed yet")
