"""Law 4: what happens at or after the cutoff changes nothing that was learned or scored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.model.small import shop, silent

from limner.app import Limner
from limner.config import parse
from limner.evaluate.next_basket import evaluate_next_basket
from limner.events.batch import DAY
from limner.model.network import SequenceConfig
from limner.model.protocol import Interactions, Model
from limner.model.ridge import Ridge, questions
from limner.model.sequence import SequenceModel
from limner.model.training import families, fit_before

DATA, FEATURES = shop(users=24, items=40, baskets=8)


def other_future(data: Interactions, cutoff: int, seed: int) -> Interactions:
    """The same past; in the future other items, at other times, in other groups."""
    rng = np.random.default_rng(seed)
    future = data.times >= cutoff
    count = int(future.sum())
    items, times = data.items.copy(), data.times.copy()
    weights, groups = data.weights.copy(), data.groups.copy()
    items[future] = rng.integers(0, data.n_items, count)
    times[future] = cutoff + rng.integers(0, 50 * DAY, count)
    weights[future] = rng.random(count)
    groups[future] = rng.integers(-1, 1000, count)
    owners = np.repeat(np.arange(data.n_users), np.diff(data.offsets))
    order = np.lexsort((times, owners))
    return replace(
        data,
        items=items[order],
        times=times[order],
        weights=weights[order],
        groups=groups[order],
    )


def closed_form() -> dict[str, Model]:
    return {name: model for name, model in families(FEATURES).items() if name != "sequence"}


def scores_of(data: Interactions, cutoff: int, models: dict[str, Model]) -> list[np.ndarray]:
    past = data.before(cutoff)
    histories = [data.history(user, cutoff) for user in range(data.n_users)]
    for model in models.values():
        model.fit(past, FEATURES, progress=silent)
    return [np.array(model.score(histories)) for model in models.values()]


@settings(max_examples=15, deadline=None)
@given(st.integers(10 * DAY, 95 * DAY), st.integers(0, 99))
def test_models_and_scores_do_not_see_the_future(cutoff: int, seed: int) -> None:
    changed = other_future(DATA, cutoff, seed)
    for one, two in zip(
        scores_of(DATA, cutoff, closed_form()),
        scores_of(changed, cutoff, closed_form()),
        strict=True,
    ):
        np.testing.assert_array_equal(one, two)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 19), st.integers(0, 99))
def test_a_question_to_the_past_shows_only_what_came_before(place: int, seed: int) -> None:
    """Discovery learns from moments of the past, each as it stood then, and answers of later."""
    model = Ridge()
    model.taste.fit(DATA, FEATURES, progress=silent)
    asked = questions(DATA, model.config)
    cutoff = int(asked.at[place])
    known = asked.moment <= place
    assert (DATA.times[asked.rows] >= asked.at[asked.moment][asked.answers]).all()
    one, two = (model.seen(data, asked)[known] for data in (DATA, other_future(DATA, cutoff, seed)))
    np.testing.assert_allclose(one, two, atol=1e-6)


def test_the_sequence_model_does_not_see_the_future() -> None:
    pytest.importorskip("torch")
    cutoff = 60 * DAY
    config = SequenceConfig(passes=1, depth=1)
    [one] = scores_of(DATA, cutoff, {"sequence": SequenceModel(config)})
    [two] = scores_of(other_future(DATA, cutoff, 7), cutoff, {"sequence": SequenceModel(config)})
    np.testing.assert_array_equal(one, two)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 99))
def test_the_blend_learns_nothing_from_the_test_period(seed: int) -> None:
    cutoff, validation = 80 * DAY, 60 * DAY
    changed = other_future(DATA, cutoff, seed)
    reports = [
        evaluate_next_basket(
            data,
            FEATURES,
            cutoff=cutoff,
            validation_cutoff=validation,
            models=closed_form(),
            progress=silent,
        )
        for data in (DATA, changed)
    ]
    assert reports[0].weights == reports[1].weights
    assert reports[0].events == reports[1].events


def test_the_validation_period_does_change_the_weights() -> None:
    """The counter-check: were nothing read from it, the tests above would prove nothing."""
    validation = 60 * DAY
    changed = other_future(DATA, validation, 1)
    one, two = (
        fit_before(data, FEATURES, cutoff=validation, models=closed_form(), progress=silent)
        for data in (DATA, changed)
    )
    assert one.weights != two.weights


def test_what_was_told_of_items_later_does_not_count_in_what_was_known() -> None:
    event = {"user_id": "u", "event_type": "purchase", "timestamp": 50 * DAY + 2**50}
    when = 2**50 + 60 * DAY

    def categories(app: Limner, known_at: int | None) -> list[str]:
        slot = app.portrait("u", at=when, known_at=known_at).interests.get("category")
        return sorted(entry.key for entry in slot.value) if slot else []

    with Limner.open(config=parse({"store": "memory:"})) as app:
        app.record([{**event, "item_id": "a"}, {**event, "item_id": "b"}])
        heads = [app.state.position]
        for item, category, at in (("a", "one", 0), ("b", "two", 0), ("a", "new", 2**50 + DAY)):
            app.put_item(item, {"category": category}, at=at)
            heads.append(app.state.position)
        found = [categories(app, head) for head in heads]
    assert found == [[], ["one"], ["one", "two"], ["new", "two"]]
    assert categories(app, None) == ["new", "two"]
