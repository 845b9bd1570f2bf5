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
        raise _no_tenant(tenant)
    if session.as_json:
        print_json(_plain(row))
    else:
        print_object(_plain(row))


@command.command("map-user")
@click.argument("tenant")
@click.argument("role")
@pass_session
def map_user(session: Session, tenant: str, role: str) -> None:
    """Let the database user ROLE start workflows of TENANT with gorax_start_workflow(), and of no other tenant."""
    _say(session, anyio.run(_map, _owner(session), tenant, role))


@command.command("unmap-user")
@click.argument("role")
@pass_session
def unmap_user(session: Session, role: str) -> None:
    """Let the database user ROLE start nothing any more."""
    _say(session, anyio.run(_unmap, _owner(session), role))


def _say(session: Session, facts: Row) -> None:
    if session.as_json:
        print_json(facts)
    else:
        print_object(facts)


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
        row = await operator.find_tenant(connection, tenant)
        return None if row is None else {**row, "database_users": await operator.database_users(connection, row["id"])}


async def _map(dsn: str, tenant: str, role: str) -> Row:
    async with operator_connection(dsn) as connection:
        row = await operator.find_tenant(connection, tenant)
        if row is None:
            raise _no_tenant(tenant)
        before = await operator.map_database_user(connection, role, row["id"])
    return {"role": role, "tenant_id": str(row["id"]), "before": None if before is None else str(before)}


async def _unmap(dsn: str, role: str) -> Row:
    async with operator_connection(dsn) as connection:
        if not await operator.unmap_database_user(connection, role):
            raise NotFound(f"The database user {role} is mapped to no tenant.", code="database_user_not_found")
    return {"role": role, "tenant_id": None}


def _no_tenant(tenant: str) -> NotFound:
    return NotFound(f"There is no tenant {tenant!r}.", code="tenant_not_found")
