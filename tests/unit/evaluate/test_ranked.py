from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.model.small import shop, silent

from limner.errors import ModelError, UsageError
from limner.evaluate import protocols
from limner.evaluate.asked import (
    between,
    first_only,
    leave_last_out,
    ranks_of,
    split_in_time,
)
from limner.evaluate.baselines import als, ease, most_popular, popular_lately
from limner.evaluate.ranked import Report, values_of
from limner.events.batch import DAY, I64
from limner.model.item_to_item import ItemToItem
from limner.model.popularity import Popularity
from limner.model.protocol import F32, History, Interactions, ItemFeatures

DATA, FEATURES = shop(users=40)
SINGLE = replace(DATA, groups=np.full(len(DATA.items), -1))


def made(sequences: Sequence[Sequence[int]], n_items: int) -> Interactions:
    """Users' items in order, a day apart."""
    counts = [len(items) for items in sequences]
    return Interactions(
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        np.array([item for items in sequences for item in items], dtype=np.int32),
        np.concatenate([np.arange(n) * DAY for n in counts]).astype(np.int64),
        np.ones(sum(counts)),
        np.full(sum(counts), -1, dtype=np.int64),
        np.arange(sum(counts), dtype=np.int64),
        n_items,
    )


class Fixed:
    """A model whose scores are given, and that tells what it was fitted on."""

    def __init__(self, table: np.ndarray) -> None:
        self.table = table.astype(np.float32)
        self.seen: list[Interactions] = []

    name = "fixed"

    def fit(self, data: Interactions, features: ItemFeatures, **_: object) -> None:
        self.seen.append(data)

    update = fit

    def score(self, histories: Sequence[History], items: I64 | None = None) -> F32:
        return np.tile(self.table, (len(histories), 1))


def plainly(scores: list[float], seen: set[int], truth: int) -> float:
    """The rank, said in words: how many unseen are better, and half of the equals."""
    others = [s for i, s in enumerate(scores) if i not in seen and i != truth]
    better = sum(s > scores[truth] for s in others)
    return 1 + better + sum(s == scores[truth] for s in others) / 2


@settings(deadline=None)
@given(
    st.lists(st.integers(-3, 3), min_size=2, max_size=12),
    st.integers(0, 11),
    st.sets(st.integers(0, 11)),
)
def test_a_rank_is_that_among_the_unseen_with_ties_halved(
    scores: list[int], truth: int, seen: set[int]
) -> None:
    truth %= len(scores)
    seen = {item % len(scores) for item in seen} - {truth}
    history = made([sorted(seen)], len(scores)).history(0, 100 * DAY)
    table = np.array([scores], dtype=np.float32)
    found = ranks_of(table, [history], np.array([truth]))[0]
    assert found == plainly([float(s) for s in scores], seen, truth)


def test_what_is_minus_infinity_is_last_and_a_score_must_be_a_number() -> None:
    nobody = made([[]], 3).history(0, DAY)
    table = np.array([[0.0, -np.inf, 1.0]])
    assert ranks_of(table, [nobody], np.array([1]))[0] == 3
    with pytest.raises(ValueError, match="no number"):
        ranks_of(np.array([[0.0, np.nan]]), [nobody], np.array([0]))


def test_hit_rate_and_ndcg_by_hand() -> None:
    found = values_of(np.array([1.0, 2.0, 10.0, 10.5, 2.5]), 10)
    assert found["hit_rate"].tolist() == [1, 1, 1, 0, 1]
    wanted = [1.0, 1 / np.log2(3), 1 / np.log2(11), 0.0, 1 / np.log2(3.5)]
    np.testing.assert_allclose(found["ndcg"], wanted)


def test_the_last_item_tests_and_the_context_holds_the_one_before() -> None:
    data = made([[0, 1, 2, 3], [4, 5], [3, 2, 0]], 6)
    split = leave_last_out(data)
    assert split.learned.items.tolist() == [0, 1, 4, 5, 3]
    assert split.known.items.tolist() == [0, 1, 2, 4, 5, 3, 2]
    assert split.validation.truth.tolist() == [2, 2]
    assert split.test.truth.tolist() == [3, 0]
    assert [h.items.tolist() for h in split.test.histories()] == [[0, 1, 2], [3, 2]]
    assert [h.now for h in split.test.histories()] == [2 * DAY + 1, DAY + 1]
    known = leave_last_out(data, query_time=True)
    assert [h.now for h in known.test.histories()] == [3 * DAY, 2 * DAY]


def test_what_a_user_had_is_not_asked_for() -> None:
    data = made([[0, 1, 2, 1, 3, 0]], 4)
    assert first_only(data).items.tolist() == [0, 1, 2, 3]
    assert leave_last_out(data).test.truth.tolist() == [3]


def run(data: Interactions, *, refit: bool = False) -> tuple[Fixed, Report]:
    model = Fixed(np.arange(data.n_items))
    report = protocols.loo(
        data,
        FEATURES,
        make=lambda seed: {"fixed": model},  # type: ignore[dict-item]
        baselines={"popular": most_popular},
        refit=refit,
        progress=silent,
    )
    return model, report


@given(st.integers(0, 39), st.integers(0, 79))
@settings(max_examples=15, deadline=None)
def test_strict_nothing_that_is_fitted_depends_on_what_is_asked(user: int, item: int) -> None:
    data = first_only(SINGLE)
    split = leave_last_out(data)
    for place in (-1, -2):  # the test's item, and the validation's
        rows = data.items.copy()
        last = int(data.offsets[user + 1]) + place
        if item in rows[data.offsets[user] : data.offsets[user + 1]]:
            continue
        rows[last] = item
        other = leave_last_out(replace(data, items=rows))
        for name in ("offsets", "items", "times", "weights"):
            np.testing.assert_array_equal(
                getattr(split.learned, name), getattr(other.learned, name)
            )
        if place == -1:
            assert [h.items.tolist() for h in split.test.histories()] == [
                h.items.tolist() for h in other.test.histories()
            ]


