"""`limner choose` and `limner parameters`: what users may know of, and change in, their lists."""

from __future__ import annotations

import click

from limner.cli.session import Session, common, url_option, with_session


@click.command(epilog="\b\nExample:\n  limner choose 1643 --not-personalised")
@click.argument("user")
@click.option("--personalised/--not-personalised", default=None,
              help="Whether lists may be made for this user alone.")  # fmt: skip
@click.option("--off", multiple=True, metavar="SLOT", help="Turn a slot, section.name, off.")
@click.option("--on", multiple=True, metavar="SLOT", help="Turn it on again.")
@click.option("--wrong", multiple=True, metavar="SLOT",
              help="Mark a slot wrong: left out until something new supports it.")  # fmt: skip
@click.option("--right", multiple=True, metavar="SLOT", help="Take that mark back.")
@url_option
@common
@with_session
def choose(
    session: Session,
    user: str,
    personalised: bool | None,
    off: tuple[str, ...],
    on: tuple[str, ...],
    wrong: tuple[str, ...],
    right: tuple[str, ...],
    url: str,
) -> None:
    """Record what USER chooses of their portrait and lists, and show all choices that hold."""
    from limner.profile.choices import Choices

    said = {"off": off, "on": on, "wrong": wrong, "right": right}
    some = personalised is not None or any(said.values())
    if url:
        from limner.cli.remote import user_path

        path = user_path(user, "choices")
        body = {"personalised": personalised, **said}
        remote = session.remote(url)
        if some:
            found = remote.ask("PUT", path, Choices, body=body)
        else:
            found = remote.ask("GET", path, Choices)
    else:
        with session.open(write=some) as app:
            if some:
                found = app.choose(user, personalised=personalised, off=off, on=on, wrong=wrong,
                                   right=right)  # fmt: skip
            else:
                found = app.choices(user)
    if session.json:
        return session.emit(found)
    console = session.console()
    console.print("personalised" if found.personalised else "not personalised")
    for slot in found.off:
        console.print(f"off: {slot}")
    for slot in found.wrong:
        console.print(f"wrong, until something new supports it: {slot}")
    return None


@click.command(epilog="\b\nExample:\n  limner parameters --scenario home")
@click.option("--scenario", metavar="NAME", default="", help="Of the place lists are shown in.")
@url_option
@common
@with_session
def parameters(session: Session, scenario: str, url: str) -> None:
    """Say in plain words what lists depend on most, and how a user can change it."""
    if url:
        from limner.explain.parameters import Parameters

        asked = scenario or None
        found = session.remote(url).ask("GET", "/v1/parameters", Parameters, scenario=asked)
    else:
        with session.open(write=False) as app:
            found = app.parameters(scenario)
    if session.json:
        return session.emit(found)
    console = session.console()
    for one in found.parameters:
        weights = ", ".join(f"{task} {weight:.2f}" for task, weight in one.weights.items())
        console.print(f"{one.name}: {one.means}{f' ({weights})' if weights else ''}")
    console.print("A user can:")
    for way in found.change:
        console.print(f"• {way}")
    return None
