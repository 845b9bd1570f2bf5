"""Who acts: a user of one tenant, known by an API key, with the permissions that the key carries.

Every permission that a route may ask for stands in `PERMISSIONS`; what a principal lacks is denied.
"""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from gorax_engine.errors import Forbidden

PERMISSIONS: Final[dict[str, str]] = {
    "workflow:create": "Create workflows",
    "workflow:read": "See workflows and their versions",
    "workflow:update": "Change and publish workflows",
    "workflow:delete": "Archive workflows",
    "workflow:execute": "Start runs of workflows",
    "execution:read": "See runs, their steps and data",
    "execution:cancel": "Cancel runs",
    "execution:pause": "Pause runs",
    "execution:resume": "Let paused runs go on",
    "execution:signal": "Give events to single runs",
    "execution:retry": "Retry and replay runs",
    "credential:create": "Store credentials",
    "credential:read": "See credentials and who used them (never the secret)",
    "credential:update": "Change credentials",
    "credential:delete": "Delete credentials",
    "schedule:create": "Create schedules",
    "schedule:read": "See schedules and what became of their occurrences",
    "schedule:update": "Change, enable and disable schedules",
    "schedule:delete": "Delete schedules",
    "schedule:trigger": "Start and backfill runs of schedules",
    "event:publish": "Publish events",
    "webhook:create": "Create webhooks by hand",
    "webhook:read": "See webhooks, their filters and events (never the secret)",
    "webhook:update": "Change and test webhooks and filters, rotate secrets",
    "webhook:delete": "Delete webhooks that were made by hand",
    "webhook:replay": "Replay deliveries",
    "task:read": "See human tasks",
    "task:act": "Decide and hand on human tasks, where one is asked",
    "notification:read": "See and mark the own notifications",
    "tenant:read": "See the own tenant",
    "api_key:create": "Create API keys, with no more than the own permissions",
    "api_key:read": "See API keys (never the secret)",
    "api_key:delete": "Revoke API keys",
}
"""What can be permitted, as `resource:action`, with a line for people."""


@dataclass(frozen=True, slots=True)
class Principal:
    """The one on whose behalf a request acts. `user_id` is the service user that the API key belongs to."""

    tenant_id: UUID
    user_id: UUID
    api_key_id: UUID
    permissions: frozenset[str]
    tenant_active: bool = True

    def may(self, permission: str) -> bool:
        """Say whether the principal holds `permission`."""
        return permission in self.permissions

    def require(self, permission: str) -> None:
        """Raise Forbidden, naming the permission, unless the principal holds it and its tenant is active."""
        if not self.tenant_active:
            raise Forbidden("The tenant is suspended; ask the operator of this service.", code="tenant_suspended")
        if permission not in self.permissions:
            raise Forbidden(f"The API key lacks the permission `{permission}`.")
