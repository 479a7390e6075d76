from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]

def merge_fixed(
    records: Array,
    size: int,
    rows: Array,
    spec: Array,
    lives: Array,
    values: Sequence[Array | None],
    /,
) -> None: ...
def add(
    table: Array,
    shape: Array,
    spec: Array,
    lives: Array,
    classes: Array,
    blocks: Array,
    rows: Array,
    keys: Array,
    values: Sequence[Array | None],
    left: Array,
    /,
) -> tuple[int, int]: ...
