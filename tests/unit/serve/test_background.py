"""What a server does beside answering."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from limner.app import Limner
from limner.config import parse
from limner.model.protocol import Progress
from limner.serve import background
from limner.serve.background import Trainer, upkeep


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

    def forever(*, progress: Progress) -> None:
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


def test_percentiles_follow_while_a_server_runs(
    app: Limner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "UPKEEP_SECONDS", 0.01)
    stop = threading.Event()
    keeper = threading.Thread(target=upkeep, args=(app, stop))
    keeper.start()
    try:
        app.record(
            [
                {"user_id": f"u{n}", "item_id": "tea", "event_type": "purchase", "value": n + 1.0}
                for n in range(20)
            ]
        )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            spend = app.portrait("u19").value["spend"]
            if spend.percentile is not None:
                break
            time.sleep(0.01)
        assert spend.percentile is not None
        assert spend.percentile > 0.8
    finally:
        stop.set()
        keeper.join()
