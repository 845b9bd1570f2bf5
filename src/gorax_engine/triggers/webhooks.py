"""Finding webhooks: by their address, with all that their requests are judged by made ready.

What is known of a live webhook is a second old at most; the start itself judges its state again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from uuid import UUID

import msgspec

from gorax_engine.core.filters import Filter, FilterSet
from gorax_engine.errors import NotFound
from gorax_engine.store import webhooks
from gorax_engine.store.lookup_cache import LookupCache
from gorax_engine.telemetry import get_logger
from gorax_engine.triggers.signatures import Proof, Scheme
from gorax_engine.vault.keys import Undecryptable

if TYPE_CHECKING:
    from gorax_engine.store.database import Database
    from gorax_engine.store.webhooks import Webhook
    from gorax_engine.vault.sealed_text import SealedTexts

CACHE_SECONDS: Final = 1.0
"""For how long a change of a webhook may go unnoticed by a process; the start itself checks again."""
MAX_PATH: Final = 255

_ID: Final = r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
_PAIR_OF_IDS: Final = re.compile(f"{_ID}/{_ID}", re.IGNORECASE)

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Gate:
    """A webhook, and what its requests must pass: the proof, with its secrets opened, and the filters, compiled."""

    webhook: Webhook
    proof: Proof = field(repr=False)
    filters: FilterSet

    @property
    def is_live(self) -> bool:
        """Can anything be started now?"""
        return self.webhook.refusal is None


class Webhooks:
    """Finds webhooks by their address; a live one is remembered for a second, that there is none is not."""

    def __init__(self, database: Database, sealed: SealedTexts) -> None:
        self._database = database
        self._sealed = sealed
        self._known: LookupCache[str, Gate | None] = LookupCache(
            self._load, ttl=CACHE_SECONDS, keep=lambda gate: gate is not None and gate.is_live
        )

    async def find(self, path: str) -> Gate:
        """Return the webhook at `path` (without `/webhooks/`), live or not.

        Raises NotFound, and Unavailable, also when the vault can't open its secret now.
        """
        gate = None if len(path) > MAX_PATH or "\x00" in path else await self._known.get(path)
        if gate is None:
            raise no_webhook()
        return gate

    async def find_again(self, path: str) -> Gate:
        """Return the webhook at `path`, whatever is remembered. Raises as `find` does."""
        self._known.forget(path)
        return await self.find(path)

    async def _load(self, path: str) -> Gate | None:
        pair = _PAIR_OF_IDS.fullmatch(path)
        if pair is None:
            webhook = await webhooks.find(self._database, path)
        else:
            webhook = await webhooks.find_by_id(self._database, UUID(pair[2]))
            if webhook is not None and webhook.workflow_id != UUID(pair[1]):
                return None
        if webhook is None:
            return None
        scheme = Scheme(webhook.signature_scheme)
        proof = Proof(webhook.auth_type, scheme, await self._secrets(webhook), webhook.timestamp_tolerance)
        return Gate(webhook, proof, _filters(webhook))

    async def _secrets(self, webhook: Webhook) -> tuple[str, ...]:
        """Return the live secrets, the newest first. One that can't be opened proves nothing: it is left out."""
        opened: list[str] = []
        if webhook.auth_type != "none":
            for sealed in (webhook.secret, webhook.previous_secret):
                try:
                    if sealed is not None:
                        opened.append(await self._sealed.open(webhook.tenant_id, sealed))
                except Undecryptable as error:
                    _log.error("webhook_secret_unreadable", webhook_id=str(webhook.id), reason=str(error))
        return tuple(opened)


def no_webhook() -> NotFound:
    """Return what every address without a live webhook answers."""
    return NotFound("There is no webhook at this address.", code="webhook_not_found")


def _filters(webhook: Webhook) -> FilterSet:
    rules = [] if webhook.filters is None else msgspec.json.decode(webhook.filters)
    return FilterSet([Filter(**rule) for rule in rules])
