"""From the width of an encoder to a narrow one, learned once per data set."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from limner.errors import StoreCorrupt

F32 = npt.NDArray[np.float32]

ENOUGH = 256
"""Vectors from which on directions are learned; below, they are drawn at random."""
SAMPLE = 20_000


@dataclass(frozen=True, slots=True)
class Projection:
    """x ↦ unit((x − mean) @ directions): principal components, or random directions for few items.

    `mean` (width,) is 0 for random directions, `directions` (width, narrow); `of` is the encoder
    and `learned_from` how many vectors. Zero vectors stay zero.
    """

    of: str
    mean: F32
    directions: F32
    learned_from: int

    @property
    def version(self) -> str:
        """Eight letters: vectors of different versions must not be compared."""
        h = blake2b(self.of.encode(), digest_size=4)
        h.update(self.mean.tobytes())
        h.update(self.directions.tobytes())
        return h.hexdigest()

    def __call__(self, vectors: F32) -> F32:
        """Unit vectors (n, narrow); 0 where there is nothing."""
        known = vectors.any(axis=1, keepdims=True)
        return unit(((vectors - self.mean) @ self.directions) * known)

    def centred(self, vectors: F32) -> F32:
        """Unit vectors of the full width without what all have in common; 0 stays 0."""
        return unit((vectors - self.mean) * vectors.any(axis=1, keepdims=True))


def learn(of: str, vectors: F32, narrow: int) -> Projection:
    """The projection of an encoder's vectors to `narrow` numbers, deterministic.

    Principal components (Pearson 1901) of the vectors that are not 0 once there are `ENOUGH`; below
    that random directions that depend on the encoder's name only, which keep angles about as they
    are (Johnson and Lindenstrauss 1984).
    """
    width = vectors.shape[1]
    known = vectors[vectors.any(axis=1)]
    seed = int.from_bytes(blake2b(of.encode(), digest_size=8).digest(), "little")
    random = np.random.default_rng(seed)
    if len(known) < ENOUGH:
        drawn = random.standard_normal((width, narrow)) / np.sqrt(narrow)
        return Projection(of, np.zeros(width, np.float32), drawn.astype(np.float32), len(known))
    if len(known) > SAMPLE:
        rows = random.choice(len(known), SAMPLE, replace=False)
        sample = known[np.sort(rows)]
    else:
        sample = known
    mean = sample.mean(axis=0, dtype=np.float64)
    centred = sample - mean
    values, directions = np.linalg.eigh(centred.T @ centred)
    chosen = directions[:, np.argsort(-values, kind="stable")[:narrow]]
    # a direction and its opposite are the same component: the largest number is positive
    peaks = np.take_along_axis(chosen, np.abs(chosen).argmax(axis=0)[None], axis=0)
    chosen = chosen * np.where(peaks < 0, -1.0, 1.0)
    if chosen.shape[1] < narrow:
        chosen = np.pad(chosen, ((0, 0), (0, narrow - chosen.shape[1])))
    # turned by the encoder's name: two encoders' vectors can be added, their axes mean nothing
    turned = chosen @ np.linalg.qr(random.standard_normal((narrow, narrow)))[0]
    return Projection(of, mean.astype(np.float32), turned.astype(np.float32), len(known))


def unit(vectors: npt.NDArray[np.floating]) -> F32:
    """Rows scaled to length 1; those of no length stay 0."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(length > 1e-9, length, np.inf)).astype(np.float32)


def save(path: Path, projections: dict[str, Projection]) -> None:
    """Write them all to one file, at once."""
    arrays: dict[str, npt.NDArray[np.generic]] = {"of": np.array(list(projections), dtype=str)}
    for number, each in enumerate(projections.values()):
        arrays[f"mean{number}"], arrays[f"directions{number}"] = each.mean, each.directions
        arrays[f"from{number}"] = np.array(each.learned_from)
    fresh = path.with_suffix(".new.npz")
    with fresh.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    fresh.replace(path)


def load(path: Path) -> dict[str, Projection]:
    """What `save` wrote. Raises StoreCorrupt for anything else."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {
                name: Projection(
                    name, arrays[f"mean{n}"], arrays[f"directions{n}"], int(arrays[f"from{n}"])
                )
                for n, name in enumerate(arrays["of"].tolist())
            }
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise StoreCorrupt(f"cannot be read: {error}", where=str(path)) from None
