"""What a server does beside answering: training a model, in a thread of its own."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Literal

from limner.app import Limner, Trained
from limner.errors import LimnerError, ModelError


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a training failed."""

    what: str
    where: str = ""
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Training:
    """The training that a server runs, or has run last: its stage, `done` of `total` steps."""

    state: Literal["never", "running", "done", "failed"] = "never"
    stage: str = ""
    done: int = 0
    total: int = 0
    trained: Trained | None = None
    error: Failure | None = None


class _Stopped(Exception):
    """The server ends, so the training does."""


class Trainer:
    """Trains one model at a time, in a thread of its own, while the server answers."""

    def __init__(self, app: Limner) -> None:
        self.training = Training()
        self._app = app
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> bool:
        """Begin to train; False if a training is under way already."""
        with self._lock:
            if self.training.state == "running":
                return False
            self.training = Training("running", "reading the log")
            self._thread = threading.Thread(target=self._run, name="limner-train", daemon=True)
            self._thread.start()
            return True

    def train(self) -> str:
        """Train and wait for it, as a job; what came of it in a few words. Raises ModelError."""
        if not self.start():
            return "a training was under way"
        assert self._thread is not None
        self._thread.join()
        done = self.training
        if done.error is not None:
            raise ModelError(done.error.what, where=done.error.where, mend=done.error.mend)
        return f"model {done.trained.version}" if done.trained else ""

    def stop(self, seconds: float = 20.0) -> None:
        """Have a running training give up, at its next step."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        try:
            trained = self._app.train(progress=self._progress)
            self._app.scorer()
            self.training = Training("done", trained=trained)
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
