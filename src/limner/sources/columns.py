"""Which column of a source is which field of an event: by name, or as the caller maps them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from limner.errors import InputError, UsageError
from limner.events.batch import PROPERTY
from limner.sources.names import FIELDS, NAMES, fold, plain

Kind = Literal["events", "items", "users"]
"""What the rows of a source are."""

_ONLY_OF_ITEMS = {"item_id": ("id",)}
_ONLY_OF_USERS = {"user_id": ("id",)}
_RATINGS = frozenset({"rating", "overall", "score", "stars"})
_TITLES = ("title", "itemtitle", "movietitle", "producttitle", "name", "itemname", "productname")
_LISTS = frozenset({"categories", "genres", "tags", "labels", "keywords", "impression", "topics"})


@dataclass(frozen=True, slots=True)
class Columns:
    """The reading of a source's columns.

    `fields`: field → source column. `properties`: property → source column. `constants`:
    field or `properties.NAME` → the value all rows have. `lists`: properties that hold several
    values a row.
    """

    fields: dict[str, str]
    properties: dict[str, str]
    constants: dict[str, str]
    lists: frozenset[str]


def map_columns(
    names: Sequence[str],
    *,
    kind: Kind,
    columns: Mapping[str, str],
    constants: Mapping[str, str],
    where: str,
) -> Columns:
    """Find the fields among a source's columns.

    `columns` (field or property → source column) wins over names; so do `constants` over
    columns that were not asked for. Events must have a user and a time; items and users their
    id. Where no column tells the event type, a rating column makes it `rating`, a quantity or a
    basket `purchase`, and else it is `interaction`.
    Raises InputError, with the columns seen, if the needed ones are not found, and UsageError
    if `columns` names one that is not there.

    >>> found = map_columns(["buyer", "sku", "ts", "qty", "shop"], kind="events",
    ...                     columns={}, constants={}, where="shop.csv")
    >>> found.fields["user_id"], found.fields["item_id"], sorted(found.properties)
    ('buyer', 'sku', ['shop'])
    >>> found.constants
    {'event_type': 'purchase'}
    """
    fields: dict[str, str] = {}
    properties: dict[str, str] = {}
    fixed = {target_of(key): str(value) for key, value in constants.items()}
    for key, column in columns.items():
        if column not in names:
            column = _same(column, names, where)
        target = target_of(key)
        if target in FIELDS:
            fields[target] = column
        else:
            properties[target.removeprefix(PROPERTY)] = column
    taken = {*fields.values(), *properties.values()}
    _by_name([name for name in names if name not in taken], kind, fields, fixed)
    taken |= set(fields.values())
    title = _title([name for name in names if name not in taken]) if kind == "items" else None
    if title is not None and "title" not in properties:
        properties["title"] = title
        taken.add(title)
    for name in names:
        if name not in taken:
            properties[_unused(plain(name).removeprefix(PROPERTY), properties)] = name
    _require(fields, fixed, kind, names, where)
    if kind == "events" and "event_type" not in fields and "event_type" not in fixed:
        fixed["event_type"] = _presumed_type(fields)
    lists = {
        name
        for name, column in properties.items()
        if name != "title" and (fold(column) in _LISTS or column.endswith(":token_seq"))
    }
    return Columns(fields, properties, fixed, frozenset(lists))


def target_of(key: str) -> str:
    """The column that a field, or else a property, is in.

    >>> target_of("value"), target_of("shop")
    ('value', 'properties.shop')
    """
    return key if key in FIELDS or key.startswith(PROPERTY) else PROPERTY + key


def _same(wanted: str, names: Sequence[str], where: str) -> str:
    """The column that `wanted` can only mean."""
    alike = [name for name in names if fold(name) == fold(wanted)]
    if len(alike) == 1:
        return alike[0]
    raise UsageError(
        f"there is no column {wanted!r}; the columns are {_listed(names)}",
        where=where,
        mend="map one of these: --map user_id=COLUMN",
    )


def _by_name(
    names: Iterable[str], kind: Kind, fields: dict[str, str], fixed: Mapping[str, str]
) -> None:
    """Add to `fields` what the names tell."""
    wanted = {
        "events": FIELDS,
        "items": ("item_id", "timestamp"),
        "users": ("user_id", "timestamp"),
    }
    extra = {"events": {}, "items": _ONLY_OF_ITEMS, "users": _ONLY_OF_USERS}[kind]
    folded: dict[str, str] = {}
    for name in names:
        folded.setdefault(fold(name), name)
    cloud = {"specversion", "id", "source", "type"} <= folded.keys()
    for target in wanted[kind]:
        if target in fields or target in fixed:
            continue
        options = (*NAMES.get(target, (target,)), *extra.get(target, ()))
        if kind != "events" and target == "timestamp":
            options = ("timestamp", "ts", "validfrom", "updatedat")
        if cloud and target in ("event_id", "event_type"):
            options = ("id",) if target == "event_id" else ("type",)
        for option in options:
            if option in folded:
                fields[target] = folded.pop(option)
                break
    if kind == "events" and "timestamp" not in fields and "timestamp" not in fixed:
        ends = ("timestamp", "datetime", "date", "time")
        for end in ends:
            alike = [name for key, name in folded.items() if key.endswith(end)]
            if len(alike) == 1:
                fields["timestamp"] = alike[0]
                break


def _title(names: Iterable[str]) -> str | None:
    folded = {fold(name): name for name in names}
    return next((folded[name] for name in _TITLES if name in folded), None)


def _unused(name: str, properties: Mapping[str, str]) -> str:
    """`name`, or with a number if another column took it."""
    if name not in properties:
        return name
    number = 2
    while f"{name}_{number}" in properties:
        number += 1
    return f"{name}_{number}"


def _presumed_type(fields: Mapping[str, str]) -> str:
    if fold(fields.get("value", "")) in _RATINGS:
        return "rating"
    group = fold(fields.get("group_id", ""))
    sold = group and not group.endswith(("sessionid", "session", "visitid", "groupid"))
    return "purchase" if "quantity" in fields or sold else "interaction"


def _require(
    fields: Mapping[str, str],
    fixed: Mapping[str, str],
    kind: Kind,
    names: Sequence[str],
    where: str,
) -> None:
    needs = {"events": ("user_id", "timestamp"), "items": ("item_id",), "users": ("user_id",)}[kind]
    lacking = [name for name in needs if name not in fields and name not in fixed]
    if lacking:
        words = {"user_id": "the user", "timestamp": "the time", "item_id": "the item"}
        raise InputError(
            f"no column is known to be {' or '.join(words[name] for name in lacking)}; "
            f"the columns are {_listed(names)}",
            where=where,
            mend="say which it is: " + " ".join(f"--map {name}=COLUMN" for name in lacking),
        )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:40])
    return shown if len(names) <= 40 else f"{shown} and {len(names) - 40} more"
