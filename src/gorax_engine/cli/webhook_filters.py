"""`gorax webhook filters`: which requests start a run."""

from __future__ import annotations

from typing import Final

import click

from gorax_engine.cli import exits
from gorax_engine.cli.client import segment
from gorax_engine.cli.output import print_json, print_table, printable
from gorax_engine.cli.run import read_input
from gorax_engine.cli.session import Group, Session, pass_session
from gorax_engine.cli.webhook import METHODS, RULE_COLUMNS
from gorax_engine.cli.webhook_calls import WEBHOOK, address_of, read_request, show_all

COLUMNS: Final = ("id", "logic_group", "field_path", "operator", "value", "enabled")


@click.group(cls=Group, name="filters")
def command() -> None:
    """Filters of one group are alternatives; all groups must hold. Without filters every request starts a run."""


@command.command("list")
@WEBHOOK
@pass_session
def list_filters(session: Session, webhook: str) -> None:
    """List the filters of a webhook."""
    client = session.client()
    show_all(session, COLUMNS, client.get(f"{address_of(client, webhook)}/filters").data)


@command.command()
@WEBHOOK
@click.argument("field_path", metavar="FIELD")
@click.argument("operator")
@click.argument("value", metavar="[JSON|@FILE]", required=False)
@click.option("--group", "logic_group", type=click.IntRange(0), default=0, show_default=True)
@pass_session
def add(session: Session, webhook: str, field_path: str, operator: str, value: str | None, logic_group: int) -> None:
    """Add a filter, for instance: `add orders $.status equals '"paid"'`."""
    body = {"field_path": field_path, "operator": operator, "logic_group": logic_group}
    body |= {"value": read_input(value, option="VALUE")} if value is not None else {}
    client = session.client()
    item = client.call("POST", f"{address_of(client, webhook)}/filters", body).data
    if session.as_json:
        print_json(item)
    else:
        print(f"{printable(item['field_path'])} {printable(item['operator'])}: added ({item['id']})")


@command.command()
@WEBHOOK
@click.argument("filter_id", metavar="FILTER")
@pass_session
def remove(session: Session, webhook: str, filter_id: str) -> None:
    """Remove a filter by its id."""
    client = session.client()
    item = client.call("DELETE", f"{address_of(client, webhook)}/filters/{segment(filter_id)}").data
    if session.as_json:
        print_json(item)
    else:
        print(f"{printable(item['field_path'])} {printable(item['operator'])}: removed ({item['id']})")


@command.command()
@WEBHOOK
@click.option("--method", default="POST", show_default=True, type=click.Choice(METHODS, case_sensitive=False))
@click.option("--header", "headers", multiple=True, metavar="NAME:VALUE")
@click.option("--query", multiple=True, metavar="NAME=VALUE")
@click.option("--body", metavar="JSON|@FILE", help="@- reads stdin.")
@pass_session
def test(
    session: Session, webhook: str, method: str, headers: tuple[str, ...], query: tuple[str, ...], body: str | None
) -> int:
    """Say what the filters make of a request, rule by rule; exit 1 if they don't let it through."""
    sent = read_request(method, headers, query, body)
    client = session.client()
    verdict = client.call("POST", f"{address_of(client, webhook)}/filters/test", sent).data
    if session.as_json:
        print_json(verdict)
    else:
        print("It passes." if verdict["passed"] else printable(verdict["reason"]))
        print_table(RULE_COLUMNS, ([rule.get(name) for name in RULE_COLUMNS] for rule in verdict["rules"]))
    return exits.OK if verdict["passed"] else exits.FAILED
