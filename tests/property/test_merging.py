"""The compiled way of merging does what numpy's does: the same states, whatever comes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.config import parse
from limner.events.batch import SECOND, EventBatch
from limner.profile import merging
from limner.profile.facet import FacetConfig
from limner.profile.facets import build
from limner.profile.merge import POSITION, TIME, Column
from limner.profile.pool import MapSpec, Pool
from limner.testing.laws import (
    LAWS,
    START,
    Row,
    agree,
    empty_state,
    event_rows,
    folded,
    item_rows,
    shuffled,
    sizes,
)

pytestmark = pytest.mark.skipif(merging.compiled is None, reason="not built here")

HOURS = (3600.0 * SECOND, 86_400.0 * SECOND)


@contextmanager
def plainly() -> Iterator[None]:
    """Meanwhile numpy merges."""
    kept, merging.compiled = merging.compiled, None
    try:
        yield
    finally:
        merging.compiled = kept


def facets(bound: int) -> Any:
    """A shop's facets, and kinds of map that overflow at once."""
    small: dict[str, dict[str, Any]] = {
        "affinity": {"key": "item.tags", "weights": {"purchase": 1.0, "view": -0.5}},
        "count": {"key": "properties.place"},
        "history": {"weights": {"purchase": 1.0, "view": 0.2}},
        "preference": {"key": "item.category"},
        "quantiles": {},
        "sessions": {"gap": "26h"},
        "moments": {},
        "distinct": {},
    }
    configs = [
        FacetConfig(name=f"small_{kind}", kind=kind, section="value", bound=bound, **more)
        for kind, more in small.items()
    ]
    return build([*parse({}).facet, *configs])


@LAWS
@given(
    items=item_rows(),
    rows=event_rows(users=4, max_size=80),
    bound=st.integers(1, 6),
    cuts=st.sets(st.integers(0, 80), max_size=4),
    order=st.randoms(use_true_random=False),
)
def test_both_ways_give_the_same_state(
    items: list[Row], rows: list[Row], bound: int, cuts: set[int], order: Random
) -> None:
    empty = empty_state(facets(bound), items)
    batch, positions = EventBatch.of(rows), np.arange(len(items), len(items) + len(rows))
    parts = np.split(shuffled(len(rows), order), sorted(cuts & set(range(len(rows)))))
    here = folded(empty, batch, positions, parts)
    with plainly():
        there = folded(empty, batch, positions, parts)
    agree(here, there, sizes([here, there]))


SPECS = {
    "heaviest": MapSpec((TIME, Column("w", "decay", "f8", 2, HOURS)), 12),
    "sums": MapSpec((Column("n", "sum", "u4"), Column("x", "sum", "f8")), 30),
    "newest": MapSpec((TIME, Column("start", "min", "u4"), Column("n", "sum", "u4")), 12,
                      keep="newest", key_dtype="i8"),
    "register": MapSpec((TIME, POSITION, Column("v", "latest", "i4")), 12, keep="newest"),
    "history": MapSpec((TIME, POSITION, Column("v", "latest", "f4")), 12, unique=False,
                       keep="newest", key_dtype="u4"),
    "ranks": MapSpec((Column("rank", "max", "u1"),), 256, key_dtype="u1", keep="newest"),
}  # fmt: skip

MANY = st.integers(0, 3) | st.integers(0, 40) | st.integers(0, 2**31 - 1)


@LAWS
@given(
    name=st.sampled_from(sorted(SPECS)),
    entries=st.lists(st.tuples(st.integers(0, 3), MANY, MANY, MANY), max_size=120),
    cuts=st.sets(st.integers(0, 120), max_size=5),
    fine=st.booleans(),
)
def test_both_ways_give_the_same_maps(
    name: str, entries: list[tuple[int, int, int, int]], cuts: set[int], fine: bool
) -> None:
    spec = SPECS[name]
    here, there = Pool(spec), Pool(spec)
    for pool in (here, there):
        pool.resize(4)
    for part in np.split(np.arange(len(entries)), sorted(cuts & set(range(len(entries))))):
        given_now = np.array(entries, dtype=np.int64).reshape(-1, 4)[part]
        rows, keys, seconds, numbers = given_now.T
        if np.dtype(spec.key_dtype).itemsize == 1:
            keys, numbers = keys % 256, numbers % 256
        times = START + seconds % 100_000 * SECOND + (seconds % 7 if fine else 0)
        columns: dict[str, Any] = {"t": times, "p": part.astype(np.int64)}
        for column in spec.columns:
            if column.name not in columns:
                wide = np.repeat(numbers[:, None], column.width, axis=1).astype(column.dtype)
                columns[column.name] = wide if column.width > 1 else wide[:, 0]
        values = {column.name: columns[column.name] for column in spec.columns}
        here.add(rows, keys.astype(spec.key_dtype), values)
        with plainly():
            there.add(rows, keys.astype(spec.key_dtype), values)
    for row in range(4):
        _same(here.entries(row), there.entries(row))
        np.testing.assert_allclose(here.spilled(row), there.spilled(row), rtol=1e-9)
        assert here.overflowed(row) == there.overflowed(row)


def _same(here: Any, there: Any) -> None:
    (keys, values), (other_keys, others) = here, there
    order, other_order = (
        np.lexsort((v["p"], k)) if "p" in v else np.argsort(k) for k, v in (here, there)
    )
    np.testing.assert_array_equal(keys[order], other_keys[other_order])
    for column, given_values in values.items():
        np.testing.assert_allclose(
            given_values[order], others[column][other_order], rtol=1e-9, err_msg=column
        )


def test_what_is_not_among_the_users_is_refused() -> None:
    pool = Pool(SPECS["sums"])
    pool.resize(2)
    values: dict[str, Any] = {"n": np.ones(1, np.uint32), "x": np.ones(1)}
    with pytest.raises(ValueError, match="not among the users"):
        pool.add(np.array([99]), np.array([1], dtype=np.int32), values)
