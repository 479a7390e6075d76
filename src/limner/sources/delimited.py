"""Delimited text: CSV, TSV, RecBole's atomic files and MovieLens' headerless ones."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv

from limner.errors import InputError
from limner.events.batch import I64
from limner.events.raw import Refused
from limner.sources.columns import Kind

_GARBLED = "\x1a"
_SAMPLE = 1 << 16
UNQUOTED = (".inter", ".item", ".user", ".data", ".dat")
"""Endings of files in which a quote is a letter like others."""

_TAOBAO = frozenset({"pv", "buy", "cart", "fav"})


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a file is written: its delimiter, column names, whether they are its first row.

    A name of None is a column to leave out. `row_bytes` is the mean length of a row.
    """

    delimiter: str
    names: list[str | None]
    header: bool
    quoted: bool
    row_bytes: float


def sniff(path: Path, kind: Kind) -> Dialect:
    """Read the dialect off the first 64 KB.

    The delimiter is the one of comma, tab, semicolon and bar that the first row has most of.
    A first row of numbers is data, not names: MovieLens' four columns and Taobao's five are
    known, other columns are called "1", "2", … (to be mapped).
    Raises InputError if the file is empty or no UTF-8 text.
    """
    with pa.input_stream(str(path), compression=split_name(path)[1]) as stream:
        sample = stream.read(_SAMPLE)
    if sample[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\x00" in sample[:4096]:
        raise InputError("this is no UTF-8 text", where=str(path), mend="save it as UTF-8")
    whole = len(sample) < _SAMPLE
    if not whole:
        sample = sample[: sample.rfind(b"\n") + 1] or sample
    first_line = sample.split(b"\n", 1)[0]
    try:
        first_line.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(
            "the header is no UTF-8 text", where=str(path), mend="save the file as UTF-8"
        ) from None
    text = sample.decode("utf-8-sig", errors="replace")
    if not text.strip():
        raise InputError("the file is empty", where=str(path), mend="give a file with rows")
    quoted = not split_name(path)[0].endswith(UNQUOTED)
    row_bytes = len(sample) / max(1, sample.count(b"\n"))
    line = text.splitlines()[0]
    if not line.strip():
        raise InputError(
            "the first line is blank", where=str(path), mend="begin with the column names"
        )
    if "::" in line and not any(mark in line for mark in ",\t;|"):
        cells = line.split("::")
        names = _headerless(cells, kind) or [str(i + 1) for i in range(len(cells))]
        spread: list[str | None] = []
        for name in names:  # "::" is read as ":" with an empty column between
            spread += [name, None]
        return Dialect(":", spread[:-1], False, False, row_bytes)
    delimiter = max(",\t;|", key=lambda mark: _unquoted(line, quoted).count(mark))
    rows = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
    )
    cells = next(rows)
    known = _headerless(cells, kind)
    if known is not None:
        return Dialect(delimiter, list(known), False, quoted, row_bytes)
    names = [cell.strip() or f"column_{index + 1}" for index, cell in enumerate(cells)]
    return Dialect(delimiter, list(_distinct(names)), True, quoted, row_bytes)


