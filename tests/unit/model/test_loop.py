"""Training on several processes is training on one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.model.small import shop, silent

from limner.model.network import SequenceConfig
from limner.model.sequence import SequenceModel

pytest.importorskip("torch")

TRAINS = """
import json, sys
import torch
from tests.unit.model.test_loop import trained
rank, folder = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group(
    "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
print(json.dumps(trained(accumulate=1)))
"""


def trained(accumulate: int) -> list[float]:
    data, features = shop()
    config = SequenceConfig(depth=1, passes=2, tokens=512, accumulate=accumulate, dropout=0.0)
    model = SequenceModel(config)
    model.fit(data, features, progress=silent)
    vectors: list[float] = model.vectors.ravel().tolist()
    return vectors


def in_two_processes(folder: Path) -> list[list[float]]:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", TRAINS, str(rank), str(folder)], stdout=subprocess.PIPE
        )
        for rank in range(2)
    ]
    found = []
    for process in started:
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        found.append(json.loads(out.splitlines()[-1]))
    return found


def test_two_processes_with_half_the_batches_each_learn_the_same(tmp_path: Path) -> None:
    """Data-parallel over gloo: each step's gradient is the mean over both processes' batches."""
    alone = trained(accumulate=2)
    one, two = in_two_processes(tmp_path)
    assert one == two
    assert one == pytest.approx(alone, rel=1e-3, abs=1e-4)
