from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.errors import ConfigError
from limner.events.batch import Bool
from limner.events.raw import ITEM, USER, RawBatch
from limner.privacy.admit import Admitted, Known, Occurrences, PrivacyConfig, admit
from limner.privacy.keys import BY_CONTENT, BY_ID, BY_REPEAT, CHECK, Keys, named, repeated

KEYS = Keys.generate()
OPEN = PrivacyConfig()


def having(users: set[bytes]) -> Known:
    """Those users have an identity."""

    def known(asked: Sequence[bytes]) -> Bool:
        return np.array([user in users for user in asked], dtype=bool)

    return known


def raw(rows: list[dict[str, Any]], source: str = "shop", **columns: pa.Array) -> RawBatch:
    """A batch of these rows; `content` is made of them as a reader would."""
    names = sorted({"user_id"}.union(*rows))
    table = pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})
    content = [repr(sorted(row.items())).encode() for row in rows]
    table = table.append_column("content", pa.array(content, pa.binary()))
    table = table.append_column("line", pa.array(range(1, len(rows) + 1), pa.int64()))
    for name, column in columns.items():
        table = table.append_column(name, column)
    return RawBatch(table, "shop.csv", source)


def admitted(
    rows: list[dict[str, Any]],
    fields: dict[str, str] | None = None,
    *,
    source: str = "shop",
    occurrences: Occurrences | None = None,
) -> Admitted:
    policy = PrivacyConfig(fields or {})
    return admit(raw(rows, source), KEYS, policy, occurrences or Occurrences())


def event(user_id: str | None = "ann@example.org", **columns: Any) -> dict[str, Any]:
    return {"user_id": user_id, "event_type": "view", "item_id": "i1"} | columns


def column(done: Admitted, name: str) -> list[Any]:
    values: list[Any] = done.raw.table.column(name).to_pylist()
    return values


# pseudonyms


def test_users_enter_under_their_pseudonyms() -> None:
    done = admitted([event(), event("ben"), event(None), event("  "), event()])
    ann, ben = KEYS.pseudonym("ann@example.org"), KEYS.pseudonym("ben")
    assert column(done, "user_id") == [ann, ben, None, None, ann]
    new = done.identities(KEYS, having(set()))
    assert {sealed.pseudonym: KEYS.unseal(sealed) for sealed in new} == {
        ann: "ann@example.org",
        ben: "ben",
    }


def test_known_users_are_not_sealed_again() -> None:
    known = {KEYS.pseudonym("ben")}
    done = admitted([event("ann", target_user_id="cleo"), event("ben")])
    assert [KEYS.unseal(new) for new in done.identities(KEYS, having(known))] == ["ann", "cleo"]
    assert column(done, "target_user_id") == [KEYS.pseudonym("cleo"), None]


@pytest.mark.parametrize(
    "ids",
    [
        pa.array(["7", "8", None]),
        pa.array([7, 8, None]),
        pa.array([7.0, 8.0, float("nan")]),
        pa.array(["7", "8", None], pa.large_string()),
        pa.array(["7", "8", None]).dictionary_encode(),
    ],
)
def test_an_id_is_the_same_user_in_any_type(ids: pa.Array) -> None:
    table = pa.table({"user_id": ids, "content": pa.array([b"a", b"b", b"c"])})
    done = admit(RawBatch(table, "x", "shop"), KEYS, OPEN, Occurrences())
    assert column(done, "user_id") == [KEYS.pseudonym("7"), KEYS.pseudonym("8"), None]


@settings(max_examples=40)
@given(st.lists(st.text("abcxyz", min_size=6, max_size=9), min_size=1, max_size=8))
def test_no_user_id_is_in_what_was_admitted(users: list[str]) -> None:
    rows = [
        event(user, target_user_id=other)
        for user, other in zip(users, users[1:] + users[:1], strict=True)
    ]
    done = admitted(rows)
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, done.raw.table.schema) as writer:
        writer.write_table(done.raw.table)
    body = sink.getvalue().to_pybytes()
    assert not [user for user in users if user.encode() in body]
    assert "content" not in done.raw.table.column_names


def test_an_empty_batch_is_admitted() -> None:
    done = admitted([])
    assert len(done.raw) == 0
    assert done.identities(KEYS, having(set())) == []
    assert {"digest", "check"} <= set(done.raw.table.column_names)


