"""`gorax event`: publish events."""

from __future__ import annotations

import click

from gorax_engine.cli import exits
from gorax_engine.cli.output import print_json, printable
from gorax_engine.cli.run import read_input
from gorax_engine.cli.session import Group, Session, pass_session


@click.group(cls=Group, name="event")
def command() -> None:
    """Publish events."""


@command.command("publish")
@click.argument("name")
@click.option("--key", metavar="KEY", help="The correlation key: only waits for this key, or for none, are meant.")
@click.option("--payload", "given", metavar="JSON|@FILE", help="What arrives as body. @- reads stdin.")
@click.option("--ttl", metavar="DURATION", help="For how long it is kept for waits that come later (24h).")
@click.option("--idempotency-key", metavar="KEY", help="The same key publishes only once (24 h).")
@pass_session
def publish(
    session: Session, name: str, key: str | None, given: str | None, ttl: str | None, idempotency_key: str | None
) -> int:
    """Publish the event NAME and print its id."""
    body = {"name": name, "payload": None if given is None else read_input(given, option="--payload")}
    body.update({field: value for field, value in (("correlation_key", key), ("ttl", ttl)) if value is not None})
    headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
    published = session.client().call("POST", "/events", body, headers=headers).data
    if session.as_json:
        print_json(published)
    else:
        print(printable(published["event_id"]))
    return exits.OK
