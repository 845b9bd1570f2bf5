"""The one HTTP client for what workflows ask of the outside: guarded, bounded, and with errors that have codes.

The guard (`egress.py`) judges each address at the moment a socket is made for it, so that literals, names, redirects
and answers of a lying name server all pass the same gate. Names are resolved once per connection and only what was
judged is dialled; TLS and the Host header still use the name.
"""

import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache, partial
from types import TracebackType
from typing import Final, Self, TypeAlias

import aiohttp
import aiohttp.http_exceptions
import anyio
import anyio.lowlevel
import anyio.to_thread
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from gorax_engine.core.model import SECOND, Micros
from gorax_engine.nodes.egress import OutboundPolicy
from gorax_engine.nodes.inflate import Bomb, Corrupt, Inflater
from gorax_engine.nodes.outbound_errors import (
    ConnectionFailed,
    InvalidResponse,
    InvalidUrl,
    OutboundDenied,
    OutboundError,
    OutboundTimeout,
    ResponseTooLarge,
    TooManyRedirects,
)
from gorax_engine.nodes.outbound_request import Call, checked, join, origin, parse_url, redirected
from gorax_engine.telemetry import OutboundRequest

USER_AGENT: Final = "gorax-engine"
_NUMERIC_HOST: Final = re.compile(r"(?:[^.:]*\.)*(?:0[xX][0-9a-fA-F]*|[0-9]+)\.?")
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_DNS_THREADS: Final = 16


