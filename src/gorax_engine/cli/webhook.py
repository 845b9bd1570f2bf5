"""`gorax webhook`: where deliveries come in, who may send them, and what became of them."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Final

import click

from gorax_engine.cli import exits
from gorax_engine.cli.output import print_json, print_table, printable
from gorax_engine.cli.session import Entry, Group, Session, pass_session
from gorax_engine.cli.webhook_calls import (
    LIMIT,
    WEBHOOK,
    address_of,
    find_webhook,
    read_request,
    read_secret,
    show_all,
)
from gorax_engine.cli.webhook_calls import show as show_object

if TYPE_CHECKING:
    from collections.abc import Callable

    from gorax_engine.core.model import Json

COLUMNS: Final = (
    "id", "path", "methods", "auth_type", "enabled", "managed", "workflow_id", "trigger_count", "last_triggered_at",
)  # fmt: skip
RULE_COLUMNS: Final = ("passed", "logic_group", "field_path", "operator", "value", "actual", "reason")
AUTH_TYPES: Final = ("none", "secret", "basic", "bearer")
SCHEMES: Final = ("gorax", "github", "standard", "stripe", "slack")
METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
ENTRIES: Final = {
    "events": Entry("gorax_engine.cli.webhook_events", "List and show deliveries."),
    "filters": Entry("gorax_engine.cli.webhook_filters", "List, add, remove and try out filters."),
    "replay": Entry("gorax_engine.cli.webhook_replay", "Start the workflows of deliveries once more."),
}

SETTINGS: Final = (
    click.option("--name"),
    click.option("--description"),
    click.option("--path", help="Below /webhooks/."),
    click.option("--method", "methods", multiple=True, type=click.Choice(METHODS, case_sensitive=False)),
    click.option("--auth-type", type=click.Choice(AUTH_TYPES), help="How callers prove themselves."),
    click.option("--signature-scheme", type=click.Choice(SCHEMES), help="How requests are signed (auth type secret)."),
    click.option("--allow-ip", "allowed_ips", multiple=True, metavar="IP|CIDR", help="From where requests may come."),
    click.option("--rate-limit", type=click.IntRange(1), help="Deliveries a minute."),
    click.option("--max-body-bytes", type=click.IntRange(1)),
    click.option("--dedupe-header", help="The header by whose value a delivery is known."),
    click.option("--dedupe-path", help="The JSONPath into the body by whose value a delivery is known."),
    click.option("--response-mode", type=click.Choice(["accepted", "result"])),
    click.option("--priority", type=click.IntRange(0, 100)),
    click.option("--secret-from", "source", type=click.File("rb"), help="Where the secret is; `-` is stdin."),
)


def settings(function: Callable[..., object]) -> Callable[..., object]:
    """Give a command the options of what may be set of a webhook."""
    for option in reversed(SETTINGS):
        function = option(function)
    return function


@click.group(cls=Group, name="webhook", entries=ENTRIES)
def command() -> None:
    """Webhooks: addresses, proofs, filters, deliveries. One is named by its path or its id.

    Secrets come from stdin or a file, never from an argument, where others could see them.
    """


@command.command("list")
@click.option("--workflow", metavar="ID", help="Only those of this workflow.")
@click.option("--enabled/--disabled", default=None, help="Only those that are on, or off.")
@LIMIT
@pass_session
def list_webhooks(session: Session, workflow: str | None, enabled: bool | None, limit: int) -> None:
    """List the webhooks, newest first."""
    given = None if enabled is None else str(enabled).lower()
    items = list(session.client().pages("/webhooks", {"workflow_id": workflow, "enabled": given}, limit))
    show_all(session, COLUMNS, items)


@command.command()
@click.argument("workflow", metavar="WORKFLOW")
@click.option("--node", "node_id", help="The webhook_trigger that its runs begin with; default: the first.")
@settings
@pass_session
def create(session: Session, /, workflow: str, node_id: str | None, source: IO[bytes] | None, **given: Json) -> None:
    """Make a webhook for WORKFLOW, by name or id, and print its secret if one was generated: it is not shown again."""
    body = {"workflow": workflow, **_named(given, source)}
    body |= {"node_id": node_id} if node_id is not None else {}
    _tell_secret(session, session.client().call("POST", "/webhooks", body).data, "made")


@command.command()
@WEBHOOK
@pass_session
def show(session: Session, webhook: str) -> None:
    """Show one webhook, and how its deliveries went, without its secret."""
    client = session.client()
    show_object(session, client.get(address_of(client, webhook)).data)


@command.command()
@WEBHOOK
@settings
@pass_session
def update(session: Session, /, webhook: str, source: IO[bytes] | None, **given: Json) -> None:
    """Change what is given; what isn't given stays."""
    body = _named(given, source)
    if not body:
        raise click.UsageError("Nothing to change: give at least one option.")
    client = session.client()
    _tell_secret(session, client.call("PATCH", address_of(client, webhook), body).data, "changed")


