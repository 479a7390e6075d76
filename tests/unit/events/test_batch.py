"""Property columns of any type can be read as codes and numbers, and put end to end."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from limner.app import Limner
from limner.catalog.catalog import Catalog
from limner.config import parse
from limner.events.batch import EventBatch, concat
from limner.testing.shop import START

VALUES: dict[str, Any] = {
    "text": "a",
    "number": 2.5,
    "integer": 3,
    "boolean": True,
    "list": ["a", "b"],
    "numbers": [1, 2],
    "empty": [],
    "object": {"a": 1},
    "null": None,
}


def batch(value: Any) -> EventBatch:
    return EventBatch.of([{"user_id": bytes(16), "event_type": "x", "properties.p": value}])


@pytest.mark.parametrize("value", VALUES.values(), ids=list(VALUES))
def test_codes_and_numbers_of_any_type(value: Any) -> None:
    codes, values = batch(value).codes("properties.p")
    assert (codes[0] < 0) == (value is None)
    assert all(np.ndim(v) == 0 for v in values)
    number = batch(value).numbers("properties.p")[0]
    if isinstance(value, bool | int | float):
        assert number == float(value)
    else:
        assert np.isnan(number)


@pytest.mark.parametrize(("a", "b"), list(product(VALUES.values(), repeat=2)))
def test_any_two_types_go_end_to_end(a: Any, b: Any) -> None:
    whole = concat([batch(a), batch(b)])
    assert len(whole) == 2
    assert len(whole.codes("properties.p")[0]) == len(whole.numbers("properties.p")) == 2


@pytest.mark.parametrize("kind", VALUES)
def test_every_facet_takes_any_type(kind: str) -> None:
    value = VALUES[kind]
    app = Limner.open(config=parse({"store": "memory:"}))
    event = {"user_id": "u", "item_id": "i", "event_type": "purchase", "value": 2.0}
    names = ["discount", "coupon_discount", "coupon", "method", "reason", "device", "channel"]
    names += ["query", "department", "category", "type", "brand", "price"]
    properties = dict.fromkeys(names, value)
    app.put_item("i", properties)
    app.put_user("u", properties)
    app.record([{**event, "timestamp": START, "properties": properties}])
    app.record([{**event, "timestamp": START + 1, "properties": dict.fromkeys(names, "text")}])
    seen = app.portrait("u")
    assert app.portrait("u", at=START + 2).behaviour["events"].value == {"purchase": 2}
    for section, slots in seen.sections().items():
        for name in slots:
            app.evidence("u", f"{section}.{name}")
    app.erase("u")
    app.close()


def test_a_list_means_the_same_beside_text_as_alone() -> None:
    app = Limner.open("memory:")
    for tags in (["a", "b"], "c"):
        app.put_item(f"i{len(tags)}", {"tags": tags})
    live = app.state.catalog
    positions, whole = next(iter(app.store.log.read()))
    one = concat([batch for _, batch in app.store.log.read()])
    again = Catalog()
    again.put(one, np.arange(len(one)))
    assert positions == 0 and len(whole)
    assert [again.describe(item) for item in (0, 1)] == [live.describe(item) for item in (0, 1)]
