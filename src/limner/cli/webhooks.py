"""Webhooks: how far they are, what could not be delivered, and sending that anew."""

from __future__ import annotations

import click

from limner.cli.session import Session, common, url_option, with_session


@click.group(
    epilog="\b\nExamples:\n  limner webhooks list --url http://127.0.0.1:8088\n"
    "  limner webhooks dead shop\n  limner webhooks redeliver shop --change 17"
)
@common
def webhooks() -> None:
    """Show how far webhooks are and what they could not deliver, and have it sent anew."""


@webhooks.command(name="list", epilog="\b\nExample:\n  limner webhooks list --json")
@url_option
@common
@with_session
def list_(session: Session, url: str) -> None:
    """Show each webhook's last delivered change, and what fails at present."""
    from limner.app import delivering
    from limner.serve.answers import Webhooks

    if url:
        found = session.remote(url).ask("GET", "/v1/webhooks", Webhooks)
    else:
        with session.open(write=False) as app:
            found = Webhooks(delivering.deliveries(app))
    if session.json:
        session.emit(found)
        return
    console = session.console()
    if not found.webhooks:
        console.print("there are none; write [[webhooks]] in limner.toml")
    for each in found.webhooks:
        fails = f", failed {each.tries} times: {each.error}" if each.tries else ""
        console.print(
            f"{each.name}  {each.url}  at change {each.last}, {each.behind} behind, "
            f"{each.dead} dead{fails}"
        )


@webhooks.command(epilog="\b\nExample:\n  limner webhooks dead shop --json")
@click.argument("name")
@url_option
@common
@with_session
def dead(session: Session, name: str, url: str) -> None:
    """Show what a webhook could not deliver, oldest first."""
    from urllib.parse import quote

    from limner.app import delivering
    from limner.cli import show_times
    from limner.serve.answers import DeadOnes

    if url:
        path = f"/v1/webhooks/{quote(name, safe='')}/dead"
        found = session.remote(url).ask("GET", path, DeadOnes)
    else:
        with session.open(write=False) as app:
            found = DeadOnes(delivering.dead(app, name))
    if session.json:
        session.emit(found)
        return
    console = session.console()
    if not found.letters:
        console.print("everything was delivered so far")
    for letter in found.letters:
        show_times.change(console, letter.change)
        waits = ", is sent anew" if letter.again else ""
        console.print(f"    {letter.tries} tries, the last: {letter.error}{waits}")


@webhooks.command(epilog="\b\nExample:\n  limner webhooks redeliver shop --change 17")
@click.argument("name")
@click.option("--change", type=click.IntRange(1), help="Only this change; all if left out.")
@url_option
@common
@with_session
def redeliver(session: Session, name: str, change: int | None, url: str) -> None:
    """Have the server send dead letters anew, each once."""
    from urllib.parse import quote

    from limner.app import delivering
    from limner.serve.answers import Redelivered

    if url:
        path = f"/v1/webhooks/{quote(name, safe='')}/redeliver"
        found = session.remote(url).ask("POST", path, Redelivered, change=change)
    else:
        with session.open(write=True) as app:
            found = Redelivered(delivering.redeliver(app, name, change))
    if session.json:
        session.emit(found)
    else:
        session.console().print(f"{found.redelivered} to be sent anew, by the server")


@webhooks.command(epilog="\b\nExample:\n  limner webhooks secret")
@common
@with_session
def secret(session: Session) -> None:
    """Make a secret to sign with. It is kept nowhere."""
    from limner.profile.webhooks import new_secret

    made = new_secret()
    if session.json:
        session.emit({"secret": made})
    else:
        click.echo(made)
