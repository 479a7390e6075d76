"""An OpenAI-compatible `/v1/embeddings` endpoint as a text encoder."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from functools import cached_property
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import numpy as np

from limner.catalog.encoders import F32, Kind
from limner.catalog.encoders.text import cleaned
from limner.errors import ModelError

LONGEST_WAIT = 30.0
"""Seconds that are waited at most before it is tried again, whatever the endpoint asks for."""
LARGEST = 64 << 20
"""Bytes of an answer."""


class _NoRedirect(HTTPRedirectHandler):
    """The key goes to the address that was configured and to no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


opener = build_opener(_NoRedirect)
"""Follows no redirect."""


class Endpoint:
    """Asks over HTTP; tries again where that may help, longer apart each time."""

    kind: Kind = "text"

    def __init__(
        self, url: str, model: str, *, key: str = "", timeout: float = 30.0, retries: int = 3
    ) -> None:
        plain = url.rstrip("/")
        self.url = plain if plain.endswith("/embeddings") else plain + "/embeddings"
        self.model = model
        self.name = f"{model}@{urlsplit(self.url).netloc.rpartition('@')[2]}"
        self._key = key
        self._timeout = timeout
        self._retries = retries

    @cached_property
    def width(self) -> int:
        """As the endpoint's first answer shows."""
        return int(self.encode(["tea"]).shape[1])

    def encode(self, contents: Sequence[str]) -> F32:
        """Vectors (n, width). Raises ModelError when the endpoint refuses, or stays away."""
        asked = {
            "model": self.model,
            "input": [cleaned(text) for text in contents],
            "encoding_format": "float",
        }
        answer = self._ask(json.dumps(asked).encode())
        try:
            rows = sorted(answer["data"], key=lambda row: int(row["index"]))
            if [int(row["index"]) for row in rows] != list(range(len(contents))):
                raise ValueError(f"{len(rows)} vectors for {len(contents)} texts")
            out = np.array([row["embedding"] for row in rows], dtype=np.float32)
            if out.ndim != 2 or not out.shape[1] or not np.isfinite(out).all():
                raise ValueError("vectors of different widths, or of no numbers")
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(
                f"the answer is none of an embeddings endpoint: {error!r}",
                where=self.url,
                mend="the address should end in /v1, as in http://localhost:8000/v1",
            ) from None
        return out

    def _ask(self, body: bytes) -> Any:
        headers = {"Content-Type": "application/json", "User-Agent": "limner"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = Request(self.url, data=body, headers=headers, method="POST")
        for trial in range(self._retries + 1):
            wait = 0.25 * 2**trial
            try:
                with opener.open(request, timeout=self._timeout) as answer:
                    return json.loads(answer.read(LARGEST))
            except HTTPError as error:
                with error:
                    said = error.read(500).decode("utf-8", "replace").strip()
                wait = max(wait, _seconds(error.headers.get("Retry-After")))
                what = f"answered {error.code}: {said or error.reason}"
                if error.code not in (408, 409, 429) and error.code < 500:
                    mend = "is LIMNER_EMBEDDINGS_KEY set?" if error.code in (401, 403) else ""
                    raise ModelError(what, where=self.url, mend=mend) from None
            except ValueError:
                raise ModelError(
                    "the answer is not JSON", where=self.url, mend="check encoders.text"
                ) from None
            except (URLError, OSError) as error:
                what = f"cannot be reached: {getattr(error, 'reason', error)}"
            if trial < self._retries:
                time.sleep(min(wait, LONGEST_WAIT))
        raise ModelError(
            f"{what}, {self._retries + 1} times",
            where=self.url,
            mend="look whether it runs; encoders.timeout and encoders.retries say how long to wait",
        )


def _seconds(text: str | None) -> float:
    try:
        return max(0.0, float(text or 0))
    except ValueError:
        return 0.0
