"""A store of one's own, what is in it, a server over it, and the demonstration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from limner.cli.session import Session, common, url_option, with_session
from limner.errors import UsageError


@click.command(epilog="\b\nExample:\n  limner init shop --domain ecommerce")
@click.argument("directory", metavar="[DIR]", default=".", type=click.Path(path_type=Path))
@click.option("--domain", default="ecommerce", help="The field whose portraits to begin with.")
@common
@with_session
def init(session: Session, directory: Path, domain: str) -> None:
    """Make a store with its key and a limner.toml that says what can be set, in DIR."""
    from limner import config
    from limner.cli.starter import starter

    file = directory / config.FILE
    if file.exists():
        raise UsageError("is there already, and is left as it is", where=str(file),
                         mend="edit it, or name another folder")  # fmt: skip
    if domain not in config.domains():
        raise UsageError(
            f"domain {domain!r} does not exist", mend=f"use one of {', '.join(config.domains())}"
        )
    directory.mkdir(parents=True, exist_ok=True)
    file.write_text(starter(domain), encoding="utf-8")
    settings = config.load(file, store=session.store)
    with session.open(write=True, settings=settings):
        pass
    made = {"config": str(file), "store": settings.store, "key_file": str(settings.key_path())}
    if session.json:
        session.emit(made)
        return
    say = session.console().print
    say(f"made {file}: every setting, with its default and meaning", soft_wrap=True)
    say(f"made {settings.store.removeprefix('sqlite:///')}: the store", soft_wrap=True)
    if settings.key_path() is not None:
        say(f"made {settings.key_path()}: its key; the store cannot be opened without it, so keep "
            "a copy elsewhere", soft_wrap=True)  # fmt: skip
    into = "" if directory == Path() else f"cd {directory} && "
    say(f"\nnext: {into}limner import events.csv --items items.csv", soft_wrap=True)


@click.command(epilog="\b\nExamples:\n  limner status\n  limner status --url http://127.0.0.1:8088")
@url_option
@common
@with_session
def status(session: Session, url: str) -> None:
    """Say what is in the store and how it fares: queue, snapshot, model, disk, what was refused."""
    from limner.app.operating import Status
    from limner.app.operating import status as status_of
    from limner.cli import show

    if url:
        found = session.remote(url).ask("GET", "/v1/status", Status)
    else:
        with session.open(write=False) as app:
            found = status_of(app)
    if session.json:
        session.emit(found)
    else:
        show.status(session.console(), found)


@click.command(epilog="\b\nExamples:\n  limner replay\n  limner replay --from 120000 --swap")
@click.option("--from", "start", type=click.IntRange(0), default=0, metavar="POSITION",
              help="Only users with rows from this position on.")  # fmt: skip
@click.option("--to", "stop", type=click.IntRange(0), metavar="POSITION",
              help="And before this one.")  # fmt: skip
@click.option("--swap", is_flag=True, help="Put what was rebuilt in the place of what is there.")
@common
@with_session
def replay(session: Session, start: int, stop: int | None, swap: bool) -> int:
    """Rebuild the portraits from the log, and say where those in use differ."""
    from limner.cli import show

    with session.progress() as progress, session.open(write=swap, progress=progress) as app:
        found = app.replay(start=start, stop=stop, swap=swap, progress=progress)
    if session.json:
        session.emit(found)
    else:
        show.replayed(session.console(), found)
    return 1 if found.different else 0


@click.command(epilog="\b\nExample:\n  limner serve --port 8088")
@click.option("--host", help="The address to listen at, over `serve.host`.")
@click.option("--port", type=click.IntRange(0, 65535),
              help="The port, over `serve.port`; 0 for any that is free.")  # fmt: skip
@common
@with_session
def serve(session: Session, host: str | None, port: int | None) -> None:
    """Serve the HTTP API until interrupted; the store's one writer meanwhile."""
    from limner.serve.server import serve as run

    settings = session.settings()
    listen = settings.serve
    listen = replace(listen, host=host or listen.host, port=listen.port if port is None else port)

    def say(url: str) -> None:
        if session.json:
            session.emit({"url": url, "store": settings.store})
        else:
            click.echo(f"Limner listens at {url} (Ctrl-C ends it); see {url}/openapi.json")

    run(replace(settings, serve=listen), say=say)


@click.command(epilog="\b\nExample:\n  limner demo")
@click.option("--dir", "directory", default="limner-demo", metavar="DIR",
              type=click.Path(path_type=Path), help="Where its store goes.")  # fmt: skip
@common
@with_session
def demo(session: Session, directory: Path) -> None:
    """Show all of it on 1.5 million real grocery purchases, in a few minutes."""
    from limner.cli.demo import run

    run(session, directory)
