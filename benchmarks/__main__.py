"""`python -m benchmarks`: speed, then quality, each as one JSON document on stdout.

Speed is what `limner bench` measures, on the size of shop that its targets are stated for.
"""

from __future__ import annotations

import json
import os
import sys

from benchmarks import adult, next_basket
from limner.app import quiet
from limner.cli.bench import FIGURES, measure

if __name__ == "__main__":
    figures = tuple(name for name in FIGURES if name != "feast")
    speed = measure(figures, events=10_000_000, users=1_000_000, progress=quiet)
    found = {"speed": speed, "next_basket": next_basket.measured()}
    if os.environ.get("LIMNER_DATA"):
        found["label"] = adult.measured()
    json.dump(found, sys.stdout, indent=2)
    print()
