"""Versions of a model on disk: `home/models/VERSION/…`, and `current`, the name of the one in use.

A version is written aside, sealed, flushed, renamed into place, and only then pointed at, so a
reader finds the old one or the new one and never a part of either. `journal.json` says what became
of versions and of candidates that never became one. Whoever changes anything here holds the
store's write lock.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from limner.errors import ModelError, NotFound, UsageError
from limner.events.durable import sync
from limner.model.artifacts import read_json, seal, verify, write_json
from limner.model.blend import Blend
from limner.model.gate import Verdict

KEPT_ACTS = 500
"""So many of the newest lines the journal keeps."""


class Saved(Protocol):
    """What can be published: a blend, or another model."""

    def save(self, folder: Path) -> None:
        """Write arrays (npy or safetensors) and JSON, never pickle."""
        ...


@dataclass(frozen=True, slots=True)
class Version:
    """A published model: its number (`000001`, …) and what was recorded with it.

    `meta`: `at` (µs), `parents` (names; the first is the version it took the place of), `config`,
    `cutoff` (µs, the newest event learned), `position` (in the log), `item_ids`, and metrics;
    `replaces`: the version that it is but for what was erased, and that is not to be kept.
    """

    name: str
    folder: Path
    meta: Mapping[str, Any]

    @property
    def parents(self) -> list[str]:
        """The versions it comes from or follows; the first is the one it took the place of."""
        return list(self.meta.get("parents", []))


@dataclass(frozen=True, slots=True)
class Act:
    """What was done at a time (µs): `version` came into use, or for "kept" stayed in use.

    `before`: the version in use until then. `reason` in words; `verdict` where the gate spoke.
    """

    at: int
    what: Literal["published", "promoted", "rolled back", "kept"]
    version: str
    before: str | None = None
    reason: str = ""
    verdict: Verdict | None = None


def publish(
    home: Path,
    model: Saved,
    meta: Mapping[str, Any],
    *,
    at: int | None = None,
    verdict: Verdict | None = None,
    reason: str = "",
) -> Version:
    """Write a new version and make it current.

    `meta` is JSON, as `Version` tells. With `at` (µs) the journal notes it with the `reason`, or
    what the gate said.
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
    before = current(home)
    set_current(home, name)
    if at is not None:
        reason = verdict.reason if verdict is not None else reason
        note(home, Act(at, "published", name, before, reason, verdict))
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
    version_of(home, name)
    root = home / "models"
    fresh = root / f".current-{os.getpid()}"
    fresh.write_text(name + "\n", encoding="utf-8")
    sync(fresh)
    fresh.replace(root / "current")
    sync(root)


def promote(home: Path, name: str, *, at: int, reason: str = "") -> Act:
    """Put another version to use, whose files are checked first.

    Raises NotFound if there is none of that name, ModelError if its files were altered.
    """
    verify(version_of(home, name).folder)
    act = Act(at, "promoted", name, current(home), reason)
    set_current(home, name)
    note(home, act)
    return act


def roll_back(home: Path, *, at: int, reason: str = "", verdict: Verdict | None = None) -> Act:
    """Put the version to use that the present one took the place of.

    Raises UsageError if there is none or it is no longer kept, ModelError if its files were
    altered.
    """
    parent = parent_of(home, current_version(home))
    if parent is None:
        raise UsageError(
            "there is no version to go back to",
            where=str(home / "models"),
            mend="choose one with: limner models promote VERSION",
        )
    verify(parent.folder)
    act = Act(at, "rolled back", parent.name, current(home), reason, verdict)
    set_current(home, parent.name)
    note(home, act)
    return act


def parent_of(home: Path, version: Version | None) -> Version | None:
    """The version that one took the place of, if it is still kept."""
    if version is None or not version.parents:
        return None
    folder = home / "models" / version.parents[0]
    return version_of(home, folder.name) if folder.is_dir() else None


