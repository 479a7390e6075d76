"""The demo: everything Limner does, on 1.5 million real grocery purchases.

Imports the Complete Journey through the path of live events, folds the portraits, trains and
evaluates, shows one household's portrait and list, and then lets it buy something new. A second
run imports and trains nothing again.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from limner import config
from limner.app import Imported, Limner, Trained
from limner.cli import show
from limner.cli.session import Session
from limner.events.batch import SECOND
from limner.events.raw import Import
from limner.profile.facet import Slot
from limner.recommend.rank import Recommendations
from limner.sources import completejourney
from limner.sources.columns import Kind

HOUSEHOLD = "1"
VISIT = "a new interest"
"""What the ledger calls the events of the last act, which the next run takes back first."""

NEW = (
    ("7410335", 3.99),  # baby wipes
    ("7154535", 8.49),  # diapers
    ("1135681", 1.29),  # baby spring water
    ("843304", 0.89),  # baby food
    ("982469", 15.99),  # infant formula
    ("890455", 0.89),  # baby food, another
)
"""Six things of a kind the household has never bought, with their prices."""

SETTINGS = """\
# The settings of the demo. See docs/configuration.md for all of them.
domain = "ecommerce"
store = "sqlite:///shop.db"
timezone = "{timezone}"
clock = "events"  # the purchases are of 2017: the newest one is "now"

