"""Sound: read from bytes, its log-mel spectrum, and statistics of that as the plainest encoder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from io import BytesIO
from math import gcd

import numpy as np
import numpy.typing as npt

from limner.catalog.encoders import F32, Kind
from limner.errors import InputError, MissingExtra

F64 = npt.NDArray[np.float64]

RATE = 16_000
"""Samples a second that encoders read."""
LONGEST = 600
"""Seconds of a recording that are read."""
FRAME, HOP, MELS = 512, 256, 96


def decoded(data: bytes) -> F32:
    """The samples of a recording, one channel at 16 kHz, −1 to 1; at most its first 10 minutes.

    Raises InputError for an unknown codec, a broken or an empty recording; MissingExtra.
    """
    try:
        import soundfile
    except ImportError:
        raise MissingExtra("reading sound", "media") from None
    from scipy.signal import resample_poly

    try:
        with soundfile.SoundFile(BytesIO(data)) as file:
            rate = int(file.samplerate)
            samples = file.read(LONGEST * rate, dtype="float32", always_2d=True)
    except Exception as error:  # libsndfile's own errors are of several classes
        raise InputError(
            f"the sound cannot be read: {error}", mend="give a WAV, FLAC, OGG or MP3"
        ) from None
    mono = np.nan_to_num(samples.mean(axis=1)) if len(samples) else np.zeros(0, np.float32)
    if not len(mono) or not mono.any():
        raise InputError("the sound is empty or silent", mend="replace the file")
    if rate != RATE:
        common = gcd(rate, RATE)
        mono = resample_poly(mono, RATE // common, rate // common)
    return np.asarray(mono, dtype=np.float32)


def log_mel(samples: F32) -> F32:
    """log10(1 + 10,000 × power) in 96 mel bands every 16 ms, (frames, 96).

    Hann windows of 512 samples, centred; bands after Slaney (1998), each of area 1.
    """
    padded = np.pad(samples.astype(np.float64), FRAME // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME)
    power = np.abs(np.fft.rfft(frames * window)) ** 2
    return np.log10(1 + 10_000 * power @ _bands().T).astype(np.float32)


@lru_cache(maxsize=1)
def _bands() -> F64:
    """The weights of each frequency in each band, (96, 257)."""
    edges = _hertz(np.linspace(0, _mel(RATE / 2), MELS + 2))
    at = np.linspace(0, RATE / 2, FRAME // 2 + 1)
    up = (at - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    down = (edges[2:, None] - at) / (edges[2:] - edges[1:-1])[:, None]
    shape: F64 = np.maximum(0, np.minimum(up, down))
    return shape * (2 / (edges[2:] - edges[:-2]))[:, None]


_LINEAR = 200 / 3  # hertz a mel below 1 kHz; above, 27 mels are a factor of 6.4


def _mel(hertz: float) -> float:
    if hertz < 1000:
        return hertz / _LINEAR
    return 15 + float(np.log(hertz / 1000)) * 27 / float(np.log(6.4))


def _hertz(mels: F64) -> F64:
    return np.where(mels < 15, mels * _LINEAR, 1000 * 6.4 ** ((np.maximum(mels, 15) - 15) / 27))


class LogMel:
    """Mean and spread of each mel band, how fast it changes, and 20 cepstra: 328 wide.

    It tells kinds of sound apart by their colour; for when no network is installed.
    """

    kind: Kind = "audio"
    width = 3 * MELS + 2 * 20
    name = "log-mel-statistics-1"

    def encode(self, contents: Sequence[F32]) -> F32:
        """Vectors (n, 328)."""
        from scipy.fft import dct

        out = np.empty((len(contents), self.width), dtype=np.float32)
        for row, samples in enumerate(contents):
            spectrum = log_mel(samples)
            change = np.diff(spectrum, axis=0) if len(spectrum) > 1 else np.zeros_like(spectrum)
            cepstra = dct(spectrum, norm="ortho")[:, :20]
            out[row] = np.concatenate([
                spectrum.mean(0), spectrum.std(0), change.std(0), cepstra.mean(0), cepstra.std(0)
            ])  # fmt: skip
        return out
