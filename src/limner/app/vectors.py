"""The model's view of users, the vector U, as it is kept between two refreshes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from limner.profile.facet import Slot, View
from limner.profile.facets import HISTORY
from limner.profile.facets.vector import VECTOR, Seen
from limner.recommend.scorer import history_from

if TYPE_CHECKING:
    from limner.app.limner import Limner


def seen(app: Limner, view: View, now: int) -> Seen | None:
    """U of a user by the model that is loaded; the caller holds the writer's lock.

    Nothing is loaded for it: that may wait for somebody who waits for the lock.
    """
    scorer = app._here(app._scorer)
    if scorer is None:
        return None
    history = history_from(view.entries(HISTORY), now)
    if not len(history):
        return None
    scorer.enter()
    return Seen(scorer.vector(history), scorer.version, len(history), int(history.times.max()))


def kept(shown: Mapping[str, Sequence[Slot]], version: str) -> Slot | None:
    """What is kept of a user's U, unless another version of the model is in use by now."""
    found = shown.get(VECTOR, ())
    return found[0] if found and found[0].model == version else None


def renew(app: Limner) -> None:
    """Load the model in use, and let go of what was kept of another one."""
    scorer = app.scorer()
    if scorer is not None and app.store.get_meta(f"{VECTOR} by") != scorer.version:
        app.following.forget(VECTOR)
        app.store.set_meta(f"{VECTOR} by", scorer.version)
