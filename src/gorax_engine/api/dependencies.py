"""What the API is made of: the daemon fills it in, routes take what they need from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from gorax_engine.core.json_edge import JsonLimits

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

    from gorax_engine.core.model import Json
    from gorax_engine.engine.retrying import Again
    from gorax_engine.engine.starting import Started, StartKey, StartRequest
    from gorax_engine.nodes.registry import NodeRegistry
    from gorax_engine.store.database import Connection, Database
    from gorax_engine.store.events import NewEvent, Published
    from gorax_engine.telemetry import Telemetry
    from gorax_engine.vault.keys import KeyProvider
    from gorax_engine.vault.sealed_text import SealedTexts


class Verbs(Protocol):
    """The verbs of the engine that the API offers."""

    async def start(self, request: StartRequest) -> Started:
        """Start a run; return after its commit."""

    async def record(self, request: StartRequest) -> UUID:
        """Write down a delivery that is refused; return the id of its event, after the commit."""

    async def start_within(self, connection: Connection, request: StartRequest, links: Mapping[str, Json]) -> Started:
        """Start a run within the caller's transaction as `gorax_worker`."""

    async def cancel(self, tenant_id: UUID, execution_id: UUID, reason: str, *, force: bool = False) -> str:
        """End a live run as cancelled; return its status, `running` while a `finally` runs."""

    async def pause(self, tenant_id: UUID, execution_id: UUID) -> None:
        """Let a live run begin no further step."""

    async def resume(self, tenant_id: UUID, execution_id: UUID) -> None:
        """Let a paused run go on."""

    async def signal(self, tenant_id: UUID, execution_id: UUID, name: str, payload: Json) -> int:
        """Give an event to one run alone; return how many of its waits got it."""

    async def retry(self, tenant_id: UUID, execution_id: UUID, again: Again) -> Started:
        """Start a run that goes on from where another one failed."""

    async def replay(self, tenant_id: UUID, execution_id: UUID, again: Again) -> Started:
        """Start another run afresh."""


class Ends(Protocol):
    """Who knows when runs end."""

    async def wait(self, execution_id: UUID, timeout_s: float) -> bool:
        """Wait until a run has ended, at most `timeout_s` seconds; say whether it has."""


class EventRelay(Protocol):
    """Who publishes events."""

    async def publish_within(self, connection: Connection, event: NewEvent) -> Published:
        """Publish an event within the caller's transaction."""

    async def spread(self, published: Published) -> None:
        """Bring a committed event to those that wait for it."""


@dataclass(frozen=True, slots=True)
class ApiDependencies:
    """The parts that routes work with.

    `admit` raises TooManyRequests when a tenant may queue no more; `draining` turns true when the daemon stops
    accepting.
    """

    database: Database
    verbs: Verbs
    ends: Ends
    events: EventRelay
    vault: KeyProvider
    registry: NodeRegistry
    telemetry: Telemetry
    sealed: SealedTexts
    admit: Callable[[UUID, StartKey | None], Awaitable[None]]
    max_body_bytes: int
    trusted_proxies: Sequence[IPv4Network | IPv6Network]
    draining: Callable[[], bool]

    @property
    def limits(self) -> JsonLimits:
        """The bounds of JSON bodies."""
        return JsonLimits(max_bytes=self.max_body_bytes)
