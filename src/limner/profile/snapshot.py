"""Snapshots of the state: what makes a start quick. The log stays the only truth.

A snapshot is a folder named by the position it reflects, written beside the last one and renamed
into place, so that a crash leaves the old or the new; one that is torn, altered or of another
layout is ignored, and the state is rebuilt from the log. `snapshot_files` says what it holds.

In the background a snapshot is written by a forked process, which sees the state as it was at the
fork: the writer stops only for that moment.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import threading
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from limner.events.log import Position
from limner.profile import snapshot_files as files
from limner.profile.population import Population
from limner.profile.snapshot_files import Arrays
from limner.profile.state import ProfileState


@dataclass(slots=True)
class Snapshots:
    """The snapshots of one log, in a folder; of several only the newest is kept.

    `log` names the log they belong to, so that none is ever read against another. Without a
    folder (a store in memory) there are none.
    """

    folder: Path | None
    log: str
    name: str = "snapshots"
    _child: int | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def save(
        self, state: ProfileState, population: Population, extra: Arrays, *, wait: bool = True
    ) -> bool:
        """Write a snapshot of the state and remove older ones; `extra` arrays go with it.

        Without `wait` it is written in the background, where the system can fork; whoever calls
        holds the lock of the state, and only until this returns. Whether it was begun: not while
        another is being written.
        """
        if self.folder is None:
            return True
        with self._lock:
            if wait or not hasattr(os, "fork"):
                self.join()
                files.write(self.folder, state, population, self.log, extra)
                return True
            if self.busy:
                return False
            with warnings.catch_warnings():
                # that other threads may hold locks: the child takes none of theirs
                warnings.simplefilter("ignore", DeprecationWarning)
                child = os.fork()
            if child == 0:
                _write_and_end(self.folder, state, population, self.log, extra)
            self._child = child
            return True

    def join(self) -> bool:
        """Wait for what is being written in the background; whether it was written."""
        with self._lock:
            if self._child is None:
                return True
            _, status = os.waitpid(self._child, 0)
            self._child = None
            return status == 0

    def claim(self) -> None:
        """Stop what a killed process may still be writing, and remove it: this one writes now."""
        self._stop()

    def load(
        self, state: ProfileState, head: Position, *, verify: bool = True
    ) -> tuple[Population, Arrays] | None:
        """Fill an empty state from the newest sound snapshot; its population and extra arrays.

        None if there is none of this log, layout and format, at or before the log's `head`.
        To `verify` reads every byte once, about a second for 1 GB; without, only the manifest
        and the sizes of files are checked, which is enough to look at one user.
        """
        for _ in range(3):  # a writer may replace the one being opened
            try:
                return self._load(state, head, verify)
            except FileNotFoundError:
                continue
        return None

    def _load(
        self, state: ProfileState, head: Position, verify: bool
    ) -> tuple[Population, Arrays] | None:
        for path in self._newest_first():
            manifest = files.manifest_of(path)
            if (
                manifest is not None
                and manifest.layout == state.layout
                and manifest.log == self.log
                and manifest.position <= head
                and (not verify or files.unaltered(path, manifest))
            ):
                return files.fill(path, state, manifest)
        return None

    def newest(self) -> tuple[Position, int] | None:
        """The position of the newest snapshot and when it was written (µs); None if none is."""
        for path in self._newest_first():
            with suppress(OSError):  # a newer one takes its place
                return int(path.name.partition("-")[0]), path.stat().st_mtime_ns // 1_000
        return None

    def drop(self) -> None:
        """Remove all snapshots: the log changed behind them."""
        with self._lock:
            self._stop()
            for path in self._newest_first():
                shutil.rmtree(path)

    def erase(self, user: bytes) -> int:
        """Remove the snapshots that hold a user; the state writes its next one without."""
        with self._lock:
            self._stop()
            held = [path for path in self._newest_first() if files.holds(path, user)]
            for path in held:
                shutil.rmtree(path)
            return len(held)

    def holds(self, user: bytes) -> bool:
        """Whether any snapshot holds this pseudonym."""
        return any(files.holds(path, user) for path in self._newest_first())

    @property
    def busy(self) -> bool:
        """Whether one is being written in the background."""
        with self._lock:
            if self._child is None:
                return False
            done, _ = os.waitpid(self._child, os.WNOHANG)
            if done:
                self._child = None
            return not done

    def _stop(self) -> None:
        """End what is being written; without its folder a writer cannot finish."""
        if self._child is not None:
            with suppress(ProcessLookupError):
                os.kill(self._child, signal.SIGKILL)
            self.join()
        if self.folder is not None and self.folder.is_dir():
            for path in self.folder.glob(".writing-*"):
                shutil.rmtree(path, ignore_errors=True)

    def _newest_first(self) -> list[Path]:
        if self.folder is None or not self.folder.is_dir():
            return []
        return sorted(self.folder.glob("[0-9]*"), reverse=True)


def _write_and_end(*given: Any) -> NoReturn:
    """In the forked process: write a snapshot and end, whatever happens."""
    code = 1
    try:
        gc.disable()  # so that nothing of the parent is ended here
        # not to hold the store's lock, or a socket, should the parent be killed
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        with suppress(OSError):
            os.nice(5)
        files.write(*given)
        code = 0
    finally:
        os._exit(code)
