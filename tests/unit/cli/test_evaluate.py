"""`limner evaluate` measures the models that are configured."""

from __future__ import annotations

import pytest
from tests.unit.model.small import shop

from limner.cli.evaluate import _models
from limner.config import parse
from limner.model.network import SequenceConfig
from limner.model.sequence import SequenceModel

pytest.importorskip("torch")


def test_the_sequence_model_measured_is_the_configured_one() -> None:
    _, features = shop()
    settings = parse({"sequence": {"depth": 1, "members": 2}})
    for names in (None, "popularity, sequence"):
        model = _models(names, features, settings)(3)["sequence"]
        assert isinstance(model, SequenceModel)
        assert model.config == SequenceConfig(depth=1, members=2, seed=3)


def test_a_sequence_model_that_takes_no_part_is_measured_only_by_name() -> None:
    _, features = shop()
    settings = parse({"train": {"sequence": False}})
    assert "sequence" not in _models(None, features, settings)(0)
    assert "sequence" in _models("sequence", features, settings)(0)
