"""The command line: thin commands over `app`, in text for people and JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from limner import __version__
from limner.cli.ask import attribution, portrait, recommend, similar, why
from limner.cli.audience import audience, population
from limner.cli.bench import bench
from limner.cli.choose import choose, parameters
from limner.cli.evaluate import evaluate
from limner.cli.intake import alias, erase, expire, import_
from limner.cli.items import items
from limner.cli.keys import keys
from limner.cli.label import label
from limner.cli.learn import topics, train, update
from limner.cli.models import models
from limner.cli.quarantine import clean, quarantine
from limner.cli.session import Session, common
from limner.cli.set_up import demo, init, replay, serve, status
from limner.cli.times import changes, schedule
from limner.cli.validate import validate
from limner.cli.webhooks import webhooks
from limner.errors import LimnerError

EPILOG = """\b
To begin:
  limner demo                              see it work on real purchases
  limner init shop && cd shop              make a store of your own
  limner import events.csv --items items.csv
  limner train
  limner portrait USER && limner recommend USER --explain"""


@click.group(epilog=EPILOG, invoke_without_command=True)
@common
@click.version_option(__version__, message="limner %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """Living portraits of users, and the recommendations and reasons that follow from them."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for _command in (
    init, validate, import_, train, evaluate, portrait, recommend, why, erase, serve, demo, status,
    audience, population, clean, quarantine, alias, expire, replay, schedule, changes,
    topics, label, items, bench, update, models, attribution, similar,
    choose, parameters, keys, webhooks,
):  # fmt: skip
    cli.add_command(_command)


def run(arguments: Sequence[str], *, alone: bool = False) -> int:
    """Run a command; return its exit code: 0 done, 1 failed, 2 wrong use, 130 interrupted.

    `alone` says that the process is there for this command only.
    """
    try:
        session = Session(alone=alone)
        code = cli.main(list(arguments), prog_name="limner", standalone_mode=False, obj=session)
    except click.Abort:
        click.echo("interrupted", err=True)
        return 130
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        mend = f"{context.command_path if context else 'limner'} --help"
        _tell(LimnerError(error.format_message(), mend=mend), arguments)
        return error.exit_code
    except LimnerError as error:
        _tell(error, arguments)
        return error.exit_code
    except OSError as error:
        _tell(LimnerError(error.strerror or str(error), where=str(error.filename or "")), arguments)
        return 1
    return code if isinstance(code, int) else 0


def _tell(error: LimnerError, arguments: Sequence[str]) -> None:
    if "--json" in arguments:
        from limner.serve.wire import encode

        what = {"what": error.what, "where": error.where, "mend": error.mend}
        click.echo(encode({"error": what}))
    else:
        click.echo(f"error: {error}", err=True)


def main() -> None:
    """The entry point of the `limner` command."""
    sys.exit(run(sys.argv[1:], alone=True))
