"""What models learn from, taken out of the log: interactions in order, and items' attributes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from limner.catalog.catalog import Catalog, hash64
from limner.catalog.content import MEDIA
from limner.catalog.known import Content
from limner.events.batch import F64, I32, I64, EventBatch
from limner.model.protocol import Interactions, ItemFeatures


def interactions(
    rows_read: Iterable[tuple[I64, EventBatch]],
    catalog: Catalog,
    weights: Mapping[str, float],
    *,
    before: int | None = None,
) -> tuple[Interactions, list[bytes]]:
    """(interactions, the users they belong to) of event types that have a weight.

    `rows_read`: (positions, rows) of the log as it is meant, up to a position. Only events
    before the time `before`: no future (law 4).
    """
    users: dict[bytes, int] = {}
    columns: list[tuple[I64, I32, I64, F64, I64, I64, F64]] = []
    for positions, batch in rows_read:
        codes, types = batch.codes("event_type")
        worth = np.array([weights.get(name, 0.0) for name in types] + [0.0])[codes]
        who, known = batch.codes("user_id")
        what, names = batch.codes("item_id")
        times = batch.times()
        mask = (worth != 0) & (who >= 0) & (what >= 0)
        # not whoever else is in the batch's dictionary: that depends on how the log was cut
        for code in np.unique(who[mask]).tolist():
            users.setdefault(known[code], len(users))
        if before is not None:
            mask &= times < before
        rows = np.flatnonzero(mask)
        if not len(rows):
            continue
        numbers = np.array([users.get(user, -1) for user in known], dtype=np.int64)
        items = catalog.ids.translate(what[rows], names)
        grouped, groups = batch.codes("group_id")
        hashes = np.array([hash64(name) >> 1 for name in groups] + [-1], dtype=np.int64)
        columns.append(
            (
                numbers[who[rows]],
                items,
                times[rows],
                worth[rows],
                hashes[grouped[rows]],
                positions[rows],
                batch.numbers("value")[rows],
            )
        )
    if not columns:
        none = np.empty(0, dtype=np.int64)
        empty = np.zeros(1, dtype=np.int64)
        return (
            Interactions(
                empty, none.astype(np.int32), none, none.astype(float), none, none, len(catalog)
            ),
            [],
        )
    user, item, time, weight, group, position, value = (
        np.concatenate([part[place] for part in columns]) for place in range(7)
    )
    # users without a row here (all before the cutoff) keep an empty history
    # users in the order of their first row, whatever order the batches' dictionaries had: what is
    # learned from the same log with the same seed must not depend on how it was cut
    first_row = np.full(len(users), np.iinfo(np.int64).max)
    np.minimum.at(first_row, user, position)
    by_first_row = np.argsort(first_row, kind="stable")
    number = np.empty_like(by_first_row)
    number[by_first_row] = np.arange(len(by_first_row))
    user = number[user]
    names_of_users = list(users)
    order = np.lexsort((position, time, user))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(user, minlength=len(users)))])
    return (
        Interactions(
            offsets,
            item[order].astype(np.int32),
            time[order],
            weight[order].astype(np.float64),
            group[order],
            position[order],
            len(catalog),
            None if np.isnan(value).all() else value[order],
        ),
        [names_of_users[old] for old in by_first_row.tolist()],
    )


def features(
    catalog: Catalog, items: I64 | None = None, content: Content | None = None
) -> ItemFeatures:
    """Every attribute that groups items: those with at most half as many values as items.

    Of all items, or of some, whose rows are then in the order of `items`. With `content` the
    vectors of what they say, as far as it has been encoded.
    """
    names = [
        name
        for name in catalog.attributes
        if 0 < len(catalog.words[name]) <= max(len(catalog) // 2, 2) and name not in MEDIA
    ]
    return ItemFeatures(
        {name: catalog.codes_now(name, items) for name in names},
        {name: catalog.words[name].values for name in names},
        catalog.available() if items is None else catalog.available()[items],
        {} if content is None else content.vectors(catalog, items),
    )
