"""The wire of webhooks: `/webhooks/…` as bare ASGI, in front of the router, because this path is the busiest.

A request is answered 202 only after its event, its run and its queue row are committed together. A second delivery of
the same id is answered 200 with the first one's ids. What a request may be is decided in `triggers.deliveries`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import msgspec

from gorax_engine.api.client_address import client_address
from gorax_engine.api.problems import (
    CONTENT_TYPE,
    METHOD_NOT_ALLOWED,
    ProblemAnswer,
    problem_answer,
    status_of,
    unexpected_answer,
)
from gorax_engine.api.request_id import HEADER, request_id_of
from gorax_engine.api.requests import ClientGone, read_body
from gorax_engine.core.states import ExecutionState
from gorax_engine.errors import (
    Conflict,
    Forbidden,
    GoraxError,
    InvalidInput,
    NotFound,
    PayloadTooLarge,
    TooManyRequests,
    Unavailable,
)
from gorax_engine.telemetry import Telemetry, WebhookHandled, get_logger
from gorax_engine.triggers.challenges import HUB_CHALLENGE, answer_get, answer_post
from gorax_engine.triggers.deliveries import (
    Request,
    check_address,
    check_rate,
    check_sender,
    later,
    read_delivery,
    refused,
)
from gorax_engine.triggers.webhook_requests import first_values
from gorax_engine.triggers.webhooks import no_webhook

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from ipaddress import IPv4Network, IPv6Network
    from uuid import UUID

    from starlette.types import Receive, Scope, Send

    from gorax_engine.core.json_edge import JsonLimits
    from gorax_engine.engine.starting import Started, StartKey, StartRequest
    from gorax_engine.triggers.rate_limits import RateLimits
    from gorax_engine.triggers.webhooks import Gate, Webhooks

PREFIX: Final = "/webhooks/"
CHALLENGES_A_MINUTE: Final = 60
"""How many handshakes a webhook answers: each compares a token with its secret."""
LOGGED_A_MINUTE: Final = 60
"""How many refusals of one kind are logged, so that no stranger fills the log."""
RESULT_WAIT: Final = 30.0
"""Seconds that a caller in `response_mode` result waits for the end of its run."""

_CLOSE: Final = (b"connection", b"close")
_RESULTS: Final = {
    400: "malformed", 401: "unauthenticated", 403: "forbidden", 404: "not_found", 405: "method_not_allowed",
    413: "too_large", 415: "malformed", 429: "rate_limited", 503: "unavailable",
}  # fmt: skip

_encode = msgspec.json.Encoder().encode
_log = get_logger(__name__)


class Starter(Protocol):
    """The verbs of the engine that the ingress needs."""

    async def start(self, request: StartRequest) -> Started:
        """Start a run; return after its commit."""

    async def record(self, request: StartRequest) -> UUID:
        """Write down a delivery that is refused; return the id of its event, after the commit."""


class MethodNotAllowed(InvalidInput):
    """The address exists but not for this method; `allowed` are those that are accepted."""

    code = METHOD_NOT_ALLOWED

    def __init__(self, allowed: tuple[str, ...]) -> None:
        super().__init__(f"The webhook accepts {', '.join(allowed)} only.")
        self.allowed = allowed


class IngressParts(NamedTuple):
    """What the ingress works with. `admit` refuses what a full queue can't take; `result_of` waits for a run's end."""

    webhooks: Webhooks
    starter: Starter
    telemetry: Telemetry
    limits: JsonLimits
    rates: RateLimits
    admit: Callable[[UUID, StartKey | None], Awaitable[None]]
    result_of: Callable[[UUID, UUID, float], Awaitable[Mapping[str, Any] | None]]
    trusted_proxies: Sequence[IPv4Network | IPv6Network]


class Answer(NamedTuple):
    """What is sent, and as what it is counted."""

    status: int
    body: bytes
    result: str
    content_type: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()


class _Moved(Exception):
    """What was known of the address is no longer so."""


class _Exchange:
    """One request on the wire. `address` is the client's, `elapsed` how long it has taken so far, in seconds."""

    def __init__(self, scope: Scope, receive: Receive, address: str | None, began: float) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: bytes = scope["query_string"]
        self.address = address
        self._scope = scope
        self._receive = receive
        self._began = began
        self._body: bytes | None = None

    @property
    def elapsed(self) -> float:
        """Seconds since the request came."""
        return time.monotonic() - self._began

    async def body(self, max_bytes: int) -> bytes:
        """Return the whole body; it is read once. Raises PayloadTooLarge, MalformedInput, ClientGone."""
        if self._body is None:
            self._body = await read_body(self._scope, self._receive, max_bytes)
        if len(self._body) > max_bytes:
            raise PayloadTooLarge(f"The body is larger than {max_bytes} bytes.")
        return self._body

    def request(self, body: bytes) -> Request:
        """Return it as values."""
        headers = self._scope["headers"]
        return Request(self.method, self.path, self.query, headers, body, self.address, self.elapsed)