def test_chunks_and_slices_make_no_difference() -> None:
    rows = [event(f"u{n % 3}", event_id=f"e{n}" if n % 2 else None) for n in range(9)]
    whole = raw(rows)
    chunked = pa.concat_tables([whole.table.slice(0, 4), whole.table.slice(4)])
    longer = raw([event("x"), *rows, event("y")]).table.slice(1, 9)
    wanted = admit(whole, KEYS, OPEN, Occurrences()).raw.table
    for table in (chunked, longer):
        done = admit(RawBatch(table, "shop.csv", "shop"), KEYS, OPEN, Occurrences())
        for name in ("digest", "check", "user_id"):
            assert column(done, name) == wanted.column(name).to_pylist()


# identity (law 2)


def test_an_event_with_an_id_is_its_source_and_id() -> None:
    done = admitted([event(event_id="e1"), event(event_id="e1", source="app"), event(event_id="")])
    first, second, third = column(done, "digest")
    assert first == KEYS.digests([named("shop", "e1")], person=BY_ID)
    assert second == KEYS.digests([named("app", "e1")], person=BY_ID)
    content = repr(sorted(event(event_id="").items())).encode()
    assert third == KEYS.digests([content], person=BY_CONTENT)


def test_the_same_id_with_other_content_has_another_check() -> None:
    rows = [event(event_id="e1", value="5"), event(event_id="e1", value="6")]
    done = admitted([*rows, rows[0]])
    digests, checks = column(done, "digest"), column(done, "check")
    assert len(set(digests)) == 1
    assert checks[0] == checks[2] != checks[1]
    content = repr(sorted(rows[0].items())).encode()
    assert checks[0] == int.from_bytes(KEYS.digests([content], person=CHECK, size=8), "little")


CONTENTS = st.lists(st.lists(st.sampled_from("abc"), max_size=5), max_size=5)


@given(CONTENTS)
def test_a_row_without_id_is_its_content_and_occurrence(batches: list[list[str]]) -> None:
    """Equal contents are numbered from 0 through the file, however it is cut into batches."""
    occurrences, seen = Occurrences(), Counter[str]()
    for part in batches:
        rows = [event(item_id=text) for text in part]
        done = admitted(rows, occurrences=occurrences)
        by_check = dict(zip(column(done, "check"), part, strict=True))
        assert len(by_check) == len(set(part))
        for text, digest in zip(part, column(done, "digest"), strict=True):
            content = repr(sorted(event(item_id=text).items())).encode()
            wanted = KEYS.digests([content], person=BY_CONTENT)
            if seen[text]:
                wanted = KEYS.digests([repeated(wanted, seen[text])], person=BY_REPEAT)
            assert digest == wanted
            seen[text] += 1


@given(CONTENTS)
def test_the_same_file_has_the_same_identities(batches: list[list[str]]) -> None:
    texts = [text for part in batches for text in part]
    whole = admitted([event(item_id=text) for text in texts], source="a copy")
    occurrences = Occurrences()
    parts = [
        admitted([event(item_id=text) for text in part], occurrences=occurrences)
        for part in batches
    ]
    digests = [digest for part in parts for digest in column(part, "digest")]
    assert digests == column(whole, "digest")
    assert len(set(digests)) == len(texts)


def test_occurrences_take_little_memory() -> None:
    occurrences = Occurrences()
    for seed in range(10):
        keys = np.random.default_rng(seed).integers(0, 2**63, 10_000).astype(np.uint64)
        occurrences.number(keys)
    assert sum(array.nbytes for run in occurrences._runs.runs for array in run) == 8 * 100_000


# the policy


def test_a_policy_changes_no_identity() -> None:
    rows = [event(value="12.345", event_id="e1"), event(value="1")]
    plain, strict = admitted(rows), admitted(rows, {"value": "drop", "item_id": "hash"})
    for name in ("digest", "check"):
        assert column(plain, name) == column(strict, name)


def test_drop_round_and_truncate() -> None:
    rows = [
        event(value="12.345", quantity="7", tz="Europe/Berlin"),
        event(value=" 99 ", quantity="x", tz=None),
        event(value="1e3", quantity=None, tz="绿茶绿茶绿茶"),
    ]
    done = admitted(rows, {"value": "round:1", "quantity": "round:-1", "tz": "truncate:3"})
    assert column(done, "value") == [12.3, 99.0, 1000.0]
    assert column(done, "quantity") == [10.0, None, None]
    assert column(done, "tz") == ["Eur", None, "绿茶绿"]
    assert column(admitted(rows, {"tz": "drop"}), "tz") == [None, None, None]


