from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.errors import KeyMissing, StoreCorrupt, StoreError, UsageError
from limner.privacy.keys import BY_CONTENT, BY_ID, CHECK, Keys, named, repeated

KEYS = Keys.generate()


def test_a_key_file_is_private_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "limner.keys"
    keys = Keys.create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Keys.load(path) == keys
    assert Keys.load(path).key_fingerprint == keys.key_fingerprint


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "limner.keys"
    keys = Keys.create(path)
    with pytest.raises(StoreError, match="already"):
        Keys.create(path)
    assert Keys.load(path) == keys


def test_a_missing_key_file_says_where_and_how(tmp_path: Path) -> None:
    path = tmp_path / "limner.keys"
    with pytest.raises(KeyMissing) as missing:
        Keys.load(path)
    assert missing.value.where == str(path)
    assert "LIMNER_KEY_FILE" in missing.value.mend
    assert "backup" in missing.value.mend
    assert not path.exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_key_file_that_others_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "limner.keys"
    Keys.create(path)
    path.chmod(mode)
    with pytest.raises(StoreError) as refused:
        Keys.load(path)
    assert refused.value.mend == f"chmod 600 {path}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '"x"',
        '{"limner_keys": 2}',
        '{"limner_keys":1,"version":1,"pseudonym":{"1":"00"},"master":{},"digest":"00"}',
    ],
)
def test_a_file_that_holds_no_keys_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "limner.keys"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(KeyMissing, match="no Limner key file"):
        Keys.load(path)


def test_keys_do_not_show_themselves() -> None:
    shown = repr(KEYS) + str(KEYS)
    for key in (KEYS.digest_key, *KEYS.pseudonym_keys.values(), *KEYS.master_keys.values()):
        assert key.hex() not in shown
        assert repr(key) not in shown
    with pytest.raises(FrozenInstanceError):
        KEYS.version = 2  # type: ignore[misc]


def test_a_fingerprint_tells_keys_apart_and_survives_rotation() -> None:
    other = Keys.generate()
    assert KEYS.key_fingerprint != other.key_fingerprint
    rotated = replace(
        KEYS,
        version=2,
        pseudonym_keys={**KEYS.pseudonym_keys, 2: bytes(32)},
        master_keys={**KEYS.master_keys, 2: bytes(range(32))},
    )
    assert rotated.key_fingerprint == KEYS.key_fingerprint
    assert rotated.pseudonym("u1") != KEYS.pseudonym("u1")
    assert rotated.seal("u1").key_version == 2
    assert rotated.unseal(KEYS.seal("u1")) == "u1"


def test_the_keys_of_another_store_are_refused(tmp_path: Path) -> None:
    KEYS.require(KEYS.key_fingerprint, tmp_path)
    with pytest.raises(KeyMissing, match="not the store's") as refused:
        Keys.generate().require(KEYS.key_fingerprint, tmp_path / "limner.keys")
    assert "LIMNER_KEY_FILE" in refused.value.mend


@given(st.text(), st.text())
def test_pseudonyms_are_stable_and_differ(one: str, other: str) -> None:
    assert len(KEYS.pseudonym(one)) == 16
    assert KEYS.pseudonym(one) == KEYS.pseudonym(one)
    assert (KEYS.pseudonym(one) == KEYS.pseudonym(other)) == (one.strip() == other.strip())
    assert KEYS.pseudonym(one) != Keys.generate().pseudonym(one)


@given(st.text())
def test_a_sealed_id_opens_with_its_keys_only(user_id: str) -> None:
    sealed = KEYS.seal(user_id)
    assert sealed.pseudonym == KEYS.pseudonym(user_id)
    assert KEYS.unseal(sealed) == user_id.strip()
    assert len(user_id.strip()) < 4 or user_id.strip().encode() not in sealed.sealed_id
    with pytest.raises(StoreCorrupt):
        Keys.generate().unseal(sealed)


def test_an_id_that_is_no_text_is_refused_with_a_way_out() -> None:
    with pytest.raises(UsageError, match="no Unicode text") as refused:
        KEYS.pseudonym("u\udcff")
    assert refused.value.mend


def test_a_changed_or_swapped_row_does_not_open() -> None:
    ann, ben = KEYS.seal("ann"), KEYS.seal("ben")
    for wrong in (
        replace(ann, pseudonym=ben.pseudonym),
        replace(ann, sealed_id=ben.sealed_id),
        replace(ann, wrapped_key=ben.wrapped_key),
        replace(ann, sealed_id=ann.sealed_id[:-1] + b"\x00\x01"),
        replace(ann, sealed_id=b""),
        replace(ann, wrapped_key=bytes(60)),
    ):
        with pytest.raises(StoreCorrupt, match=wrong.pseudonym.hex()):
            KEYS.unseal(wrong)
    with pytest.raises(KeyMissing, match="version 9"):
        KEYS.unseal(replace(ann, key_version=9))


def test_equal_ids_are_sealed_differently() -> None:
    assert KEYS.seal("ann").sealed_id != KEYS.seal("ann").sealed_id


IDENTITIES = st.one_of(
    st.tuples(st.just(BY_ID), st.builds(named, st.text(max_size=3), st.text(max_size=3))),
    st.tuples(st.sampled_from([BY_CONTENT, CHECK]), st.binary(max_size=3)),
)


@given(IDENTITIES, IDENTITIES)
def test_digests_are_equal_for_equal_identities_only(
    one: tuple[bytes, bytes], other: tuple[bytes, bytes]
) -> None:
    digests = [KEYS.digests([message], person=person) for person, message in (one, other)]
    assert len(digests[0]) == 16
    assert (digests[0] == digests[1]) == (one == other)


def test_the_source_and_the_id_are_told_apart() -> None:
    assert named("ab", "c") != named("a", "bc")
    assert repeated(bytes(16), 1) != repeated(bytes(16), 2)