class WebhookIngress:
    """An ASGI application for every path below /webhooks/."""

    def __init__(self, parts: IngressParts) -> None:
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        began = time.monotonic()
        try:
            answer = await self._handle(scope, receive, began)
        except ClientGone:
            self._count("client_gone", began)
            return
        except GoraxError as error:
            request_id = request_id_of(scope)
            problem = problem_answer(_seen_from_outside(error), request_id)
            await self._refuse(send, problem, request_id, error.allowed if isinstance(error, MethodNotAllowed) else ())
            self._count(_RESULTS.get(problem.status, "refused"), began)
            if not self._parts.rates.take(("log", error.code), LOGGED_A_MINUTE):
                _log.info("webhook_refused", path=scope["path"][:200], code=error.code, request_id=request_id)
            return
        except Exception:  # noqa: BLE001  (the outermost boundary: whatever it is, it is logged and answered)
            request_id = request_id_of(scope)
            _log.exception("webhook_failed", request_id=request_id)
            await self._refuse(send, unexpected_answer(request_id), request_id, ())
            self._count("error", began)
            return
        headers = [
            (b"content-type", answer.content_type),
            (b"content-length", str(len(answer.body)).encode()),
            *answer.headers,
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})
        self._count(answer.result, began)

    async def _handle(self, scope: Scope, receive: Receive, began: float) -> Answer:
        exchange = _Exchange(scope, receive, client_address(scope, self._parts.trusted_proxies), began)
        path = exchange.path[len(PREFIX) :].rstrip("/")
        gate = await self._parts.webhooks.find(path)
        if exchange.method not in gate.webhook.methods:
            gate = await self._parts.webhooks.find_again(path)
        try:
            return await self._let_in(gate, exchange, is_last=False)
        except _Moved:
            # What was remembered is gone; another workflow may have taken the address meanwhile.
            return await self._let_in(await self._parts.webhooks.find_again(path), exchange, is_last=True)

    async def _let_in(self, gate: Gate, exchange: _Exchange, *, is_last: bool) -> Answer:
        """Judge who asks and for how much, then deliver. Raises _Moved if another look may find another webhook."""
        if not gate.is_live:
            return await self._turn_away(gate, exchange)
        webhook = gate.webhook
        check_address(webhook, exchange.address)
        if exchange.method == "GET" and (
            "GET" not in webhook.methods or f"{HUB_CHALLENGE}=".encode() in exchange.query
        ):
            challenge = self._challenge(gate, exchange)
            if challenge is not None:
                return challenge
        if exchange.method not in webhook.methods:
            raise MethodNotAllowed(webhook.methods)
        most = self._parts.limits.max_bytes
        body = await exchange.body(min(most, webhook.max_body_bytes or most))
        request = exchange.request(body)
        check_sender(gate, first_values(request.raw_headers), body, time.time())
        check_rate(webhook, self._parts.rates)
        return await self._deliver(gate, request, exchange, is_last=is_last)

    async def _turn_away(self, gate: Gate, exchange: _Exchange) -> Answer:
        """Answer for a webhook that is off as if it weren't there; of what was proven, within the rate, keep a row.

        Raises NotFound, whatever else is wrong with the request: without proof nobody learns that there is a webhook.
        """
        if gate.proof.auth_type == "none" or exchange.method not in gate.webhook.methods:
            raise no_webhook()
        try:
            request = exchange.request(await exchange.body(self._parts.limits.max_bytes))
            check_address(gate.webhook, request.address)
            check_sender(gate, first_values(request.raw_headers), request.body, time.time())
            check_rate(gate.webhook, self._parts.rates)
        except GoraxError:
            raise no_webhook() from None
        await self._write_down(gate, request, _dead(gate))
        raise no_webhook()

    def _challenge(self, gate: Gate, exchange: _Exchange) -> Answer | None:
        """Answer a handshake by GET; None if it is none."""
        if b"challenge" not in exchange.query:
            return None
        if self._parts.rates.take(("challenge", gate.webhook.id), CHALLENGES_A_MINUTE):
            raise TooManyRequests("Too many handshakes in this minute; come back in a minute.", retry_after=60)
        challenge = answer_get(gate.proof, exchange.query)
        return None if challenge is None else _plain(challenge)

    async def _deliver(self, gate: Gate, request: Request, exchange: _Exchange, *, is_last: bool) -> Answer:
        """Read a request that was proven, and start what it asks for. What is refused leaves a row that says why."""
        parts = self._parts
        try:
            start = read_delivery(gate, request, parts.limits)
            assert start.delivery is not None
            challenge = answer_post(gate.proof, start.delivery.body)
            if challenge is not None:
                return Answer(200, _encode({"challenge": challenge}), "challenge")
            refusal = start.delivery.refusal
            if refusal is not None:
                event_id = await parts.starter.record(start)
                answer = {"status": "filtered", "reason": refusal.reason, "event_id": str(event_id)}
                return Answer(200, _encode(answer), "filtered")
            await parts.admit(gate.webhook.tenant_id, start.start_key)
            started = await parts.starter.start(later(start, exchange.elapsed))
        except (Unavailable, TooManyRequests):
            raise
        except GoraxError as error:
            is_gone = isinstance(error, (NotFound, Conflict, Forbidden))
            if is_gone and not is_last:
                raise _Moved from error
            if not is_gone or gate.proof.auth_type != "none":
                await self._write_down(gate, request, error)
            raise
        if gate.webhook.response_mode == "result":
            return await self._result(gate, started, exchange)
        return _accepted(started)

    async def _result(self, gate: Gate, started: Started, exchange: _Exchange) -> Answer:
        """Answer with the run's output if it ends in time. The run is committed: nothing here may deny it."""
        left = max(0.0, RESULT_WAIT - exchange.elapsed)
        try:
            run = await self._parts.result_of(gate.webhook.tenant_id, started.execution_id, left)
        except Unavailable:
            run = None
        if run is None:
            return _accepted(started)
        headers = ((b"x-gorax-execution-id", str(started.execution_id).encode()),)
        result = "duplicate" if started.duplicate else "accepted"
        if run["status"] == ExecutionState.COMPLETED.value:
            return Answer(200, _encode(run["output_data"]), result, headers=headers)
        # What went wrong is the tenant's affair: the caller gets the id under which it is to be found.
        answer = {"execution_id": str(started.execution_id), "status": run["status"], "error_code": run["error_code"]}
        return Answer(500, _encode(answer), result, headers=headers)

    async def _write_down(self, gate: Gate, request: Request, error: GoraxError) -> None:
        """Keep a request that was proven and can't be carried out, with the reason."""
        await self._parts.starter.record(refused(gate, request, error, status_of(_seen_from_outside(error))))

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
        self._parts.telemetry.emit(WebhookHandled(result, time.monotonic() - began))


