"""`python -m benchmarks`: speed, then quality, each as one JSON document on stdout.

Speed is what `limner bench` measures, on the size of shop that its targets are stated for.
"""

from __future__ import annotations

import json
import sys

from benchmarks import next_basket
from limner.app import quiet
from limner.cli.bench import FIGURES, measure

if __name__ == "__main__":
    figures = tuple(name for name in FIGURES if name != "feast")
    speed = measure(figures, events=10_000_000, users=1_000_000, progress=quiet)
    json.dump({"speed": speed, "next_basket": next_basket.measured()}, sys.stdout, indent=2)
    print()