@dataclass(frozen=True, slots=True)
class OutboundLimits:
    """Bounds of one exchange (bytes, redirects, time) and of the pool (connections in all and to one origin)."""

    max_body: int = 10 << 20
    max_wire: int = 10 << 20
    max_ratio: int = 100
    max_header: int = 8190
    max_headers: int = 128
    max_redirects: int = 3
    max_timeout: Micros = 600 * SECOND
    connections: int = 512
    connections_per_host: int = 128


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP response, inflated. `headers` have lower case names in the order of the wire; `url` is the last one."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    url: str


Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""Return the addresses of a host; raises socket.gaierror."""

Refusal: TypeAlias = Callable[[str, str], str | None]
"""Return why an address, reached by a name, is out of reach (`OutboundPolicy.refusal`)."""


class OutboundClient:
    """A pool of connections behind the guard. Enter it once, in the daemon, and share it."""

    def __init__(
        self,
        policy: OutboundPolicy,
        *,
        limits: OutboundLimits = OutboundLimits(),
        emit: Callable[[OutboundRequest], None] = lambda _: None,
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.limits = limits
        # The policy never changes, and its verdict on a literal is asked for with each request.
        self._refusal: Refusal = lru_cache(4096)(policy.refusal)
        self._emit = emit
        self._resolve = resolve or system_resolver()
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        # The name that the request of the current task dials, for the gate: an allowed name may lead to any address.
        self._dialling: ContextVar[str] = ContextVar("dialling", default="")

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            resolver=_JudgingResolver(self._refusal, self._resolve),
            socket_factory=self._make_socket,
            limit=self.limits.connections,
            limit_per_host=self.limits.connections_per_host,
            ttl_dns_cache=10,
            ssl=self._tls or ssl.create_default_context(),
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers={"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "gzip, deflate"},
            skip_auto_headers=("Content-Type",),
            timeout=aiohttp.ClientTimeout(),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            middlewares=(_no_hidden_repeat,),
            max_line_size=self.limits.max_header,
            max_field_size=self.limits.max_header,
            max_headers=self.limits.max_headers,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(self, call: Call) -> Answer:
        """Carry out one call. Any status is an answer; raises OutboundError where there is none."""
        status_class = "error"  # a call that is cancelled counts as one too
        timeout = min(call.timeout, self.limits.max_timeout) / SECOND
        try:
            with anyio.move_on_after(timeout):
                answer = await self._follow(checked(call))
                status_class = f"{answer.status // 100}xx"
                return answer
            raise OutboundTimeout(f"The request to {origin(parse_url(call.url))} took longer than {timeout:g} s.")
        except OutboundDenied:
            status_class = "denied"
            raise
        finally:
            self._emit(OutboundRequest(status_class))

    async def _follow(self, call: Call) -> Answer:
        url = parse_url(call.url)
        for _ in range(self.limits.max_redirects + 1):
            response = await self._exchange(call, url)
            try:
                location = response.headers.get("Location")
                if not (call.follow_redirects and location and response.status in _REDIRECTS):
                    return await self._read(response, url)
            finally:
                response.close()  # no effect on a connection whose response was read to its end
            target = join(url, location)
            call = redirected(call, response.status, same_origin=origin(url) == origin(target))
            url = target
        raise TooManyRedirects(f"The answer is a chain of more than {self.limits.max_redirects} redirects.")

    async def _exchange(self, call: Call, url: URL) -> aiohttp.ClientResponse:
        """Send one request and return the response with its body still to be read."""
        if self._session is None:
            raise RuntimeError("the client is used outside its context")
        host = url.raw_host or ""
        self._refuse_literal(host)
        token = self._dialling.set(host)
        try:
            return await self._session.request(
                call.method, url, headers=call.headers, data=call.body, allow_redirects=False
            )
        except (aiohttp.ClientError, _Interrupted) as error:
            raise _translate(error, url) from error
        finally:
            self._dialling.reset(token)

    async def _read(self, response: aiohttp.ClientResponse, url: URL) -> Answer:
        if response.status < 200:
            raise InvalidResponse(f"{origin(url)} answered with the status {response.status}, which ends nothing.")
        try:
            body = await self._read_body(response)
        except Bomb:
            raise ResponseTooLarge(
                f"The response of {origin(url)} is larger than {self.limits.max_body} bytes, or grew by more than "
                f"{self.limits.max_ratio}:1 when inflated.",
                details={"http_status_code": response.status},
            ) from None
        except Corrupt as error:
            raise InvalidResponse(f"The body of {origin(url)} can't be inflated: {error}.") from None
        except aiohttp.ClientPayloadError as error:
            raise ConnectionFailed(
                f"{origin(url)} closed the connection before the body's end.", reason="closed"
            ) from error
        except aiohttp.ClientError as error:
            raise _translate(error, url) from error
        headers = tuple((name.decode("latin-1").lower(), _text(value)) for name, value in response.raw_headers)
        return Answer(response.status, response.reason or "", headers, body, str(url))

    async def _read_body(self, response: aiohttp.ClientResponse) -> bytes:
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower().removeprefix("x-")
        inflater = (
            None if encoding in ("identity", "") else Inflater(encoding, self.limits.max_body, self.limits.max_ratio)
        )
        limit = self.limits.max_wire if inflater else min(self.limits.max_wire, self.limits.max_body)
        if response.method == "HEAD" or response.status in (204, 304):
            return b""
        length = response.content_length
        if length is not None and length > limit:
            raise Bomb
        if length is not None and inflater is None:
            return await response.read()  # the framing bounds it
        parts: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_any():
            if (size := size + len(chunk)) > limit:
                raise Bomb
            if inflater is None:
                parts.append(chunk)
                continue
            if encoding not in ("gzip", "deflate"):
                raise Corrupt(f"the encoding {encoding[:40]!r} was not asked for")
            for piece in inflater.feed(chunk):
                parts.append(piece)
                await anyio.lowlevel.checkpoint()
        if inflater is not None:
            inflater.finish()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _refuse_literal(self, host: str) -> None:
        """Judge a host that is an address in any of its spellings (`::1`, `0x7f.1`, `2130706433`) by what it means."""
        address = host
        if _NUMERIC_HOST.fullmatch(host):
            try:
                address = socket.inet_ntoa(socket.inet_aton(host.rstrip(".")))
            except OSError:
                raise InvalidUrl(f"The host {host!r} is neither a name nor an address.") from None
        elif ":" not in host:
            return
        if (reason := self._refusal(host, address)) is not None:
            raise OutboundDenied(f"{host} can't be reached from workflows: {reason}.")

    def _make_socket(
        self, info: tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]
    ) -> socket.socket:
        """The gate: no socket is made for an address that the policy refuses."""
        family, kind, protocol, _, address = info
        if (reason := self._refusal(self._dialling.get(), address[0])) is not None:
            raise _GateClosed(reason)
        return socket.socket(family, kind, protocol)


class _GateClosed(PermissionError):
    """Raised in place of a socket; an OSError, so that the library treats it like an address that can't be reached."""


