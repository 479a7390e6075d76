"""Versions of the model and updates, drawn in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from limner.app import Models, ModelVersion, Updated
from limner.cli.show import date
from limner.model.registry import Difference

LATELY = 10
"""Lines of the journal that are shown."""


def updated(console: Console, done: Updated) -> None:
    """What became of an update."""
    if done.rollback is not None and done.rolled_back is not None:
        console.print(
            f"Went back from version {done.rolled_back}: live quality fell. "
            f"The version before: {done.rollback.reason}",
            soft_wrap=True,
        )
    said = {
        "promoted": f"Version {done.current} is in use",
        "kept": f"Version {done.current} stays in use",
        "nothing": f"Nothing was done, version {done.current} is in use",
    }
    console.print(
        f"{said[done.outcome]}: {done.reason} ({done.events:,} new events, {done.seconds:.1f} s)",
        soft_wrap=True,
    )


def versions(console: Console, found: Models) -> None:
    """Each version, and what was done lately."""
    if not found.versions:
        console.print("no model is trained yet: limner train")
        return
    table = Table(title_justify="left")
    for name in ("version", "in use", "made", "from", "data up to", "events", "NDCG at 10"):
        table.add_column(name, overflow="fold")
    for each in found.versions:
        table.add_row(
            *map(Text, (
                each.version, "yes" if each.in_use else "", f"{each.made} {date(each.at)}",
                ", ".join(each.parents), date(each.cutoff), f"{each.events:,}", _quality(each),
            ))
        )  # fmt: skip
    console.print(table)
    for each in found.versions:
        for task, parts in each.weights.items() if each.in_use else ():
            said = ", ".join(f"{part} {weight:.2f}" for part, weight in parts.items() if weight)
            console.print(f"weights, {task}: {said}", soft_wrap=True)
    for act in found.journal[-LATELY:]:
        said = f": {act.reason}" if act.reason else ""
        console.print(
            Text.assemble((f"{date(act.at)}  ", "dim"), f"{act.version} {act.what}{said}"),
            soft_wrap=True,
        )


def version(console: Console, each: ModelVersion) -> None:
    """All that is known of a version."""
    table = Table(title=f"version {each.version}", title_justify="left", show_header=False)
    table.add_column("")
    table.add_column("", overflow="fold")
    rows: list[tuple[str, Any]] = [
        ("in use", "yes" if each.in_use else "no"),
        ("made", f"{each.made} {date(each.at)}"),
        ("from", ", ".join(each.parents) or "nothing"),
        ("data up to", f"{date(each.cutoff)}, log position {each.position:,}"),
        ("learned from", f"{each.events:,} events of {each.users:,} users, {each.items:,} items"),
        ("NDCG at 10", _quality(each)),
        *((f"weights.{name}", value) for name, value in _leaves(each.weights)),
        *_leaves(each.config),
    ]
    if each.verdict is not None:
        rows.insert(6, ("the gate", each.verdict.reason))
    for name, value in rows:
        table.add_row(Text(name), Text(_plain(value)))
    console.print(table)


def difference(console: Console, found: Difference) -> None:
    """In what two versions differ."""
    table = Table(title_justify="left")
    for name in ("", found.a, found.b):
        table.add_column(name, overflow="fold")
    for name, (a, b) in found.changed.items():
        table.add_row(Text(name), Text(_plain(a)), Text(_plain(b)))
    console.print(table)
    for name, n, some in (
        (found.a, found.items_only_a, found.only_a),
        (found.b, found.items_only_b, found.only_b),
    ):
        if n:
            more = " …" if n > len(some) else ""
            console.print(f"{n:,} items only in {name}: {', '.join(some)}{more}", soft_wrap=True)


def _quality(each: ModelVersion) -> str:
    if each.verdict is not None and each.verdict.candidate is not None:
        return f"{each.verdict.incumbent:.4f} → {each.verdict.candidate:.4f}"
    said = [f"{task} {value:.4f}" for task, value in each.ndcg.items() if value is not None]
    return ", ".join(said) or "not measured"


def _leaves(value: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _leaves(inner, f"{at}{name}.")
        else:
            yield at + name, inner


def _plain(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
