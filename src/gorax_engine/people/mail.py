"""Mail about tasks: what opening, reminding and escalating left in `task_mails` is sent through the task's credential.

A mail is claimed for a while, sent, and forgotten; several processes may do so at once. Failures that may pass are
tried again a few times, later and later; every other one is logged, counted and given up. Nothing else waits for mail.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from typing import TYPE_CHECKING, Final, Protocol
from uuid import UUID

import anyio

from gorax_engine.core.model import SECOND, Classification
from gorax_engine.errors import GoraxError, Unavailable
from gorax_engine.nodes.outbound_errors import OutboundError
from gorax_engine.nodes.smtp import InvalidMailServer, InvalidMessage, SmtpClient, SmtpServer
from gorax_engine.store import task_mails
from gorax_engine.store.session import RecordRejected
from gorax_engine.telemetry import TaskMailHandled, TelemetryEvent, get_logger

if TYPE_CHECKING:
    from gorax_engine.core.model import Json
    from gorax_engine.store.session import Session
    from gorax_engine.store.task_mails import Mail

EVERY: Final = 2.0
BATCH: Final = 20
AT_ONCE: Final = 5
LEASE: Final = 300.0
"""Seconds that a process has for a batch; far more than the time-outs of its mails add up to."""
TIMEOUT: Final = 20 * SECOND
MAX_ATTEMPTS: Final = 5
FIRST_DELAY: Final = 60.0

_TYPES: Final = ("email_smtp", "smtp", "email")
_log = get_logger(__name__)


class Opened(Protocol):
    """Credentials in the clear, and what masks them."""

    @property
    def values(self) -> Mapping[str, dict[str, Json]]:
        """The credentials by name."""

    def mask_text(self, text: str) -> str:
        """Return a text with the secrets masked."""


class Vault(Protocol):
    """Who opens credentials."""

    async def reveal(
        self, tenant_id: UUID, names: Sequence[str], *, execution_id: UUID | None = None, node_id: str | None = None
    ) -> Opened:
        """Return credentials by name. Raises GoraxError."""


class TaskMail:
    """Sends what is to be sent, for all tenants."""

    def __init__(
        self,
        session: Session,
        vault: Vault,
        smtp: SmtpClient,
        emit: Callable[[TelemetryEvent], None] = lambda _event: None,
    ) -> None:
        self._session = session
        self._vault = vault
        self._smtp = smtp
        self._emit = emit

    async def run(self) -> None:
        """Look for mail every few seconds, until cancelled."""
        while True:
            try:
                while await self.send_batch() == BATCH:
                    pass
            except (Unavailable, RecordRejected) as error:
                _log.warning("task_mail_stalled", error=str(error))
            await anyio.sleep(EVERY)

    async def send_batch(self) -> int:
        """Send what is due, up to a batch; return how many mails were taken up."""
        mails = await task_mails.claim(self._session, BATCH, LEASE)
        limiter = anyio.CapacityLimiter(AT_ONCE)

        async def one(mail: Mail) -> None:
            async with limiter:
                try:
                    await self._handle(mail)
                except (Unavailable, RecordRejected) as error:
                    _log.warning("task_mail_stalled", error=str(error), **_ids(mail))

        async with anyio.create_task_group() as group:
            for mail in mails:
                group.start_soon(one, mail)
        return len(mails)

    async def _handle(self, mail: Mail) -> None:
        """Send one mail and note how that went. Raises what the session raises."""
        if not mail.is_open or mail.attempts > MAX_ATTEMPTS:
            await task_mails.done(self._session, mail.id)
            return
        try:
            failure = await self._send(mail)
        except Exception:  # noqa: BLE001 - a fault with one mail must not keep the others; its lease runs out
            _log.exception("task_mail_crashed", **_ids(mail))
            self._emit(TaskMailHandled("failed"))
            return
        if failure is None:
            self._emit(TaskMailHandled("sent"))
            await task_mails.done(self._session, mail.id)
            return
        message, code, may_pass = failure
        again = may_pass and mail.attempts < MAX_ATTEMPTS
        _log.warning("task_mail_failed", code=code, error=message, attempt=mail.attempts, again=again, **_ids(mail))
        self._emit(TaskMailHandled("failed" if again else "given_up"))
        if again:
            await task_mails.postpone(self._session, mail.id, FIRST_DELAY * 4 ** (mail.attempts - 1))
        else:
            await task_mails.done(self._session, mail.id)

    async def _send(self, mail: Mail) -> tuple[str, str, bool] | None:
        """Hand a mail over; return why not (a sentence without secrets, a code, whether it may pass), None if done."""
        name = mail.credential or ""
        try:
            opened = await self._vault.reveal(
                mail.tenant_id, [name], execution_id=mail.execution_id, node_id=mail.node_id
            )
        except GoraxError as error:
            return error.message, error.code, isinstance(error, Unavailable)
        try:
            credential = opened.values[name]
            if credential["type"] not in _TYPES:
                raise InvalidMailServer(f"The credential `{name}` is not one of {', '.join(_TYPES)}.")
            server = SmtpServer.read(credential, timeout=TIMEOUT)
            delivery = await self._smtp.send(_write(mail, credential), server)
        except OutboundError as error:
            return opened.mask_text(error.message), error.code, error.classification is Classification.TRANSIENT
        if delivery.refused:
            _log.warning("task_mail_refused_for_some", recipients=len(delivery.refused), **_ids(mail))
        return None


def _write(mail: Mail, credential: Mapping[str, Json]) -> EmailMessage:
    """Write the message. Raises InvalidMessage if it has no sender, or nobody can get it."""
    sender = _address(mail.sender) or _address(credential.get("from")) or _address(credential.get("username"))
    if sender is None:
        raise InvalidMessage("There is no sender: give the task `notify.from`, or the credential a `from`.")
    recipients = [address for each in mail.recipients if (address := _address(each)) is not None]
    if not recipients:
        raise InvalidMessage("No assignee has a usable address.")
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    message["To"] = recipients
    message["Subject"] = " ".join(mail.subject.split())
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = f"<{mail.id}@{sender.domain}>"  # the same if it is sent again
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(f"{mail.body}\n\nTask {mail.task_id}\nDecide it with: gorax task show {mail.task_id}\n")
    return message


def _address(text: Json) -> Address | None:
    if not isinstance(text, str) or "@" not in text:
        return None
    name, plain = parseaddr(text)
    try:
        return Address(name, addr_spec=plain)
    except (MessageError, ValueError, IndexError):
        return None


def _ids(mail: Mail) -> dict[str, str]:
    return {"tenant_id": str(mail.tenant_id), "task_id": str(mail.task_id), "mail_id": str(mail.id)}
