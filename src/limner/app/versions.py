"""The versions of the model: which there are, which is in use, and how they differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from limner.errors import NotFound
from limner.model import registry
from limner.model.gate import Verdict
from limner.model.registry import Act, Difference, Version

if TYPE_CHECKING:
    from limner.app.limner import Limner


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A version of the model and how it came about.

    `made`: "trained" or "updated", at `at` (µs). `parents`: the version it took the place of,
    then others it started from. `cutoff` (µs): the newest event it learned; `position`: how far
    in the log. `ndcg`: of the next basket and of new items, measured before it learned the rest,
    where it was trained; `verdict`: what the gate said, where it was updated.
    """

    version: str
    in_use: bool
    made: str
    at: int
    parents: list[str]
    cutoff: int
    position: int
    users: int
    items: int
    events: int
    ndcg: dict[str, float | None]
    verdict: Verdict | None
    weights: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Models:
    """All versions that are kept, oldest first; `current` is in use. `journal`: what was done."""

    current: str | None
    versions: list[ModelVersion]
    journal: list[Act]


def models(app: Limner) -> Models:
    """`Limner.models`."""
    home = app.store.home
    if home is None:
        return Models(None, [], [])
    current = registry.current(home)
    found = [described(version, current) for version in registry.versions(home)]
    return Models(current, found, registry.journal(home))


def promote(app: Limner, version: str) -> Act:
    """`Limner.promote`."""
    with app.publishing:
        return registry.promote(_home(app), version, at=app._clock(), reason="asked for")


def roll_back(app: Limner) -> Act:
    """`Limner.roll_back`."""
    with app.publishing:
        return registry.roll_back(_home(app), at=app._clock(), reason="asked for")


def diff(app: Limner, a: str, b: str) -> Difference:
    """`Limner.model_diff`."""
    home = _home(app)
    return registry.diff(registry.version_of(home, a), registry.version_of(home, b))


def _home(app: Limner) -> Path:
    if app.store.home is None:
        raise NotFound(
            "a store in memory keeps no versions of its model",
            mend="use a store on disk: sqlite:///shop.db",
        )
    return app.store.home


def described(version: Version, current: str | None) -> ModelVersion:
    """What is known of a version; `current` is in use."""
    meta = version.meta
    measured = (meta.get("evaluation") or {}).get("systems", {})
    said = meta.get("verdict")
    return ModelVersion(
        version.name,
        version.name == current,
        str(meta.get("made", "trained")),
        int(meta.get("at", 0)),
        version.parents,
        int(meta["cutoff"]),
        int(meta["position"]),
        int(meta["users"]),
        len(meta["item_ids"]),
        int(meta["events"]),
        {task: systems["blend"]["ndcg"]["mean"] for task, systems in measured.items()},
        msgspec.convert(said, Verdict) if said else None,
        meta.get("weights", {}),
        meta.get("config", {}),
    )
