"""What is usual, learned anew after rows were taken out of the log.

Medians, deviations and counts of flags rest on all rows; what a removed row added to them cannot
be taken out again, since nobody remembers what kind its item was then. So they are learned anew
from the log beside the writer: at once where that takes no time, else in a thread.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from limner.app.rebuilding import Stopped, built

if TYPE_CHECKING:
    from limner.app.limner import Limner

DUE = "norms due"
"""What the store remembers until a snapshot has norms without the removed rows."""

AT_ONCE = 100_000
"""Rows of the log up to which whoever removes some waits for it."""

_log = logging.getLogger(__name__)


class Relearning:
    """Norms of an app, learned anew beside it when rows were removed."""

    def __init__(self, app: Limner) -> None:
        self._app = app
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._busy = False
        """Whether the thread will still see what is removed; under the writer's commit lock."""
        self._fresh = True

    @property
    def due(self) -> bool:
        """Whether the norms of the last snapshot may hold rows that were removed."""
        return bool(self._app.store.get_meta(DUE))

    def ask(self) -> None:
        """Rows are being removed; to be called inside the transaction that does it."""
        self._app.store.set_meta(DUE, "1")

    def begin(self) -> None:
        """Learn anew: now if the log is short, else in the background."""
        app = self._app
        with app.writer.commit_lock:
            self._fresh = False
            if self._busy:
                return
            self._busy = True
            if app.state.position <= AT_ONCE:
                try:
                    self._learn()
                finally:
                    self._busy = False
            else:
                self._thread = threading.Thread(target=self._run, name="limner-norms", daemon=True)
                self._thread.start()

    def wait(self, seconds: float | None = None) -> bool:
        """Whether the norms are what the log says, after at most so long."""
        if self._thread is not None:
            self._thread.join(seconds)
        return self._fresh

    def stop(self) -> None:
        """Give up; the next opening begins again."""
        self._stop.set()
        self.wait()

    def kept(self) -> None:
        """The last snapshot has the norms as they are."""
        if self.due and self._fresh:
            with self._app.store.transaction():
                self._app.store.set_meta(DUE, "")

    def _run(self) -> None:
        try:
            self._learn()
        except Stopped:
            pass
        except Exception:  # the next removal, or the next start, tries again
            _log.exception("what is usual could not be learned anew")
            self._busy = False

    def _learn(self) -> None:
        app = self._app
        while True:
            state, rewritten = app.state, app.writer.rewritten
            beside = built(app.writer, lambda: app.state.anew(()), self._step)
            with app.writer.commit_lock:
                # the codes of the kinds of items are the state's own
                if app.state is state and app.writer.rewritten == rewritten:
                    beside.catch_up(stop=state.position)
                    app.writer.norms = beside.norms
                    app._snapshot_at = -1  # the last one has the old norms
                    self._busy, self._fresh = False, True
                    return

    def _step(self, done: int, total: int) -> None:
        if self._stop.is_set():
            raise Stopped
