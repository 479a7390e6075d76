"""Columnar containers, and hashes of many texts at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.events.arrays import Grow, text_hashes


@settings(deadline=None)
@given(st.lists(st.text(max_size=30), max_size=40), st.data())
def test_equal_texts_have_equal_hashes_and_others_others(
    texts: list[str], data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(texts)))
    array = pa.array(texts, pa.string())
    hashes = text_hashes(array)
    assert len(set(hashes.tolist())) == len(set(texts))
    assert dict(zip(texts, hashes.tolist(), strict=True)) == {
        text: int(text_hashes(pa.array([text]))[0]) for text in texts
    }
    assert (text_hashes(array.slice(start)) == hashes[start:]).all()


def test_many_texts_that_differ_little_have_different_hashes() -> None:
    hashes = text_hashes(pa.array([f"basket-{n}" for n in range(200_000)]))
    assert len(np.unique(hashes)) == 200_000
    # as a random function of 32 bits would: n²/2 pairs meet with probability 2^−32 each
    assert len(hashes) - len(np.unique(hashes >> np.uint64(32))) < 20


def test_an_array_grows_with_its_fill_and_keeps_its_content_when_it_is_cut() -> None:
    grown = Grow("i4", -7, 2)
    for n in (1, 3, 40, 41, 500):
        before = grown.view.copy()
        grown.resize(n)
        assert (grown.view[: len(before)] == before).all()
        assert (grown.view[len(before) :] == -7).all()
        grown.view[:] = n
    grown.cut(9)
    assert grown.view.tolist() == [[500, 500]] * 9
    grown.resize(30)
    assert grown.view[9:].tolist() == [[-7, -7]] * 21


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_the_room_of_a_large_array_takes_no_memory_and_what_is_let_go_goes_back() -> None:
    def resident() -> int:
        said = Path("/proc/self/status").read_text()
        return int(said.split("RssAnon:")[1].split()[0]) // 1024

    grown, before = Grow("u1", 1), resident()
    grown.resize(40 << 20)
    grown.resize((40 << 20) + 1)
    assert len(grown.data) >= 60 << 20
    assert 38 <= resident() - before <= 44
    grown.cut(1 << 20)
    assert resident() - before <= 4
