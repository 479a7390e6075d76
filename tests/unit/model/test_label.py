"""The label model: a network and trees over tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.errors import InputError, ModelError, NotFound, UsageError
from limner.model import labels, tabular
from limner.model.label import Kind, LabelConfig, LabelModel, Report, fit, softmax
from limner.sources import groups

QUICK = {"mlp": LabelConfig(epochs=3), "trees": LabelConfig(kind="trees", rounds=150)}
KINDS: tuple[Kind, ...] = ("mlp", "trees")


def mixed(n: int = 1500, seed: int = 0) -> pa.Table:
    """Numbers, words and gaps: `city` and `age` tell the class; `plan` is missing if it is "b"."""
    random = np.random.default_rng(seed)
    city = random.choice(["Oslo", "Bonn", "Lima"], n)
    age = random.normal(40, 10, n).round()
    yes = (city == "Oslo") | ((age > 50) & (city == "Bonn"))
    plan = np.where(yes, "?", random.choice(["1", "2"], n))
    return pa.table(
        {
            "city": city,
            "age": [None if random.random() < 0.05 else a for a in age.tolist()],
            "plan": plan,
            "noise": [f"{x:.3f}" for x in random.random(n)],
            "class": np.where(yes, "yes", "no"),
        }
    )


@pytest.fixture(scope="module", params=KINDS)
def fitted(request: pytest.FixtureRequest) -> tuple[LabelModel, Report]:
    features = ["city", "age", "noise"]
    return fit(mixed(), "class", features=features, config=QUICK[request.param], at=7)


def test_words_gaps_and_numbers_are_learned_from(fitted: tuple[LabelModel, Report]) -> None:
    model, report = fitted
    city, age, noise = model.features
    assert city.categories == ("Bonn", "Lima", "Oslo")
    assert age.categories is None and age.missing and not noise.missing
    assert (report.training, report.validation, report.test.rows) == (1080, 120, 300)
    assert report.test.accuracy > 0.93 > report.test.usual
    values: dict[str, float | str | None] = {"city": "Oslo", "age": 30.0, "noise": 0.5}
    row = model.row(values)
    assert model.probabilities(row)[0, 1] > 0.8
    moved = model.moved(row)[0]
    assert moved.argmax() == 0, "the city decides"
    gone = {**values, "city": None}
    assert model.row(gone)[0, 0] == city.usual, "the training rows never lacked it"
    assert np.isfinite(model.probabilities(model.row(gone))).all()


def test_lacking_a_value_says_something() -> None:
    for kind in KINDS:
        model, report = fit(mixed(), "class", features=["plan"], config=QUICK[kind])
        assert model.features[0].categories is None, "1 and 2 are numbers"
        assert report.test.accuracy > 0.99
        text, _ = fit(mixed(), "class", features=["plan"], categorical=["plan"], config=QUICK[kind])
        assert text.features[0].categories == ("1", "2")


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_probabilities_sum_to_one_and_rows_do_not_matter_to_each_other(
    fitted: tuple[LabelModel, Report], seed: int
) -> None:
    model, _ = fitted
    random = np.random.default_rng(seed)
    n = int(random.integers(1, 30))
    table = pa.table(
        {
            "noise": random.normal(0, 10.0 ** random.integers(0, 8), n),
            "age": [None if random.random() < 0.3 else float(a) for a in random.normal(40, 99, n)],
            "city": random.choice(["Oslo", "Rome", "", "Lima"], n),
        }
    )
    found = model.predict(table)
    assert found.shape == (n, 2) and (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-12)
    order = random.permutation(n)
    np.testing.assert_allclose(model.predict(table.take(order)), found[order], rtol=1e-4, atol=1e-9)
    first = table.slice(0, 1).to_pylist()[0]
    np.testing.assert_array_equal(model.row(first), model.matrix(table)[:1])


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=3, deadline=None)
def test_the_same_rows_in_any_order_give_the_same_model(seed: int) -> None:
    table = mixed(200)
    mixed_up = table.take(np.random.default_rng(seed).permutation(len(table)))
    asked = mixed(50, seed=1)
    for kind in KINDS:
        one, first = fit(table, "class", config=QUICK[kind])
        other, second = fit(mixed_up, "class", config=QUICK[kind])
        np.testing.assert_array_equal(one.predict(asked), other.predict(asked))
        assert first.test == second.test


@given(
    st.lists(st.lists(st.floats(-800, 800), min_size=3, max_size=3), min_size=1, max_size=9),
    st.floats(0.1, 8),
)
def test_a_temperature_changes_no_ranking(logits: list[list[float]], temperature: float) -> None:
    x = np.array(logits)
    plain, cooled = softmax(x), softmax(x / temperature)
    np.testing.assert_allclose(cooled.sum(axis=1), 1, rtol=1e-12)
    top = np.arange(len(x)), plain.argmax(axis=1)
    np.testing.assert_allclose(cooled[top], cooled.max(axis=1))


def test_calibration_lowers_the_loss_of_a_model_that_is_too_sure() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(3000, 20))
    yes = random.random(3000) < 1 / (1 + np.exp(-x[:, 0]))
    table = pa.table({f"x{i}": column for i, column in enumerate(x.T)} | {"y": yes})
    learn = LabelConfig(epochs=20, hidden=(64,), learning_rate=1e-2)
    _, report = fit(table, "y", config=learn)
    assert report.classes == ["false", "true"]
    assert report.temperature > 1.5
    assert report.test.log_loss < report.uncalibrated.log_loss - 0.05
    assert report.test.calibration_error < report.uncalibrated.calibration_error - 0.05
    assert report.test.confusion == report.uncalibrated.confusion


def test_both_come_near_what_is_attainable() -> None:
    sample = groups.sample(8_000)
    for kind in KINDS:
        _, report = fit(sample.table, "label", config=LabelConfig(kind=kind, rounds=200))
        assert abs(report.test.accuracy - sample.attainable) < 0.045  # 1,600 rows: 3 σ = .03
        assert len(report.epochs) == (10 if kind == "mlp" else 0)


def test_saved_and_loaded_is_the_same(fitted: tuple[LabelModel, Report], tmp_path: Path) -> None:
    model, _ = fitted
    published = labels.publish(tmp_path, "class", model, {"a": 1})
    assert not [path for path in published.folder.iterdir() if "pickle" in path.name]
    loaded, version = labels.load(tmp_path)
    assert (version.name, version.meta, loaded.at) == ("000001", {"a": 1}, 7)
    assert loaded.features == model.features
    np.testing.assert_array_equal(loaded.predict(mixed(99)), model.predict(mixed(99)))
    assert labels.names(tmp_path) == ["class"]


@pytest.mark.parametrize("harm", ["cut", "alter", "remove"])
def test_a_tampered_artifact_is_refused(
    fitted: tuple[LabelModel, Report], tmp_path: Path, harm: str
) -> None:
    folder = labels.publish(tmp_path, "class", fitted[0], {}).folder
    for victim in sorted(folder.iterdir()):
        if victim.name == "manifest.json":
            continue
        content = victim.read_bytes()
        if harm == "cut":
            victim.write_bytes(content[:-1])
        elif harm == "alter":
            victim.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        else:
            victim.unlink()
        with pytest.raises(ModelError, match="limner label fit"):
            labels.load(tmp_path, "class")
        victim.write_bytes(content)
    labels.load(tmp_path, "class")


def test_rare_words_are_not_kept() -> None:
    table = mixed(300).to_pydict()
    table["city"][0] = "Atlantis"
    model, _ = fit(pa.table(table), "class", features=["city"], config=QUICK["mlp"])
    assert model.features[0].categories == ("Bonn", "Lima", "Oslo")
    codes = model.matrix(pa.table({"city": ["Atlantis", "Oslo"]}))
    assert codes.tolist() == [[3.0], [2.0]]


def test_what_was_always_the_same_says_nothing_and_far_is_no_farther() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=200)
    rounding = 36 * (1 + 1e-15 * random.normal(size=200))
    table = pa.table({"x": x, "same": rounding, "y": np.where(x > 0, "b", "a")})
    model, _ = fit(table, "y", config=LabelConfig(epochs=40, learning_rate=1e-2))
    asked = pa.table({"x": [9.9, 1e3, 1e12], "same": [36.0, 37.0, 1e9]})
    found = model.predict(asked)
    assert (found[:, 1] > 0.9).all()
    np.testing.assert_array_equal(found[1], found[2])


def test_rows_that_cannot_be_learned_from_are_left_out_and_counted() -> None:
    table = mixed(300).to_pydict()
    table["class"][:4] = ["typo", "", "?", None]
    model, report = fit(pa.table(table), "class", config=QUICK["mlp"])
    assert report.left_out == 4
    assert model.classes == ("no", "yes")
    assert report.training + report.validation + report.test.rows == 296


def test_classes_that_are_numbers_are_in_their_order() -> None:
    codes = [str(i % 11) for i in range(220)]
    table = pa.table({"x": [float(c) for c in codes], "y": codes})
    model, _ = fit(table, "y", config=QUICK["mlp"])
    assert model.classes == tuple(map(str, range(11)))


def test_a_test_table_of_ones_own() -> None:
    _, report = fit(mixed(), "class", test=mixed(400, seed=3), config=QUICK["trees"])
    assert (report.training, report.validation, report.test.rows) == (1350, 150, 400)
    other: dict[str, Any] = {**mixed(5).to_pydict(), "class": ["maybe"] * 5}
    with pytest.raises(InputError, match="no row of the test"):
        fit(mixed(), "class", test=pa.table(other), config=QUICK["trees"])


def test_bad_input_is_told_apart() -> None:
    with pytest.raises(UsageError, match=r"no column 'klass'[\s\S]*columns are city, age"):
        fit(mixed(), "klass")
    with pytest.raises(UsageError, match="a feature too"):
        fit(mixed(), "class", features=["age", "class"])
    with pytest.raises(ModelError, match="too few to learn from"):
        fit(mixed(12), "class")
    with pytest.raises(ModelError, match="of 1 classes"):
        fit(mixed().set_column(4, "class", pa.array(["yes"] * 1500)), "class")
    with pytest.raises(InputError, match="neither numbers nor texts"):
        fit(pa.table({"x": [[1.0]] * 30, "y": ["a", "b"] * 15}), "y")
    with pytest.raises(InputError, match="is no table"):
        fit([1, 2], "y")
    model, _ = fit(mixed(), "class", features=["age"], config=QUICK["trees"])
    with pytest.raises(UsageError, match="age is learned as a number"):
        model.predict(pa.table({"age": ["old"]}))
    with pytest.raises(UsageError, match="age = 'old' is no number"):
        model.row({"age": "old"})


def test_names_and_records_are_checked(tmp_path: Path) -> None:
    model, _ = fit(mixed(), "class", features=["age"], config=QUICK["trees"])
    for bad in ("", "../up", "a/b", ".", "a b"):
        with pytest.raises(UsageError, match="cannot be the name"):
            labels.publish(tmp_path, bad, model, {})
    with pytest.raises(NotFound, match="no label was fitted yet"):
        labels.load(tmp_path)
    model.save(tmp_path / "m")
    about = json.loads((tmp_path / "m" / "label.json").read_text())
    del about["classes"]
    (tmp_path / "m" / "label.json").write_text(json.dumps(about))
    with pytest.raises(ModelError, match="is no label model"):
        LabelModel.load(tmp_path / "m")


def test_columns_of_other_types() -> None:
    table = pa.table(
        {
            "flag": [True, False, None],
            "day": pa.array([1, 2, 3], pa.date32()),
            "words": pa.array(["a", "b", "a"]).dictionary_encode(),
            "none": pa.nulls(3),
            "huge": ["1e400", "1", "2"],
        }
    )
    found = tabular.columns(table, table.schema.names)
    assert found["flag"].to_pylist() == [1.0, 0.0, None]
    assert found["day"].type == pa.float64()
    assert found["words"].to_pylist() == ["a", "b", "a"]
    assert found["none"].null_count == 3
    assert tabular.described({"none": found["none"]}, np.arange(3)) == ()
    assert found["huge"].type == pa.string(), "what is no finite number is a word"
