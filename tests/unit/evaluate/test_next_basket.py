from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from tests.unit.model.small import shop, silent

from limner.errors import ModelError
from limner.evaluate.baselines import baselines
from limner.evaluate.next_basket import BASELINES, METRICS, evaluate_next_basket, table
from limner.events.batch import DAY
from limner.model.protocol import Interactions, ItemFeatures, Model
from limner.model.training import families

DATA, FEATURES = shop(users=40)


def closed_form() -> dict[str, Model]:
    return {name: model for name, model in families(FEATURES).items() if name != "sequence"}


def test_report_is_deterministic_and_complete() -> None:
    one, two = (
        evaluate_next_basket(DATA, FEATURES, models=closed_form(), progress=silent)
        for _ in range(2)
    )
    assert one == two
    for task in ("next", "new"):
        assert set(one.differences[task]) == set(BASELINES)
        for by_metric in one.systems[task].values():
            for metric in METRICS:
                interval = by_metric[metric]
                assert 0 <= interval.low <= interval.mean <= interval.high <= 1
    assert (
        one.systems["next"]["blend"]["ndcg"].mean > one.systems["next"]["most popular"]["ndcg"].mean
    )
    assert json.loads(json.dumps(one.to_json()))["users"] == one.users
    assert "own most frequent" in table(one)


def test_data_without_baskets_predicts_the_next_event() -> None:
    single = replace(DATA, groups=np.full(len(DATA.items), -1), times=np.sort(DATA.times))
    single = replace(single, times=DATA.times + np.arange(len(DATA.items)))
    report = evaluate_next_basket(single, FEATURES, models=closed_form(), progress=silent)
    found = report.systems["next"]["blend"]
    assert found["recall"].mean == pytest.approx(found["hit_rate"].mean)  # one true item a user


def test_a_shop_of_two_users_gets_an_honest_report() -> None:
    tiny = Interactions(
        offsets=np.array([0, 3, 5]),
        items=np.array([0, 1, 2, 1, 3], dtype=np.int32),
        times=np.array([1, 2, 9, 1, 8]) * DAY,
        weights=np.ones(5),
        groups=np.full(5, -1),
        positions=np.arange(5),
        n_items=5,
    )
    nothing = ItemFeatures({}, {}, np.ones(5, dtype=bool))
    report = evaluate_next_basket(
        tiny, nothing, cutoff=5 * DAY, validation_cutoff=2 * DAY, progress=silent
    )
    assert report.users == {"next": 2, "new": 2}
    assert not report.beats_baselines
    assert "content" not in report.weights["next"]


def test_a_test_period_without_events_measures_nothing() -> None:
    report = evaluate_next_basket(
        DATA,
        FEATURES,
        cutoff=1000 * DAY,
        validation_cutoff=80 * DAY,
        models=closed_form(),
        progress=silent,
    )
    assert report.users == {"next": 0, "new": 0}
    assert report.to_json()["systems"]["next"]["blend"]["ndcg"]["mean"] is None
    assert not report.beats_baselines
    assert "–" in table(report)


def test_cutoffs_before_everything_are_refused() -> None:
    with pytest.raises(ModelError, match="later --cutoff"):
        evaluate_next_basket(DATA, FEATURES, cutoff=0, validation_cutoff=-1, progress=silent)


def test_baselines_by_hand() -> None:
    data = Interactions(
        offsets=np.array([0, 3, 5, 6]),
        items=np.array([0, 0, 1, 1, 2, 1], dtype=np.int32),
        times=np.arange(6) * DAY,
        weights=np.ones(6),
        groups=np.full(6, -1),
        positions=np.arange(6),
        n_items=4,
    )
    history = data.history(0, 10 * DAY)
    scores = {name: score([history])[0] for name, score in baselines(data).items()}
    assert scores["most popular"].tolist() == [2, 3, 1, 0]
    assert np.argsort(-scores["own most frequent"]).tolist()[:2] == [0, 1]
    assert scores["own most frequent"][2] > scores["own most frequent"][3]
    # Users of 0: {a}, of 1: {a, b, c}, of 2: {b}; cosines 1/√3, 1/√3, 0.
    half = 1 / np.sqrt(3)
    np.testing.assert_allclose(scores["item-to-item"], [half, half, half, 0], atol=1e-6)
