"""Paths and hosts, before anything else sees them."""

from __future__ import annotations

from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.errors import LimnerError, MissingExtra, every_error, kind_of, to_error
from limner.serve.door import _routable, is_local

ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(ids, ids)
def test_an_id_of_any_characters_survives_the_path(user: str, item: str) -> None:
    raw = f"/v1/users/{quote(user, safe='')}/why/{quote(item, safe='')}".encode()
    path = _routable({"raw_path": raw + b"?n=1", "path": ""})
    parts = path.split("/")
    assert len(parts) == 6
    assert (unquote(parts[3]), unquote(parts[5])) == (user, item)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_this_machine(name: str) -> None:
    assert is_local(name)


@pytest.mark.parametrize(
    "name", ["", "0.0.0.0", "::", "example.org", "localhost.evil.org", "10.0.0.1"]
)
def test_not_only_this_machine(name: str) -> None:
    assert not is_local(name)


@pytest.mark.parametrize("cls", every_error())
def test_every_error_comes_back_as_itself(cls: type[LimnerError]) -> None:
    told = {"type": kind_of(cls), "detail": "what", "where": "where", "mend": "mend"}
    error = to_error(told)
    assert type(error) is cls
    assert (error.what, error.where, error.mend) == ("what", "where", "mend")
    assert error.exit_code == cls.exit_code


def test_a_missing_extra_keeps_its_install_command() -> None:
    error = MissingExtra("the sequence model", "model")
    back = to_error({"type": kind_of(MissingExtra), "detail": error.what, "mend": error.mend})
    assert str(back) == str(error)
