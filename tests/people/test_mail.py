"""Mail about tasks: sent to a real SMTP server on loopback, tried again, and given up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email import message_from_bytes
from typing import TYPE_CHECKING, Any
from uuid import UUID

import anyio
import pytest

from gorax_engine.errors import NotFound, Unavailable
from gorax_engine.nodes.egress import OutboundPolicy
from gorax_engine.nodes.smtp import SmtpClient
from gorax_engine.people.mail import MAX_ATTEMPTS, TaskMail
from gorax_engine.telemetry import TaskMailHandled, TelemetryEvent
from tests.nodes.test_smtp import Box, smtp_server

from .office import Office

if TYPE_CHECKING:
    from gorax_engine.nodes.smtp import SmtpServer
    from gorax_engine.store.session import Session

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore:Requiring AUTH:UserWarning")]

LOOPBACK = OutboundPolicy.read(allow=["127.0.0.0/8"])
MAIL = {"credential": "smtp", "from": "Gorax <gorax@example.com>"}


@dataclass
class Opened:
    """What the stand-in for the vault gives."""

    values: Mapping[str, dict[str, Any]]

    def mask_text(self, text: str) -> str:
        return text


@dataclass
class Vault:
    """A stand-in for the vault with one credential; `fails` is raised instead."""

    credential: dict[str, Any] = field(default_factory=dict)
    fails: Exception | None = None
    asked: list[tuple[UUID, UUID | None, str | None]] = field(default_factory=list)

    async def reveal(
        self, tenant_id: UUID, names: Sequence[str], *, execution_id: UUID | None = None, node_id: str | None = None
    ) -> Opened:
        self.asked.append((tenant_id, execution_id, node_id))
        if self.fails is not None:
            raise self.fails
        return Opened({name: {"name": name, "type": "smtp", **self.credential} for name in names})


@dataclass
class Post:
    """The sender under test, with what it counted."""

    session: Session
    vault: Vault
    counted: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.mail = TaskMail(self.session, self.vault, SmtpClient(LOOPBACK), self._count)

    def _count(self, event: TelemetryEvent) -> None:
        assert isinstance(event, TaskMailHandled)
        self.counted.append(event.result)

    def at(self, server: SmtpServer) -> None:
        self.vault.credential = {"host": server.host, "port": server.port, "tls": "none"}


@pytest.fixture
def post(session: Session) -> Post:
    return Post(session, Vault())


async def left(office: Office) -> list[Any]:
    rows = await office.owner.fetch("SELECT attempts, next_attempt_at > now() AS later FROM task_mails")
    return [tuple(row) for row in rows]


async def hurry(office: Office) -> None:
    await office.owner.execute("UPDATE task_mails SET next_attempt_at = now()")


async def test_assignees_get_mail(office: Office, post: Post) -> None:
    box = Box()
    task = await office.open("approvers", mail=MAIL, description="Look at it.")
    async with smtp_server(box) as server:
        post.at(server)
        assert await post.mail.send_batch() == 1
        assert await post.mail.send_batch() == 0
    (envelope,) = box.taken
    assert sorted(envelope.rcpt_tos) == ["ann@example.com", "bob@example.com"]
    assert isinstance(envelope.content, bytes)
    message = message_from_bytes(envelope.content)
    assert (message["Subject"], message["From"]) == ("Release?", "Gorax <gorax@example.com>")
    assert f"gorax task show {task.id}" in envelope.content.decode()
    assert post.vault.asked == [(office.tenant, task.execution_id, "ask")]
    assert (post.counted, await left(office)) == (["sent"], [])


async def test_a_failure_that_may_pass_is_tried_again_a_few_times(office: Office, post: Post) -> None:
    await office.open("ann", mail=MAIL)
    async with smtp_server(Box({"ann@example.com": "450 later"})) as server:
        post.at(server)
        for attempt in range(1, MAX_ATTEMPTS + 1):
            await hurry(office)
            assert await post.mail.send_batch() == 1
            if attempt < MAX_ATTEMPTS:
                assert await left(office) == [(attempt, True)]
    assert (post.counted, await left(office)) == (["failed"] * 4 + ["given_up"], [])


@pytest.mark.parametrize(
    ("fails", "counted"),
    [
        (NotFound("There is no credential.", code="credential_not_found"), "given_up"),
        (Unavailable("The vault can't be reached.", code="vault_unavailable"), "failed"),
        (ValueError("a bug"), "failed"),
    ],
)
async def test_a_credential_that_can_not_be_had(office: Office, post: Post, fails: Exception, counted: str) -> None:
    await office.open("ann", mail=MAIL)
    post.vault.fails = fails
    assert await post.mail.send_batch() == 1
    assert post.counted == [counted]
    assert len(await left(office)) == (counted == "failed")


async def test_one_bad_mail_keeps_no_other(office: Office, post: Post) -> None:
    box = Box({"carl@example.com": "550 no carl"})
    async with smtp_server(box) as server:
        post.at(server)
        for name in ("ann", "carl", "bob"):
            await office.open(name, mail=MAIL)
        assert await post.mail.send_batch() == 3
    assert sorted(each.rcpt_tos[0] for each in box.taken) == ["ann@example.com", "bob@example.com"]
    assert sorted(post.counted) == ["given_up", "sent", "sent"]


@pytest.mark.parametrize("credential", [{"host": ""}, {"type": "api_key"}, {"tls": "sometimes"}, {"host": "10.0.0.1"}])
async def test_a_credential_that_is_no_mail_server_of_ours(office: Office, post: Post, credential: Any) -> None:
    await office.open("ann", mail=MAIL)
    post.vault.credential = {"host": "127.0.0.1", "tls": "none", **credential}
    assert await post.mail.send_batch() == 1
    assert (post.counted, await left(office)) == (["given_up"], [])


async def test_mail_about_a_decided_task_is_not_sent(office: Office, post: Post) -> None:
    task = await office.open("ann", mail=MAIL)
    await office.close(task.step_id)
    assert await post.mail.send_batch() == 1
    assert (post.vault.asked, post.counted, await left(office)) == ([], [], [])


async def test_what_a_dead_process_had_is_sent_by_another(office: Office, post: Post) -> None:
    await office.open("ann", mail=MAIL)
    await office.owner.execute("UPDATE task_mails SET attempts = 1, next_attempt_at = now() + interval '5 min'")
    assert await post.mail.send_batch() == 0
    await hurry(office)
    async with smtp_server(Box()) as server:
        post.at(server)
        assert await post.mail.send_batch() == 1
    assert post.counted == ["sent"]


async def test_the_loop_sends_until_it_is_cancelled(office: Office, post: Post) -> None:
    box = Box()
    async with smtp_server(box) as server:
        post.at(server)
        await office.open("ann", mail={"credential": "smtp", "from": None})
        post.vault.credential["from"] = "robot@example.com"
        async with anyio.create_task_group() as group:
            group.start_soon(post.mail.run)
            while not box.taken or await left(office):
                await anyio.sleep(0.005)
            group.cancel_scope.cancel()
    assert box.taken[0].mail_from == "robot@example.com"
