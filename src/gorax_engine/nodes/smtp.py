"""Sending mail through an SMTP server, guarded like every other way to the outside, with errors that have codes.

All addresses of the server's name are judged by the policy, and only what was judged is dialled; TLS still checks the
certificate against the name. A message is handed over at least once: after a lost answer the caller may send again.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from enum import StrEnum
from typing import Final, TypeAlias

import aiosmtplib
import anyio
from aiosmtplib import errors as smtp_errors

from gorax_engine.core.model import SECOND, Classification, Json, Micros
from gorax_engine.nodes.egress import OutboundPolicy
from gorax_engine.nodes.outbound_errors import ConnectionFailed, OutboundDenied, OutboundError, OutboundTimeout

DEFAULT_TIMEOUT: Final[Micros] = 30 * SECOND
_REPLY_LIMIT: Final = 500
_QUIT_SECONDS: Final = 2.0
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")


class SmtpTls(StrEnum):
    """How the connection is made safe: by STARTTLS (required, never a mere try), TLS from the start, or not at all."""

    STARTTLS = "starttls"
    TLS = "tls"
    NONE = "none"


_PORTS: Final = {SmtpTls.STARTTLS: 587, SmtpTls.TLS: 465, SmtpTls.NONE: 25}


class InvalidMailServer(OutboundError):
    """What should describe the server doesn't."""

    code = "invalid_mail_server"


class InvalidMessage(OutboundError):
    """The message has no sender or recipients, or needs what the server doesn't offer."""

    code = "invalid_message"


class MailRefused(OutboundError):
    """The server said no; a 4xx reply may pass by itself. `details` hold `smtp_code` and, where known, `recipients`."""

    code = "mail_refused"

    def __init__(self, message: str, *, smtp_code: int, details: Mapping[str, Json] | None = None) -> None:
        super().__init__(message, details={"smtp_code": smtp_code, **(details or {})})
        self.smtp_code = smtp_code

    @property
    def classification(self) -> Classification:
        return Classification.TRANSIENT if 400 <= self.smtp_code <= 499 else Classification.PERMANENT


