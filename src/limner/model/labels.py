"""Published label models: `home/labels/NAME/models/VERSION`, each name with its own `current`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limner.errors import ModelError, NotFound, UsageError
from limner.model import registry
from limner.model.artifacts import verify
from limner.model.label import LabelModel
from limner.model.registry import Version

MEND = "fit it again: limner label fit"


def publish(home: Path, name: str, model: LabelModel, meta: Mapping[str, Any]) -> Version:
    """Write a new version of the label `name`, and put it to use. `meta` is JSON."""
    check_name(name)
    return registry.publish(_folder(home, name), model, meta)


def check_name(name: str) -> None:
    """Raise UsageError for what cannot be the name of a label: it names a folder and a slot."""
    if not re.fullmatch(r"\w[\w-]{0,63}", name):
        raise UsageError(
            f"{name!r} cannot be the name of a label",
            mend="give one of letters, digits, _ and -, with --name",
        )


def names(home: Path) -> list[str]:
    """The labels that have a version in use, by name."""
    root = home / "labels"
    folders = sorted(root.iterdir()) if root.is_dir() else []
    return [path.name for path in folders if registry.current(path) is not None]


def current(home: Path, name: str) -> str | None:
    """The version in use of a label; None if there is none."""
    return registry.current(_folder(home, name))


def version(home: Path, name: str = "") -> tuple[str, Version]:
    """A label's name and its version in use; without a name, that of the only label there is.

    Raises NotFound if there is none or it is not clear which, ModelError if it is damaged.
    """
    known = names(home)
    if not name and len(known) == 1:
        name = known[0]
    if name not in known:
        listed = ", ".join(known)
        raise NotFound(
            f"there is no label {name!r}" if name else
            "there are several labels" if known else "no label was fitted yet",
            where=str(home),
            mend=f"name one with --name: {listed}" if known else
            "fit one: limner label fit FILE --label COLUMN",
        )  # fmt: skip
    try:
        found = registry.current_version(_folder(home, name))
    except ModelError as error:
        raise ModelError(error.what, where=error.where, mend=MEND) from error
    assert found is not None
    return name, found


def load(home: Path, name: str = "") -> tuple[LabelModel, Version]:
    """The model in use of a label. Raises as `version`, and ModelError for an altered file."""
    _, found = version(home, name)
    try:
        verify(found.folder)
        return LabelModel.load(found.folder), found
    except ModelError as error:
        raise ModelError(error.what, where=error.where, mend=MEND) from error


def _folder(home: Path, name: str) -> Path:
    return home / "labels" / name
