"""The linter of data: what the rules would say of rows, and what else is odd about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from limner.events.batch import DAY, I64, PROPERTY, SECOND, Bool, EventBatch
from limner.events.clean import clean
from limner.events.norms import Norms, codes_of
from limner.events.once import Seen
from limner.events.raw import RawBatch, Refused
from limner.events.rules import BITS, RULES, CleanConfig
from limner.events.vocabulary import RESERVED, TYPES
from limner.privacy.admit import Occurrences, PrivacyConfig, admit
from limner.privacy.keys import Keys
from limner.sources.columns import Columns, Kind
from limner.sources.suggest import near_type

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")
SHOWN = 5
"""Line numbers that a problem names, at most."""

Known = Callable[[str], bool]
"""Whether an id is known."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something odd. `error`: rows that an import would refuse; `warning`: likely a mistake.

    `rows` is how many it is about, `lines` the first of them, `example` what one says.
    """

    name: str
    level: Level
    rows: int
    text: str
    mend: str = ""
    lines: tuple[int, ...] = ()
    example: str = ""


@dataclass(frozen=True, slots=True)
class ColumnSaid:
    """A column of the source: which field or property it is, and how much of it is filled."""

    name: str
    meaning: str
    filled: float
    constant: str | None = None


@dataclass(frozen=True, slots=True)
class LintReport:
    """What the linter found in one source; times are µs, `days` counts events by UTC day."""

    where: str
    kind: Kind
    rows: int
    good: int
    users: int
    items: int
    first: int | None
    last: int | None
    columns: tuple[ColumnSaid, ...]
    types: Mapping[str, int]
    days: Mapping[str, int]
    problems: tuple[Problem, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Unknown event types with what they seem to mean."""
    map: Mapping[str, str] = field(default_factory=dict)
    """Field → column, as the source was read."""
    time_format: str | None = None
    command: str = ""
    """How to import it."""
    settings: str = ""
    """A limner.toml that reads it."""

    @property
    def errors(self) -> int:
        """How many problems are errors."""
        return sum(problem.level == "error" for problem in self.problems)


@dataclass(slots=True)
class _Heap:
    """The rows of one problem so far."""

    rows: int = 0
    lines: list[int] = field(default_factory=list)
    example: str = ""
    reason: str = ""


