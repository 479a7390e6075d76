from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from limner.errors import InputError
from limner.sources import groups
from limner.sources.files import whole


def test_the_attainable_accuracy_is_what_bayes_reaches() -> None:
    sample = groups.sample(60_000, seed=5)
    x = np.stack([sample.table[name].to_numpy() for name in groups.FEATURES], axis=1)
    names = np.array([group.name for group in groups.GROUPS])
    said = names[groups.posterior(x.astype(np.float64)).argmax(axis=1)]
    truth = sample.table[groups.LABEL].to_numpy(zero_copy_only=False)
    reached = (said == truth).mean()
    assert abs(reached - sample.attainable) < 3 * math.sqrt(0.25 / 60_000)
    assert 0.7 < sample.attainable < 0.85
    shares = {group.name: (truth == group.name).mean() for group in groups.GROUPS}
    assert shares == pytest.approx({g.name: g.share for g in groups.GROUPS}, abs=0.01)


def test_the_same_seed_gives_the_same_users_and_a_file_of_them(tmp_path: Path) -> None:
    one, other = groups.sample(500, seed=1), groups.sample(500, seed=1)
    assert one.table.equals(other.table)
    assert not one.table.equals(groups.sample(500, seed=2).table)
    one.write(tmp_path / "u.csv")
    read = whole(tmp_path / "u.csv")
    assert read.schema.names == [*groups.FEATURES, groups.LABEL]
    assert [float(x) for x in read["X1"].to_pylist()] == one.table["X1"].to_pylist()


def test_a_whole_file_of_any_kind(tmp_path: Path) -> None:
    lines = tmp_path / "a.jsonl"
    lines.write_text('{"a": 1, "b": "x"}\n{"a": 2, "c": true}\n')
    assert whole(lines).to_pydict() == {"a": ["1", "2"], "b": ["x", None], "c": [None, "true"]}
    with pytest.raises(InputError, match="no such file"):
        whole(tmp_path / "b.csv")
    bad = tmp_path / "c.csv"
    bad.write_text("a,b\n1,2\n1\n")
    with pytest.raises(InputError, match=r"c\.csv, line 3"):
        whole(bad)
    empty = tmp_path / "d.csv"
    empty.write_text("a,b\n")
    with pytest.raises(InputError, match="no rows"):
        whole(empty)
    with pytest.raises(InputError, match="no known format"):
        whole(Path(__file__))
