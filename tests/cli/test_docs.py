"""The documents for users: their commands parse, their workflows are valid, their tables are complete."""

import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

from gorax_engine.cli import exits
from gorax_engine.cli.main import gorax
from gorax_engine.core.reading import read
from gorax_engine.engine.explain import Blocker
from gorax_engine.nodes.catalogue import Catalogue, builtin_specs

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "how-to").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OPERATE = (ROOT / "docs" / "how-to" / "operate.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return [
        text for page in PAGES for kind, text in FENCE.findall(page.read_text(encoding="utf-8")) if kind == language
    ]


def commands() -> list[str]:
    lines = [line.removeprefix("$ ") for block in blocks("") for line in block.splitlines()]
    inner = [each for line in lines for each in re.findall(r'"\$\((gorax [^)]*)\)"', line)]
    outer = [re.sub(r'"\$\(gorax [^)]*\)"', "ID", line) for line in lines if line.startswith("gorax ")]
    return [*outer, *inner]


@pytest.mark.parametrize("line", commands())
def test_a_command_parses(line: str) -> None:
    command: click.Command = gorax
    arguments = shlex.split(line, comments=True)[1:]
    context = click.Context(gorax)
    while isinstance(command, click.Group):
        name, found, arguments = command.resolve_command(context, arguments)
        assert found is not None, name
        command = found
    # Files of the text don't exist here: values are not looked at, names of options and arguments are.
    command.make_context(command.name, list(arguments), resilient_parsing=True)


@pytest.mark.parametrize("text", [text for text in blocks("yaml") if text.startswith("name:")])
def test_a_workflow_is_valid(text: str) -> None:
    reading = read(yaml.safe_load(text)["definition"], Catalogue(builtin_specs()))
    assert reading.problems == ()
    assert reading.warnings == ()


def test_there_is_something_to_test() -> None:
    assert len(commands()) > 15
    assert sum(text.startswith("name:") for text in blocks("yaml")) >= 2


def test_every_blocker_and_exit_code_is_explained() -> None:
    rows = OPERATE.partition("| blocker |")[2].partition("\n\n")[0].splitlines()[2:]
    explained = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert explained == {each.value for each in Blocker}
    for code in (exits.OK, exits.FAILED, exits.USAGE, exits.CANCELLED, exits.CANNOT_CONNECT, exits.STILL_RUNNING):
        assert f"| {code} |" in OPERATE
    assert f"| {exits.NO_DATABASE} |" in OPERATE
    assert f"| {exits.CONFIGURATION} |" in OPERATE


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name}: {target}"