[encoders]
text = "off"  # these titles were made of type, category and size, which the models know
"""


@dataclass(frozen=True, slots=True)
class Change:
    """One event of the last act, and how soon the list had changed."""

    title: str
    milliseconds: float
    fresh: int
    """How many of the ten items are new in the list."""


@dataclass(frozen=True, slots=True)
class Demo:
    """What the demo showed, for `--json`."""

    seconds: float
    imports: list[Imported]
    trained: Trained | None
    evaluation: Any
    portrait: Any
    recommendations: Recommendations
    before: Recommendations
    changes: list[Change]
    median_milliseconds: float
    after: Recommendations


def run(session: Session, folder: Path) -> None:
    """Run the demo with its store in `folder`."""
    console = Console(stderr=True) if session.json else session.console()
    started = time.perf_counter()
    settings_file = _settings(folder)
    command = f"{sys.argv[0]} --config {settings_file}"
    with (
        session.progress() as progress,
        Limner.open(config=settings_file, holder="limner demo", progress=progress) as app,
    ):
        imports = _import(app, console, progress)
        trained, evaluation = _train(app, console, progress)
        _take_back(app)
        _act(console, 3, f"The portrait of household {HOUSEHOLD}")
        portrait = app.portrait(HOUSEHOLD)
        show.portrait(console, portrait)
        _act(console, 4, "Ten recommendations: parts that sum to the score, and a reason each")
        listed = app.recommend(HOUSEHOLD, explain=True)
        show.recommendations(console, listed)
        _act(console, 5, "A new interest: the household starts to buy for a baby")
        before, changes, after = _live(app, console)
        _act(console, 6, "What to type next")
        _next(console, command)
        seconds = time.perf_counter() - started
        console.print(f"All of this took {seconds:.0f} seconds.", style="dim")
    if session.json:
        session.emit(
            Demo(
                seconds,
                imports,
                trained,
                evaluation,
                portrait,
                listed,
                before,
                changes,
                statistics.median(change.milliseconds for change in changes),
                after,
            )
        )


def _act(console: Console, number: int, title: str) -> None:
    console.print()
    console.print(Rule(Text(f"{number}. {title}", "bold"), align="left"))


def _settings(folder: Path) -> Path:
    file = folder / config.FILE
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(SETTINGS.format(timezone=completejourney.TIMEZONE), encoding="utf-8")
    return file


# -- 1. import -------------------------------------------------------------------------------


def _tables() -> Iterator[tuple[str, Kind, Any]]:
    """(name, kind, how to get the table), in the order they are imported."""
    yield "items", "items", completejourney.items
    yield "households", "users", completejourney.users
    yield "purchases", "events", completejourney.purchases
    yield "coupon redemptions", "events", completejourney.redemptions
    yield "campaign mailings", "events", completejourney.impressions


def _import(app: Limner, console: Console, progress: Any) -> list[Imported]:
    _act(console, 1, "Import, through the same path as live events, into a store on disk")
    done = {e.where for e in app.store.imports.entries() if e.finished_at and not e.undone_at}
    names = [name for name, _, _ in _tables()]
    if done.issuperset(names):
        numbers = app.status()
        console.print(
            f"Already imported: {numbers['position']:,} rows of {numbers['users']:,} households "
            f"and {numbers['items']:,} items are in {app.config.store}."
        )
        return []
    # an import that was cut short is started again: rows that are there change nothing
    imports = [
        app.import_file(
            load(), kind=kind, where=name, source="completejourney", progress=_named(progress, name)
        )
        for name, kind, load in _tables()
        if name not in done
    ]
    with _timed() as folded:
        app.refresh_population()
        app.save_snapshot()
    table = Table()
    for column in (
        "",
        "rows",
        "added",
        "repeated",
        "refused",
        "flagged",
        "seconds",
        "rows a second",
    ):
        table.add_column(column, justify="left" if not column else "right")
    for imported in imports:
        entry = imported.entry
        flagged = sum(n for rule, n in imported.found.items() if rule.startswith("outlier"))
        table.add_row(
            entry.where,
            f"{entry.rows:,}",
            f"{entry.added:,}",
            f"{entry.repeated:,}",
            f"{entry.refused:,}",
            f"{flagged:,}",
            f"{imported.seconds:.1f}",
            f"{imported.rate:,.0f}",
        )
    console.print(table)
    _cleaning(console, imports)
    console.print(
        f"{len(app.state):,} portraits are folded; taking stock of all of them and writing a "
        f"snapshot took {folded[0]:.1f} s more."
    )
    return imports


def _cleaning(console: Console, imports: list[Imported]) -> None:
    for imported in imports:
        told: set[str] = set()
        for refused in imported.refused:
            if refused.rule not in told:
                told.add(refused.rule)
                console.print(
                    f"Refused {imported.found[refused.rule]:,} × {refused.rule}: "
                    f"{refused.reason}.\n  Kept in quarantine with the reason: limner quarantine."
                )
        values = imported.found.get("outlier_value", 0)
        quantities = imported.found.get("outlier_quantity", 0)
        if values or quantities:
            console.print(
                f"Flagged, not removed: {values:,} values and {quantities:,} quantities far from "
                "what is usual for their kind of product. Petrol, sold by the thousandth of a "
                "gallon, is judged against petrol."
            )


def _named(progress: Any, name: str) -> Any:
    def report(stage: str, done: int, total: int) -> None:
        progress(name, done, total)

    return report


@contextmanager
def _timed() -> Iterator[list[float]]:
    started = time.perf_counter()
    out: list[float] = []
    yield out
    out.append(time.perf_counter() - started)


# -- 2. train and evaluate -------------------------------------------------------------------


def _train(app: Limner, console: Console, progress: Any) -> tuple[Trained | None, Any]:
    _act(console, 2, "Train before a cutoff, evaluate on what came after it, then learn the rest")
    known = app.evaluation()
    trained = None
    if known is None:
        trained = app.train(
            cutoff=completejourney.CUTOFF,
            validation_cutoff=completejourney.VALIDATION_CUTOFF,
            progress=progress,
        )
        known = app.evaluation()
        console.print(
            f"Trained and evaluated in {trained.seconds:.0f} s: model {trained.version}, from "
            f"{trained.events:,} purchases of {trained.users:,} households."
        )
    if known is not None:
        show.report(console, known)
    return trained, known.to_json() if known is not None else None


# -- 5. live ---------------------------------------------------------------------------------


def _take_back(app: Limner) -> None:
    """Undo what the last run recorded, so that each run starts from the same household."""
    for entry in app.store.imports.entries():
        if entry.where == VISIT and entry.undone_at is None:
            app.undo_import(entry.import_id)


def _live(app: Limner, console: Console) -> tuple[Recommendations, list[Change], Recommendations]:
    """Record the new purchases one by one; the list of new things before, and after."""
    entry = app.store.imports.start(VISIT, time.time_ns() // 1000)
    start = app.now()
    slots = [app.portrait(HOUSEHOLD).slot("interests.category")]
    before = after = app.recommend(HOUSEHOLD, repeats=False)
    changes: list[Change] = []
    table = Table()
    table.add_column("bought")
    table.add_column("list changed after", justify="right")
    table.add_column("new among ten things that are new to it")
    for number, (item_id, price) in enumerate(NEW):
        event = {
            "user_id": HOUSEHOLD,
            "item_id": item_id,
            "event_type": "purchase",
            "timestamp": start + (number + 1) * 60 * SECOND,
            "value": price,
            "quantity": 1,
            "basket_id": f"baby-{entry.import_id}-{number // 3}",
        }
        shown = {item.item_id for item in after.items}
        began = time.perf_counter()
        app.record([event], source=f"demo {entry.import_id}", import_id=entry.import_id)
        slots.append(app.portrait(HOUSEHOLD).slot("interests.category"))
        after = app.recommend(HOUSEHOLD, repeats=False)
        milliseconds = (time.perf_counter() - began) * 1000
        fresh = [item for item in after.items if item.item_id not in shown]
        title = _title(app, item_id)
        changes.append(Change(title, milliseconds, len(fresh)))
        table.add_row(title, f"{milliseconds:.1f} ms", "; ".join(i.title for i in fresh) or "–")
    app.store.imports.save(_finished(entry, len(NEW)))
    console.print(table)
    median = statistics.median(change.milliseconds for change in changes)
    console.print(
        f"From the event to the changed portrait and list: {median:.1f} ms at the median, the "
        "event durable on disk before the list was asked for."
    )
    _moved(console, slots[0], slots[-1])
    after = app.recommend(HOUSEHOLD, repeats=False, explain=True)
    _side_by_side(console, before, after)
    return before, changes, after


def _side_by_side(console: Console, before: Recommendations, after: Recommendations) -> None:
    table = Table(title="Things new to it, before and after", title_justify="left")
    for column in ("", "before", "after", "because"):
        table.add_column(column)
    known = {item.item_id for item in before.items}
    for old, new in zip(before.items, after.items, strict=True):
        style = "" if new.item_id in known else "bold green"
        table.add_row(str(old.rank), old.title, Text(new.title, style), Text(new.reason, "dim"))
    console.print(table)


def _finished(entry: Import, rows: int) -> Import:
    now = time.time_ns() // 1000
    return Import(entry.import_id, entry.where, entry.started_at, now, rows, rows)


def _title(app: Limner, item_id: str) -> str:
    catalog = app.state.catalog
    described = catalog.describe(catalog.ids.code(item_id))
    return str(described.get("title", item_id))


def _moved(console: Console, before: Slot | None, after: Slot | None) -> None:
    """Which interests rose."""
    if before is None or after is None:
        return
    old = {entry.key: entry for entry in before.value}
    rows = []
    for entry in after.value:
        was = old.get(entry.key)
        rows.append((entry.recent_share - (was.recent_share if was else 0.0), entry, was))
    rows.sort(key=lambda row: -row[0])
    table = Table(title="Interests that rose most", title_justify="left")
    for column in (
        "category",
        "of the last weeks' interest, before",
        "after",
        "of the lasting one",
    ):
        table.add_column(column, justify="left" if column == "category" else "right")
    for gain, entry, was in rows[:4]:
        if gain > 0:
            table.add_row(
                entry.key,
                f"{100 * was.recent_share:.1f} %" if was else "0.0 %",
                f"{100 * entry.recent_share:.1f} %",
                f"{100 * entry.share:.1f} %",
            )
    if table.row_count:
        console.print(table)


def _next(console: Console, command: str) -> None:
    for what, example in (
        ("why an item is where it is", f"why {HOUSEHOLD} 995242"),
        ("another portrait", "portrait 1001"),
        ("the events behind a slot", f"portrait {HOUSEHOLD} --evidence interests.category"),
        ("what is new to the household", f"recommend {HOUSEHOLD} --no-repeats --explain"),
        ("all of this over HTTP", "serve"),
    ):
        console.print(Text(f"  {command} {example}", "cyan"), Text(f"  {what}", "dim"),
                      soft_wrap=True)  # fmt: skip
    console.print("And with your own events, items and users:")
    program = sys.argv[0]
    for example in (
        "init my-shop && cd my-shop",
        "import your.csv --items items.csv --users users.csv",
        "train",
        "recommend SOMEBODY --explain",
    ):
        console.print(Text(f"  {program} {example}", "cyan"), soft_wrap=True)
