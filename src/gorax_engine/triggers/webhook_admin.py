"""Looking after webhooks: made by hand, changed, given other secrets, deleted.

What a node of a published workflow manages is the node's: its path, methods, auth_type and signature_scheme change by
publishing, and it goes with its node. Secrets are generated or checked, and sealed, before the transaction that stores
them (`prepare`), for the key may be a service's; they go in and come out once, when they were made here.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from gorax_engine.core.ip_ranges import MAX_RANGES, normal_range
from gorax_engine.core.json_paths import BadPath, compile_path
from gorax_engine.core.webhook_paths import PATH_RULE, is_usable, normal_path
from gorax_engine.errors import Conflict, InvalidInput, NotFound, Problem
from gorax_engine.store import webhook_upkeep
from gorax_engine.store.webhook_upkeep import WebhookValues
from gorax_engine.triggers.signatures import Scheme, check_secret, generate_secret
from gorax_engine.vault.keys import Undecryptable

if TYPE_CHECKING:
    from gorax_engine.store.database import Connection, Database
    from gorax_engine.store.rows import Row
    from gorax_engine.vault.sealed_text import SealedTexts

GRACE: Final = timedelta(hours=24)
"""For how long the secret before is accepted after a change, unless somebody says otherwise."""
MAX_GRACE: Final = timedelta(days=30)
NODE_OWNED: Final = ("path", "methods", "auth_type", "signature_scheme")
WEBHOOK_NODE: Final = "webhook_trigger"

_PATH_BYTES: Final = 24


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A sealed secret, or none, for a webhook whose proof is of this kind; `shown` is what was generated here.

    The secret before is accepted for `grace` longer.
    """

    auth_type: str
    signature_scheme: str
    sealed: str | None
    shown: str | None = field(default=None, repr=False)
    grace: timedelta = GRACE


class WebhookAdmin:
    """The webhooks of tenants. Methods with a `connection` act in the caller's transaction, bound to the tenant."""

    def __init__(self, database: Database, texts: SealedTexts) -> None:
        self._database = database
        self._texts = texts

    async def find(self, connection: Connection, tenant_id: UUID, webhook_id: UUID, *, lock: bool = False) -> Row:
        """Return what may be shown of a webhook; with `lock` nobody else changes it. Raises NotFound."""
        row = await webhook_upkeep.get(connection, tenant_id, webhook_id, lock=lock)
        if row is None:
            raise NotFound("There is no such webhook.", code="webhook_not_found")
        return row

    async def new_secret(self, tenant_id: UUID, auth_type: str, scheme: str, secret: str | None) -> NewSecret:
        """Return the sealed secret of a new webhook, generated unless it is given.

        Raises InvalidInput, Unavailable (vault_unavailable).
        """
        if auth_type == "none" and secret is None:
            return NewSecret(auth_type, scheme, None)
        chosen = generate_secret(auth_type, Scheme(scheme)) if secret is None else _checked(auth_type, scheme, secret)
        return NewSecret(
            auth_type, scheme, await self._texts.seal(tenant_id, chosen), chosen if secret is None else None
        )

    async def prepare(
        self, tenant_id: UUID, webhook_id: UUID, changes: Mapping[str, Any], secret: str | None
    ) -> NewSecret | None:
        """Return the secret that a change of auth_type, scheme or the secret itself brings; None if it stays.

        Who changes how callers prove themselves gets a new secret, unless the old one is as good. Raises NotFound,
        InvalidInput, Unavailable (vault_unavailable).
        """
        if secret is None and not changes.keys() & {"auth_type", "signature_scheme"}:
            return None
        async with self._database.tenant(tenant_id) as connection:
            row = await self.find(connection, tenant_id, webhook_id)
            sealed = await webhook_upkeep.sealed_secret(connection, tenant_id, webhook_id)
        auth_type = changes.get("auth_type", row["auth_type"])
        scheme = changes.get("signature_scheme", row["signature_scheme"])
        same_kind = auth_type == row["auth_type"]
        if row["managed"] and not (same_kind and scheme == row["signature_scheme"]):
            return None  # `change` refuses it
        if (
            secret is None
            and same_kind
            and (auth_type == "none" or await self._fits(tenant_id, auth_type, scheme, sealed))
        ):
            return None
        made = await self.new_secret(tenant_id, auth_type, scheme, secret)
        # What proved something else before proves nothing now.
        return replace(made, grace=GRACE if same_kind else timedelta())

    async def rotated(self, tenant_id: UUID, webhook_id: UUID, secret: str | None, grace: timedelta) -> NewSecret:
        """Return the next secret of a webhook. Raises NotFound, Conflict, InvalidInput, Unavailable."""
        if grace > MAX_GRACE:
            message = f"The secret before can be accepted for {MAX_GRACE.days} more days at most."
            raise InvalidInput(message, problems=[Problem("invalid_grace", "/grace", message)])
        async with self._database.tenant(tenant_id) as connection:
            row = await self.find(connection, tenant_id, webhook_id)
        if row["auth_type"] == "none":
            message = "The webhook asks for no proof, so that it has no secret; set its auth_type first."
            raise Conflict(message, code="webhook_without_proof")
        made = await self.new_secret(tenant_id, row["auth_type"], row["signature_scheme"], secret)
        return replace(made, grace=grace)

    async def create(
        self,
        connection: Connection,
        tenant_id: UUID,
        workflow: str,
        node_id: str | None,
        path: str | None,
        settings: Mapping[str, Any],
        secret: NewSecret,
    ) -> Row:
        """Store a webhook that is no node's; without a path one is made up, without a node it is the first that fits.

        Raises NotFound (workflow_not_found), InvalidInput, Conflict (path_taken).
        """
        owner = await webhook_upkeep.owner(connection, tenant_id, workflow)
        if owner is None:
            raise NotFound("There is no such workflow, or it is archived.", code="workflow_not_found")
        chosen = secrets.token_urlsafe(_PATH_BYTES) if path is None else _checked_path(path)
        start = WebhookValues(node_id=_node_of(owner, node_id), path=chosen)
        values = _checked_settings(replace(start, **settings))
        made = await webhook_upkeep.insert(connection, tenant_id, owner["id"], values, secret.sealed, managed=False)
        return await self.find(connection, tenant_id, made)

    async def change(
        self,
        connection: Connection,
        tenant_id: UUID,
        current: Row,
        changes: Mapping[str, Any],
        secret: NewSecret | None,
    ) -> Row:
        """Write `changes` (of WebhookValues) and a secret to a locked webhook; what changes nothing keeps the revision.

        Raises Conflict (managed_by_node, path_taken, workflow_archived; or somebody has changed its proof just now),
        InvalidInput.
        """
        before = WebhookValues.of(current)
        given = dict(changes)
        if "path" in given:
            given["path"] = _checked_path(given["path"])
        values = _checked_settings(replace(before, **given))
        if current["managed"]:
            _refuse_node_owned(before, values)
        workflow = await webhook_upkeep.workflow_of(connection, tenant_id, current["id"])
        if workflow is None or workflow["status"] == "archived":
            raise Conflict("The webhook's workflow is archived, so that it can't be changed.", code="workflow_archived")
        if secret is not None and (secret.auth_type, secret.signature_scheme) != (
            values.auth_type,
            values.signature_scheme,
        ):
            raise _overtaken()
        if secret is None and values.auth_type != before.auth_type:
            raise _overtaken()
        if values != before:
            await webhook_upkeep.change(connection, tenant_id, current["id"], values)
        if secret is not None:
            await webhook_upkeep.set_secret(connection, tenant_id, current["id"], secret.sealed, secret.grace)
        return await self.find(connection, tenant_id, current["id"])

    async def delete(self, connection: Connection, tenant_id: UUID, current: Row) -> None:
        """Delete a locked webhook that was made by hand; its events stay. Raises Conflict (managed_by_node)."""
        if current["managed"]:
            raise Conflict(
                f"The webhook belongs to the node `{current['node_id']}`: remove the node and publish, or disable it.",
                code="managed_by_node",
            )
        await webhook_upkeep.delete(connection, tenant_id, [current["id"]])

    async def _fits(self, tenant_id: UUID, auth_type: str, scheme: str, sealed: str | None) -> bool:
        if sealed is None:
            return False
        try:
            check_secret(auth_type, Scheme(scheme), await self._texts.open(tenant_id, sealed))
        except (Undecryptable, ValueError):
            return False
        return True


