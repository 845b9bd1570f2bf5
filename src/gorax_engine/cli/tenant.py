"""`gorax tenant`: an operator's acts, done in the database as its owner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio
import click

from gorax_engine.cli.onboarding import create_tenant, subdomain_of
from gorax_engine.cli.output import print_json, print_object, print_table
from gorax_engine.cli.session import Group, Session, pass_session
from gorax_engine.errors import NotFound
from gorax_engine.store import operator
from gorax_engine.store.operator import operator_connection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gorax_engine.store.rows import Row

COLUMNS: Final = ("id", "name", "subdomain", "status", "tier", "created_at")
TIERS: Final = ("free", "starter", "professional", "enterprise")


@click.group(cls=Group, name="tenant")
def command() -> None:
    """Create and list tenants; needs the DSN of the schema's owner (database.migrate_dsn or dsn)."""


@command.command()
@click.argument("name")
@click.option("--subdomain", help="Default: made of the name.")
@click.option("--tier", type=click.Choice(TIERS), default="free", show_default=True)
@pass_session
def create(session: Session, name: str, subdomain: str | None, tier: str) -> None:
    """Make a tenant and print its first API key, which is shown this once."""
    dsn = _owner(session)
    tenant = anyio.run(create_tenant, dsn, name, subdomain or subdomain_of(name), tier, "first key")
    if session.as_json:
        print_json(tenant.as_json())
        return
    print_object(tenant.as_json())
    print("\nKeep the key: only its hash is stored, and it is not shown again.")


@command.command("list")
@pass_session
def list_tenants(session: Session) -> None:
    """List the tenants, oldest first."""
    rows = [_plain(row) for row in anyio.run(_list, _owner(session))]
    if session.as_json:
        print_json(rows)
    else:
        print_table(COLUMNS, ([row[name] for name in COLUMNS] for row in rows))


@command.command()
@click.argument("tenant")
@pass_session
def show(session: Session, tenant: str) -> None:
    """Show one tenant, by id or subdomain."""
    row = anyio.run(_find, _owner(session), tenant)
    if row is None:
        raise NotFound(f"There is no tenant {tenant!r}.", code="tenant_not_found")
    if session.as_json:
        print_json(_plain(row))
    else:
        print_object(_plain(row))


def _owner(session: Session) -> str:
    return session.settings().database.for_migrate()[0]


def _plain(row: Row) -> Row:
    """Make ids and times text, as the API writes them."""
    plain = {}
    for name, value in row.items():
        if name.endswith("_at"):
            plain[name] = value.isoformat().replace("+00:00", "Z")
        else:
            plain[name] = str(value) if name == "id" else value
    return plain


async def _list(dsn: str) -> Sequence[Row]:
    async with operator_connection(dsn) as connection:
        return await operator.list_tenants(connection)


async def _find(dsn: str, tenant: str) -> Row | None:
    async with operator_connection(dsn) as connection:
        return await operator.find_tenant(connection, tenant)
