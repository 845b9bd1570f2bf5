"""The wire of webhooks: `/webhooks/…` as bare ASGI, in front of the router, because this path is the busiest.

A request is answered 202 only after its event, its run and its queue row are committed together. A second delivery of
the same id is answered 200 with the first one's ids. What a request may be is decided in `triggers.webhooks`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Protocol

from gorax_engine.api.problems import CONTENT_TYPE, METHOD_NOT_ALLOWED, ProblemAnswer, problem_answer, unexpected_answer
from gorax_engine.api.request_id import HEADER, request_id_of
from gorax_engine.api.requests import ClientGone, read_body
from gorax_engine.errors import Conflict, Forbidden, GoraxError, InvalidInput, NotFound
from gorax_engine.telemetry import Telemetry, WebhookHandled, get_logger
from gorax_engine.triggers.webhooks import (
    Webhooks,
    build_start,
    check_proof,
    no_webhook,
    read_headers,
    read_query,
)
from gorax_engine.triggers.webhooks import (
    read_body as body_value,
)

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from gorax_engine.core.json_edge import JsonLimits
    from gorax_engine.engine.starting import Started, StartRequest
    from gorax_engine.store.webhooks import Webhook

PREFIX: Final = "/webhooks/"

_JSON_HEADERS: Final = (b"content-type", b"application/json")
_CLOSE: Final = (b"connection", b"close")
_RESULTS: Final = {
    400: "malformed", 401: "unauthenticated", 404: "not_found", 405: "method_not_allowed", 413: "too_large",
    429: "rate_limited", 503: "unavailable",
}  # fmt: skip

_log = get_logger(__name__)


class Starter(Protocol):
    """The verb of the engine that the ingress needs."""

    async def start(self, request: StartRequest) -> Started:
        """Start a run; return after its commit."""


class MethodNotAllowed(InvalidInput):
    """The address exists but not for this method; `allowed` are those that are accepted."""

    code = METHOD_NOT_ALLOWED

    def __init__(self, allowed: tuple[str, ...]) -> None:
        super().__init__(f"The webhook accepts {', '.join(allowed)} only.")
        self.allowed = allowed


class WebhookIngress:
    """An ASGI application for every path below /webhooks/."""

    def __init__(self, webhooks: Webhooks, starter: Starter, telemetry: Telemetry, limits: JsonLimits) -> None:
        self._webhooks = webhooks
        self._starter = starter
        self._telemetry = telemetry
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        began = time.monotonic()
        try:
            started = await self._accept(scope, receive)
        except ClientGone:
            self._count("client_gone", began)
            return
        except GoraxError as error:
            request_id = request_id_of(scope)
            answer = problem_answer(_seen_from_outside(error), request_id)
            await self._refuse(send, answer, request_id, error.allowed if isinstance(error, MethodNotAllowed) else ())
            self._count(_RESULTS.get(answer.status, "refused"), began)
            return
        except Exception:  # noqa: BLE001  (the outermost boundary: whatever it is, it is logged and answered)
            request_id = request_id_of(scope)
            _log.exception("webhook_failed", request_id=request_id)
            await self._refuse(send, unexpected_answer(request_id), request_id, ())
            self._count("error", began)
            return
        status, word = (200, "duplicate") if started.duplicate else (202, started.status)
        event = f'"{started.event_id}"' if started.event_id else "null"
        body = f'{{"execution_id":"{started.execution_id}","event_id":{event},"status":"{word}"}}'.encode()
        headers = [_JSON_HEADERS, (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        self._count("duplicate" if started.duplicate else "accepted", began)

    async def _accept(self, scope: Scope, receive: Receive) -> Started:
        method: str = scope["method"]
        address = scope["path"][len(PREFIX) :].rstrip("/")
        webhook = await self._webhooks.find(address)
        if method not in webhook.methods:
            webhook = await self._webhooks.find_again(address)
        _admit(webhook, method)
        raw = await read_body(scope, receive, self._limits.max_bytes)
        headers = read_headers(scope["headers"])
        query = read_query(scope["query_string"])
        body = body_value(headers.get("content-type"), raw, self._limits)
        try:
            return await self._starter.start(build_start(webhook, method, scope["path"], headers, query, body, raw))
        except (NotFound, Conflict):
            # What was remembered is gone; another workflow may have taken the address meanwhile.
            webhook = await self._webhooks.find_again(address)
            _admit(webhook, method)
            return await self._starter.start(build_start(webhook, method, scope["path"], headers, query, body, raw))

    async def _refuse(self, send: Send, answer: ProblemAnswer, request_id: str, allowed: tuple[str, ...]) -> None:
        headers = [
            (b"content-type", CONTENT_TYPE.encode()),
            (b"content-length", str(len(answer.body)).encode()),
            (HEADER.lower().encode(), request_id.encode()),
            *((name.lower().encode(), value.encode()) for name, value in answer.headers.items()),
        ]
        if allowed:
            headers.append((b"allow", ", ".join(allowed).encode()))
        if answer.status == 413:
            # The rest of the body is still on its way; without this the server would read it to its end.
            headers.append(_CLOSE)
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    def _count(self, result: str, began: float) -> None:
        self._telemetry.emit(WebhookHandled(result, time.monotonic() - began))


def _admit(webhook: Webhook, method: str) -> None:
    """Raise MethodNotAllowed or Unauthenticated unless the webhook takes the request."""
    if method not in webhook.methods:
        raise MethodNotAllowed(webhook.methods)
    check_proof(webhook)


def _seen_from_outside(error: GoraxError) -> GoraxError:
    """Return what a caller may know: a workflow that can't be started looks like a webhook that isn't there."""
    if isinstance(error, (NotFound, Conflict, Forbidden)):
        return no_webhook()
    return error
