"""An import folds one batch while it writes the next: nothing of it may show in the result."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from limner.app import Limner
from limner.config import parse
from limner.profile.state import ProfileState
from limner.profile.writer import Writer
from limner.sources import files, synthetic
from limner.sources.synthetic import Shop

SHOP = Shop(events=6_000, users=300, items=200, seed=5)
PART = 700


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop's events, in row groups of a few hundred, so that they come in many batches."""
    path = tmp_path_factory.mktemp("shop") / "events.parquet"
    table = pa.concat_tables(synthetic.events(SHOP))
    pq.write_table(table, path, row_group_size=PART)
    return path


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    read = files.read_file

    def smaller(*args: Any, **kwargs: Any) -> Iterator[Any]:
        return read(*args, **{**kwargs, "batch_rows": PART})

    monkeypatch.setattr(files, "read_file", smaller)


def opened(folder: Path) -> Limner:
    folder.mkdir(exist_ok=True)
    return Limner.open(
        config=parse({"store": f"sqlite:///{folder}/shop.db", "domain": "ecommerce",
                      "clock": "events"})
    )  # fmt: skip


def test_every_batch_but_the_last_is_folded_while_the_next_is_written(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folding: list[str] = []
    fold = Writer._fold

    def noted(self: Writer, *args: Any, **kwargs: Any) -> Any:
        folding.append(threading.current_thread().name)
        return fold(self, *args, **kwargs)

    monkeypatch.setattr(Writer, "_fold", noted)
    with opened(tmp_path / "shop") as app:
        done = app.import_file(path)
        assert done.entry.added == SHOP.events
        assert app.state.position == app.store.log.head() == SHOP.events
        assert folding.count("limner-fold") == len(folding) - 1 >= 7
        assert not app.replay().differences


def test_it_ends_as_one_batch_does(path: Path, tmp_path: Path) -> None:
    with opened(tmp_path / "parts") as parts, opened(tmp_path / "whole") as whole:
        parts.import_file(path)
        whole.import_file(pq.read_table(path))
        assert parts.state.position == whole.state.position
        for number in range(0, SHOP.users, 7):
            user = synthetic.user_name(number)
            mine, theirs = parts.portrait(user), whole.portrait(user)
            assert {k: v.text for k, v in mine.interests.items()} == {
                k: v.text for k, v in theirs.interests.items()
            }
            assert mine.behaviour.keys() == theirs.behaviour.keys()


def test_whoever_writes_between_two_batches_finds_all_of_them_folded(
    path: Path, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    with opened(tmp_path / "shop") as app:

        def look(stage: str, done: int, total: int) -> None:
            with app.writer.commit_lock:
                seen.append((app.state.position, app.store.log.head()))

        app.import_file(path, progress=look)
        assert len(seen) >= 8 and all(state == log for state, log in seen)
        assert not app.replay().differences


def test_a_snapshot_between_two_batches_is_one_of_the_state_it_says(
    path: Path, tmp_path: Path
) -> None:
    with opened(tmp_path / "shop") as app:

        def keep(stage: str, done: int, total: int) -> None:
            if stage == "events" and done < SHOP.events:
                app.snapshots.join()
                app.save_snapshot(wait=False)

        app.import_file(path, progress=keep)
        app.snapshots.join()
        assert PART < app._snapshot_at < SHOP.events
        # as one that is killed here finds it again
        shutil.copytree(tmp_path / "shop", tmp_path / "killed")
    with opened(tmp_path / "killed") as app:
        assert app.state.position == SHOP.events
        assert not app.replay().differences


def test_a_state_that_fails_to_fold_is_built_anew(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = iter([False, False, True])
    fold = ProfileState.fold

    def once(self: ProfileState, *args: Any) -> Any:
        if next(failing, False):
            raise MemoryError("no room")
        return fold(self, *args)

    monkeypatch.setattr(ProfileState, "fold", once)
    with opened(tmp_path / "shop") as app:
        done = app.import_file(path)
        assert done.entry.added == SHOP.events == app.state.position
        assert not app.writer.broken and not app.replay().differences


def test_what_cannot_be_written_leaves_what_was(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path / "shop") as app:
        append, calls = type(app.store.log).append, []

        def full(self: Any, batch: Any) -> Any:
            calls.append(len(batch))
            if len(calls) == 4:
                raise OSError("no space left on device")
            return append(self, batch)

        monkeypatch.setattr(type(app.store.log), "append", full)
        with pytest.raises(OSError, match="no space"):
            app.import_file(path)
        app.record({"user_id": "late", "item_id": "i1", "event_type": "view", "event_id": "1"})
        assert app.state.position == app.store.log.head() == sum(calls[:3]) + 1
        assert app.import_file(path).entry.repeated == sum(calls[:3])
        assert app.state.position == SHOP.events + 1
        assert not app.replay().differences