class _Interrupted(Exception):
    """The connection broke under a request that must not be sent again unasked."""


async def _no_hidden_repeat(
    request: aiohttp.ClientRequest, handler: Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]]
) -> aiohttp.ClientResponse:
    """Keep the library from sending PUT and DELETE again by itself when a connection breaks: attempts are counted."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        if request.method in _SAFE_METHODS:
            raise
        raise _Interrupted from error


class _JudgingResolver(AbstractResolver):
    """Resolves names and refuses those of which any address is out of reach."""

    def __init__(self, refusal: Refusal, resolve: Resolve) -> None:
        self._refusal = refusal
        self._resolve = resolve

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_UNSPEC) -> list[ResolveResult]:
        addresses = await self._resolve(host, port)
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "the name has no address")
        for address in addresses:
            if (reason := self._refusal(host, address)) is not None:
                raise OutboundDenied(f"{host} can't be reached from workflows: {reason}.")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


def system_resolver() -> Resolve:
    """Return a resolver on the system's own, in threads of its own: slow names must not stall other thread work."""
    limiter: anyio.CapacityLimiter | None = None

    async def resolve(host: str, port: int) -> list[str]:
        nonlocal limiter
        limiter = limiter or anyio.CapacityLimiter(_DNS_THREADS)
        look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        infos = await anyio.to_thread.run_sync(look_up, abandon_on_cancel=True, limiter=limiter)
        return list(dict.fromkeys(str(info[4][0]) for info in infos))

    return resolve


def _translate(error: Exception, url: URL) -> OutboundError:
    """Turn what the library raises into an error of ours."""
    if isinstance(error, _Interrupted) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    where = origin(url)
    match error:
        case aiohttp.ClientConnectorDNSError(os_error=cause):
            transient = cause.errno == socket.EAI_AGAIN
            return ConnectionFailed(f"The host of {where} can't be resolved.", reason="dns", transient=transient)
        case aiohttp.ClientConnectorCertificateError():
            return ConnectionFailed(
                f"The certificate of {where} is not valid: {error.certificate_error}.", reason="tls", transient=False
            )
        case aiohttp.ClientSSLError():
            return ConnectionFailed(f"No TLS connection to {where} could be made.", reason="tls", transient=False)
        case aiohttp.ClientConnectorError(os_error=_GateClosed() as cause):
            return OutboundDenied(f"{where} can't be reached from workflows: {cause}.")
        case aiohttp.ClientConnectorError(os_error=ConnectionRefusedError()):
            return ConnectionFailed(f"{where} refused the connection.", reason="refused")
        case aiohttp.ClientConnectorError():
            return ConnectionFailed(f"{where} can't be reached.", reason="unreachable")
        case aiohttp.ServerDisconnectedError():
            return ConnectionFailed(f"{where} closed the connection without an answer.", reason="closed")
        case aiohttp.ClientOSError() | aiohttp.ClientConnectionError():
            return ConnectionFailed(f"The connection to {where} was reset.", reason="reset")
        case aiohttp.InvalidURL():
            return InvalidUrl("The URL can't be called; it should look like https://example.com/path.")
        case aiohttp.ClientResponseError() if _too_long(error):
            return ResponseTooLarge(f"{where} sent a header that is too large, or too many.")
        case _:
            return InvalidResponse(f"{where} sent something that is not HTTP.")


def _too_long(error: BaseException) -> bool:
    cause = error.__cause__ or error.__context__
    if isinstance(error, aiohttp.http_exceptions.LineTooLong) or "Too many headers" in str(error):
        return True
    return cause is not None and _too_long(cause)


def _text(value: bytes) -> str:
    """Decode a header's value to text that can be stored."""
    return value.decode("utf-8", "replace").replace("\0", "\ufffd")
