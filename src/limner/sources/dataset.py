"""A data set read straight into what models learn from: for measuring, beside any store.

No pseudonyms, no cleaning, no portraits: rows become interactions in a stable time order. What
can be read is whatever `limner import` reads (RecBole's `.inter`, MovieLens' `ratings.dat` and
`u.data`, CSV, Parquet, JSON Lines) and the sequence files of the literature (`Beauty.txt`: a line
is a user, then items in order; or a user and one item a line).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from limner.catalog.cache import VectorCache
from limner.catalog.content import Reader, said
from limner.catalog.encoded import encode_said
from limner.catalog.encoders import EncodersConfig, opened
from limner.catalog.known import learned
from limner.errors import InputError
from limner.events.batch import DAY, F64, I32, I64, PROPERTY
from limner.events.raw import Refused
from limner.events.rules import CleanConfig
from limner.events.typed import Typed
from limner.events.vocabulary import DEFAULT_WEIGHT, canonical_all
from limner.model.protocol import Interactions, ItemFeatures, Progress
from limner.sources.delimited import split_name
from limner.sources.files import read_file

PLACES = 8
"""How many values of a list (genres, categories) are told apart, each in a column of its own."""

_BESIDE = {
    "ratings.dat": ("movies.dat",),
    "ratings.csv": ("movies.csv",),
    "u.data": ("u.item",),
}
_FIRST = (
    "*.inter", "ratings.dat", "ratings.csv", "u.data", "*.txt", "*.csv", "*.csv.gz", "*.parquet",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Dataset:
    """Interactions sorted by user, then time, then place in the file; ids by dense number.

    Users and items are numbered in the order in which the file names them. `timed` is False where
    only order is known: then the n-th last event of every user lies n days before one common end.
    `left_out` counts rows without a user, an item, a time or a positive weight, and rows that
    could not be read; `notes` says what else was not as it should be. `described[item]`: its
    attributes by name, as the file of items gives them.
    """

    name: str
    interactions: Interactions
    features: ItemFeatures
    user_ids: list[str]
    item_ids: list[str]
    timed: bool
    left_out: int
    notes: tuple[str, ...] = ()
    described: Sequence[Mapping[str, Any]] = ()


def load(
    path: str | Path,
    *,
    items: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    weights: Mapping[str, float] = DEFAULT_WEIGHT,
) -> Dataset:
    """Read a file of events, or a folder that holds one, with the items' attributes beside it.

    `items` names the file of attributes; without it `X.item` beside `X.inter`, `movies.csv`
    beside `ratings.csv` and `X_item2attributes.json` beside `X.txt` are found. `weights`: worth
    of an event by its type; a type that is not named counts 1.
    Raises InputError if a file cannot be read or holds no interactions.
    """
    events = _events_file(Path(path))
    timed = not _is_sequences(events)
    if timed:
        users, found, times, worth, values, user_ids, item_ids, left_out = _timed(
            events, columns or {}, weights
        )
    else:
        users, found, user_ids, item_ids = _sequences(events)
        times, worth, left_out = _places(users), np.ones(len(users)), 0
        values = np.full(len(users), np.nan)
    if not len(users):
        raise InputError("there are no interactions", where=str(events), mend="check the columns")
    order = np.lexsort((np.arange(len(users)), times, users))
    interactions = Interactions(
        np.concatenate([[0], np.cumsum(np.bincount(users, minlength=len(user_ids)))]),
        found[order].astype(np.int32),
        times[order],
        worth[order],
        np.full(len(users), -1, dtype=np.int64),
        order.astype(np.int64),
        len(item_ids),
        None if np.isnan(values).all() else values[order],
    )
    nothing = ItemFeatures({}, {}, np.ones(len(item_ids), dtype=bool))
    notes: tuple[str, ...] = ()
    beside = Path(items) if items is not None else _items_file(events)
    features, described = nothing, list[Mapping[str, Any]]()
    if beside is not None:
        try:
            features, described = _features(beside, item_ids)
        except InputError as error:
            if items is not None:
                raise
            notes = (f"{beside.name} was left out: {error.what}",)
    return Dataset(
        events.stem, interactions, features, user_ids, item_ids, timed, left_out, notes, described
    )


def with_content(data: Dataset, config: EncodersConfig, *, progress: Progress) -> Dataset:
    """The data set with vectors of what its items say, as a training on a store has them.

    Nothing is kept: the next call encodes again. Paths of images and sound begin where
    `config.folder` says. What could not be encoded is among the notes.
    """
    sayings = [said(described) for described in data.described]
    named = {kind for says in sayings for kind in says.parts}
    if not named:
        return data
    found = opened(config)
    notes = [f"{kind} is not encoded: {why}" for kind, why in found.missing.items()
             if kind in named]  # fmt: skip
    cache = VectorCache(None)
    try:
        encoded = encode_said(
            data.item_ids, sayings, found.encoders, cache, Reader(Path(config.folder or "."),
            config.network), progress=progress,
        )  # fmt: skip
    finally:
        cache.close()
    notes += [f"{part.kind} could not be encoded: {part.error}"
              for part in encoded.parts if part.error]  # fmt: skip
    unusable = [note for note in encoded.notes if note.kind != "text"]
    if unusable:
        notes.append(f"{len(unusable):,} items have content that cannot be used, "
                     f"as {unusable[0].item_id}: {unusable[0].what}")  # fmt: skip
    features = replace(data.features, vectors=learned(encoded, None).of(encoded.keys))
    return replace(data, features=features, notes=(*data.notes, *notes))


# ---------------------------------------------------------------- which files


def _events_file(path: Path) -> Path:
    if not path.exists():
        raise InputError("there is no such file or folder", where=str(path), mend="check the path")
    if not path.is_dir():
        return path
    for pattern in _FIRST:
        if fitting := sorted(path.glob(pattern)):
            return fitting[0]
    raise InputError(
        "the folder holds no file of events", where=str(path), mend="name the file itself"
    )


def _items_file(events: Path) -> Path | None:
    names = [
        *_BESIDE.get(events.name.lower(), ()),
        f"{events.stem}.item",
        f"{events.stem}_item2attributes.json",
    ]
    found = [events.with_name(name) for name in names if events.with_name(name).is_file()]
    return found[0] if found else None


def _is_sequences(path: Path) -> bool:
    """Whether this is lines of a user and items, with blanks between and no header."""
    name, compression = split_name(path)
    if not name.endswith(".txt"):
        return False
    with pa.input_stream(str(path), compression=compression) as stream:
        line = stream.read(1 << 16).split(b"\n", 1)[0]
    cells = line.split()
    return len(cells) >= 2 and not any(mark in line for mark in (b",", b"\t", b";", b"|", b"::"))


# ---------------------------------------------------------------- events


def _sequences(path: Path) -> tuple[I64, I64, list[str], list[str]]:
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    owners: list[int] = []
    found: list[int] = []
    with pa.input_stream(str(path), compression=split_name(path)[1]) as stream:
        text = stream.read().decode("utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), 1):
        user, *sequence = line.split() or [""]
        if not sequence:
            if user:
                raise InputError(
                    "a user without items", where=f"{path}:{number}", mend="write: user item item …"
                )
            continue
        owner = users.setdefault(user, len(users))
        owners += [owner] * len(sequence)
        found += [items.setdefault(item, len(items)) for item in sequence]
    return (
        np.array(owners, dtype=np.int64),
        np.array(found, dtype=np.int64),
        list(users),
        list(items),
    )


def _places(users: I64) -> I64:
    """Times where only order is known, µs: a day a place, everyone's last on one day."""
    counts = np.bincount(users)
    order = np.argsort(users, kind="stable")
    first = np.cumsum(counts) - counts
    left = np.empty(len(users), dtype=np.int64)
    left[order] = np.repeat(first + counts, counts) - np.arange(len(users)) - 1
    times: I64 = (counts.max(initial=0) - left) * DAY
    return times


