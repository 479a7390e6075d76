"""Published label models: `home/labels/NAME/models/VERSION`, each name with its own `current`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from limner.errors import ModelError, NotFound, UsageError
from limner.model import registry
from limner.model.artifacts import verify
from limner.model.registry import Version
from limner.profile.facets.label import Judge, Judgement

if TYPE_CHECKING:  # imported where a label is used: who opens a store need not wait for it
    from limner.model.label import LabelModel

MEND = "fit it again: limner label fit"


def publish(home: Path, name: str, model: LabelModel, meta: Mapping[str, Any]) -> Version:
    """Write a new version of the label `name`, and put it to use. `meta` is JSON."""
    check_name(name)
    folder = _folder(home, name)
    folder.mkdir(parents=True, exist_ok=True)
    # a label of a file needs no store, so no store's write lock keeps others away
    with FileLock(folder / "lock"):
        return registry.publish(folder, model, meta)


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
    from limner.model.label import LabelModel

    _, found = version(home, name)
    try:
        verify(found.folder)
        return LabelModel.load(found.folder), found
    except ModelError as error:
        raise ModelError(error.what, where=error.where, mend=MEND) from error


@dataclass(frozen=True, slots=True)
class InUse:
    """A published model as a portrait asks it (`profile.facets.label.Judge`)."""

    model: LabelModel
    version: str
    reads: tuple[str, ...]

    @property
    def at(self) -> int:
        """When it was learned, µs."""
        return self.model.at

    @property
    def features(self) -> tuple[str, ...]:
        """What it wants to know."""
        return tuple(feature.name for feature in self.model.features)

    def judge(self, values: Mapping[str, float | str | None]) -> Judgement:
        """Of one user; a text where a number was learned counts as missing."""
        plain = {
            f.name: _number(values[f.name]) if f.categories is None else values[f.name]
            for f in self.model.features
        }
        probabilities, moved = self.model.explained(self.model.row(plain))
        likeliest = int(probabilities[0].argmax())
        return Judgement(
            self.model.classes[likeliest],
            float(probabilities[0, likeliest]),
            dict(zip(self.features, moved[0].tolist(), strict=True)),
        )


def _number(value: float | str | None) -> float | None:
    try:
        return None if value is None else float(value)
    except ValueError:
        return None


def asked(home: Path, name: str) -> Callable[[], Judge | None]:
    """What gives the model in use of a label, read again when another version is put to use.

    It gives None while there is none, and raises ModelError for a damaged one.
    """
    known: list[InUse] = []

    def judge() -> Judge | None:
        now = current(home, name)
        if now is None:
            return None
        if not known or known[0].version != now:
            model, found = load(home, name)
            known[:] = [InUse(model, found.name, tuple(found.meta.get("reads", ())))]
        return known[0]

    return judge


def _folder(home: Path, name: str) -> Path:
    return home / "labels" / name
