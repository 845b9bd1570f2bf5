"""Connections to databases that workflows bring: a credential read, a host's judged addresses dialled, TLS by its name.

Nothing is taken from the daemon's own environment or home folder (PGPASSWORD, .pgpass, client certificates).
"""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import anyio
import asyncpg
from asyncpg.connect_utils import SessionAttribute

from gorax_engine.core.model import Json
from gorax_engine.nodes.credentials import UnusableCredential, secret_field

MAX_BYTES: Final = 10 << 20
"""Of everything that a server sends on one connection once the login is over."""

_MODES: Final = ("disable", "prefer", "require", "verify-ca", "verify-full")
_CLOSE_SECONDS: Final = 2.0
_CONNECT_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class SqlServer:
    """Where a database is, and who asks it. `sslmode` is that of libpq; `root` are certificates in PEM."""

    host: str
    port: int
    database: str
    user: str
    password: str = field(repr=False)
    sslmode: str
    root: str | None

    @classmethod
    def read(cls, credential: Mapping[str, Json]) -> "SqlServer":
        """Read a credential; raises UnusableCredential."""
        host = secret_field(credential, "host").strip()
        port, mode = credential.get("port", 5432), credential.get("sslmode") or "prefer"
        if isinstance(port, str) and port.isascii() and port.isdigit():
            port = int(port)
        if not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= 65535:
            raise UnusableCredential("The `port` of the credential must be a number from 1 to 65535.")
        if mode not in _MODES:
            raise UnusableCredential(f"The `sslmode` of the credential must be one of {', '.join(_MODES)}.")
        if host.startswith("/") or "," in host:
            raise UnusableCredential("The `host` of the credential must be one name or address.")
        password, root = credential.get("password") or "", credential.get("sslrootcert") or None
        if not isinstance(password, str) or not isinstance(root, str | None):
            raise UnusableCredential("The `password` and `sslrootcert` of the credential must be text.")
        user = secret_field(credential, "username", "user")
        return cls(host, port, secret_field(credential, "database"), user, password, mode, root)

    @property
    def where(self) -> str:
        """What may be named in errors."""
        return f"{self.host}:{self.port}"


class _NamedContext(ssl.SSLContext):
    """Checks the certificate against the name that the user gave, though an address is dialled."""

    name = ""

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        return super().wrap_bio(incoming, outgoing, server_side, self.name, session)


def _tls(server: SqlServer) -> ssl.SSLContext | bool:
    if server.sslmode == "disable":
        return False
    context = _NamedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.name = server.host
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = server.sslmode == "verify-full"
    if not server.sslmode.startswith("verify"):
        context.verify_mode = ssl.CERT_NONE
        return context
    try:
        if server.root is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(cadata=server.root)
    except (ssl.SSLError, ValueError):
        raise UnusableCredential("The `sslrootcert` of the credential holds no certificates in PEM.") from None
    return context


class _Meter(asyncio.Protocol):
    """Stands between the connection and the driver and cuts off a server that sends too much."""

    def __init__(self, driver: Any, transport: asyncio.Transport) -> None:
        self.received = 0
        self.exceeded = False
        self._driver = driver
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        if self.received > MAX_BYTES:
            self.exceeded = True
            self._transport.abort()
        else:
            self._driver.data_received(data)

    def eof_received(self) -> bool | None:
        answer: bool | None = self._driver.eof_received()
        return answer

    def connection_lost(self, exc: Exception | None) -> None:
        self._driver.connection_lost(exc)

    def pause_writing(self) -> None:
        self._driver.pause_writing()

    def resume_writing(self) -> None:
        self._driver.resume_writing()


if TYPE_CHECKING:
    _DriverConnection = asyncpg.Connection[asyncpg.Record]
else:
    _DriverConnection = asyncpg.Connection  # only its stubs know it as a generic


class SqlConnection(_DriverConnection):
    """A connection whose answers are counted."""

    def __init__(self, protocol: Any, transport: asyncio.Transport, *rest: Any) -> None:
        super().__init__(protocol, transport, *rest)
        self.meter = _Meter(protocol, transport)
        transport.set_protocol(self.meter)


async def connect(server: SqlServer, addresses: Sequence[str]) -> SqlConnection:
    """Connect to one of the addresses and log in. The caller sets the deadline.

    Raises UnusableCredential, OSError, and what the driver raises.
    """
    context = _tls(server)
    try:
        return await _dial(server, addresses, context)
    except ConnectionError as error:
        # The driver's own word for a server without TLS, which `prefer` puts up with.
        if server.sslmode != "prefer" or type(error) is not ConnectionError:
            raise
        return await _dial(server, addresses, False)


async def _dial(server: SqlServer, addresses: Sequence[str], context: ssl.SSLContext | bool) -> SqlConnection:
    connection: SqlConnection = await asyncpg.connect(
        host=list(addresses),
        port=[server.port] * len(addresses),
        user=server.user,
        password=server.password,
        database=server.database,
        ssl=context,
        direct_tls=False,
        target_session_attrs=SessionAttribute.any,
        timeout=_CONNECT_SECONDS,
        statement_cache_size=0,
        server_settings={"application_name": "gorax-engine"},
        connection_class=SqlConnection,
    )
    return connection


async def close(connection: SqlConnection) -> None:
    """Close, even while cancelled: a statement that still runs is cancelled on the server first."""
    with anyio.move_on_after(_CLOSE_SECONDS, shield=True), suppress(Exception):
        await connection.close()
    if not connection.is_closed():
        connection.terminate()
