"""`limner bench`: measure this machine."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from limner.cli.session import Session, common, with_session

if TYPE_CHECKING:
    from limner.cli.measures import Bench, Line

FIGURES = (
    "import", "portrait", "events-of", "event", "growth", "recovery", "cold", "heavy", "stages",
    "explain", "serve", "freshness", "soak", "feast",
)  # fmt: skip
"""What can be measured; `import` measures memory too."""


@click.command(
    epilog="\b\nExamples:\n  limner bench import --events 1000000 --users 100000\n"
    "  limner bench --folder /big/disk --json"
)
@click.argument("figures", nargs=-1, type=click.Choice([*FIGURES, "all"]))
@click.option("--events", type=click.IntRange(1000), default=10_000_000, show_default=True,
              help="Events of the synthetic shop.")  # fmt: skip
@click.option("--users", type=click.IntRange(10), default=1_000_000, show_default=True,
              help="Its users.")  # fmt: skip
@click.option("--seed", type=int, default=0, help="Which shop.")
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path),
              help="Keep the shop and its store here, for the next time.")  # fmt: skip
@click.option("--minutes", type=click.FloatRange(0.1), default=30.0, show_default=True,
              help="How long a soak lasts.")  # fmt: skip
@click.option("--feast-python", metavar="PATH", default="",
              help="The Python of an environment that has Feast, to compare.")  # fmt: skip
@common
@with_session
def bench(
    session: Session,
    figures: tuple[str, ...],
    events: int,
    users: int,
    seed: int,
    folder: Path | None,
    minutes: float,
    feast_python: str,
) -> None:
    """Measure FIGURES (all by default) on a synthetic shop, beside the targets."""
    wanted = FIGURES if not figures or "all" in figures else figures
    if not feast_python and "feast" not in figures:
        wanted = tuple(name for name in wanted if name != "feast")
    with session.progress() as progress:
        found = measure(wanted, events=events, users=users, seed=seed, folder=folder,
                        minutes=minutes, feast_python=feast_python, progress=progress)  # fmt: skip
    if session.json:
        session.emit(found)
        return
    console = session.console()
    for name, lines in found["figures"].items():
        console.print(name)
        for line in lines:
            mark = {None: "", True: "met", False: "missed"}[line["met"]]
            sign = "≥" if line["least"] else "≤"
            target = f"{sign} {line['target']:,g}  {mark}" if line["target"] is not None else ""
            console.print(
                f"  {line['what']:<56} {line['value']:>12,.2f} {line['unit']:<12} {target}"
            )


def measure(
    figures: tuple[str, ...],
    *,
    events: int,
    users: int,
    seed: int = 0,
    folder: Path | None = None,
    minutes: float = 30.0,
    feast_python: str = "",
    progress: Callable[[str, int, int], None],
) -> dict[str, Any]:
    """The figures as JSON values, with the machine and the shop they are of."""
    from limner.cli import limits, reasoning, serving
    from limner.cli.measures import Bench
    from limner.sources.synthetic import Shop

    by_name: dict[str, Callable[[Bench], list[Line]]] = {
        "import": Bench.filling,
        "portrait": Bench.portrait,
        "events-of": Bench.events_of,
        "event": Bench.event,
        "growth": Bench.growth,
        "recovery": Bench.recovery,
        "cold": Bench.cold,
        "heavy": Bench.heavy,
        "stages": limits.stages,
        "explain": reasoning.explain,
        "serve": serving.serve,
        "freshness": serving.freshness,
        "soak": serving.soak,
        "feast": lambda bench: limits.feast(bench, feast_python or "python3"),
    }
    kept = nullcontext(str(folder)) if folder else tempfile.TemporaryDirectory()
    with kept as place:
        Path(place).mkdir(parents=True, exist_ok=True)
        bench = Bench(Path(place), Shop(events=events, users=users, seed=seed), progress)
        bench.soaking = minutes
        try:
            out = {
                name: [_plain(line) for line in by_name[name](bench)]
                for name in FIGURES
                if name in figures
            }
        finally:
            bench.close()
    return {
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version()},
        "shop": {"events": events, "users": users, "seed": seed},
        "figures": out,
    }


def _plain(line: Line) -> dict[str, Any]:
    return {
        "what": line.what,
        "value": round(line.value, 3),
        "unit": line.unit,
        "target": line.target,
        "least": line.least,
        "met": line.met,
    }
