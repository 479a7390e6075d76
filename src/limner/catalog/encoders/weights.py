"""Files of weights that packages carry: found without importing the package, checked by hash."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

from limner.errors import MissingExtra, ModelError


def folder_of(package: str) -> Path | None:
    """Where an installed package lies; None if it is not installed."""
    spec = find_spec(package)
    places = spec.submodule_search_locations if spec is not None else None
    return Path(next(iter(places))) if places else None


def in_package(package: str, file: str, sha256: str, ability: str) -> Path:
    """A file of an installed package. Raises MissingExtra, or ModelError if it is another file."""
    folder = folder_of(package)
    if folder is None:
        raise MissingExtra(ability, "media")
    return checked(folder / file, sha256)


def checked(path: Path, sha256: str) -> Path:
    """The path, if the file has this hash.

    Vectors of other weights would be taken for those of these. Raises ModelError.
    """
    try:
        found = file_hash(path)
    except OSError as error:
        raise ModelError(
            f"the weights cannot be read: {error.strerror}", where=str(path), mend=_MEND
        ) from None
    if found != sha256:
        raise ModelError(
            f"the weights are not the known ones: their SHA-256 is {found[:16]}…, "
            f"not {sha256[:16]}…",
            where=str(path),
            mend=_MEND,
        )
    return path


_MEND = "install the version that Limner names: pip install --force-reinstall 'limner[media]'"


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