def version_of(home: Path, name: str) -> Version:
    """A version by its name, its blend unread. Raises NotFound."""
    folder = home / "models" / name
    if not name.isdigit() or not folder.is_dir():
        known = ", ".join(version.name for version in versions(home))
        raise NotFound(
            f"there is no model version {name!r}",
            where=str(home / "models"),
            mend=f"use one of {known}" if known else "train one: limner train",
        )
    return Version(name, folder, read_json(folder / "version.json"))


def prune(home: Path, keep: int) -> list[str]:
    """Remove all but the newest `keep` versions, the one in use and its parent; their names.

    What another version replaces is removed in any case, unless it is in use.
    """
    used = current_version(home)
    parent = parent_of(home, used)
    spared = {version.name for version in (used, parent) if version is not None}
    found = versions(home)
    replaced = {v.meta.get("replaces") for v in found} - {used and used.name}
    rest = [v for v in found if v.name not in replaced]
    gone = [v for v in rest[: -keep or None] if v.name not in spared]
    gone += [v for v in found if v.name in replaced]
    for version in gone:
        shutil.rmtree(version.folder)
    return [version.name for version in gone]


def note(home: Path, act: Act) -> None:
    """Add a line to the journal."""
    acts = [*journal(home), act][-KEPT_ACTS:]
    path = home / "models" / "journal.json"
    fresh = path.with_name(f".journal-{os.getpid()}")
    write_json(fresh, {"acts": [asdict(one) for one in acts]})
    sync(fresh)
    fresh.replace(path)
    sync(path.parent)


def journal(home: Path) -> list[Act]:
    """What became of versions and candidates, oldest first."""
    path = home / "models" / "journal.json"
    if not path.is_file():
        return []
    try:
        return msgspec.convert(read_json(path).get("acts"), list[Act])
    except msgspec.ValidationError as error:
        raise ModelError(f"cannot be read: {error}", where=str(path), mend="remove it") from error


@dataclass(frozen=True, slots=True)
class Difference:
    """In what version `a` and version `b` differ: (a's value, b's value) by dotted name.

    Metrics are means. A name that one of them lacks is None there. `items`: ids that only `a`
    knows, and that only `b` knows, the first few of each; and how many in all.
    """

    a: str
    b: str
    changed: Mapping[str, tuple[Any, Any]]
    only_a: Sequence[str] = field(default_factory=list)
    only_b: Sequence[str] = field(default_factory=list)
    items_only_a: int = 0
    items_only_b: int = 0


def diff(a: Version, b: Version, *, shown: int = 10) -> Difference:
    """In what two versions differ: configuration, data, weights, metrics, items.

    >>> one, other = (Version(n, Path(), {"config": {"depth": int(n)}, "at": 5}) for n in "12")
    >>> dict(diff(one, other).changed)
    {'config.depth': (1, 2)}
    """
    left, right = (dict(_leaves(version.meta)) for version in (a, b))
    names = [*left, *(name for name in right if name not in left)]
    ids_a, ids_b = (dict.fromkeys(version.meta.get("item_ids", [])) for version in (a, b))
    only_a = [item for item in ids_a if item not in ids_b]
    only_b = [item for item in ids_b if item not in ids_a]
    return Difference(
        a.name,
        b.name,
        {n: (left.get(n), right.get(n)) for n in names if left.get(n) != right.get(n)},
        only_a[:shown],
        only_b[:shown],
        len(only_a),
        len(only_b),
    )


_NO_DIFFERENCE = ("item_ids", "verdict", "low", "high", "differences", "seconds")


def _leaves(value: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    """Plain values by dotted name; of an interval its mean."""
    for name, inner in value.items():
        if name in _NO_DIFFERENCE:
            continue
        if isinstance(inner, Mapping) and set(inner) == {"mean", "low", "high"}:
            yield at + name, inner["mean"]
        elif isinstance(inner, Mapping):
            yield from _leaves(inner, f"{at}{name}.")
        else:
            yield at + name, inner


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
    return load(version), version


def load(version: Version) -> Blend:
    """The blend of a version. Raises ModelError if a file is missing or was altered."""
    return Blend.load(version.folder)
