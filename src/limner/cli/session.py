"""What all commands share: which store, whose output, and how progress is shown."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from limner.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from limner.app import Limner
    from limner.cli.remote import Remote
    from limner.config import Config
    from limner.model.protocol import Progress

F = TypeVar("F", bound=Callable[..., Any])

WIDTH = 110
"""Columns of output that is no terminal."""


@dataclass(slots=True)
class Session:
    """The options that every command has, and what follows from them.

    `limner.app` is imported where it is used: `--help` should not wait for it.
    """

    config: Path | None = None
    store: str = ""
    json: bool = False
    alone: bool = False
    """Whether the process is this command's, which nobody gives a DataFrame."""

    def settings(self) -> Config:
        """The configuration, with `--store` over it."""
        from limner import config

        return config.load(self.config, store=self.store)

    def open(
        self, *, write: bool, settings: Config | None = None, progress: Progress | None = None
    ) -> Limner:
        """The store, to read beside whoever writes, or as its one writer."""
        if self.alone:
            _without_pandas()
        from limner.app import Limner, quiet

        return Limner.open(
            config=settings or self.settings(),
            write=write,
            wait=True,
            holder=f"limner {click.get_current_context().info_name}",
            progress=progress or quiet,
        )

    def remote(self, url: str) -> Remote:
        """The running server at `url`, with the configured key."""
        from limner.cli.remote import Remote

        return Remote(url.rstrip("/"), self.settings().serve.api_key)

    def emit(self, value: Any) -> None:
        """Write the one JSON document."""
        from limner.serve.wire import encode

        click.echo(encode(value))

    def console(self) -> Console:
        """Where text for people goes."""
        from rich.console import Console

        console = Console(highlight=False, markup=False, emoji=False)
        if not console.is_terminal and "COLUMNS" not in os.environ:
            console.width = WIDTH
        return console

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """A bar with the rate for each stage, on a terminal only."""
        if self.json or not sys.stderr.isatty():
            from limner.app import quiet

            yield quiet
            return
        from limner.cli.show import bars

        with bars() as report:
            yield report


class _NoPandas(MetaPathFinder):
    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


def _without_pandas() -> None:
    """Have Arrow take it that there is no pandas.

    It imports it, where it is installed, before it makes its first array, to know a Series when
    it is given one: a fifth of a second.
    """
    import pyarrow as pa

    hidden = _NoPandas()
    sys.meta_path.insert(0, hidden)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(hidden)


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    session = context.ensure_object(Session)
    if value:
        setattr(session, str(parameter.name), value)


def common(command: F) -> F:
    """Give a command `--config`, `--store` and `--json`, before or after its name."""
    for option in (
        click.option(
            "--json",
            is_flag=True,
            help="Write one JSON document to stdout, an error too.",
            expose_value=False,
            callback=_remember,
        ),
        click.option(
            "--store",
            metavar="URL",
            help="The store, instead of the configured one: sqlite:///shop.db",
            expose_value=False,
            callback=_remember,
        ),
        click.option(
            "--config",
            metavar="FILE",
            type=click.Path(path_type=Path),
            help="The settings, instead of ./limner.toml.",
            expose_value=False,
            callback=_remember,
        ),
    ):
        command = option(command)
    return command


with_session = click.make_pass_decorator(Session, ensure=True)

url_option = click.option(
    "--url", metavar="URL", default="", help="Ask a running server instead of the store."
)


def pairs(given: tuple[str, ...], option: str) -> dict[str, str]:
    """`("a=b", …)` as a mapping. Raises UsageError for one without "="."""
    out = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not name or not value:
            raise UsageError(f"{option} {text}: a name, = and a value are needed",
                             mend=f"write for instance {option} user_id=buyer")  # fmt: skip
        out[name.strip()] = value.strip()
    return out


def moment_of(session: Session, text: str | None) -> int | None:
    """A time option in µs, in the configured zone if it names none."""
    from limner.serve.wire import moment

    return None if text is None else moment(text, session.settings().timezone)
