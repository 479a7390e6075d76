"""The side of `python -m benchmarks.peers` that runs where RecTools is installed.

Reads the work from the JSON file that is named, writes progress to stderr, and one JSON line to
stdout: lists of ten items a user, seconds a pass, seconds in all.
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch
from pytorch_lightning import Callback, Trainer
from rectools import Columns
from rectools.dataset import Dataset
from rectools.dataset.context import get_context
from rectools.models import HSTUModel, SASRecModel


def frame(rows: dict) -> pd.DataFrame:
    """Events as RecTools wants them; the order in time is that of the rows."""
    out = pd.DataFrame({Columns.User: rows["user"], Columns.Item: rows["item"]})
    out[Columns.Weight] = 1.0
    # RecTools orders by time alone: events of one second keep their order by nanoseconds
    out[Columns.Datetime] = pd.to_datetime(rows["time"], unit="s") + pd.to_timedelta(
        range(len(out)), unit="ns"
    )
    return out


class Passes(Callback):
    """How long each pass takes, by the clock and by the processor."""

    def __init__(self) -> None:
        self.took: list[tuple[float, float]] = []

    def on_train_epoch_start(self, *_) -> None:
        """Start the clock."""
        self.started = time.perf_counter(), time.process_time()

    def on_train_epoch_end(self, *_) -> None:
        """Stop it."""
        now = time.perf_counter(), time.process_time()
        self.took.append((now[0] - self.started[0], now[1] - self.started[1]))
        print(f"pass {len(self.took)}: {self.took[-1][0]:.1f} s", file=sys.stderr)


def made(work: dict):
    """A model with the settings of the work."""
    torch.manual_seed(work["seed"])

    def trainer() -> Trainer:
        return Trainer(
            max_epochs=work["passes"], callbacks=[Passes()], accelerator="cpu", logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip

    common = {
        "n_blocks": work["blocks"], "n_heads": work["heads"], "n_factors": work["width"],
        "dropout_rate": work["dropout"], "session_max_len": work["length"], "loss": "softmax",
        "get_trainer_func": trainer,
    }  # fmt: skip
    if work["model"] == "hstu":
        return HSTUModel(**common)
    if work["model"] == "esasrec":
        from rectools.models.nn.transformers.ligr import LiGRLayers

        return SASRecModel(
            transformer_layers_type=LiGRLayers,
            **{**common, "loss": "sampled_softmax", "n_negatives": 256},
        )
    return SASRecModel(**common)


def main() -> None:
    """Fit, list, tell."""
    work = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(work["threads"])
    learned = Dataset.construct(frame(work["learned"]))
    fitted = made(work)
    started = time.perf_counter()
    fitted.fit(learned)
    seconds = time.perf_counter() - started
    # what was passed to it is copied when it is fitted
    passes = next(one for one in fitted.fit_trainer.callbacks if isinstance(one, Passes))
    context = Dataset.construct(frame(work["contexts"]))
    users = sorted(set(work["contexts"]["user"]))
    told = {}
    if fitted.require_recommend_context:  # HSTU: when it is asked, right after what was last done
        newest = frame(work["contexts"]).groupby(Columns.User)[Columns.Datetime].max()
        told["context"] = get_context(newest.reset_index())
    found = fitted.recommend(users=users, dataset=context, k=10, filter_viewed=True, **told)
    lists = {str(u): part.tolist() for u, part in found.groupby(Columns.User)[Columns.Item]}
    print(
        json.dumps(
            {
                "version": f"RecTools {version('rectools')}, PyTorch {version('torch')}",
                "lists": lists,
                "seconds_a_pass": sum(wall for wall, _ in passes.took) / len(passes.took),
                "processor_a_pass": sum(cpu for _, cpu in passes.took) / len(passes.took),
                "seconds": seconds,
                "parameters": sum(p.numel() for p in fitted.torch_model.parameters()),
            }
        )
    )


if __name__ == "__main__":
    main()
