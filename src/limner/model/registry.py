"""Versions of a model on disk: `home/models/VERSION/…`, and `current`, the name of the one in use.

A version is written aside, sealed, flushed, renamed into place, and only then pointed at, so a
reader finds the old one or the new one and never a part of either.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from limner.errors import ModelError, NotFound
from limner.events.durable import sync
from limner.model.artifacts import read_json, seal, verify, write_json
from limner.model.blend import Blend


class Saved(Protocol):
    """What can be published: a blend, or another model."""

    def save(self, folder: Path) -> None:
        """Write arrays (npy or safetensors) and JSON, never pickle."""
        ...


@dataclass(frozen=True, slots=True)
class Version:
    """A published model: its number (`000001`, …) and what was recorded with it."""

    name: str
    folder: Path
    meta: Mapping[str, Any]


def publish(home: Path, model: Saved, meta: Mapping[str, Any]) -> Version:
    """Write a new version and make it current.

    `meta` is JSON: what a reader wants to know (data cutoff, configuration, metrics).
    """
    root = home / "models"
    root.mkdir(parents=True, exist_ok=True)
    taken = [int(path.name) for path in root.iterdir() if path.is_dir() and path.name.isdigit()]
    name = f"{max(taken, default=0) + 1:06d}"
    aside = root / f".writing-{name}-{os.getpid()}"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        model.save(aside)
        write_json(aside / "version.json", dict(meta))
        seal(aside)
        for path in sorted(aside.rglob("*"), reverse=True):
            sync(path)
        sync(aside)
        aside.rename(root / name)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    set_current(home, name)
    return Version(name, root / name, dict(meta))


def versions(home: Path) -> list[Version]:
    """All published versions, oldest first."""
    root = home / "models"
    if not root.is_dir():
        return []
    folders = sorted(path for path in root.iterdir() if path.is_dir() and path.name.isdigit())
    return [Version(path.name, path, read_json(path / "version.json")) for path in folders]


def current(home: Path) -> str | None:
    """The name of the version in use; None before the first training."""
    pointer = home / "models" / "current"
    if not pointer.is_file():
        return None
    return pointer.read_text(encoding="utf-8").strip()


def set_current(home: Path, name: str) -> None:
    """Point at another version, atomically. Raises NotFound if there is none of that name."""
    root = home / "models"
    if not name.isdigit() or not (root / name).is_dir():
        known = ", ".join(version.name for version in versions(home))
        raise NotFound(
            f"there is no model version {name!r}",
            where=str(root),
            mend=f"use one of {known}" if known else "train one: limner train",
        )
    fresh = root / f".current-{os.getpid()}"
    fresh.write_text(name + "\n", encoding="utf-8")
    sync(fresh)
    fresh.replace(root / "current")
    sync(root)


def current_version(home: Path) -> Version | None:
    """The version in use, its blend unread; None before the first training.

    Raises ModelError if it is not where `current` points.
    """
    name = current(home)
    if name is None:
        return None
    folder = home / "models" / name
    if not name.isdigit() or not folder.is_dir():
        raise ModelError(
            f"`current` points at {name!r}, which is not there",
            where=str(home / "models"),
            mend="train again: limner train",
        )
    return Version(name, folder, read_json(folder / "version.json"))


def load_current(home: Path) -> tuple[Blend, Version] | None:
    """The blend in use and its version; None before the first training.

    Raises ModelError if its files are missing or were altered.
    """
    version = current_version(home)
    if version is None:
        return None
    verify(version.folder)
    return Blend.load(version.folder), version
