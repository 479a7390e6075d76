"""What a server does beside answering."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from limner.app import Limner
from limner.config import parse
from limner.model.protocol import Progress
from limner.serve.background import Trainer


@pytest.fixture
def app() -> Iterator[Limner]:
    with Limner.open(config=parse({"store": "memory:", "train": {"sequence": False}})) as app:
        yield app


def wait(trainer: Trainer) -> None:
    deadline = time.monotonic() + 20
    while trainer.training.state == "running" and time.monotonic() < deadline:
        time.sleep(0.01)


def test_a_training_that_cannot_be_says_why(app: Limner) -> None:
    trainer = Trainer(app)
    assert trainer.start()
    wait(trainer)
    assert trainer.training.state == "failed"
    assert trainer.training.error is not None
    assert "nothing to learn from" in trainer.training.error.what
    assert "limner import" in trainer.training.error.mend


def test_one_training_at_a_time_and_it_can_be_stopped(
    app: Limner, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()

    def forever(*, start: str, progress: Progress) -> None:
        for step in range(10_000):
            progress("endless", step, 10_000)
            begun.set()
            time.sleep(0.001)

    monkeypatch.setattr(app, "train", forever)
    trainer = Trainer(app)
    assert trainer.start()
    assert begun.wait(10)
    assert not trainer.start()
    assert trainer.training.stage == "endless"
    trainer.stop()
    assert trainer.training.state == "failed"
    assert trainer.training.error is not None
    assert trainer.training.error.what == "the server was stopped"
