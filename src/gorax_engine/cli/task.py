"""`gorax task`: what people are asked, and their decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from gorax_engine.cli.client import segment
from gorax_engine.cli.output import print_json, print_object, print_table, printable
from gorax_engine.cli.run import read_input
from gorax_engine.cli.session import Group, Session, pass_session

if TYPE_CHECKING:
    from gorax_engine.core.model import Json

COLUMNS: Final = ("id", "status", "task_type", "title", "assignees", "due_date", "overdue", "created_at")
STATUSES: Final = ("pending", "approved", "rejected", "expired", "cancelled")

data_option = click.option("--data", "given", metavar="JSON|@FILE", help="The form's values. @- reads stdin.")


@click.group(cls=Group, name="task")
def command() -> None:
    """List, show, decide and hand on human tasks."""


@command.command("list")
@click.option("--mine", is_flag=True, help="Only what the user of the API key is asked, also by a role.")
@click.option("--assignee", metavar="USER_ID", help="Only what this user is asked.")
@click.option("--status", type=click.Choice(STATUSES), help="Only those in this status.")
@click.option("--overdue", is_flag=True, help="Only pending ones whose due date has passed.")
@click.option("--execution", metavar="ID", help="Only those of this execution.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@pass_session
def list_tasks(
    session: Session,
    mine: bool,
    assignee: str | None,
    status: str | None,
    overdue: bool,
    execution: str | None,
    limit: int,
) -> None:
    """List the tasks, newest first."""
    filters = {
        "assignee": "me" if mine else assignee,
        "status": status,
        "overdue": "true" if overdue else None,
        "execution_id": execution,
    }
    items = list(session.client().pages("/tasks", filters, limit))
    if session.as_json:
        print_json(items)
    else:
        print_table(COLUMNS, ([_cell(item, name) for name in COLUMNS] for item in items))


@command.command()
@click.argument("task")
@pass_session
def show(session: Session, task: str) -> None:
    """Show one task with its form, its history and the response."""
    item = session.client().get(f"/tasks/{segment(task)}").data
    if session.as_json:
        print_json(item)
    else:
        print_object(item)


@command.command()
@click.argument("task")
@click.option("--comment", help="Becomes part of the response.")
@data_option
@pass_session
def approve(session: Session, task: str, comment: str | None, given: str | None) -> None:
    """Approve a task."""
    _act(session, task, "approve", {"comment": comment, "data": _data(given)})


@command.command()
@click.argument("task")
@click.option("--reason", help="Becomes part of the response.")
@data_option
@pass_session
def reject(session: Session, task: str, reason: str | None, given: str | None) -> None:
    """Reject a task."""
    _act(session, task, "reject", {"reason": reason, "data": _data(given)})


@command.command()
@click.argument("task")
@data_option
@pass_session
def submit(session: Session, task: str, given: str | None) -> None:
    """Submit the form of a task."""
    _act(session, task, "submit", {"data": _data(given)})


@command.command()
@click.argument("task")
@click.argument("to", metavar="USER_ID|ROLE")
@click.option("--comment", help="For the one who is asked now.")
@pass_session
def delegate(session: Session, task: str, to: str, comment: str | None) -> None:
    """Let somebody else decide in your place."""
    _act(session, task, "delegate", {"to": to, "comment": comment})


def _act(session: Session, task: str, verb: str, body: dict[str, Json]) -> None:
    sent = {name: value for name, value in body.items() if value is not None}
    answer = session.client().call("POST", f"/tasks/{segment(task)}/{verb}", sent).data
    if session.as_json:
        print_json(answer)
    else:
        print(f"Task {printable(answer['id'])}: {printable(answer['status'])}")


def _data(given: str | None) -> Json:
    if given is None:
        return None
    value = read_input(given, option="--data")
    if not isinstance(value, dict):
        raise click.BadParameter("the form's values are an object", param_hint="--data")
    return value


def _cell(item: Json, name: str) -> object:
    if name != "assignees":
        return item.get(name)
    return ", ".join(f"{each.get('type')} {each.get('name') or each.get('id')}" for each in item["assignees"])
