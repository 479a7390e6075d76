from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.events.batch import DAY, SECOND, EventBatch
from limner.events.clean import clean
from limner.events.norms import Norms
from limner.events.raw import RawBatch
from limner.events.robots import Days, numbered
from limner.events.rules import BITS, DOUBTS, CleanConfig

START = 1_699_950_003_000_000
NOW = START + 40 * DAY


def user(number: int) -> bytes:
    return np.random.default_rng(number).bytes(16)


def event(who: int, item: object, at: float, kind: str = "view") -> dict[str, Any]:
    return {
        "user_id": user(who),
        "item_id": str(item),
        "event_type": kind,
        "timestamp": START + round(at * SECOND),
    }


def flags(norms: Norms, rows: list[dict[str, Any]], **config: Any) -> list[set[str]]:
    """The rules that doubt each row; the rows are counted afterwards."""
    columns = {name: pa.array([row[name] for row in rows]) for name in rows[0]}
    columns["line"] = pa.array(np.arange(len(rows)))
    raw = RawBatch(pa.table(columns), "x", "x")
    out = clean(raw, now=NOW, config=CleanConfig(**config), norms=norms)
    norms.observe(0, out.batch)
    assert not out.refused
    found = out.batch.array("flags").to_numpy()
    return [{rule for rule, bit in BITS.items() if bit & DOUBTS & flag} for flag in found.tolist()]


def test_many_different_items_within_seconds_are_a_robots() -> None:
    fast = [event(1, n, n * 0.2) for n in range(25)]
    slow = [event(2, n, n * 1.5 + 0.1) for n in range(25)]
    again = [event(3, n % 5, n * 0.1 + 0.03) for n in range(60)]  # a few items over and over
    rows = sorted([*fast, *slow, *again], key=lambda row: row["timestamp"])
    found = flags(Norms(), rows)
    assert {row["user_id"] for row, said in zip(rows, found, strict=True) if said} == {user(1)}
    assert sum(map(bool, found)) == 25
    assert not any(flags(Norms(), rows, off=("robot_speed",)))
    assert sum(map(bool, flags(Norms(), rows, robot_items=30))) == 0


def test_a_robot_is_seen_across_batches_too() -> None:
    norms = Norms()
    said = [flags(norms, [event(1, n, n * 0.1)])[0] for n in range(30)]
    assert said == [set()] * 19 + [{"robot_speed"}] * 11


def test_what_comes_at_once_is_no_robot() -> None:
    basket = [event(1, n, 0, "purchase") for n in range(80)]
    shown = [event(1, n, 0, "impression") for n in range(80)]
    on_the_minute = [{**event(1, n, 0), "timestamp": 1_699_950_000_000_000} for n in range(80)]
    for rows in (basket, shown, on_the_minute):
        assert not any(flags(Norms(), rows))


def test_a_day_of_far_more_events_than_anybody_has_is_a_robots() -> None:
    norms = Norms()
    people = [event(n, n % 7, n * 30 + k, "purchase") for n in range(200) for k in range(5)]
    assert not any(flags(norms, people))
    robot = [event(900, k % 9, k * 10, "purchase") for k in range(700)]
    found = flags(norms, robot[:650])
    assert found == [set()] * 500 + [{"robot_volume"}] * 150
    assert flags(norms, robot[650:]) == [{"robot_volume"}] * 50
    assert not any(flags(norms, robot[:600], off=("robot_volume",)))
    bound = norms.days.bound(cut=3.5, observed=50, least=1)
    assert 40 < bound < 120  # the median is 5, and the spread at least a fifth of a decade


def test_days_with_a_wide_spread_have_a_wide_bound() -> None:
    norms = Norms()
    people = [event(n, 1, n * 30, "purchase") for n in range(100) for _ in range(2 ** (n % 9))]
    flags(norms, people)
    assert norms.days.bound(cut=3.5, observed=50, least=500) > 2_000


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6)), max_size=60), st.data())
def test_days_depend_on_order_alone(rows: list[tuple[int, int]], data: st.DataObject) -> None:
    users = np.array([who * 2**40 + who for who, _ in rows], dtype=np.uint64)
    times = np.array([START + day * DAY for _, day in rows], dtype=np.int64)
    whole, parts = Days(), Days()
    whole.observe(users, times)
    at = 0
    while at < len(rows):
        size = data.draw(st.integers(1, len(rows) - at))
        parts.observe(users[at : at + size], times[at : at + size])
        at += size
    assert whole == parts == Days.from_arrays(parts.arrays())
    # against a plain count
    newest, plain = -1, dict[tuple[int, int], int]()
    for who, day in rows:
        newest = max(newest, day)
        if day >= newest - 1:
            plain[who, day] = plain.get((who, day), 0) + 1
    days = np.full(6, newest) + START // DAY
    asked = np.array([who * 2**40 + who for who in range(6)], dtype=np.uint64)
    if rows:
        got = whole.so_far(asked, days).tolist()
        assert got == [plain.get((who, newest), 0) for who in range(6)]
    assert whole.histogram.sum() == len(plain)


@given(st.lists(st.integers(0, 4), max_size=30))
def test_rows_are_numbered_within_their_code(codes: list[int]) -> None:
    wanted = [codes[: n + 1].count(code) for n, code in enumerate(codes)]
    assert numbered(np.array(codes, dtype=np.int64)).tolist() == wanted


def test_norms_are_the_same_however_the_log_is_read() -> None:
    rng = np.random.default_rng(3)
    rows = [
        {**event(int(rng.integers(9)), int(rng.integers(20)), float(k) * 900, "purchase"),
         "value": float(rng.lognormal()), "received_at": k, "flags": int(rng.integers(0, 16))}
        for k in range(500)
    ]  # fmt: skip
    batch = EventBatch.of(rows)
    whole, parts = Norms(), Norms()
    whole.observe(7, batch)
    for start in range(0, 500, 70):
        parts.observe(7 + start, batch.slice(start, min(start + 70, 500)))
    assert whole == parts == Norms.from_arrays(parts.arrays())
    touched = whole.touched()["robot_speed"]
    assert touched.n == sum(bool(row["flags"] & BITS["robot_speed"]) for row in rows)
    assert rows[touched.position - 7]["flags"] & BITS["robot_speed"]


def test_a_sketch_of_another_size_is_refused() -> None:
    arrays = Days().arrays() | {"day_counts": np.zeros((2, 2, 8), np.int32)}
    with pytest.raises(ValueError, match="another size"):
        Days.from_arrays(arrays)
