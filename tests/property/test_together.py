"""Requests that are recorded in one commit come out as if each had been recorded alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limner.app import Limner
from limner.app.intake import Body, record_bodies
from limner.profile.writer import Recorded
from limner.sources.payloads import parse_together
from limner.testing.contracts import contents

NOW = 1_700_000_000_000_000

_MAYBE: dict[str, st.SearchStrategy[Any]] = {
    "event_id": st.sampled_from(["a", "b", "c", 7]),
    "timestamp": st.sampled_from([1_699_000_000, 1_699_000_500, "2023-11-01", "soon", 2**70]),
    "source": st.sampled_from(["till", "web", "", 5]),
    "value": st.sampled_from([1, 2.5, "3", "x", 1e20, []]),
    "quantity": st.sampled_from([1, 2, "many"]),
    "price": st.sampled_from([1, 2.5, 3]),
    "colour": st.sampled_from(["red", "7", "绿"]),
    "tags": st.sampled_from([["a"], ["a", "b"], []]),
    "target_user_id": st.sampled_from(["u1", "u2", "u9"]),
}
EVENTS: st.SearchStrategy[Any] = st.one_of(
    st.fixed_dictionaries(
        {
            "user_id": st.sampled_from(["u1", "u2", "u3", None, {}]),
            "event_type": st.sampled_from(["view", "purchase", "$alias", "$user", "$item", ""]),
            "item_id": st.sampled_from(["i1", "i2", 3]),
        },
        optional=_MAYBE,
    ),
    st.fixed_dictionaries(
        {
            "user_id": st.sampled_from(["u1", "u2"]),
            "event_type": st.just("view"),
            "item_id": st.just("i1"),
        },
        optional={"event_id": st.sampled_from(["a", "b"])},
    ),
    st.sampled_from([3, None, "x", []]),
)
BODIES = st.one_of(
    st.lists(EVENTS, max_size=5).map(lambda events: (json.dumps(events).encode(), "")),
    st.lists(EVENTS, min_size=1, max_size=4).map(
        lambda events: (b"\n".join(json.dumps(e).encode() for e in events), "application/x-ndjson")
    ),
    st.sampled_from([(b"{", ""), (b"", ""), (b"\xff", ""), (b'[{"a":NaN},{"user_id":"u1"}]', "")]),
)


class _Clock:
    """Stands still; a test moves it."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


@contextmanager
def opened(keys: Any = None) -> Iterator[Limner]:
    with Limner.open("memory:", clock=_Clock()) as app:
        if keys is not None:
            app.keys = app.writer.keys = keys
        yield app


def told(outcome: Recorded | Exception) -> Any:
    if isinstance(outcome, Exception):
        return type(outcome), str(outcome)
    refused = [(row.line, row.rule, row.reason) for row in outcome.refused]
    return outcome.added, outcome.repeated, sorted(refused)


def spelt(value: Any) -> str:
    try:
        return str(float(value))
    except (TypeError, ValueError):
        return str(value)


def state_of(app: Limner, met: bool) -> Any:
    """All that a reader can see, but for when it was received; held users only if `met`."""
    log = [
        {n: v for n, v in row.items() if n not in ("position", "received_at", "event_id")}
        for row in contents(app.store.log)
    ]
    held = []
    for row in app.store.quarantine.rows(limit=None):
        # but for the seal, which has a nonce, and how a number is spelt that came beside text
        left_out = ("sealed",) if met else ("sealed", "user_id", "target_user_id")
        fields = {n: spelt(v) for n, v in row.row.items() if n not in left_out}
        held.append((row.where, row.line, row.rule, row.reason, str(sorted(fields.items()))))
    users = sorted(row["user_id"] for row in log if row.get("user_id"))
    portraits = []
    for user in dict.fromkeys(users):
        own = app.own_id(user)
        assert own is not None
        portraits.append(msgspec.to_builtins(app.portrait(own), enc_hook=str))
    return sorted(map(str, log)), sorted(held), portraits


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(bodies=st.lists(BODIES, min_size=1, max_size=5), met=st.booleans())
def test_together_is_one_after_the_other(bodies: list[Body], met: bool) -> None:
    """`met`: whether users are known before. A refused row names a user of whom the store keeps an
    identity; of one who is new that depends on whether a good row of theirs came before it, or
    with it, so there it is not compared.
    """
    with opened() as one, opened(one.keys) as other:
        for app in (one, other) if met else ():
            app.record([{"user_id": u, "event_type": "view", "item_id": "i1", "event_id": f"of {u}",
                         "timestamp": NOW} for u in ("u1", "u2", "u3", "u9")])  # fmt: skip
        one._received = NOW - 1
        together = record_bodies(one, bodies, where="POST")
        alone = []
        for place, body in enumerate(bodies):
            other._received = NOW + place - 1  # as they are received together
            alone += record_bodies(other, [body], where="POST")
        assert [told(each) for each in together] == [told(each) for each in alone]
        for mine, others in zip(state_of(one, met), state_of(other, met), strict=True):
            assert mine == others
        for outcome in together:
            if isinstance(outcome, Recorded):
                assert outcome.as_of <= one.state.position
        again = [told(each) for each in record_bodies(one, bodies, where="POST")]
        assert len(again) == len(together)


def test_parse_together_numbers_each_body_from_one() -> None:
    body = (b'[{"user_id": "u"}, 3]', "")
    batches, refused, failed = parse_together([body, (b"{", ""), body], where="w", now=NOW,
                                              received=NOW)  # fmt: skip
    lines = [line for batch in batches for line in batch.table["line"].to_pylist()]
    assert [line % (1 << 20) for line in lines] == [1, 1]
    assert [row.line % (1 << 20) for row in refused] == [2, 2]
    assert list(failed) == [1]
