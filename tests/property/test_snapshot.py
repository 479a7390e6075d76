"""Snapshots: what is loaded is what was saved, and what is not sound is not loaded."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limner.events.batch import DAY, EventBatch
from limner.profile import portrait
from limner.profile.compare import differences
from limner.profile.facet import Facet, FacetConfig
from limner.profile.facets import build
from limner.profile.population import Population
from limner.profile.snapshot import Snapshots
from limner.profile.state import ProfileState
from limner.profile.survey import survey
from limner.testing.laws import START, Row, empty_state, event_rows, item_rows

WEIGHTS = {"purchase": 1.0, "view": 0.2}
NOW = START + 30 * DAY


def facets(**affinity: object) -> tuple[Facet, ...]:
    def config(name: str, **more: object) -> FacetConfig:
        return FacetConfig(**{"name": name, "kind": name, "section": "value"} | more)  # type: ignore[arg-type]

    return build(
        [
            config("declared"),
            config("count", key="event_type"),
            config("histogram", key="hour"),
            config("distinct"),
            config("sessions", key="group_id", bound=4),
            config("affinity", **{"key": "item.tags", "bound": 4, "weights": WEIGHTS} | affinity),
            config("sum"),
            config("price_level", key="item.type"),
            config("history", bound=6, weights=WEIGHTS),
        ]
    )


def filled(items: list[Row], rows: list[Row]) -> ProfileState:
    state = empty_state(facets(), items)
    state.fold(state.position, EventBatch.of(rows))
    return state


def portraits(state: ProfileState, population: Population) -> dict[bytes, portrait.Portrait]:
    return {
        user: portrait.read(state, row, population, NOW, user_id=user.hex())
        for user, row in state.rows.items()
    }


def loaded(folder: Path, log: str = "log") -> tuple[ProfileState, Population] | None:
    state = ProfileState(facets(), timezone="Europe/Berlin")
    found = Snapshots(folder, log).load(state, 10**9)
    return None if found is None else (state, found[0])


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    items=item_rows(),
    rows=event_rows(max_size=40),
    more_items=item_rows(max_size=4),
    more=event_rows(users=5, max_size=20),
    erased=st.booleans(),
)
def test_a_loaded_state_is_the_saved_one_and_folds_on_alike(
    items: list[Row], rows: list[Row], more_items: list[Row], more: list[Row], erased: bool
) -> None:
    state = filled(items, rows)
    if erased and state.rows:
        state.erase(min(state.rows))
    population = survey(state, NOW)
    extra = {"scales": np.arange(3.0)}
    with TemporaryDirectory() as folder:
        snapshots = Snapshots(Path(folder), "log")
        snapshots.save(state, population, extra)
        other = ProfileState(facets(), timezone="Europe/Berlin")
        found = snapshots.load(other, state.position)
        assert found is not None
        assert found[1]["scales"].tolist() == [0.0, 1.0, 2.0]
        assert (other.position, other.newest_event) == (state.position, state.newest_event)
        assert portraits(other, found[0]) == portraits(state, population)
        assert differences(state, other) == []
        results = []
        for one in (state, other):
            first = one.fold(one.position, EventBatch.of(more_items))
            second = one.fold(one.position, EventBatch.of(more))
            results.append((first.late_items, second.late_users))
        assert results[0] == results[1]
        assert differences(state, other) == []
        assert portraits(other, survey(other, NOW)) == portraits(state, survey(state, NOW))
        # the loaded arrays are copy-on-write: folding on left the files as they were
        assert loaded(Path(folder)) is not None


ITEMS: list[Row] = [
    {"item_id": "a", "event_type": "$item", "timestamp": 0, "properties.tags": ["x", "y"]},
    {"item_id": "b", "event_type": "$item", "timestamp": 0, "properties.a/../b": "odd name"},
]
ROWS: list[Row] = [
    {
        "user_id": bytes([user]) * 16,
        "item_id": "ab"[user % 2],
        "event_type": "purchase",
        "timestamp": START + user,
        "value": 1.0 + user,
        "group_id": f"g{user}",
    }
    for user in range(1, 30)
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    state = filled(ITEMS, ROWS)
    Snapshots(tmp_path, "log").save(state, survey(state, NOW), {})
    return tmp_path


def files(folder: Path) -> list[Path]:
    (snapshot,) = folder.iterdir()
    return sorted(snapshot.iterdir())


def test_an_empty_state_is_saved_and_loaded(tmp_path: Path) -> None:
    state = empty_state(facets())
    Snapshots(tmp_path, "log").save(state, survey(state, NOW), {})
    found = loaded(tmp_path)
    assert found is not None
    assert len(found[0]) == 0


def test_a_sound_snapshot_is_loaded(folder: Path) -> None:
    found = loaded(folder)
    assert found is not None
    assert len(found[0]) == 29


def test_new_users_go_into_the_room_behind_those_of_the_snapshot(folder: Path) -> None:
    found = loaded(folder)
    assert found is not None
    state = found[0]
    before = state.records
    state.row_of([bytes([user]) * 16 for user in range(100, 103)])
    assert len(state.records) == 32
    assert np.shares_memory(state.records, before)  # nothing was copied to make room for them


def test_any_altered_byte_is_seen(folder: Path) -> None:
    for path in files(folder):
        sound = path.read_bytes()
        for at in {len(sound) // 2, len(sound) - 1}:
            path.write_bytes(sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :])
            assert loaded(folder) is None, path.name
        path.write_bytes(sound)
    assert loaded(folder) is not None


def test_any_torn_or_missing_file_is_seen(folder: Path) -> None:
    for path in files(folder):
        sound = path.read_bytes()
        path.write_bytes(sound[:-1])
        assert loaded(folder) is None, path.name
        path.unlink()
        assert loaded(folder) is None, path.name
        path.write_bytes(sound)
    assert loaded(folder) is not None


def test_a_snapshot_of_another_log_or_beyond_the_log_is_not_loaded(folder: Path) -> None:
    assert loaded(folder, "another log") is None
    state = ProfileState(facets(), timezone="Europe/Berlin")
    assert Snapshots(folder, "log").load(state, len(ITEMS) + len(ROWS) - 1) is None
    assert Snapshots(folder, "log").load(state, len(ITEMS) + len(ROWS)) is not None


@pytest.mark.parametrize(
    "other",
    [
        {"half_life": "90d"},
        {"bound": 8},
        {"where": {"value": ">2"}},
        {"weights": {"purchase": 2.0, "view": 0.2}},
        {"key": "item.type"},
    ],
)
def test_a_snapshot_of_other_facets_is_not_loaded(folder: Path, other: dict[str, object]) -> None:
    state = ProfileState(facets(**other), timezone="Europe/Berlin")
    assert Snapshots(folder, "log").load(state, 10**9) is None


def test_a_snapshot_of_another_time_zone_is_not_loaded(folder: Path) -> None:
    state = ProfileState(facets(), timezone="Asia/Tokyo")
    assert Snapshots(folder, "log").load(state, 10**9) is None


def test_only_the_newest_snapshot_stays_and_a_crash_in_mid_writing_is_cleared(
    folder: Path,
) -> None:
    torn = folder / ".writing-1"
    torn.mkdir()
    (torn / "0.npy").write_bytes(b"half")
    found = loaded(folder)
    assert found is not None
    state, population = found
    state.fold(state.position, EventBatch.of(ROWS[:1]))
    Snapshots(folder, "log").save(state, population, {})
    assert [path.name.startswith(f"{state.position:020d}-") for path in folder.iterdir()] == [True]


def test_an_erased_user_is_in_no_snapshot(folder: Path) -> None:
    snapshots = Snapshots(folder, "log")
    user = ROWS[0]["user_id"]
    assert snapshots.holds(user)
    assert snapshots.erase(user) == 1
    assert not snapshots.holds(user)
    assert list(folder.iterdir()) == []


def user_of(number: int) -> bytes:
    return blake2b(str(number).encode(), digest_size=16).digest()


def many(users: int, start: int = 0) -> list[Row]:
    return [
        {
            "user_id": user_of(user),
            "item_id": "ab"[user % 2],
            "event_type": "purchase",
            "timestamp": START + user,
            "value": 1.0 + user,
            "group_id": f"g{user}",
        }
        for user in range(start, users)
    ]


def data_of(folder: Path) -> tuple[int, int]:
    """(which file `data` is, bytes of `rest`)."""
    (snapshot,) = folder.iterdir()
    return (snapshot / "data").stat().st_ino, (snapshot / "rest").stat().st_size


def test_only_what_changed_is_written_until_much_has(tmp_path: Path) -> None:
    state = filled(ITEMS, many(3000))
    snapshots = Snapshots(tmp_path, "log")
    snapshots.save(state, Population(), {})
    file, small = data_of(tmp_path)
    for round_ in range(3):
        state.fold(state.position, EventBatch.of(many(20 + round_, round_)))
        snapshots.save(state, Population(), {})
        assert data_of(tmp_path)[0] == file
        assert data_of(tmp_path)[1] < small + 400_000
        found = loaded(tmp_path)
        assert found is not None
        assert differences(state, found[0]) == []
    state.fold(state.position, EventBatch.of(many(3100, 3000)))  # new users, in the room there is
    snapshots.save(state, Population(), {})
    found = loaded(tmp_path)
    assert found is not None
    assert differences(state, found[0]) == []
    state.fold(state.position, EventBatch.of(many(3000)))
    snapshots.save(state, Population(), {})
    assert data_of(tmp_path)[0] != file
    found = loaded(tmp_path)
    assert found is not None
    assert differences(state, found[0]) == []


def test_what_changed_is_told_from_a_loaded_state_too(folder: Path) -> None:
    for round_ in range(3):
        found = loaded(folder)
        assert found is not None
        state, population = found
        state.fold(state.position, EventBatch.of(many(5 + round_)))
        Snapshots(folder, "log").save(state, population, {})
        again = loaded(folder)
        assert again is not None
        assert differences(state, again[0]) == []


def test_in_the_background_it_is_the_state_of_that_moment(tmp_path: Path) -> None:
    state = filled(ITEMS, many(500))
    snapshots = Snapshots(tmp_path, "log")
    then = filled(ITEMS, many(500))
    assert snapshots.save(state, Population(), {}, wait=False)
    state.fold(state.position, EventBatch.of(many(900)))
    assert snapshots.join()
    found = loaded(tmp_path)
    assert found is not None
    assert differences(then, found[0]) == []


def test_an_erasure_ends_what_is_being_written_of_the_user(tmp_path: Path) -> None:
    state = filled(ITEMS, many(2000))
    snapshots = Snapshots(tmp_path, "log")
    user = user_of(7)
    for _ in range(5):
        snapshots.save(state, Population(), {}, wait=False)
        snapshots.erase(user)
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and holds(path, user)]
    state.erase(user)
    snapshots.save(state, Population(), {}, wait=False)
    assert snapshots.join()
    assert not snapshots.holds(user)
    assert loaded(tmp_path) is not None


def holds(path: Path, user: bytes) -> bool:
    return user in path.read_bytes()


def test_what_a_killed_process_left_writing_cannot_finish(folder: Path) -> None:
    """A process that outlives the one it was forked from writes into a folder that is gone."""
    left = folder / ".writing-123"
    left.mkdir()
    Snapshots(folder, "log").claim()
    assert not left.exists()
    with pytest.raises(FileNotFoundError):
        left.rename(folder / "00001")
    assert loaded(folder) is not None
