"""Label models by the command line: the classic example, and labels of portraits."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from limner.cli import run

Out = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("label")


def said(capsys: Out, *arguments: str | Path) -> str:
    capsys.readouterr()
    code = run([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert code == 0, err
    return out


def refused(capsys: Out, *arguments: str | Path) -> str:
    capsys.readouterr()
    assert run([str(argument) for argument in arguments]) == 2
    return capsys.readouterr().err


def test_the_classic_example(folder: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four features, 20-20-5, Adam, 10 epochs, 80/20: near the best that there is."""
    monkeypatch.chdir(folder)
    sample = said(capsys, "label", "sample", "user_data.csv", "--users", "10000")
    attainable = float(re.findall(r"\(Bayes\): (0\.\d{4})$", sample, re.M)[0])
    fitted = said(
        capsys, "label", "fit", "user_data.csv", "--features", "X1,X2,X3,X4", "--label", "label"
    )
    lines = fitted.splitlines()
    assert re.findall(r"^Epoch (\d+)/10 ", fitted, re.M) == [str(n) for n in range(1, 11)]
    assert "7,200 rows, 800 for validation, 2,000 for the test" in fitted
    accuracy = re.fullmatch(r"Test accuracy: (0\.\d{4})", lines[-1])
    assert accuracy is not None
    assert abs(float(accuracy[1]) - attainable) < 0.04  # 2,000 rows: 3 σ = .03
    predicted = said(capsys, "label", "predict", "--features", "0.8,400,5,75").splitlines()[-1]
    match = re.fullmatch(r"User prediction: \[\[((?:[01]\.\d{4} ?){5})\]\]", predicted)
    assert match is not None
    probabilities = [float(p) for p in match[1].split()]
    assert sum(probabilities) == pytest.approx(1, abs=3e-4)
    assert probabilities[2] + probabilities[4] > 0.95, "an enthusiast or a reviewer"


def test_json_says_the_same(folder: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    asked = ("label", "predict", "--name", "label", "--features")
    found = json.loads(said(capsys, *asked, "0.8,400,5,75", "--json"))
    by_name = json.loads(said(capsys, *asked, "X4=75,X1=0.8,X3=5,X2=400", "--json"))
    assert found == by_name
    assert sum(found["probabilities"].values()) == pytest.approx(1)
    assert found["predicted"] == max(found["probabilities"], key=found["probabilities"].get)
    assert list(found["moved"]) == ["X1", "X2", "X3", "X4"]
    fit = ("label", "fit", "user_data.csv", "--label", "label", "--trees", "--name", "by_trees")
    fitted = json.loads(said(capsys, *fit, "--json"))
    assert fitted["report"]["test"]["accuracy"] > 0.73
    assert [one["name"] for one in json.loads(said(capsys, "label", "list", "--json"))] == [
        "by_trees",
        "label",
    ]
    assert "user_data.csv" in said(capsys, "label", "list")


def test_a_file_is_predicted(folder: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    said(capsys, "label", "sample", "new.csv", "--users", "50", "--seed", "1")
    asked = ("label", "predict", "new.csv", "--name", "label", "--out")
    assert "50 rows" in said(capsys, *asked, "out.parquet")
    table = pq.read_table(folder / "out.parquet")
    assert table.schema.names[:6] == ["X1", "X2", "X3", "X4", "label", "predicted"]
    assert pc.sum(pc.equal(table["label"], table["predicted"])).as_py() > 28
    assert "ends in .csv or .parquet" in refused(capsys, *asked, "out.xlsx")


def test_wrong_use_is_told(folder: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    ask = ("label", "predict", "--name", "label")
    for arguments, reason in (
        ((*ask, "--features", "1,2,3"), "3 values are given for 4 features"),
        ((*ask, "--features", "a,2,3,4"), "X1 = 'a' is no number"),
        ((*ask, "--features", "X9=1"), "'X9' is no feature"),
        (ask, "one user or a file is asked for"),
        (("label", "predict", "--name", "nix", "--features", "1"), "there is no label 'nix'"),
        (("label", "fit", "--label", "x"), "nothing to learn from"),
        (("label", "fit", "user_data.csv", "--label", "klass"), "no column 'klass'"),
        (("label", "fit", "user_data.csv", "--label", "label", "--hidden", "a"), "no widths"),
        (("label", "fit", "user_data.csv", "--label", "label", "--name", "../x"), "the name of"),
        (("label", "list", "--store", "memory:"), "keeps no labels"),
        (("label", "sample", "user_data.csv"), "is there already"),
    ):
        assert reason in refused(capsys, *arguments), arguments