class MailLoginFailed(MailRefused):
    """The server refused the user name and password."""

    code = "mail_login_failed"


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where mail is handed over. `timeout` bounds the whole exchange, in microseconds."""

    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: SmtpTls = SmtpTls.STARTTLS
    timeout: Micros = DEFAULT_TIMEOUT

    @classmethod
    def read(cls, fields: Mapping[str, Json], *, timeout: Micros = DEFAULT_TIMEOUT) -> SmtpServer:
        """Read a credential: host, port?, username?, password?, tls? (starttls, tls, none).

        Without `tls`, port 465 means tls and any other starttls; without `port`, 587, 465 or 25 follows from `tls`.
        Raises InvalidMailServer.
        """
        host, username, password = (fields.get(name) for name in ("host", "username", "password"))
        port = fields.get("port")
        if isinstance(port, str) and port.isascii() and port.isdigit():
            port = int(port)
        if not isinstance(host, str) or not host.strip():
            raise InvalidMailServer("The SMTP credential needs a `host`.")
        if port is not None and (not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= 65535):
            raise InvalidMailServer("The `port` of the SMTP credential must be a number from 1 to 65535.")
        try:
            tls = SmtpTls(fields.get("tls") or (SmtpTls.TLS if port == _PORTS[SmtpTls.TLS] else SmtpTls.STARTTLS))
        except ValueError:
            raise InvalidMailServer("The `tls` of the SMTP credential must be starttls, tls or none.") from None
        if any(value is not None and not isinstance(value, str) for value in (username, password)):
            raise InvalidMailServer("The `username` and `password` of the SMTP credential must be text.")
        return cls(host.strip(), port or _PORTS[tls], username or None, password, tls, timeout)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What the server said: its last reply, and the recipients that it refused while it took the others."""

    reply: str
    refused: Mapping[str, str]


Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""Return the addresses of a host; raises socket.gaierror."""


class SmtpClient:
    """Hands messages to SMTP servers, a connection each. It holds nothing; share one."""

    def __init__(
        self, policy: OutboundPolicy, *, resolve: Resolve | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self._policy = policy
        self._resolve = resolve or _resolve
        self._tls = tls or ssl.create_default_context()

    async def send(
        self,
        message: EmailMessage,
        server: SmtpServer,
        *,
        sender: str | None = None,
        recipients: Sequence[str] | None = None,
    ) -> Delivery:
        """Hand a message over. `sender` and `recipients` are the envelope; by default those of the headers.

        A Bcc header is never sent. Returns when the server has taken the message for at least one recipient. Raises
        OutboundError: OutboundDenied, ConnectionFailed, OutboundTimeout, MailRefused, MailLoginFailed, InvalidMessage.
        """
        with anyio.move_on_after(server.timeout / SECOND):
            return await self._hand_over(message, server, sender, recipients)
        raise OutboundTimeout(
            f"Handing mail to {_where(server)} took longer than {server.timeout / SECOND:g} s."
        ) from None

    async def _hand_over(
        self, message: EmailMessage, server: SmtpServer, sender: str | None, recipients: Sequence[str] | None
    ) -> Delivery:
        smtp = aiosmtplib.SMTP(
            hostname=server.host,
            sock=await self._dial(server),
            username=server.username,
            password=server.password if server.username is not None else None,
            use_tls=server.tls is SmtpTls.TLS,
            start_tls=server.tls is SmtpTls.STARTTLS,
            tls_context=self._tls,
            timeout=server.timeout / SECOND,
            local_hostname=_own_name(),
        )
        try:
            await smtp.connect()
            refused, reply = await smtp.send_message(
                message, sender=sender, recipients=list(recipients) if recipients is not None else None
            )
            # The message is theirs now: whatever goes wrong with the farewell changes nothing.
            with anyio.move_on_after(_QUIT_SECONDS), suppress(smtp_errors.SMTPException):
                await smtp.quit()
        except (smtp_errors.SMTPException, OSError, ValueError) as error:
            raise _translate(error, server) from error
        finally:
            smtp.close()
        return Delivery(_clip(reply), {address: _clip(f"{r.code} {r.message}") for address, r in refused.items()})

    async def _dial(self, server: SmtpServer) -> socket.socket:
        """Return a socket that is connected to an address of the server which the policy allows."""
        try:
            addresses = await self._resolve(server.host, server.port)
        except socket.gaierror as error:
            raise ConnectionFailed(
                f"The host of {_where(server)} can't be resolved.",
                reason="dns",
                transient=error.errno == socket.EAI_AGAIN,
            ) from error
        except UnicodeError as error:
            raise InvalidMailServer("The `host` of the SMTP credential is not a host name.") from error
        for address in addresses:
            if (reason := self._policy.refusal(server.host, address)) is not None:
                raise OutboundDenied(f"{server.host} can't be reached from workflows: {reason}.")
        last: OSError | None = None
        for address in addresses:
            try:
                return await _connect(address, server.port)
            except OSError as error:
                last = error
        reason = "refused" if isinstance(last, ConnectionRefusedError) else "unreachable"
        verb = "refused the connection" if reason == "refused" else "can't be reached"
        raise ConnectionFailed(f"{_where(server)} {verb}.", reason=reason) from last


async def _resolve(host: str, port: int) -> list[str]:
    infos = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in infos))


async def _connect(address: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        await asyncio.get_running_loop().sock_connect(made, (address, port))
    except BaseException:
        made.close()
        raise
    return made


def _own_name() -> str:
    """The name for EHLO; the library would ask the name server for it."""
    name = socket.gethostname()
    return name if _HOST_NAME.fullmatch(name) else "localhost"


def _translate(error: Exception, server: SmtpServer) -> OutboundError:
    """Turn what the library raises into an error of ours."""
    where = _where(server)
    match error:
        case smtp_errors.SMTPAuthenticationError():
            return MailLoginFailed(f"{where} refused the login: {_reply(error)}.", smtp_code=error.code)
        case smtp_errors.SMTPRecipientsRefused():
            return _all_refused(error, where)
        case smtp_errors.SMTPResponseException():
            return MailRefused(f"{where} refused the mail: {_reply(error)}.", smtp_code=error.code)
        case TimeoutError():
            return OutboundTimeout(f"{where} didn't answer in time.")
        case ssl.SSLCertVerificationError():
            return ConnectionFailed(
                f"The certificate of {where} is not valid: {error.verify_message}.", reason="tls", transient=False
            )
        case ssl.SSLError():
            return ConnectionFailed(f"No TLS connection to {where} could be made.", reason="tls", transient=False)
        case smtp_errors.SMTPConnectError() if isinstance(error.__cause__, ssl.SSLError):
            return _translate(error.__cause__, server)
        case smtp_errors.SMTPException() if "STARTTLS" in str(error):
            return ConnectionFailed(f"{where} doesn't offer STARTTLS.", reason="tls", transient=False)
        case ConnectionError() | OSError():
            return ConnectionFailed(f"{where} closed the connection.", reason="closed")
        case _:
            return InvalidMessage(f"The mail can't be sent through {where}: {_clip(str(error))}.")


def _all_refused(error: smtp_errors.SMTPRecipientsRefused, where: str) -> MailRefused:
    """Worth another try only if every recipient was put off."""
    codes = [refusal.code for refusal in error.recipients]
    worst = max(codes, default=550)
    replies = {refusal.recipient: _reply(refusal) for refusal in error.recipients}
    return MailRefused(
        f"{where} refused every recipient: {next(iter(replies.values()), 'no reason given')}.",
        smtp_code=worst,
        details={"recipients": replies},
    )


def _reply(error: smtp_errors.SMTPResponseException) -> str:
    return _clip(f"{error.code} {error.message}").rstrip(".")


def _where(server: SmtpServer) -> str:
    return f"{server.host}:{server.port}"


def _clip(text: str) -> str:
    """What a server says, as one line that can be stored."""
    return " ".join(text.replace("\0", "\ufffd").split())[:_REPLY_LIMIT]