def test_strict_fits_once_and_refit_learns_the_validation_too() -> None:
    strict, report = run(SINGLE)
    split = leave_last_out(SINGLE)
    assert [len(data.items) for data in strict.seen] == [len(split.learned.items)]
    assert not report.refit and report.questions == len(split.test)
    again, report = run(SINGLE, refit=True)
    assert [len(data.items) for data in again.seen] == [
        len(split.learned.items),
        len(split.known.items),
    ]
    assert report.refit


def test_a_report_says_what_it_compares() -> None:
    found = protocols.loo(
        SINGLE,
        FEATURES,
        name="shop",
        make=lambda seed: {"popularity": Popularity(), "item_to_item": ItemToItem()},
        seeds=(0, 1),
        progress=silent,
    )
    assert found.main == "blend"
    assert set(found.systems) == {*found.baselines, "blend", "popularity", "item_to_item"}
    assert found.best_baseline in found.baselines
    assert set(found.differences) == set(found.systems) - {"blend"}
    assert all(len(by_seed["ndcg"]) in (1, 2) for by_seed in found.by_seed.values())
    lead = found.differences["item_to_item"]["ndcg"].mean
    apart = found.systems["blend"]["ndcg"].mean - found.systems["item_to_item"]["ndcg"].mean
    assert lead == pytest.approx(apart)
    assert found.to_json()["best_baseline"] == found.best_baseline
    unread = protocols.loo(
        SINGLE, FEATURES, make=lambda seed: {"popularity": Popularity()}, test=False,
        progress=silent,
    )  # fmt: skip
    assert not unread.systems and unread.validation["popularity"]["ndcg"] > 0


def test_nobody_with_three_items_is_an_error_that_says_so() -> None:
    with pytest.raises(ModelError, match="nothing to ask"):
        run(made([[0, 1], [1]], 80))


def test_contexts_in_time_are_strictly_earlier() -> None:
    split = split_in_time(DATA)
    cutoff = split.known.times.max()
    assert split.learned.times.max() < split.validation.now.min() <= cutoff < split.test.now.min()
    for asked in (split.validation, split.test):
        assert (np.diff(asked.now) >= 0).all()
        for history, now, truth in zip(asked.histories(), asked.now, asked.truth, strict=True):
            assert len(history) and history.times.max() < now
            assert truth not in history.items


def test_windows_cover_the_test_and_models_learn_only_what_came_before() -> None:
    model = Fixed(np.arange(DATA.n_items))
    found = protocols.prequential(
        DATA,
        FEATURES,
        windows=4,
        make=lambda seed: {"fixed": model},  # type: ignore[dict-item]
        baselines={"popular": most_popular, "lately": popular_lately},
        progress=silent,
    )
    split = split_in_time(DATA)
    assert sum(window["questions"] for window in found.windows) == len(split.test)
    assert found.questions == len(split.test)
    fits = model.seen[1:]
    assert len(fits) == 4
    for data, window in zip(fits, found.windows, strict=True):
        assert data.times.max() < window["start"]
    mean = sum(w["questions"] * w["systems"]["fixed"]["ndcg"] for w in found.windows)
    assert mean / found.questions == pytest.approx(found.systems["fixed"]["ndcg"].mean)


def test_time_protocols_need_times() -> None:
    for protocol in (protocols.in_time, protocols.prequential):
        with pytest.raises(UsageError, match="order"):
            protocol(SINGLE, FEATURES, timed=False, progress=silent)


def test_popular_lately_counts_the_days_before_the_question() -> None:
    data = made([[0] * 1 + [1] * 1, [0, 1, 1]], 3)
    data = replace(data, times=np.array([1, 9, 2, 10, 11]) * DAY)
    scores = popular_lately(data)
    early, late = (
        made([[2]], 3).history(0, DAY).without([0]),
        replace(made([[2]], 3).history(0, DAY), now=12 * DAY),
    )
    early = replace(early, now=int(1.5 * DAY))
    np.testing.assert_allclose(scores([early, late]), [[1, 0, 0], [0, 3, 0]], atol=1e-4)


def test_ease_is_the_best_ridge_without_itself() -> None:
    data = first_only(SINGLE)
    chosen = np.zeros((data.n_users, data.n_items))
    chosen[np.repeat(np.arange(data.n_users), np.diff(data.offsets)), data.items] = 1.0
    others = np.delete(np.arange(data.n_items), 7)
    x = chosen[:, others]
    wanted = np.linalg.solve(x.T @ x + 20.0 * np.eye(len(others)), x.T @ chosen[:, 7])
    user = data.history(3, 1000 * DAY)
    found = ease(data, 20.0)([user])[0, 7]
    assert found == pytest.approx(chosen[3, others] @ wanted, abs=1e-5)


def test_als_scores_like_what_it_factorises() -> None:
    pytest.importorskip("implicit")
    data = first_only(SINGLE)
    scores = als(data, factors=16)([data.history(u, 1000 * DAY) for u in range(20)])
    for user in range(20):
        own = data.items[data.offsets[user] : data.offsets[user + 1]]
        assert scores[user, own].mean() > np.delete(scores[user], own).mean() + 0.2


def test_questions_of_an_empty_span_are_none() -> None:
    assert len(between(DATA, 10**17, 10**17 + 1)) == 0
