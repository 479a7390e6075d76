"""What items say, read, encoded once, kept, and asked for."""

from __future__ import annotations

import base64
import io
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.catalog import projection
from limner.catalog.cache import Kept, VectorCache
from limner.catalog.catalog import Catalog
from limner.catalog.content import Reader, Said, said
from limner.catalog.encoded import Encoded, encode_items
from limner.catalog.encoders import Encoder, Kind
from limner.catalog.known import NARROW, Content, Table, learned
from limner.catalog.vectors import HashedVectors
from limner.errors import InputError, ModelError, StoreCorrupt
from limner.events.batch import PROPERTY, EventBatch
from limner.events.raw import DELETE_ITEM, ITEM

F32 = npt.NDArray[np.float32]


class Letters:
    """How often a text has each letter: what a text encoder must do, and it counts its work."""

    kind: Kind = "text"
    width = 26

    def __init__(self, name: str = "letters-1") -> None:
        self.name = name
        self.seen: list[str] = []
        self.broken_at: str = ""

    def encode(self, contents: Sequence[str]) -> F32:
        if self.broken_at and self.broken_at in contents:
            raise ModelError("cannot go on")
        self.seen += contents
        rows = [[text.count(chr(97 + n)) for n in range(26)] for text in contents]
        return np.array(rows, dtype=np.float32)


class Colours:
    """The mean colour of an image."""

    kind: Kind = "image"
    width = 3
    name = "colours-1"

    def encode(self, contents: Sequence[Any]) -> F32:
        return np.array([pixels.mean(axis=(0, 1)) for pixels in contents], dtype=np.float32)


def catalog_of(items: dict[str, dict[str, Any]], at: int = 0) -> Catalog:
    catalog = Catalog()
    add(catalog, items, at)
    return catalog


def add(catalog: Catalog, items: dict[str, dict[str, Any]], at: int = 0) -> None:
    for item_id, said_of_it in items.items():
        given = {PROPERTY + name: value for name, value in said_of_it.items()}
        row = {"event_type": ITEM, "item_id": item_id, "timestamp": at, **given}
        catalog.put(EventBatch.of([row]), np.array([catalog.versions]))


def run(
    catalog: Catalog, encoder: Encoder | dict[Kind, Encoder], cache: VectorCache, folder: Path
) -> Encoded:
    encoders = encoder if isinstance(encoder, dict) else {encoder.kind: encoder}
    return encode_items(
        catalog, encoders, cache, Reader(folder), lock=threading.Lock(), progress=lambda *_: None
    )


# -- what an item says -------------------------------------------------------------------------


def test_prose_is_read_in_order_and_attributes_where_there_is_no_title() -> None:
    assert said({"description": "Fine.", "title": "Tea", "brand": "Koi"}).parts == {
        "text": "Tea. Fine."
    }
    assert said({"brand": "Koi", "type": "tea", "price": 2.0}).parts == {"text": "Koi, tea"}
    assert said({"type": "tea", "description": "Fine"}).parts == {"text": "tea. Fine"}
    assert said({"title": "Tea", "reviews": ["Good", " ", "Bad"]}).parts == {
        "text": "Tea. Good. Bad"
    }
    assert said({}) == Said({})


def test_an_empty_text_is_missing_and_said_to_be() -> None:
    assert said({"title": " \0 ", "brand": "Koi"}) == Said({"text": "Koi"}, ("title",))
    assert said({"title": "", "image": ""}) == Said({}, ("title",))


def test_the_key_tells_what_is_said_apart() -> None:
    given: list[dict[Kind, str]] = [
        {}, {"text": "a"}, {"image": "a"}, {"audio": "a"}, {"text": "a", "image": "a"}
    ]  # fmt: skip
    keys = {Said(parts).key for parts in given}
    assert len(keys) == 5
    assert Said({"text": "\ud800"}).key != Said({"text": "?!"}).key


# -- reading -----------------------------------------------------------------------------------


def png() -> bytes:
    Image = pytest.importorskip("PIL.Image")
    out = io.BytesIO()
    Image.new("RGB", (64, 64), (200, 10, 10)).save(out, "PNG")
    return out.getvalue()


