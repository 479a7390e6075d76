"""Limner keeps a living portrait of every user, and recommends from it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limner.app import Limner

__all__ = ["Limner", "__version__"]

try:
    __version__ = version("limner")
except PackageNotFoundError:
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    # late, so that `import limner.errors` does not pay for the whole application
    if name == "Limner":
        from limner.app import Limner

        return Limner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
