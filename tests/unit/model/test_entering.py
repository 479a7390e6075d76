from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.unit.model.small import shop, silent

from limner.events.batch import DAY
from limner.model.blend import Blend
from limner.model.content import Content
from limner.model.entering import entered
from limner.model.item_to_item import ItemToItem
from limner.model.network import SequenceConfig
from limner.model.protocol import History, Interactions, ItemFeatures, Model
from limner.model.sequence import SequenceModel
from limner.model.taste import Taste

KNOWN = 80
DATA, FEATURES = shop()
DIRECTION = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
"""Of each category, content that tells it."""
NEW = ItemFeatures(  # values under other codes than at the fit, and one that is new
    {"category": np.array([2, 1, 0, -1], dtype=np.int32)},
    {"category": ["wine", "fruit", "tea"]},
    np.ones(4, dtype=bool),
    {"text": np.concatenate([DIRECTION[[0, 2]], np.zeros((2, 6), np.float32)])},
)
TEA, FRUIT, WINE, UNSAID = range(KNOWN, KNOWN + 4)


@pytest.fixture(scope="module")
def models() -> Mapping[str, Model]:
    torch = pytest.importorskip("torch")
    out: dict[str, Model] = {
        "content": Content(),
        "item_to_item": ItemToItem(),
        "sequence": SequenceModel(SequenceConfig(depth=1, passes=4)),
    }
    given = replace(FEATURES, vectors={"text": DIRECTION[FEATURES.codes["category"]]})
    for model in out.values():
        model.fit(DATA, given, progress=silent)
    assert torch.is_tensor(out["sequence"].params["content.text"])  # type: ignore[attr-defined]
    return out


def blend_of(models: Mapping[str, Model], *names: str) -> Blend:
    return Blend(
        {name: models[name] for name in names},
        {task: dict.fromkeys(names, 1.0) for task in ("next", "new")},
    )


def history(user: int, data: Interactions = DATA) -> History:
    return data.history(user, 100 * DAY)


def with_event(old: History, item: int) -> History:
    """The history with one more event, of a new item, an hour before now."""
    return History(
        np.append(old.items, np.int32(item)),
        np.append(old.times, old.now - DAY // 24),
        np.append(old.weights, 1.0),
        np.append(old.groups, np.int64(-1)),
        np.append(old.positions, np.int64(10_000)),
        old.now,
    )


def test_what_was_known_keeps_its_score(models: Mapping[str, Model]) -> None:
    for name in models:
        blend = blend_of(models, name)
        before = blend.score([history(0), history(5)])
        after = entered(blend, KNOWN, NEW).score([history(0), history(5)])
        assert after.shape == (2, KNOWN + 4)
        shift = after[:, :KNOWN] - before  # the sequence model's chances have others beside them
        np.testing.assert_allclose(shift - shift[:, :1], 0, atol=1e-4)
        np.testing.assert_array_equal(blend.score([history(0), history(5)]), before)


@pytest.mark.parametrize("name", ["content", "sequence"])
def test_a_new_item_is_scored_by_what_it_is(models: Mapping[str, Model], name: str) -> None:
    """User u likes category u % 4: tea for 0, fruit for 2."""
    scores = entered(blend_of(models, name), KNOWN, NEW).score([history(u) for u in range(60)])
    tea, fruit = scores[0::4].mean(axis=0), scores[2::4].mean(axis=0)
    assert tea[TEA] - fruit[TEA] > tea[FRUIT] - fruit[FRUIT]
    # a value that nobody knew says as much as none
    np.testing.assert_allclose(scores[:, WINE] - scores[:, UNSAID], 0, atol=3)
    assert np.isfinite(scores).all()


def test_content_vectors_carry_over_to_items_nobody_has_touched(
    models: Mapping[str, Model],
) -> None:
    untold = {"category": np.full(4, -1, dtype=np.int32)}
    new = replace(NEW, codes=untold, vectors={"text": DIRECTION})
    blend = entered(blend_of(models, "sequence"), KNOWN, new)
    scores = blend.score([history(user) for user in range(60)])
    for category in (0, 2):
        mean = scores[category::4, KNOWN:].mean(axis=0)
        assert mean[category] > np.delete(mean, category).mean()


def test_an_event_with_a_new_item_moves_what_knows_it(models: Mapping[str, Model]) -> None:
    for name in models:
        blend = entered(blend_of(models, name), KNOWN, NEW)
        moved = blend.score([with_event(history(0), FRUIT)])[0] - blend.score([history(0)])[0]
        if name == "item_to_item":
            np.testing.assert_allclose(moved, 0, atol=1e-6)
        else:
            assert np.abs(moved).max() > 1e-3, name


def test_other_families_give_a_new_item_their_least(models: Mapping[str, Model]) -> None:
    taste: Model = Taste()
    taste.fit(DATA, FEATURES, progress=silent)
    for model in (models["item_to_item"], taste):
        blend = Blend({"x": model}, {"next": {"x": 1.0}, "new": {"x": 1.0}})
        score = entered(blend, KNOWN, NEW).score([history(3)])[0]
        np.testing.assert_array_equal(score[KNOWN:], score[:KNOWN].min())


def test_content_saved_and_loaded_takes_in_the_same(
    models: Mapping[str, Model], tmp_path: Path
) -> None:
    models["content"].save(tmp_path)
    loaded = Content()
    loaded.load(tmp_path)
    ours, theirs = (
        entered(Blend({"c": m}, {"next": {"c": 1.0}, "new": {}}), KNOWN, NEW).score([history(1)])
        for m in (models["content"], loaded)
    )
    np.testing.assert_array_equal(ours, theirs)
