"""email against a real SMTP server on loopback: what arrives, what is refused, and by whom."""

import asyncio
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from gorax_engine.core.instants import parse_instant
from gorax_engine.core.json_edge import encode
from gorax_engine.core.validation import ConfigValidator
from gorax_engine.nodes.api import Classification, Completed, Failed, NodeContext, Outcome, StepError
from gorax_engine.nodes.egress import OutboundPolicy
from gorax_engine.nodes.smtp import SmtpClient
from gorax_engine.nodes.tasks.email import MAX_ATTACHED, MAX_RECIPIENTS, SCHEMA, Email

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning"),
]

NOW = parse_instant("2026-11-24T12:00:00Z")
CONTEXT = NodeContext("e1", "t1", "w1", "tell", "", 1, NOW, "e1:tell:", b"seed", {})
CERTIFICATE = Path(__file__).parents[1] / "shop_example.pem"
LOOPBACK = OutboundPolicy.read(allow=["127.0.0.0/8"])
ANN = {"to": "Ann <ann@example.com>", "subject": "Grüße", "body": "Hello\n.\nBye\n"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Server:
    """A mail server that takes what it is not told to refuse (`answers`: by recipient, or `data`)."""

    def __init__(self, answers: Mapping[str, str] = {}) -> None:
        self.answers = answers
        self.port = 0
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
        self.encrypted.append(session.ssl is not None)
        return self.answers.get("data", "250 taken")

    @property
    def credential(self) -> dict[str, Any]:
        return {
            "name": "mail", "type": "email_smtp", "host": "127.0.0.1", "port": self.port, "tls": "none",
            "username": "robot", "password": "s3cret", "from": "Robot <robot@example.com>",
        }  # fmt: skip

    def letter(self) -> EmailMessage:
        """The one that was taken."""
        (envelope,) = self.taken
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content.replace(b"\r\n", b"\n"), policy=default)
        assert isinstance(message, EmailMessage)
        return message


def _authenticator(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: object) -> AuthResult:
    right = isinstance(data, LoginPassword) and (data.login, data.password) == (b"robot", b"s3cret")
    return AuthResult(success=right, handled=False)


@asynccontextmanager
async def serving(server: Server, starttls: ssl.SSLContext | None = None) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()

    def factory() -> SMTP:
        return SMTP(
            server,
            hostname="mail.test",
            tls_context=starttls,
            require_starttls=starttls is not None,
            auth_require_tls=False,
            auth_required=True,
            authenticator=_authenticator,
            loop=loop,
        )

    listener = await loop.create_server(factory, "127.0.0.1", 0)
    try:
        server.port = listener.sockets[0].getsockname()[1]
        yield
    finally:
        listener.close()
        await listener.wait_closed()


async def run(config: Mapping[str, Any], credential: Any, client: SmtpClient | None = None) -> Outcome:
    outcome = await Email(client or SmtpClient(LOOPBACK)).run({"credential": credential, **config}, CONTEXT)
    encode(dict(outcome.error.details) if isinstance(outcome, Failed) else outcome.output)
    return outcome


async def sent(config: Mapping[str, Any], **credential: Any) -> tuple[Any, Server]:
    """Send a mail that the schema takes; return the output and the server."""
    assert list(ConfigValidator(SCHEMA).faults({"credential": "mail", **config}, ())) == []
    server = Server()
    async with serving(server):
        outcome = await run(config, {**server.credential, **credential})
    assert isinstance(outcome, Completed), outcome
    return outcome.output, server


async def refused(config: Mapping[str, Any]) -> StepError:
    """Run a config that must not reach the server."""
    server = Server()
    async with serving(server):
        outcome = await run({**ANN, **config}, server.credential)
    assert server.taken == []
    assert isinstance(outcome, Failed), outcome
    assert "s3cret" not in outcome.error.message
    return outcome.error


def failure(outcome: Outcome) -> StepError:
    assert isinstance(outcome, Failed), outcome
    return outcome.error


# --- what arrives


async def test_a_mail() -> None:
    output, server = await sent(ANN)
    letter = server.letter()
    assert output == {"message_id": letter["Message-ID"], "accepted": ["ann@example.com"], "rejected": []}
    assert (letter["Subject"], letter["From"]) == ("Grüße", "Robot <robot@example.com>")
    assert letter["To"] == "Ann <ann@example.com>"
    assert letter["Date"] == "Tue, 24 Nov 2026 12:00:00 +0000"
    assert letter.get_content() == "Hello\n.\nBye\n"
    assert server.taken[0].mail_from == "robot@example.com"