def _overtaken() -> Conflict:
    return Conflict("Somebody else has changed how the webhook's callers prove themselves just now; try again.")


def _checked(auth_type: str, scheme: str, secret: str) -> str:
    try:
        check_secret(auth_type, Scheme(scheme), secret)
    except ValueError as error:
        raise InvalidInput(str(error), problems=[Problem("invalid_secret", "/secret", str(error))]) from None
    return secret


def _checked_path(path: str) -> str:
    chosen = normal_path(path)
    if not is_usable(chosen):
        message = f"`{path[:100]}` can't be a webhook path; {PATH_RULE}."
        raise InvalidInput(message, problems=[Problem("invalid_path", "/path", message)])
    return chosen


def _checked_settings(values: WebhookValues) -> WebhookValues:
    """Return the values with their IP ranges in canonical form. Raises InvalidInput."""
    problems: list[Problem] = []
    ranges: list[str] = []
    for number, text in enumerate(values.allowed_ips[:MAX_RANGES]):
        try:
            ranges.append(normal_range(text))
        except ValueError as error:
            problems.append(Problem("invalid_range", f"/allowed_ips/{number}", str(error)))
    if values.dedupe_path is not None:
        try:
            compile_path(values.dedupe_path)
        except BadPath as error:
            problems.append(Problem("invalid_path", "/dedupe_path", str(error)))
    if problems:
        raise InvalidInput("The webhook's settings are wrong; see `errors`.", problems=problems)
    return replace(values, allowed_ips=tuple(ranges))


def _node_of(owner: Row, wanted: str | None) -> str:
    """Return the trigger node of a new webhook: the named one, else the first of what is published, else none yet."""
    nodes = [] if owner["definition"] is None else owner["definition"]["nodes"]
    fitting = [node["id"] for node in nodes if node["type"] == WEBHOOK_NODE]
    if wanted is None:
        return fitting[0] if fitting else ""
    if nodes and wanted not in fitting:
        message = f"What the workflow has published has no {WEBHOOK_NODE} node `{wanted[:100]}`."
        raise InvalidInput(message, problems=[Problem("unknown_node", "/node_id", message)])
    return wanted


def _refuse_node_owned(before: WebhookValues, wanted: WebhookValues) -> None:
    changed = [name for name in NODE_OWNED if getattr(before, name) != getattr(wanted, name)]
    if changed:
        raise Conflict(
            f"The webhook belongs to the node `{before.node_id}`, which says its {', '.join(changed)}: change the "
            "node and publish the workflow.",
            code="managed_by_node",
        )
