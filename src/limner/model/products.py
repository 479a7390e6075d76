"""Products of a few vectors with a long table, which is what scoring a catalogue is."""

from __future__ import annotations

import numpy as np

from limner.model.protocol import F32


def products(vectors: F32, table: F32) -> F32:
    """Inner products (n, N) of vectors (n, d) with the rows of a table (N, d).

    With the table as the left factor: with a few vectors there BLAS takes two to four times as
    long, and the table is read from memory once, however many vectors there are.

    >>> products(np.eye(2, dtype=np.float32), np.ones((3, 2), dtype=np.float32)).tolist()
    [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """
    if len(vectors) == 1:
        one: F32 = table @ vectors[0]
        return one[None]
    out: F32 = np.ascontiguousarray((table @ np.ascontiguousarray(vectors.T)).T)
    return out
