"""Law 2, *once*: whatever is appended, repeated, contradicted, blanked, sealed or reopened, the
SQLite store and the reference hold the same rows."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from limner.events.once import Seen, SortedRuns
from limner.stores.memory import MemoryStore
from limner.stores.sqlite import SqliteStore
from limner.testing.contracts import ANN, BEN, CLEO, batch, contents, row

PROPERTIES = st.one_of(
    st.none(), st.integers(-5, 5), st.sampled_from(["M", "绿茶", ""]), st.sampled_from([0.5, 2.0])
)
ROWS = st.lists(
    st.tuples(
        st.integers(0, 30),
        st.sampled_from([ANN, BEN, CLEO]),
        st.sampled_from([0, 0, 0, 1]),
        PROPERTIES,
    ),
    max_size=6,
)


def rows_of(drawn: list[tuple[int, bytes, int, Any]]) -> list[dict[str, Any]]:
    kinds = {type(value) for *_, value in drawn if value is not None}
    mixed = len(kinds) > 1  # one batch has one type a property
    return [
        row(n, user, check=check, properties_p=None if value is None else str(value))
        if mixed
        else row(n, user, check=check, properties_p=value)
        for n, user, check, value in drawn
    ]


class Stores(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "shop.db"
        self.sqlite = SqliteStore(self.path)
        self.memory = MemoryStore()

    @rule(drawn=ROWS)
    def append(self, drawn: list[tuple[int, bytes, int, Any]]) -> None:
        given_rows = batch(*rows_of(drawn))
        ours, reference = (s.log.append(given_rows) for s in (self.sqlite, self.memory))
        assert ours.first == reference.first
        assert ours.kept.tolist() == reference.kept.tolist()
        assert ours.conflict.tolist() == reference.conflict.tolist()
        assert not (ours.kept & ours.conflict).any()

    @rule(drawn=ROWS, fails=st.booleans())
    def transaction(self, drawn: list[tuple[int, bytes, int, Any]], fails: bool) -> None:
        for store in (self.sqlite, self.memory):
            with suppress(ZeroDivisionError), store.transaction():
                for one in rows_of(drawn):
                    store.log.append(batch(one))
                if store.log.head():
                    store.log.blank(np.array([store.log.head() - 1]), forget=True)
                if fails:
                    raise ZeroDivisionError

    @rule(places=st.sets(st.integers(0, 60), max_size=4), forget=st.booleans())
    def blank(self, places: set[int], forget: bool) -> None:
        positions = np.array([p for p in places if p < self.memory.log.head()], np.int64)
        ours, reference = (
            store.log.blank(positions, forget=forget) for store in (self.sqlite, self.memory)
        )
        assert ours == reference

    @rule(user=st.sampled_from([ANN, BEN, CLEO]))
    def erase(self, user: bytes) -> None:
        assert self.sqlite.log.erase(user) == self.memory.log.erase(user)
        assert not self.sqlite.log.holds(user)

    @rule()
    def seal(self) -> None:
        self.sqlite.seal()

    @rule()
    def reopen(self) -> None:
        self.sqlite.close()
        self.sqlite = SqliteStore(self.path)

    @rule(start=st.integers(0, 40), length=st.integers(0, 40))
    def read(self, start: int, length: int) -> None:
        ours, reference = (
            contents(store.log, start, start + length) for store in (self.sqlite, self.memory)
        )
        assert ours == reference

    @invariant()
    def same(self) -> None:
        assert self.sqlite.log.head() == self.memory.log.head()
        assert contents(self.sqlite.log) == contents(self.memory.log)
        for user in (ANN, BEN, CLEO):
            ours, reference = (store.log.events_of(user) for store in (self.sqlite, self.memory))
            assert ours[0].tolist() == reference[0].tolist()
            assert len(ours[1]) == len(ours[0])

    def teardown(self) -> None:
        self.sqlite.close()
        self.folder.cleanup()


TestStores = Stores.TestCase
TestStores.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 1)), max_size=8)
    )
)
def test_seen_is_a_dictionary(batches: list[list[tuple[int, int, int]]]) -> None:
    """Digests whose halves collide all the time are still told apart, in any number of runs."""
    seen, known = Seen(), dict[bytes, int]()
    for part in batches:
        digests = [bytes([high] * 8 + [low] * 8) for high, low, _ in part]
        checks = [check for *_, check in part]
        kept, conflict = seen.sift(pa.array(digests, pa.binary(16)), pa.array(checks, pa.uint64()))
        wanted = []
        for digest, check in zip(digests, checks, strict=True):
            wanted.append((digest not in known, known.get(digest, check) != check))
            known.setdefault(digest, check)
        assert list(zip(kept.tolist(), conflict.tolist(), strict=True)) == wanted
        seen.add(
            pa.array(digests, pa.binary(16)).filter(pa.array(kept)),
            pa.array(checks, pa.uint64()).filter(pa.array(kept)),
        )
        assert len(seen) == len(known)


@given(st.lists(st.lists(st.integers(0, 9), max_size=9)))
def test_sorted_runs_stay_few_and_in_order(adds: list[list[int]]) -> None:
    runs, place, places = SortedRuns(), 0, dict[int, list[int]]()
    for keys in adds:
        here = np.arange(place, place + len(keys))
        runs.add(np.array(keys, np.uint64), here)
        place += len(keys)
        for key, position in zip(keys, here.tolist(), strict=True):
            places.setdefault(key, []).append(position)
    assert len(runs) == place
    assert len(runs.runs) <= max(place, 1).bit_length()
    for key in range(10):
        found = [run[1].tolist() for run in runs.rows(np.array([key], np.uint64))]
        assert list(chain(*found)) == places.get(key, [])
        assert runs.count(np.array([key], np.uint64)).tolist() == [len(places.get(key, []))]
    several = [run[1].tolist() for run in runs.rows(np.array([2, 5, 7], np.uint64))]
    assert sorted(chain(*several)) == sorted(chain(*(places.get(key, []) for key in (2, 5, 7))))