def test_bytes_come_from_paths_data_urls_and_base64(tmp_path: Path) -> None:
    data = png()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a b.png").write_bytes(data)
    reader = Reader(tmp_path)
    text = base64.b64encode(data).decode()
    names = ["in/a b.png", str(tmp_path / "in" / "a b.png"), f"file://{tmp_path}/in/a%20b.png",
             f"data:image/png;base64,{text}", text]  # fmt: skip
    assert {reader.read(name) for name in names} == {data}
    assert reader.read("data:,hi%21") == b"hi!"


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("none.png", "does not exist"),
        ("../outside.png", "outside of the folder"),
        ("/etc/hostname", "outside of the folder"),
        ("link.png", "outside of the folder"),
        ("empty.png", "is empty"),
        (".", "does not exist"),
        ("x" * 5000, "cannot be read|does not exist"),
        ("a\0b", "cannot be read|does not exist"),
        ("http://example.org/a.png", "is not fetched"),
        ("data:image/png;base64,@@", "cannot be read"),
        ("data:image/png", "no comma"),
        ("data:,", "is empty"),
    ],
)
def test_what_cannot_be_read_says_why(name: str, what: str, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "outside.png").write_bytes(b"x")
    (inside / "link.png").symlink_to(tmp_path / "outside.png")
    (inside / "empty.png").write_bytes(b"")
    with pytest.raises(InputError, match=what) as caught:
        Reader(inside).read(name)
    assert caught.value.mend and len(caught.value.what) < 400


def test_an_address_is_fetched_only_if_configured(tmp_path: Path) -> None:
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    (tmp_path / "a.png").write_bytes(b"picture")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    at = f"http://127.0.0.1:{server.server_port}/"
    try:
        assert Reader(tmp_path, network=True).read(at + "a.png") == b"picture"
        with pytest.raises(InputError, match="404"):
            Reader(tmp_path, network=True).read(at + "none.png")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# -- encoding ----------------------------------------------------------------------------------

TEAS = {"a": {"title": "green tea"}, "b": {"title": "black tea"}, "c": {"title": "green tea"}}


def test_what_is_alike_is_encoded_once_and_what_is_known_not_at_all(tmp_path: Path) -> None:
    catalog, letters = catalog_of(TEAS), Letters()
    cache = VectorCache(tmp_path / "vectors.db")
    first = run(catalog, letters, cache, tmp_path)
    assert sorted(letters.seen) == ["black tea", "green tea"]
    cache.close()

    letters.seen.clear()
    again = VectorCache(tmp_path / "vectors.db")
    second = run(catalog, letters, again, tmp_path)
    assert letters.seen == [] and second.parts[0].encoded == 0
    np.testing.assert_array_equal(first.parts[0].vectors, second.parts[0].vectors)
    np.testing.assert_array_equal(first.keys, second.keys)
    np.testing.assert_array_equal(first.parts[0].vectors[0], Letters().encode(["green tea"])[0])

    add(catalog, {"a": {"title": "white tea"}}, at=5)  # what is said now counts
    run(catalog, letters, again, tmp_path)
    assert letters.seen == ["white tea"]
    other = Letters("letters-2")
    run(catalog, other, again, tmp_path)  # another encoder knows nothing of the first
    assert len(other.seen) == 3
    again.close()


def test_a_cache_that_is_broken_is_made_anew(tmp_path: Path) -> None:
    file, letters = tmp_path / "vectors.db", Letters()
    catalog = catalog_of(TEAS)
    for content in (b"no database at all" * 100, b""):
        file.write_bytes(content)
        letters.seen.clear()
        cache = VectorCache(file)
        assert run(catalog, letters, cache, tmp_path).parts[0].items == 3
        assert len(letters.seen) == 2
        cache.close()


def test_a_vector_that_was_damaged_is_encoded_again(tmp_path: Path) -> None:
    file, letters = tmp_path / "vectors.db", Letters()
    cache = VectorCache(file)
    before = run(catalog_of(TEAS), letters, cache, tmp_path)
    cache.close()
    with sqlite3.connect(file) as database:
        database.execute("update vectors set vector = zeroblob(52)")
    database.close()
    letters.seen.clear()
    cache = VectorCache(file)
    after = run(catalog_of(TEAS), letters, cache, tmp_path)
    cache.close()
    assert len(letters.seen) == 2
    np.testing.assert_array_equal(before.parts[0].vectors, after.parts[0].vectors)


def test_a_cache_that_cannot_be_written_only_forgets(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError):
        VectorCache(tmp_path / "file" / "vectors.db")
    cache = VectorCache(None)
    cache.put("e", {b"k": Kept(np.ones(2, np.float32)), b"f": Kept(None, ("broken", "mend it"))})
    found = cache.find("e", 2, [b"k", b"f", b"x"])
    assert set(found) == {b"k", b"f"} and found[b"f"].fault == ("broken", "mend it")
    assert cache.find("e", 3, [b"k"]) == {}  # of another width: not this encoder's