def _timed(
    path: Path, columns: Mapping[str, str], weights: Mapping[str, float]
) -> tuple[I64, I64, I64, F64, F64, list[str], list[str], int]:
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    parts: list[tuple[I64, I64, I64, F64, F64]] = []
    refused: list[Refused] = []
    config = CleanConfig()
    seen = 0
    for raw in read_file(path, kind="events", refuse=refused.append, columns=columns, source=""):
        rows = Typed(raw)
        who, what = (_numbers(rows.text(n), ids) for n, ids in (("user_id", users),
                                                                 ("item_id", items)))  # fmt: skip
        times = rows.times(config)
        types = rows.text("event_type")
        names = canonical_all(types.dictionary.to_pylist())
        by_type = np.array([*(weights.get(name, 1.0) for name in names), 1.0])
        worth = by_type[types.indices.fill_null(-1).to_numpy(zero_copy_only=False)]
        keep = (who >= 0) & (what >= 0) & (worth > 0) & ~times.missing & ~times.unreadable
        told, _ = rows.number("value")
        parts.append((who[keep], what[keep], times.micros[keep], worth[keep], told[keep]))
        seen += len(rows)
    joined = [np.concatenate(part) for part in zip(*parts, strict=True)] or [np.zeros(0)] * 5
    # an id that only rows left out name is no user and no item
    who, user_ids = _used(joined[0].astype(np.int64), list(users))
    what, item_ids = _used(joined[1].astype(np.int64), list(items))
    left_out = seen - len(who) + len(refused)
    times_ = joined[2].astype(np.int64)
    return who, what, times_, joined[3], joined[4], user_ids, item_ids, left_out


