from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from limner.errors import InputError
from limner.events.batch import DAY
from limner.sources.dataset import load


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_recbole_files_with_attributes_beside(tmp_path: Path) -> None:
    head = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    rows = (
        "u1\tb\t3\t1700000020\nu2\ta\t5\t1700000000\nu1\ta\t1\t1700000020\nu1\tc\t4\t1700000010\n"
    )
    write(tmp_path, "x.inter", head + rows)
    items = "item_id:token\tgenre:token_seq\tyear:token\na\tWar Drama\t1999\nb\tDrama\t1999\n"
    write(tmp_path, "x.item", items)
    found = load(tmp_path)
    data = found.interactions
    assert found.user_ids == ["u1", "u2"] and found.item_ids == ["b", "a", "c"]
    # by time; what has one time stays in the order of the file
    assert [found.item_ids[item] for item in data.items] == ["c", "b", "a", "a"]
    assert data.offsets.tolist() == [0, 3, 4]
    assert found.timed and found.left_out == 0
    words = found.features.values["genre"]
    assert found.features.values["genre.2"] == words
    first, second = found.features.codes["genre"], found.features.codes["genre.2"]
    assert {words[first[1]], words[second[1]]} == {"War", "Drama"}
    assert words[first[0]] == "Drama" and second[0] == -1 and first[2] == -1


@pytest.mark.parametrize("text", ["1 7 8 9\n2 8\n", "1 7\n1 8\n2 8\n1 9\n"])
def test_sequences_know_order_only(tmp_path: Path, text: str) -> None:
    write(tmp_path, "Some.txt", text)
    write(tmp_path, "Some_item2attributes.json", '{"7": [1, 2], "8": [2]}')
    found = load(tmp_path / "Some.txt")
    assert not found.timed
    assert found.item_ids == ["7", "8", "9"]
    assert found.interactions.items.tolist() == [0, 1, 2, 1]
    assert np.diff(found.interactions.times[:3]).tolist() == [DAY, DAY]
    assert found.interactions.times[2] == found.interactions.times[3]  # all end on one day
    words = found.features.values["attribute"]
    assert [words[c] if c >= 0 else "" for c in found.features.codes["attribute"]] == ["1", "2", ""]


def test_values_stay_with_their_events(tmp_path: Path) -> None:
    rows = "u1,a,1700000002,purchase,3.5\nu1,b,1700000001,view,\nu2,a,1700000000,purchase,0.5\n"
    head = "user_id,item_id,timestamp,event_type,value\n"
    values = load(write(tmp_path, "events.csv", head + rows)).interactions.values
    np.testing.assert_array_equal(values, [np.nan, 3.5, 0.5])
    write(tmp_path, "plain.csv", "user_id,item_id,timestamp,event_type\nu1,a,1700000002,view\n")
    assert load(tmp_path / "plain.csv").interactions.values is None


def test_movielens_without_a_header(tmp_path: Path) -> None:
    write(
        tmp_path, "ratings.dat", "1::10::5::978300760\n1::11::3::978300750\n2::10::4::978300000\n"
    )
    found = load(tmp_path)
    assert found.interactions.items.tolist() == [1, 0, 0]
    assert [found.item_ids[item] for item in found.interactions.items] == ["11", "10", "10"]


def test_rows_without_an_item_or_a_time_are_counted_and_their_ids_are_no_users(
    tmp_path: Path,
) -> None:
    text = "user_id,item_id,timestamp,event_type\nu1,a,1700000000,view\nu2,,1700000000,view\n"
    text += "u3,b,yesterday,view\nu1,b,1700000001,refund\nu1,c,1700000002,purchase\n"
    found = load(write(tmp_path, "events.csv", text))
    assert found.user_ids == ["u1"] and found.item_ids == ["a", "c"]
    assert found.left_out == 3
    assert found.interactions.weights[0] < found.interactions.weights[1]


def test_what_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such"):
        load(tmp_path / "none")
    with pytest.raises(InputError, match="no file of events"):
        load(tmp_path)
    with pytest.raises(InputError, match="no interactions"):
        load(write(tmp_path, "events.csv", "user_id,item_id,timestamp\n,a,1700000000\n"))
