"""A file of what was shown, read into what off-policy estimates take.

JSON Lines, plain or gzip, an item shown a line:

    {"item_id": "tea", "reward": 1, "propensity": 0.2, "policy": {"tea": 0.5, "milk": 0.5}}

and, if there are any, `position`, `group_id` (the list or the user) and `context`, a mapping of
numbers and words.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import msgspec
import numpy as np

from limner.errors import InputError
from limner.evaluate.off_policy import Logged
from limner.events.batch import F64, I64


class Row(msgspec.Struct, frozen=True):
    """An item that was shown; `policy`: the judged policy's probabilities, or that of this item."""

    item_id: str | int
    reward: float
    propensity: float
    policy: float | dict[str, float]
    position: str | int | None = None
    group_id: str | int | None = None
    context: dict[str, float | str | None] = {}


def read_log(path: str | Path) -> tuple[Logged, F64]:
    """The log and the judged policy, (n, items), or (n,) if it says no more than of what was shown.

    An item that a mapping does not name has the probability 0. A number of the context is a column,
    0 where it is missing; each of the words a column of 0 and 1.
    Raises InputError if a line cannot be read, naming it.
    """
    rows = _rows(Path(path))
    mapped = [isinstance(row.policy, dict) for row in rows]
    if any(mapped) and not all(mapped):
        raise InputError(
            "the policy is a mapping here and a number elsewhere",
            where=f"{path}, row {mapped.index(not mapped[0]) + 1}",
            mend="give a mapping of all items in each row, or the number in each",
        )
    names = {str(row.item_id): None for row in rows}
    for row in rows:
        if isinstance(row.policy, dict):
            names |= dict.fromkeys(row.policy)
    number = {name: place for place, name in enumerate(names)}
    policy = np.zeros((len(rows), len(number)) if any(mapped) else len(rows))
    for place, row in enumerate(rows):
        if isinstance(row.policy, dict):
            for name, chance in row.policy.items():
                policy[place, number[name]] = chance
        else:
            policy[place] = row.policy
    log = Logged(
        np.array([number[str(row.item_id)] for row in rows], np.int64),
        np.array([row.reward for row in rows]),
        np.array([row.propensity for row in rows]),
        len(number),
        contexts=_contexts(rows),
        positions=_numbered([row.position for row in rows]),
        groups=_numbered([row.group_id for row in rows]),
    )
    return log, policy


def _rows(path: Path) -> list[Row]:
    decode = msgspec.json.Decoder(Row).decode
    rows = []
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    try:
                        rows.append(decode(line))
                    except msgspec.MsgspecError as error:
                        raise InputError(
                            f"this is no row of a log: {error}",
                            where=f"{path}, line {number}",
                            mend="give item_id, reward, propensity and policy, as JSON",
                        ) from error
    except OSError as error:
        raise InputError(f"the file cannot be read: {error}", where=str(path),
                         mend="give a file of JSON Lines, plain or .gz") from error  # fmt: skip
    if not rows:
        raise InputError("the file has no rows", where=str(path), mend="give at least one")
    return rows


def _contexts(rows: list[Row]) -> F64 | None:
    columns: dict[tuple[str, str | None], F64] = {}
    for place, row in enumerate(rows):
        for name, value in row.context.items():
            if value is None:
                continue
            key = (name, value if isinstance(value, str) else None)
            column = columns.setdefault(key, np.zeros(len(rows)))
            column[place] = 1.0 if isinstance(value, str) else value
    return np.column_stack(list(columns.values())) if columns else None


def _numbered(values: list[str | int | None]) -> I64 | None:
    """Equal values by one number; None if there are none. A missing group is one of its own."""
    if all(value is None for value in values):
        return None
    seen: dict[object, int] = {}
    found = [
        seen.setdefault(("", place) if value is None else value, len(seen))
        for place, value in enumerate(values)
    ]
    return np.array(found, np.int64)
