"""Who may ask what of a server: its API keys."""

from __future__ import annotations

import time

import click

from limner.cli.session import Session, common, with_session


@click.group(
    epilog="\b\nExamples:\n  limner keys add shop --scope ingest --scope read\n"
    "  limner keys rotate shop --overlap 1h\n  limner keys list"
)
@common
def keys() -> None:
    """Make, list, rotate and revoke API keys; a running server notices within a second."""


@keys.command(epilog="\b\nExample:\n  limner keys add shop --scope ingest --scope read")
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, required=True,
              type=click.Choice(["ingest", "read", "admin"]),
              help="What it may do; admin may do everything.")  # fmt: skip
@common
@with_session
def add(session: Session, name: str, scopes: tuple[str, ...]) -> None:
    """Make a key. It is shown now and never again."""
    from limner.privacy import access
    from limner.stores import api_keys

    key, secret = access.add(api_keys(session.settings().store), name, scopes, _now())
    _once(session, key, secret)


@keys.command(name="list", epilog="\b\nExample:\n  limner keys list --json")
@common
@with_session
def list_(session: Session) -> None:
    """Show the keys' names, scopes and times."""
    from limner.stores import api_keys

    found = api_keys(session.settings().store).every()
    if session.json:
        session.emit({"keys": [_shown(key) for key in found]})
        return
    console = session.console()
    if not found:
        console.print("there are no keys; make one with: limner keys add NAME --scope read")
    for key in found:
        state = f"revoked {_day(key.revoked_at)}" if key.revoked_at else "opens"
        rotated = f", rotated {_day(key.rotated_at)}" if key.rotated_at else ""
        console.print(
            f"{key.name:24} {', '.join(key.scopes):20} {state}, made {_day(key.made_at)}{rotated}"
        )


@keys.command(epilog="\b\nExample:\n  limner keys rotate shop --overlap 1h")
@click.argument("name")
@click.option("--overlap", default="", metavar="DURATION",
              help="How long the old one opens beside the new one, such as 1h; not at all if "
              "left out.")  # fmt: skip
@common
@with_session
def rotate(session: Session, name: str, overlap: str) -> None:
    """Replace a key by a new one of the same name and scopes, which is shown once."""
    from limner.privacy import access
    from limner.profile.facet import duration
    from limner.stores import api_keys

    kept = int(duration(overlap, "--overlap")) if overlap else 0
    key, secret = access.rotate(api_keys(session.settings().store), name, _now(), kept)
    _once(session, key, secret)


@keys.command(epilog="\b\nExample:\n  limner keys revoke shop")
@click.argument("name")
@common
@with_session
def revoke(session: Session, name: str) -> None:
    """Have a key open nothing any more, for good."""
    from limner.privacy import access
    from limner.stores import api_keys

    key = access.revoke(api_keys(session.settings().store), name, _now())
    if session.json:
        session.emit(_shown(key))
    else:
        session.console().print(f"the key {name} opens nothing any more")


def _once(session: Session, key: object, secret: str) -> None:
    if session.json:
        session.emit({**_shown(key), "key": secret})
    else:
        click.echo(secret)
        click.echo("keep it now: it is not shown again", err=True)


def _shown(key: object) -> dict[str, object]:
    """A key without what it is compared by."""
    from dataclasses import asdict

    told: dict[str, object] = asdict(key)  # type: ignore[call-overload]
    return {name: value for name, value in told.items() if not name.endswith("digest")}


def _day(at: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(at / 1_000_000))


def _now() -> int:
    return time.time_ns() // 1_000
