"""The versions of the model: which there are, which is in use, and how they differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from limner.cli.session import Session, common, url_option, with_session

if TYPE_CHECKING:
    from limner.app import Models
    from limner.model.registry import Act


@click.group(
    invoke_without_command=True,
    epilog="\b\nExamples:\n  limner models\n  limner models show 000002\n"
    "  limner models diff 000001 000002\n  limner models rollback",
)
@common
@click.pass_context
def models(context: click.Context) -> None:
    """Show the versions of the model, put another to use, or compare two."""
    if context.invoked_subcommand is None:
        context.invoke(list_)


@models.command("list", epilog="\b\nExample:\n  limner models list")
@url_option
@common
@with_session
def list_(session: Session, url: str = "") -> None:
    """Show each version, how it came about, and what was done lately."""
    from limner.cli import show_models

    found = _found(session, url)
    if session.json:
        session.emit(found)
    else:
        show_models.versions(session.console(), found)


@models.command(epilog="\b\nExample:\n  limner models show 000002")
@click.argument("version")
@url_option
@common
@with_session
def show(session: Session, version: str, url: str) -> None:
    """Show all that is known of a version: data, metrics, weights, settings."""
    from limner.cli import show_models
    from limner.errors import NotFound

    found = {each.version: each for each in _found(session, url).versions}
    if version not in found:
        known = ", ".join(found) or "none"
        raise NotFound(f"there is no model version {version!r}", mend=f"there are: {known}")
    if session.json:
        session.emit(found[version])
    else:
        show_models.version(session.console(), found[version])


@models.command(epilog="\b\nExample:\n  limner models promote 000002")
@click.argument("version")
@url_option
@common
@with_session
def promote(session: Session, version: str, url: str) -> None:
    """Put a version to use; a running server answers by it from the next request on."""
    from urllib.parse import quote

    from limner.model.registry import Act

    if url:
        path = f"/v1/models/{quote(version, safe='')}/promote"
        _told(session, session.remote(url).ask("POST", path, Act))
        return
    with session.open(write=True) as app:
        _told(session, app.promote(version))


@models.command(epilog="\b\nExample:\n  limner models rollback")
@url_option
@common
@with_session
def rollback(session: Session, url: str) -> None:
    """Go back to the version that the present one took the place of."""
    from limner.model.registry import Act

    if url:
        _told(session, session.remote(url).ask("POST", "/v1/models/rollback", Act))
        return
    with session.open(write=True) as app:
        _told(session, app.roll_back())


@models.command(epilog="\b\nExample:\n  limner models diff 000001 000002")
@click.argument("a")
@click.argument("b")
@url_option
@common
@with_session
def diff(session: Session, a: str, b: str, url: str) -> None:
    """Show in what two versions differ: settings, data, weights, metrics, items."""
    from urllib.parse import quote

    from limner.cli import show_models
    from limner.model.registry import Difference

    if url:
        path = f"/v1/models/{quote(b, safe='')}/diff"
        found = session.remote(url).ask("GET", path, Difference, against=a)
    else:
        with session.open(write=False) as app:
            found = app.model_diff(a, b)
    if session.json:
        session.emit(found)
    else:
        show_models.difference(session.console(), found)


def _found(session: Session, url: str) -> Models:
    from limner.app import Models

    if url:
        return session.remote(url).ask("GET", "/v1/models", Models)
    with session.open(write=False) as app:
        return app.models()


def _told(session: Session, act: Act) -> None:
    if session.json:
        session.emit(act)
    else:
        session.console().print(f"version {act.version} is in use, instead of {act.before}")
