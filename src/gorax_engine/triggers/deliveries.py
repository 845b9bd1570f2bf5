"""From a webhook request to a start: is it let through, and what does it start?

Nothing here knows HTTP's wire: a request comes as values, and what comes out is a StartRequest or an error. The order:
address, proof, rate, reading, filters. Past the proof every refusal but that of a limit leaves a row in the log of
events; before it nothing does, for a stranger must not be able to fill it.

A delivery is known for 30 days by its id: the configured header or JSONPath, else the id that the bodies of its scheme
carry, which is signed, else `webhook-id` or `X-GitHub-Delivery`.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from gorax_engine.core.json_paths import BadPath, Budget, TooMuchWork, compile_path
from gorax_engine.engine.starting import Refusal, StartKey, StartRequest, WebhookDelivery
from gorax_engine.errors import Forbidden, GoraxError, MalformedInput, TooManyRequests
from gorax_engine.triggers.signatures import DEDUPE_PATHS, Scheme, check_proof
from gorax_engine.triggers.webhook_requests import (
    MASK,
    first_values,
    is_form,
    masked,
    read_body,
    read_headers,
    read_query,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gorax_engine.core.json_edge import JsonLimits
    from gorax_engine.core.model import Json
    from gorax_engine.store.webhooks import Webhook
    from gorax_engine.triggers.rate_limits import RateLimits
    from gorax_engine.triggers.webhooks import Gate

DEDUPE_FOR: Final = timedelta(days=30)

_DELIVERY_HEADERS: Final = ("webhook-id", "x-github-delivery")
_MAX_DELIVERY_ID: Final = 255
_MAX_REASON: Final = 500


class Request:
    """A webhook request as values. `query` is as it came; `elapsed` is how long it has taken so far, in seconds."""

    __slots__ = ("address", "body", "elapsed", "method", "path", "query", "raw_headers")

    def __init__(
        self,
        method: str,
        path: str,
        query: bytes,
        raw_headers: Iterable[tuple[bytes, bytes]],
        body: bytes,
        address: str | None,
        elapsed: float,
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.raw_headers = raw_headers
        self.body = body
        self.address = address
        self.elapsed = elapsed


def check_address(webhook: Webhook, address: str | None) -> None:
    """Raise Forbidden (ip_not_allowed) unless requests may come from this IP address."""
    if not webhook.allowed_ips:
        return
    if address is not None:
        come_from = ip_address(address)
        mapped = getattr(come_from, "ipv4_mapped", None)
        if any((mapped or come_from) in network for network in webhook.allowed_ips):
            return
    raise Forbidden("Requests from this address are not allowed.", code="ip_not_allowed")


def check_sender(gate: Gate, headers: Mapping[str, bytes], body: bytes, now: float) -> None:
    """Raise Unauthenticated unless the request proves who sent it. `now` is in seconds since the epoch."""
    check_proof(gate.proof, headers, body, now)


def check_rate(webhook: Webhook, rates: RateLimits) -> None:
    """Raise TooManyRequests if the webhook, or its tenant with all webhooks, has had its deliveries of this minute."""
    for key, limit, whose in (
        (webhook.id, webhook.rate_limit, "webhook"),
        (webhook.tenant_id, webhook.tenant_rate_limit, "tenant"),
    ):
        if limit is not None and (wait := rates.take(key, limit)):
            raise TooManyRequests(
                f"The {whose} takes {limit} deliveries a minute; come back in {wait} s.", retry_after=wait
            )


def read_delivery(gate: Gate, request: Request, limits: JsonLimits) -> StartRequest:
    """Return the start that a request asks for; its delivery carries a Refusal if the filters say no.

    Raises MalformedInput for what can't be read (unsupported_media_type: it is compressed).
    """
    webhook = gate.webhook
    headers = read_headers(request.raw_headers)
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise MalformedInput(
            f"The body has the Content-Encoding `{encoding[:50]}`; send it as it is.", code="unsupported_media_type"
        )
    content_type = headers.get("content-type")
    query = read_query(request.query)
    body = read_body(content_type, request.body, limits)
    data: dict[str, Json] = {
        "method": request.method,
        "path": request.path,
        "headers": headers,
        "query": query,
        "body": body,
    }
    if is_form(content_type):
        data["raw"] = request.body.decode("latin-1")
    reason = gate.filters.refusal(data)
    refusal = None if reason is None else Refusal("filtered", reason, 200)
    return StartRequest(
        tenant_id=webhook.tenant_id,
        workflow_id=webhook.workflow_id,
        trigger_type="webhook",
        trigger_data=data,
        trigger_node=webhook.node_id or None,
        priority=webhook.priority,
        start_key=None if refusal is not None else _start_key(webhook, data, request.raw_headers),
        delivery=WebhookDelivery(
            webhook.id,
            request.method,
            request.path,
            masked(query),
            headers,
            body,
            request.body,
            request.address,
            request.elapsed,
            refusal,
        ),
    )


def refused(gate: Gate, request: Request, error: GoraxError, response: int) -> StartRequest:
    """Return the row of a request that was proven and can't be carried out, with what could be read of it."""
    webhook = gate.webhook
    headers = read_headers(request.raw_headers)
    try:
        query = masked(read_query(request.query))
    except MalformedInput:
        query = {}
    reason = f"{error.code}: {error.message}"[:_MAX_REASON].replace("\x00", "")
    return StartRequest(
        tenant_id=webhook.tenant_id,
        workflow_id=webhook.workflow_id,
        trigger_type="webhook",
        trigger_data={},
        delivery=WebhookDelivery(
            webhook.id,
            request.method,
            request.path.replace("\x00", ""),
            query,
            {name: value.replace("\x00", "") for name, value in headers.items()},
            None,
            request.body,
            request.address,
            request.elapsed,
            Refusal("failed", reason, response),
        ),
    )


def later(start: StartRequest, elapsed: float) -> StartRequest:
    """Return the same start, with how long its delivery has taken by now."""
    assert start.delivery is not None
    return replace(start, delivery=replace(start.delivery, elapsed=elapsed))


def _start_key(webhook: Webhook, data: dict[str, Json], raw_headers: Iterable[tuple[bytes, bytes]]) -> StartKey | None:
    delivery_id = _delivery_id(webhook, data, raw_headers)
    if delivery_id is None:
        return None
    if len(delivery_id) > _MAX_DELIVERY_ID:
        delivery_id = _digest(delivery_id)
    return StartKey("delivery", f"{webhook.id}:{delivery_id}", None, DEDUPE_FOR)


def _delivery_id(webhook: Webhook, data: dict[str, Json], raw_headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return the id of a delivery, None if it has none: then it is new."""
    headers: dict[str, str] = data["headers"]
    if webhook.dedupe_header is not None:
        return _header_id(webhook.dedupe_header.lower(), headers, raw_headers)
    path = webhook.dedupe_path
    if path is None and webhook.auth_type == "secret":
        path = DEDUPE_PATHS.get(Scheme(webhook.signature_scheme))
    if path is None:
        return next((headers[name] for name in _DELIVERY_HEADERS if headers.get(name)), None)
    try:
        found = next(compile_path(path).find(data, Budget()), None)
    except (BadPath, TooMuchWork):
        return None
    return str(found) if isinstance(found, (str, int)) and not isinstance(found, bool) and found != "" else None


def _header_id(name: str, headers: Mapping[str, str], raw_headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return a header as an id. One that is masked, because it looks secret, is told apart by its digest."""
    shown = headers.get(name)
    if shown != MASK:
        return shown or None
    raw = first_values(raw_headers)[name]
    return _digest(raw.decode("latin-1")) if raw else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
