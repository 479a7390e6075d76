from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.unit.model.small import shop, silent

from limner.errors import ModelError, NotFound, UsageError
from limner.model import registry
from limner.model.blend import Blend
from limner.model.content import Content
from limner.model.gate import judge
from limner.model.popularity import Popularity
from limner.model.protocol import Model
from limner.model.registry import Act


@pytest.fixture(scope="module")
def blend() -> Blend:
    data, features = shop(users=8, items=12)
    models: dict[str, Model] = {"popularity": Popularity(), "content": Content()}
    for model in models.values():
        model.fit(data, features, progress=silent)
    return Blend(models, {task: dict.fromkeys(models, 0.5) for task in ("next", "new")})


@pytest.fixture
def home(blend: Blend, tmp_path: Path) -> Path:
    registry.publish(tmp_path, blend, {"config": {"seed": 1}, "item_ids": ["a", "b"]}, at=1)
    verdict = judge([0.0] * 60, [0.5] * 60)
    meta = {"config": {"seed": 2}, "parents": ["000001"], "item_ids": ["b", "c"]}
    registry.publish(tmp_path, blend, meta, at=2, verdict=verdict)
    return tmp_path


def test_promote_and_roll_back_are_noted(home: Path) -> None:
    back = registry.roll_back(home, at=3, reason="it fell")
    assert back == Act(3, "rolled back", "000001", "000002", "it fell")
    assert registry.current(home) == "000001"
    with pytest.raises(UsageError, match="no version to go back to"):
        registry.roll_back(home, at=4)
    assert registry.promote(home, "000002", at=5).before == "000001"
    assert registry.current(home) == "000002"
    with pytest.raises(NotFound, match="use one of 000001, 000002"):
        registry.promote(home, "000003", at=6)
    said = registry.journal(home)
    assert [(act.what, act.version, act.before) for act in said] == [
        ("published", "000001", None),
        ("published", "000002", "000001"),
        ("rolled back", "000001", "000002"),
        ("promoted", "000002", "000001"),
    ]
    assert said[1].verdict is not None
    assert said[1].verdict.outcome == "win"
    assert said[1].verdict == judge([0.0] * 60, [0.5] * 60)


def test_diff_tells_settings_and_items(home: Path) -> None:
    found = registry.diff(*registry.versions(home))
    assert dict(found.changed) == {
        "config.seed": (1, 2),
        "parents": (None, ["000001"]),
    }
    assert (found.only_a, found.only_b, found.items_only_a) == (["a"], ["c"], 1)
    same = registry.versions(home)[0]
    assert not registry.diff(same, same).changed


def test_old_versions_go_but_not_the_one_in_use_nor_its_parent(blend: Blend, home: Path) -> None:
    for number in range(3, 7):
        registry.publish(home, blend, {"parents": [f"{number - 1:06d}"]})
    registry.promote(home, "000002", at=9)
    assert registry.prune(home, 2) == ["000003", "000004"]
    assert [v.name for v in registry.versions(home)] == ["000001", "000002", "000005", "000006"]
    assert registry.prune(home, 9) == []
    registry.promote(home, "000005", at=10)
    with pytest.raises(UsageError, match="no version to go back to"):
        registry.roll_back(home, at=11)  # its parent is no longer kept


def test_what_another_version_replaces_goes_unless_it_is_in_use(home: Path, blend: Blend) -> None:
    registry.publish(home, blend, {"parents": ["000001"], "replaces": "000002"})
    registry.promote(home, "000002", at=9)
    assert registry.prune(home, 9) == []
    registry.promote(home, "000003", at=10)
    assert registry.prune(home, 9) == ["000002"]
    assert [v.name for v in registry.versions(home)] == ["000001", "000003"]


def test_a_version_whose_any_file_was_altered_is_refused(home: Path) -> None:
    """Cut short, with a bit turned, emptied, or gone: each file of a version in its turn."""
    folder = home / "models" / "000002"
    sound = shutil.copytree(folder, home / "sound")
    files = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    assert {"version.json", "blend.json", "manifest.json"} <= {str(file) for file in files}
    assert any(file.suffix == ".npy" for file in files)
    for file in files:
        path = folder / file
        whole = (sound / file).read_bytes()
        turned = bytearray(whole)
        turned[len(whole) // 2] ^= 1
        half = whole[: len(whole) // 2]
        short = half if file.name == "manifest.json" else whole[:-1]  # it ends with a line's end
        for broken in (short, half, bytes(turned), b"", None, b'{"files": {}}'):
            if broken is None:
                path.unlink()
            else:
                path.write_bytes(broken)
            with pytest.raises(ModelError):
                registry.load_current(home)
            with pytest.raises(ModelError):
                registry.promote(home, "000002", at=3)
            path.write_bytes(whole)
    (folder / "content" / "more.npy").write_bytes(b"x")
    with pytest.raises(ModelError, match="not in the manifest"):
        registry.load_current(home)
    (folder / "content" / "more.npy").unlink()
    assert registry.load_current(home) is not None


def test_a_version_that_was_altered_is_not_gone_back_to(home: Path) -> None:
    (home / "models" / "000001" / "blend.json").write_text("{}")
    with pytest.raises(ModelError):
        registry.roll_back(home, at=3)
    assert registry.current(home) == "000002"
