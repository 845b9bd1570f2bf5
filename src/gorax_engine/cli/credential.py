"""`gorax credential`: storing secrets for workflows, and looking after them. Secrets come from stdin or a file only."""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING, Any, Final
from uuid import UUID

import click

from gorax_engine.cli.output import print_json, print_object, print_table
from gorax_engine.cli.session import Group, Session, pass_session
from gorax_engine.errors import GoraxError

if TYPE_CHECKING:
    from gorax_engine.cli.client import Client
    from gorax_engine.core.model import Json

COLUMNS: Final = ("id", "name", "type", "status", "version", "expires_at", "last_used_at")
LOG_COLUMNS: Final = (
    "accessed_at", "access_type", "success", "accessed_by", "ip_address", "execution_id", "node_id", "error_message",
)  # fmt: skip
MAX_SECRET: Final = 1 << 20
STATUSES: Final = ("active", "inactive", "revoked")

CREDENTIAL = click.argument("credential", metavar="NAME|ID")
LIMIT = click.option("--limit", type=click.IntRange(1), default=50, show_default=True)


class NoSecret(GoraxError):
    """What should be the secret can't be used as one."""

    code = "no_secret"


@click.group(cls=Group, name="credential")
def command() -> None:
    """Store secrets for workflows, and see who used them.

    A secret is a JSON object with the fields of its type, or just the text of the one field that the type needs
    (api_key, bearer_token). It comes from stdin or a file, never from an argument, where others could see it.
    """


@command.command("list")
@click.option("--type", "type_", help="Only those of this type.")
@click.option("--status", type=click.Choice(STATUSES), help="Only those in this status.")
@LIMIT
@pass_session
def list_credentials(session: Session, type_: str | None, status: str | None, limit: int) -> None:
    """List the credentials."""
    items = list(session.client().pages("/credentials", {"type": type_, "status": status}, limit))
    if session.as_json:
        print_json(items)
    else:
        print_table(COLUMNS, ([item.get(name) for name in COLUMNS] for item in items))


@command.command()
@click.argument("name")
@click.option(
    "--type", "type_", required=True, help="api_key, bearer_token, basic_auth, oauth2, email_smtp, custom, ..."
)
@click.option("--from", "source", type=click.File("rb"), default="-", help="Where the secret is; default: stdin.")
@click.option("--description")
@click.option("--expires-at", help="After which moment it may not be used, RFC 3339.")
@pass_session
def create(
    session: Session, name: str, type_: str, source: IO[bytes], description: str | None, expires_at: str | None
) -> None:
    """Store a credential, its secret read from stdin or a file."""
    body = {"name": name, "type": type_, "value": read_value(source, type_)}
    body |= {"description": description} if description is not None else {}
    body |= {"expires_at": expires_at} if expires_at is not None else {}
    item = session.client().call("POST", "/credentials", body).data
    if session.as_json:
        print_json(item)
    else:
        print(f"{item['name']}: stored ({item['id']})")


@command.command()
@CREDENTIAL
@pass_session
def show(session: Session, credential: str) -> None:
    """Show one credential, without its secret."""
    item = find_credential(session.client(), credential)
    if session.as_json:
        print_json(item)
    else:
        print_object(item)


@command.command()
@CREDENTIAL
@click.option("--from", "source", type=click.File("rb"), help="Where the new secret is; `-` is stdin.")
@click.option("--description")
@click.option("--expires-at", help="After which moment it may not be used, RFC 3339; `never` takes that away.")
@click.option("--status", type=click.Choice(STATUSES))
@pass_session
def update(
    session: Session,
    credential: str,
    source: IO[bytes] | None,
    description: str | None,
    expires_at: str | None,
    status: str | None,
) -> None:
    """Give a credential a new secret, description, expiry or status; what isn't given stays."""
    client = session.client()
    found = find_credential(client, credential)
    body: dict[str, Json] = {"description": description} if description is not None else {}
    body |= {"expires_at": None if expires_at == "never" else expires_at} if expires_at is not None else {}
    body |= {"status": status} if status is not None else {}
    body |= {"value": read_value(source, found["type"])} if source is not None else {}
    if not body:
        raise click.UsageError("Nothing to change: give --from, --description, --expires-at or --status.")
    item = client.call("PATCH", f"/credentials/{found['id']}", body).data
    if session.as_json:
        print_json(item)
    else:
        print(f"{item['name']}: {item['status']}, version {item['version']}")


@command.command("access-log")
@CREDENTIAL
@LIMIT
@pass_session
def access_log(session: Session, credential: str, limit: int) -> None:
    """List who used a credential, newest first. One that was deleted is known by its id alone."""
    client = session.client()
    known = credential if is_id(credential) else find_credential(client, credential)["id"]
    items = list(client.pages(f"/credentials/{known}/access-log", {}, limit))
    if session.as_json:
        print_json(items)
    else:
        print_table(LOG_COLUMNS, ([item.get(name) for name in LOG_COLUMNS] for item in items))


@command.command()
@CREDENTIAL
@pass_session
def delete(session: Session, credential: str) -> None:
    """Delete a credential for good; its access log stays."""
    client = session.client()
    item = client.call("DELETE", f"/credentials/{find_credential(client, credential)['id']}").data
    if session.as_json:
        print_json(item)
    else:
        print(f"{item['name']}: deleted ({item['id']})")


def find_credential(client: Client, credential: str) -> Any:
    """Return a credential by id or name. Raises Refused, NoSecret if there is none of that name."""
    if is_id(credential):
        return client.get(f"/credentials/{credential}").data
    found = client.get("/credentials", {"name": credential}).data
    if not found:
        raise NoSecret(f"There is no credential `{credential}`.", code="credential_not_found")
    return found[0]


def is_id(text: str) -> bool:
    """Say whether `text` is an id, and not a name."""
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


def read_value(source: IO[bytes], type_name: str) -> dict[str, Json]:
    """Return the fields that a file or stdin holds. Raises NoSecret, which shows nothing of it."""
    from gorax_engine.vault.types import find_type

    kind = find_type(type_name)
    required = kind.required if kind is not None else ()
    if source.isatty():
        if not required:
            raise NoSecret("Give the secret as JSON on stdin, or name its file with --from.")
        return {field: click.prompt(field, hide_input=True, err=True) for field in required}
    raw = source.read(MAX_SECRET + 1)
    if len(raw) > MAX_SECRET:
        raise NoSecret("The secret is larger than 1 MiB.")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise NoSecret("The secret is not UTF-8 text; encode it, for instance in base64.") from None
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if isinstance(value, dict):
        return value
    text = text.removesuffix("\n").removesuffix("\r")
    if len(required) == 1 and text:
        return {required[0]: text}
    fields = f": {', '.join(required)}" if required else ""
    raise NoSecret(f"The secret must be a JSON object with the fields of its type{fields}.")
