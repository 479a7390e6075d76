from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.unit.model.small import shop, silent

from limner.errors import ModelError, NotFound
from limner.model import registry
from limner.model.blend import Blend
from limner.model.network import SequenceConfig, new_params
from limner.model.popularity import Popularity
from limner.model.sequence import SequenceModel
from limner.model.transfer import Transferred, source_of, start_from

torch = pytest.importorskip("torch")
TINY = SequenceConfig(depth=1, passes=1)


@pytest.fixture(scope="module")
def source() -> SequenceModel:
    model = SequenceModel(TINY)
    model.fit(*shop(users=30), progress=silent)
    return model


def test_all_but_the_items_carries_over_and_rows_go_by_name() -> None:
    here = new_params(TINY, 7, {"category": 3, "brand": 2}, content={"text": 4}, kinds=2)
    there = new_params(TINY, 9, {"category": 2, "size": 5}, content={"text": 4}, kinds=3)
    there = {name: torch.randn_like(tensor) for name, tensor in there.items()}
    before = {name: tensor.clone() for name, tensor in here.items()}
    found = start_from(
        here,
        there,
        attributes=({"category": ["a", "b", "c"], "brand": ["x", "y"]}, {"category": ["c", "a"]}),
        kinds=(np.array([0.2, 1.0]), np.array([0.1, 1.0, 3.0])),
    )
    assert found.keys() == here.keys()
    named = {"items", "attribute.category", "attribute.brand", "kind", "next_kind"}
    for name in here:
        assert torch.equal(here[name], before[name])  # nothing is changed in place
        if name not in named:
            assert torch.equal(found[name], there[name]), name
    assert torch.equal(found["items"], here["items"])
    assert torch.equal(found["attribute.brand"], here["attribute.brand"])
    category, learned = found["attribute.category"], there["attribute.category"]
    assert torch.equal(category[[0, 2]], learned[[1, 0]])
    assert torch.equal(category[1], here["attribute.category"][1])
    assert torch.equal(found["kind"][1], there["kind"][1])
    assert torch.equal(found["kind"][0], here["kind"][0])
    assert torch.equal(found["next_kind"][:, 1], there["next_kind"][:, 1])


def test_of_another_make_nothing_carries_over_that_does_not_fit() -> None:
    here = new_params(TINY, 5, {"category": 2}, kinds=1)
    there = new_params(replace(TINY, depth=2), 5, {"category": 2}, kinds=1)
    same = {"category": ["a", "b"]}
    found = start_from(here, there, attributes=(same, same), kinds=(np.ones(1), np.ones(1)))
    assert all(found[name].shape == here[name].shape for name in here)


def test_a_fit_starts_where_the_source_stopped(source: SequenceModel) -> None:
    """Without a pass of its own, what is not of items is the source's to the last bit."""
    data, features = shop(users=20, items=40, seed=1)
    model = Transferred(source)
    model.config = replace(model.config, passes=0)
    model.fit(data, features, progress=silent)
    for name, tensor in source.params.items():
        if name != "items":
            assert torch.equal(model.params[name], tensor), name
    assert model.params["items"].shape == (40, 32)


def test_it_is_saved_and_loaded_as_any_sequence_model(
    source: SequenceModel, tmp_path: Path
) -> None:
    data, features = shop(users=20, items=40, seed=1)
    model = Transferred(source, seed=3)
    model.fit(data, features, progress=silent)
    assert model.config.seed == 3
    model.save(tmp_path)
    loaded = SequenceModel()
    loaded.load(tmp_path)
    histories = [data.history(user, 2**60) for user in range(5)]
    np.testing.assert_array_equal(loaded.score(histories), model.score(histories))


def test_a_source_is_a_version_or_a_folder(source: SequenceModel, tmp_path: Path) -> None:
    weights = {task: {"sequence": 1.0} for task in ("next", "new")}
    folder = registry.publish(tmp_path, Blend({"sequence": source}, weights), {}).folder
    for said, home in (
        ("000001", tmp_path),
        (str(folder), None),
        (str(tmp_path), None),
        (str(tmp_path / "models"), None),
    ):
        found = source_of(said, home)
        assert torch.equal(found.params["in"], source.params["in"])
    with pytest.raises(NotFound, match="no model version"):
        source_of("000002", tmp_path)
    with pytest.raises(NotFound, match="no trained model"):
        source_of(str(tmp_path / "nowhere"), None)
    plain = Popularity()
    plain.fit(*shop(users=8, items=12), progress=silent)
    registry.publish(tmp_path, Blend({"popularity": plain}, {"next": {}, "new": {}}), {})
    with pytest.raises(ModelError, match="no sequence model"):
        source_of("000002", tmp_path)
    (folder / "sequence" / "meta.json").write_text("{}")
    with pytest.raises(ModelError, match="SHA-256"):
        source_of("000001", tmp_path)
