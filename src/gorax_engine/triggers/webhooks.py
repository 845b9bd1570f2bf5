"""From a webhook request to a start: find the webhook, check the request against it, and build the StartRequest.

Nothing here knows HTTP's wire: a request comes as values, and the answer is a StartRequest or an error. Rules:

- Bodies: JSON types (and none given) are parsed; forms become an object of strings (a list where a name repeats); what
  else is UTF-8 text without NUL becomes a string, all other bytes their base64. No body is null.
- Headers keep their first value under a lower-case name. Values that look like credentials or proofs are masked, in
  the stored event and in the trigger data alike: a workflow has no use for them, and what isn't kept can't leak.
- Query parameters keep their first value; in the stored event secret-looking ones are masked.
- A delivery is known by `webhook-id` or `X-GitHub-Delivery`, for 30 days.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl
from uuid import UUID

from gorax_engine.core import json_edge
from gorax_engine.engine.starting import StartKey, StartRequest, WebhookDelivery
from gorax_engine.errors import MalformedInput, NotFound, Unauthenticated
from gorax_engine.store import webhooks
from gorax_engine.store.lookup_cache import LookupCache

if TYPE_CHECKING:
    from gorax_engine.core.json_edge import JsonLimits
    from gorax_engine.core.model import Json
    from gorax_engine.store.database import Database
    from gorax_engine.store.webhooks import Webhook

CACHE_SECONDS: Final = 1.0
"""For how long a change of a webhook may go unnoticed by a process; the start itself checks again."""

DEDUPE_FOR: Final = timedelta(days=30)
MASK: Final = "[masked]"
MAX_PATH: Final = 255

_DELIVERY_HEADERS: Final = ("webhook-id", "x-github-delivery")
_MAX_DELIVERY_ID: Final = 255
_MAX_FIELDS: Final = 1000
_ID: Final = r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
_PAIR_OF_IDS: Final = re.compile(f"{_ID}/{_ID}", re.IGNORECASE)
_SECRET: Final = re.compile(
    r"auth|cookie|token|secret|signature|passw|(api|access|private)[-_]?key|hmac|credential|jwt|session|bearer",
    re.IGNORECASE,
)
_JSON_TYPES: Final = re.compile(r"\s*application/(?:[\w.+-]+\+)?json\s*(?:;.*)?", re.IGNORECASE)
_FORM_TYPE: Final = "application/x-www-form-urlencoded"


class Webhooks:
    """Finds webhooks by their address; a live one is remembered for a second, that there is none is not."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: LookupCache[str, Webhook | None] = LookupCache(
            self._load, ttl=CACHE_SECONDS, keep=lambda webhook: webhook is not None and webhook.live
        )

    async def find(self, path: str) -> Webhook:
        """Return the live webhook at `path` (without `/webhooks/`).

        Raises NotFound in the same words for one that is unknown, disabled, archived or suspended; Unavailable.
        """
        webhook = None if len(path) > MAX_PATH or "\x00" in path else await self._known.get(path)
        if webhook is None or not webhook.live:
            raise no_webhook()
        return webhook

    async def find_again(self, path: str) -> Webhook:
        """Return the live webhook at `path`, whatever is remembered. Raises as `find` does."""
        self._known.forget(path)
        return await self.find(path)

    async def _load(self, path: str) -> Webhook | None:
        pair = _PAIR_OF_IDS.fullmatch(path)
        if pair is None:
            return await webhooks.find(self._database, path)
        webhook = await webhooks.find_by_id(self._database, UUID(pair[2]))
        return webhook if webhook is not None and webhook.workflow_id == UUID(pair[1]) else None


def no_webhook() -> NotFound:
    """Return what every address without a live webhook answers."""
    return NotFound("There is no webhook at this address.", code="webhook_not_found")


def check_proof(webhook: Webhook) -> None:
    """Raise Unauthenticated unless the webhook asks for no proof: no other way is known, so none is let through."""
    if webhook.auth_type != "none":
        raise Unauthenticated("The webhook asks for a proof that was not given.", code="webhook_unauthenticated")


def read_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the headers with lower-case names, the first value of each, secrets masked."""
    headers: dict[str, str] = {}
    for raw_name, value in raw:
        name, secret = _header_name(raw_name)
        if name not in headers:
            headers[name] = MASK if secret else value.decode("latin-1")
    return headers


def read_query(raw: bytes) -> dict[str, str]:
    """Return the first value of each query parameter. Raises MalformedInput."""
    if not raw:
        return {}
    values: dict[str, str] = {}
    for name, value in _pairs(raw):
        values.setdefault(name, value)
    return values


def read_body(content_type: str | None, raw: bytes, limits: JsonLimits) -> Json:
    """Return the body as JSON by the rules above. Raises MalformedInput, PayloadTooLarge."""
    if not raw:
        return None
    if content_type is None or content_type == "application/json" or _JSON_TYPES.fullmatch(content_type):
        return json_edge.parse(raw, limits)
    if content_type.partition(";")[0].strip().lower() == _FORM_TYPE:
        return _form(raw)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return base64.b64encode(raw).decode()
    return base64.b64encode(raw).decode() if "\x00" in text else text


def build_start(
    webhook: Webhook,
    method: str,
    path: str,
    headers: dict[str, str],
    query: dict[str, str],
    body: Json,
    raw_body: bytes,
) -> StartRequest:
    """Return the start that a checked request asks for."""
    delivery_id = next((headers[name] for name in _DELIVERY_HEADERS if headers.get(name)), None)
    start_key = None
    if delivery_id is not None:
        if len(delivery_id) > _MAX_DELIVERY_ID:
            delivery_id = hashlib.sha256(delivery_id.encode()).hexdigest()
        start_key = StartKey("delivery", f"{webhook.id}:{delivery_id}", None, DEDUPE_FOR)
    return StartRequest(
        tenant_id=webhook.tenant_id,
        workflow_id=webhook.workflow_id,
        trigger_type="webhook",
        trigger_data={"method": method, "path": path, "headers": headers, "query": query, "body": body},
        trigger_node=webhook.node_id,
        priority=webhook.priority,
        start_key=start_key,
        delivery=WebhookDelivery(webhook.id, method, path, _masked(query), headers, body, raw_body),
    )


@lru_cache(maxsize=1024)
def _header_name(raw: bytes) -> tuple[str, bool]:
    name = raw.decode("latin-1").lower()
    return name, _SECRET.search(name) is not None


def _masked(query: Mapping[str, str]) -> dict[str, str]:
    return {name: MASK if _SECRET.search(name) else value for name, value in query.items()}


def _form(raw: bytes) -> Json:
    fields: dict[str, Json] = {}
    for name, value in _pairs(raw):
        if name not in fields:
            fields[name] = value
        elif isinstance(fields[name], list):
            fields[name].append(value)
        else:
            fields[name] = [fields[name], value]
    return fields


def _pairs(raw: bytes) -> list[tuple[str, str]]:
    try:
        pairs = parse_qsl(raw.decode("latin-1"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except UnicodeDecodeError:
        raise MalformedInput("The query or form is not percent-encoded UTF-8.") from None
    except ValueError:
        raise MalformedInput(f"The query or form has more than {_MAX_FIELDS} fields.") from None
    if any("\x00" in name or "\x00" in value for name, value in pairs):
        raise MalformedInput("The query or form holds a NUL character, which can't be stored; remove it.")
    return pairs
