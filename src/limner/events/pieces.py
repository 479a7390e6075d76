"""A batch in pieces: what is said of its rows together is said before it is cut."""

from __future__ import annotations

import pyarrow as pa

from limner.events.raw import RawBatch
from limner.events.typed import REPEATED, Typed, compact


def cut(raw: RawBatch) -> RawBatch:
    """The batch ready for `piece`: each row says whether its content came before in the batch.

    Without that an identical line would be found or not by where the batch was cut.
    """
    rows = pa.array(Typed(raw).again())
    return RawBatch(raw.table.append_column(REPEATED, rows), raw.where, raw.source)


def piece(raw: RawBatch, start: int, stop: int) -> RawBatch:
    """Rows `start` to `stop` of a batch, with no more texts in its dictionaries than they use."""
    table = raw.table.slice(start, stop - start).combine_chunks()
    for place, column in enumerate(table.columns):
        if pa.types.is_dictionary(column.type):
            table = table.set_column(place, table.field(place).name, compact(column))
    return RawBatch(table, raw.where, raw.source)