def test_hash_keeps_equal_values_equal_and_hides_them() -> None:
    rows = [event(group_id=text) for text in ("basket 1", "basket 2", "basket 1", None)]
    first, second, third, fourth = column(admitted(rows, {"group_id": "hash"}), "group_id")
    assert first == third != second
    assert fourth is None
    assert len(first) == 16
    assert "basket" not in first


def test_times_are_coarsened_in_their_own_form() -> None:
    times = {
        "2017-01-02T03:04:05.12+02:00": ("2017-01-02T03:00:00+02:00", "2017-01-02T00:00:00+02:00"),
        "2017-01-02 03:04": ("2017-01-02 03:00:00", "2017-01-02 00:00:00"),
        "2017-01-02": ("2017-01-02", "2017-01-02"),
        "20170102": ("2017-01-02", "2017-01-02"),
        "20170102030405": ("2017-01-02 03:00:00", "2017-01-02 00:00:00"),
        "1512345678": ("1512345600", "1512345600"),
        "1512399999123": ("1512399600000", "1512345600000"),
        "1512399999123456": ("1512399600000000", "1512345600000000"),
        "last week": (None, None),
        "1e300": (None, None),
    }
    rows = [event(timestamp=text) for text in times]
    for index, to in enumerate(("hour", "day")):
        wanted = [coarse[index] for coarse in times.values()]
        assert column(admitted(rows, {"timestamp": to}), "timestamp") == wanted


def test_times_of_arrow_and_numbers_are_coarsened() -> None:
    moment = 1_512_399_999_123_456
    for values, wanted in (
        (pa.array([moment], pa.timestamp("us")), 1_512_399_600_000_000),
        (pa.array([moment // 1000], pa.int64()), "1512399600000"),
        (pa.array([1512399999.5]), "1512399600"),
    ):
        table = pa.table({"user_id": ["a"], "content": [b"c"], "timestamp": values})
        policy = PrivacyConfig({"timestamp": "hour"})
        done = admit(RawBatch(table, "x", "s"), KEYS, policy, Occurrences())
        found = done.raw.table.column("timestamp")
        if isinstance(wanted, int):
            found = found.cast(pa.int64())
        assert found.to_pylist() == [wanted]


def test_attributes_are_told_from_properties() -> None:
    rows = [
        event(**{"properties.zip": "10115"}),
        event(event_type=USER, **{"properties.zip": "10115"}),
        event(event_type=ITEM, **{"properties.zip": "10115"}),
    ]
    for field, wanted in {
        "user.zip": ["10115", "10", "10115"],
        "item.zip": ["10115", "10115", "10"],
        "properties.zip": ["10", "10115", "10115"],
    }.items():
        assert column(admitted(rows, {field: "truncate:2"}), "properties.zip") == wanted


def test_an_attribute_that_is_dropped_leaves_no_bytes() -> None:
    rows = [event(event_type=kind, **{"properties.zip": f"of {kind}"}) for kind in (USER, "view")]
    table = admitted(rows, {"user.zip": "drop"}).raw.table.combine_chunks()
    buffers = table.column("properties.zip").chunk(0).buffers()
    assert b"of $user" not in b"".join(b.to_pybytes() for b in buffers if b is not None)


def test_nested_properties_can_be_hashed() -> None:
    rows = [event() | {"properties.tags": tags} for tags in (["a", "b"], ["a", "b"], ["a"])]
    done = column(admitted(rows, {"properties.tags": "hash"}), "properties.tags")
    assert done[0] == done[1] != done[2]


def test_a_field_that_is_not_there_is_no_matter() -> None:
    rows = [event()]
    assert column(admitted(rows, {"properties.none": "drop", "tz": "hash"}), "item_id") == ["i1"]


@pytest.mark.parametrize(
    ("fields", "mend"),
    [
        ({"vlaue": "drop"}, "did you mean value?"),
        ({"user_id": "drop"}, "pseudonym in any case"),
        ({"properties.": "drop"}, "name one of"),
        ({"value": "remove"}, "use one of drop"),
        ({"value": "round"}, "use one of drop"),
        ({"value": "round:x"}, "use one of drop"),
        ({"tz": "truncate:-1"}, "use one of drop"),
        ({"target_user_id": "truncate:2"}, "drop it"),
    ],
)
def test_an_unknown_field_or_action_is_an_error(fields: dict[str, str], mend: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        PrivacyConfig(fields)
    assert mend in str(wrong.value)
    assert wrong.value.where == "privacy.fields"