@command.command("rotate-secret")
@WEBHOOK
@click.option("--from", "source", type=click.File("rb"), help="Where the new secret is; default: one is generated.")
@click.option("--grace", default="24h", show_default=True, help="For how long the old one is accepted; 0s ends it.")
@pass_session
def rotate_secret(session: Session, webhook: str, source: IO[bytes] | None, grace: str) -> None:
    """Give a webhook another secret, and print it if it was generated: it is not shown again."""
    body: dict[str, Json] = {"grace": grace}
    body |= {"secret": read_secret(source)} if source is not None else {}
    client = session.client()
    answer = client.call("POST", f"{address_of(client, webhook)}/rotate-secret", body).data
    _tell_secret(session, answer, "has another secret")


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
    """Say what would become of a request, without storing it or asking for a proof; exit 1 if it starts nothing."""
    sent = read_request(method, headers, query, body)
    client = session.client()
    verdict = client.call("POST", f"{address_of(client, webhook)}/test", sent).data
    if session.as_json:
        print_json(verdict)
    elif verdict["accepted"]:
        print(f"It would start {printable(verdict['workflow']['name'])}.")
    else:
        print(f"It would start nothing: {printable(verdict['reason'])} [{printable(verdict['code'])}]")
    rules = verdict["filters"]["rules"]
    if rules and not session.as_json:
        print_table(RULE_COLUMNS, ([rule.get(name) for name in RULE_COLUMNS] for rule in rules))
    return exits.OK if verdict["accepted"] else exits.FAILED


@command.command()
@WEBHOOK
@pass_session
def enable(session: Session, webhook: str) -> None:
    """Let deliveries in."""
    _switch(session, webhook, enabled=True)


@command.command()
@WEBHOOK
@pass_session
def disable(session: Session, webhook: str) -> None:
    """Let no deliveries in, until it is enabled; publishing doesn't do that."""
    _switch(session, webhook, enabled=False)


@command.command()
@WEBHOOK
@pass_session
def delete(session: Session, webhook: str) -> None:
    """Delete a webhook that was made by hand; its deliveries stay in the log."""
    client = session.client()
    item = client.call("DELETE", address_of(client, webhook)).data
    if session.as_json:
        print_json(item)
    else:
        print(f"{printable(item['path'])}: deleted ({item['id']})")


def _switch(session: Session, webhook: str, *, enabled: bool) -> None:
    client = session.client()
    item = client.call("PATCH", f"/webhooks/{find_webhook(client, webhook)['id']}", {"enabled": enabled}).data
    if session.as_json:
        print_json(item)
    else:
        print(f"{printable(item['path'])}: {'enabled' if item['enabled'] else 'disabled'}")


def _named(given: dict[str, Json], source: IO[bytes] | None) -> dict[str, Json]:
    """Return what was given, as the API takes it."""
    body = {name: value for name, value in given.items() if value is not None and value != ()}
    body |= {name: list(body[name]) for name in ("methods", "allowed_ips") if name in body}
    body |= {"secret": read_secret(source)} if source is not None else {}
    return body


def _tell_secret(session: Session, item: Json, done: str) -> None:
    if session.as_json:
        print_json(item)
        return
    print(f"{printable(item['url'])}: {done} ({item['id']})")
    if item.get("secret") is not None:
        print(f"Secret: {printable(item['secret'])}")
        print("Keep it; it is not shown again.")
