"""Encoders: text, images and sound as vectors, by networks that were trained elsewhere.

What an item says lies close to what other items say alike, before anybody has touched it. The
defaults are read from packages of the extra `media`; a folder, a file or an endpoint can take the
place of each. Nothing is fetched from anywhere unless an endpoint is configured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from limner.errors import ConfigError, LimnerError

F32 = npt.NDArray[np.float32]
Kind = Literal["text", "image", "audio"]
KINDS: tuple[Kind, ...] = get_args(Kind)

OFF, DEFAULT = "off", "default"


class Encoder(Protocol):
    """Turns content of one kind into vectors. The same content always gives the same vector."""

    @property
    def name(self) -> str:
        """Which network, with its version or the hash of its file: another name, other vectors."""
        ...

    @property
    def kind(self) -> Kind:
        """What it reads."""
        ...

    @property
    def width(self) -> int:
        """Numbers a vector."""
        ...

    def encode(self, contents: Sequence[Any]) -> F32:
        """Vectors (n, width) of n contents, none of them empty.

        A text is a str; an image (height, width, 3) uint8 in RGB; a sound float32 samples of one
        channel at 16 kHz. Raises ModelError if it cannot work at all.
        """
        ...


@dataclass(frozen=True, slots=True)
class EncodersConfig:
    """What turns items' content into vectors; see docs/items.md.

    `text`, `image`, `audio`: "default", "off", a folder or file of a model on disk, or for text
    the URL of an OpenAI-compatible endpoint, with `model`, `api_key`, `timeout` (seconds) and
    `retries`. `folder`: where the paths that items name begin, and end. `network`: whether
    http(s) addresses that items name are fetched. `threads`: of the networks. `refresh`: when a
    server encodes what is new.
    """

    text: str = DEFAULT
    image: str = DEFAULT
    audio: str = DEFAULT
    model: str = ""
    api_key: str = ""
    timeout: float = 30.0
    retries: int = 3
    folder: str = ""
    network: bool = False
    threads: int = 1
    refresh: str = "every 10m"

    def check(self, where: str) -> None:
        """Raise ConfigError for what cannot be."""
        for kind in ("image", "audio"):
            if _is_url(getattr(self, kind)):
                raise ConfigError(
                    f"encoders.{kind} is an address, and endpoints read text only",
                    where=where,
                    mend="name an ONNX file on disk, or use default or off",
                )
        if _is_url(self.text) and not self.model:
            raise ConfigError(
                "encoders.text is an endpoint, and encoders.model does not say which of its models",
                where=where,
                mend='add for instance: model = "text-embedding-3-small"',
            )
        for key, value, least in (
            ("timeout", self.timeout, 0.001), ("retries", self.retries, 0),
            ("threads", self.threads, 1),
        ):  # fmt: skip
            if not least <= value:
                raise ConfigError(
                    f"encoders.{key} = {value} is too small", where=where, mend="use a larger one"
                )


@dataclass(frozen=True, slots=True)
class Opened:
    """The encoders that can be used, at most one a kind, and why others cannot."""

    encoders: dict[Kind, Encoder]
    missing: dict[Kind, str]


@lru_cache(maxsize=4)
def opened(config: EncodersConfig) -> Opened:
    """The configured encoders; weights are read when the first content is encoded.

    Defaults whose package is not installed are left out, with a note; sound is then encoded by
    statistics of its spectrum. Raises ConfigError for a model on disk that is not there.
    """
    found: dict[Kind, Encoder] = {}
    missing: dict[Kind, str] = {}
    for kind in KINDS:
        asked = getattr(config, kind)
        if asked == OFF:
            continue
        try:
            if asked == DEFAULT:
                found[kind] = _defaults()[kind](config)
            elif _is_url(asked):
                from limner.catalog.encoders.endpoint import Endpoint

                found[kind] = Endpoint(
                    asked, config.model, key=config.api_key, timeout=config.timeout,
                    retries=config.retries,
                )  # fmt: skip
            else:
                found[kind] = _on_disk(kind, Path(asked).expanduser(), config.threads)
        except ConfigError:
            raise
        except LimnerError as error:
            missing[kind] = f"{error.what}; {error.mend}" if error.mend else error.what
    if "audio" in found and config.audio == DEFAULT and found["audio"].name.startswith("log-mel"):
        missing["audio"] = (
            "musicnn is not installed, so sound is told apart by statistics of its spectrum; "
            "pip install --no-deps musicnn==0.1.0"
        )
    return Opened(found, missing)


def _defaults() -> dict[Kind, Callable[[EncodersConfig], Encoder]]:
    from limner.catalog.encoders import audio, image, musicnn, text

    def sound(config: EncodersConfig) -> Encoder:
        return musicnn.MusiCnn(config.threads) if musicnn.installed() else audio.LogMel()

    return {
        "text": lambda config: text.UniversalSentenceEncoder(config.threads),
        "image": lambda config: image.EfficientNetLite0(config.threads),
        "audio": sound,
    }


def _on_disk(kind: Kind, path: Path, threads: int) -> Encoder:
    if not path.exists():
        raise ConfigError(
            f"encoders.{kind}: {path} does not exist",
            mend="name a folder or file of a model, or use default or off",
        )
    if path.suffix == ".onnx":
        from limner.catalog.encoders.onnx import OnnxEncoder

        return OnnxEncoder(kind, path, threads)
    if kind == "text" and path.is_dir():
        from limner.catalog.encoders.text import SentenceFolder

        return SentenceFolder(path, threads)
    raise ConfigError(
        f"encoders.{kind}: {path} is no model that can be read",
        mend="use a file that ends in .onnx, or for text the folder of a sentence-transformers "
        "model",
    )


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))
