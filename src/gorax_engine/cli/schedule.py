"""`gorax schedule`: when workflows start by themselves, and what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from gorax_engine.cli.credential import is_id
from gorax_engine.cli.output import print_json, print_object, print_table, printable
from gorax_engine.cli.run import read_input
from gorax_engine.cli.session import Group, Session, pass_session
from gorax_engine.errors import GoraxError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gorax_engine.cli.client import Client
    from gorax_engine.core.model import Json

COLUMNS: Final = (
    "id", "name", "workflow_id", "cron_expression", "timezone", "enabled", "next_run_at", "last_run_at",
)  # fmt: skip
OCCURRENCE_COLUMNS: Final = (
    "scheduled_for",
    "status",
    "reason",
    "execution_id",
    "backfill",
    "through",
    "count",
    "decided_at",
)
BACKFILL_TIMEOUT: Final = 120.0
"""Seconds: a thousand runs are started before the answer."""

SCHEDULE = click.argument("schedule", metavar="NAME|ID")
LIMIT = click.option("--limit", type=click.IntRange(1), default=50, show_default=True)


class NoSchedule(GoraxError):
    """No single schedule has the name that was given."""

    code = "schedule_not_found"


@click.group(cls=Group, name="schedule")
def command() -> None:
    """Start workflows by cron, and see what became of each occurrence."""


def timing_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say when a schedule occurs."""
    for option in (
        click.option("--ends-at", metavar="TIME", help="Nothing occurs after this moment (RFC 3339)."),
        click.option("--starts-at", metavar="TIME", help="Nothing occurs before this moment (RFC 3339)."),
        click.option("--fold", type=click.Choice(["first", "both"]), help="Which of wall times that come twice count."),
        click.option(
            "--gap", type=click.Choice(["skip", "shift"]), help="What becomes of wall times that don't exist."
        ),
        click.option("--timezone", metavar="ZONE", help="An IANA time zone; default: UTC."),
    ):
        function = option(function)
    return function


@command.command("list")
@click.option("--workflow", metavar="NAME|ID", help="Only those of this workflow.")
@click.option("--enabled/--disabled", default=None, help="Only those that are enabled, or disabled.")
@LIMIT
@pass_session
def list_schedules(session: Session, workflow: str | None, enabled: bool | None, limit: int) -> None:
    """List the schedules, newest first."""
    client = session.client()
    workflow_id = workflow
    if workflow is not None and not is_id(workflow):
        found = client.get("/workflows", {"name": workflow}).data
        if not found:
            raise click.BadParameter(f"there is no workflow `{workflow}`", param_hint="--workflow")
        workflow_id = found[0]["id"]
    wanted = None if enabled is None else str(enabled).lower()
    items = list(client.pages("/schedules", {"workflow_id": workflow_id, "enabled": wanted}, limit))
    if session.as_json:
        print_json(items)
    else:
        print_table(COLUMNS, ([item.get(name) for name in COLUMNS] for item in items))


@command.command()
@click.argument("workflow", metavar="WORKFLOW")
@click.argument("cron")
@timing_options
@click.option("--name", help="Default: schedule.")
@click.option("--description")
@click.option("--input", "given", metavar="JSON|@FILE", help="What each run is given. @- reads stdin.")
@click.option("--overlap", type=click.Choice(["skip", "queue", "cancel_running", "allow"]), help="Default: skip.")
@click.option("--misfire", type=click.Choice(["none", "last", "all"]), help="Default: last.")
@click.option("--misfire-limit", type=click.IntRange(1, 1000), help="How many start at once with `all`; default: 100.")
@click.option("--catchup-window", metavar="DURATION", help="How late a missed occurrence may start; default: 24h.")
@click.option("--jitter", metavar="DURATION", help="Up to how much later an occurrence comes; default: 0s.")
@click.option("--priority", type=click.IntRange(0, 100))
@click.option("--disabled", is_flag=True, help="Don't start anything yet.")
@pass_session
def create(session: Session, /, workflow: str, cron: str, **options: Any) -> None:
    """Start WORKFLOW (a name or id) by a cron line, such as `0 9 * * MON-FRI`."""
    body: dict[str, Json] = {
        "workflow_id" if is_id(workflow) else "workflow": workflow,
        **_timing(cron, options),
        "name": options["name"],
        "description": options["description"],
        "overlap_policy": options["overlap"],
        "misfire_policy": options["misfire"],
        "misfire_limit": options["misfire_limit"],
        "catchup_window": options["catchup_window"],
        "jitter": options["jitter"],
        "priority": options["priority"],
        "input": None if options["given"] is None else read_input(options["given"], option="--input"),
        "enabled": False if options["disabled"] else None,
    }
    item = session.client().call("POST", "/schedules", _given(body)).data
    _say(session, item, "created")


