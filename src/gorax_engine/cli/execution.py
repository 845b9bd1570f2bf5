"""`gorax execution`: what ran, what runs, why it doesn't move; stopping it, and running it again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import click

from gorax_engine.cli import exits
from gorax_engine.cli.client import segment
from gorax_engine.cli.output import print_json, print_object, print_table, printable
from gorax_engine.cli.run import await_end, read_input, report
from gorax_engine.cli.session import Entry, Group, Session, pass_session
from gorax_engine.cli.workflow_calls import ALL, find_workflow, is_id

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from gorax_engine.core.model import Json

COLUMNS: Final = ("id", "status", "waiting_for", "trigger_type", "workflow_id", "created_at", "completed_at")
STEP_COLUMNS: Final = (
    "node_id",
    "iteration_path",
    "node_type",
    "status",
    "round",
    "attempt",
    "duration_ms",
    "error_code",
)
WATCH: Final = Entry("gorax_engine.cli.watch", "Draw the steps of an execution live, until it ends.")


@click.group(cls=Group, name="execution", entries={"watch": WATCH})
def command() -> None:
    """List, show, watch, explain, cancel, pause and retry executions."""


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
        return
    ends = answer["status"] not in exits.ENDED
    print(f"Execution {execution}: {printable(answer['status'])}" + (", about to be cancelled" if ends else ""))


@command.command()
@click.argument("execution")
@pass_session
def pause(session: Session, execution: str) -> None:
    """Let an execution begin no further step; steps at work go on to their end."""
    _ask(session, execution, "pause", None, "paused")


@command.command()
@click.argument("execution")
@pass_session
def resume(session: Session, execution: str) -> None:
    """Let a paused execution go on."""
    _ask(session, execution, "resume", None, "goes on")


@command.command()
@click.argument("execution")
@click.argument("name")
@click.option("--payload", metavar="JSON|@FILE", help="What the event says. @- reads stdin.")
@pass_session
def signal(session: Session, execution: str, name: str, payload: str | None) -> None:
    """Give the event NAME to the waits of one execution alone."""
    body = {"name": name}
    if payload is not None:
        body["payload"] = read_input(payload, option="--payload")
    _ask(session, execution, "signal", body, f"got the event {printable(name)}")


def _ask(session: Session, execution: str, verb: str, body: Json, done: str) -> None:
    answer = session.client().call("POST", f"/executions/{segment(execution)}/{verb}", body).data
    if session.as_json:
        print_json(answer)
    else:
        print(f"Execution {execution}: {done}")


def _again(function: Callable[..., int]) -> Callable[..., int]:
    """Add the options that retry and replay have alike."""
    decorators = [
        click.argument("execution"),
        click.option(
            "--version", type=click.Choice(["same", "current"]), default="same", show_default=True,
            help="On the version that it had, or on the published one.",
        ),
        click.option("--input", "given", metavar="JSON|@FILE", help="Another input. @- reads stdin."),
        click.option("--from-step", metavar="STEP", help="This step and all that depends on it begin anew."),
        click.option("--wait", is_flag=True, help="Wait for the end: exit 0, 1, 3 or 5, as `gorax run` does."),
        click.option(
            "--timeout", type=click.FloatRange(0), default=30.0, show_default=True, help="Seconds to --wait at most."
        ),
        click.option("--idempotency-key", metavar="KEY", help="The same key starts it only once (24 h)."),
    ]  # fmt: skip
    for decorate in reversed(decorators):
        function = decorate(function)
    return function


@command.command()
@_again
@pass_session
def retry(session: Session, /, execution: str, **options: Any) -> int:
    """Start an execution that goes on from where EXECUTION failed or was cancelled."""
    return _run_again(session, execution, "retry", **options)


@command.command()
@_again
@pass_session
def replay(session: Session, /, execution: str, **options: Any) -> int:
    """Start an execution afresh, with the input of EXECUTION, which has ended."""
    return _run_again(session, execution, "replay", **options)


def _run_again(
    session: Session,
    execution: str,
    verb: str,
    *,
    version: str,
    given: str | None,
    from_step: str | None,
    wait: bool,
    timeout: float,
    idempotency_key: str | None,
) -> int:
    body: dict[str, Json] = {"version": version}
    if given is not None:
        body["input"] = read_input(given)
    if from_step is not None:
        body["from_step"] = from_step
    client = session.client()
    headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
    started = client.call("POST", f"/executions/{segment(execution)}/{verb}", body, headers=headers).data
    if wait:
        ended = await_end(client, str(started["execution_id"]), time.monotonic() + timeout)
        report(session, client, ended)
        return exits.of_status(ended["status"])
    if session.as_json:
        print_json(started)
    else:
        # The id alone, as `gorax run` prints it.
        print(printable(started["execution_id"]))
    return exits.OK
