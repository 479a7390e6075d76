from __future__ import annotations

from limner.app import Limner
from limner.model.interactions import interactions

ROWS = [
    {"user_id": "buyer", "item_id": "tea", "event_type": "purchase", "timestamp": 1_700_000_000},
    {"user_id": "shown", "item_id": "tea", "event_type": "impression", "timestamp": 1_700_000_001},
]


def test_whoever_has_nothing_to_learn_from_is_no_user_however_the_log_was_cut() -> None:
    for parts in ([ROWS], [ROWS[:1], ROWS[1:]]):
        with Limner.open("memory:", domain="ecommerce") as app:
            for part in parts:
                app.record(part)
            told = app.writer.meant.read(app.state.position)
            data, users = interactions(told, app.state.catalog, app.config.weights)
            assert [app.own_id(user) for user in users] == ["buyer"]
            assert data.offsets.tolist() == [0, 1]
