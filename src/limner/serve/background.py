"""What a server does beside answering, each in a thread of its own: training, and keeping warm."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from limner.app import Limner, Trained, Updated
from limner.errors import LimnerError, ModelError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a training failed."""

    what: str
    where: str = ""
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Training:
    """The training that a server runs, or has run last: its stage, `done` of `total` steps.

    What came of it is in `trained`, or of an update in `updated`.
    """

    state: Literal["never", "running", "done", "failed"] = "never"
    stage: str = ""
    done: int = 0
    total: int = 0
    trained: Trained | None = None
    updated: Updated | None = None
    error: Failure | None = None


class _Stopped(Exception):
    """The server ends, so the training does."""


class Warming:
    """Keeps what requests share ready, in a thread of its own, from `start` to `stop`."""

    def __init__(self, app: Limner) -> None:
        self._app = app
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="limner-warm", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(1.0):
            try:
                self._app.keep_warm()
            except Exception:  # then requests do it themselves
                _log.exception("what requests share could not be renewed")


class Trainer:
    """Trains or updates one model at a time, in a thread of its own, while the server answers."""

    def __init__(self, app: Limner) -> None:
        self.training = Training()
        self._app = app
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, *, update: bool = False, source: str = "") -> bool:
        """Begin to train (from a version, if `source` names one), or to update.

        False if either is under way already.
        """
        with self._lock:
            if self.training.state == "running":
                return False
            self.training = Training("running", "reading the log")
            work = self._update if update else partial(self._train, source)
            self._thread = threading.Thread(
                target=self._run, args=[work], name="limner-train", daemon=True
            )
            self._thread.start()
            return True

    def train(self) -> str:
        """Train and wait for it, as a job; what came of it in a few words. Raises ModelError."""
        if not self.start():
            return "a training was under way"
        done = self._waited()
        return f"model {done.trained.version}" if done.trained else ""

    def update(self) -> str:
        """Update and wait for it, as `train` does. Raises ModelError."""
        if not self.start(update=True):
            return "a training was under way"
        done = self._waited()
        return done.updated.said if done.updated else ""

    def _waited(self) -> Training:
        assert self._thread is not None
        self._thread.join()
        done = self.training
        if done.error is not None:
            raise ModelError(done.error.what, where=done.error.where, mend=done.error.mend)
        return done

    def stop(self, seconds: float = 20.0) -> None:
        """Have a running training give up, at its next step."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(seconds)

    def _train(self, source: str) -> Training:
        trained = self._app.train(start=source, progress=self._progress)
        return Training("done", trained=trained)

    def _update(self) -> Training:
        return Training("done", updated=self._app.update(progress=self._progress))

    def _run(self, work: Callable[[], Training]) -> None:
        try:
            done = work()
            self._app.scorer()
            self.training = done
        except _Stopped:
            self.training = Training("failed", error=Failure("the server was stopped"))
        except LimnerError as error:
            failure = Failure(error.what, error.where, error.mend)
            self.training = Training("failed", error=failure)
        except Exception as error:  # whatever it is, whoever asks must learn of it
            self.training = Training("failed", error=Failure(f"{type(error).__name__}: {error}"))

    def _progress(self, stage: str, done: int, total: int) -> None:
        if self._stop.is_set():
            raise _Stopped
        self.training = replace(self.training, stage=stage, done=done, total=total)
