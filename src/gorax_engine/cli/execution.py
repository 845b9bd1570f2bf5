"""`gorax execution`: what ran, what runs, why it doesn't move, and stopping it."""

from __future__ import annotations

from typing import Final

import click

from gorax_engine.cli.client import segment
from gorax_engine.cli.output import print_json, print_object, print_table, printable
from gorax_engine.cli.session import Entry, Group, Session, pass_session
from gorax_engine.cli.workflow_calls import ALL, find_workflow, is_id

COLUMNS: Final = ("id", "status", "waiting_for", "trigger_type", "workflow_id", "created_at", "completed_at")
STEP_COLUMNS: Final = ("node_id", "iteration_path", "node_type", "status", "attempt", "duration_ms", "error_code")
WATCH: Final = Entry("gorax_engine.cli.watch", "Draw the steps of an execution live, until it ends.")


@click.group(cls=Group, name="execution", entries={"watch": WATCH})
def command() -> None:
    """List, show, watch, explain and cancel executions."""


@command.command("list")
@click.option("--workflow", help="Only those of this workflow, by name or id.")
@click.option("--status", help="Only those in this status (running, failed, ...).")
@click.option("--trigger-type", help="Only those started so (webhook, api, ...).")
@click.option("--waiting-for", help="Only those that wait for this (timer, human_task, ...).")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@pass_session
def list_executions(
    session: Session,
    workflow: str | None,
    status: str | None,
    trigger_type: str | None,
    waiting_for: str | None,
    limit: int,
) -> None:
    """List the executions, newest first."""
    client = session.client()
    if workflow is not None and not is_id(workflow):
        workflow = str(find_workflow(client, workflow)["id"])
    filters = {
        "workflow_id": workflow,
        "status": status,
        "trigger_type": trigger_type,
        "waiting_for": waiting_for,
    }
    items = list(client.pages("/executions", filters, limit))
    if session.as_json:
        print_json(items)
    else:
        print_table(COLUMNS, ([item.get(name) for name in COLUMNS] for item in items))


@command.command()
@click.argument("execution")
@pass_session
def show(session: Session, execution: str) -> None:
    """Show one execution."""
    item = session.client().get(f"/executions/{segment(execution)}").data
    if session.as_json:
        print_json(item)
    else:
        print_object(item)


@command.command()
@click.argument("execution")
@click.option("--attempts", "every", is_flag=True, help="Every attempt, not only the latest of each step.")
@pass_session
def steps(session: Session, execution: str, every: bool) -> None:
    """List the steps of an execution."""
    filters = {"attempts": "all" if every else None}
    items = list(session.client().pages(f"/executions/{segment(execution)}/steps", filters, ALL))
    if session.as_json:
        print_json(items)
    else:
        print_table(STEP_COLUMNS, ([item.get(name) for name in STEP_COLUMNS] for item in items))


@command.command()
@click.argument("execution")
@pass_session
def explain(session: Session, execution: str) -> None:
    """Say why an execution stands where it does."""
    answer = session.client().get(f"/executions/{segment(execution)}/explain").data
    if session.as_json:
        print_json(answer)
        return
    print(printable(answer["sentence"]))
    print_object({name: answer.get(name) for name in ("state", "blocker", "since", "details")})


@command.command()
@click.argument("execution")
@click.option("--force", is_flag=True, help="End it at once, without its `finally` parts.")
@pass_session
def cancel(session: Session, execution: str, force: bool) -> None:
    """Cancel an execution."""
    query = {"force": "true"} if force else None
    answer = session.client().call("POST", f"/executions/{segment(execution)}/cancel", query=query).data
    if session.as_json:
        print_json(answer)
    else:
        print(f"Execution {execution}: {printable(answer['status'])}")
