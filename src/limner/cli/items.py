"""Items' content: encode it, and see what was wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from limner.cli.session import Session, common, with_session

if TYPE_CHECKING:
    from rich.console import Console

    from limner.app.encoding import EncodedItems
    from limner.catalog.cache import Note

SHOWN = 20


@click.group(epilog="\b\nExamples:\n  limner items encode\n  limner items notes --json")
@common
def items() -> None:
    """Turn items' text, images and sound into vectors, and see what could not be."""


@items.command(epilog="\b\nExample:\n  limner items encode")
@common
@with_session
def encode(session: Session) -> None:
    """Encode what is new in the catalog; training does so too."""
    with session.progress() as progress, session.open(write=True, progress=progress) as app:
        found = app.encode_items(progress=progress)
    if session.json:
        session.emit(found)
    else:
        _show(session.console(), found)


@items.command(epilog="\b\nExample:\n  limner items notes")
@common
@with_session
def notes(session: Session) -> None:
    """List the items whose content is empty, missing or broken, and how to mend it."""
    with session.open(write=False) as app:
        found = app.item_notes()
    if session.json:
        session.emit(found)
    elif not found:
        session.console().print("nothing was wrong when items were last encoded")
    else:
        _list(session.console(), found)


def _show(console: Console, found: EncodedItems) -> None:
    from rich.table import Table

    table = Table(title=f"{found.items:,} items", title_justify="left")
    for name in ("content", "encoder", "width", "items", "new", "seconds"):
        table.add_column(name, justify="left" if name in ("content", "encoder") else "right")
    for kind in found.kinds:
        table.add_row(
            kind.kind, kind.encoder, str(kind.width), f"{kind.items:,}", f"{kind.encoded:,}",
            f"{kind.seconds:.1f}",
        )  # fmt: skip
    console.print(table if found.kinds else "no item has content that an encoder here reads")
    for kind in found.kinds:
        if kind.error:
            console.print(f"{kind.kind} could not be encoded to the end: {kind.error}")
    for name, why in found.missing.items():
        console.print(f"{name}: {why}")
    if found.notes:
        console.print(f"{len(found.notes):,} notes; all of them: limner items notes")
        _list(console, found.notes[:SHOWN])


def _list(console: Console, notes: list[Note]) -> None:
    from rich.table import Table

    table = Table()
    for name in ("item", "content", "what is wrong", "to mend it"):
        table.add_column(name, overflow="fold")
    for note in notes:
        table.add_row(note.item_id, note.kind, note.what, note.mend)
    console.print(table)
