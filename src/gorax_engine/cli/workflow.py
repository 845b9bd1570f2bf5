"""`gorax workflow`: what is stored, and bringing files there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from gorax_engine.cli import exits
from gorax_engine.cli.output import print_error, print_json, print_object, print_table, printable, problem_line
from gorax_engine.cli.session import Group, Session, pass_session
from gorax_engine.errors import InvalidDefinition, Problem

if TYPE_CHECKING:
    from gorax_engine.core.model import Json

COLUMNS: Final = ("id", "name", "status", "published_version", "updated_at")
FILES = click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE..."
)


@click.group(cls=Group, name="workflow")
def command() -> None:
    """List, show, validate, apply and publish workflows."""


@command.command("list")
@click.option("--status", help="Only those in this status (active, draft, ...).")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@pass_session
def list_workflows(session: Session, status: str | None, limit: int) -> None:
    """List the workflows."""
    items = list(session.client().pages("/workflows", {"status": status}, limit))
    if session.as_json:
        print_json(items)
    else:
        print_table(COLUMNS, ([item.get(name) for name in COLUMNS] for item in items))


@command.command()
@click.argument("workflow")
@pass_session
def show(session: Session, workflow: str) -> None:
    """Show one workflow, by name or id."""
    from gorax_engine.cli.workflow_calls import find_workflow

    item = find_workflow(session.client(), workflow)
    if session.as_json:
        print_json(item)
        return
    definition = item.get("definition") or {}
    print_object({name: value for name, value in item.items() if name not in ("definition", "settings")})
    print()
    nodes = definition.get("nodes") or ()
    print_table(("node", "type", "name"), ([node.get("id"), node.get("type"), node.get("name")] for node in nodes))


@command.command()
@FILES
@pass_session
def validate(session: Session, files: tuple[Path, ...]) -> int:
    """Check workflow files without storing anything; exit 1 if one has an error."""
    from gorax_engine.cli.workflow_files import read_workflows

    workflows = [workflow for path in files for workflow in read_workflows(path)]
    client = session.client()
    results: list[dict[str, Json]] = []
    for workflow in workflows:
        verdict = client.call("POST", "/workflows/validate", {"definition": workflow.definition}).data
        results.append({"file": str(workflow.path), "name": workflow.name, **verdict})
        if session.as_json:
            continue
        if verdict["valid"]:
            print(f"{workflow.path}: {workflow.name} is valid")
        else:
            faults = workflow.locate(_problems(verdict["errors"]), in_definition=True)
            print_error(f"{workflow.path}: {workflow.name} has faults.", InvalidDefinition.code, faults)
        for problem in workflow.locate(_problems(verdict["warnings"]), in_definition=True):
            print(f"  warning: {printable(problem_line(problem))}")
    if session.as_json:
        print_json(results)
    return exits.OK if all(result["valid"] for result in results) else exits.FAILED


@command.command()
@FILES
@pass_session
def apply(session: Session, files: tuple[Path, ...]) -> None:
    """Save and publish the workflows of files; what has not changed is left alone."""
    from gorax_engine.cli.workflow_calls import apply_workflow
    from gorax_engine.cli.workflow_files import read_workflows

    workflows = [workflow for path in files for workflow in read_workflows(path)]
    client = session.client()
    applied = []
    for workflow in workflows:
        result = apply_workflow(client, workflow)
        applied.append(result)
        if not session.as_json:
            print(f"{result['name']}: {result['action']}, version {result['version']} ({result['id']})")
    if session.as_json:
        print_json(applied)


@command.command()
@click.argument("workflow")
@pass_session
def publish(session: Session, workflow: str) -> None:
    """Publish the draft of a workflow, by name or id, as its next version."""
    from gorax_engine.cli.workflow_calls import find_workflow, publish_workflow

    client = session.client()
    item = publish_workflow(client, find_workflow(client, workflow)["id"])
    if session.as_json:
        print_json(item)
    else:
        print(f"{workflow}: published as version {item['published_version']}")


def _problems(items: Json) -> list[Problem]:
    return [
        Problem(str(item.get("code", "")), str(item.get("pointer", "")), str(item.get("message", "")))
        for item in items or ()
    ]