async def test_a_repeat_has_the_same_message_id_and_another_step_another() -> None:
    first, _ = await sent(ANN)
    second, _ = await sent(ANN)
    assert first["message_id"] == second["message_id"]
    assert first["message_id"].endswith("@example.com>")
    other = NodeContext("e1", "t1", "w1", "tell", "", 1, NOW, "e2:tell:", b"seed", {})
    server = Server()
    async with serving(server):
        outcome = await Email(SmtpClient(LOOPBACK)).run({"credential": server.credential, **ANN}, other)
    assert isinstance(outcome, Completed)
    assert outcome.output["message_id"] != first["message_id"]


async def test_everybody_is_an_envelope_recipient_once_and_bcc_is_not_seen() -> None:
    people = {"to": ["a@x.example, B <b@x.example>", "c@x.example"], "cc": "a@x.example", "bcc": ["d@x.example"]}
    output, server = await sent({**ANN, **people, "reply_to": "r@x.example", "from": "me@x.example"})
    everybody = ["a@x.example", "b@x.example", "c@x.example", "d@x.example"]
    assert (output["accepted"], server.taken[0].rcpt_tos) == (everybody, everybody)
    letter = server.letter()
    assert (letter["Cc"], letter["Reply-To"], letter["From"]) == ("a@x.example", "r@x.example", "me@x.example")
    assert server.taken[0].mail_from == "me@x.example"
    assert isinstance(server.taken[0].content, bytes)
    assert b"d@x.example" not in server.taken[0].content


async def test_text_and_html_are_alternatives_and_attachments_follow() -> None:
    file = {"filename": "Grüße.pdf", "content_type": "application/pdf", "data": b64encode(b"%PDF\0").decode()}
    _, server = await sent({**ANN, "html": "<p>Hello</p>", "attachments": [file]})
    letter = server.letter()
    text, html = letter.get_body(("plain",)), letter.get_body(("html",))
    assert text is not None
    assert html is not None
    assert (text.get_content(), html.get_content()) == (ANN["body"], "<p>Hello</p>\n")
    (attached,) = letter.iter_attachments()
    assert (attached.get_filename(), attached.get_content_type()) == ("Grüße.pdf", "application/pdf")
    assert attached.get_content() == b"%PDF\0"


async def test_html_alone_and_values_as_json() -> None:
    _, server = await sent({"to": "a@x.example", "subject": "", "html": "<p>ü</p>"})
    assert (server.letter().get_content_type(), server.letter().get_content()) == ("text/html", "<p>ü</p>\n")
    _, server = await sent({**ANN, "body": {"n": 1}})
    assert server.letter().get_content() == '{"n":1}\n'


async def test_domains_in_other_scripts_go_as_ascii() -> None:
    output, server = await sent({**ANN, "to": "ann@bücher.example"})
    assert output["accepted"] == ["ann@xn--bcher-kva.example"] == server.taken[0].rcpt_tos


async def test_the_sender_may_be_the_user_name() -> None:
    _, server = await sent({**ANN, "from": "me@x.example"}, **{"from": None})
    assert server.taken[0].mail_from == "me@x.example"
    error = failure(await run(ANN, {"name": "mail", "type": "smtp", "host": "h", "username": "robot"}))
    assert error.code == "unusable_credential"
    error = failure(await run(ANN, {"name": "mail", "type": "smtp", "host": "10.0.0.1", "username": "me@x.example"}))
    assert error.code == "outbound_denied"


async def test_starttls() -> None:
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_side.load_cert_chain(CERTIFICATE)

    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    client = SmtpClient(LOOPBACK, resolve=resolve, tls=ssl.create_default_context(cafile=CERTIFICATE))
    server = Server()
    async with serving(server, server_side):
        secure = {**server.credential, "tls": "starttls"}
        assert isinstance(await run(ANN, {**secure, "host": "shop.example"}, client), Completed)
        assert server.encrypted == [True]
        error = failure(await run(ANN, {**secure, "host": "other.example"}, client))
        assert (error.code, error.details) == ("connection_failed", {"reason": "tls"})
    assert len(server.taken) == 1


# --- what is refused


@pytest.mark.parametrize(
    "config",
    [
        {"subject": "Hello\r\nBcc: eve@x.example"},
        {"subject": "Hello\nX"},
        {"subject": "Hello\0"},
        {"to": "ann@example.com\r\nBcc: eve@x.example"},
        {"cc": ["a@x.example", "b@x.example\n"]},
        {"from": "Robot\r\nX: y <robot@example.com>"},
        {"reply_to": "r@x.example\rX"},
        {"to": "=?utf-8?q?a=0d=0aBcc:_eve@x.example?= <a@x.example>"},
        {"to": '"a\r\nBcc: eve@x.example" <a@x.example>'},
        {"attachments": [{"filename": "a\r\nX: y", "data": ""}]},
        {"attachments": [{"filename": "a", "content_type": "text/plain\r\nX: y", "data": ""}]},
    ],
)
async def test_line_breaks_begin_no_header(config: dict[str, Any]) -> None:
    error = await refused(config)
    assert (error.code, error.classification) == ("invalid_message", Classification.PERMANENT)


