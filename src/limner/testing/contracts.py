# ruff: noqa: D102 (the name of a test is its sentence)
"""The contract of a `Store`, as tests. A backend runs them in a few lines:

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store(self):
            return MyStore(...)

A backend that keeps its data also overrides `reopen`.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa

from limner.errors import StoreError
from limner.events.batch import SCHEMA, EventBatch, concat
from limner.events.log import EventLog
from limner.events.raw import Holding, Refused
from limner.privacy.access import ApiKey
from limner.privacy.identity import Sealed
from limner.profile.changes import Change, Said
from limner.profile.webhooks import Letter
from limner.stores import Store
from limner.stores.answered import KEPT_FOR, Answered

ANN, BEN, CLEO = (name.ljust(16, b".") for name in (b"ann", b"ben", b"cleo"))
"""Three pseudonyms."""


def row(number: int, user: bytes = ANN, *, check: int = 0, **columns: Any) -> dict[str, Any]:
    """A row whose identity is `number`.

    Keyword arguments are columns; `properties_NAME` is the column `properties.NAME`.
    """
    named = {name.replace("properties_", "properties.", 1): v for name, v in columns.items()}
    return {
        "user_id": user,
        "event_type": "view",
        "item_id": f"item {number % 7}",
        "timestamp": 1_700_000_000_000_000 + number,
        "digest": blake2b(str(number).encode(), digest_size=16).digest(),
        "check": check,
        "source": "test",
    } | named


def batch(*rows: dict[str, Any]) -> EventBatch:
    """Rows as a batch."""
    return EventBatch.of(rows)


def contents(log: EventLog, start: int = 0, stop: int | None = None) -> list[dict[str, Any]]:
    """The rows that `read` yields, each with its position and without its nulls."""
    rows = []
    for first, part in log.read(start, stop):
        for position, values in enumerate(part.to_pylist(), first):
            bare = {name: value for name, value in values.items() if value is not None}
            rows.append({"position": position} | bare)
    return rows


def identity(user: bytes, text: bytes = b"sealed") -> Sealed:
    """A row of the identity table; not one that opens."""
    return Sealed(user, 1, text, b"key of " + text)


def refusal(line: int, rule: str = "no_user", **fields: Any) -> Refused:
    """A refused row."""
    return Refused("shop.csv", line, rule, "the row names no user", fields)


NAMES = ("spend", "tea")
"""Names of what is shown."""


def change(user: bytes, time: int = 0) -> Change:
    """A change of a user."""
    before, after = Said(1.5, "one and a half"), Said({"tea": 1.0}, "tea")
    return Change(0, "interest_shift", user.hex(), "interests.type", before, after, 3, time, 0.5)


class StoreContract:
    """What every `Store` MUST do; a subclass provides the fixture `store`."""

    def reopen(self, store: Store) -> Store:
        """The same store as another process would find it; close the old one."""
        return store

    # log

    def test_a_new_log_is_empty(self, store: Store) -> None:
        assert store.log.head() == 0
        assert list(store.log.read()) == []
        positions, events = store.log.events_of(ANN)
        assert len(positions) == len(events) == 0

    def test_rows_come_back_in_order_at_dense_positions(self, store: Store) -> None:
        first = store.log.append(batch(row(1), row(2, BEN)))
        second = store.log.append(batch(row(3), row(4)))
        store = self.reopen(store)
        assert (first.first, second.first, store.log.head()) == (0, 2, 4)
        assert contents(store.log) == [
            {"position": place} | row(place + 1, BEN if place == 1 else ANN) for place in range(4)
        ]

    def test_every_column_survives(self, store: Store) -> None:
        full = row(
            1,
            received_at=5,
            check=2**64 - 1,
            event_id="e-1",
            value=9.99,
            unit="EUR",
            quantity=2.0,
            group_id="basket",
            recommendation_id="r-1",
            target_user_id=BEN,
            tz="Asia/Shanghai",
            flags=3,
            import_id=7,
            properties_size="XL",
            properties_stock=12,
            properties_price=1.5,
            properties_new=True,
        )
        assert {name for name in SCHEMA.names if name not in full} == set()
        store.log.append(batch(full))
        assert contents(self.reopen(store).log) == [{"position": 0} | full]

    def test_text_of_any_script_survives(self, store: Store) -> None:
        texts = [
            "",
            " ",
            "绿茶",
            "Žluťoučký kůň",
            "👩‍👩‍👧",
            "a\x00b",
            "line\nbreak",
            "'; DROP TABLE",
        ]
        store.log.append(
            batch(*(row(n, item_id=text, properties_t=text) for n, text in enumerate(texts)))
        )
        read = contents(self.reopen(store).log)
        assert [found["item_id"] for found in read] == texts
        assert [found["properties.t"] for found in read] == texts

    def test_a_property_may_change_its_type(self, store: Store) -> None:
        values = ["M", 38, 1.5, True, None, "L"]
        for number, value in enumerate(values):
            store.log.append(batch(row(number, properties_size=value)))
        for _ in range(2):
            read = [found.get("properties.size") for found in contents(store.log)]
            assert read == values
            assert [type(value) for value in read] == [type(value) for value in values]
            store.seal()
            store = self.reopen(store)
        assert len(store.log.events_of(ANN)[0]) == len(values)

    def test_an_empty_batch_changes_nothing(self, store: Store) -> None:
        done = store.log.append(EventBatch.empty())
        assert (done.first, len(done.kept), len(done.conflict)) == (0, 0, 0)
        assert self.reopen(store).log.head() == 0

    def test_a_row_without_identity_is_refused(self, store: Store) -> None:
        try:
            store.log.append(batch(row(1), row(2) | {"digest": None}))
        except ValueError:
            assert store.log.head() == 0
        else:
            raise AssertionError("a row without digest was appended")

    def test_once_across_batches(self, store: Store) -> None:
        store.log.append(batch(row(1), row(2)))
        store = self.reopen(store)
        again = store.log.append(batch(row(2), row(3), row(1)))
        assert again.first == 2
        assert again.kept.tolist() == [False, True, False]
        assert again.conflict.tolist() == [False, False, False]
        assert [found["timestamp"] % 10 for found in contents(store.log)] == [1, 2, 3]

    def test_once_within_a_batch(self, store: Store) -> None:
        done = store.log.append(batch(row(1), row(2), row(1), row(2), row(1)))
        assert done.kept.tolist() == [True, True, False, False, False]
        assert not done.conflict.any()
        assert store.log.head() == 2

    def test_the_same_identity_with_other_content_is_refused(self, store: Store) -> None:
        done = store.log.append(batch(row(1, check=5), row(1, check=6), row(1, check=5)))
        assert done.kept.tolist() == [True, False, False]
        assert done.conflict.tolist() == [False, True, False]
        store = self.reopen(store)
        later = store.log.append(batch(row(1, check=6), row(1, check=5), row(2, check=6)))
        assert later.kept.tolist() == [False, False, True]
        assert later.conflict.tolist() == [True, False, False]

    def test_identities_that_share_a_half_are_told_apart(self, store: Store) -> None:
        digests = [bytes(16), bytes(15) + b"\x01", b"\x01" + bytes(15), bytes(7) + b"\x01" * 9]
        rows = [row(n) | {"digest": digest} for n, digest in enumerate(digests)]
        assert store.log.append(batch(*rows)).kept.all()
        assert not self.reopen(store).log.append(batch(*reversed(rows))).kept.any()

    def test_read_takes_a_range(self, store: Store) -> None:
        for start in range(0, 12, 3):
            store.log.append(batch(*(row(start + n) for n in range(3))))
        for start, stop in [(0, 12), (2, 7), (3, 6), (5, 6), (6, 6), (9, None), (0, 99), (12, 20)]:
            wanted = range(start, min(12, 12 if stop is None else stop))
            assert [r["position"] for r in contents(store.log, start, stop)] == list(wanted)

    def test_read_keeps_to_the_head_of_its_call(self, store: Store) -> None:
        store.log.append(batch(row(1), row(2)))
        reading = store.log.read()
        store.log.append(batch(row(3)))
        store.seal()
        assert sum(len(part) for _, part in reading) == 2

    def test_a_large_batch_is_read_in_parts_of_bounded_size(self, store: Store) -> None:
        wide = EventBatch.of([row(n, tz="UTC" if n % 2 else None) for n in range(70_000)])
        assert store.log.append(wide).kept.all()
        parts = list(store.log.read(3))
        assert all(0 < len(part) <= 65_536 for _, part in parts)
        assert [first for first, _ in parts] == list(
            np.cumsum([3, *(len(part) for _, part in parts)])[:-1]
        )
        read = concat([part for _, part in parts])
        for name in ("digest", "timestamp", "tz"):
            assert read.array(name).to_pylist() == wide.array(name).to_pylist()[3:]

    def test_a_batch_brings_no_values_of_rows_that_are_not_in_it(self, store: Store) -> None:
        whole = batch(row(1, BEN, item_id="secret"), row(2), row(3))
        store.log.append(whole.slice(1, 3))
        for _, part in store.log.read():
            assert "secret" not in part.array("item_id").dictionary.to_pylist()
            assert BEN not in part.array("user_id").dictionary.to_pylist()

    def test_events_of_a_user(self, store: Store) -> None:
        near = ANN[:8] + b"another."  # shares half of its bytes with another
        users = [ANN, BEN, ANN, near, BEN, None, ANN]
        for number, user in enumerate(users):
            store.log.append(batch(row(number, user)))  # type: ignore[arg-type]
            for one in (ANN, near, BEN, CLEO):
                positions, events = store.log.events_of(one)
                wanted = [place for place in range(number + 1) if users[place] == one]
                assert positions.tolist() == wanted
                assert [r["timestamp"] % 10 for r in events.to_pylist()] == wanted
            if number == 3:
                store.seal()
                store = self.reopen(store)

    def test_rows_of_several_users(self, store: Store) -> None:
        near = ANN[:8] + b"another."  # shares half of its bytes with another
        users = [ANN, BEN, ANN, near, BEN, None, CLEO, ANN]
        for number, user in enumerate(users):
            store.log.append(batch(row(number, user)))  # type: ignore[arg-type]
            if number == 3:
                store.seal()
                store = self.reopen(store)
        for wanted in ({ANN, BEN}, {near, CLEO}, {ANN}, {b"nobody".ljust(16)}, set()):
            parts = store.log.rows_of(wanted)
            store.log.append(batch(row(len(users), ANN)))  # is not seen
            found = [(positions.tolist(), events.to_pylist()) for positions, events in parts]
            places = [place for positions, _ in found for place in positions]
            assert places == [n for n, user in enumerate(users) if user in wanted]
            rows = [r for _, events in found for r in events]
            assert [r["timestamp"] % 10 for r in rows] == [n % 10 for n in places]
            assert {r["user_id"] for r in rows} <= wanted
            users.append(ANN)
        store.log.blank(np.array([1]))
        assert [p.tolist() for p, _ in store.log.rows_of([BEN])] == [[4]]

    def test_events_of_holds_nobody_else(self, store: Store) -> None:
        store.log.append(batch(row(1), row(2, BEN, item_id="secret"), row(3)))
        _, events = store.log.events_of(ANN)
        assert events.array("user_id").dictionary.to_pylist() == [ANN]
        assert "secret" not in events.array("item_id").dictionary.to_pylist()

    def test_the_log_knows_its_digests(self, store: Store) -> None:
        store.log.append(batch(row(1), row(2)))
        asked = pa.array([row(n)["digest"] for n in (2, 3, 1)], pa.binary(16))
        for _ in range(2):
            assert store.log.knows(asked).tolist() == [True, False, True]
            assert store.log.knows(asked[:0]).tolist() == []
            store.log.blank(np.array([0]))
            store = self.reopen(store)

    # blanking and erasure

    def test_blanked_rows_keep_their_place_and_identity_only(self, store: Store) -> None:
        rows = [row(n, BEN if n == 2 else ANN, check=n, properties_p="x") for n in range(5)]
        store.log.append(batch(*rows[:3]))
        store.log.append(batch(*rows[3:]))
        assert store.log.blank(np.array([2, 3, 3])) == 2
        assert store.log.blank(np.array([3, 4])) == 1
        store = self.reopen(store)
        read = contents(store.log)
        assert read[:2] == [{"position": place} | rows[place] for place in (0, 1)]
        assert read[2:] == [
            {"position": n, "digest": rows[n]["digest"], "check": n} for n in (2, 3, 4)
        ]
        assert len(store.log.events_of(BEN)[0]) == 0
        assert store.log.events_of(ANN)[0].tolist() == [0, 1]
        for _, part in store.log.read():
            assert BEN not in part.array("user_id").dictionary.to_pylist()

    def test_a_null_lies_over_nothing(self, store: Store) -> None:
        store.log.append(batch(row(1, value=1.5, received_at=8), row(2, value=2.5, received_at=9)))
        store.log.blank(np.array([0]))
        for _, part in store.log.read():
            for name in ("timestamp", "value", "received_at"):
                data = part.array(name).buffers()[1]
                assert np.frombuffer(data, np.int64)[part.array(name).offset] == 0

    def test_blanked_rows_do_not_come_back(self, store: Store) -> None:
        store.log.append(batch(row(1, check=1), row(2)))
        store.log.blank(np.array([0]))
        store = self.reopen(store)
        again = store.log.append(batch(row(1, check=1), row(1, check=9)))
        assert not again.kept.any()
        assert again.conflict.tolist() == [False, True]

    def test_forgotten_rows_may_come_back(self, store: Store) -> None:
        store.log.append(batch(row(1), row(2), row(3)))
        assert store.log.blank(np.array([1]), forget=True) == 1
        assert store.log.blank(np.array([2])) == 1
        assert store.log.blank(np.array([2]), forget=True) == 0
        for _ in range(2):
            assert contents(store.log)[1:3] == [{"position": 1}, {"position": 2}]
            store = self.reopen(store)
        again = store.log.append(batch(row(1), row(2), row(3, check=4)))
        assert (again.first, again.kept.tolist()) == (3, [False, True, True])
        assert store.log.events_of(ANN)[0].tolist() == [0, 3, 4]

    def test_only_positions_of_the_log_can_be_blanked(self, store: Store) -> None:
        store.log.append(batch(row(1)))
        assert store.log.blank(np.array([], np.int64)) == 0
        for wrong in (1, -1):
            with suppress(ValueError):
                store.log.blank(np.array([0, wrong]))
                raise AssertionError(f"position {wrong} was blanked")
        assert contents(store.log) == [{"position": 0} | row(1)]

    def test_an_answer_is_kept_for_a_day(self, store: Store) -> None:
        one = Answered(b"r" * 16, 5, 200, "application/json", b"{}")
        store.answers.put(b"k" * 16, one)
        store.answers.put(b"l" * 16, replace(one, at=6))
        store = self.reopen(store)
        assert store.answers.get(b"k" * 16, 5) == one
        assert store.answers.get(b"m" * 16, 5) is None
        assert store.answers.get(b"k" * 16, 5 + KEPT_FOR) is None
        store.answers.put(b"k" * 16, replace(one, at=6 + KEPT_FOR, status=422))
        assert store.answers.get(b"l" * 16, 6) is None
        with store.transaction():
            assert store.answers.blank() == 1
        store = self.reopen(store)
        assert store.answers.blank() == 0
        assert store.answers.get(b"k" * 16, 6 + KEPT_FOR) == replace(
            one, at=6 + KEPT_FOR, status=422, body=None
        )

    def test_an_erased_user_is_nowhere(self, store: Store) -> None:
        store.log.append(batch(row(1), row(2, BEN, target_user_id=ANN), row(3, BEN)))
        store.log.append(batch(row(4, BEN, target_user_id=CLEO), row(5)))
        store.identities.add([identity(ANN), identity(BEN)])
        store.quarantine.add([refusal(1, user_id=ANN), refusal(2, user_id=BEN)])
        store.quarantine.add([refusal(3, user_id=BEN, target_user_id=ANN)])
        store.shown.put([(ANN, "spend", b"1"), (ANN, "tea", b"2"), (BEN, "spend", b"3")])
        store.outbox.add([change(ANN), change(BEN), change(ANN), change(ANN)], keep=9)
        for number, user in enumerate((ANN, BEN)):
            dead = replace(change(user), id=number)
            store.dead_letters.put(Letter("shop", dead, "status 500", 3, 7))
        counts = {}
        with store.transaction():
            for part in store.erasables:
                counts[part.name] = part.erase(ANN)
        assert counts == {
            "event log": 3, "identity table": 1, "quarantine": 2, "shown slots": 2, "changes": 3,
            "dead letters": 1,
        }  # fmt: skip
        store = self.reopen(store)
        for part in store.erasables:
            assert not part.holds(ANN)
            assert part.holds(BEN)
        read = contents(store.log)
        assert ANN not in [value for found in read for value in found.values()]
        assert read[1]["user_id"] == BEN
        assert read[3]["target_user_id"] == CLEO
        assert store.identities.known() == {BEN}

    def test_sealing_changes_nothing(self, store: Store) -> None:
        for number in range(20):
            store.log.append(batch(row(number, (ANN, BEN)[number % 2], properties_n=number)))
        store.log.blank(np.array([4, 5]))
        before = contents(store.log)
        for _ in range(2):
            store.seal()
            assert contents(store.log) == before
            assert store.log.events_of(ANN)[0].tolist() == [0, 2, 6, 8, 10, 12, 14, 16, 18]
            store = self.reopen(store)
        assert not store.log.append(batch(*(row(number) for number in range(20)))).kept.any()

    # transactions

    def test_a_transaction_is_kept_whole(self, store: Store) -> None:
        with store.transaction():
            self._write_everywhere(store)
        store = self.reopen(store)
        assert store.log.head() == 2
        assert store.identities.known() == {ANN}
        assert store.quarantine.counts() == {"no_user": 1}
        assert [entry.rows for entry in store.imports.entries()] == [0]
        assert store.get_meta("keys") == "print"

    def test_a_failed_transaction_leaves_nothing(self, store: Store) -> None:
        store.log.append(batch(row(0, BEN)))
        before = contents(store.log)
        with suppress(ZeroDivisionError), store.transaction():
            self._write_everywhere(store)
            store.log.blank(np.array([0]), forget=True)
            assert len(store.log.events_of(ANN)[0]) == 2
            raise ZeroDivisionError
        for _ in range(2):
            assert contents(store.log) == before
            assert len(store.log.events_of(ANN)[0]) == 0
            assert len(store.log.events_of(BEN)[0]) == 1
            assert store.identities.known() == set()
            assert store.quarantine.counts() == {}
            assert store.imports.entries() == []
            assert store.get_meta("keys") is None
            store = self.reopen(store)
        again = store.log.append(batch(row(0), row(1), row(2)))
        assert again.kept.tolist() == [False, True, True]

    def test_a_part_that_failed_undoes_the_whole(self, store: Store) -> None:
        def failing() -> None:
            with store.transaction():
                self._write_everywhere(store)
                raise ZeroDivisionError

        with suppress(StoreError), store.transaction():
            store.log.append(batch(row(3)))
            with suppress(ZeroDivisionError):
                failing()
        assert store.log.head() == 0
        assert store.identities.known() == set()
        with store.transaction():
            store.log.append(batch(row(3)))
        assert store.log.head() == 1

    def test_readers_see_no_half_of_a_transaction(self, store: Store) -> None:
        heads: set[int] = set()
        over = threading.Event()

        def watch() -> None:
            while not over.is_set():
                heads.add(store.log.head())
                heads.add(len(contents(store.log)))
                heads.add(len(store.log.events_of(ANN)[0]))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            for number in range(0, 40, 2):
                with store.transaction():
                    store.log.append(batch(row(number)))
                    store.log.append(batch(row(number + 1)))
        finally:
            over.set()
            watcher.join()
        assert {head for head in heads if head % 2} == set()

    def _write_everywhere(self, store: Store) -> None:
        store.log.append(batch(row(1)))
        store.log.append(batch(row(2)))
        store.identities.add([identity(ANN)])
        store.quarantine.add([refusal(1)])
        store.imports.start("shop.csv", 1)
        store.set_meta("keys", "print")

    # the tables beside the log

    def test_identities(self, store: Store) -> None:
        store.identities.add([identity(ANN), identity(BEN)])
        store.identities.add([identity(BEN, b"other"), identity(CLEO)])
        store.identities.add([])
        store = self.reopen(store)
        assert store.identities.known() == {ANN, BEN, CLEO}
        assert store.identities.get(BEN) == identity(BEN)
        assert store.identities.delete(BEN)
        assert not store.identities.delete(BEN)
        store = self.reopen(store)
        assert store.identities.get(BEN) is None
        assert store.identities.known() == {ANN, CLEO}

    def test_quarantine_keeps_each_row_once(self, store: Store) -> None:
        rows = [
            refusal(3, value=1.5, item_id="绿茶"),
            refusal(4, "no_time"),
            refusal(4, "no_user"),
            refusal(3, value=2.5),
        ]
        store.quarantine.add(rows, import_id=1)
        store.quarantine.add([*rows, refusal(9)], import_id=2)
        store.quarantine.add([])
        store = self.reopen(store)
        assert store.quarantine.rows() == [refusal(9), *reversed(rows)]
        assert store.quarantine.rows(limit=2) == [refusal(9), rows[3]]
        assert store.quarantine.rows(import_id=2) == [refusal(9)]
        assert store.quarantine.counts() == {"no_user": 4, "no_time": 1}

    def test_quarantine_is_asked_by_number_rule_and_import(self, store: Store) -> None:
        store.quarantine.add([refusal(1), refusal(2, "no_time")], import_id=1)
        store.quarantine.add([refusal(3, "no_time")], import_id=2)
        newest = store.quarantine.rows()
        assert [(row.line, row.import_id) for row in newest] == [(3, 2), (2, 1), (1, 1)]
        assert len({row.row_id for row in newest}) == 3
        for place in range(3):
            assert store.quarantine.rows(ids=[newest[place].row_id]) == [newest[place]]
        assert store.quarantine.rows(ids=[]) == []
        assert store.quarantine.rows(rule="no_time", import_id=1) == [refusal(2, "no_time")]
        assert store.quarantine.rows(limit=None, rule="no_time") == newest[:2]

    def test_quarantine_knows_a_row_by_its_identity(self, store: Store) -> None:
        one = refusal(3, digest="aa", check=5, value="x")
        elsewhere = replace(one, where="copy.csv", line=9, rule="no_time")
        assert store.quarantine.add([one, elsewhere]) == [one]
        assert self.reopen(store).quarantine.rows() == [one]

    def test_a_settled_row_is_gone_and_not_held_again(self, store: Store) -> None:
        rows = [refusal(1, digest="aa", check=1, user_id=ANN), refusal(2), refusal(3)]
        assert store.quarantine.add(rows) == rows
        numbers = [row.row_id for row in store.quarantine.rows()][::-1]
        assert store.quarantine.settle(numbers[:2]) == 2
        assert store.quarantine.settle(numbers[:2]) == 0
        store = self.reopen(store)
        assert not any(part.holds(ANN) for part in store.erasables)
        assert store.quarantine.add(rows) == []
        assert store.quarantine.rows() == [refusal(3)]
        store.quarantine.replace(numbers[0], refusal(1, "no_time"))
        assert store.quarantine.counts() == {"no_user": 1}

    def test_a_row_refused_anew_keeps_its_place(self, store: Store) -> None:
        store.quarantine.add([refusal(4, value="x", digest="aa")], import_id=2)
        (held,) = store.quarantine.rows()
        anew = Refused("mended", 0, "no_time", "no time", {"value": "y", "digest": "aa"})
        store.quarantine.replace(held.row_id, anew)
        (now,) = self.reopen(store).quarantine.rows()
        assert (now.where, now.line, now.import_id) == ("shop.csv", 4, 2)
        assert (now.rule, now.reason, now.row) == (anew.rule, anew.reason, anew.row)

    def test_quarantine_counts_what_was_refused_ever(self, store: Store) -> None:
        rows = [refusal(n, digest=f"{n:02x}", user_id=ANN) for n in range(4)]
        store.quarantine.add(rows[:2], import_id=1, now=70)
        store.quarantine.add([*rows, refusal(9, "no_time")], import_id=2, now=90)
        newest = store.quarantine.rows(rule="no_user")
        assert [row.held_at for row in newest] == [90, 90, 70, 70]
        store.quarantine.replace(newest[1].row_id, refusal(2, "no_time"))
        store.quarantine.settle([newest[0].row_id])
        store = self.reopen(store)
        assert store.quarantine.holdings() == {
            "no_user": Holding(2, 3, 90), "no_time": Holding(2, 2, 90),
        }  # fmt: skip
        store.quarantine.forget(2)
        assert store.quarantine.holdings() == {"no_user": Holding(2, 2, 70)}
        for part in store.erasables:
            part.erase(ANN)
        assert store.quarantine.holdings() == {"no_user": Holding(0, 2, 70)}

    def test_an_erased_row_leaves_its_identity(self, store: Store) -> None:
        named = [refusal(1, user_id=ANN, digest="aa"), refusal(2, user_id=ANN)]
        store.quarantine.add(named)
        assert sum(part.erase(ANN) for part in store.erasables) == 2
        assert store.quarantine.add(named) == named[1:]

    def test_quarantine_forgets_an_import(self, store: Store) -> None:
        store.quarantine.add([refusal(1), refusal(2)], import_id=1)
        store.quarantine.add([refusal(3)], import_id=2)
        store.quarantine.settle([store.quarantine.rows()[-1].row_id])
        assert store.quarantine.forget(1) == 2
        assert store.quarantine.forget(1) == 0
        store = self.reopen(store)
        assert store.quarantine.rows() == [refusal(3)]
        store.quarantine.add([refusal(2)], import_id=4)
        store.quarantine.add([refusal(1)], import_id=4)
        assert store.quarantine.counts() == {"no_user": 3}

    def test_quarantine_spells_pseudonyms_in_hexadecimal(self, store: Store) -> None:
        store.quarantine.add([refusal(1, user_id=ANN, quantity=np.float64(2))])
        assert self.reopen(store).quarantine.rows() == [refusal(1, user_id=ANN.hex(), quantity=2.0)]

    def test_imports(self, store: Store) -> None:
        first, second = store.imports.start("a.csv", 10), store.imports.start("b.csv", 20)
        assert (first.import_id, second.import_id) == (1, 2)
        done = replace(first, finished_at=15, rows=7, added=4, repeated=2, refused=1,
                       found={"bad_time": 1})  # fmt: skip
        store.imports.save(done)
        store = self.reopen(store)
        assert store.imports.entries() == [done, second]
        assert store.imports.start("c.csv", 30).import_id == 3

    def test_dead_letters_are_kept_by_webhook_and_change(self, store: Store) -> None:
        first, second = (
            Letter("a", replace(change(user), id=number), "status 500", 3, 7)
            for number, user in ((4, ANN), (2, BEN))
        )
        for letter in (first, second, replace(first, webhook="b"), replace(first, again=True)):
            store.dead_letters.put(letter)
        store = self.reopen(store)
        assert store.dead_letters.of("a") == [second, replace(first, again=True)]
        store.dead_letters.drop("a", 2)
        assert not store.dead_letters.holds(BEN) and store.dead_letters.holds(ANN)
        assert store.dead_letters.erase(ANN) == 2
        assert store.dead_letters.of("a") == store.dead_letters.of("b") == []

    def test_api_keys_are_kept_by_name(self, store: Store) -> None:
        assert store.api_keys.every() == []
        first, second = (ApiKey(name, name * 64, ("read",), 1) for name in "ba")
        assert store.api_keys.add(first) and store.api_keys.add(second)
        assert not store.api_keys.add(replace(first, digest="c" * 64))
        store.api_keys.save(replace(second, revoked_at=2))
        store = self.reopen(store)
        assert store.api_keys.every() == [replace(second, revoked_at=2), first]

    def test_facts_about_the_store(self, store: Store) -> None:
        assert store.get_meta("keys") is None
        store.set_meta("keys", "a")
        store.set_meta("keys", "b")
        assert self.reopen(store).get_meta("keys") == "b"

    # what is shown, and changes

    def test_what_is_shown_is_kept_by_user_and_name(self, store: Store) -> None:
        assert store.shown.of(ANN, NAMES) == {}
        store.shown.put([(ANN, "spend", b"1"), (ANN, "tea", b"2"), (BEN, "spend", b"3")])
        store.shown.put([(ANN, "spend", b"4")])
        store = self.reopen(store)
        assert store.shown.of(ANN, NAMES) == {"spend": b"4", "tea": b"2"}
        assert store.shown.users("spend") == {ANN, BEN}
        store.shown.drop("spend", [ANN])
        assert store.shown.of(ANN, NAMES) == {"tea": b"2"}
        store.shown.drop(users=[BEN])
        assert not store.shown.holds(BEN)
        store.shown.put([(CLEO, "tea", b"5")])
        store.shown.drop("tea")
        assert not any(store.shown.holds(user) for user in (ANN, BEN, CLEO))

    def test_changes_come_back_in_order_under_increasing_ids(self, store: Store) -> None:
        assert (store.outbox.last(), store.outbox.dropped(), store.outbox.after(0)) == (0, 0, [])
        store.outbox.add([change(ANN, 10), change(BEN, 11)], keep=9)
        store.outbox.add([change(ANN, 12)], keep=9)
        store = self.reopen(store)
        assert store.outbox.after(0) == [
            replace(change(ANN, 10), id=1), replace(change(BEN, 11), id=2),
            replace(change(ANN, 12), id=3),
        ]  # fmt: skip
        assert [found.id for found in store.outbox.after(1, limit=1)] == [2]
        assert store.outbox.after(3) == []

    def test_the_bound_keeps_the_newest_changes_and_says_what_went(self, store: Store) -> None:
        for time in range(7):
            store.outbox.add([change(ANN, time)], keep=3)
        store = self.reopen(store)
        assert [found.time for found in store.outbox.after(0)] == [4, 5, 6]
        assert (store.outbox.last(), store.outbox.dropped()) == (7, 4)

    def test_an_id_is_never_given_twice(self, store: Store) -> None:
        store.outbox.add([change(ANN), change(BEN)], keep=9)
        store.outbox.erase(BEN)
        store = self.reopen(store)
        store.outbox.add([change(ANN)], keep=9)
        assert [found.id for found in store.outbox.after(0)] == [1, 3]
        assert (store.outbox.last(), store.outbox.dropped()) == (3, 0)

    def test_what_a_failed_transaction_would_have_shown_is_not_there(self, store: Store) -> None:
        with suppress(RuntimeError), store.transaction():
            store.shown.put([(ANN, "spend", b"1")])
            store.outbox.add([change(ANN)], keep=9)
            raise RuntimeError
        assert store.shown.of(ANN, NAMES) == {}
        assert store.outbox.after(0) == []
