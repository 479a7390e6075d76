"""Questions about a user: the portrait, the list, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import quote

import click

from limner.cli.session import F, Session, common, moment_of, url_option, with_session
from limner.errors import UsageError

LISTING = (
    click.option("--by", multiple=True, metavar="FAMILY",
                 help="A family by itself, or several, instead of the blend."),
    click.option("--scenario", default="", metavar="NAME",
                 help="The place it is shown in, as limner.toml names it."),
    click.option("--repeats/--no-repeats", default=None,
                 help="Whether items that the user already had may come again."),
    click.option("--filter", multiple=True, metavar="CONDITION",
                 help="A condition that items must meet."),
    click.option("--boost", multiple=True, metavar="'AMOUNT: CONDITION'",
                 help="What items that meet it gain, in standard deviations of the score."),
    click.option("--diversity", type=click.FloatRange(0, 1),
                 help="0: by score alone; 1: by unlikeness alone."),
    click.option("--freshness", type=float, help="What an item that came just now gains."),
    click.option("--pin", multiple=True, metavar="ITEM", help="An item that comes first."),
    click.option("--exclude", multiple=True, metavar="ITEM", help="An item that never comes."),
)  # fmt: skip


def listing_options(command: F) -> F:
    """Give a command the options of how a list is made."""
    for option in reversed(LISTING):
        command = option(command)
    return command


def over_http(listing: Mapping[str, Any]) -> dict[str, Any]:
    """The options as the query of a request: what was not said is left out."""
    return {name: value for name, value in listing.items() if value not in (None, (), "")}


def in_process(listing: Mapping[str, Any]) -> dict[str, Any]:
    """The options as the arguments of `Limner.recommend`."""
    from limner.app.listing import boosts_of

    names = {"boost": "boosts", "pin": "pinned", "exclude": "excluded"}
    given = over_http(listing)
    if "boost" in given:
        given["boost"] = boosts_of(given["boost"])
    return {names.get(name, name): value for name, value in given.items()}


@click.command(
    epilog="\b\nExamples:\n  limner portrait 1643\n  limner portrait 1643 --at 2017-06-01\n"
    "  limner portrait 1643 --written --lang zh\n"
    "  limner portrait 1643 --explain interests.category\n"
    "  limner portrait 1643 --evidence interests.category\n"
    "  limner portrait 1643 --history value.spend"
)
@click.argument("user")
@click.option("--at", metavar="TIME", help="As of this event time: no later event counts.")
@click.option("--known-at", type=click.IntRange(0), metavar="POSITION",
              help="From what lay in the log before this position.")  # fmt: skip
@click.option("--written", is_flag=True, help="Say it in a few sentences.")
@click.option("--lang", type=click.Choice(["en", "zh"]), default="en", show_default=True,
              help="The language of --written.")  # fmt: skip
@click.option(
    "--explain", metavar="SLOT", help="How a slot is calculated, and what would change it."
)
@click.option("--evidence", metavar="SLOT", help="The newest events behind a slot, section.name.")
@click.option("--history", metavar="SLOT", help="What a slot was after each change.")
@click.option(
    "--limit", type=click.IntRange(1), default=20, help="How many events or changes, at most."
)
@url_option
@common
@with_session
def portrait(
    session: Session,
    user: str,
    at: str | None,
    known_at: int | None,
    written: bool,
    lang: str,
    explain: str | None,
    evidence: str | None,
    history: str | None,
    limit: int,
    url: str,
) -> None:
    """Show what is known of USER: four sections, each line with what it rests on."""
    past_moment = bool(at) or known_at is not None
    if past_moment + bool(explain) + bool(evidence) + bool(history) > 1:
        raise UsageError(
            "--explain, --evidence and --history show the present, and are questions of their own",
            mend="ask one at a time, without --at and --known-at",
        )
    if written and (explain or evidence or history):
        raise UsageError("--written is a question of its own", mend="ask one at a time")
    language = lang if written else None
    if explain:
        from limner.explain.slots import SlotExplained

        if url:
            from limner.cli.remote import user_path

            path = user_path(user, "portrait", "explain")
            how = session.remote(url).ask("GET", path, SlotExplained, slot=explain, limit=limit)
        else:
            with session.open(write=False) as app:
                how = app.explain_slot(user, explain, limit=limit)
        if session.json:
            return session.emit(how)
        from limner.cli import show

        return show.explained(session.console(), how)
    if history:
        from limner.serve.answers import SlotHistory

        if url:
            from limner.cli.remote import user_path

            path = user_path(user, "portrait", "history")
            past = session.remote(url).ask("GET", path, SlotHistory, slot=history, limit=limit)
        else:
            with session.open(write=False) as app:
                past = SlotHistory(user, history, app.portrait_history(user, history, limit=limit))
        if session.json:
            return session.emit(past)
        from limner.cli import show

        return show.changes(session.console(), past)
    if evidence:
        from limner.serve.answers import Evidence

        if url:
            from limner.cli.remote import user_path

            path = user_path(user, "portrait", "evidence")
            found = session.remote(url).ask("GET", path, Evidence, slot=evidence, limit=limit)
        else:
            with session.open(write=False) as app:
                found = Evidence(user, evidence, app.evidence(user, evidence, limit=limit))
        if session.json:
            return session.emit(found)
        from limner.cli import show

        return show.evidence(session.console(), found)
    if url:
        from limner.cli.remote import user_path
        from limner.profile.portrait import Portrait

        path = user_path(user, "portrait")
        seen = session.remote(url).ask(
            "GET", path, Portrait, at=at, known_at=known_at, written=language
        )
    else:
        with session.open(write=False) as app:
            when = moment_of(session, at)
            seen = app.portrait(
                user, at=when, known_at=known_at, vector=session.json, written=language or ""
            )
    if session.json:
        return session.emit(seen)
    from limner.cli import show

    if seen.written is not None:
        return show.written(session.console(), seen, seen.written)
    return show.portrait(session.console(), seen)


@click.command(
    epilog="\b\nExamples:\n  limner recommend 1643 -n 5 --no-repeats --explain\n"
    "  limner recommend 1643 --filter 'price < 5' --boost '0.5: brand == \"Private\"'\n"
    "  limner recommend 1643 --by trending"
)
@click.argument("user")
@click.option("-n", "n", type=click.IntRange(1, 1000), help="How many items.")
@listing_options
@click.option("--explain", is_flag=True, help="Say for each item what put it there.")
@click.option("--log", is_flag=True, help="Record the list as an impression, under its id.")
@url_option
@common
@with_session
def recommend(
    session: Session,
    /,
    user: str,
    n: int | None,
    explain: bool,
    log: bool,
    url: str,
    **listing: Any,
) -> None:
    """List the best items for USER, each with the parts that its score is the sum of."""
    if url:
        from limner.cli.remote import user_path
        from limner.recommend.rank import Recommendations

        path = user_path(user, "recommendations")
        listed = session.remote(url).ask(
            "GET", path, Recommendations, n=n, explain=explain, log=log, **over_http(listing)
        )
    else:
        with session.open(write=log) as app:
            listed = app.recommend(user, n, explain=explain, log=log, **in_process(listing))
    if session.json:
        return session.emit(listed)
    from limner.cli import show

    return show.recommendations(session.console(), listed)


@click.command(epilog="\b\nExample:\n  limner why 1643 1082185")
@click.argument("user")
@click.argument("item")
@listing_options
@url_option
@common
@with_session
def why(session: Session, /, user: str, item: str, url: str, **listing: Any) -> None:
    """Say why ITEM stands where it stands for USER, or what keeps it out of the list."""
    if url:
        from limner.cli.remote import user_path
        from limner.explain.why import Why

        path = user_path(user, "why", item)
        found = session.remote(url).ask("GET", path, Why, **over_http(listing))
    else:
        with session.open(write=False) as app:
            found = app.why(user, item, **in_process(listing))
    if session.json:
        return session.emit(found)
    from limner.cli import show

    return show.why(session.console(), found)


@click.command(epilog="\b\nExample:\n  limner attribution --json")
@url_option
@common
@with_session
def attribution(session: Session, url: str) -> None:
    """Say what became of the lists that were recorded, by scenario."""
    from limner.recommend.attribution import Attribution

    if url:
        found = session.remote(url).ask("GET", "/v1/attribution", Attribution)
    else:
        with session.open(write=False) as app:
            found = app.attribution()
    if session.json:
        return session.emit(found)
    from limner.cli import show

    return show.attribution(session.console(), found)


@click.command(
    epilog="\b\nExamples:\n  limner similar 1082185\n  limner similar 1082185 --by together"
)
@click.argument("item")
@click.option("-n", "n", type=click.IntRange(1, 1000), default=10, help="How many items.")
@click.option("--by", type=click.Choice(["alike", "together"]), default="alike",
              help="Items alike, or bought together.")  # fmt: skip
@click.option("--filter", default="", metavar="CONDITION", help="A condition that items must meet.")
@url_option
@common
@with_session
def similar(session: Session, item: str, n: int, by: str, filter: str, url: str) -> None:
    """List the items most like ITEM, or bought together with it."""
    from limner.recommend.similar import SimilarItems

    if url:
        path = f"/v1/items/{quote(item, safe='')}/similar"
        found = session.remote(url).ask("GET", path, SimilarItems, n=n, by=by, filter=filter)
    else:
        with session.open(write=False) as app:
            found = app.similar(item, n, by=cast(Any, by), filter=filter)
    if session.json:
        return session.emit(found)
    from limner.cli import show

    return show.similar(session.console(), found)
