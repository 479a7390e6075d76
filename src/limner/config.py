"""The configuration: `limner.toml`, the domain's defaults under it, and `LIMNER_*` over it.

The only reader of either. Each component's own config lives beside the component; here they are
put together. An unknown key is an error that names the nearest known one.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from importlib import resources
from math import isfinite
from pathlib import Path
from typing import Any, Literal, TypeVar, get_type_hints
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from limner.catalog import encoders
from limner.catalog.encoders import EncodersConfig
from limner.errors import ConfigError, ExpressionError
from limner.events import expression
from limner.events.rules import CleanConfig
from limner.events.vocabulary import DEFAULT_WEIGHT
from limner.explain.writing import LlmConfig
from limner.model.gate import GateConfig
from limner.model.network import SequenceConfig
from limner.privacy.admit import PrivacyConfig
from limner.profile import facets
from limner.profile.changes import ChangesConfig
from limner.profile.facet import FacetConfig, duration
from limner.profile.population import PopulationConfig
from limner.profile.refresh import Refresh, RefreshConfig
from limner.profile.webhooks import WebhookConfig
from limner.recommend.rank import RecommendConfig

T = TypeVar("T")

FILE = "limner.toml"

ENVIRONMENT = {
    "LIMNER_CONFIG": "the configuration file, instead of ./limner.toml",
    "LIMNER_STORE": "the store's URL, over `store`",
    "LIMNER_DOMAIN": "the domain, over `domain`",
    "LIMNER_TIMEZONE": "the zone of users who name none, over `timezone`",
    "LIMNER_KEY_FILE": "the key file, over `key_file`",
    "LIMNER_HOST": "the address that `limner serve` binds, over `serve.host`",
    "LIMNER_PORT": "the port that `limner serve` binds, over `serve.port`",
    "LIMNER_EMBEDDINGS_KEY": "the key for an embeddings endpoint, over `encoders.api_key`",
    "LIMNER_LLM_URL": "the chat endpoint that writes portraits, over `llm.url`",
    "LIMNER_LLM_MODEL": "the model to ask there for, over `llm.model`",
    "LIMNER_LLM_KEY": "the key for it, over `llm.api_key`",
    "LIMNER_API_KEY": "the key that HTTP requests must carry, over `serve.api_key`",
}
"""Every environment variable that Limner reads."""


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """How the HTTP API listens, and to whom.

    With an `api_key`, which may do everything, or a key in the store, every request but health
    must carry one. `rate`: requests a second of each key (what it has not used for up to ten
    seconds it may use at once), 0 for any number. `origins`: whose web pages may ask.

    `log`: a line a request on stderr. `traces`: where spans of OpenTelemetry go, "console" or the
    URL of a collector; "" for none.
    """

    host: str = "127.0.0.1"
    port: int = 8088
    api_key: str = ""
    rate: float = 0.0
    origins: Sequence[str] = ()
    log: Literal["off", "text", "json"] = "off"
    traces: str = ""


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How models are trained.

    `sequence`: whether the sequence model takes part, if PyTorch is installed. `seed` makes runs
    repeatable. `refresh`: when a server trains by itself, "every …" or "cron …"; "" for never;
    `update`: the same of learning what is new, which `gate` lets into use. `vector`: when the
    model's view of a user is brought up to date, a policy as facets have. `keep`: how many
    versions are kept. `policy`: whether a training also learns, from logged lists and what came of
    them, the family "policy".
    """

    sequence: bool = True
    policy: bool = False
    seed: int = 0
    refresh: str = ""
    update: str = ""
    vector: str = "on_read"
    keep: int = 10
    gate: GateConfig = field(default_factory=GateConfig)


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that can be set; `limner.toml` has these keys, in these tables."""

    domain: str = "ecommerce"
    store: str = "sqlite:///limner.db"
    key_file: str = ""
    """The key file; beside the store by default."""
    timezone: str = "UTC"
    """The zone of users whose events name none, for hours and weekdays."""
    clock: Literal["wall", "events"] = "wall"
    """What is now: the wall clock, or for data of the past the newest event's time."""
    lateness: str = "7d"
    """How late an event may be and still be merged; later ones refold their user."""
    states_mb: int = 256
    """Memory for what the sequence model keeps of users from one answer to the next, in MB."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Worth of an event type as a sign of interest, over the domain's."""
    retention: Mapping[str, str] = field(default_factory=dict)
    """How long events are kept, by event type; "all" for those that are not named."""
    audiences: Mapping[str, str] = field(default_factory=dict)
    """Conditions by a name; who comes to meet one, or meets it no more, is told as a change."""
    scenario: Mapping[str, RecommendConfig] = field(default_factory=dict)
    """Lists by the place they are shown in; what one does not set is as in `recommend`."""
    clean: CleanConfig = field(default_factory=CleanConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    recommend: RecommendConfig = field(default_factory=RecommendConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    sequence: SequenceConfig = field(default_factory=SequenceConfig)
    encoders: EncodersConfig = field(default_factory=EncodersConfig)
    llm: LlmConfig = field(default_factory=LlmConfig)
    serve: ServeConfig = field(default_factory=ServeConfig)
    population: PopulationConfig = field(default_factory=PopulationConfig)
    refresh: RefreshConfig = field(default_factory=RefreshConfig)
    changes: ChangesConfig = field(default_factory=ChangesConfig)
    webhooks: Sequence[WebhookConfig] = ()
    """Where changes are sent to."""
    facet: Sequence[FacetConfig] = ()
    """Facets of the domain, then those of limner.toml; one of the same name replaces."""

    def key_path(self) -> Path | None:
        """Where the keys are: as set, else beside the store's file; None for a memory store."""
        if self.key_file:
            return Path(self.key_file).expanduser()
        if self.store.startswith("sqlite:///"):
            return Path(self.store.removeprefix("sqlite:///")).with_suffix(".key")
        return None


def load(
    path: Path | None = None, environment: Mapping[str, str] | None = None, **over: str
) -> Config:
    """The configuration of `path`, or `LIMNER_CONFIG`, or ./limner.toml if there is one.

    `over` (store, domain, …) is laid over everything. Relative paths in a file, and the store it
    does not name, are relative to the file. Raises ConfigError for a file that is missing or
    cannot be read, an unknown key or variable, or a value of the wrong type.
    """
    env = os.environ if environment is None else environment
    _check_environment(env)
    asked = path or (Path(env["LIMNER_CONFIG"]) if "LIMNER_CONFIG" in env else None)
    file = asked or Path(FILE)
    given: dict[str, Any] = {}
    if file.is_file():
        given = {"store": Config().store, **_read_toml(file)}
        for key in ("store", "key_file"):
            if key in given and isinstance(given[key], str):
                given[key] = _beside(file, given[key])
        if isinstance(given.get("encoders", {}), Mapping):
            given["encoders"] = _media_beside(file, given.get("encoders", {}))
    elif asked is not None:
        raise ConfigError(f"{asked} does not exist", mend="make one with: limner init")
    return parse(given, str(file), env, **over)


def parse(
    given: Mapping[str, Any],
    where: str = FILE,
    environment: Mapping[str, str] | None = None,
    **over: str,
) -> Config:
    """A configuration from the content of a limner.toml.

    >>> parse({"timezone": "Europe/Berlin"}).timezone
    'Europe/Berlin'
    >>> parse({"timezome": "UTC"})
    Traceback (most recent call last):
    limner.errors.ConfigError: limner.toml: 'timezome' is no setting
      to mend it: did you mean 'timezone'?
    """
    env = environment or {}
    merged: dict[str, Any] = dict(given)
    for name, key in (("STORE", "store"), ("DOMAIN", "domain"), ("TIMEZONE", "timezone"),
                      ("KEY_FILE", "key_file")):  # fmt: skip
        if env.get(f"LIMNER_{name}"):
            merged[key] = env[f"LIMNER_{name}"]
    over_serve: dict[str, Any] = {}
    for name in ("HOST", "PORT", "API_KEY"):
        if env.get(f"LIMNER_{name}"):
            value = env[f"LIMNER_{name}"]
            over_serve[name.lower()] = int(value) if name == "PORT" and value.isdigit() else value
    if over_serve and isinstance(merged.get("serve", {}), Mapping):
        merged["serve"] = {**merged.get("serve", {}), **over_serve}
    if env.get("LIMNER_EMBEDDINGS_KEY") and isinstance(merged.get("encoders", {}), Mapping):
        merged["encoders"] = {
            **merged.get("encoders", {}), "api_key": env["LIMNER_EMBEDDINGS_KEY"]
        }  # fmt: skip
    over_llm = {
        key: env[f"LIMNER_LLM_{name}"]
        for name, key in (("URL", "url"), ("MODEL", "model"), ("KEY", "api_key"))
        if env.get(f"LIMNER_LLM_{name}")
    }
    if over_llm and isinstance(merged.get("llm", {}), Mapping):
        merged["llm"] = {**merged.get("llm", {}), **over_llm}
    merged.update({key: value for key, value in over.items() if value})
    domain = _domain(str(merged.get("domain", "ecommerce")), where)
    own_facets = merged.pop("facet", [])
    webhooks = _webhooks(merged.pop("webhooks", []), env, where)
    scenarios = merged.pop("scenario", {})
    if isinstance(merged.get("population", {}), Mapping):
        own = {key: value for key, value in merged.get("population", {}).items() if value != ""}
        merged["population"] = {**domain.get("population", {}), **own}
    if not isinstance(own_facets, list):
        raise ConfigError("facet is no list of tables", where=where, mend="write it as [[facet]]")
    config = replace(build(Config, merged, where), webhooks=webhooks)
    config = replace(config, scenario=_scenarios(scenarios, merged.get("recommend", {}), where))
    for zone in (config.timezone, config.clean.tz):
        _check_zone(zone, where)
    duration(config.lateness, where)
    for name, length in config.retention.items():
        duration(length, f"{where}, retention.{name}")
    _check_numbers(config, where)
    weights = {**DEFAULT_WEIGHT, **domain.get("weights", {}), **config.weights}
    found: dict[str, FacetConfig] = {}
    for source, given_facets in ((f"domain {config.domain}", domain["facet"]), (where, own_facets)):
        for index, raw in enumerate(given_facets):
            named = raw.get("name", index + 1) if isinstance(raw, Mapping) else index + 1
            facet = build(FacetConfig, raw, f"{source}, [[facet]] {named}")
            facet.check()
            Refresh.parse(facet.refresh, f"facet {facet.name!r}, refresh")
            found[facet.name] = replace(facet, weights={**weights, **facet.weights})
    facets.build(list(found.values()))  # a facet that cannot be made is an error here
    return replace(config, weights=weights, facet=tuple(found.values()))


def _webhooks(given: Any, env: Mapping[str, str], where: str) -> tuple[WebhookConfig, ...]:
    """The webhooks, each with its secret, which may lie in a variable that it names."""
    if not isinstance(given, list):
        raise ConfigError(
            "webhooks is no list of tables", where=where, mend="write it as [[webhooks]]"
        )
    found: dict[str, WebhookConfig] = {}
    for index, raw in enumerate(given):
        place = f"{where}, [[webhooks]] {index + 1}"
        hook = build(WebhookConfig, raw, place)
        if hook.secret_env:
            if not env.get(hook.secret_env):
                raise ConfigError(
                    f"the variable {hook.secret_env}, which has its secret, is not set",
                    where=place,
                    mend="set it, or secret",
                )
            hook = replace(hook, secret=env[hook.secret_env])
        hook.check(place)
        if hook.name in found:
            raise ConfigError(f"the name {hook.name!r} is there twice", where=place,
                              mend="give each a name of its own")  # fmt: skip
        found[hook.name] = hook
    return tuple(found.values())


def _scenarios(given: Any, base: Mapping[str, Any], where: str) -> dict[str, RecommendConfig]:
    """Scenario → its settings, which are those of `recommend` where it says nothing."""
    if not isinstance(given, Mapping):
        raise ConfigError("scenario is no table", where=where, mend="write it as [scenario.NAME]")
    return {
        name: build(RecommendConfig, {**base, **own}, f"{where} [scenario.{name}]")
        if isinstance(own, Mapping)
        else build(RecommendConfig, own, f"{where} [scenario.{name}]")
        for name, own in given.items()
    }


def _check_numbers(config: Config, where: str) -> None:
    """Refuse numbers of the right type that mean nothing."""
    for name, asked in (("recommend", config.recommend), *(
        (f"scenario.{name}", found) for name, found in config.scenario.items()
    )):  # fmt: skip
        asked.check(f"{where}, {name}")
    if config.population.clusters < 0:
        raise ConfigError(
            f"population.clusters = {config.population.clusters} is too small",
            where=where,
            mend="use 0 for none, or how many to try",
        )
    if not 0 <= config.serve.port <= 65_535:
        raise ConfigError(
            f"serve.port = {config.serve.port} is no port", where=where, mend="use 0 to 65535"
        )
    if config.states_mb < 0:
        raise ConfigError(
            f"states_mb = {config.states_mb} is no size", where=where, mend="use 0 or more"
        )
    if not (isfinite(config.serve.rate) and config.serve.rate >= 0):
        raise ConfigError(
            f"serve.rate = {config.serve.rate} is no rate", where=where, mend="use 0 or more"
        )
    for origin in config.serve.origins:
        parts = urlsplit(origin)
        if origin != f"{parts.scheme}://{parts.netloc}" or not parts.scheme or not parts.netloc:
            raise ConfigError(
                f"serve.origins: {origin!r} is no origin",
                where=where,
                mend="name each as a browser does: https://shop.example",
            )
    for key, text in (
        ("refresh.population", config.refresh.population),
        ("refresh.snapshot", config.refresh.snapshot),
        ("refresh.audiences", config.refresh.audiences),
        ("refresh.retention", config.refresh.retention),
        ("train.refresh", config.train.refresh),
        ("train.update", config.train.update),
        ("encoders.refresh", config.encoders.refresh),
        ("llm.propose", config.llm.propose),
    ):
        Refresh.timed(text, f"{where}, {key}")
    for name, condition in config.audiences.items():
        try:
            expression.parse(condition)
        except ExpressionError as error:
            raise ConfigError(
                f"audiences.{name}: {error.what} ({error.where})", where=where, mend=error.mend
            ) from None
    Refresh.parse(config.train.vector, f"{where}, train.vector")
    if config.train.keep < 2:
        raise ConfigError(
            f"train.keep = {config.train.keep} is too small",
            where=where,
            mend="use 2 or more: the version in use, and the one to go back to",
        )
    config.train.gate.check(f"{where}, train.gate")
    config.sequence.check(where)
    config.changes.check(where)
    config.encoders.check(where)
    config.llm.check(where)
    for name, weight in config.weights.items():
        if not isfinite(weight):
            raise ConfigError(
                f"weights.{name} = {weight} is no weight", where=where, mend="use a number"
            )


def _check_zone(name: str, where: str) -> None:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(
            f"{name!r} is no time zone", where=where, mend="use a name such as Europe/Berlin"
        ) from None


def build(cls: type[T], given: Mapping[str, Any], where: str) -> T:
    """A frozen dataclass from a table of TOML; nested dataclasses from nested tables.

    Raises ConfigError naming the nearest known key for an unknown one, and for a missing or
    ill-typed value.
    """
    if not isinstance(given, Mapping):
        raise ConfigError(f"a table is needed, not {given!r}", where=where)
    hints = get_type_hints(cls)
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in known:
            close = get_close_matches(key, known, 1)
            mend = f"did you mean {close[0]!r}?" if close else f"use one of {', '.join(known)}"
            raise ConfigError(f"{key!r} is no setting", where=where, mend=mend)
        kind = hints[key]
        if is_dataclass(kind) and isinstance(kind, type):
            values[key] = build(kind, value, f"{where} [{key}]")
            continue
        try:
            values[key] = msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            raise ConfigError(
                f"{key} = {value!r}: {error}", where=where, mend="give a value of that type"
            ) from None
    for name, known_field in known.items():
        needed = known_field.default is MISSING and known_field.default_factory is MISSING
        if needed and name not in values:
            raise ConfigError(f"{name!r} is missing", where=where, mend=f"add: {name} = …")
    return cls(**values)


def domains() -> list[str]:
    """Names of the domains that come with Limner."""
    folder = resources.files("limner") / "domains"
    names = (path.name for path in folder.iterdir() if path.name.endswith(".toml"))
    return sorted(name.removesuffix(".toml") for name in names if "facet" in _toml(folder / name))


def _domain(name: str, where: str) -> dict[str, Any]:
    file = resources.files("limner") / "domains" / f"{name}.toml"
    if not name.isidentifier() or not file.is_file():
        raise ConfigError(
            f"domain {name!r} does not exist", where=where, mend=f"use one of {domains()}"
        )
    return _toml(file)


def _toml(file: Any) -> dict[str, Any]:
    return tomllib.loads(file.read_text(encoding="utf-8"))


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(file)) from None


def _beside(file: Path, value: str) -> str:
    prefix, slashes, path = value.partition("sqlite:///")
    if slashes:
        return f"sqlite:///{file.parent / path}" if not Path(path).is_absolute() else value
    return (
        value
        if Path(prefix).expanduser().is_absolute() or ":" in prefix
        else str(file.parent / prefix)
    )


def _media_beside(file: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """The table `encoders` with its paths beginning at the file."""
    out = {"folder": "", **given}
    for key in ("folder", *encoders.KINDS):
        if isinstance(value := out.get(key), str) and value not in (encoders.OFF, encoders.DEFAULT):
            out[key] = _beside(file, value)
    return out


def _check_environment(environment: Mapping[str, str]) -> None:
    for name in environment:
        if name.startswith("LIMNER_") and name not in ENVIRONMENT and name != "LIMNER_DATA":
            close = get_close_matches(name, ENVIRONMENT, 1)
            mend = f"did you mean {close[0]}?" if close else f"unset it; known: {list(ENVIRONMENT)}"
            raise ConfigError(f"{name} is no variable of Limner", where="environment", mend=mend)