def read(
    path: Path, dialect: Dialect, *, batch_rows: int, refuse: Callable[[Refused], None]
) -> Iterator[tuple[dict[str, pa.Array], I64]]:
    """All columns as text, in batches of at most `batch_rows` rows, with their line numbers.

    Rows of blank cells only are no rows. A row with another number of cells than the header, or
    with bytes that are no UTF-8, goes to `refuse`; its text does not (it may hold a user's id).
    A line number is that of the row's first line in the file, after bad rows and quoted newlines
    too. Raises InputError if a quote is opened and not closed.
    """
    where = str(path)
    names = [name if name is not None else f"\x00{i}" for i, name in enumerate(dialect.names)]
    lines = _Lines(2 if dialect.header else 1)

    def bad_row(row: pcsv.InvalidRow) -> str:
        lines.bad(row.number, row.text.count("\n"), row.actual_columns)
        return "skip"

    block = int(max(1 << 16, min(1 << 26, dialect.row_bytes * batch_rows)))
    try:
        with pa.input_stream(where, compression=split_name(path)[1]) as stream:
            reader = pcsv.open_csv(
                pa.PythonFile(_Marked(stream), mode="r"),
                read_options=pcsv.ReadOptions(
                    use_threads=False,
                    block_size=block,
                    column_names=names,
                    skip_rows_after_names=1 if dialect.header else 0,
                ),
                parse_options=pcsv.ParseOptions(
                    delimiter=dialect.delimiter,
                    quote_char='"' if dialect.quoted else False,
                    newlines_in_values=dialect.quoted,
                    ignore_empty_lines=False,
                    invalid_row_handler=bad_row,
                ),
                convert_options=pcsv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()),
                    include_columns=[n for n in names if not n.startswith("\x00")],
                    null_values=[""],
                    strings_can_be_null=True,
                ),
            )
            for record in reader:
                for start in range(0, record.num_rows, batch_rows):
                    part = record.slice(start, batch_rows)
                    columns = dict(zip(part.schema.names, part.columns, strict=True))
                    numbers = lines.take(_newlines(columns, part.num_rows))
                    yield _readable(columns, numbers, where, refuse)
                _tell(lines, where, len(dialect.names), refuse)
            lines.rest()
            _tell(lines, where, len(dialect.names), refuse)
    except pa.ArrowInvalid as error:
        raise InputError(
            f"the text cannot be read as rows: {error}",
            where=where,
            mend='look for a quote (") that is opened and not closed',
        ) from error


@dataclass
class _Lines:
    """Gives each row the number of its first line, though bad rows were left out between.

    `record` is the number of the next record, a bad one included, from 1; `extra` how many more
    lines than records came before it.
    """

    record: int
    extra: int = 0
    pending: list[tuple[int, int, int]] = field(default_factory=list)
    told: list[tuple[int, int]] = field(default_factory=list)

    def bad(self, record: int, newlines: int, cells: int) -> None:
        """A bad record, with the newlines in its text and its number of cells."""
        self.pending.append((record, newlines, cells))

    def take(self, newlines: I64) -> I64:
        """Line numbers of the next rows, which hold so many newlines each."""
        n = len(newlines)
        bad = np.array([number for number, _, _ in self.pending], dtype=np.int64)
        # The i-th good row comes after those bad ones with at most i good rows before them.
        before = np.searchsorted(
            bad - self.record - np.arange(len(bad)), np.arange(n), side="right"
        )
        records = self.record + np.arange(n) + before
        passed = int(before[-1]) if n else 0
        at = np.searchsorted(records, bad[:passed])
        inner = np.concatenate([[0], np.cumsum(newlines)])
        of_bad = np.concatenate([[0], np.cumsum([x for _, x, _ in self.pending[:passed]])])
        lines: I64 = records + self.extra + inner[:-1] + of_bad[before]
        for index, (number, _, cells) in enumerate(self.pending[:passed]):
            line = number + self.extra + int(inner[at[index]]) + int(of_bad[index])
            self.told.append((line, cells))
        del self.pending[:passed]
        self.record = int(records[-1]) + 1 if n else self.record
        self.extra += int(inner[-1]) + int(of_bad[passed])
        return lines

    def rest(self) -> None:
        """What is still pending comes right after the rows taken so far."""
        for number, newlines, cells in self.pending:
            self.told.append((number + self.extra, cells))
            self.extra += newlines
            self.record = number + 1
        self.pending.clear()


def _tell(lines: _Lines, where: str, wanted: int, refuse: Callable[[Refused], None]) -> None:
    for line, cells in lines.told:
        reason = (
            f"this row has {cells} cells and the header {wanted}; to mend it: "
            "put quotes around a cell that holds the delimiter, and fill up short rows"
        )
        refuse(Refused(where, line, "wrong_columns", reason, {}))
    lines.told.clear()