class Lint:
    """Takes a source's batches one after the other, then reports; memory grows with ids alone."""

    def __init__(
        self,
        kind: Kind,
        config: CleanConfig,
        *,
        now: int,
        items: Known | None = None,
        users: Known | None = None,
    ) -> None:
        self.kind = kind
        # identical lines are looked for in the whole file, not batch by batch
        self._config = replace(config, off=(*config.off, "duplicate_line"))
        self._now = now
        self._ids = {"item_id": items, "user_id": users}
        self._keys = Keys.generate()
        self._occurrences, self._contents = Occurrences(), Occurrences()
        self._seen = Seen()
        self._norms = Norms()
        self._found: dict[str, _Heap] = {}
        self._rows = self._good = 0
        self._latest = -(2**62)
        self._earliest = 2**62
        self._users: set[bytes] = set()
        self._items: set[str] = set()
        self._types: Counter[str] = Counter()
        self._days: Counter[int] = Counter()
        self._units: Counter[str] = Counter()
        self._filled: Counter[str] = Counter()
        self._constant: dict[str, Any] = {}
        self._mends: dict[str, str] = {}

    def refuse(self, refused: Refused) -> None:
        """A row that could not be read at all."""
        self._rows += 1
        self._refused(refused)

    def add(self, raw: RawBatch) -> None:
        """Check the rows of a batch."""
        lines: I64 = raw.table.column("line").to_numpy()
        self._rows += len(raw)
        self._columns(raw)
        if self.kind == "events":
            self._time_units(raw, lines)
            for name, known in self._ids.items():
                if known is not None and name in raw.table.column_names:
                    self._dangling(name, known, raw, lines)
        nobody = PrivacyConfig()
        admitted = admit(raw, self._keys, nobody, self._occurrences).raw
        self._repeats(admitted, lines)
        out = clean(admitted, now=self._now, config=self._config, norms=self._norms)
        for refused in out.refused:
            self._refused(refused)
        self._good += len(out.batch)
        self._kept(out.batch, out.lines)
        self._norms.observe(0, out.batch)

    def report(
        self,
        where: str,
        columns: Columns | None = None,
        before: Sequence[Problem] = (),
        **suggested: Any,
    ) -> LintReport:
        """All that was found; `before` is what was found before the rows were read."""
        aliases = {
            name: near
            for name in self._types
            if name not in TYPES | RESERVED and (near := near_type(name)) is not None
        }
        problems = [*before, *self._problems(aliases), *self._odd_columns(columns)]
        problems.sort(key=lambda problem: (LEVELS.index(problem.level), -problem.rows))
        return LintReport(
            where,
            self.kind,
            self._rows,
            self._good,
            len(self._users),
            len(self._items),
            self._earliest if self._days else None,
            self._latest if self._days else None,
            self._said(columns),
            dict(self._types.most_common()),
            {_date(day): n for day, n in sorted(self._days.items())},
            tuple(problems),
            aliases=aliases,
            map=dict(columns.fields) if columns is not None else {},
            **suggested,
        )

    # -- batch by batch ----------------------------------------------------------------------

    def _note(
        self, name: str, mask: Bool, lines: I64, example: Callable[[int], str] | None = None
    ) -> None:
        rows = np.flatnonzero(mask)
        if not len(rows):
            return
        heap = self._found.setdefault(name, _Heap())
        if not heap.example and example is not None:
            heap.example = example(int(rows[0]))
        heap.rows += len(rows)
        heap.lines += lines[rows[: SHOWN - len(heap.lines)]].tolist()

    def _refused(self, refused: Refused) -> None:
        heap = self._found.setdefault(refused.rule, _Heap())
        reason, _, mend = refused.reason.partition("; to mend it: ")
        heap.reason = heap.reason or reason
        self._mends.setdefault(refused.rule, mend)
        heap.rows += 1
        if len(heap.lines) < SHOWN:
            heap.lines.append(refused.line)

    def _columns(self, raw: RawBatch) -> None:
        for name in raw.table.column_names:
            if name in ("line", "content"):
                continue
            column = raw.table.column(name).combine_chunks()
            filled = len(column) - column.null_count
            self._filled[name] += filled
            if not filled or pa.types.is_nested(column.type):
                continue
            if name in self._constant and self._constant[name] is None:
                continue  # it is known to change
            if pa.types.is_dictionary(column.type):
                used = np.unique(codes_of(column)[codes_of(column) >= 0])
                value = column.dictionary[used[0]].as_py() if len(used) == 1 else None
            else:
                ends = pc.min_max(column)
                low, high = ends["min"].as_py(), ends["max"].as_py()
                value = low if low == high else None
            if self._constant.setdefault(name, value) != value:
                self._constant[name] = None

    def _time_units(self, raw: RawBatch, lines: I64) -> None:
        if "timestamp" not in raw.table.column_names:
            return
        column = raw.table.column("timestamp").combine_chunks()
        try:
            numbers = column.cast(pa.float64(), safe=False).drop_null()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return
        size = np.abs(numbers.to_numpy(zero_copy_only=False))
        edges = [1e11, 1e14, 1e17]
        counts = np.bincount(np.searchsorted(edges, size[size > 1e8], "right"), minlength=4)
        for unit, n in zip(("seconds", "milliseconds", "microseconds", "nanoseconds"),
                           counts.tolist(), strict=True):  # fmt: skip
            self._units[unit] += n
        self._units["days"] += int(((size >= 7_305) & (size < 60_000)).sum())
        self._units["minutes"] += int(((size >= 1e7) & (size < 4e7) & (size % 1 == 0)).sum())

    def _dangling(self, name: str, known: Known, raw: RawBatch, lines: I64) -> None:
        column = raw.table.column(name).combine_chunks()
        if not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        values = column.dictionary.to_pylist()
        there = np.array([value is None or known(value) for value in values] + [True], dtype=bool)
        codes = codes_of(column)
        self._note(f"unknown_{name[:-3]}", ~there[codes], lines, lambda row: values[codes[row]])

    def _repeats(self, admitted: RawBatch, lines: I64) -> None:
        digest = admitted.table.column("digest").combine_chunks()
        check = admitted.table.column("check").combine_chunks()
        own = np.zeros(len(lines), dtype=bool)
        if "event_id" in admitted.table.column_names:
            ids = admitted.table.column("event_id").combine_chunks()
            own = pc.is_valid(ids).to_numpy(zero_copy_only=False)
            if own.any():
                mask = pa.array(own)
                digest, checks = digest.filter(mask), check.filter(mask)
                kept, conflict = self._seen.sift(digest, checks)
                new = pa.array(kept)
                self._seen.add(digest.filter(new), checks.filter(new))
                at = np.flatnonzero(own)
                self._note("repeated_id", _spread(~kept & ~conflict, at, len(own)), lines)
                clash = _spread(conflict, at, len(own))
                self._note("conflicting_id", clash, lines, lambda row: str(ids[row].as_py()))
        rest = np.flatnonzero(~own)
        if len(rest) and self.kind == "events":
            numbers = self._contents.number(check.to_numpy(zero_copy_only=False)[rest])
            self._note("identical_lines", _spread(numbers > 0, rest, len(own)), lines)

    def _kept(self, batch: EventBatch, lines: I64) -> None:
        if not len(batch):
            return
        types, names = batch.codes("event_type")
        for name, n in zip(names, np.bincount(types, minlength=len(names)).tolist(), strict=True):
            if n:
                self._types[name] += n
        for column, ids in (("user_id", self._users), ("item_id", self._items)):
            codes, values = batch.codes(column)
            ids.update(values[code] for code in np.unique(codes[codes >= 0]).tolist())
        if self.kind != "events":
            return
        unknown = np.array([name not in TYPES | RESERVED for name in names], dtype=bool)[types]
        self._note("unknown_type", unknown, lines, lambda row: names[types[row]])
        times = batch.times()
        reached = np.maximum.accumulate(np.maximum(times, self._latest))
        self._note("out_of_order", times < reached, lines)
        self._latest = int(reached[-1])
        self._earliest = min(self._earliest, int(times.min()))
        days, counts = np.unique(times // DAY, return_counts=True)
        self._days.update(dict(zip(days.tolist(), counts.tolist(), strict=True)))
        flags = batch.array("flags").to_numpy(zero_copy_only=False)
        if flags.any():
            for rule, bit in BITS.items():
                if rule != "unknown_type":
                    self._note(rule, (flags & bit) > 0, lines)

    # -- in the end --------------------------------------------------------------------------

    def _problems(self, aliases: Mapping[str, str]) -> list[Problem]:
        out = []
        for name, heap in self._found.items():
            level, text, mend = self._spoken(name, heap, aliases)
            out.append(Problem(name, level, heap.rows, text, mend, tuple(heap.lines), heap.example))
        used = {unit: n for unit, n in self._units.items() if n and unit not in ("days", "minutes")}
        if len(used) > 1:
            said = ", ".join(f"{n:,} in {unit}" for unit, n in used.items())
            out.append(
                Problem("mixed_units", "warning", sum(used.values()) - max(used.values()),
                        f"times come in different units: {said}",
                        "each is read by its size; check that this is meant")
            )  # fmt: skip
        return out

    def _spoken(self, name: str, heap: _Heap, aliases: Mapping[str, str]) -> tuple[Level, str, str]:
        if name == "impossible_time":
            text, mend = heap.reason, self._mends[name]
            for unit, n in self._units.items():
                if unit in ("days", "minutes") and n >= 0.9 * heap.rows:
                    text = f"{text}: these look like {unit} since 1970, read as seconds"
                    mend = "multiply them by " + ("86400" if unit == "days" else "60")
            return "error", text, mend
        if name == "unknown_type":
            unknown = [kind for kind in self._types if kind not in TYPES | RESERVED]
            said = ", ".join(
                f"{kind!r}" + (f" (did you mean {aliases[kind]}?)" if kind in aliases else "")
                for kind in unknown[:8]
            )
            return "warning", f"unknown event types: {said}", "map them in [clean] aliases"
        if name in _SAID:
            return _SAID[name]
        if name in BITS:
            level: Level = "warning" if RULES[name].doubt else "note"
            return level, RULES[name].reason, "nothing: they are kept, and flagged"
        return "error", heap.reason, self._mends.get(name, "")

    def _odd_columns(self, columns: Columns | None) -> list[Problem]:
        out = []
        if columns is not None and self.kind == "events":
            if "event_type" not in columns.fields and "event_type" in columns.constants:
                presumed = columns.constants["event_type"]
                out.append(
                    Problem("no_event_type", "note", self._rows,
                            f"no column tells the event type, so all rows are {presumed!r}",
                            "say otherwise with --map event_type=COLUMN or --set event_type=NAME")
                )  # fmt: skip
            for name, use in _WANTED.items():
                if name not in columns.fields and name not in columns.constants:
                    out.append(Problem("missing_column", "note", 0,
                                       f"there is no column for {name}: {use}",
                                       f"if there is one: --map {name}=COLUMN"))  # fmt: skip
        for said in self._said(columns):
            if said.filled == 0:
                text = f"column {said.name!r} is empty"
                out.append(Problem("empty_column", "note", self._rows, text))
            elif said.constant is not None and self._rows > 20:
                text = f"column {said.name!r} is always {said.constant!r}"
                out.append(Problem("constant_column", "note", self._rows, text))
        return out

    def _said(self, columns: Columns | None) -> tuple[ColumnSaid, ...]:
        names: dict[str, str] = {}
        if columns is not None:
            names = dict(columns.fields)
            names |= {PROPERTY + prop: column for prop, column in columns.properties.items()}
        out = []
        for name, filled in self._filled.items():
            if columns is not None and name not in names:
                continue
            value = self._constant.get(name)
            whole = filled == self._rows and value is not None
            out.append(
                ColumnSaid(names.get(name, name), name, filled / max(self._rows, 1),
                           str(value) if whole else None)
            )  # fmt: skip
        return tuple(out)


_WANTED = {
    "item_id": "nothing can be recommended from these events",
    "event_id": "an event that is sent twice with other content cannot be told",
    "value": "nothing is known of what is spent or rated",
    "group_id": "visits and baskets are told by time alone",
}
"""Fields that events can do without, and what is missed."""

_SAID: Mapping[str, tuple[Level, str, str]] = {
    "unknown_item": (
        "warning", "events name items that are not described",
        "give their descriptions: --items FILE; until then they have no kind, brand or price",
    ),
    "unknown_user": (
        "warning", "events name users that are not described", "give them: --users FILE",
    ),
    "repeated_id": (
        "note", "an event id comes again with the same content", "nothing: it counts once",
    ),
    "conflicting_id": (
        "error", "an event id comes again with other content",
        "give each event an id of its own, or send corrections as such",
    ),
    "identical_lines": (
        "warning", "lines are just like an earlier one",
        "if they were sent twice, take them out; if they are two events, nothing",
    ),
    "out_of_order": (
        "note", "times go back", "nothing: Limner takes late events in; sorted files are faster",
    ),
    "robot_speed": (
        "warning", "users look at more items within seconds than a hand can reach",
        "they are kept and flagged; a facet can leave them out: flags = \"none\"",
    ),
}  # fmt: skip


def _spread(mask: Bool, at: npt.NDArray[np.intp], n: int) -> Bool:
    out = np.zeros(n, dtype=bool)
    out[at] = mask
    return out


def _date(day: int) -> str:
    return f"{datetime.fromtimestamp(day * DAY / SECOND, UTC):%Y-%m-%d}"
