"""Whether two states say the same: what law 3 asks of the live state and its replay.

The states share the numbers of items and words (`ProfileState.anew`), not their rows. All users
are compared with a few numpy calls; whoever differs at all is then looked at with care, since maps
that let entries go need only agree within the error they state.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from limner.events.batch import I64, Bool
from limner.profile.facet import COUNTED, Facet
from limner.profile.state import ProfileState

NEAR_NOTHING = 1e-9
"""Sums of opposite signs may leave so much of rounding where nothing should be."""


def compare(live: ProfileState, other: ProfileState) -> list[str]:
    """Where two states differ, users and items; empty if they say the same."""
    suspects = _suspects(live, other)
    near = dict.fromkeys(
        (f"{f.name}.{c.name}" for f in live.facets
         for c in (*f.columns, *(f.map.columns if f.map else ()))), 1.0,
    )  # fmt: skip
    return [*differences(live, other, near, suspects), *_items_differ(live, other)]


def _suspects(live: ProfileState, other: ProfileState) -> list[bytes]:
    """Users who are not the same to the last rounding, or are in one state only."""
    users = list(live.rows)
    mine, theirs = live.rows.find(users), other.rows.find(users)
    odd = theirs < 0
    theirs = np.maximum(theirs, 0)
    if not len(other.rows):
        return users
    for name in live.records.dtype.names or ():
        odd |= _unlike(live.records[name][mine], other.records[name][theirs])
    places = [_places(rows, state.rows.size) for rows, state in ((mine, live), (theirs, other))]
    for facet, pool in live.pools.items():
        odd |= _maps_unlike(
            [pool.every(), other.pools[facet].every()], places, len(users), pool.spec.unique
        )
    alone = [user for user in other.rows if user not in live.rows]
    return [*(users[place] for place in np.flatnonzero(odd).tolist()), *alone]


def _places(rows: I64, size: int) -> I64:
    out = np.full(size, -1, dtype=np.int64)
    out[rows] = np.arange(len(rows))
    return out


def _maps_unlike(maps: list[Any], places: list[I64], users: int, unique: bool) -> Bool:
    """Users whose entries differ between two states."""
    found = []
    for (rows, keys, values), place in zip(maps, places, strict=True):
        owner = place[rows]
        by = (keys, owner) if unique else (values["p"], values["t"], owner)
        order = np.lexsort(by)
        order = order[owner[order] >= 0]
        found.append((owner[order], keys[order], {n: v[order] for n, v in values.items()}))
    counts = [np.bincount(owner, minlength=users) for owner, _, _ in found]
    odd: Bool = counts[0] != counts[1]
    (owner, keys, values), (_, other_keys, others) = (
        (o[~odd[o]], k[~odd[o]], {n: v[~odd[o]] for n, v in vs.items()}) for o, k, vs in found
    )
    wrong = keys != other_keys
    for name, column in values.items():
        wrong |= _unlike(column, others[name])
    odd[owner[wrong]] = True
    return odd


def _unlike(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> Bool:
    """Rows that differ by more than rounding."""
    if one.dtype.kind == "f":
        tolerance = 1e-5 if one.dtype == np.float32 else 1e-9
        same = np.isclose(one, other, rtol=tolerance, atol=tolerance)
    else:
        same = one == other
    wrong: Bool = ~(same if same.ndim == 1 else same.all(axis=1))
    return wrong


def _items_differ(live: ProfileState, other: ProfileState) -> list[str]:
    """Items whose versions, last event or deletion differ."""
    (items, versions, _), (others, other_versions, _) = (
        state.catalog.tables() for state in (live, other)
    )
    out = []
    for name in ("last_event", "deleted"):
        mine, theirs = (table[name].to_numpy() for table in (items, others))
        wrong = np.flatnonzero(mine != theirs[: len(mine)])
        out += [f"item {items['id'][int(place)].as_py()}, {name}" for place in wrong.tolist()]
    names = ["item", "from", "position"]
    mine, theirs = (table.select(names).sort_by("position") for table in (versions, other_versions))
    return out if mine.equals(theirs) else [*out, "the versions of items"]


def differences(
    a: ProfileState,
    b: ProfileState,
    scale: Mapping[str, float] | None = None,
    users: Collection[bytes] | None = None,
) -> list[str]:
    """Where two states of the same facets, catalog and words differ; empty if they are equal.

    Integers, keys and times are compared exactly, floats to 1e-9 relative to the greater of
    their size and `scale` (float32 columns to 1e-5). Maps that had to let entries go are
    compared within the error they state; maps of the newest entries by their totals. With
    `users` only these are looked at.
    """
    asked = {*a.rows, *b.rows} if users is None else set(users)
    out: list[str] = []
    for user in sorted(asked):
        if user not in a.rows or user not in b.rows:
            if user in a.rows or user in b.rows:
                out.append(f"user {user.hex()} is in one of the two only")
            continue
        rows = a.rows[user], b.rows[user]
        for facet in a.facets:
            for column in (*COUNTED, *facet.columns):
                path = f"{facet.name}.{column.name}"
                one, other = a.records[path][rows[0]], b.records[path][rows[1]]
                out += _differ(user, path, one, other, (scale or {}).get(path, 0.0))
            if facet.map is not None:
                out += _maps_differ(user, facet, (a, b), rows, scale or {})
        newest = a.records["newest"][rows[0]], b.records["newest"][rows[1]]
        out += _differ(user, "newest", newest[0], newest[1], 0.0)
    return out


def _differ(user: bytes, path: str, one: Any, other: Any, scale: float) -> list[str]:
    one, other = np.asarray(one), np.asarray(other)
    same = one.shape == other.shape
    if same and one.dtype.kind == "f":
        tolerance = 1e-5 if one.dtype == np.float32 else 1e-9
        same = np.allclose(one, other, rtol=tolerance, atol=tolerance * scale)
    elif same:
        same = bool((one == other).all())
    return [] if same else [f"user {user.hex()}, {path}: {one} and {other}"]


def _maps_differ(
    user: bytes,
    facet: Facet,
    states: tuple[ProfileState, ProfileState],
    rows: tuple[int, int],
    scale: Mapping[str, float],
) -> list[str]:
    pools = [state.pools[facet.name] for state in states]
    spec = pools[0].spec
    (keys, one), (other_keys, other) = (
        _by_key(*pool.entries(row), spec.unique) for pool, row in zip(pools, rows, strict=True)
    )
    at = max((int(v["t"].max(initial=0)) for v in (one, other) if "t" in v), default=0)
    error = sum(pool.error(row, at) for pool, row in zip(pools, rows, strict=True))
    spilled = [pool.spilled(row) for pool, row in zip(pools, rows, strict=True)]
    if error:
        exact, inexact = (
            dict(zip(k.tolist(), pool.weights(v, at).tolist(), strict=True))
            for pool, k, v in zip(pools, (keys, other_keys), (one, other), strict=True)
        )
        worst = max(abs(exact.get(k, 0.0) - inexact.get(k, 0.0)) for k in {*exact, *inexact})
        within = worst <= error * (1 + 1e-5)
        said = f"user {user.hex()}, {facet.name}"
        return [] if within else [f"{said}: off by {worst}, more than the stated {error}"]
    if any(s.any() for s in spilled):
        totals = [
            np.append(s[0] + len(k), s[1:] + [v[name].sum() for name in pool.summed])
            for pool, s, k, v in zip(pools, spilled, (keys, other_keys), (one, other), strict=True)
        ]
        return _differ(user, f"{facet.name} totals", totals[0], totals[1], 0.0)
    out = _differ(user, f"{facet.name} keys", keys, other_keys, 0.0)
    for column in spec.columns if not out else ():
        path = f"{facet.name}.{column.name}"
        out += _differ(user, path, one[column.name], other[column.name], scale.get(path, 0.0))
    return out


def _by_key(
    keys: npt.NDArray[Any], values: dict[str, npt.NDArray[Any]], unique: bool
) -> tuple[npt.NDArray[Any], dict[str, npt.NDArray[Any]]]:
    if not unique:  # a history comes in its own order
        return keys, values
    order = np.argsort(keys)
    return keys[order], {name: column[order] for name, column in values.items()}
