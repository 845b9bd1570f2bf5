"""`gorax webhook events`: the log of deliveries."""

from __future__ import annotations

from typing import Final

import click

from gorax_engine.cli.client import segment
from gorax_engine.cli.session import Command, Session, pass_session
from gorax_engine.cli.webhook_calls import LIMIT, address_of, show, show_all

COLUMNS: Final = (
    "created_at", "id", "status", "response_status", "execution_id", "replay_count", "filtered_reason", "error_message",
)  # fmt: skip
STATUSES: Final = ("processed", "filtered", "failed")


@click.command(cls=Command, name="events")
@click.argument("webhook", metavar="PATH|ID", required=False)
@click.option("--event", metavar="ID", help="Show this one delivery with all that it held.")
@click.option("--status", type=click.Choice(STATUSES))
@click.option("--since", metavar="TIME", help="Only later ones, RFC 3339.")
@click.option("--until", metavar="TIME", help="Only earlier ones, RFC 3339.")
@LIMIT
@pass_session
def command(
    session: Session,
    webhook: str | None,
    event: str | None,
    status: str | None,
    since: str | None,
    until: str | None,
    limit: int,
) -> None:
    """List the deliveries of a webhook, newest first, or show one."""
    if (webhook is None) == (event is None):
        raise click.UsageError("Name a webhook, or one delivery with --event.")
    client = session.client()
    if event is not None:
        show(session, client.get(f"/webhooks/events/{segment(event)}").data)
        return
    filters = {"status": status, "since": since, "until": until}
    show_all(session, COLUMNS, list(client.pages(f"{address_of(client, webhook or '')}/events", filters, limit)))
