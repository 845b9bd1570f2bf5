"""`gorax run`: start a workflow and, if asked to, wait for its end."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from gorax_engine.cli import exits
from gorax_engine.cli.client import TIMEOUT, Client, segment
from gorax_engine.cli.output import print_json, printable
from gorax_engine.cli.session import Command, Session, pass_session
from gorax_engine.cli.workflow_calls import apply_workflow, find_workflow, is_id
from gorax_engine.errors import InvalidInput

if TYPE_CHECKING:
    from gorax_engine.core.model import Json

SLICE: Final = 30.0
"""Seconds that one call waits on the server at most."""


@click.command(cls=Command, name="run")
@click.argument("workflow", metavar="WORKFLOW|FILE")
@click.option("--input", "given", metavar="JSON|@FILE", help="The input; it becomes trigger.body. @- reads stdin.")
@click.option(
    "--wait", is_flag=True, help="Wait for the end: exit 0 completed, 1 failed, 3 cancelled, 5 still running."
)
@click.option("--timeout", type=click.FloatRange(0), default=30.0, show_default=True, help="Seconds to --wait at most.")
@click.option("--idempotency-key", metavar="KEY", help="The same key starts the run only once (24 h).")
@pass_session
def command(
    session: Session, workflow: str, given: str | None, wait: bool, timeout: float, idempotency_key: str | None
) -> int:
    """Start WORKFLOW (a name or an id), or apply FILE first and start what it holds."""
    value = read_input(given)
    client = session.client()
    workflow_id = _workflow_id(client, workflow)
    headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
    path = f"/workflows/{segment(workflow_id)}/execute"
    if not wait:
        started = client.call("POST", path, {"input": value}, headers=headers).data
        if session.as_json:
            print_json(started)
        else:
            # The id alone, so that "$(gorax run ...)" can be handed to `gorax execution watch`.
            print(printable(started["execution_id"]))
        return exits.OK
    deadline = time.monotonic() + timeout
    held = min(timeout, SLICE)
    answer = client.call(
        "POST", path, {"input": value}, query={"wait": math.ceil(held)}, headers=headers, timeout=held + TIMEOUT
    ).data
    execution = answer if "id" in answer else await_end(client, str(answer["execution_id"]), deadline)
    report(session, client, execution)
    return exits.of_status(execution["status"])


def read_input(given: str | None, *, option: str = "--input") -> Json:
    """Decode an option: JSON, `@file` or `@-`. Raises click.BadParameter."""
    if given is None:
        return {}
    try:
        if given == "@-":
            text = sys.stdin.read()
        elif given.startswith("@"):
            text = Path(given[1:]).read_text(encoding="utf-8")
        else:
            text = given
        return json.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{given[1:]} can't be read: {error}", param_hint=option) from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise click.BadParameter(f"this is not JSON ({error})", param_hint=option) from error


def await_end(client: Client, execution_id: str, deadline: float) -> Json:
    """Return the execution as soon as it has ended, or as it stands at `deadline` (of the monotonic clock)."""
    pause = 0.05
    while True:
        execution = client.get(f"/executions/{segment(execution_id)}").data
        left = deadline - time.monotonic()
        if execution["status"] in exits.ENDED or left <= 0:
            return execution
        time.sleep(min(pause, left))
        pause = min(2 * pause, 1.0)


def _workflow_id(client: Client, workflow: str) -> str:
    path = Path(workflow)
    if path.suffix.lower() in (".json", ".yaml", ".yml") or path.is_file():
        from gorax_engine.cli.workflow_files import read_workflows

        found = read_workflows(path)
        if len(found) != 1:
            raise InvalidInput(f"{path} holds {len(found)} workflows; apply it, then run one by name.")
        return str(apply_workflow(client, found[0])["id"])
    return workflow if is_id(workflow) else str(find_workflow(client, workflow)["id"])


def report(session: Session, client: Client, execution: Json) -> None:
    """Print how an execution stands, with its output, or its error and the step where it came from."""
    if session.as_json:
        print_json(execution)
        return
    print(f"Execution {execution['id']}: {execution['status']}")
    if execution["status"] not in exits.ENDED:
        print("It is still running; follow it with `gorax execution watch`.", file=sys.stderr)
    if execution.get("error_message"):
        sentence = execution["error_message"]
        if execution["status"] == "failed":
            sentence = client.get(f"/executions/{segment(execution['id'])}/explain").data["sentence"]
        print(f"{printable(sentence)} [{printable(execution.get('error_code'))}]", file=sys.stderr)
    if execution.get("output_data") is not None:
        print_json(execution["output_data"])
