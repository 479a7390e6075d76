"""Configuration: what is read from where, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.config import Config, domains, load, parse
from limner.errors import ConfigError
from limner.profile import facets

NOTHING: dict[str, str] = {}

FACET = {"name": "views", "kind": "count", "section": "behaviour", "key": "event_type"}


def test_nothing_set_is_the_domain_over_the_defaults() -> None:
    found = parse({})
    assert found.domain == "ecommerce"
    assert found.store == "sqlite:///limner.db"
    assert found.weights["purchase"] == 1.0
    assert {"declared", "spend", "history"} <= {facet.name for facet in found.facet}
    assert facets.build(found.facet)


@pytest.mark.parametrize("domain", domains())
def test_every_domain_builds(domain: str) -> None:
    sections = {facet.section for facet in parse({"domain": domain}).facet}
    assert sections == {"basic", "behaviour", "interests", "value"}


@pytest.mark.parametrize(
    ("given", "place", "mend"),
    [
        ({"timezome": "UTC"}, "limner.toml", "did you mean 'timezone'?"),
        ({"serve": {"prot": 1}}, "limner.toml [serve]", "did you mean 'port'?"),
        ({"clean": {"outlier_cutt": 1}}, "limner.toml [clean]", "did you mean 'outlier_cut'?"),
        ({"recommend": {"caps_": {}}}, "limner.toml [recommend]", "did you mean 'caps'?"),
        ({"facet": [{**FACET, "half_lif": "1d"}]}, "limner.toml, [[facet]] views", "'half_life'?"),
        ({"qqq": 1}, "limner.toml", "use one of domain, store"),
    ],
)
def test_an_unknown_setting_names_the_nearest_known_one(
    given: dict[str, Any], place: str, mend: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(given)
    assert "is no setting" in caught.value.what
    assert caught.value.where == place
    assert mend in caught.value.mend
    assert caught.value.exit_code == 2


KNOWN = {
    "domain", "store", "key_file", "timezone", "clock", "lateness", "states_mb", "weights", "clean",
    "privacy", "recommend", "train", "serve", "facet",
}  # fmt: skip


@given(st.text(min_size=1).filter(lambda name: name not in KNOWN), st.integers())
def test_no_unknown_setting_is_ever_ignored(name: str, value: int) -> None:
    with pytest.raises(ConfigError):
        parse({name: value})


@pytest.mark.parametrize(
    "given",
    [
        {"timezone": 1},
        {"clock": "sundial"},
        {"serve": {"port": "eighty"}},
        {"serve": 8088},
        {"recommend": {"repeats": "yes"}},
        {"recommend": {"caps": {"type": "two"}}},
        {"weights": {"view": "much"}},
        {"facet": [{"name": "views"}]},
        {"facet": {"name": "views"}},
        {"facet": [7]},
        {"timezone": "Mars/Olympus"},
        {"clean": {"tz": "/etc/passwd"}},
        {"lateness": "soon"},
        {"domain": "nowhere"},
        {"domain": "../ecommerce"},
    ],
)
def test_a_value_of_the_wrong_kind_is_an_error_that_says_how_to_mend_it(
    given: dict[str, Any],
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(given)
    assert caught.value.what
    assert caught.value.where.startswith("limner.toml")


def test_own_weights_go_over_the_domains_and_reach_its_facets() -> None:
    found = parse({"weights": {"view": 0.9}})
    assert found.weights["view"] == 0.9
    assert found.weights["purchase"] == 1.0
    category = next(facet for facet in found.facet if facet.name == "category")
    assert category.weights["view"] == 0.9


def test_a_facet_of_the_same_name_replaces_and_another_adds() -> None:
    plain = parse({})
    own = {**FACET, "name": "spend"}
    found = parse({"facet": [own, FACET]})
    assert len(found.facet) == len(plain.facet) + 1
    assert next(facet for facet in found.facet if facet.name == "spend").kind == "count"


def test_the_environment_goes_over_the_file_and_arguments_over_both() -> None:
    given = {"timezone": "UTC", "store": "sqlite:///a.db", "serve": {"port": 1, "host": "::1"}}
    env = {"LIMNER_TIMEZONE": "Asia/Tokyo", "LIMNER_STORE": "sqlite:///b.db", "LIMNER_PORT": "2"}
    found = parse(given, environment=env, store="memory:")
    assert found.timezone == "Asia/Tokyo"
    assert found.store == "memory:"
    assert (found.serve.host, found.serve.port) == ("::1", 2)


def test_a_port_that_is_no_number_is_an_error() -> None:
    with pytest.raises(ConfigError):
        parse({}, environment={"LIMNER_PORT": "http"})


def test_an_unknown_variable_names_the_nearest_known_one(tmp_path: Path) -> None:
    (tmp_path / "limner.toml").touch()
    with pytest.raises(ConfigError, match="did you mean LIMNER_STORE") as caught:
        load(tmp_path / "limner.toml", {"LIMNER_STOR": "x"})
    assert caught.value.where == "environment"
    assert load(tmp_path / "limner.toml", {"OTHER_STOR": "x"})


def test_paths_in_a_file_begin_at_the_file(tmp_path: Path) -> None:
    file = tmp_path / "limner.toml"
    file.write_text('store = "sqlite:///data/shop.db"\nkey_file = "secret.key"\n')
    found = load(file, NOTHING)
    assert found.store == f"sqlite:///{tmp_path}/data/shop.db"
    assert found.key_path() == tmp_path / "secret.key"


def test_the_store_that_a_file_does_not_name_is_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "limner.toml"
    file.write_text("")
    found = load(file, NOTHING)
    assert found.store == f"sqlite:///{tmp_path}/limner.db"
    assert found.key_path() == tmp_path / "limner.key"
    assert load(file, {"LIMNER_STORE": "sqlite:///x.db"}).store == "sqlite:///x.db"


def test_absolute_paths_and_other_stores_stay_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "limner.toml"
    file.write_text('store = "memory:"\nkey_file = "/etc/limner.key"\n')
    found = load(file, NOTHING)
    assert found.store == "memory:"
    assert found.key_path() == Path("/etc/limner.key")
    file.write_text('store = "sqlite:////var/shop.db"\n')
    assert load(file, NOTHING).store == "sqlite:////var/shop.db"


def test_a_store_in_memory_has_no_key_file() -> None:
    assert Config(store="memory:").key_path() is None


def test_a_file_that_is_asked_for_must_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load(tmp_path / "no.toml", NOTHING)
    with pytest.raises(ConfigError, match="does not exist"):
        load(None, {"LIMNER_CONFIG": str(tmp_path / "no.toml")})
    monkeypatch.chdir(tmp_path)
    assert load(None, NOTHING).store == "sqlite:///limner.db"


@pytest.mark.parametrize("content", [b"store = ", b"\xff\xfe", b"a = 1\na = 2\n"])
def test_a_file_that_is_no_toml_is_an_error(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "limner.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        load(file, NOTHING)
    assert caught.value.where == str(file)


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"recommend": {"n": 0}}, "recommend.n"),
        ({"recommend": {"within": -3}}, "recommend.within"),
        ({"recommend": {"caps": {"type": 0}}}, "recommend.caps.type"),
        ({"serve": {"port": 65536}}, "serve.port"),
        ({"serve": {"port": -4}}, "serve.port"),
        ({"weights": {"purchase": float("nan")}}, "weights.purchase"),
        ({"lateness": "-3d"}, "duration"),
        ({"states_mb": -1}, "states_mb"),
        ({"facet": [{**FACET, "bound": 0}]}, "bound"),
        ({"facet": [{**FACET, "half_life": "0d"}]}, "half_life"),
        ({"facet": [{**FACET, "half_life": "nand"}]}, "half_life"),
        ({"facet": [{**FACET, "short_half_life": "infd"}]}, "short_half_life"),
        ({"facet": [{**FACET, "weights": {"view": float("inf")}}]}, "weights.view"),
        ({"facet": [{**FACET, "text": "{} of {}"}]}, "text"),
        ({"facet": [{**FACET, "text": "{pct}"}]}, "text"),
        ({"facet": [{**FACET, "kind": "histogram", "key": ""}]}, "key"),
        ({"facet": [{**FACET, "kind": "histogram"}]}, "event_type"),
        ({"facet": [{**FACET, "kind": "sessions"}]}, "event_type"),
        ({"facet": [{**FACET, "bands": [2, 1]}]}, "bands"),
        ({"facet": [{**FACET, "gap": "soon"}]}, "gap"),
        ({"facet": [{**FACET, "kind": "affinity", "key": ""}]}, "key"),
        ({"facet": [{**FACET, "kind": "price_level", "key": ""}]}, "key"),
        ({"train": {"holdout": 0.1}}, "holdout"),
    ],
)
def test_a_setting_that_means_nothing_is_refused(given: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(given)
    assert key in str(caught.value)
    assert caught.value.mend


def test_the_sequence_model_is_built_as_its_table_says() -> None:
    found = parse({"sequence": {"members": 3, "dropout": 0.4}}).sequence
    assert (found.members, found.dropout, found.depth) == (3, 0.4, 2)


@pytest.mark.parametrize(
    ("key", "value"), [("members", 0), ("dropout", 1.0), ("hide", -0.1), ("learning_rate", 0.0)]
)
def test_a_number_that_means_nothing_to_the_sequence_model_is_an_error(
    key: str, value: float
) -> None:
    with pytest.raises(ConfigError, match=rf"sequence\.{key}.*out of range"):
        parse({"sequence": {key: value}})


def test_a_kind_of_sequence_model_that_there_is_not_is_an_error() -> None:
    with pytest.raises(ConfigError, match="kind"):
        parse({"sequence": {"kind": "rnn"}})
