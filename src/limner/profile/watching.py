"""Who wants to know how long parts of the work take: nobody, unless a server asks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

Watch = Callable[[str], AbstractContextManager[object]]
"""Called with the name of a part ("commit", "score"); what it returns is held meanwhile."""

_NOBODY = nullcontext()


def unwatched(part: str) -> AbstractContextManager[object]:
    """Nobody wants to know."""
    return _NOBODY