@pytest.mark.parametrize(
    "address",
    [
        "ann", "ann@", "@example.com", "a b@x.example", "a..b@x.example", "a@b..c", "a@b.c <x@y.z>", "a@b.c x",
        "ü@x.example", "<@relay.example:a@x.example>", "Nobody:;", ",", " ", "a@" + "b" * 70 + ".example",
        "a@x.example, ann",
    ],
)  # fmt: skip
async def test_what_is_no_address(address: str) -> None:
    assert (await refused({"to": address})).code == "invalid_message"


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"to": None}, "invalid_message"),
        ({"to": []}, "invalid_message"),
        ({"to": [5]}, "type_error"),
        ({"to": {"a": 1}}, "type_error"),
        ({"to": [f"p{n}@x.example" for n in range(MAX_RECIPIENTS + 1)]}, "invalid_message"),
        ({"to": "a@x.example, " * 2_000}, "invalid_message"),
        ({"from": "a@x.example, b@x.example"}, "invalid_message"),
        ({"subject": 5}, "type_error"),
        ({"body": None}, "invalid_message"),
        ({"html": 5}, "type_error"),
        ({"timeout": "soon"}, "type_error"),
        ({"attachments": {}}, "type_error"),
        ({"attachments": ["x"]}, "type_error"),
        ({"attachments": [{"filename": "a", "data": "no base64!"}]}, "type_error"),
        ({"attachments": [{"filename": "a", "data": ""}] * 11}, "invalid_message"),
        ({"attachments": [{"filename": "a", "data": "AAAA" * (MAX_ATTACHED // 5)}] * 2}, "invalid_message"),
        ({"attachments": [{"filename": "a", "data": "A" * (MAX_ATTACHED * 2)}]}, "invalid_message"),
        ({"attachments": [{"filename": "a", "content_type": "multipart/mixed", "data": ""}]}, "invalid_message"),
    ],
)
async def test_rendered_values_that_will_not_do(config: dict[str, Any], code: str) -> None:
    error = await refused(config)
    assert error.code == code


async def test_the_server_refuses_some_or_all() -> None:
    server = Server({"b@x.example": "550 who?", "c@x.example": "451 later"})
    async with serving(server):
        outcome = await run({**ANN, "to": ["a@x.example", "b@x.example"]}, server.credential)
        assert isinstance(outcome, Completed)
        assert (outcome.output["accepted"], outcome.output["rejected"]) == (["a@x.example"], ["b@x.example"])
        permanent = failure(await run({**ANN, "to": "b@x.example"}, server.credential))
        assert (permanent.code, permanent.classification) == ("mail_refused", Classification.PERMANENT)
        assert permanent.details["smtp_code"] == 550
        transient = failure(await run({**ANN, "to": "c@x.example"}, server.credential))
        assert (transient.code, transient.classification) == ("mail_refused", Classification.TRANSIENT)


async def test_the_server_refuses_the_mail_or_the_login_or_is_not_there() -> None:
    server = Server({"data": "452 full"})
    async with serving(server):
        error = failure(await run(ANN, server.credential))
        assert (error.code, error.classification) == ("mail_refused", Classification.TRANSIENT)
        error = failure(await run(ANN, {**server.credential, "password": "wrong"}))
        assert (error.code, error.classification) == ("mail_login_failed", Classification.PERMANENT)
        error = failure(await run(ANN, server.credential, SmtpClient(OutboundPolicy())))
        assert error.code == "outbound_denied"
    error = failure(await run(ANN, server.credential))
    assert (error.code, error.classification) == ("connection_failed", Classification.TRANSIENT)


async def test_credentials_that_will_not_do() -> None:
    for credential in ({"name": "x", "type": "api_key", "key": "k"}, "x", None):
        assert failure(await run(ANN, credential)).code == "unusable_credential"
    credential = {"name": "x", "type": "smtp", "from": "a@x.example"}
    assert failure(await run(ANN, credential)).code == "invalid_mail_server"


@pytest.mark.parametrize(
    "config",
    [{"to": "a@x.example", "subject": "x"}, {"to": "a@x.example", "body": "x"}, {"subject": "x", "body": "x"}],
)
def test_faults_that_are_found_on_save(config: dict[str, Any]) -> None:
    assert len(list(ConfigValidator(SCHEMA).faults({"credential": "mail", **config}, ()))) == 1