class _Marked(io.RawIOBase):
    """A stream in which each byte that is no UTF-8 is replaced by SUB (0x1A).

    SUB is ASCII's sign for a garbled character; so the reader sees clean text, and the rows that
    hold one can be told.
    """

    def __init__(self, stream: pa.NativeFile) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")
        self._whole = True

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; up to three may have waited for the rest of their character."""
        data: bytes = self._stream.read(max(1, size - 3) if size > 0 else None)
        if self._whole and data.isascii():
            return data
        text = self._decoder.decode(data, final=not data)
        self._whole = not self._decoder.getstate()[0]
        if not text and data:
            return self.read(size)
        try:
            return text.encode()
        except UnicodeEncodeError:
            return re.sub("[\udc80-\udcff]", _GARBLED, text).encode()


def _readable(
    columns: dict[str, pa.Array], lines: I64, where: str, refuse: Callable[[Refused], None]
) -> tuple[dict[str, pa.Array], I64]:
    """Without the rows that hold garbled text, which are refused, and without blank rows."""
    drop = np.zeros(len(lines), dtype=bool)
    for name, array in columns.items():
        if not _holds(array, _GARBLED):
            continue
        wrong = pc.fill_null(pc.match_substring(array, _GARBLED), False)
        mask = wrong.to_numpy(zero_copy_only=False)
        for row in np.flatnonzero(mask & ~drop).tolist():
            reason = f"column {name} is no UTF-8 text; to mend it: save the file as UTF-8"
            refuse(Refused(where, int(lines[row]), "undecodable", reason, {}))
        drop |= mask
    if all(array.null_count for array in columns.values()):
        blank = np.ones(len(lines), dtype=bool)
        for array in columns.values():
            blank &= pc.is_null(array).to_numpy(zero_copy_only=False)
        drop |= blank
    if drop.any():
        keep = pa.array(~drop)
        columns = {name: array.filter(keep) for name, array in columns.items()}
        lines = lines[~drop]
    return columns, lines


def _holds(array: pa.Array, letter: str) -> bool:
    """Whether any text of the column may hold this ASCII letter."""
    data = array.buffers()[2]
    return data is not None and bool((np.frombuffer(data, dtype=np.uint8) == ord(letter)).any())


def _newlines(columns: dict[str, pa.Array], n: int) -> I64:
    """How many newlines each row holds inside its cells."""
    total = np.zeros(n, dtype=np.int64)
    for array in columns.values():
        if not _holds(array, "\n"):
            continue
        counts = pc.fill_null(pc.count_substring(array, "\n"), 0)
        total += counts.to_numpy(zero_copy_only=False)
    return total


def _headerless(cells: list[str], kind: Kind) -> list[str] | None:
    """Names for a first row that is data, or None if it is names."""
    numeric = [_is_number(cell) for cell in cells]
    if kind == "events":
        if len(cells) == 4 and all(numeric):
            return ["user_id", "item_id", "rating", "timestamp"]
        if len(cells) == 5 and cells[3] in _TAOBAO and all(numeric[:3]) and numeric[4]:
            return ["user_id", "item_id", "category", "behavior", "timestamp"]
    if all(numeric):
        return [str(index + 1) for index in range(len(cells))]
    return None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _unquoted(line: str, quoted: bool) -> str:
    """The line without what stands in quotes."""
    return "".join(line.split('"')[::2]) if quoted else line


def _distinct(names: list[str]) -> list[str]:
    seen: set[str] = set()
    out = []
    for name in names:
        unique, number = name, 2
        while unique in seen:
            unique, number = f"{name}_{number}", number + 1
        seen.add(unique)
        out.append(unique)
    return out


def split_name(path: Path) -> tuple[str, str | None]:
    """(file name in lower case without compression's ending, name of the compression)."""
    name = path.name.lower()
    for ending, compression in ((".gz", "gzip"), (".zst", "zstd"), (".bz2", "bz2")):
        if name.endswith(ending):
            return name.removesuffix(ending), compression
    return name, None
