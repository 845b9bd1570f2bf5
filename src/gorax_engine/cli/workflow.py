"""`gorax workflow`: what is stored, and bringing files there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from gorax_engine.cli import exits
from gorax_engine.cli.output import print_error, print_json, print_object, print_table, printable, problem_line
from gorax_engine.cli.session import Entry, Group, Session, pass_session
from gorax_engine.errors import InvalidDefinition, Problem

if TYPE_CHECKING:
    from gorax_engine.cli.client import Client
    from gorax_engine.cli.workflow_files import WorkflowFile
    from gorax_engine.core.model import Json

COLUMNS: Final = ("id", "name", "status", "published_version", "updated_at")
VERSION_COLUMNS: Final = ("version", "created_at", "created_by")
FILES = click.argument(
    "files",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    metavar="FILE...",
)
ENTRIES: Final = {"test": Entry("gorax_engine.cli.workflow_test", "Run the cases of test files, without a server.")}


@click.group(cls=Group, name="workflow", entries=ENTRIES)
def command() -> None:
    """Workflows: what is stored, and bringing files there and back. A FILE is JSON or YAML, `-` standard input."""


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
    from gorax_engine.cli.workflow_calls import validate_workflow
    from gorax_engine.cli.workflow_files import read_all

    workflows = read_all(files)
    client = session.client()
    results: list[dict[str, Json]] = []
    for workflow in workflows:
        verdict = validate_workflow(client, workflow)
        results.append({"file": str(workflow.path), "name": workflow.name, **verdict})
        if session.as_json:
            continue
        if verdict["valid"]:
            print(f"{workflow.path}: {workflow.name} is valid")
        else:
            _print_faults(workflow, verdict)
        for problem in workflow.locate(_problems(verdict["warnings"]), in_definition=True):
            print(f"  warning: {printable(problem_line(problem))}")
    if session.as_json:
        print_json(results)
    return exits.OK if all(result["valid"] for result in results) else exits.FAILED


@command.command()
@FILES
@pass_session
def apply(session: Session, files: tuple[Path, ...]) -> int:
    """Save and publish the workflows of files; what has not changed is left alone.

    Several are all checked before the first is saved, so that a fault of one leaves everything as it was.
    """
    from gorax_engine.cli.workflow_calls import apply_workflow
    from gorax_engine.cli.workflow_files import read_all

    workflows = read_all(files)
    client = session.client()
    if len(workflows) > 1 and not _all_valid(client, workflows):
        return exits.FAILED
    applied = []
    for workflow in workflows:
        result = apply_workflow(client, workflow)
        applied.append(result)
        if not session.as_json:
            print(f"{result['name']}: {result['action']}, version {result['version']} ({result['id']})")
    if session.as_json:
        print_json(applied)
    return exits.OK


@command.command()
@click.argument("workflows", nargs=-1, metavar="[WORKFLOW]...")
@click.option("--all", "every", is_flag=True, help="Every workflow that is not archived.")
@click.option("--version", type=click.IntRange(1), help="A published version; default: the draft.")
@click.option("--format", "form", type=click.Choice(["yaml", "json"]), help="Default: by the file's name, else yaml.")
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Default: standard output."
)
@pass_session
def export(
    session: Session,
    workflows: tuple[str, ...],
    every: bool,
    version: int | None,
    form: str | None,
    output: Path | None,
) -> None:
    """Write workflows, by name or id, as a file that `apply` reads."""
    from gorax_engine.cli.workflow_calls import ALL, export_workflow
    from gorax_engine.cli.workflow_files import write_workflows

    if bool(workflows) == every:
        raise click.UsageError("Name the workflows to export, or give --all.")
    if version is not None and len(workflows) != 1:
        raise click.UsageError("--version is for one workflow.")
    client = session.client()
    names = [str(item["id"]) for item in client.pages("/workflows", {}, ALL)] if every else workflows
    files = sorted((export_workflow(client, name, version) for name in names), key=lambda file: file.name)
    as_json = session.as_json or form == "json" or (form is None and output is not None and output.suffix == ".json")
    text = write_workflows(files, as_json=as_json)
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")


@command.command()
@click.argument("workflow")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@pass_session
def versions(session: Session, workflow: str, limit: int) -> None:
    """List the published versions of a workflow, by name or id, newest first."""
    from gorax_engine.cli.client import segment
    from gorax_engine.cli.workflow_calls import find_workflow

    client = session.client()
    path = f"/workflows/{segment(find_workflow(client, workflow)['id'])}/versions"
    items = list(client.pages(path, {}, limit))
    if session.as_json:
        print_json(items)
    else:
        print_table(VERSION_COLUMNS, ([item.get(name) for name in VERSION_COLUMNS] for item in items))


@command.command()
@click.argument("workflow")
@click.argument("version", type=click.IntRange(1))
@click.option("--publish", "publishes", is_flag=True, help="Publish it at once, as the next version.")
@pass_session
def restore(session: Session, workflow: str, version: int, publishes: bool) -> None:
    """Make a published version of a workflow its draft again."""
    from gorax_engine.cli.client import segment
    from gorax_engine.cli.workflow_calls import find_workflow, publish_workflow

    client = session.client()
    workflow_id = segment(find_workflow(client, workflow)["id"])
    item = client.call("POST", f"/workflows/{workflow_id}/versions/{version}/restore", {}).data
    if publishes:
        item = publish_workflow(client, item["id"])
    if session.as_json:
        print_json(item)
    elif publishes:
        print(f"{item['name']}: version {version} is published as version {item['published_version']}")
    else:
        print(f"{item['name']}: version {version} is the draft")


@command.command()
@click.argument("workflows", nargs=-1, required=True, metavar="WORKFLOW...")
@pass_session
def archive(session: Session, workflows: tuple[str, ...]) -> None:
    """Archive workflows, by name or id: nothing starts them any more, their names are free, their runs stay."""
    _archive(session, workflows)


@command.command()
@click.argument("workflows", nargs=-1, required=True, metavar="WORKFLOW...")
@pass_session
def delete(session: Session, workflows: tuple[str, ...]) -> None:
    """The same as archive: what has runs is never erased by hand, but by retention."""
    _archive(session, workflows)


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


def _archive(session: Session, workflows: tuple[str, ...]) -> None:
    from gorax_engine.cli.client import segment
    from gorax_engine.cli.workflow_calls import find_workflow

    client = session.client()
    found = [(name, find_workflow(client, name)["id"]) for name in workflows]
    archived = []
    for name, workflow_id in found:
        archived.append(client.call("DELETE", f"/workflows/{segment(workflow_id)}").data)
        if not session.as_json:
            print(f"{printable(name)}: archived ({workflow_id})")
    if session.as_json:
        print_json(archived)


def _all_valid(client: Client, workflows: list[WorkflowFile]) -> bool:
    """Check all definitions and print the faults of each."""
    from gorax_engine.cli.workflow_calls import validate_workflow

    verdicts = [(workflow, validate_workflow(client, workflow)) for workflow in workflows]
    for workflow, verdict in verdicts:
        if not verdict["valid"]:
            _print_faults(workflow, verdict)
    return all(verdict["valid"] for _, verdict in verdicts)


def _print_faults(workflow: WorkflowFile, verdict: Json) -> None:
    faults = workflow.locate(_problems(verdict["errors"]), in_definition=True)
    print_error(f"{workflow.path}: {workflow.name} has faults.", InvalidDefinition.code, faults)


def _problems(items: Json) -> list[Problem]:
    return [
        Problem(str(item.get("code", "")), str(item.get("pointer", "")), str(item.get("message", "")))
        for item in items or ()
    ]
