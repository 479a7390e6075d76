"""The laws, end to end: record, crash, replay, undo, erase, through the composition root."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from limner.app import Limner
from limner.config import Config, parse
from limner.errors import KeyMissing, NotFound, StoreBusy, WipeDue
from limner.events.batch import DAY, SECOND
from limner.profile.facet import Entry, Slot
from limner.profile.population import Population
from limner.profile.portrait import Portrait
from limner.sources import beside, synthetic
from limner.testing.shop import START, shop

SHOP = shop()


def settings(folder: Path, **more: Any) -> Config:
    return parse({"store": f"sqlite:///{folder / 'shop.db'}", "clock": "events", **more})


def filled(folder: Path, **more: Any) -> Limner:
    app = Limner.open(config=settings(folder, **more))
    app.import_file(SHOP.items, kind="items")
    app.import_file(SHOP.users, kind="users")
    app.import_file(SHOP.events)
    app.refresh_population()
    return app


def portraits(app: Limner) -> dict[str, Portrait]:
    users = SHOP.users["user_id"].to_pylist()
    return {user: replace(app.portrait(user), as_of=0) for user in users}


def differences(a: object, b: object, path: str = "") -> list[str]:
    """Where two portraits differ, under law 3: floats within 1e-9 relative, all else exactly."""
    if isinstance(a, float) and isinstance(b, float):
        equal = a == pytest.approx(b, rel=1e-9, abs=1e-12)
        return [] if equal else [f"{path}: {a!r} and {b!r}"]
    if isinstance(a, dict) and isinstance(b, dict) and list(a) == list(b):
        return [d for key in a for d in differences(a[key], b[key], f"{path}.{key}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        pairs = enumerate(zip(a, b, strict=True))
        return [d for i, (x, y) in pairs for d in differences(x, y, f"{path}[{i}]")]
    if isinstance(a, Slot | Portrait | Entry) and isinstance(b, type(a)):
        names = set(type(a).__dataclass_fields__)
        if isinstance(getattr(a, "value", None), float):
            names.discard("text")  # the last digit of a rounded float may differ
        return [d for n in names for d in differences(getattr(a, n), getattr(b, n), f"{path}.{n}")]
    return [] if a == b else [f"{path}: {str(a)[:80]} and {str(b)[:80]}"]


def assert_same(a: object, b: object) -> None:
    assert differences(a, b) == []


def test_what_cleaning_learned_follows_from_the_log(tmp_path: Path) -> None:
    with filled(tmp_path) as app:
        app.record(more_events(app))
        live = app.writer.norms
        assert {kind for kind, _ in live.scales.moments()} >= {"purchase"}
        app.writer.rebuild()
        assert app.writer.norms == live
        app.save_snapshot()
        app.record([{**event, "quantity": 3} for event in more_events(app)])
        live = app.writer.norms
        app.writable = False
    with Limner.open(config=settings(tmp_path)) as app:
        assert app.writer.norms == live


def test_importing_twice_changes_nothing(tmp_path: Path) -> None:
    with filled(tmp_path) as app:
        before, head = portraits(app), app.state.position
        again = app.import_file(SHOP.events)
        assert (again.entry.added, again.entry.repeated) == (0, len(SHOP.events))
        assert app.state.position == head
        assert_same(portraits(app), before)


def test_recording_writes_snapshots_so_that_a_start_has_little_to_fold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with filled(tmp_path) as app:
        app.save_snapshot()
        monkeypatch.setattr("limner.app.limner.SNAPSHOT_EVERY", 3)
        before, some = app.state.position, more_events(app)[0]
        many = len(app.state) + 1  # a row a user, and one more
        for number in range(many):
            app.record({**some, "event_id": f"more {number}"})
        assert app.snapshots.join()
        live = portraits(app)
        app.writable = False  # closes as a crash would: without a new snapshot
    with Limner.open(config=settings(tmp_path), write=False) as app:
        assert app._snapshot_at == app.state.position == before + many
        assert_same(portraits(app), live)


def test_many_users_are_surveyed_after_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Limner.open(config=settings(tmp_path)) as app:
        app.import_file(SHOP.events)
        app.population = Population()  # as if killed before its first survey
    monkeypatch.setattr("limner.app.limner.AT_ONCE", 1)
    with Limner.open(config=settings(tmp_path)) as app:
        ends = time.monotonic() + 30
        while not app.population.users and time.monotonic() < ends:
            time.sleep(0.01)
        assert app.population.position == app.state.position
        assert app.population.config == app.config.population


def test_snapshot_and_tail_equal_replay_from_zero(tmp_path: Path) -> None:
    with filled(tmp_path) as app:
        app.save_snapshot()
        app.record(more_events(app))
        app.refresh_population()
        live = portraits(app)
        app.writable = False  # closes as a crash would: without a new snapshot
    with Limner.open(config=settings(tmp_path)) as app:
        app.refresh_population()
        assert_same(portraits(app), live)
        app.writable = False
    shutil.rmtree(tmp_path / "shop.data")
    with Limner.open(config=settings(tmp_path)) as app:
        assert_same(portraits(app), live)


def more_events(app: Limner) -> list[dict[str, Any]]:
    now = app.now()
    return [
        {
            "user_id": f"u{number % 7}",
            "item_id": f"i{number}",
            "event_type": "purchase",
            "timestamp": now + number * SECOND,
            "value": 1.5,
            "quantity": 2,
            "basket_id": f"more{number}",
        }
        for number in range(20)
    ]


def test_events_in_any_order_give_the_same_portraits(tmp_path: Path) -> None:
    """Late beyond `lateness` included: those users are folded again from the log."""
    with filled(tmp_path / "a") as app:
        in_order = portraits(app)
    rng = np.random.default_rng(3)
    shuffled = SHOP.events.take(pa.array(rng.permutation(len(SHOP.events))))
    with Limner.open(config=settings(tmp_path / "b")) as app:
        app.import_file(SHOP.items, kind="items")
        app.import_file(SHOP.users, kind="users")
        for start in range(0, len(shuffled), 500):
            app.record(shuffled.slice(start, 500))
        app.refresh_population()
        out_of_order = portraits(app)
    for user, seen in in_order.items():
        assert_same(seen, out_of_order[user])


def test_items_described_late_count_from_the_beginning(tmp_path: Path) -> None:
    with filled(tmp_path / "a") as app:
        wanted = portraits(app)
    with Limner.open(config=settings(tmp_path / "b")) as app:
        app.import_file(SHOP.events)
        assert "type" not in app.portrait("u1").interests
        app.import_file(SHOP.items, kind="items")
        app.import_file(SHOP.users, kind="users")
        app.refresh_population()
        late = portraits(app)
    for user, seen in wanted.items():
        assert_same(seen.interests, late[user].interests)
        assert_same(seen.value, late[user].value)


def test_undo_is_as_if_it_had_never_been(tmp_path: Path) -> None:
    with filled(tmp_path) as app:
        before = portraits(app)
        new = [*more_events(app), {**more_events(app)[0], "user_id": "stranger"}]
        imported = app.import_file(pa.Table.from_pylist(new))
        assert imported.entry.added == len(new)
        assert app.undo_import(imported.entry.import_id) == len(new)
        app.refresh_population()
        with pytest.raises(NotFound):
            app.portrait("stranger")
        users = SHOP.users["user_id"].to_pylist()
        at = app.now()
        assert at == max(app.state.records["newest"])
        for user in users:
            now = app.portrait(user)
            for slot, value in before[user].behaviour.items():
                if slot not in ("days_since_last", "days_since_last_purchase"):
                    assert_same(value.value, now.behaviour[slot].value)
        with pytest.raises(NotFound):
            app.undo_import(imported.entry.import_id)
        again = app.import_file(pa.Table.from_pylist(new))
        assert again.entry.added == len(new)


def test_an_import_cut_short_says_how_far_it_came(tmp_path: Path) -> None:
    """The ledger changes in the transaction of the rows: what is in the log is in its count."""

    class CutError(Exception):
        pass

    def cut(stage: str, done: int, total: int) -> None:
        raise CutError

    with Limner.open(config=settings(tmp_path)) as app:
        torn = SHOP.events.to_pylist()[:500]
        torn[3]["timestamp"] = "soon"
        with pytest.raises(CutError):
            app.import_file(torn, progress=cut)
        (entry,) = app.store.imports.entries()
        assert entry.finished_at is None
        assert (entry.rows, entry.added, entry.refused) == (500, 499, 1)
        assert entry.found["bad_time"] == 1
        assert app.state.position == 499


def test_an_undo_takes_what_was_refused_too(tmp_path: Path) -> None:
    with filled(tmp_path) as app:
        bad = [{**event, "timestamp": "soon"} for event in more_events(app)]
        imported = app.import_file([*bad, *more_events(app)])
        assert app.store.quarantine.counts() == {"bad_time": len(bad)}
        app.undo_import(imported.entry.import_id)
        assert app.store.quarantine.counts() == {}


def test_a_readmitted_row_is_the_event_it_would_have_been(tmp_path: Path) -> None:
    with filled(tmp_path, privacy={"fields": {"properties.shop": "hash"}}) as app:
        good = [
            {**event, "user_id": f"new{n % 3}", "event_id": f"new {n}", "shop": "north"}
            for n, event in enumerate(more_events(app))
        ]
        bad = [{**event, "timestamp": "soon"} for event in good]
        imported = app.import_file(pa.Table.from_pylist(bad))
        held = app.quarantine.rows(limit=None)
        assert {row.row["user_id"] for row in held} == {"new0", "new1", "new2"}
        with pytest.raises(NotFound):  # being refused makes nobody known
            app.portrait("new0")
        times = {event["event_id"]: event["timestamp"] for event in good}
        corrected = [
            {"row_id": row.row_id, "timestamp": times[row.row["event_id"]]} for row in held
        ]
        corrected[0]["timestamp"] = "later"
        done = app.quarantine.readmit(corrected=corrected)
        assert (done.added, done.repeated, len(done.refused)) == (len(good) - 1, 0, 1)
        (left,) = app.quarantine.rows()
        assert left == done.refused[0]
        assert left.row["timestamp"] == "later" and "'later'" in left.reason
        entry = app.store.imports.entries()[-1]
        assert (entry.added, entry.refused) == (len(good) - 1, 1)
        # the same as if they had been good from the start
        done = app.quarantine.readmit(
            [left.row_id], change={"timestamp": times[left.row["event_id"]]}
        )
        assert (done.added, app.quarantine.counts()) == (1, {})
        again = app.import_file(pa.Table.from_pylist(bad))
        assert (again.entry.added, app.quarantine.counts()) == (0, {})
        mended = {user: app.portrait(user) for user in ("new0", "new1", "new2")}
        app.undo_import(imported.entry.import_id)
        with pytest.raises(NotFound):
            app.portrait("new0")
        app.import_file(pa.Table.from_pylist(good))
        app.refresh_population()
        for user, portrait in mended.items():
            slots = app.portrait(user).behaviour
            assert_same(portrait.behaviour["events"].value, slots["events"].value)
        shops = {event.properties["shop"] for event in app.evidence("new0", "behaviour.events")}
        assert len(shops) == 1


def test_an_erased_user_does_not_come_back_by_being_refused(tmp_path: Path) -> None:
    with filled(tmp_path) as app:
        good = [{**event, "user_id": "gone", "event_id": "g1"} for event in more_events(app)][:1]
        bad = [{**event, "user_id": "gone", "timestamp": "soon"} for event in more_events(app)]
        assert app.record([*good, *bad], source="a").added == 1
        clash = [{**good[0], "value": 77.0}]
        assert len(app.record(clash, source="a").refused) == 1
        assert app.quarantine.counts() == {"bad_time": len(bad), "conflicting_id": 1}
        app.erase("gone")
        assert app.quarantine.counts() == {}
        app.record([*good, *bad, *clash], source="a")
        assert app.quarantine.counts() == {"conflicting_id": 1}
        user = app.keys.pseudonym("gone")
        assert not any(part.holds(user) for part in app.erasables())
        unread = [{**good[0], "timestamp": "soon"}]  # once in the log, now refused
        app.record(unread, source="a")
        assert not any(part.holds(user) for part in app.erasables())


def test_erased_means_gone(tmp_path: Path) -> None:
    with filled(tmp_path) as app:
        app.save_snapshot()
        user = "somebody@example.org"
        pseudonym = app.keys.pseudonym(user)
        theirs = [{**event, "user_id": user} for event in more_events(app)]
        assert app.record(theirs).added == len(theirs)
        app.save_snapshot()
        erased = app.erase(user)
        assert all(erased.clean.values())
        assert erased.removed["portraits"] == 1
        with pytest.raises(NotFound):
            app.portrait(user)
        assert app.record(theirs).added == 0
        with pytest.raises(NotFound):
            app.portrait(user)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert pseudonym not in path.read_bytes(), path
            assert user.encode() not in path.read_bytes(), path


def test_every_place_that_persists_is_registered(tmp_path: Path) -> None:
    """What a user's pseudonym is found in, on disk or in memory, is among the erasables."""
    with filled(tmp_path) as app:
        app.save_snapshot()
        pseudonym = app.keys.pseudonym("u3")
        holding = {part.name for part in app.erasables() if part.holds(pseudonym)}
        files = {p for p in tmp_path.rglob("*") if p.is_file() and pseudonym in p.read_bytes()}
        # the database (log and identity table) and the snapshot: each has its erasable
        assert {p.name.split(".")[0] for p in files} <= {"shop", "data"}
        assert {"portraits", "snapshots"} < holding
        assert len(holding) == 4


