"""What whoever runs a store wants to know of it: how far everything is, and how large."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limner.app.jobs import Run
from limner.app.versions import ModelVersion, described
from limner.events.raw import Import
from limner.model import registry
from limner.model.gate import Verdict

if TYPE_CHECKING:
    from limner.app.limner import Limner


@dataclass(frozen=True, slots=True)
class Operations:
    """How far snapshot and model are behind the log, in its rows, and what the gate said last.

    `snapshot_at` (µs): when the newest snapshot was written. `ndcg`: of the model in use, by
    task, when it was trained; `gate`: the last verdict on an update. `disk`: bytes, by what they
    are of. None where there is no such thing.
    """

    users: int
    items: int
    position: int
    quarantined: int
    erased_since_training: int
    snapshot_at: int | None
    snapshot_behind: int | None
    model: str | None
    model_behind: int | None
    ndcg: Mapping[str, float] = field(default_factory=dict)
    gate: Verdict | None = None
    disk: Mapping[str, int] = field(default_factory=dict)

    @property
    def snapshot_age(self) -> float | None:
        """Seconds since the newest snapshot was written."""
        return None if self.snapshot_at is None else max(0.0, time.time() - self.snapshot_at / 1e6)


@dataclass(frozen=True, slots=True)
class Status:
    """What is in a store, and how it fares.

    `at` is now, µs, as `newest_event` is. `refused` and `flagged` count rows by rule. `waiting`:
    requests in line, of a server. `backfill`: facets that are being built anew, and how far.
    """

    at: int
    store: str
    users: int
    items: int
    position: int
    newest_event: int | None
    refused: dict[str, int]
    flagged: dict[str, int]
    model: str | None
    erased_since_training: int
    backfill: dict[str, Any] | None
    schedule: list[Run]
    imports: list[Import]
    operations: Operations
    waiting: dict[str, int] = field(default_factory=dict)


def status(app: Limner, waiting: Mapping[str, int] | None = None) -> Status:
    """All of it."""
    imports = app.store.imports.entries()
    found = Status(at=app.now(), **app.status(), imports=imports, operations=operations(app))
    found.waiting.update(waiting or {})
    return found


def operations(app: Limner) -> Operations:
    """How a store fares, without loading its model."""
    position = app.state.position
    snapshot = app.snapshots.newest()
    version = _in_use(app.store.home)
    acts = registry.journal(app.store.home) if app.store.home else []
    verdicts = [act.verdict for act in acts if act.verdict is not None]
    return Operations(
        len(app.state),
        len(app.state.catalog),
        position,
        sum(app.store.quarantine.counts().values()),
        app.erased_since_training(),
        snapshot[1] if snapshot else None,
        max(0, position - snapshot[0]) if snapshot else None,
        version.version if version else None,
        max(0, position - version.position) if version else None,
        {task: value for task, value in version.ndcg.items() if value is not None}
        if version
        else {},
        verdicts[-1] if verdicts else None,
        disk(app),
    )


def disk(app: Limner) -> dict[str, int]:
    """Bytes on disk: of the log with what is in its file, and of each folder beside it."""
    home = app.store.home
    if home is None:
        return {}
    file = app.config.store.removeprefix("sqlite:///")
    out = {"log": sum(_size(Path(file + end)) for end in ("", "-wal", "-shm"))}
    for folder in sorted(home.iterdir()) if home.is_dir() else []:
        out[folder.name] = sum(map(_size, folder.rglob("*"))) if folder.is_dir() else _size(folder)
    return out


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # it went meanwhile
        return 0


def _in_use(home: Path | None) -> ModelVersion | None:
    name = registry.current(home) if home else None
    return _version(home, name) if home and name else None


@lru_cache(maxsize=4)
def _version(home: Path, name: str) -> ModelVersion:
    """A version's description; its file names every item, so it is read once."""
    return described(registry.version_of(home, name), name)
