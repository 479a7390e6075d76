"""`python -m benchmarks`: speed, then quality, each as one JSON document on stdout."""

from __future__ import annotations

import json
import sys

from benchmarks import next_basket, speed

if __name__ == "__main__":
    json.dump({"speed": speed.main(), "next_basket": next_basket.measured()}, sys.stdout, indent=2)
    print()