def test_each_item_that_says_something_unusable_has_its_note(tmp_path: Path) -> None:
    (tmp_path / "red.png").write_bytes(png())
    (tmp_path / "torn.png").write_bytes(png()[:60])
    items: dict[str, dict[str, Any]] = {
        "good": {"title": "tea", "image": "red.png"},
        "torn": {"title": "tea", "image": "torn.png"},
        "lost": {"title": "", "image": "lost.png"},
        "seen": {},
    }
    cache = VectorCache(None)
    encoders: dict[Kind, Encoder] = {"text": Letters(), "image": Colours()}
    encoded = run(catalog_of(items), encoders, cache, tmp_path)
    texts, images = encoded.parts
    assert texts.vectors.any(axis=1).tolist() == [True, True, False, False]
    assert images.vectors.any(axis=1).tolist() == [True, False, False, False]
    np.testing.assert_allclose(images.vectors[0], [200, 10, 10], rtol=1e-3)
    assert {(note.item_id, note.kind) for note in encoded.notes} == {
        ("lost", "text"), ("torn", "image"), ("lost", "image")
    }  # fmt: skip
    assert all(note.what and note.mend for note in encoded.notes)
    assert set(cache.notes()) == set(encoded.notes)
    # mended, it is no longer noted; what is broken is not tried again
    (tmp_path / "lost.png").write_bytes(png())
    again = run(catalog_of(items), encoders, cache, tmp_path)
    assert {(n.item_id, n.kind) for n in again.notes} == {("lost", "text"), ("torn", "image")}
    assert again.parts[1].encoded == 0


def test_an_encoder_that_fails_keeps_what_it_had_done(tmp_path: Path) -> None:
    items: dict[str, dict[str, Any]] = {str(n): {"title": "a" * (n + 1)} for n in range(200)}
    letters, cache = Letters(), VectorCache(None)
    letters.broken_at = "a" * 150
    encoded = run(catalog_of(items), letters, cache, tmp_path)
    (part,) = encoded.parts
    assert "cannot go on" in part.error and 0 < part.items < 200
    letters.broken_at = ""
    letters.seen.clear()
    (whole,) = run(catalog_of(items), letters, cache, tmp_path).parts
    assert whole.items == 200 and len(letters.seen) == 200 - part.items


def test_a_deleted_item_says_nothing(tmp_path: Path) -> None:
    catalog, letters = catalog_of(TEAS), Letters()
    catalog.delete(EventBatch.of([{"event_type": DELETE_ITEM, "item_id": "b", "timestamp": 1}]))
    (part,) = run(catalog, letters, VectorCache(None), tmp_path).parts
    assert part.items == 2 and letters.seen == ["green tea"]


# -- projections and tables --------------------------------------------------------------------


def test_components_keep_what_differs_and_are_the_same_each_time() -> None:
    random = np.random.default_rng(3)
    centres = random.normal(size=(5, 90)) * 3
    group = np.repeat(np.arange(5), 100)
    vectors = (10 + centres[group] + random.normal(size=(500, 90))).astype(np.float32)
    learnt = projection.learn("e", vectors, 64)
    assert learnt.learned_from == 500
    narrow = learnt(vectors)
    np.testing.assert_allclose(np.linalg.norm(narrow, axis=1), 1, atol=1e-5)
    near = narrow @ narrow.T - 2 * np.eye(500)
    assert (group[near.argmax(axis=1)] == group).all()
    # principal components lose nothing of five groups: cosines are those of the full width
    full = learnt.centred(vectors)
    centre = np.stack([narrow[group == g].mean(axis=0) for g in range(5)])
    wide = np.stack([full[group == g].mean(axis=0) for g in range(5)])

    def cosine(x: F32) -> F32:
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        return np.asarray(x @ x.T)

    np.testing.assert_allclose(cosine(centre), cosine(wide), atol=0.05)
    again = projection.learn("e", vectors[::-1], 64)
    np.testing.assert_allclose(np.abs(again.directions), np.abs(learnt.directions), atol=1e-3)
    assert projection.learn("e", vectors, 64).version == learnt.version
    assert projection.learn("f", vectors, 64).version != learnt.version
    zero = np.zeros((1, 90), dtype=np.float32)
    assert not learnt(zero).any() and not learnt.centred(zero).any()


def test_few_items_are_projected_at_random_and_keep_their_angles() -> None:
    random = np.random.default_rng(4)
    vectors = random.normal(size=(20, 512)).astype(np.float32)
    vectors[1] = vectors[0] + 0.1 * vectors[1]
    learnt = projection.learn("e", vectors, 64)
    narrow, full = learnt(vectors), projection.unit(vectors)
    assert abs(narrow @ narrow.T - full @ full.T).max() < 0.5
    assert narrow[0] @ narrow[1] > 0.95
    # neither the number of items nor their order matters
    np.testing.assert_array_equal(
        projection.learn("e", vectors[:5], 64).directions, learnt.directions
    )


