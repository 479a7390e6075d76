"""What is kept of users' states answers as a reading of the whole history does."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.model.small import shop, silent

from limner.events.batch import SECOND
from limner.model.blend import Blend
from limner.model.entering import entered
from limner.model.moments import read_from
from limner.model.network import Kind, SequenceConfig, new_params
from limner.model.protocol import F32, History, ItemFeatures
from limner.model.sequence import SequenceModel
from limner.model.states import Kept, States, Window

torch = pytest.importorskip("torch")

N = 30
LENGTH = 12
Event = tuple[int, int, int, int, float]  # (time, position, item, group, value), sorted


def network(kind: Kind = "transformer", *, seed: int = 0, members: int = 1) -> SequenceModel:
    """One that has learned nothing, in which everything counts."""
    model = SequenceModel(SequenceConfig(kind=kind, length=LENGTH, members=members))
    torch.manual_seed(seed)
    model.kinds = np.array([0.2, 1.0])
    params = new_params(model.config, N, {"brand": 2}, kinds=2)
    model.params = {name: value + 0.1 * torch.randn(value.shape) for name, value in params.items()}
    model.attributes = {"brand": ["own", "other"]}
    model.vectors = model.params["items"].numpy()
    model.bias = np.zeros(N, dtype=np.float32)
    model.others = [network(kind, seed=seed + more) for more in range(1, members)]
    return model


def forgetful(model: SequenceModel) -> SequenceModel:
    """The same that keeps nothing: what it is checked against."""
    out = copy.copy(model)
    out.others = [copy.copy(other) for other in model.others]
    out.keep(0)
    return out


def history(events: Sequence[Event], row: int = 0, later: int = 1) -> History:
    times, positions, items, groups, values = zip(*events, strict=True)
    return History(
        np.array(items, dtype=np.int32),
        np.array(times) * SECOND,
        np.where(np.array(items) % 3 == 0, 1.0, 0.2),
        np.array(groups, dtype=np.int64),
        np.array(positions, dtype=np.int64),
        (times[-1] + later) * SECOND,
        np.array(values),
        row,
    )


def visits(n: int, *, start: int = 0) -> list[Event]:
    """Events an hour apart."""
    return [(3600 * k, k, (7 * k + k // 5) % N, -1, np.nan) for k in range(start, start + n)]


def baskets(n: int, *, start: int = 0) -> list[Event]:
    """Events two and three to a basket, of few items."""
    of = [(k, 2 * (k // 5) + (k % 5 > 2)) for k in range(start, start + n)]
    return [(60 * group, k, k % 3, group, np.nan) for k, group in of]


def close(one: SequenceModel, other: SequenceModel, asked: list[History]) -> None:
    """Within what float32 rounds away, of the size of a state: 1 times its scale."""
    size = np.float32(one.params["scale"].item())
    np.testing.assert_allclose(
        one.embed(asked) / size, other.embed(asked) / size, rtol=1e-5, atol=1e-5
    )


class Reads:
    """How many moments a model read, of how many histories, at each asking."""

    def __init__(self, model: SequenceModel, monkeypatch: pytest.MonkeyPatch) -> None:
        self.moments: list[int] = []
        given, onward = model._given, model._onward

        def whole(windows: Sequence[Window]) -> object:
            self.moments += [len(window) for window in windows]
            return given(windows)

        def some(window: Window, kept: Kept, since: int) -> F32:
            self.moments += [len(window) - since] if since < len(window) else []
            return onward(window, kept, since)

        monkeypatch.setattr(model, "_given", whole)
        monkeypatch.setattr(model, "_onward", some)

    def of(self, model: SequenceModel, *histories: History) -> list[int]:
        self.moments.clear()
        model.embed(histories)
        return sorted(self.moments)


CHANGES = ["next", "next", "basket", "late", "corrected", "removed", "without", "erased"]
"""What happens to a user between two askings."""


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_is_kept_answers_as_a_reading_of_everything(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(get_args(Kind)))
    model = network(kind, members=data.draw(st.sampled_from([1, 1, 3])))
    plain = forgetful(model)
    model.keep(data.draw(st.sampled_from([1 << 20, 30_000])))  # all of it, or of two users or so
    users = [
        data.draw(st.sampled_from([visits, baskets]))(data.draw(st.integers(1, 2 * LENGTH)))
        for _ in range(3)
    ]
    position = 1000
    for _ in range(data.draw(st.integers(1, 8))):
        asked: list[History] = []
        for row in data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=3)):
            events = users[row]
            item, value = (
                data.draw(st.integers(0, 4)),
                data.draw(st.sampled_from([3.0, np.nan])),
            )
            change = data.draw(st.sampled_from(CHANGES))
            newest, place = events[-1], data.draw(st.integers(0, len(events) - 1))
            position += 1
            if change == "next":
                group = data.draw(st.sampled_from([-1, position]))
                gap = data.draw(st.sampled_from([0, 1, 50_000]))
                events.append((newest[0] + gap, position, item, group, value))
            elif change == "basket":
                events.append((newest[0], position, item, newest[3], value))
            elif change == "late":
                events.append((events[place][0], position, item, -1, value))
                events.sort()
            elif change == "removed" and len(events) > 1:
                del events[place]
            elif change == "corrected":
                time, at, _, group, _ = events[place]
                events[place] = (time, at, item, group, value)
            elif change == "without" and len(events) > 1:
                asked.append(history(events, row).without([place]))
            elif change == "erased":
                model.let_go()
                users[row] = visits(data.draw(st.integers(1, 5)), start=position)
            later = data.draw(st.sampled_from([0, 1, 1_000_000]))
            asked.append(history(users[row], row, later))
        close(model, plain, asked)


FEW = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 1), st.sampled_from([-1, 0, 1])),
    min_size=1,
    max_size=10,
)


@settings(max_examples=300, deadline=None)
@given(FEW, FEW, st.integers(0, 10))
def test_what_holds_are_the_leading_moments_that_are_the_same(
    one: list[tuple[int, int, int, int]], other: list[tuple[int, int, int, int]], common: int
) -> None:
    """Steps in time, items, values and groups of two histories with so many events in common."""
    windows = []
    for told in (one, one[:common] + other):
        steps, items, values, groups = (np.array(of) for of in zip(*told, strict=True))
        times, positions = np.cumsum(steps) * SECOND, np.arange(len(told))
        asked = History(
            items.astype(np.int32), times, np.ones(len(told)), groups, positions, 0,
            values.astype(float),
        )  # fmt: skip
        windows.append(Window.of(asked, 100))
    known, now = windows
    rows = np.zeros((1, len(known), 1), np.float32)
    kept = Kept(known.told, known.place, known.age, rows, rows[0, 0], edition := object())
    of = [[w.told[:, w.place == moment].tolist() for moment in range(len(w))] for w in windows]
    leading = 0
    while leading < min(len(known), len(now)) and of[0][leading] == of[1][leading]:
        leading += 1
    whole = of[0] == of[1]
    assert kept.agrees(now, edition, 0) == (leading if whole else min(leading, len(now) - 1))


@pytest.mark.parametrize("kind", ["transformer", "gru", "cnn", "mlp"])
def test_an_event_costs_a_step(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(kind)
    model.keep(1 << 20)
    reads = Reads(model, monkeypatch)
    events = visits(8)
    assert reads.of(model, history(events)) == [8]
    assert reads.of(model, history(events, later=9)) == []  # when it is asked is no new event
    assert reads.of(model, history([*events, (40_000, 8, 3, 5, 1.0)])) == [1]
    basket = [*events, (40_000, 8, 3, 5, 1.0), (40_000, 9, 4, 5, 1.0)]
    assert reads.of(model, history(basket)) == [1]  # the moment that has grown
    assert reads.of(model, history(basket), history(visits(5), row=1)) == [5]
    both = history([*basket, (50_000, 10, 1, -1, 1.0)]), history(visits(7), row=1)
    assert reads.of(model, *both) == [1, 2]  # together
    late = sorted([*basket, (3600 * 6, 11, 2, -1, 1.0)])
    assert reads.of(model, history(late)) == [3]  # the late one, and what came after it


def test_an_lstm_is_read_in_full_but_where_nothing_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network("lstm")
    model.keep(1 << 20)
    reads = Reads(model, monkeypatch)
    assert [reads.of(model, history(visits(n))) for n in (6, 6, 7)] == [[6], [], [7]]
    kept = model._states and model._states.get(0)
    assert kept and kept.rows.size == 0 and kept.rows.base is None  # nor is it held unseen


def test_a_long_history_is_seldom_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    model.keep(1 << 20)
    reads = Reads(model, monkeypatch)
    rng = np.random.default_rng(0)
    events = [(3600 * k, k, int(rng.integers(N)), -1, np.nan) for k in range(300)]
    read = [sum(reads.of(model, history(events[:n]))) for n in range(LENGTH, 300)]
    assert np.mean(read) < 7.0  # in full .4 of the time: so few may be the first, 4 of 15
    assert max(read) <= LENGTH + LENGTH // 4


def test_windows_begin_with_the_same_moment_for_long() -> None:
    rng = np.random.default_rng(1)
    items, times = (
        rng.integers(0, 1000, 2000).astype(np.int32),
        np.sort(rng.integers(0, 10**9, 2000)),
    )
    begins = np.array([read_from(items[:n], times[:n], 96) for n in range(1, 2001)])
    lengths = np.arange(1, 2001) - begins
    assert (begins[:120] == 0).all()
    assert lengths.max() <= 120
    assert lengths[96:].min() >= 96
    assert (np.diff(begins) >= 0).all()
    assert (np.diff(begins[120:]) > 0).mean() < 2.5 / 26  # 2 / (w + 1), Schleimer et al. (2003)


def test_what_another_network_found_is_not_used() -> None:
    """Neither after learning or loading, nor by a model of another version."""
    model = network()
    model.keep(1 << 20)
    asked = [history(visits(9))]
    model.embed(asked)
    other = network(seed=5)
    other.keep(1 << 20)
    np.testing.assert_array_equal(other.embed(asked), forgetful(other).embed(asked))
    data, features = shop()
    model.config = replace(model.config, passes=1, length=LENGTH)
    model.fit(data, features, progress=silent)
    np.testing.assert_array_equal(model.embed(asked), forgetful(model).embed(asked))
    model.keep(1 << 20)
    model.embed(asked)
    model.update(data, features, progress=silent)
    np.testing.assert_array_equal(model.embed(asked), forgetful(model).embed(asked))


def test_items_that_enter_keep_what_was_found_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    model.keep(1 << 20)

    def with_new(brand: int) -> SequenceModel:
        features = ItemFeatures(
            {"brand": np.array([brand], dtype=np.int32)}, {"brand": ["own", "other"]},
            np.ones(1, dtype=bool),
        )  # fmt: skip
        found = entered(Blend({"sequence": model}, {}), N, features).models["sequence"]
        assert isinstance(found, SequenceModel)
        return found

    old, new = visits(6), [*visits(6), (90_000, 6, N, -1, np.nan), (91_000, 7, 1, -1, np.nan)]
    model.embed([history(old)])
    first = with_new(0)
    assert Reads(first, monkeypatch).of(first, history(new)) == [2]
    again = with_new(1)  # the item has become another
    assert Reads(again, monkeypatch).of(again, history(new)) == [2]
    close(again, forgetful(again), [history(new)])
    assert np.abs(again.embed([history(new)]) - first.embed([history(new)])).max() > 1e-3


def test_as_if_something_had_not_happened_does_not_replace_what_did() -> None:
    model = network()
    model.keep(1 << 20)
    real = history(visits(10))
    model.embed([real])
    assert model._states is not None
    before = model._states.get(0)
    model.embed([real.without([8]), real.without([9])])
    assert model._states.get(0) is before


def test_nothing_is_kept_of_who_has_no_row_or_after_letting_go() -> None:
    model = network(members=3)
    model.keep(1 << 20)
    model.embed([history(visits(4), row=-1)])
    parts = [member._states for member in (model, *model.others)]
    assert [len(states) for states in parts if states is not None] == [0, 0, 0]
    model.embed([history(visits(4), row=2)])
    assert [len(states) for states in parts if states is not None] == [1, 1, 1]
    model.let_go()
    assert [(len(s), s.bytes) for s in parts if s is not None] == [(0, 0)] * 3


def test_memory_is_bounded_and_who_was_not_read_longest_goes() -> None:
    one = network()
    one.keep(1 << 30)
    one.embed([history(visits(LENGTH), row=0)])
    assert one._states is not None
    each = one._states.bytes
    model = network()
    model.keep(3 * each)
    states = model._states
    assert states is not None
    for row in (0, 1, 2, 0, 3):
        model.embed([history(visits(LENGTH), row=row)])
        assert states.bytes <= 3 * each
    assert [states.get(row) is not None for row in range(4)] == [True, False, True, True]


def test_what_is_counted_is_what_is_held() -> None:
    def kept(age: int, n: int) -> Kept:
        return Kept(
            np.zeros((5, n), np.int64), np.zeros(n, np.int64), (age, n),
            np.zeros((2, n, 8), np.float32), np.zeros(4, np.float32), object(),
        )  # fmt: skip

    states = States(10_000)
    for age, n in ((1, 3), (2, 9), (1, 2), (3, 1), (4, 200)):
        states.put(0, kept(age, n))
        found = states.get(0)
        assert states.bytes == (found.bytes if found is not None else 0)
    assert len(states) == 0  # the last alone is more than may be kept
