"""Requests that are recorded together do not judge each other's rows."""

from __future__ import annotations

import pytest

from limner.app import Limner
from limner.app.intake import record_bodies
from limner.profile.portrait import Portrait
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


def test_a_portrait_that_fails_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Limner.open("memory://", domain="ecommerce")
    app.record([{"user_id": u, "event_type": "view", "item_id": "i"} for u in ("u1", "u2")])
    read = app._portrait

    def failing(user_id: str, **asked: object) -> object:
        if user_id == "u1":
            raise ValueError("broken")
        return read(user_id, **asked)  # type: ignore[arg-type]

    monkeypatch.setattr(app, "_portrait", failing)
    broken, strange, whole = app.portraits(["u1", "nobody", "u2"])
    assert isinstance(broken, ValueError) and isinstance(strange, Exception)
    assert isinstance(whole, Portrait) and whole.user_id == "u2"
