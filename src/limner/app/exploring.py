"""What lists that explore have learned: sums over the log, brought up to its end when asked."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from limner.profile.facet import duration
from limner.recommend.bandit import Posterior
from limner.recommend.contexts import WIDTH
from limner.recommend.explore import ExploreConfig
from limner.recommend.feedback import Feedback

if TYPE_CHECKING:
    from limner.app.limner import Limner

Key = tuple[str, str, tuple[tuple[str, float], ...]]


class Learning:
    """The posterior of each way of learning that is configured: horizon, half-life, rewards.

    In memory only: after a start, or when rows were removed from the log, it is read again.
    """

    def __init__(self, app: Limner) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._read: dict[Key, _Read] = {}

    def posterior(self, config: ExploreConfig) -> Posterior:
        """What the log says by now; another commit is in it as soon as it is acknowledged."""
        app = self._app
        key = config.horizon, config.half_life, tuple(sorted(config.rewards.items()))
        with self._lock:
            head, rewritten = app.state.position, app.writer.rewritten
            found = self._read.get(key)
            if found is None or found.rewritten != rewritten or found.position > head:
                worth = {**app.config.weights, **config.rewards}
                found = self._read[key] = _Read(
                    Feedback(
                        WIDTH,
                        lambda kind: worth.get(kind, 0.0),
                        int(duration(config.horizon)),
                        duration(config.half_life) if config.half_life else 0.0,
                    ),
                    rewritten,
                )
            return found.upto(app, head)


class _Read:
    """A log read up to a position."""

    def __init__(self, feedback: Feedback, rewritten: int) -> None:
        self.feedback, self.rewritten, self.position = feedback, rewritten, 0
        self._known: tuple[int, Posterior] | None = None

    def upto(self, app: Limner, head: int) -> Posterior:
        if self.position < head:
            for _, batch in app.store.log.read(self.position, head):
                self.feedback.read(batch)
            self.position = head
        sums = self.feedback.settle(app.now())
        if self._known is None or self._known[0] != sums.changes:
            self._known = sums.changes, Posterior.of(sums)
        return self._known[1]
