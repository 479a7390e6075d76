"""Requests that are recorded together do not judge each other's rows."""

from __future__ import annotations

from limner.app import Limner
from limner.app.intake import record_bodies
from limner.profile.writer import Recorded

KIND = "application/json"
ONE = b'{"user_id": "u1", "event_type": "$user", "properties": {"city": "Ulm"}}'


def test_a_line_like_anothers_request_is_no_duplicate_line() -> None:
    app = Limner.open("memory://", domain="ecommerce")
    bodies = [(ONE, KIND), (ONE, KIND), (b"[" + ONE + b"," + ONE + b"]", KIND)]
    found = record_bodies(app, bodies, where="test")
    assert all(isinstance(each, Recorded) for each in found)
    told = [(r.added, r.repeated, len(r.refused)) for r in found if isinstance(r, Recorded)]
    assert told == [(1, 0, 0), (0, 1, 0), (0, 1, 1)]
