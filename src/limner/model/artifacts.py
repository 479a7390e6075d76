"""Model files: arrays as .npy, settings as JSON, and a SHA-256 of every file in a manifest.

Nothing is unpickled or evaluated when it is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from limner.errors import ModelError

_MEND = "train again with `limner train`, or point `current` at an older version"


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON that a person can read."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises ModelError if there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot be read: {error}", where=str(path), mend=_MEND) from error
    if not isinstance(value, dict):
        raise ModelError("holds no JSON object", where=str(path), mend=_MEND)
    return value


def write_arrays(
    folder: Path, arrays: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]
) -> None:
    """Write `NAME.npy` for each array and `meta.json` into `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", np.ascontiguousarray(array), allow_pickle=False)
    write_json(folder / "meta.json", meta)


def read_arrays(
    folder: Path, names: Sequence[str]
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Read back what `write_arrays` wrote. Raises ModelError if a file is missing or torn."""
    meta = read_json(folder / "meta.json")
    arrays = {}
    for name in names:
        path = folder / f"{name}.npy"
        try:
            arrays[name] = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ModelError(f"cannot be read: {error}", where=str(path), mend=_MEND) from error
    return arrays, meta


def seal(folder: Path) -> None:
    """Write `manifest.json`: size and SHA-256 of every file under `folder`."""
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": _sha(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    }
    write_json(folder / "manifest.json", {"files": files})


def verify(folder: Path) -> None:
    """Check `folder` against its manifest. Raises ModelError naming the first bad file.

    A file that the manifest does not list is bad too.
    """
    listed = read_json(folder / "manifest.json").get("files", {})
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and path.name != "manifest.json" and name not in listed:
            raise ModelError("is not in the manifest", where=str(path), mend=_MEND)
    for name, entry in listed.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ModelError(f"the manifest names {name!r}, outside the folder", where=str(folder))
        if not path.is_file():
            raise ModelError("is missing", where=str(path), mend=_MEND)
        if path.stat().st_size != entry["bytes"] or _sha(path) != entry["sha256"]:
            raise ModelError("does not match its SHA-256", where=str(path), mend=_MEND)


def _sha(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
