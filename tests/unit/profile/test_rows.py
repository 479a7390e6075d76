"""Rows of users: an array and a hash table, held against a dict."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from limner.profile.rows import Rows

# first halves that are equal, second halves that are, and keys whose bits are all low or all high
USERS = st.one_of(
    st.integers(0, 40).map(lambda n: n.to_bytes(16, "big")),
    st.integers(0, 40).map(lambda n: n.to_bytes(16, "little")),
    st.integers(0, 40).map(lambda n: bytes([n]) * 16),
    st.binary(min_size=16, max_size=16),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.lists(USERS, max_size=90)),
        st.tuples(st.just("remove"), USERS),
        st.tuples(st.just("reload"), st.none()),
    ),
    max_size=25,
)


def as_dict_does(known: dict[bytes, int], free: list[int], user: bytes) -> int:
    """The plain reference of `Rows.add` for one user."""
    if user not in known:
        known[user] = free.pop() if free else len(known)
    return known[user]


@given(STEPS)
def test_rows_are_a_dict_whose_rows_are_used_again(steps: list[tuple[str, Any]]) -> None:
    rows = Rows()
    known: dict[bytes, int] = {}
    free: list[int] = []
    for step, given_ in steps:
        if step == "add":
            assert rows.add(given_).tolist() == [as_dict_does(known, free, u) for u in given_]
        elif step == "remove":
            row = known.pop(given_, None)
            assert rows.remove(given_) == row
            if row is not None:
                free.append(row)
                assert rows.key(row) is None
                assert not rows.keys_of[row].any()
        else:
            arrays = {name: array.copy() for name, array in rows.arrays().items()}
            rows = Rows()
            rows.load(arrays)
        assert len(rows) == len(known)
        assert rows.size == len(known) + len(free)
        assert rows.live.tolist() == sorted(known.values())
        assert all(rows[user] == row and rows.key(row) == user for user, row in known.items())
    assert dict(rows) == known
    asked = [*known, bytes(16), b"nobody at all..."]
    assert rows.find(asked).tolist() == [known.get(user, -1) for user in asked]
    assert b"nobody at all..." not in rows


def test_a_hundred_thousand_users_take_little_and_are_all_found() -> None:
    packed = np.random.default_rng(0).bytes(1_600_000)
    users = [packed[at : at + 16] for at in range(0, len(packed), 16)]
    rows = Rows()
    for start in range(0, len(users), 7_000):
        part = users[start : start + 7_000]
        assert rows.add(part).tolist() == list(range(start, start + len(part)))
    assert rows.find(users[::-1]).tolist() == list(range(len(users)))[::-1]
    assert sum(array.nbytes for array in rows.arrays().values()) < 32 * len(users)
