"""API keys: made, hashed, and turned into principals.

A key is `gorax_` and 256 random bits; the database keeps its SHA-256 alone, which suffices for what can't be guessed.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gorax_engine.errors import Unauthenticated
from gorax_engine.store import api_keys
from gorax_engine.store.lookup_cache import LookupCache
from gorax_engine.tenancy.principals import Principal

if TYPE_CHECKING:
    from gorax_engine.store.database import Database

PREFIX: Final = "gorax_"
CACHE_SECONDS: Final = 5.0
"""For how long a revoked key, a lost permission or a suspension may go unnoticed by a process."""

_SECRET_BYTES: Final = 32
_SHOWN: Final = 12
_FORM: Final = re.compile(r"gorax_[A-Za-z0-9_-]{22,128}")


@dataclass(frozen=True, slots=True)
class NewKey:
    """A fresh key. `secret` is shown once; `prefix` is what people recognise it by; `hash` is what is stored."""

    secret: str
    prefix: str
    hash: bytes

    def __repr__(self) -> str:
        return f"NewKey(prefix={self.prefix!r})"


def new_key() -> NewKey:
    """Make a key from 256 random bits."""
    secret = PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    return NewKey(secret, secret[:_SHOWN], hash_key(secret))


def hash_key(secret: str) -> bytes:
    """Return what is stored of a key."""
    return hashlib.sha256(secret.encode()).digest()


class Authenticator:
    """Turns keys into principals; an answer is remembered for a few seconds."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._known: LookupCache[bytes, Principal | None] = LookupCache(self._load, ttl=CACHE_SECONDS, clock=clock)

    async def authenticate(self, secret: str) -> Principal:
        """Return whom the key stands for. Raises Unauthenticated, Unavailable."""
        principal = await self._known.get(hash_key(secret)) if _FORM.fullmatch(secret) else None
        if principal is None:
            raise Unauthenticated("The API key is unknown, expired or revoked.", code="invalid_api_key")
        return principal

    def forget(self, key_hash: bytes) -> None:
        """Ask the database again for this key (it was revoked just now)."""
        self._known.forget(key_hash)

    async def _load(self, key_hash: bytes) -> Principal | None:
        row = await api_keys.authenticate(self._database, key_hash)
        if row is None:
            return None
        async with self._database.tenant(row["tenant_id"]) as connection:
            await api_keys.touch(connection, row["tenant_id"], row["api_key_id"])
        return Principal(
            tenant_id=row["tenant_id"],
            user_id=row["user_id"],
            api_key_id=row["api_key_id"],
            permissions=frozenset(row["permissions"]),
            tenant_active=row["tenant_status"] == "active",
        )
