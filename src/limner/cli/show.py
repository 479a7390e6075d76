"""What people see: portraits, lists, reasons and reports, drawn in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.padding import Padding
from rich.panel import Panel
from rich.progress import BarColumn, ProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.progress import Task as Bar
from rich.table import Table
from rich.text import Text

from limner.app import Erased, Replayed, Trained
from limner.app.operating import Status
from limner.app.preprocessing import CleaningReport
from limner.app.proposing import ProposedTopics
from limner.app.quarantine import Readmitted
from limner.cli.intake import Summary
from limner.cli.intake import shown as shown_fields
from limner.events.batch import SECOND, Event
from limner.events.raw import Import, Refused
from limner.explain.slots import SlotExplained
from limner.explain.why import Why
from limner.metrics.intervals import Interval
from limner.model.protocol import Progress
from limner.profile.facet import Slot
from limner.profile.portrait import Portrait, Written
from limner.profile.words import ago
from limner.recommend.attribution import Attribution
from limner.recommend.rank import Recommendations
from limner.recommend.similar import SimilarItems
from limner.serve.answers import Evidence, SlotHistory, TopicsInUse

if TYPE_CHECKING:
    from limner.evaluate.next_basket import Report

TITLES = {
    "basic": "Basic: what is declared",
    "behaviour": "Behaviour: what they do",
    "interests": "Interests: what they like",
    "value": "Value: what they spend",
}


def date(micros: int | None) -> str:
    """A time in UTC, to the minute.

    >>> date(1512117000000000), date(None)
    ('2017-12-01 08:30', '')
    """
    return (
        "" if micros is None else f"{datetime.fromtimestamp(micros / SECOND, UTC):%Y-%m-%d %H:%M}"
    )


def gauge(share: float, width: int = 8) -> str:
    """A share of 1 as a small bar and a percentage.

    >>> gauge(0.5), gauge(0.99)
    ('████░░░░ 50 %', '████████ 99 %')
    """
    full = round(share * width)
    return f"{'█' * full}{'░' * (width - full)} {share * 100:.0f} %"


def summing(parts: Mapping[str, float], whole: float, digits: int = 3) -> tuple[list[str], str]:
    """Parts and their sum, rounded so that what is printed sums too.

    Each part is off by less than one in its last digit: what rounding down leaves over goes to
    the parts with the largest remainders.

    >>> summing({"a": 0.3333, "b": 0.3333, "c": 0.3334}, 1.0)
    (['0.333', '0.333', '0.334'], '1.000')
    """
    unit = 10**digits
    floors = {name: int(value * unit // 1) for name, value in parts.items()}
    over = round(whole * unit) - sum(floors.values())
    by_rest = sorted(parts, key=lambda name: floors[name] - parts[name] * unit)
    for name in by_rest[: max(over, 0)]:
        floors[name] += 1
    return [
        f"{n / unit:.{digits}f}" for n in floors.values()
    ], f"{round(whole * unit) / unit:.{digits}f}"


# -- portraits -------------------------------------------------------------------------------


def portrait(console: Console, seen: Portrait) -> None:
    """A portrait in its four sections."""
    head = Text.assemble((f"User {seen.user_id}", "bold"), f"  as of {date(seen.at)} UTC")
    console.print(head)
    for section, slots in seen.sections().items():
        console.print(_section(section, slots, seen.at))
    named = [f"{section}.{name}" for section, slots in seen.sections().items() for name in slots]
    if named:
        console.print(
            "The bar says how sure Limner is, and the line below what a slot rests on. To see its "
            f"events:\n  limner portrait {_quoted(seen.user_id)} --evidence {named[-1]}",
            style="dim",
            soft_wrap=True,
        )


def written(console: Console, seen: Portrait, said: Written) -> None:
    """A portrait in sentences, each with the slots that it rests on."""
    console.print(Text.assemble((f"User {seen.user_id}", "bold"), f"  as of {date(seen.at)} UTC"))
    for sentence in said.sentences:
        console.print(Text(sentence.text), Text(f"[{', '.join(sentence.slots)}]", "dim"))
    if not said.sentences:
        console.print("Nothing is known yet that could be told.", style="dim")
    if said.dropped:
        n = len(said.dropped)
        more = f"{n} sentence{'s' if n != 1 else ''} dropped that could not be grounded"
        console.print(Text(more, "dim"))
    if said.note:
        console.print(Text(said.note, "yellow"))


def _section(section: str, slots: Mapping[str, Slot], now: int) -> Panel:
    table = Table(box=None, expand=True, show_header=False, padding=(0, 1))
    table.add_column(width=16, style="bold")
    table.add_column(ratio=1, overflow="fold")
    table.add_column(width=14, no_wrap=True, style="cyan")
    for name, slot in slots.items():
        age = "" if slot.changed_at is None else f", newest {ago(max(now - slot.changed_at, 0))}"
        events = f"{slot.events:,} event{'s' if slot.events != 1 else ''}{age}"
        said = Text(slot.text + _among_others(slot))
        said.append(f"\n{events}: {section}.{name}", style="dim")
        table.add_row(Text(slot.label or name.replace("_", " ")), said, gauge(slot.confidence))
    content = table if slots else Text("nothing is known yet", style="dim")
    return Panel(content, title=TITLES[section], title_align="left", border_style="blue")


def _among_others(slot: Slot) -> str:
    above = "" if slot.percentile is None else f"{slot.percentile * 100:.0f} % of"
    said = [
        text
        for word, text in ((slot.tier, f"{slot.tier} tier"), (above, f"above {above} users"))
        if word and word not in slot.text
    ]
    return f" ({', '.join(said)})" if said else ""


def evidence(console: Console, found: Evidence) -> None:
    """The events behind a slot."""
    _events(console, f"{found.slot} of {found.user_id}: its newest events", found.events)


def explained(console: Console, found: SlotExplained) -> None:
    """How a slot came to be."""
    slot = found.slot
    console.print(Text(f"{found.path} of {found.user_id}: {slot.text}", "bold"))
    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(ratio=1, overflow="fold")
    table.add_row("how", Text(found.formula))
    if found.settings:
        table.add_row("settings", Text(fields(found.settings)))
    table.add_row("confidence", Text(found.confidence))
    if found.error:
        table.add_row("may be off by", Text(found.error))
    for place, change in enumerate(found.changes):
        table.add_row("" if place else "changes when", Text(change))
    console.print(table)
    if found.evidence:
        _events(console, "its newest events", found.evidence)


def _events(console: Console, title: str, events: Sequence[Event]) -> None:
    table = Table(title=title, title_justify="left")
    for name in ("when (UTC)", "what", "item", "value", "more"):
        table.add_column(name, overflow="fold")
    for event in events:
        table.add_row(*map(Text, _event(event)))
    console.print(table)


def changes(console: Console, found: SlotHistory) -> None:
    """What a slot was after each change."""
    table = Table(title=f"{found.slot} of {found.user_id}: how it came", title_justify="left")
    for name in ("after (UTC)", "what it said", "events", "confidence"):
        table.add_column(name, overflow="fold")
    for change in found.changes:
        table.add_row(
            date(change.at), Text(change.text), f"{change.events:,}", gauge(change.confidence)
        )
    console.print(table)


def topics(console: Console, found: TopicsInUse) -> None:
    """Topics by their words."""
    if not found.facets:
        console.print("no topics were learned yet: limner topics --learn")
    for facet in found.facets:
        title = f"{facet.facet}: of {facet.words:,} words, learned {date(facet.at)} UTC"
        table = Table(title=title, title_justify="left", caption=f"version {facet.version}")
        table.add_column("", justify="right")
        table.add_column("topic", overflow="fold")
        for number, words in enumerate(facet.topics, 1):
            table.add_row(str(number), Text(words))
        console.print(table)


def proposed(console: Console, found: ProposedTopics) -> None:
    """What became of the texts that a language model read."""
    console.print(
        f"{found.kept:,} of {found.proposed:,} proposals kept, "
        f"from {found.texts:,} texts of {found.users:,} users"
    )
    for why, n in sorted(found.dropped.items()):
        console.print(f"  dropped {n:,}: {why}")
    if found.failed:
        console.print(f"  {found.failed:,} texts had no usable answer")
    if found.waiting:
        console.print(Text(f"the rest waits for the endpoint: {found.note}"))


def _event(event: Event) -> tuple[str, ...]:
    value = "" if event.value is None else f"{event.value:g} {event.unit or ''}".strip()
    quantity = {} if event.quantity is None else {"quantity": f"{event.quantity:g}"}
    return (
        date(event.timestamp),
        event.event_type,
        event.item_id or "",
        value,
        fields({**quantity, **event.properties}),
    )


def fields(row: Mapping[str, Any]) -> str:
    """A row's fields in one line, cut where it gets long.

    >>> fields({"item_id": "tea", "properties.shop": 7})
    'item_id=tea, shop=7'
    """
    text = ", ".join(
        f"{name.removeprefix('properties.')}={value}"
        for name, value in row.items()
        if value is not None
    )
    return text if len(text) <= 160 else text[:159] + "…"


def _quoted(text: str) -> str:
    return text if text.replace("-", "").replace("_", "").isalnum() else f"'{text}'"


# -- lists and reasons -----------------------------------------------------------------------


def recommendations(console: Console, listed: Recommendations) -> None:
    """A ranked list with the parts of each score."""
    if listed.note:
        console.print(listed.note[0].upper() + listed.note[1:] + ".", style="yellow")
    if not listed.items:
        return
    parts = sorted({part for item in listed.items for part in item.parts})
    columns = console.width >= 56 + 12 * len(parts)
    table = Table(title=f"For user {listed.user_id}", title_justify="left", title_style="bold")
    table.add_column("", justify="right")
    table.add_column("item", ratio=1)
    table.add_column("score", justify="right", style="bold")
    for place, part in enumerate(parts if columns else ()):
        sign = "+" if place else "="
        table.add_column(f"{sign} {part.replace('_', ' ')}", justify="right", style="cyan")
    for item in listed.items:
        given = {part: item.parts.get(part, 0.0) for part in parts}
        shown, score = summing(given, item.score)
        title = Text(item.title)
        if item.title != item.item_id:
            title.append(f"  {item.item_id}", style="dim")
        said = [item.reason, *map(_step, item.steps)]
        if not columns:
            named = zip(shown, parts, strict=True)
            said.append("= " + " + ".join(f"{n} {part.replace('_', ' ')}" for n, part in named))
        below = [Padding(Text(text, style="italic dim"), (0, 0, 0, 2)) for text in said if text]
        cells = shown if columns else []
        table.add_row(str(item.rank), Group(title, *below), score, *cells)
    console.print(table)
    if not any(item.reason for item in listed.items):
        example = f"limner why {_quoted(listed.user_id)} {_quoted(listed.items[0].item_id)}"
        console.print(f"Reasons: add --explain, or ask {example}", style="dim", soft_wrap=True)


def similar(console: Console, found: SimilarItems) -> None:
    """Items beside an item."""
    if not found.items:
        console.print(f"nothing is {found.by} with {found.title} yet", soft_wrap=True)
        return
    beside = {"alike": "Like", "together": "Bought together with"}[found.by]
    table = Table(title=f"{beside} {found.title}", title_justify="left", title_style="bold")
    for name in ("item", "score", "from"):
        table.add_column(name)
    for item in found.items:
        said = " + ".join(f"{value:.2f} {part}" for part, value in item.parts.items())
        if item.times is not None:
            said = f"{item.times} times, {item.lift:.1f} times the usual"
        table.add_row(Text(f"{item.title}  {item.item_id}"), f"{item.score:.3f}", said)
    console.print(table)


def attribution(console: Console, found: Attribution) -> None:
    """What became of lists."""
    if not found.outcomes:
        console.print("no list was recorded yet: limner recommend USER --log", soft_wrap=True)
        return
    table = Table()
    for name in ("scenario", "lists", "items shown", "led to"):
        table.add_column(name)
    for each in found.outcomes:
        led = ", ".join(
            f"{n:,} {kind} ({each.rates[kind]:.1%} of lists)" for kind, n in each.events.items()
        )
        table.add_row(each.scenario or "none", f"{each.lists:,}", f"{each.shown:,}", led)
    console.print(table)


def _step(step: Any) -> str:
    return f"{step.name}: from {step.before} to {step.after}" if step.before != step.after else ""


def why(console: Console, found: Why) -> None:
    """Why an item is where it is."""
    title = Text.assemble((found.title, "bold"))
    if found.title != found.item_id:
        title.append(f"  {found.item_id}", style="dim")
    console.print(title)
    console.print(Text(found.text[:1].upper() + found.text[1:] + "."))
    shown, score = summing(found.parts, found.score)
    table = Table(title="What its score is the sum of", title_justify="left")
    table.add_column("part")
    table.add_column("adds", justify="right")
    table.add_column("rank by this part alone", justify="right")
    for (part, _), text in zip(found.parts.items(), shown, strict=True):
        rank = found.family_ranks.get(part)
        table.add_row(part.replace("_", " "), text, "" if rank is None else f"{rank:,}")
    by_score = "" if found.rank_by_score is None else f"{found.rank_by_score:,}"
    table.add_row("score", score, by_score, style="bold")
    console.print(table)
    if found.interaction.events:
        strength = f"(strength {found.interaction.strength:.2f})"
        console.print(Text(f"So far: {found.interaction.text}"), Text(strength, "dim"))
    for reason in found.reasons:
        n = len(reason.events)
        basis = f", {n} event{'s' if n != 1 else ''}" if n else ""
        carried = f", most of it in {reason.part.replace('_', ' ')}" if n else ""
        worth = f"(worth {reason.effect:.3f}{basis}{carried})"
        console.print(Text(f"• {reason.text}"), Text(worth, "dim"))
    for step in found.steps:
        console.print(Text(f"• {_step(step)}"))
    if found.would:
        console.print("What would have changed that:")
    for change in found.would:
        console.print(Text(f"• {change}"))


# -- taking in -------------------------------------------------------------------------------


def imports(console: Console, found: Sequence[Summary]) -> None:
    """What became of the files of an import."""
    table = Table(title="Imported", title_justify="left")
    table.add_column("file", overflow="fold")
    for name in ("import", "rows", "added", "repeated", "refused", "seconds", "rows/s"):
        table.add_column(name, justify="right")
    for one in found:
        refused = sum(complaint.rows for complaint in one.refused)
        table.add_row(
            Text(f"{one.file} ({one.kind})"), "" if one.import_id is None else str(one.import_id),
            f"{one.rows:,}", f"{one.added:,}", f"{one.repeated:,}",
            Text(f"{refused:,}", "red" if refused else ""), f"{one.seconds:.2f}",
            f"{one.rate:,.0f}",
        )  # fmt: skip
    console.print(table)
    for one in found:
        for complaint in one.refused:
            console.print(
                Text(f"{one.file}: {complaint.rows:,} refused: {complaint.reason}", "red")
            )
            for example in complaint.examples:
                console.print(Text(f"    line {example.line}: {fields(example.row)}", "dim"))
            if complaint.mend:
                console.print(Text(f"    to mend it: {complaint.mend}"))
        for rule, n in one.flagged.items():
            console.print(Text(f"{one.file}: {n:,} kept and flagged: {rule.replace('_', ' ')}"))


def ledger(console: Console, entries: Sequence[Import]) -> None:
    """The imports so far."""
    if not entries:
        console.print("nothing was imported yet: limner import events.csv --items items.csv")
        return
    table = Table()
    for name in ("import", "from", "begun (UTC)", "rows", "added", "repeated", "refused", ""):
        table.add_column(name, justify="right" if name in _COUNTS else "left", overflow="fold")
    for one in entries:
        end = "undone" if one.undone_at else "" if one.finished_at else "not finished"
        table.add_row(
            str(one.import_id), Text(one.where), date(one.started_at), f"{one.rows:,}",
            f"{one.added:,}", f"{one.repeated:,}", f"{one.refused:,}", end,
        )  # fmt: skip
    console.print(table)


_COUNTS = ("rows", "added", "repeated", "refused")


def cleaning(console: Console, found: CleaningReport) -> None:
    """What each rule of cleaning has touched."""
    if not found.rules:
        console.print("no rule has touched anything yet")
    else:
        table = Table(title="What the rules have touched", title_justify="left")
        for name in ("rule", "version", "does", "rows", "in quarantine", "last (UTC)", "example"):
            right = name in ("version", "rows", "in quarantine")
            table.add_column(name, justify="right" if right else "left", overflow="fold")
        for said in found.rules:
            table.add_row(
                Text(said.rule.replace("_", " ") + ("" if said.on else " (off)")),
                str(said.version), said.effect, f"{said.touched:,}",
                f"{said.held:,}" if said.held else "", date(said.last),
                Text(fields(shown_fields(dict(said.example))) if said.example else "", "dim"),
            )  # fmt: skip
        console.print(table)
    if found.usual:
        table = Table(title="What is usual", title_justify="left")
        for name in ("event type", "amount", "events", "mean", "standard deviation"):
            table.add_column(name, justify="left" if name in ("event type", "amount") else "right")
        for one in found.usual:
            table.add_row(one.event_type, one.measure, f"{one.n:,}", f"{one.mean:,.2f}",
                          f"{one.deviation:,.2f}")  # fmt: skip
        console.print(table)
    if found.day_bound is not None:
        console.print(f"Beyond {found.day_bound:,.0f} events a day a user is taken for a robot.")


def quarantine(console: Console, counts: Mapping[str, int], rows: Sequence[Refused]) -> None:
    """Refused rows with reason and mend."""
    if not rows:
        console.print("no row was refused")
        return
    for rule, n in sorted(counts.items(), key=lambda pair: -pair[1]):
        console.print(Text(f"{n:,} × {rule.replace('_', ' ')}", "bold"))
    for row in rows:
        refused(console, row, whole=False)
    console.print(
        f"To mend one: limner quarantine readmit {rows[0].row_id} --set FIELD=VALUE",
        style="dim",
        soft_wrap=True,
    )


def refused(console: Console, row: Refused, *, whole: bool = True) -> None:
    """One refused row; `whole` with each field on a line of its own."""
    reason, _, mend = row.reason.partition("; to mend it: ")
    console.print(Text(f"{row.row_id}: {row.where}, line {row.line}: {reason}"))
    if whole:
        for name, value in row.row.items():
            console.print(Text(f"    {name.removeprefix('properties.')}: {value}"))
    elif row.row:
        console.print(Text(f"    {fields(shown_fields(row.row))}", "dim"))
    if mend:
        console.print(Text(f"    to mend it: {mend}"))


def readmitted(console: Console, done: Readmitted) -> None:
    """What became of rows that went through the door again."""
    console.print(
        f"{done.added:,} rows are admitted, {done.repeated:,} were there already, "
        f"{len(done.refused):,} are refused again"
    )
    for row in done.refused[:20]:
        refused(console, row, whole=False)


def receipt(console: Console, user: str, done: Erased) -> None:
    """What an erasure removed where."""
    table = Table(title=f"User {user} is erased", title_justify="left")
    table.add_column("from")
    table.add_column("records removed", justify="right")
    table.add_column("clean now")
    for name, n in done.removed.items():
        table.add_row(name, f"{n:,}", "yes" if done.clean[name] else Text("NO", "bold red"))
    console.print(table)
    if done.model is not None and done.model.forgot:
        parts = ", ".join(done.model.forgot)
        console.print(f"Model {done.model.version} is without this user in: {parts}")
    if done.retrain and done.model is not None:
        parts = ", ".join(done.model.due)
        console.print(
            f"Learned from this user among all others, until the next training: {parts} "
            "(limner train)"
        )
    if done.model is not None and done.model.older:
        console.print(f"Older versions that are still kept: {', '.join(done.model.older)}")


# -- models and the store --------------------------------------------------------------------


def trained(console: Console, done: Trained) -> None:
    """A model that was trained."""
    console.print(
        f"Trained in {done.seconds:.1f} s on {done.events:,} events of {done.users:,} users and "
        f"{done.items:,} items: version {done.version}"
    )
    parts = sorted({part for weights in done.weights.values() for part in weights})
    table = Table(title="What each part weighs in a score", title_justify="left")
    table.add_column("")
    for part in parts:
        table.add_column(part.replace("_", " "), justify="right")
    names = {"next": "with repeats", "new": "new items only"}
    for task, weights in done.weights.items():
        usual, *known = task.split(", ")
        table.add_row(
            ", ".join([names.get(usual, usual), *known]),
            *(f"{weights.get(part, 0.0):.3f}" for part in parts),
        )
    console.print(table)


def report(console: Console, found: Report) -> None:
    """An evaluation: systems by metric, each with its interval."""
    console.print(
        f"Trained on {found.events:,} events before {date(found.cutoff)} UTC; asked for each "
        f"user's first basket after it, out of {found.items:,} items"
    )
    for task, systems in found.systems.items():
        name = {"next": "Next basket (repeats count)", "new": "New to the user"}.get(task, task)
        metrics = list(next(iter(systems.values())))
        table = Table(title=f"{name}, {found.users[task]:,} users", title_justify="left")
        table.add_column("")
        for metric in metrics:
            table.add_column(f"{metric.replace('_', ' ')} at {found.k}", justify="right")
        for system, by_metric in systems.items():
            bold = "bold" if system == "blend" else ""
            cells = [_interval(by_metric[metric]) for metric in metrics]
            table.add_row(system.replace("_", " "), *cells, style=bold)
        for baseline, by_metric in found.differences.get(task, {}).items():
            cells = [_interval(by_metric[metric], signed=True) for metric in metrics]
            table.add_row(f"blend − {baseline.replace('_', ' ')}", *cells, style="dim")
        console.print(table)
    better = "beats every baseline" if found.beats_baselines else "does not beat every baseline"
    console.print(f"The blend {better}; in brackets the 95 % interval over users (bootstrap).")


def _interval(found: Interval, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{found.mean:{sign}.3f} [{found.low:{sign}.3f}, {found.high:{sign}.3f}]"


def replayed(console: Console, found: Replayed) -> None:
    """Whether the portraits are what the log says."""
    users = f"{found.users:,} users rebuilt from positions {found.start:,} to {found.stop:,}"
    console.print(f"{users} in {found.seconds:.1f} s")
    if not found.different:
        console.print("they are what the portraits say")
    for said in found.differences:
        console.print(Text(said, "red"))
    if found.different > len(found.differences):
        console.print(f"and {found.different - len(found.differences):,} more differences")
    if found.swapped:
        console.print("what was rebuilt is in use now")


def status(console: Console, found: Status) -> None:
    """What is in the store, and how it fares."""
    table = Table(box=None, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, said in _status(found):
        table.add_row(name, Text(said))
    console.print(Group(table))


def _status(found: Status) -> Iterator[tuple[str, str]]:
    how = found.operations
    yield "store", found.store
    yield "users", f"{found.users:,}"
    yield "items", f"{found.items:,}"
    yield "log", f"{found.position:,} rows"
    if newest := found.newest_event:
        yield "newest event", f"{date(newest)} UTC, {ago(max(found.at - newest, 0))}"
    if found.waiting:
        yield "queue", ", ".join(f"{n:,} {name}" for name, n in found.waiting.items()) + " wait"
    if how.snapshot_at is None:
        yield "snapshot", "none yet"
    else:
        behind = f"{how.snapshot_behind or 0:,} rows since"
        yield "snapshot", f"{ago(int((how.snapshot_age or 0) * SECOND))}, {behind}"
    model = found.model or "none yet: limner train"
    if how.model_behind:
        model += f", {how.model_behind:,} rows behind"
    if due := found.erased_since_training:
        model += f", which learned from {due:,} users erased since: limner train"
    yield "model", model
    if how.gate is not None:
        yield "gate", f"{'promoted' if how.gate.promoted else 'kept out'}: {how.gate.reason}"
    if how.disk:
        parts = ", ".join(f"{name} {_size(size)}" for name, size in how.disk.items() if size)
        yield "disk", f"{_size(sum(how.disk.values()))}: {parts}"
    held = how.quarantined
    yield "refused", f"{held:,} rows" + (": limner quarantine" if held else "")
    if flagged := sum(found.flagged.values()):
        yield "flagged", f"{flagged:,} times: limner clean"
    if doing := found.backfill:
        share = f"{doing['done']:,} of {doing['total']:,} rows"
        yield "backfill", f"{', '.join(doing['facets'])}: {share}"
    yield "imports", f"{len(found.imports):,}: limner import --list"
    jobs = found.schedule
    failed = ", ".join(run.name for run in jobs if run.outcome in ("failed", "interrupted"))
    said = f"{len(jobs)} jobs{f', not done the last time: {failed}' if failed else ''}"
    yield "schedule", f"{said}: limner schedule"


def _size(n: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB"):
        if n < 1_000:
            return f"{n:.0f} {unit}"
        n /= 1_000
    return f"{n:,.1f} GB"


# -- progress --------------------------------------------------------------------------------


class _Rate(ProgressColumn):
    """Steps done, of how many, and how many a second."""

    def render(self, task: Bar) -> Text:
        of = f" of {task.total:,.0f}" if task.total else ""
        rate = f", {task.speed:,.0f}/s" if task.speed else ""
        return Text(f"{task.completed:,.0f}{of}{rate}")


@contextmanager
def bars() -> Iterator[Progress]:
    """Progress bars on stderr, one a stage, gone when the work is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), _Rate(), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as progress:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage.replace("_", " "), total=total or None)
            progress.update(tasks[stage], completed=done, total=total or None)

        yield report