def test_a_narrow_encoder_is_padded() -> None:
    vectors = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
    narrow = projection.learn("e", vectors, 64)(vectors)
    assert narrow.shape == (300, 64)
    centred = projection.unit(vectors - vectors.mean(axis=0))
    np.testing.assert_allclose(narrow @ narrow.T, centred @ centred.T, atol=1e-4)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20), st.data())
def test_a_table_finds_each_content_and_nothing_else(keys: list[int], data: st.DataObject) -> None:
    vectors = np.arange(1, 2 * len(keys) + 1, dtype=np.float32).reshape(-1, 2)
    table = Table.of(np.array(keys, dtype=np.int64), vectors)
    asked = data.draw(st.lists(st.sampled_from([*keys, 0, 5]), max_size=9))
    found = table.find(np.array(asked, dtype=np.int64))
    for key, vector in zip(asked, found, strict=True):
        wanted = vectors[keys.index(key)] if key in keys and key != 0 else [0, 0]
        np.testing.assert_array_equal(vector, wanted)


def test_content_is_the_same_from_disk_and_a_broken_file_is_none(tmp_path: Path) -> None:
    catalog = catalog_of({str(n): {"title": chr(97 + n % 26) * (1 + n % 7)} for n in range(60)})
    encoded = run(catalog, Letters(), VectorCache(None), tmp_path)
    content = learned(encoded, None)
    content.save(tmp_path / "content")
    loaded = Content.load(tmp_path / "content")
    assert loaded is not None
    (wanted,), (found,) = content.vectors(catalog).values(), loaded.vectors(catalog).values()
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    rows = np.array([7, 3])
    np.testing.assert_array_equal(loaded.vectors(catalog, rows)["letters-1"], wanted[rows])
    assert loaded.projections["letters-1"].version == content.projections["letters-1"].version
    for file in (tmp_path / "content").iterdir():
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        assert Content.load(tmp_path / "content") is None
        file.write_bytes(whole)
    assert Content.load(tmp_path / "none") is None
    with pytest.raises(StoreCorrupt):
        Table.load(tmp_path / "content" / "projections.npz")


def test_a_projection_stays_until_there_is_much_more(tmp_path: Path) -> None:
    def some(n: int) -> Encoded:
        texts = {f"{i}": {"title": "".join(chr(97 + i * 7 % (3 + k)) for k in range(9)) + str(i)}
                 for i in range(n)}  # fmt: skip
        return run(catalog_of(texts), Letters(), VectorCache(None), tmp_path)

    first = learned(some(300), None)
    more = learned(some(400), first)
    assert more.projections == first.projections and len(more.tables["letters-1"].rows) == 400


# -- interest vectors --------------------------------------------------------------------------


def test_item_vectors_know_likeness_by_content_and_stay_comparable(tmp_path: Path) -> None:
    catalog = catalog_of(
        {
            "a": {"title": "zzz", "brand": "Koi"},
            "b": {"title": "zzzz", "brand": "Oma"},
            "c": {"title": "yyy", "brand": "Koi"},
        }
    )
    items = np.arange(3, dtype=np.int32)
    versions = catalog.versions_at(items, np.zeros(3, dtype=np.int64))
    vectors = HashedVectors()
    plain = vectors.of(catalog, items, versions).copy()
    content = learned(run(catalog, Letters(), VectorCache(None), tmp_path), None)
    vectors.use(content)
    rich = vectors.of(catalog, items, versions)
    np.testing.assert_allclose(np.linalg.norm(rich, axis=1), 1, atol=1e-5)
    assert rich.shape == (3, NARROW)
    assert rich[0] @ rich[1] > plain[0] @ plain[1] + 0.3  # the same letter
    assert rich[0] @ plain[0] > 0.5  # and still its attributes
    vectors.use(None)
    np.testing.assert_array_equal(vectors.of(catalog, items, versions), plain)


def test_an_image_is_no_attribute() -> None:
    catalog = catalog_of({"a": {"brand": "Koi", "image": "x.png"}, "b": {"brand": "Koi"}})
    items = np.arange(2, dtype=np.int32)
    versions = catalog.versions_at(items, np.zeros(2, dtype=np.int64))
    a, b = HashedVectors().of(catalog, items, versions)
    np.testing.assert_array_equal(a, b)
