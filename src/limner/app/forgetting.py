"""A user taken out of the model in use: exactly from what is a sum over users, the rest named.

The closed-form companions are solved from sums over users, so what a user added is subtracted and
they are solved again (`Linear.forget`). The other parts keep no row of a user either, but their
numbers were learned from all users together: only the next training leaves the user out of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from limner.errors import ModelError
from limner.events.batch import I32, I64
from limner.events.meant import Meant
from limner.model import registry
from limner.model.artifacts import read_json, verify
from limner.model.interactions import interactions
from limner.model.protocol import Interactions
from limner.model.registry import Version

if TYPE_CHECKING:
    from limner.app.limner import Limner
    from limner.model.blend import Blend
    from limner.model.linear import Linear

AT_ONCE = 6_000
"""Items up to which the companions are solved again at once: some seconds each. Beyond, where a
solution takes a minute or more, they too wait for the next training."""

REMOVED_AT = "rows removed at"
"""The head of the log when rows were last removed of users who stay: what a model that was made
before had learned from these can no longer be told, nor subtracted."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What became of the model in use when a user was erased.

    `version`: in use from now on. `forgot`: its parts that are as if the user had never been.
    `due`: its parts that had learned from the user among all others, and keep that until the next
    training; none of them has a row of the user. `older`: versions still kept that had, too.
    """

    version: str
    forgot: list[str]
    due: list[str]
    older: list[str]


@dataclass(frozen=True, slots=True)
class Contribution:
    """What a user added to a version; `data` is None if that can no longer be told."""

    version: Version
    data: Interactions | None


def contribution(app: Limner, user: bytes) -> Contribution | None:
    """What the model in use learned from a user; None without one. To be asked before erasing."""
    version = None if app.store.home is None else registry.current_version(app.store.home)
    if version is None:
        return None
    position = int(version.meta["position"])
    removed = app.store.get_meta(REMOVED_AT)
    if removed and position <= int(removed):
        return Contribution(version, None)
    with app.writer.lock:
        catalog = app.state.catalog
        meant = Meant(app.store.log, app.writer.amendments.copy())
    number = {item: place for place, item in enumerate(version.meta["item_ids"])}
    weights = version.meta["config"]["weights"]
    found: list[Interactions] = []
    told: set[bytes] = set()
    for one in meant.amendments.members(user):
        if one in told:
            continue
        # ids that were linked to one user only later were users of their own then
        told.update(meant.amendments.members(one, position))
        rows = meant.events_of(one, known_at=position, refunds=False)
        data, _ = interactions([rows], catalog, weights)
        ids = [catalog.ids.values[item] for item in data.items.tolist()]
        if any(item not in number for item in ids):
            return Contribution(version, None)
        items = np.array([number[item] for item in ids], dtype=np.int32)
        found.append(replace(data, items=items, n_items=len(number)))
    return Contribution(version, _joined(found))


def forget(app: Limner, given: Contribution | None) -> Forgotten | None:
    """Have the model in use forget what it learned from a user who was erased.

    A new version takes the place of the one in use, which is removed. (A store in memory has no
    versions: its model waits for the next training.)
    """
    home = app.store.home
    if given is None or home is None:
        scorer = app.scorer()
        if scorer is None:
            return None
        return Forgotten(scorer.version, [], list(scorer.families), [])
    version, data = given.version, given.data
    older = [v.name for v in registry.versions(home) if v.name != version.name]
    if data is not None and not len(data.items):
        return Forgotten(version.name, [], [], older)
    parts: list[str] = read_json(version.folder / "blend.json")["parts"]
    if data is None or data.n_items > AT_ONCE:
        return Forgotten(version.name, [], parts, older)
    verify(version.folder)
    found = _companions(version, parts)
    without: dict[str, Linear] = {}
    for name, model in found.items():
        try:
            model.forget(data, progress=lambda *_: None)
        except ModelError:
            continue  # written without its sums: the next training is due
        without[name] = model
    due = [name for name in parts if name not in without]
    if not without:
        return Forgotten(version.name, [], due, older)
    meta = {
        **version.meta,
        "at": app._clock(),
        "users": int(version.meta["users"]) - data.n_users,
        "events": int(version.meta["events"]) - len(data.items),
        "replaces": version.name,
    }
    fresh = registry.publish(
        home, _Rewritten(version.folder, without), meta, at=app._clock(), reason="a user was erased"
    )
    if app.learning.acquire(blocking=False):  # else who learns may be reading it, and prunes then
        try:
            registry.prune(home, app.config.train.keep)
        finally:
            app.learning.release()
    return Forgotten(fresh.name, list(without), due, older)


def erased_meanwhile(app: Limner, blend: Blend, data: Interactions, users: Sequence[bytes]) -> int:
    """How many users were erased while a blend learned from them; its companions forget them."""
    from limner.model.linear import Linear

    with app.writer.lock:
        rows, user = app.state.rows, app.writer.amendments.user
        gone = [n for n, one in enumerate(users) if rows.get(user(one), -1) < 0]
    if gone and data.n_items <= AT_ONCE:
        theirs = data.of(np.array(gone, dtype=np.int64))
        for model in blend.models.values():
            if isinstance(model, Linear):
                model.forget(theirs, progress=lambda *_: None)
    return len(gone)


def _companions(version: Version, parts: Sequence[str]) -> dict[str, Linear]:
    """The closed-form companions of a version, read."""
    from limner.model.blend import FAMILIES
    from limner.model.linear import Linear

    out: dict[str, Linear] = {}
    for name in parts:
        model = FAMILIES[name]() if name in FAMILIES else None
        if isinstance(model, Linear):
            model.load(version.folder / name)
            out[name] = model
    return out


def _joined(parts: Sequence[Interactions]) -> Interactions:
    """The users of several, one after the other."""
    counts = np.concatenate([np.diff(part.offsets) for part in parts])
    offsets: I64 = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    items: I32 = np.concatenate([part.items for part in parts])
    times, weights, groups, positions = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("times", "weights", "groups", "positions")
    )
    return Interactions(offsets, items, times, weights, groups, positions, parts[0].n_items)


@dataclass(frozen=True, slots=True)
class _Rewritten:
    """The files of a version with some parts anew."""

    source: Path
    parts: Mapping[str, Linear]

    def save(self, folder: Path) -> None:
        shutil.copytree(self.source, folder, ignore=self._anew)
        for name, model in self.parts.items():
            model.save(folder / name)

    def _anew(self, folder: str, names: list[str]) -> list[str]:
        top = Path(folder) == self.source
        return [n for n in names if top and (n in self.parts or n == "manifest.json")]