def _numbers(texts: pa.Array, ids: dict[str, int]) -> I64:
    """The number of each row's text in `ids`, which grows; −1 where there is none."""
    of = [-1 if v is None else ids.setdefault(v, len(ids)) for v in texts.dictionary.to_pylist()]
    codes = texts.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    numbers: I64 = np.array([*of, -1], dtype=np.int64)[codes]
    return numbers


def _used(numbers: I64, ids: list[str]) -> tuple[I64, list[str]]:
    found, dense = np.unique(numbers, return_inverse=True)
    return dense.astype(np.int64), [ids[number] for number in found.tolist()]


# ---------------------------------------------------------------- items


def _features(path: Path, item_ids: Sequence[str]) -> tuple[ItemFeatures, list[Mapping[str, Any]]]:
    """Attributes that group items: each with at most half as many values as items; and all.

    A list becomes columns `name`, `name.2`, … with one vocabulary.
    """
    number = {name: place for place, name in enumerate(item_ids)}
    cells: dict[str, dict[int, Any]] = {}
    described: list[dict[str, Any]] = [{} for _ in item_ids]
    for name, item_id, value in _attributes(path):
        if item_id in number and value not in (None, "", []):
            cells.setdefault(name, {})[number[item_id]] = value
            described[number[item_id]][name] = value
    codes: dict[str, I32] = {}
    values: dict[str, list[str]] = {}
    for name, by_item in cells.items():
        words: dict[str, int] = {}
        places = np.full((PLACES, len(item_ids)), -1, dtype=np.int32)
        for item, value in by_item.items():
            several = value if isinstance(value, list) else [value]
            for place, one in enumerate(several[:PLACES]):
                places[place, item] = words.setdefault(str(one), len(words))
        if len(words) > max(len(item_ids) // 2, 2):
            continue
        for place in range(PLACES):
            if (places[place] >= 0).any():
                column = name if place == 0 else f"{name}.{place + 1}"
                codes[column], values[column] = places[place], list(words)
    return ItemFeatures(codes, values, np.ones(len(item_ids), dtype=bool)), [*described]


def _attributes(path: Path) -> Iterator[tuple[str, str, Any]]:
    """(attribute, item, value) for all that is said of items; a value may be a list."""
    if path.name.endswith("_item2attributes.json"):
        try:
            said = msgspec.json.decode(path.read_bytes(), type=dict[str, list[Any]])
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise InputError(
                f"no object of item → attributes: {error}", where=str(path), mend="check the file"
            ) from error
        for item, found in said.items():
            yield "attribute", item, found
        return
    for raw in read_file(path, kind="items", refuse=lambda _: None, source=""):
        rows = Typed(raw)
        ids = rows.text("item_id").to_pylist()
        for column in sorted(rows.names):
            if column.startswith(PROPERTY) and not pa.types.is_floating(rows.column(column).type):
                name = column.removeprefix(PROPERTY)
                for item, value in zip(ids, rows.column(column).to_pylist(), strict=True):
                    yield name, item, value
