"""`gorax webhook replay`: starting the workflows of deliveries once more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gorax_engine.cli import exits
from gorax_engine.cli.client import segment
from gorax_engine.cli.output import print_error, print_json
from gorax_engine.cli.session import Command, Session, pass_session
from gorax_engine.cli.webhook_calls import address_of
from gorax_engine.cli.webhook_events import STATUSES
from gorax_engine.errors import GoraxError

if TYPE_CHECKING:
    from gorax_engine.cli.client import Client
    from gorax_engine.core.model import Json


@click.command(cls=Command, name="replay")
@click.argument("events", nargs=-1, metavar="[EVENT]...")
@click.option("--webhook", metavar="PATH|ID", help="Those of this webhook, by --status, instead of single ones.")
@click.option("--status", type=click.Choice(STATUSES), help="Those that ended so and were not replayed yet.")
@click.option("--since", metavar="TIME", help="Only later ones, RFC 3339.")
@click.option("--until", metavar="TIME", help="Only earlier ones, RFC 3339.")
@click.option("--limit", type=click.IntRange(1, 100), default=100, show_default=True)
@pass_session
def command(
    session: Session,
    events: tuple[str, ...],
    webhook: str | None,
    status: str | None,
    since: str | None,
    until: str | None,
    limit: int,
) -> int:
    """Replay deliveries, by id or by how they ended; exit 1 if one is refused."""
    by_status = webhook is not None and status is not None
    if bool(events) == by_status or (events and (webhook or status or since or until)):
        raise click.UsageError("Name the deliveries, or give --webhook with --status.")
    client = session.client()
    if events:
        result = _each(client, events)
    else:
        body = {"status": status, "since": since, "until": until, "limit": limit}
        sent = {name: value for name, value in body.items() if value is not None}
        result = client.call("POST", f"{address_of(client, webhook or '')}/events/replay", sent).data
    if session.as_json:
        print_json(result)
    else:
        _tell(result)
    return exits.FAILED if result["refused"] else exits.OK


def _each(client: Client, events: tuple[str, ...]) -> Json:
    """Replay single deliveries, of whichever webhook, one after another."""
    result: dict[str, Json] = {"replayed": [], "refused": [], "more": False}
    for event in events:
        try:
            done = client.call("POST", f"/webhooks/events/{segment(event)}/replay").data
        except GoraxError as error:
            result["refused"].append({"event_id": event, "code": error.code, "message": error.message})
        else:
            result["replayed"].append({**done, "requested_event_id": event})
    return result


def _tell(result: Json) -> None:
    for each in result["replayed"]:
        print(f"{each['requested_event_id']}: started {each['execution_id']}")
    for each in result["refused"]:
        print_error(f"{each['event_id']}: {each['message']}", each["code"])
    if result["more"]:
        print("There are more; replay again for the next ones.")
