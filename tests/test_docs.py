"""The documentation names everything there is, and nothing else."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

from limner import config
from limner.app import Limner
from limner.cli import cli
from limner.cli.starter import MEANINGS, settings, starter
from limner.errors import LimnerError, every_error
from limner.events.missing import FIELDS, INFERRED
from limner.events.rules import RULES
from limner.profile.facets import KINDS, LABEL, READERS
from limner.serve.http import api
from limner.serve.openapi import EXAMPLES
from limner.serve.problems import STATUS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
SHARED = {"--config", "--store", "--json", "--help"}


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def sections(text: str, level: int) -> dict[str, str]:
    """Heading → what stands below it, up to the next heading of that level."""
    parts = re.split(rf"^{'#' * level} (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def first_cells(text: str) -> list[str]:
    """The first cells of all table rows, without the rows that head the tables."""
    rows = re.findall(r"^\| (`.+?) \|", text, re.MULTILINE)
    return [cell for row in rows for cell in re.findall(r"`([^`]+)`", row)]


def blocks(language: str, pages: list[Path] = PAGES) -> list[tuple[str, str]]:
    """Fenced code of a language, each with where it stands."""
    return [
        (f"{path.relative_to(ROOT)}: {body.strip().splitlines()[0]}", body)
        for path in pages
        for body in re.findall(
            rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S
        )
        if body.strip()
    ]


# -- command line ----------------------------------------------------------------------------


def options_of(command: click.Command) -> set[str]:
    names = set()
    if isinstance(command, click.Group):
        for part in command.commands.values():
            names |= options_of(part)
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            names |= {*parameter.opts, *parameter.secondary_opts}
    return names - SHARED


def test_every_command_has_a_section_and_every_section_a_command() -> None:
    documented = {
        heading.removeprefix("limner ")
        for heading in sections(page("cli.md"), 2)
        if heading.startswith("limner ")
    }
    assert documented == set(cli.commands)


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_the_options_of_a_command_are_documented_and_no_others(name: str) -> None:
    text = sections(page("cli.md"), 2)[f"limner {name}"]
    documented = {cell.split()[0] for cell in first_cells(text)}
    assert documented == options_of(cli.commands[name])


def test_the_options_that_every_command_has() -> None:
    text = sections(page("cli.md"), 2)["What all commands share"]
    assert {cell.split()[0] for cell in first_cells(text)} == SHARED
    for command in cli.commands.values():
        shared = {name for parameter in command.params for name in parameter.opts}
        assert SHARED - {"--help"} <= shared


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_help_has_an_example_that_is_true(name: str) -> None:
    epilog = cli.commands[name].epilog or ""
    examples = [line.strip() for line in epilog.splitlines() if line.strip().startswith("limner")]
    assert examples
    for example in examples:
        parses(example)


def parses(line: str) -> None:
    """Raise UsageError of click if a shell command is not one of the command line."""
    for part in re.split(r"&&|\|", line):
        words = shlex.split(part, comments=True)
        if words and words[0] == "limner":
            context = cli.make_context("limner", list(words[1:]))
            group: click.Command = cli
            while isinstance(group, click.Group):
                given = [*context._protected_args, *context.args]
                if not given:
                    break
                name, command, rest = group.resolve_command(context, given)
                assert command is not None
                context, group = command.make_context(name, rest, parent=context), command


def shell_lines() -> Iterator[tuple[str, str]]:
    for language in ("sh", "bash", "console", "shell"):
        for where, body in blocks(language):
            for line in body.replace("\\\n", " ").splitlines():
                text = line.strip().removeprefix("$ ")
                if re.search(r"(^|&& )limner ", text):
                    yield where, text[text.index("limner ") :]


@pytest.mark.parametrize(("where", "line"), sorted(set(shell_lines())))
def test_commands_in_the_documentation_parse(where: str, line: str) -> None:
    parses(line)


def test_the_check_of_commands_would_notice() -> None:
    with pytest.raises(click.UsageError):
        parses("limner recommend u1 --explane")
    with pytest.raises(click.UsageError):
        parses("limner improt x.csv")


# -- HTTP ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    with Limner.open(config=config.parse({"store": "memory:"})) as app:
        return api(app).openapi()


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_every_endpoint_has_a_section_and_every_section_an_endpoint(
    openapi: dict[str, Any],
) -> None:
    documented = {heading.strip("`") for heading in sections(page("http.md"), 3)}
    assert documented == set(operations(openapi))


def test_each_duty_names_a_command_and_an_endpoint_that_exist(openapi: dict[str, Any]) -> None:
    there = {f"{verb.upper()} {path}" for path, verbs in openapi["paths"].items() for verb in verbs}
    duties = re.findall(r"^\| ((?:DSA|GDPR) .+) \|$", page("duties.md"), re.MULTILINE)
    assert len(duties) >= 10
    for row in duties:
        duty, _, command, endpoint = [cell.strip() for cell in row.split(" | ")]
        assert command.strip("`").removeprefix("limner ") in cli.commands, duty
        assert endpoint.strip("`") in there, duty
    articles = set(re.findall(r"\b(15|16|17|20|21|22|27|38)\b", " ".join(duties)))
    assert articles >= {"15", "16", "17", "21", "22", "27", "38"}


def test_every_parameter_of_an_endpoint_is_documented(openapi: dict[str, Any]) -> None:
    texts = sections(page("http.md"), 3)
    for name, operation in operations(openapi).items():
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "query":
                text = texts[f"`{name}`"]
                assert re.search(rf"`{parameter['name']}[`=]", text), (name, parameter["name"])


def test_openapi_describes_every_endpoint_with_examples(openapi: dict[str, Any]) -> None:
    schemas = openapi["components"]["schemas"]
    for name, operation in operations(openapi).items():
        assert operation["summary"] and operation["description"], name
        good = [code for code in operation["responses"] if code.startswith("2")]
        assert good, name
        for code in good:
            (content,) = operation["responses"][code]["content"].values()
            assert content["example"], name
            assert content["schema"]["$ref"].rpartition("/")[2] in schemas, name
        if not name.startswith("GET /health"):
            assert "4XX" in operation["responses"], name


@pytest.mark.parametrize("cls", EXAMPLES, ids=lambda cls: cls.__name__)
def test_an_example_of_an_answer_is_one(cls: type[Any]) -> None:
    known = {field.name for field in fields(cls)}
    assert set(EXAMPLES[cls]) <= known
    assert msgspec.convert(EXAMPLES[cls], cls)


# -- configuration ---------------------------------------------------------------------------


def documented_settings() -> dict[str, str]:
    """Setting → the default its row states."""
    known = {name.partition(".")[0] for name in MEANINGS}
    rows = re.findall(
        r"^\| `([a-z0-9_.]+)` \| (.+?) \| .+\|$", page("configuration.md"), re.MULTILINE
    )
    return {name: default for name, default in rows if name.partition(".")[0] in known}


def test_every_setting_is_documented_with_its_default_and_no_others() -> None:
    documented = documented_settings()
    assert set(documented) == {name for name, _ in settings()}
    for name, default in settings():
        said = documented[name].strip("`")
        if default is MISSING:
            assert said == "needed"
        elif default is None:
            assert said == "unset"
        else:
            (value,) = tomllib.loads(f"x = {said}").values()
            assert value == (list(default) if isinstance(default, tuple) else default), name


def test_the_starter_names_every_setting_with_its_default() -> None:
    text = starter("ecommerce")
    live = re.sub(r"^# (\w+ = .*|\[.*\])$", r"\1", text, flags=re.MULTILINE)
    given = tomllib.loads(live)
    (facet,), (webhook,) = given.pop("facet"), given.pop("webhooks")
    for name, default in settings():
        head, _, key = name.rpartition(".")
        table = {"facet": facet, "webhooks": webhook}.get(head, given)
        for name_of_table in head.split(".") if head and table is given else ():
            table = table[name_of_table]
        value = table[key]
        if default not in (MISSING, None, "", {}) and name != "webhooks.kinds":
            assert value == (list(default) if isinstance(default, tuple) else default), name
    assert config.parse(tomllib.loads(live)).domain == "ecommerce"


def test_every_variable_is_documented_and_no_others() -> None:
    assert set(re.findall(r"^\| `(LIMNER_\w+)` \|", page("configuration.md"), re.M)) == set(
        config.ENVIRONMENT
    )
    for path in PAGES:
        named = set(re.findall(r"LIMNER_[A-Z_]+", path.read_text(encoding="utf-8")))
        assert named <= set(config.ENVIRONMENT), path


def test_every_cleaning_rule_is_documented_with_its_version_and_effect() -> None:
    text = sections(page("cleaning.md"), 2)["Rules"]
    documented = re.findall(r"^\| `(\w+)` \| (\d+) \| (\w+) \|", text, re.MULTILINE)
    effects = {
        name: "refuses" if not rule.bit else "doubts" if rule.doubt else "notes"
        for name, rule in RULES.items()
    }
    assert documented == [(name, str(rule.version), effects[name]) for name, rule in RULES.items()]
    needed = re.search(r"no event \((.+?)\) stay on", text)
    assert needed is not None
    assert re.findall(r"`(\w+)`", needed[1]) == [n for n, rule in RULES.items() if rule.needed]


def test_what_can_be_missing_is_documented() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (.+) \|$", sections(page("cleaning.md"), 2)["Missing values"], re.M
    )
    said = {name: re.sub(r"`| \(it has no default\)", "", text) for name, text in rows}
    assert said == {name: INFERRED.get(name, "no") for name in FIELDS}


def test_every_kind_of_facet_is_documented_with_an_example_and_no_others() -> None:
    every = {*KINDS, *READERS, LABEL}
    text = sections(page("facets.md"), 2)["The kinds"]
    documented = {heading.strip("`"): body for heading, body in sections(text, 3).items()}
    assert set(documented) == every
    for kind, body in documented.items():
        assert f'kind = "{kind}"' in body
    assert set(re.split(r", | or ", MEANINGS["facet.kind"].rstrip("."))) == every


@pytest.mark.parametrize(("where", "body"), blocks("toml"))
def test_toml_in_the_documentation_is_a_configuration(where: str, body: str) -> None:
    from limner.profile import facets

    facets.build(config.parse(tomllib.loads(body), where).facet)


# -- errors ----------------------------------------------------------------------------------


def test_every_error_is_documented_with_status_and_exit_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (\d) \|", page("http.md"), re.MULTILINE)
    ours = [cls for cls in every_error(LimnerError) if cls.__module__ == "limner.errors"]
    expected = {
        cls.__name__: (STATUS[next(c for c in cls.__mro__ if c in STATUS)], cls.exit_code)
        for cls in ours
    }
    assert {name: (int(status), int(code)) for name, status, code in rows} == expected


def test_links_between_pages_lead_somewhere() -> None:
    for path in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
            file, _, place = target.partition("#")
            if re.match(r"\w+:", target):
                continue
            goal = (path.parent / file).resolve() if file else path
            assert goal.exists(), f"{path.name}: {target}"
            if place:
                titles = re.findall(r"^#+ (.+)$", goal.read_text(encoding="utf-8"), re.M)
                plain = (re.sub(r"[^\w\- ]", "", title).strip() for title in titles)
                anchors = {title.lower().replace(" ", "-") for title in plain}
                assert place in anchors, f"{path.name}: {target}"