@command.command()
@SCHEDULE
@pass_session
def show(session: Session, schedule: str) -> None:
    """Show one schedule."""
    client = session.client()
    item = client.get(_path(client, schedule)).data
    if session.as_json:
        print_json(item)
    else:
        print_object(item)


@command.command()
@click.argument("cron")
@timing_options
@click.option("--count", type=click.IntRange(1, 1000), default=10, show_default=True)
@click.option("--from", "begin", metavar="TIME", help="From this moment on (RFC 3339); default: now.")
@pass_session
def preview(session: Session, /, cron: str, count: int, begin: str | None, **options: Any) -> None:
    """Say when a cron line occurs, in UTC."""
    body = _given({**_timing(cron, options), "count": count, "from": begin})
    answer = session.client().call("POST", "/schedules/preview", body).data
    if session.as_json:
        print_json(answer)
    else:
        for at in answer["occurrences"]:
            print(printable(at))


@command.command()
@SCHEDULE
@pass_session
def enable(session: Session, schedule: str) -> None:
    """Switch a schedule on. It goes on from now: nothing is made up for."""
    client = session.client()
    _say(session, client.call("PATCH", _path(client, schedule), {"enabled": True}).data, "enabled")


@command.command()
@SCHEDULE
@pass_session
def disable(session: Session, schedule: str) -> None:
    """Switch a schedule off; what it has queued is skipped."""
    client = session.client()
    _say(session, client.call("PATCH", _path(client, schedule), {"enabled": False}).data, "disabled")


@command.command()
@SCHEDULE
@click.option("--input", "given", metavar="JSON|@FILE", help="Instead of the schedule's own. @- reads stdin.")
@pass_session
def trigger(session: Session, schedule: str, given: str | None) -> None:
    """Start a run now, beside the plan."""
    client = session.client()
    body = None if given is None else {"input": read_input(given, option="--input")}
    answer = client.call("POST", _path(client, schedule) + "/trigger", body).data
    if session.as_json:
        print_json(answer)
    else:
        print(f"Execution {printable(answer['execution_id'])}: {printable(answer['status'])}")


@command.command()
@SCHEDULE
@click.option("--start", required=True, metavar="TIME", help="From this moment on (RFC 3339).")
@click.option("--end", required=True, metavar="TIME", help="Through this moment, now at the latest.")
@click.option("--limit", type=click.IntRange(1, 1000), default=1000, show_default=True)
@pass_session
def backfill(session: Session, schedule: str, start: str, end: str, limit: int) -> None:
    """Start every occurrence of a stretch of the past that was not started. A repeat starts nothing twice."""
    body = {"start": start, "end": end, "limit": limit}
    client = session.client()
    answer = client.call("POST", _path(client, schedule) + "/backfill", body, timeout=BACKFILL_TIMEOUT).data
    if session.as_json:
        print_json(answer)
    else:
        print(f"{printable(answer['started'])} started, {printable(answer['already'])} were there already")


@command.command()
@SCHEDULE
@pass_session
def delete(session: Session, schedule: str) -> None:
    """Delete a schedule with its history; its runs stay."""
    client = session.client()
    _say(session, client.call("DELETE", _path(client, schedule)).data, "deleted")


@command.command()
@SCHEDULE
@LIMIT
@pass_session
def occurrences(session: Session, schedule: str, limit: int) -> None:
    """List what became of a schedule's occurrences, newest first."""
    client = session.client()
    items = list(client.pages(_path(client, schedule) + "/occurrences", {}, limit))
    if session.as_json:
        print_json(items)
    else:
        print_table(OCCURRENCE_COLUMNS, ([item.get(name) for name in OCCURRENCE_COLUMNS] for item in items))


def _path(client: Client, schedule: str) -> str:
    """Return the path of a schedule by id or name. Raises Refused, NoSchedule unless exactly one has the name."""
    if is_id(schedule):
        return f"/schedules/{schedule}"
    found = client.get("/schedules", {"name": schedule, "limit": 2}).data
    if not found:
        raise NoSchedule(f"There is no schedule `{schedule}`.")
    if len(found) > 1:
        raise NoSchedule(f"Several workflows have a schedule `{schedule}`; give its id.", code="ambiguous_name")
    return f"/schedules/{found[0]['id']}"


def _timing(cron: str, options: dict[str, Any]) -> dict[str, Json]:
    return {
        "cron_expression": cron,
        "timezone": options["timezone"],
        "dst": _given({"gap": options["gap"], "fold": options["fold"]}) or None,
        "starts_at": options["starts_at"],
        "ends_at": options["ends_at"],
    }


def _given(body: dict[str, Json]) -> dict[str, Json]:
    return {name: value for name, value in body.items() if value is not None}


def _say(session: Session, item: Json, what: str) -> None:
    if session.as_json:
        print_json(item)
        return
    following = f", next at {printable(item['next_run_at'])}" if item.get("next_run_at") and what != "deleted" else ""
    print(f"{printable(item['name'])}: {what} ({printable(item['id'])}){following}")
