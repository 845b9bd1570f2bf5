"""`gorax notification`: what the user of the API key was told."""

from __future__ import annotations

from typing import Final

import click

from gorax_engine.cli.client import segment
from gorax_engine.cli.output import print_json, print_table, printable
from gorax_engine.cli.session import Group, Session, pass_session

COLUMNS: Final = ("id", "type", "title", "message", "is_read", "created_at")


@click.group(cls=Group, name="notification")
def command() -> None:
    """List and read the own notifications."""


@command.command("list")
@click.option("--unread", is_flag=True, help="Only those not read yet.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@pass_session
def list_notifications(session: Session, unread: bool, limit: int) -> None:
    """List the notifications, newest first."""
    items = list(session.client().pages("/notifications", {"unread": "true" if unread else None}, limit))
    if session.as_json:
        print_json(items)
    else:
        print_table(COLUMNS, ([item.get(name) for name in COLUMNS] for item in items))


@command.command()
@click.argument("notification")
@pass_session
def read(session: Session, notification: str) -> None:
    """Mark a notification as read."""
    answer = session.client().call("POST", f"/notifications/{segment(notification)}/read").data
    if session.as_json:
        print_json(answer)
    else:
        print(f"Read: {printable(answer['title'])}")
