"""Pools of keyed entries: size classes, reuse of blocks, bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.events.batch import SECOND
from limner.profile.compact import HOUR, MINUTE, Compact
from limner.profile.merge import POSITION, TIME, Column
from limner.profile.pool import MapSpec, Pool

LIVES = (10.0, 100.0)
SPEC = MapSpec((TIME, Column("count", "sum", "u4"), Column("w", "decay", "f8", 2, LIVES)), bound=40)


def pool_of(spec: MapSpec, rows: int = 4) -> Pool:
    pool = Pool(spec)
    pool.resize(rows)
    return pool


def add(pool: Pool, row: int, *entries: tuple[int, int]) -> None:
    """Add (key, time) entries of weight one."""
    keys = np.array([key for key, _ in entries], dtype=pool.spec.key_dtype)
    columns: dict[str, Any] = {
        "t": np.array([time for _, time in entries], dtype=np.int64),
        "p": np.array([time for _, time in entries], dtype=np.int64),
        "count": np.ones(len(entries), dtype=np.uint32),
        "w": np.ones((len(entries), 2)),
    }
    pool.add(np.full(len(entries), row), keys, {c.name: columns[c.name] for c in pool.spec.columns})


def counts(pool: Pool, row: int) -> dict[int, int]:
    keys, values = pool.entries(row)
    assert len(set(keys.tolist())) == len(keys)
    return dict(zip(keys.tolist(), values["count"].tolist(), strict=True))


def test_a_user_grows_through_the_size_classes_and_keeps_every_entry() -> None:
    pool = pool_of(SPEC)
    for key in range(40):
        add(pool, 1, (key, key))
        add(pool, 2, (key, key), (0, key))
        assert counts(pool, 1) == dict.fromkeys(range(key + 1), 1)
        assert counts(pool, 2) == {0: key + 2} | dict.fromkeys(range(1, key + 1), 1)
    assert pool.count(1) == 40
    assert pool.count(0) == pool.count(3) == 0


def test_many_new_keys_at_once_go_straight_to_the_class_they_need() -> None:
    pool = pool_of(SPEC)
    add(pool, 0, *((key, 0) for key in range(3)))
    add(pool, 0, *((key, 0) for key in range(1, 33)))
    assert counts(pool, 0) == {0: 1, 1: 2, 2: 2} | dict.fromkeys(range(3, 33), 1)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(1, 70_000)), max_size=5)
)
def test_however_many_of_one_key_come_at_once_they_are_counted(
    adds: list[tuple[int, int, int]],
) -> None:
    pool, told = pool_of(SPEC), dict[tuple[int, int], int]()
    for row, key, n in adds:
        add(pool, row, *[(key, 0)] * n)
        told[row, key] = told.get((row, key), 0) + n
    for row in range(3):
        mine = {key: n for (owner, key), n in told.items() if owner == row}
        assert counts(pool, row) == mine


def test_key_zero_is_a_key_like_others() -> None:
    pool = pool_of(SPEC)
    add(pool, 0, (7, 1))
    assert counts(pool, 0) == {7: 1}
    add(pool, 0, (0, 1))
    assert counts(pool, 0) == {7: 1, 0: 1}


def test_a_decayed_weight_is_kept_as_of_its_newest_time() -> None:
    pool = pool_of(SPEC)
    add(pool, 0, (5, 0), (5, 100))
    add(pool, 0, (5, 50))
    _, values = pool.entries(0)
    expected = [[sum(2 ** (-age / life) for age in (100, 0, 50)) for life in LIVES]]
    np.testing.assert_allclose(values["w"], expected, rtol=1e-12)
    assert values["t"].tolist() == [100]


def test_clearing_leaves_nothing_behind_in_the_block() -> None:
    pool = pool_of(SPEC)
    for row in range(3):
        add(pool, row, *((key + 1, 9) for key in range(4 ** (row + 1) // 2)))
    for row in range(3):
        pool.clear(np.array([row]))
        assert pool.count(row) == 0
    for name, array in pool.arrays().items():
        if "columns" in name or "keys" in name or "count" in name:
            assert (array == 0).all(), name
    add(pool, 3, (8, 1))
    assert counts(pool, 3) == {8: 1}
    np.testing.assert_array_equal(pool.entries(3)[1]["w"], [[1.0, 1.0]])


def test_moving_to_a_larger_block_empties_the_smaller_one() -> None:
    pool = pool_of(SPEC)
    add(pool, 0, *((key, 9) for key in (1, 2, 3, 4)))
    add(pool, 0, (5, 9))
    assert pool.arrays()["4.keys"].tolist() == [[0, 0, 0, 0]]
    assert pool.arrays()["4.free"].tolist() == [0]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "add", "add", "clear"]),
            st.integers(0, 3),
            st.lists(st.tuples(st.integers(0, 12), st.integers(0, 50)), min_size=1, max_size=12),
        ),
        max_size=20,
    )
)
def test_users_that_come_and_go_never_see_each_other(
    steps: list[tuple[str, int, list[tuple[int, int]]]],
) -> None:
    pool = pool_of(SPEC)
    truth: list[dict[int, int]] = [{} for _ in range(4)]
    for what, row, entries in steps:
        if what == "clear":
            pool.clear(np.array([row]))
            truth[row] = {}
        else:
            add(pool, row, *entries)
            for key, _ in entries:
                truth[row][key] = truth[row].get(key, 0) + 1
    assert [counts(pool, row) for row in range(4)] == truth
    rows, keys, values = pool.every()
    found = sorted(zip(rows.tolist(), keys.tolist(), values["count"].tolist(), strict=True))
    assert found == sorted((row, k, n) for row in range(4) for k, n in truth[row].items())
    copy = Pool(SPEC)
    copy.load(pool.arrays())
    assert [counts(copy, row) for row in range(4)] == truth


def test_a_full_map_keeps_the_heaviest_and_says_what_a_key_may_lack() -> None:
    pool = pool_of(MapSpec((TIME, Column("count", "sum", "u4")), bound=4))
    add(pool, 0, *[(1, 0)] * 5, *[(2, 0)] * 4, *[(3, 0)] * 3, (4, 0), (5, 0), (6, 0), (7, 0))
    assert pool.error(0, 0) == 0
    add(pool, 0, (8, 0), (9, 0), (9, 0))
    assert counts(pool, 0) == {1: 5, 2: 4, 3: 3, 9: 2}
    assert pool.error(0, 0) == 1
    # key 4 comes back without its past, and goes again: now it lacks two
    add(pool, 0, *((key, 0) for key in (4, 5, 6, 7, 8)))
    assert pool.error(0, 0) == 2


def test_the_error_of_a_decaying_map_fades_with_time() -> None:
    pool = pool_of(MapSpec((TIME, Column("w", "decay", "f8", 2, LIVES)), bound=4))
    add(pool, 0, *((key, 0) for key in range(9)))
    assert pool.error(0, 0) == 1
    assert pool.error(0, 100) == 0.5
    other = pool_of(pool.spec)
    other.absorb(np.array([2]), pool, np.array([0]))
    add(other, 1, *((key, 100) for key in range(9)))
    other.absorb(np.array([2]), other, np.array([1]))
    # what either lacked at the time, and what the merge of both let go
    assert other.error(2, 100) >= 1.5


def test_a_history_keeps_its_newest_entries_oldest_first() -> None:
    pool = pool_of(MapSpec((TIME, POSITION), bound=5, unique=False, keep="newest"))
    for time in (3, 14, 1, 15, 9, 2, 6, 5, 35, 8, 97, 93, 23, 84):
        add(pool, 0, (time % 7, time))
    keys, values = pool.entries(0)
    assert values["t"].tolist() == [23, 35, 84, 93, 97]
    assert keys.tolist() == [t % 7 for t in (23, 35, 84, 93, 97)]


def test_what_a_newest_map_lets_go_is_added_up() -> None:
    pool = pool_of(MapSpec((TIME, Column("count", "sum", "u4")), bound=4, keep="newest"))
    for time in range(50):
        add(pool, 0, (time, time), (time, time))
    kept = counts(pool, 0)
    spilled = pool.spilled(0).tolist()
    assert max(kept) == 49 and min(kept) == 50 - len(kept)
    assert len(kept) + spilled[0] == 50
    assert sum(kept.values()) + spilled[1] == 100


def test_positions_beyond_four_bytes_and_entries_before_them_are_kept_as_they_are() -> None:
    spec = MapSpec((TIME, POSITION), bound=6, unique=False, keep="newest")
    pool, other = pool_of(spec), pool_of(spec)
    places = [1, 2**31 - 1, 2**31, 2**40]
    for place in places[:2]:
        add(pool, 0, (7, place))
    narrow = sum(array.nbytes for array in pool.arrays().values())
    for place in places[2:]:
        add(pool, 0, (7, place))
    assert pool.entries(0)[1]["p"].tolist() == pool.entries(0)[1]["t"].tolist() == places
    assert pool.entries(0)[1]["p"].dtype == np.int64
    copy = Pool(spec)
    copy.load({name: array.copy() for name, array in pool.arrays().items()})
    other.absorb(np.array([1]), pool, np.array([0]))
    other.absorb(np.array([2]), copy, np.array([0]))
    add(copy, 0, (7, 2**50))
    assert other.entries(1)[1]["p"].tolist() == other.entries(2)[1]["p"].tolist() == places
    assert copy.entries(0)[1]["p"].tolist() == [*places, 2**50]
    assert narrow < sum(array.nbytes for array in pool.arrays().values())


KINDS = (POSITION, Column("said", "latest", "f4", few=True), Column("count", "sum", "u4"))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(-(2**62), 2**62) | st.integers(-200, 200) | st.integers(-(2**31), 2**33),
            st.integers(-(10**12), 10**12).map(lambda t: t * SECOND) | st.integers(-300, 300),
            st.integers(0, 2**40),
            st.floats(width=32, allow_nan=False),
            st.integers(1, 2**32 - 1),
        ),
        unique_by=lambda entry: entry[0],
        max_size=40,
    ),
    st.sampled_from(["newest", "heaviest"]),
)
def test_however_narrow_entries_are_kept_they_are_told_as_they_came(
    entries: list[tuple[int, int, int, float, int]], keep: Any
) -> None:
    pool = pool_of(MapSpec((TIME, *KINDS), bound=40, key_dtype="i8", keep=keep))
    copy = pool_of(pool.spec)
    for number, (key, *said) in enumerate(entries):
        values = {c.name: np.array([x], c.dtype) for c, x in zip((TIME, *KINDS), said, strict=True)}
        pool.add(np.array([number % 2]), np.array([key]), values)
    copy.load({name: array.copy() for name, array in pool.arrays().items()})
    copy.absorb(np.array([2]), pool, np.array([0]))
    pool.absorb(np.array([3]), pool, np.array([1]))
    for row, told in ((0, pool), (1, pool), (2, copy), (3, pool), (0, copy)):
        expected = [entry for number, entry in enumerate(entries) if number % 2 == row % 2]
        keys, values = told.entries(row)
        assert [column.dtype for column in values.values()] == ["i8", "i8", "f4", "u4"]
        columns = (keys, *(values[c.name] for c in pool.spec.columns))
        found = list(zip(*(column.tolist() for column in columns), strict=True))
        assert sorted(found) == sorted(expected)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-(10**16), 10**16)), max_size=30))
def test_a_decay_kept_to_the_minute_says_the_same_at_every_moment(
    entries: list[tuple[int, int]],
) -> None:
    lives = (float(HOUR), 1000.0 * HOUR)
    spec = MapSpec((TIME, Column("w", "decay", "f8", 2, lives)), bound=40)
    exact = MapSpec((TIME, Column("w", "decay", "f8", 2, (lives[0] / 2, lives[1]))), bound=40)
    assert Compact(spec.columns, minutes=True).minutes
    assert not Compact(exact.columns, minutes=True).minutes
    pool = pool_of(spec)
    for entry in entries:
        add(pool, 0, entry)
    keys, values = pool.entries(0)
    for key, newest, w in zip(keys.tolist(), values["t"].tolist(), values["w"], strict=True):
        times = [time for k, time in entries if k == key]
        assert newest == max(times) // MINUTE * MINUTE
        expected = [sum(2 ** ((t - newest) / life) for t in times) for life in lives]
        np.testing.assert_allclose(w, expected, rtol=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_blocks_that_were_left_are_closed_up_and_everyone_keeps_their_entries(seed: int) -> None:
    users, random = 6_000, np.random.default_rng(seed)
    pool = pool_of(SPEC, users)
    held = np.zeros(users, dtype=np.int64)
    for _ in range(4):
        rows = np.repeat(np.arange(users), random.integers(0, 6, users))
        keys = np.arange(len(rows)) - np.searchsorted(rows, rows) + held[rows]
        pool.add(rows, keys.astype(np.int32), {
            "t": keys, "count": (rows + 1).astype(np.uint32), "w": np.ones((len(rows), 2)),
        })  # fmt: skip
        held += np.bincount(rows, minlength=users)
        assert sum(len(a) for n, a in pool.arrays().items() if n.endswith("free")) < 3 * users
    rows, keys, values = pool.every()
    order = np.lexsort((keys, rows))
    assert rows[order].tolist() == np.repeat(np.arange(users), held).tolist()
    assert keys[order].tolist() == [key for n in held.tolist() for key in range(n)]
    assert (values["count"] == rows + 1).all()
    assert (values["t"] == keys).all()