def test_same_id_with_other_content_is_refused(tmp_path: Path) -> None:
    with filled(tmp_path) as app:
        event = {**more_events(app)[0], "event_id": "e1"}
        assert app.record([event]).added == 1
        assert app.record([event]).repeated == 1
        clash = app.record([{**event, "value": 99.0}])
        assert clash.added == 0
        assert clash.refused[0].rule == "conflicting_id"
        assert app.store.quarantine.counts()["conflicting_id"] == 1


def test_many_writers_share_commits_and_each_gets_their_own_result(tmp_path: Path) -> None:
    with filled(tmp_path) as app:
        head = app.state.position
        results: dict[int, int] = {}

        def record(number: int) -> None:
            for step in range(5):
                done = app.record(
                    [
                        {
                            "user_id": f"w{number}",
                            "item_id": "i1",
                            "event_type": "view",
                            "timestamp": START + number * DAY + (100 * step + line) * SECOND,
                        }
                        for line in range(number + 1)
                    ]
                )
                results[number] = results.get(number, 0) + done.added

        threads = [threading.Thread(target=record, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == {number: 5 * (number + 1) for number in range(8)}
        assert app.state.position == head + sum(results.values())
        for number in range(8):
            counts = app.portrait(f"w{number}").behaviour["events"].value
            assert counts == {"view": 5 * (number + 1)}


def test_point_in_time_never_sees_later_events(tmp_path: Path) -> None:
    with filled(tmp_path) as app:
        at = START + 180 * DAY
        past = app.portrait("u5", at=at)
        before = SHOP.events.filter(
            pa.compute.and_(
                pa.compute.equal(SHOP.events["user_id"], "u5"),
                pa.compute.less_equal(SHOP.events["timestamp"], at),
            )
        )
        assert past.behaviour["events"].value == {"purchase": len(before)}
        head = app.state.position
        app.record([{**more_events(app)[5], "timestamp": at - DAY}])
        assert app.portrait("u5", at=at).behaviour["events"].value == {"purchase": len(before) + 1}
        told = app.portrait("u5", at=at, known_at=head)
        assert told.behaviour["events"].value == {"purchase": len(before)}


def test_evidence_names_the_events_behind_a_slot(tmp_path: Path) -> None:
    with filled(tmp_path) as app:
        slot = app.portrait("u5").interests["type"]
        events = app.evidence("u5", "interests.type", limit=1000)
        assert len(events) == slot.events
        assert events[0].timestamp == slot.changed_at
        assert all(event.position >= 0 for event in events)


def test_a_second_writer_and_wrong_keys_are_refused(tmp_path: Path) -> None:
    app = filled(tmp_path)
    program = (
        "import sys; from limner.app import Limner; from limner.config import load\n"
        "from limner.errors import StoreBusy\n"
        "try: Limner.open(sys.argv[1])\n"
        "except StoreBusy as e: print(e)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, app.config.store],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert "to mend it" in ran.stdout
    assert ran.stderr == ""
    reader = Limner.open(config=settings(tmp_path), write=False)
    assert reader.portrait("u1").behaviour["events"] == app.portrait("u1").behaviour["events"]
    reader.close()
    app.close()
    (tmp_path / "shop.key").rename(tmp_path / "kept.key")
    with pytest.raises(KeyMissing):
        Limner.open(config=settings(tmp_path))
    assert issubclass(StoreBusy, Exception)


IMPORTER = """
import sys
from pathlib import Path
from limner.app import Limner
from limner.config import parse

app = Limner.open(config=parse({"store": sys.argv[1], "clock": "events"}))
print("open", flush=True)
def shown(stage, done, total): print(done, flush=True)
from limner.sources import files
for kind in ("items", "users", "events"):
    app.import_file(Path(sys.argv[2]) / f"{kind}.csv", kind=kind, progress=shown)
app.close()
print("done", flush=True)
"""


def test_killed_in_mid_import_and_started_again_ends_the_same(tmp_path: Path) -> None:
    big = shop(users=300, items=200, trips=60, seed=1)
    # without ids of their own, events are known by their content and its occurrence
    big = replace(big, events=big.events.drop_columns("event_id"))
    for kind in ("items", "users", "events"):
        pyarrow.csv.write_csv(getattr(big, kind), tmp_path / f"{kind}.csv")
    (tmp_path / "whole").mkdir()
    (tmp_path / "torn").mkdir()

    def start(folder: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", IMPORTER, f"sqlite:///{tmp_path / folder / 'shop.db'}",
             str(tmp_path)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    with start("whole") as whole:
        began = time.monotonic()
        assert whole.stdout is not None
        assert whole.stdout.readline() == "open\n"
        opened = time.monotonic()
        assert "done" in whole.stdout.read()
        length = time.monotonic() - opened
    assert opened - began < 60
    shutil.copy(tmp_path / "whole/shop.key", tmp_path / "torn/shop.key")
    rng = np.random.default_rng(0)
    killed = 0
    for _ in range(6):
        with start("torn") as torn:
            assert torn.stdout is not None
            assert torn.stdout.readline() == "open\n"
            time.sleep(float(rng.uniform(0.05, 0.7)) * length)
            if torn.poll() is None:
                torn.send_signal(signal.SIGKILL)
                killed += 1
    assert killed >= 3
    with start("torn") as torn:
        assert torn.stdout is not None
        assert "done" in torn.stdout.read()
    apps = [Limner.open(config=settings(tmp_path / name)) for name in ("whole", "torn")]
    for app in apps:
        app.refresh_population()
    users = big.users["user_id"].to_pylist()
    assert apps[0].state.position == apps[1].state.position
    for user in users:
        assert_same(apps[0].portrait(user), apps[1].portrait(user))
    for app in apps:
        app.close()


def test_with_the_clock_of_events_the_same_thing_can_happen_twice(tmp_path: Path) -> None:
    with filled(tmp_path) as app:
        event = {"user_id": "u1", "item_id": "i1", "event_type": "view"}
        assert app.record([event]).added == 1
        assert app.record([event]).added == 1
        for brand in ("a", "b", "a"):
            assert app.put_item("i1", {"brand": brand}).added == 1
        item = app.state.catalog.ids.code("i1")
        assert app.state.catalog.describe(item)["brand"] == "a"


def test_a_portrait_of_the_past_knows_nothing_of_later_users(tmp_path: Path) -> None:
    with filled(tmp_path) as app:
        past = app.portrait("u5", at=START + 180 * DAY)
        assert all(slot.percentile is None for slot in past.value.values())
        assert past.vector == []


def test_items_that_only_the_erased_or_undone_named_are_gone(tmp_path: Path) -> None:
    with filled(tmp_path) as app:
        secret = {"user_id": "gone", "item_id": "secret-thing", "event_type": "purchase"}
        app.record([{**secret, "timestamp": app.now()}])
        app.save_snapshot()
        app.erase("gone")
        assert app.state.catalog.ids.code("secret-thing") == -1
        row = {**more_events(app)[0], "item_id": "bogus-thing"}
        done = app.import_file(pa.Table.from_pylist([row]))
        app.undo_import(done.entry.import_id)
        assert app.state.catalog.ids.code("bogus-thing") == -1
        shown = {item.item_id for item in app.recommend("u1", n=1000).items}
        assert not shown & {"secret-thing", "bogus-thing", ""}
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert b"secret-thing" not in path.read_bytes(), path


def test_an_erasure_that_meets_a_reader_is_finished_and_says_what_is_left(tmp_path: Path) -> None:
    with filled(tmp_path) as app:
        reader = sqlite3.connect(tmp_path / "shop.db")
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM segment").fetchone()
        with pytest.raises(StoreBusy, match="keeps old bytes"):
            app.erase("u3")
        reader.close()
        assert not any(part.holds(app.keys.pseudonym("u3")) for part in app.erasables())
        with pytest.raises(NotFound):
            app.portrait("u3")
        assert app.record([{**more_events(app)[3], "user_id": "u3"}]).added == 1
        assert app.own_id(app.keys.pseudonym("u3")) == "u3"


def test_an_undo_that_meets_a_reader_is_finished_too(tmp_path: Path) -> None:
    with filled(tmp_path) as app:
        stranger = {**more_events(app)[0], "user_id": "stranger"}
        done = app.import_file(pa.Table.from_pylist([stranger]))
        reader = sqlite3.connect(tmp_path / "shop.db")
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM segment").fetchone()
        with pytest.raises(WipeDue):
            app.undo_import(done.entry.import_id)
        reader.close()
        with pytest.raises(NotFound):
            app.portrait("stranger")
        assert app.record([stranger]).added == 1
        assert app.own_id(app.keys.pseudonym("stranger")) == "stranger"


def test_an_import_read_beside_is_the_import_read_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways of reading give the same log: the second import adds nothing (law 2)."""
    shop = synthetic.Shop(events=3_000, users=200, seed=3)
    synthetic.write(shop, tmp_path / "events.parquet")
    with Limner.open(config=settings(tmp_path)) as app:
        monkeypatch.setattr(beside, "LEAST_BYTES", 0)
        assert beside.worth_it(tmp_path / "events.parquet")
        first = app.import_file(tmp_path / "events.parquet")
        users = portraits(app)
        monkeypatch.setattr(beside, "LEAST_BYTES", 1 << 60)
        again = app.import_file(tmp_path / "events.parquet")
        assert (first.entry.added, again.entry.added) == (3_000, 0)
        assert portraits(app) == users
