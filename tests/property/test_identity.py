"""An anonymous history that joins a user equals having known from the start."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.property.people import START, Row, events, opened, same, seen

from limner.app import Limner
from limner.errors import NotFound
from limner.events.batch import DAY
from limner.model.interactions import interactions

# without shrinking: each example opens stores, and the examples are small as they are
SLOW = [HealthCheck.too_slow]
PHASES = (Phase.explicit, Phase.generate)
JOINED = settings(max_examples=8, deadline=None, suppress_health_check=SLOW, phases=PHASES)
USERS = ["u", "anon-1", "anon-2", "other"]


def known_from_the_start(rows: list[Row]) -> Limner:
    app = opened()
    app.record([{**row, "user_id": "u" if row["user_id"] != "other" else "other"} for row in rows])
    return app


def in_parts(app: Limner, rows: list[Row], cuts: list[int], chain: bool) -> None:
    """The rows in parts; the aliases come between them, or in the midst of one."""
    one, two = sorted(min(cut, len(rows)) for cut in cuts)
    later = "anon-1" if chain else "u"
    app.record(rows[:one])
    app.record([{"type": "alias", "previousId": "anon-2", "userId": later}, *rows[one:two]])
    app.alias("anon-1", "u")
    app.record(rows[two:])


@JOINED
@given(
    rows=events(USERS),
    cuts=st.lists(st.integers(0, 24), min_size=2, max_size=2),
    chain=st.booleans(),
)
def test_a_joined_history_is_as_if_known_from_the_start(
    rows: list[Row], cuts: list[int], chain: bool
) -> None:
    with known_from_the_start(rows) as wanted, opened() as app:
        in_parts(app, rows, cuts, chain)
        for user in ("u", "other"):
            if any(row["user_id"] in ({"other"} if user == "other" else {*USERS} - {"other"})
                   for row in rows):  # fmt: skip
                same(seen(app, user), seen(wanted, user))
                at = START + 30 * DAY
                same(seen(app, user, at=at), seen(wanted, user, at=at))
        for old in ("anon-1", "anon-2"):
            same(seen(app, old), seen(app, "u"))
        before = [seen(app, user) for user in ("u", "anon-2")]
        app.writer.rebuild()  # replay from zero
        for user, was in zip(("u", "anon-2"), before, strict=True):
            same(seen(app, user), was)
        learned = [_learned(one) for one in (app, wanted)]
        assert learned[0] == learned[1]


def _learned(app: Limner) -> Any:
    """What models learn from: for each user (item, time) in order, users in any order."""
    data, users = interactions(
        app.writer.meant.read(app.state.position), app.state.catalog, app.config.weights
    )
    names = app.state.catalog.ids.values
    return sorted(
        (
            app.own_id(user),
            sorted(
                (names[item], time)
                for item, time in zip(
                    data.items[start:stop].tolist(), data.times[start:stop].tolist(), strict=True
                )
            ),
        )
        for user, start, stop in zip(users, data.offsets[:-1], data.offsets[1:], strict=True)
    )


@settings(JOINED, max_examples=3)
@given(rows=events(USERS), cuts=st.lists(st.integers(0, 24), min_size=2, max_size=2))
def test_snapshot_and_tail_keep_the_links(rows: list[Row], cuts: list[int]) -> None:
    with TemporaryDirectory() as folder, known_from_the_start([*rows, *_later(rows)]) as wanted:
        store = f"sqlite:///{folder}/shop.db"
        app = opened(store)
        in_parts(app, rows, cuts, chain=True)
        app.save_snapshot()
        app.record(_later(rows))
        app.writable = False  # as a crash would leave it
        app.close()
        for dropped in (False, True):
            if dropped:
                shutil.rmtree(Path(folder) / "shop.data")
            with opened(store) as app:
                app.writable = False
                same(seen(app, "anon-2"), seen(wanted, "u"))


def _later(rows: list[Row]) -> list[Row]:
    first = {**rows[0], "user_id": "anon-2", "event_id": "later", "timestamp": START - 40 * DAY}
    return [first, {**first, "event_id": "newest", "timestamp": START + 61 * DAY}]


def test_what_limner_would_have_said_before_it_knew() -> None:
    rows = [_view("anon", 0), _view("u", 1)]
    with opened() as app:
        app.record(rows)
        head = app.state.position
        app.alias("anon", "u")
        now = app.now()
        assert seen(app, "u", at=now)[0].behaviour["events"].value == {"view": 2}
        told = seen(app, "u", at=now, known_at=head)[0]
        assert told.behaviour["events"].value == {"view": 1}
        told = seen(app, "anon", at=now, known_at=head)[0]
        assert told.behaviour["events"].value == {"view": 1}


def _view(user: str, day: int) -> Row:
    return {
        "user_id": user, "item_id": "i1", "event_type": "view", "timestamp": START + day * DAY,
        "event_id": f"{user}-{day}",
    }  # fmt: skip


def test_evidence_and_erasure_follow_the_link(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path}/shop.db") as app:
        app.record([_view("anon", 0), _view("u", 1), _view("stranger", 1)])
        app.alias("anon", "u")
        app.record([_view("anon", 2)])
        app.save_snapshot()
        shown = app.evidence("u", "behaviour.events")
        assert [event.event_id for event in shown] == ["anon-2", "u-1", "anon-0"]
        both = [app.keys.pseudonym(user) for user in ("u", "anon")]
        erased = app.erase("u")
        assert erased.removed["identity links"] == 1
        assert erased.removed["identity table"] == 2
        for user in ("u", "anon"):
            with pytest.raises(NotFound):
                app.portrait(user)
        assert app.record([_view("anon", 0)]).repeated == 1
        with pytest.raises(NotFound):
            app.portrait("anon")
        # who comes anew is nobody's alias
        assert app.record([_view("anon", 5)]).added == 1
        assert app.portrait("anon").behaviour["events"].value == {"view": 1}
        with pytest.raises(NotFound):
            app.portrait("u")
        app.erase("anon")
    for path in tmp_path.rglob("*"):
        if path.is_file():
            body = path.read_bytes()
            assert not any(user in body for user in both), path


def test_an_alias_to_another_user_is_refused_and_says_why() -> None:
    with opened() as app:
        app.record([_view("anon", 0), _view("u", 1), _view("other", 1)])
        assert app.alias("anon", "u").added == 1
        assert app.alias("anon", "u").repeated == 1
        wrong = app.alias("anon", "other")
        assert (wrong.added, wrong.refused[0].rule) == (0, "conflicting_alias")
        assert "another user" in wrong.refused[0].reason
        assert app.alias("u", "u").refused[0].rule == "conflicting_alias"
        missing = app.record([{"type": "alias", "userId": "u"}])
        assert missing.refused[0].rule == "missing_alias"
        # a circle says nothing new
        assert app.alias("u", "anon").added == 1
        assert app.portrait("anon").behaviour["events"].value == {"view": 2}
        assert app.portrait("other").behaviour["events"].value == {"view": 1}
        both = app.record(
            [
                {"type": "alias", "previousId": "new", "userId": "u"},
                {"type": "alias", "previousId": "new", "userId": "other"},
            ]
        )
        assert (both.added, len(both.refused)) == (1, 1)


def test_an_undone_import_takes_its_links_back() -> None:
    with opened() as app:
        app.record([_view("anon", 0), _view("u", 1)])
        alias = {"user_id": "u", "target_user_id": "anon", "event_type": "alias"}
        done = app.import_file([{**alias, "timestamp": START}])
        assert app.portrait("u").behaviour["events"].value == {"view": 2}
        app.undo_import(done.entry.import_id)
        assert app.portrait("u").behaviour["events"].value == {"view": 1}
        assert app.portrait("anon").behaviour["events"].value == {"view": 1}
