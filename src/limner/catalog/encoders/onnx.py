"""Any ONNX model on disk as an encoder of text, images or sound.

Text needs the model's `tokenizer.json` beside it; an image model is given pixels as its
`preprocessor_config.json` says, or else as ImageNet models expect them; a sound model the samples.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from limner.catalog.encoders import F32, Kind
from limner.catalog.encoders.audio import RATE
from limner.catalog.encoders.image import squares
from limner.catalog.encoders.text import cleaned
from limner.catalog.encoders.weights import file_hash, folder_of
from limner.errors import ConfigError, MissingExtra, ModelError

TOKENS = 256
SECONDS = 30


class OnnxEncoder:
    """The first output of the model: as it is, or averaged over tokens or places."""

    def __init__(self, kind: Kind, path: Path, threads: int = 1) -> None:
        needed = ("onnxruntime", "tokenizers") if kind == "text" else ("onnxruntime",)
        if any(folder_of(package) is None for package in needed):
            raise MissingExtra("an ONNX encoder", "media")
        self.kind: Kind = kind
        self.path = path
        self._threads = threads
        if kind == "text" and not self._beside("tokenizer.json").is_file():
            raise ConfigError(
                "has no tokenizer.json beside it, without which it cannot read text",
                where=str(path),
                mend="copy the model's tokenizer.json into its folder",
            )

    @cached_property
    def name(self) -> str:
        """The file's name, with a hash of what is in it."""
        return f"{self.path.stem}-{file_hash(self.path)[:12]}"

    def _beside(self, name: str) -> Path:
        """A file in the model's folder or in the one above, where exporters leave it."""
        here = self.path.parent / name
        return here if here.is_file() else self.path.parent.parent / name

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 3
        try:
            return onnxruntime.InferenceSession(
                str(self.path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own classes, one for each kind of fault
            raise ModelError(f"is no ONNX model: {error}", where=str(self.path)) from None

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        found = Tokenizer.from_file(str(self._beside("tokenizer.json")))
        found.enable_truncation(TOKENS)
        found.enable_padding()
        return found

    @cached_property
    def width(self) -> int:
        """As the model says, or as one example shows."""
        last = self._session.get_outputs()[0].shape[-1]
        rank = len(self._session.get_outputs()[0].shape)
        if isinstance(last, int) and not (self.kind == "image" and rank == 4):
            return last
        example: dict[Kind, Any] = {
            "text": "tea",
            "image": np.zeros((8, 8, 3), dtype=np.uint8),
            "audio": np.zeros(RATE, dtype=np.float32),
        }
        return int(self.encode([example[self.kind]]).shape[1])

    def encode(self, contents: Sequence[Any]) -> F32:
        """Vectors (n, width). Raises ModelError for a model of another kind."""
        try:
            if self.kind == "text":
                return self._texts(contents)
            if self.kind == "image":
                return self._images(contents)
            return np.concatenate([self._sound(samples) for samples in contents])
        except ModelError:
            raise
        except Exception as error:  # whatever the runtime says of inputs that do not fit
            raise ModelError(
                f"cannot encode {self.kind}: {error}",
                where=str(self.path),
                mend=f"is it a model of {self.kind}? Its inputs: {self._inputs()}",
            ) from None

    def _inputs(self) -> str:
        return ", ".join(f"{i.name} {i.type} {i.shape}" for i in self._session.get_inputs())

    def _run(self, inputs: dict[str, npt.NDArray[Any]]) -> F32:
        return np.asarray(self._session.run(None, inputs)[0], dtype=np.float32)

    def _texts(self, texts: Sequence[str]) -> F32:
        rows = self._tokenizer.encode_batch([cleaned(text) for text in texts])
        mask = np.array([row.attention_mask for row in rows], dtype=np.int64)
        known = {
            "input_ids": np.array([row.ids for row in rows], dtype=np.int64),
            "attention_mask": mask,
            "token_type_ids": np.array([row.type_ids for row in rows], dtype=np.int64),
        }
        out = self._run({each.name: known[each.name] for each in self._session.get_inputs()})
        if out.ndim == 3:  # tokens: the mean of those that are not padding
            share = mask / np.maximum(mask.sum(axis=1, keepdims=True), 1)
            out = np.einsum("nt,ntd->nd", share.astype(np.float32), out)
        return out

    @cached_property
    def _pixels(self) -> dict[str, Any]:
        file = self._beside("preprocessor_config.json")
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}

    def _images(self, images: Sequence[npt.NDArray[np.uint8]]) -> F32:
        (taken, *_) = self._session.get_inputs()
        shape = list(taken.shape)
        last = shape[-1] == 3  # channels last
        side = shape[1] if last else shape[2]
        said = self._pixels
        if not isinstance(side, int):
            size = said.get("crop_size") or said.get("size") or 224
            side = int(size if isinstance(size, int) else next(iter(size.values())))
        x = squares(images, side).astype(np.float32) * said.get("rescale_factor", 1 / 255)
        mean = said.get("image_mean", (0.485, 0.456, 0.406))
        spread = said.get("image_std", (0.229, 0.224, 0.225))
        x = (x - np.float32(mean)) / np.float32(spread)
        out = self._run({taken.name: x if last else np.ascontiguousarray(x.transpose(0, 3, 1, 2))})
        if out.ndim == 4:
            out = out.mean(axis=(2, 3))
        if out.ndim == 3:
            out = out.mean(axis=1)
        return out

    def _sound(self, samples: F32) -> F32:
        (taken, *_) = self._session.get_inputs()
        out = self._run({taken.name: samples[None, : SECONDS * RATE]})
        mean: F32 = out.reshape(-1, out.shape[-1]).mean(axis=0, keepdims=True)
        return mean