def _accepted(started: Started) -> Answer:
    status, word = (200, "duplicate") if started.duplicate else (202, started.status)
    event = f'"{started.event_id}"' if started.event_id else "null"
    body = f'{{"execution_id":"{started.execution_id}","event_id":{event},"status":"{word}"}}'.encode()
    return Answer(status, body, "duplicate" if started.duplicate else "accepted")


def _plain(text: str) -> Answer:
    """A challenge goes back as it came: as text that no browser takes for anything else."""
    headers = ((b"x-content-type-options", b"nosniff"),)
    return Answer(200, text.encode(), "challenge", b"text/plain; charset=utf-8", headers)


def _dead(gate: Gate) -> GoraxError:
    return Conflict(
        {
            "webhook_disabled": "The webhook is disabled.",
            "workflow_archived": "The workflow is archived.",
            "workflow_inactive": "The workflow is not active.",
            "tenant_suspended": "The tenant is suspended.",
        }[gate.webhook.refusal or "webhook_disabled"],
        code=gate.webhook.refusal,
    )


def _seen_from_outside(error: GoraxError) -> GoraxError:
    """Return what a caller may know: a workflow that can't be started looks like a webhook that isn't there."""
    if isinstance(error, (NotFound, Conflict)) or error.code == "tenant_suspended":
        return no_webhook()
    return error
