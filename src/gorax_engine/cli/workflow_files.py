"""Workflow files: `{name, description?, definition, settings?}` or a list of them, in JSON or YAML.

YAML is read without aliases (a few lines of them grow to gigabytes) and with JSON's values only: dates stay text.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import yaml

from gorax_engine.errors import InvalidInput, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from gorax_engine.core.model import Json

MAX_BYTES: Final = 8 * 1024 * 1024
KEYS: Final = ("name", "description", "definition", "settings")


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

    def locate(self, problems: Iterable[Problem], *, in_definition: bool) -> tuple[Problem, ...]:
        """Return the problems with pointers that lead from the file's name to the fault."""
        base = f"{self.path}#{self.pointer}{'/definition' if in_definition else ''}"
        return tuple(Problem(each.code, base + each.pointer, each.message) for each in problems)


def read_workflows(path: Path) -> list[WorkflowFile]:
    """Read all workflows of a file. Raises BadFile with every fault, each with a pointer into the file."""
    return check_workflows(path, parse(path, _read(path)))


def check_workflows(path: Path, document: Json) -> list[WorkflowFile]:
    """Check the shape around the definitions; the definitions themselves are the server's to judge."""
    items = document if isinstance(document, list) else [document]
    problems: list[Problem] = []
    workflows: list[WorkflowFile] = []
    for index, item in enumerate(items):
        pointer = f"/{index}" if isinstance(document, list) else ""
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
    """Parse by the file's ending: `.json` as JSON, all else as YAML. Raises BadFile."""
    try:
        if path.suffix.lower() == ".json":
            return json.loads(text, parse_constant=_no_constant)
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader with fewer types and no aliases
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


def _read(path: Path) -> str:
    try:
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


def _no_constant(name: str) -> Json:
    raise ValueError(f"{name} is not a JSON value")


class _Loader(yaml.SafeLoader):
    """Safe YAML whose values are those of JSON."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            place = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # the stubs leave it out
            raise yaml.MarkedYAMLError(None, None, "aliases (*name) are not allowed", place)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                text = getattr(key, "value", "")
                raise yaml.MarkedYAMLError(None, None, f"the key {text!r} is not text; quote it", key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(None, None, f"the key {key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_float(self, node: yaml.ScalarNode) -> float:
        value = float(yaml.SafeLoader.construct_yaml_float(self, node))
        if not math.isfinite(value):
            raise yaml.MarkedYAMLError(None, None, f"{node.value} is not a JSON number", node.start_mark)
        return value


_JSON_TAGS: Final = ("null", "bool", "int", "float", "str", "seq", "map")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag.rpartition(":")[2] in _JSON_TAGS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.yaml_constructors = {
    tag: constructor
    for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in _JSON_TAGS
}
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_float)
