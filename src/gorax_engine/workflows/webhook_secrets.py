"""The secrets in webhook nodes: written as they are, stored sealed.

A definition is sealed before the transaction that stores it, for the key may be a service's. A secret that stands in
the draft or in what is published already keeps its sealed text, so that a file that is applied again changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final
from uuid import UUID

from gorax_engine.core.reading.document import pointer
from gorax_engine.errors import InvalidDefinition, Problem
from gorax_engine.store import workflows
from gorax_engine.vault.keys import Undecryptable
from gorax_engine.vault.sealed_text import is_sealed
from gorax_engine.workflows.webhook_nodes import NODE_TYPE, WebhookNode, webhook_nodes

if TYPE_CHECKING:
    from gorax_engine.core.model import Json
    from gorax_engine.store.database import Database
    from gorax_engine.vault.sealed_text import SealedTexts

_LIKE_SECRET: Final = re.compile("secret", re.IGNORECASE)
_UNREADABLE: Final = (
    "The sealed secret can't be opened here: it was changed, or sealed for another tenant or under another key; write "
    "the secret itself in its place."
)


class WebhookSecrets:
    """Checks and seals the secrets of definitions.

    `check` gets auth_type, signature_scheme and a secret, and raises ValueError, in a sentence without the secret, if
    it can't be one.
    """

    def __init__(self, database: Database, texts: SealedTexts, check: Callable[[str, str, str], None]) -> None:
        self._database = database
        self._texts = texts
        self._check = check

    def problems(self, definition: Json) -> list[Problem]:
        """Return the faults of the secrets that stand in a canonical definition as they are."""
        found = list(_misplaced(definition))
        for place, node in webhook_nodes(definition):
            if node.secret is not None and not is_sealed(node.secret):
                found += self._faults(place, node, node.secret)
        return found

    async def sealed(self, tenant_id: UUID, definition: Json, workflow_id: UUID | None = None) -> Json:
        """Return a canonical definition with every secret sealed; `workflow_id` is whose draft it is to become.

        Raises InvalidDefinition, also for sealed ones that can't be opened, and Unavailable (vault_unavailable).
        """
        problems = self.problems(definition)
        found = [(place, node) for place, node in webhook_nodes(definition) if node.secret is not None]
        for place, node in found:
            problems += await self._sealed_faults(tenant_id, place, node)
        if problems:
            raise InvalidDefinition(problems)
        literal = [(place, node) for place, node in found if not is_sealed(node.secret or "")]
        if not literal:
            return definition
        known = {} if workflow_id is None else await self._known(tenant_id, workflow_id)
        nodes = list(definition["nodes"])
        for place, node in literal:
            text = await self._seal(tenant_id, node.secret or "", known.get(node.node_id, ()))
            nodes[place] = {**nodes[place], "config": {**nodes[place]["config"], "secret": text}}
        return {**definition, "nodes": nodes}

    def _faults(self, place: int, node: WebhookNode, secret: str) -> list[Problem]:
        at = f"/nodes/{place}/config/secret"
        if node.auth_type == "none":
            message = "A webhook with a secret must ask for it: give `auth_type` secret, basic or bearer."
            return [Problem("invalid_config", at, message)]
        if "{{" in secret or "${" in secret:
            message = "The secret stands as it is, and templates in it are not rendered: write the secret itself."
            return [Problem("invalid_config", at, message)]
        try:
            self._check(node.auth_type, node.signature_scheme, secret)
        except ValueError as error:
            return [Problem("invalid_config", at, str(error))]
        return []

    async def _sealed_faults(self, tenant_id: UUID, place: int, node: WebhookNode) -> list[Problem]:
        if node.secret is None or not is_sealed(node.secret):
            return []
        try:
            secret = await self._texts.open(tenant_id, node.secret)
        except Undecryptable:
            return [Problem("invalid_config", f"/nodes/{place}/config/secret", _UNREADABLE)]
        return self._faults(place, node, secret)

    async def _known(self, tenant_id: UUID, workflow_id: UUID) -> dict[str, list[str]]:
        """Return the sealed secrets of the workflow's draft and of what it has published, by node."""
        definitions: list[Json] = []
        async with self._database.tenant(tenant_id) as connection:
            row = await workflows.get(connection, tenant_id, workflow_id)
            if row is not None:
                definitions.append(row["definition"])
                if row["published_version"] is not None:
                    version = await workflows.get_version(connection, tenant_id, workflow_id, row["published_version"])
                    definitions += [version["definition"]] if version is not None else []
        found: dict[str, list[str]] = {}
        for definition in definitions:
            for _, node in webhook_nodes(definition):
                if node.secret is not None and is_sealed(node.secret):
                    found.setdefault(node.node_id, []).append(node.secret)
        return found

    async def _seal(self, tenant_id: UUID, secret: str, known: Iterable[str]) -> str:
        for text in known:
            try:
                if await self._texts.open(tenant_id, text) == secret:
                    return text
            except Undecryptable:
                continue
        return await self._texts.seal(tenant_id, secret)


def _misplaced(definition: Json) -> Iterator[Problem]:
    """Find secrets of webhook nodes where nobody looks for them: unknown keys are stored as they are."""
    for place, node in enumerate(definition["nodes"]):
        if node["type"] != NODE_TYPE:
            continue
        data = node.get("data")
        parts = {"": node, "/config": node.get("config"), "/data": data}
        if isinstance(data, dict):
            parts["/data/config"] = data.get("config")
        for where, part in parts.items():
            for key in part if isinstance(part, dict) else ():
                if _LIKE_SECRET.search(key) and (where, key) != ("/config", "secret"):
                    message = (
                        "Here a secret would be stored readable: write it as `secret` in the `config` of the node."
                    )
                    yield Problem("invalid_config", pointer(("nodes", place)) + where + pointer((key,)), message)
