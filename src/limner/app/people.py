"""Groups of users under the product's own ids: audiences with their export, and the population."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from limner.errors import UsageError
from limner.events.log import Position
from limner.profile import audience
from limner.profile.population import FEWEST, Cluster, Mark
from limner.profile.standing import MEASURES, everything
from limner.profile.users import CHUNK, Users

if TYPE_CHECKING:
    from limner.app.limner import Limner

ROWS = 10_000
"""Users written at once."""


@dataclass(frozen=True, slots=True)
class Audience:
    """The users who met a condition, under their own ids, which are opened as they are asked for.

    Who was erased since is left out. `count` of `of` users met it at `at` (µs), by the log before
    `as_of`; `notes` say what in the condition nobody has; `index` what they lean to, if asked.
    """

    found: audience.Audience
    own_id: Callable[[bytes], str | None]

    @property
    def count(self) -> int:
        """How many users they are."""
        return len(self.found)

    def __len__(self) -> int:
        return len(self.found)

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self.found), ROWS):
            yield from self._opened(self.found.part(start, ROWS))

    def _opened(self, pseudonyms: list[bytes]) -> Iterator[str]:
        for pseudonym in pseudonyms:
            own = self.own_id(pseudonym)
            if own is not None:
                yield own

    def page(self, limit: int, cursor: str = "") -> tuple[list[str], str | None]:
        """(at most `limit` users after a cursor, the next cursor; None at the end).

        Raises UsageError for what is no cursor.
        """
        try:
            after = bytes.fromhex(cursor)
        except ValueError:
            after = b"?"
        if len(after) not in (0, 16):
            raise UsageError(f"{cursor!r} is no cursor", mend="give the one that came with a page")
        page = self.found.page(limit + 1, after)
        shown = page[:limit]
        return list(self._opened(shown)), shown[-1].hex() if shown and len(page) > limit else None

    def table(self) -> pa.Table:
        """The users as an Arrow table with the column `user_id`."""
        return pa.table({"user_id": pa.array(list(self), pa.string())})

    def write(self, path: Path, progress: Callable[[str, int, int], None] | None = None) -> int:
        """Write the users to a .csv or .parquet file, a part at a time; return how many.

        Raises UsageError for another ending.
        """
        done, users = 0, iter(self)
        with _table_file(path) as put:
            while part := list(islice(users, ROWS)):
                put(part)
                done += len(part)
                if progress is not None:
                    progress("users", done, self.count)
        return done


@contextmanager
def _table_file(path: Path) -> Iterator[Callable[[list[str]], object]]:
    """A new file of the column `user_id`, and what writes some more users to it."""
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            out = csv.writer(file)
            out.writerow(["user_id"])
            yield lambda users: out.writerows([own] for own in users)
    elif path.suffix == ".parquet":
        with pq.ParquetWriter(path, pa.schema([("user_id", pa.string())])) as writer:
            yield lambda users: writer.write_table(
                pa.table({"user_id": pa.array(users, pa.string())})
            )
    else:
        raise UsageError(
            f"{path.suffix or path.name!r} is no kind of file that audiences are written to",
            mend="name a file that ends in .csv or .parquet",
        )


def find(app: Limner, where: str, index: str = "") -> Audience:
    """The users who meet a condition now."""
    found = audience.find(
        app.state, app.population, app.now(), where, index=index, lock=app.writer.lock
    )
    return Audience(found, app.own_id)


@dataclass(frozen=True, slots=True)
class Standing:
    """The population as of its last survey: at which time (µs), by the log before `as_of`.

    `measures`: what quintiles and tiers are made of. `segments` and `tiers`: users in each now.
    `clusters`: how many users each had at the survey, and what marks it by target-group index.
    """

    users: int
    at: int
    as_of: Position
    measures: Mapping[str, str]
    segments: Mapping[str, int]
    tiers: Mapping[str, int]
    clusters: list[Cluster]
    silhouette: float | None


def standing(app: Limner) -> Standing:
    """What the last survey found, and how many users are in each segment and tier now."""
    found = app.population
    with app.writer.lock:
        rows = app.state.rows.live
    counts: dict[str, dict[str, int]] = {"value.rfm": {}, "value.tier": {}}
    for start in range(0, len(rows) if found.users >= FEWEST else 0, CHUNK):
        with app.writer.lock:
            users = Users(app.state, rows[start : start + CHUNK], found, app.now())
            offer = everything(users, counts)
            for path, names in counts.items():
                value = offer[path]().value if path in offer else None
                if value is None or value.words is None:
                    continue
                codes = np.bincount(value.values[value.known], minlength=len(value.words))
                for name, n in zip(value.words.values, codes.tolist(), strict=True):
                    names[name] = names.get(name, 0) + n
    groups = found.clusters
    return Standing(
        found.users,
        found.at,
        found.position,
        {name: path for name in MEASURES if (path := getattr(found.config, name))},
        counts["value.rfm"],
        counts["value.tier"],
        groups.groups if groups is not None else [],
        groups.silhouette if groups is not None else None,
    )


__all__ = ["Audience", "Cluster", "Mark", "Standing", "find", "standing"]
