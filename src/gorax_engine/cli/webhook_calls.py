"""What the commands about webhooks share: finding one, and reading secrets and requests."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any, Final

import click

from gorax_engine.cli.client import segment
from gorax_engine.cli.output import print_json, print_object, print_table
from gorax_engine.cli.run import read_input
from gorax_engine.cli.workflow_calls import ALL, is_id
from gorax_engine.errors import GoraxError, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gorax_engine.cli.client import Client
    from gorax_engine.cli.session import Session
    from gorax_engine.core.model import Json

MAX_SECRET: Final = 4096
PREFIX: Final = "/webhooks/"

WEBHOOK = click.argument("webhook", metavar="PATH|ID")
LIMIT = click.option("--limit", type=click.IntRange(1), default=50, show_default=True)


class NoSecret(GoraxError):
    """What should be the secret can't be used as one."""

    code = "no_secret"


def find_webhook(client: Client, webhook: str) -> Any:
    """Return a webhook by id or path. Raises Refused, NotFound."""
    if is_id(webhook):
        return client.get(f"/webhooks/{segment(webhook)}").data
    path = webhook.removeprefix(PREFIX).strip("/")
    for item in client.pages("/webhooks", {}, ALL):
        if item["path"] == path:
            return item
    raise NotFound(f"There is no webhook at {webhook!r}.", code="webhook_not_found")


def address_of(client: Client, webhook: str) -> str:
    """Return the route of a webhook that is named by id or path. Raises Refused, NotFound."""
    webhook_id = webhook if is_id(webhook) else str(find_webhook(client, webhook)["id"])
    return f"/webhooks/{segment(webhook_id)}"


def read_secret(source: IO[bytes]) -> str:
    """Return the one line of text that a file or stdin holds. Raises NoSecret, which shows nothing of it."""
    if source.isatty():
        return str(click.prompt("secret", hide_input=True, err=True))
    raw = source.read(MAX_SECRET + 1)
    if len(raw) > MAX_SECRET:
        raise NoSecret(f"The secret is larger than {MAX_SECRET} bytes.")
    try:
        text = raw.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise NoSecret("The secret is not UTF-8 text.") from None
    if not text:
        raise NoSecret("The secret is empty; give it on stdin or in the file.")
    return text


def read_request(method: str, headers: Sequence[str], query: Sequence[str], body: str | None) -> dict[str, Json]:
    """Return a request to be tried out. Raises click.BadParameter."""
    sent: dict[str, Json] = {"method": method}
    sent["headers"] = dict(_pair(text, ":", "--header") for text in headers)
    sent["query"] = dict(_pair(text, "=", "--query") for text in query)
    if body is not None:
        sent["body"] = read_input(body, option="--body")
    return sent


def show(session: Session, item: Json) -> None:
    """Print one object."""
    if session.as_json:
        print_json(item)
    else:
        print_object(item)


def show_all(session: Session, columns: Sequence[str], items: Sequence[Json]) -> None:
    """Print a list."""
    if session.as_json:
        print_json(list(items))
    else:
        print_table(columns, ([item.get(name) for name in columns] for item in items))


def _pair(text: str, mark: str, option: str) -> tuple[str, str]:
    name, found, value = text.partition(mark)
    if not found or not name.strip():
        raise click.BadParameter(f"write it as name{mark}value", param_hint=option)
    return name.strip(), value.strip()
