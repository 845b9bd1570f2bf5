"""Sending mail to a real SMTP server on loopback: the guard, TLS, the login, refusals and silence."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from anyio.abc import SocketStream

from gorax_engine.core.model import SECOND, Classification
from gorax_engine.nodes.egress import OutboundPolicy
from gorax_engine.nodes.outbound_errors import ConnectionFailed, OutboundDenied, OutboundTimeout
from gorax_engine.nodes.smtp import (
    InvalidMailServer,
    InvalidMessage,
    MailLoginFailed,
    MailRefused,
    SmtpClient,
    SmtpServer,
    SmtpTls,
)

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning"),
]

CERTIFICATE = Path(__file__).with_name("shop_example.pem")
LOOPBACK = OutboundPolicy.read(allow=["127.0.0.0/8", "::1"])


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Box:
    """What the server took, and what it says to recipients."""

    def __init__(self, answers: dict[str, str] | None = None) -> None:
        self.answers = answers or {}
        self.taken: list[Envelope] = []
        self.encrypted: list[bool] = []

    async def handle_RCPT(  # noqa: N802 - the library's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = self.answers.get(address, "250 OK")
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.taken.append(envelope)
        wire: Any = server.transport
        self.encrypted.append(session.ssl is not None or wire.get_extra_info("ssl_object") is not None)
        return self.answers.get("data", "250 taken")


def _authenticator(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: object) -> AuthResult:
    right = isinstance(data, LoginPassword) and (data.login, data.password) == (b"robot", b"secret")
    return AuthResult(success=right, handled=False)


@asynccontextmanager
async def smtp_server(
    box: Box, *, tls: ssl.SSLContext | None = None, starttls: ssl.SSLContext | None = None
) -> AsyncIterator[SmtpServer]:
    """Serve SMTP on loopback."""
    loop = asyncio.get_running_loop()

    def factory() -> SMTP:
        return SMTP(
            box,
            hostname="mail.test",
            tls_context=starttls,
            auth_require_tls=False,
            authenticator=_authenticator,
            loop=loop,
        )

    listener = await loop.create_server(factory, "127.0.0.1", 0, ssl=tls)
    try:
        port = listener.sockets[0].getsockname()[1]
        yield SmtpServer("127.0.0.1", port, tls=SmtpTls.NONE, timeout=5 * SECOND)
    finally:
        listener.close()
        await listener.wait_closed()


def message(to: str = "ann@example.com", **headers: str) -> EmailMessage:
    made = EmailMessage()
    made["From"] = "gorax@example.com"
    made["To"] = to
    made["Subject"] = "Grüße"
    for name, value in headers.items():
        made[name] = value
    made.set_content("Hello\n.\nBye\n")
    return made


def client(**options: object) -> SmtpClient:
    return SmtpClient(LOOPBACK, **options)  # type: ignore[arg-type]


async def test_a_message_arrives_with_every_recipient_and_without_bcc() -> None:
    box = Box()
    async with smtp_server(box) as server:
        delivery = await client().send(message(Cc="bob@example.com", Bcc="eve@example.com"), server)
    (envelope,) = box.taken
    assert envelope.mail_from == "gorax@example.com"
    assert sorted(envelope.rcpt_tos) == ["ann@example.com", "bob@example.com", "eve@example.com"]
    content = envelope.content
    assert isinstance(content, bytes)
    assert b"eve@" not in content
    assert b"Hello\r\n.\r\nBye" in content
    assert "taken" in delivery.reply
    assert delivery.refused == {}


async def test_the_envelope_may_differ_from_the_headers() -> None:
    box = Box()
    async with smtp_server(box) as server:
        await client().send(message(), server, sender="bounce@example.com", recipients=["carl@example.com"])
    assert (box.taken[0].mail_from, box.taken[0].rcpt_tos) == ("bounce@example.com", ["carl@example.com"])


async def test_a_login_is_made_and_a_wrong_one_is_permanent() -> None:
    box = Box()
    async with smtp_server(box) as server:
        await client().send(message(), replace(server, username="robot", password="secret"))
        with pytest.raises(MailLoginFailed) as caught:
            await client().send(message(), replace(server, username="robot", password="wrong-one"))
    assert caught.value.classification is Classification.PERMANENT
    assert "wrong-one" not in caught.value.message
    assert len(box.taken) == 1


@pytest.mark.parametrize(("reply", "classification"), [("450 later", "transient"), ("550 never", "permanent")])
async def test_a_refusal_of_every_recipient_says_whether_it_may_pass(reply: str, classification: str) -> None:
    async with smtp_server(Box({"ann@example.com": reply})) as server:
        with pytest.raises(MailRefused) as caught:
            await client().send(message(), server)
    assert caught.value.classification == classification
    assert caught.value.details["recipients"] == {"ann@example.com": reply}


async def test_a_refused_recipient_among_others_is_reported() -> None:
    box = Box({"bob@example.com": "550 no bob"})
    async with smtp_server(box) as server:
        delivery = await client().send(message("ann@example.com, bob@example.com"), server)
    assert box.taken[0].rcpt_tos == ["ann@example.com"]
    assert delivery.refused == {"bob@example.com": "550 no bob"}


async def test_a_refusal_of_the_content_fails() -> None:
    async with smtp_server(Box({"data": "554 spam"})) as server:
        with pytest.raises(MailRefused, match="554 spam"):
            await client().send(message(), server)


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(CERTIFICATE)
    return server, ssl.create_default_context(cafile=str(CERTIFICATE))


async def shop(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


@pytest.mark.parametrize("mode", [SmtpTls.TLS, SmtpTls.STARTTLS])
async def test_tls_is_used_and_checked_against_the_name(
    mode: SmtpTls, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    box = Box()
    serving, trusting = contexts
    made = smtp_server(box, tls=serving) if mode is SmtpTls.TLS else smtp_server(box, starttls=serving)
    async with made as server:
        right = replace(server, host="shop.example", tls=mode)
        await client(resolve=shop, tls=trusting).send(message(), right)
        for wrong, trust in ((replace(right, host="other.example"), trusting), (right, None)):
            with pytest.raises(ConnectionFailed) as caught:
                await client(resolve=shop, tls=trust).send(message(), wrong)
            assert caught.value.reason == "tls"
            assert caught.value.classification is Classification.PERMANENT
    assert box.encrypted == [True]


async def test_a_server_without_starttls_gets_no_mail() -> None:
    box = Box()
    async with smtp_server(box) as server:
        with pytest.raises(ConnectionFailed, match="doesn't offer STARTTLS"):
            await client().send(message(), replace(server, tls=SmtpTls.STARTTLS))
    assert box.taken == []


@pytest.mark.parametrize("host", ["127.0.0.1", "0x7f.1", "localhost"])
async def test_the_policy_is_asked_for_every_spelling(host: str) -> None:
    box = Box()
    async with smtp_server(box) as server:
        with pytest.raises(OutboundDenied):
            await SmtpClient(OutboundPolicy()).send(message(), replace(server, host=host))
    assert box.taken == []


async def test_one_private_address_of_a_name_refuses_it() -> None:
    async def both(host: str, port: int) -> list[str]:
        return ["93.184.216.34", "10.0.0.1"]

    with pytest.raises(OutboundDenied):
        await SmtpClient(OutboundPolicy(), resolve=both).send(message(), SmtpServer("mail.example", 25))


async def test_the_next_address_is_tried() -> None:
    async def dead_first(host: str, port: int) -> list[str]:
        return ["127.0.0.2", "127.0.0.1"]

    box = Box()
    async with smtp_server(box) as server:
        await client(resolve=dead_first).send(message(), replace(server, host="mail.example"))
    assert len(box.taken) == 1


async def test_no_server_is_transient() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionFailed) as caught:
            await client().send(message(), SmtpServer("127.0.0.1", taken.getsockname()[1], tls=SmtpTls.NONE))
    assert (caught.value.reason, caught.value.classification) == ("refused", Classification.TRANSIENT)


async def test_an_unknown_name_is_permanent_and_a_name_that_is_none_too() -> None:
    async def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "no")

    with pytest.raises(ConnectionFailed) as caught:
        await client(resolve=unknown).send(message(), SmtpServer("nowhere.example", 25))
    assert (caught.value.reason, caught.value.classification) == ("dns", Classification.PERMANENT)
    with pytest.raises(InvalidMailServer):
        await client().send(message(), SmtpServer("ü" * 80, 25))


@asynccontextmanager
async def raw(script: Callable[[SocketStream], object]) -> AsyncIterator[SmtpServer]:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, script)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        yield SmtpServer("127.0.0.1", port, tls=SmtpTls.NONE, timeout=5 * SECOND)
        group.cancel_scope.cancel()


async def test_silence_ends_at_the_timeout() -> None:
    async def silent(stream: SocketStream) -> None:
        async with stream:
            await anyio.sleep_forever()

    async with raw(silent) as server:
        with pytest.raises(OutboundTimeout):
            await client().send(message(), replace(server, timeout=SECOND // 20))


async def test_a_hang_up_is_a_failed_connection() -> None:
    async def hang_up(stream: SocketStream) -> None:
        await stream.aclose()

    async with raw(hang_up) as server:
        with pytest.raises(ConnectionFailed) as caught:
            await client().send(message(), server)
    assert caught.value.reason == "closed"


async def test_a_greeting_that_puts_off_is_transient() -> None:
    async def busy(stream: SocketStream) -> None:
        await stream.send(b"421 too busy\r\n")
        await stream.aclose()

    async with raw(busy) as server:
        with pytest.raises(MailRefused) as caught:
            await client().send(message(), server)
    assert (caught.value.smtp_code, caught.value.classification) == (421, Classification.TRANSIENT)


async def test_a_message_for_nobody_is_invalid() -> None:
    nobody = message()
    del nobody["To"]
    async with smtp_server(Box()) as server:
        with pytest.raises(InvalidMessage):
            await client().send(nobody, server)


def test_a_credential_is_read_with_sound_defaults() -> None:
    assert SmtpServer.read({"host": "mail.example"}) == SmtpServer("mail.example", 587)
    assert SmtpServer.read({"host": "mail.example", "port": "465"}).tls is SmtpTls.TLS
    assert SmtpServer.read({"host": "mail.example", "tls": "none", "username": "a", "password": "b"}).port == 25
    assert "b-secret" not in repr(SmtpServer.read({"host": "mail.example", "password": "b-secret"}))


@pytest.mark.parametrize(
    "fields", [{}, {"host": 3}, {"host": "a", "port": 0}, {"host": "a", "tls": "ssl3"}, {"host": "a", "username": 7}]
)
def test_a_credential_that_describes_no_server_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidMailServer):
        SmtpServer.read(fields)
