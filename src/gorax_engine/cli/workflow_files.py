"""Workflow files: `{name, description?, definition, settings?}` or a list of them, in JSON or YAML.

A YAML file may have several documents, each a workflow or a list of them. `-` is standard input.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import yaml

from gorax_engine.cli.yaml_json import read_yaml, write_yaml
from gorax_engine.errors import InvalidInput, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from gorax_engine.core.model import Json

MAX_BYTES: Final = 8 * 1024 * 1024
KEYS: Final = ("name", "description", "definition", "settings")
STDIN: Final = Path("-")


class Documents(list["Json"]):
    """The documents of a YAML file that has several."""


class BadFile(InvalidInput):
    """A workflow file that can't be read, or isn't one; the message names the file."""

    code = "invalid_file"


@dataclass(frozen=True, slots=True)
class WorkflowFile:
    """One workflow as it stands in a file; `pointer` says where in it."""

    path: Path
    pointer: str
    name: str
    definition: Json
    description: str | None = None
    settings: Json = None

    def body(self) -> dict[str, Json]:
        """Return what the API takes."""
        body: dict[str, Json] = {"name": self.name, "definition": self.definition}
        if self.description is not None:
            body["description"] = self.description
        if self.settings is not None:
            body["settings"] = self.settings
        return body

    def whole_definition(self) -> Json:
        """Return the definition with the file's settings in it, as it will be stored."""
        if not self.settings or not isinstance(self.definition, dict):
            return self.definition
        own = self.definition.get("settings")
        return {**self.definition, "settings": {**(own if isinstance(own, dict) else {}), **self.settings}}

    def locate(self, problems: Iterable[Problem], *, in_definition: bool) -> tuple[Problem, ...]:
        """Return the problems with pointers that lead from the file's name to the fault."""
        base = f"{self.path}#{self.pointer}{'/definition' if in_definition else ''}"
        return tuple(Problem(each.code, base + each.pointer, each.message) for each in problems)


def read_all(paths: Sequence[Path]) -> list[WorkflowFile]:
    """Read the workflows of several files. Raises BadFile, also when two workflows have one name."""
    workflows = [workflow for path in paths for workflow in read_workflows(path)]
    seen: dict[str, WorkflowFile] = {}
    for workflow in workflows:
        first = seen.setdefault(workflow.name, workflow)
        if first is not workflow:
            where = " and ".join(f"{each.path}#{each.pointer}" for each in (first, workflow))
            raise BadFile(f"The workflow {workflow.name!r} stands twice: {where}; rename or remove one.")
    return workflows


def read_workflows(path: Path) -> list[WorkflowFile]:
    """Read all workflows of a file; `-` is standard input. Raises BadFile with every fault and its pointer."""
    return check_workflows(path, parse(path, read_text(path)))


def write_workflows(workflows: Sequence[WorkflowFile], *, as_json: bool) -> str:
    """Return the text of a file that `read_workflows` reads as the same workflows."""
    bodies = [workflow.body() for workflow in workflows]
    content = bodies[0] if len(bodies) == 1 else bodies
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n" if as_json else write_yaml(content)


def check_workflows(path: Path, document: Json) -> list[WorkflowFile]:
    """Check the shape around the definitions; the definitions themselves are the server's to judge."""
    items = list(_items(document))
    problems: list[Problem] = []
    workflows: list[WorkflowFile] = []
    for pointer, item in items:
        found = list(_faults(item, pointer))
        problems += found
        if not found:
            workflows.append(
                WorkflowFile(
                    path, pointer, item["name"], item["definition"], item.get("description"), item.get("settings")
                )
            )
    if not items:
        problems.append(Problem("no_workflows", "", "the list is empty"))
    if problems:
        lines = "; ".join(f"{path}#{problem.pointer}: {problem.message}" for problem in problems[:3])
        raise BadFile(f"{path} is not a workflow file: {lines}.", problems=problems)
    return workflows


def parse(path: Path, text: str) -> Json:
    """Parse by the file's ending: `.json` as JSON, all else as YAML, of which JSON is a part. Raises BadFile.

    Several documents of YAML become a `Documents`, empty ones left out.
    """
    try:
        if path.suffix.lower() == ".json":
            return json.loads(
                text, parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_without_repeats
            )
        documents = read_yaml(text)
        return documents[0] if len(documents) == 1 else Documents(each for each in documents if each is not None)
    except json.JSONDecodeError as error:
        raise BadFile(f"{path} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}.") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = ", ".join(part for part in (error.context, error.problem) if part)
        raise BadFile(f"{path} is not YAML: {what}{place}.") from error
    except (yaml.YAMLError, ValueError) as error:
        raise BadFile(f"{path} can't be read: {error}.") from error
    except RecursionError as error:
        raise BadFile(f"{path} is nested too deeply.") from error


def read_text(path: Path) -> str:
    """Read a file of at most `MAX_BYTES`; `-` is standard input. Raises BadFile."""
    try:
        if path == STDIN:
            raw = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with path.open("rb") as file:
                raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadFile(f"{path} can't be read: {error.strerror}.") from error
    if len(raw) > MAX_BYTES:
        raise BadFile(f"{path} is larger than {MAX_BYTES // 1024 // 1024} MiB.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadFile(f"{path} is not UTF-8: a bad byte at offset {error.start}.") from error


def _items(document: Json) -> Iterator[tuple[str, Json]]:
    """Yield the workflows of a file with pointers to them; the first number is that of the document, if several."""
    if isinstance(document, Documents):
        for number, part in enumerate(document):
            yield from ((f"/{number}{pointer}", item) for pointer, item in _items(part))
    elif isinstance(document, list):
        yield from ((f"/{index}", item) for index, item in enumerate(document))
    else:
        yield "", document


def _faults(item: Json, pointer: str) -> list[Problem]:
    if not isinstance(item, dict):
        return [Problem("invalid_type", pointer, "a workflow is an object with `name` and `definition`")]
    problems = []
    if not isinstance(item.get("name"), str) or not item["name"].strip():
        problems.append(Problem("missing_name", f"{pointer}/name", "a workflow needs a name, as text"))
    if not isinstance(item.get("definition"), dict):
        problems.append(Problem("missing_definition", f"{pointer}/definition", "a workflow needs a definition"))
    if not isinstance(item.get("description", ""), str):
        problems.append(Problem("invalid_type", f"{pointer}/description", "the description must be text"))
    if not isinstance(item.get("settings", {}), dict):
        problems.append(Problem("invalid_type", f"{pointer}/settings", "the settings must be an object"))
    problems += [
        Problem("unknown_key", f"{pointer}/{key}", f"unknown key; a workflow file knows {', '.join(KEYS)}")
        for key in item
        if key not in KEYS
    ]
    return problems


def _without_repeats(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    value = dict(pairs)
    if len(value) != len(pairs):
        twice = next(key for key in value if sum(key == other for other, _ in pairs) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is not a number that can be stored")
    return value


def _no_constant(name: str) -> Json:
    raise ValueError(f"{name} is not a JSON value")
