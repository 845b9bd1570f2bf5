"""Making a tenant together with its first API key: what `tenant create` and `dev` do alike."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

from gorax_engine.errors import InvalidInput
from gorax_engine.store import operator
from gorax_engine.store.operator import operator_connection
from gorax_engine.tenancy.api_keys import hash_key, new_key

if TYPE_CHECKING:
    from gorax_engine.core.model import Json

KEY_OF_DEV: Final = "gorax dev"
SUBDOMAIN: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class NewTenant:
    """A fresh tenant and the secret of its first key, which is shown once."""

    id: UUID
    name: str
    subdomain: str
    tier: str
    api_key: str

    def as_json(self) -> dict[str, Json]:
        """Return what `--json` prints."""
        return {
            "id": str(self.id),
            "name": self.name,
            "subdomain": self.subdomain,
            "tier": self.tier,
            "api_key": self.api_key,
        }


def subdomain_of(name: str) -> str:
    """Derive a subdomain from a tenant's name. Raises InvalidInput if nothing of the name can stand in one."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    subdomain = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:63].rstrip("-")
    if not subdomain:
        raise InvalidInput(f"No subdomain can be made of {name!r}; give --subdomain.", code="invalid_subdomain")
    return subdomain


def check_subdomain(subdomain: str) -> None:
    """Raise InvalidInput unless `subdomain` is one label of a host name."""
    if not SUBDOMAIN.fullmatch(subdomain):
        raise InvalidInput(
            f"{subdomain!r} is no subdomain: up to 63 of a-z, 0-9 and -, with no - at its ends.",
            code="invalid_subdomain",
        )


async def create_tenant(dsn: str, name: str, subdomain: str, tier: str, key_name: str) -> NewTenant:
    """Make a tenant and its first key in one transaction.

    Raises InvalidInput, Conflict (the subdomain is taken), ConfigurationError, DatabaseUnreachable.
    """
    check_subdomain(subdomain)
    key = new_key()
    async with operator_connection(dsn) as connection, connection.transaction():
        tenant_id, user_id = await operator.create_tenant(connection, name, subdomain, tier)
        await operator.add_key(connection, tenant_id, user_id, key_name, key.prefix, key.hash)
    return NewTenant(tenant_id, name, subdomain, tier, key.secret)


async def ensure_tenant(dsn: str, name: str, subdomain: str, known_key: str | None) -> tuple[str, bool]:
    """Return a key of the tenant and whether it is new: `known_key` if it still works, else a fresh one.

    The tenant is made if it isn't there. Raises ConfigurationError, DatabaseUnreachable.
    """
    async with operator_connection(dsn) as connection:
        if known_key and await operator.key_works(connection, hash_key(known_key)):
            return known_key, False
        holder = await operator.find_service_user(connection, subdomain)
        if holder is not None:
            key = new_key()
            await operator.add_key(connection, *holder, KEY_OF_DEV, key.prefix, key.hash)
            return key.secret, True
    created = await create_tenant(dsn, name, subdomain, "free", KEY_OF_DEV)
    return created.api_key, True
