"""slack:* against a stand-in at the wire that is as strict as Slack about proofs, content types and arguments."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from gorax_engine.core.instants import parse_instant
from gorax_engine.core.json_edge import encode
from gorax_engine.core.validation import ConfigValidator
from gorax_engine.nodes.api import SECOND, Classification, Completed, Failed, NodeContext, Outcome, StepError
from gorax_engine.nodes.egress import OutboundPolicy
from gorax_engine.nodes.outbound import OutboundClient
from gorax_engine.nodes.tasks.slack import slack_nodes

pytestmark = pytest.mark.anyio

NOW = parse_instant("2026-11-24T12:00:00Z")
CONTEXT = NodeContext("e1", "t1", "w1", "tell", "", 1, NOW, "e1:tell:", b"seed", {})
CREDENTIAL = {"name": "bot", "type": "bearer_token", "token": "xoxb-s3cret"}
SPECS = {node.spec.name: node.spec for node in slack_nodes(OutboundClient(OutboundPolicy()))}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class FakeSlack:
    """Answers like Slack: 200 with `ok`, one error word at a time; `answers` are given first, in place of its own."""

    url: str = ""
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    answers: list[web.Response] = field(default_factory=list)
    reacted: set[tuple[str, str]] = field(default_factory=set)

    async def handle(self, request: web.Request) -> web.Response:
        method = request.path.removeprefix("/api/")
        body = await self._body(request, method)
        self.calls.append((method, body))
        if self.answers:
            return self.answers.pop(0)
        if request.method != "POST":
            return refused("method_not_supported_for_channel_type")
        if request.headers.get("Authorization") != "Bearer xoxb-s3cret":
            return refused("invalid_auth")
        return self._answer(method, body)

    async def _body(self, request: web.Request, method: str) -> dict[str, Any]:
        if method == "users.lookupByEmail":  # takes no JSON
            assert request.content_type == "application/x-www-form-urlencoded"
            return {key: str(value) for key, value in (await request.post()).items()}
        assert request.headers["Content-Type"] == "application/json; charset=utf-8"
        return dict(await request.json())

    def _answer(self, method: str, body: dict[str, Any]) -> web.Response:
        match method:
            case "chat.postMessage" if not (body.get("text") or body.get("blocks")):
                return refused("no_text")
            case "chat.postMessage" if body["channel"] not in {"C1", "#general", "D1"}:
                return refused("channel_not_found")
            case "chat.postMessage":
                message = {key: value for key, value in body.items() if key != "channel"}
                return web.json_response({"ok": True, "channel": "C1", "ts": "1.000200", "message": message})
            case "chat.update":
                return web.json_response({"ok": True, "channel": "C1", "ts": body["ts"], "text": body.get("text")})
            case "reactions.add":
                reaction = (body["timestamp"], body["name"])
                if reaction in self.reacted:
                    return refused("already_reacted")
                self.reacted.add(reaction)
                return web.json_response({"ok": True})
            case "users.lookupByEmail" if body["email"] == "ann@example.com":
                return web.json_response({"ok": True, "user": {"id": "U1"}})
            case "users.lookupByEmail":
                return refused("users_not_found")
            case "conversations.open":
                return web.json_response({"ok": True, "channel": {"id": "D1"}})
            case _:
                return refused("unknown_method")


def refused(word: str, **more: Any) -> web.Response:
    return web.json_response({"ok": False, "error": word, **more})


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    fake = FakeSlack()
    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", fake.handle)
    async with serving(application) as base:
        fake.url = f"{base}/api"
        yield fake


@asynccontextmanager
async def serving(application: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def run(slack: FakeSlack, verb: str, config: Mapping[str, Any], credential: Any = CREDENTIAL) -> Outcome:
    saved = {"credential": "bot", "base_url": slack.url, **config}
    assert list(ConfigValidator(SPECS[f"slack:{verb}"].schema).faults(saved, ())) == []
    async with OutboundClient(OutboundPolicy.read(["127.0.0.0/8"])) as client:
        node = next(node for node in slack_nodes(client) if node.spec.name == f"slack:{verb}")
        outcome = await node.run({**saved, "credential": credential}, CONTEXT)
    encode(dict(outcome.error.details) if isinstance(outcome, Failed) else outcome.output)
    return outcome


def output(outcome: Outcome) -> Any:
    assert isinstance(outcome, Completed), outcome
    return outcome.output


def failure(outcome: Outcome) -> StepError:
    assert isinstance(outcome, Failed), outcome
    return outcome.error


async def test_a_message(slack: FakeSlack) -> None:
    config = {"channel": "#general", "text": "Hello", "thread_ts": "1.1", "unfurl_links": False, "username": "bot"}
    result = output(await run(slack, "send_message", config))
    assert (result["ok"], result["channel"], result["ts"], result["message"]["text"]) == (
        True,
        "C1",
        "1.000200",
        "Hello",
    )
    ((method, body),) = slack.calls
    key = body.pop("client_msg_id")
    assert (method, body) == ("chat.postMessage", config)
    await run(slack, "send_message", config)
    assert slack.calls[1][1]["client_msg_id"] == key


async def test_blocks_as_a_list_or_as_text(slack: FakeSlack) -> None:
    blocks = [{"type": "section"}]
    for given in (blocks, json.dumps(blocks)):
        output(await run(slack, "send_message", {"channel": "C1", "blocks": given}))
    assert [body["blocks"] for _, body in slack.calls] == [blocks, blocks]
    assert failure(await run(slack, "send_message", {"channel": "C1", "blocks": "{}"})).code == "type_error"
    assert failure(await run(slack, "send_message", {"channel": "C1", "blocks": "nonsense"})).code == "type_error"


async def test_a_value_for_a_text_is_its_json(slack: FakeSlack) -> None:
    async with OutboundClient(OutboundPolicy.read(["127.0.0.0/8"])) as client:
        node = slack_nodes(client)[0]
        config = {"credential": CREDENTIAL, "base_url": slack.url, "channel": "C1", "text": {"n": 1}}
        output(await node.run(config, CONTEXT))
        assert failure(await node.run({**config, "text": None}, CONTEXT)).code == "type_error"
        assert failure(await node.run({**config, "channel": 5}, CONTEXT)).code == "type_error"
        assert failure(await node.run({**config, "timeout": "soon"}, CONTEXT)).code == "type_error"
    assert slack.calls[0][1]["text"] == '{"n":1}'


async def test_a_direct_message_by_id_and_by_mail_address(slack: FakeSlack) -> None:
    assert output(await run(slack, "send_dm", {"user": "U1", "text": "Hi"}))["ts"] == "1.000200"
    assert [method for method, _ in slack.calls] == ["conversations.open", "chat.postMessage"]
    slack.calls.clear()
    output(await run(slack, "send_dm", {"user": "ann@example.com", "text": "Hi"}))
    assert [method for method, _ in slack.calls] == ["users.lookupByEmail", "conversations.open", "chat.postMessage"]
    assert (slack.calls[1][1], slack.calls[2][1]["channel"]) == ({"users": "U1"}, "D1")
    error = failure(await run(slack, "send_dm", {"user": "nobody@example.com", "text": "Hi"}))
    assert (error.code, error.details["slack_error"]) == ("slack_error", "users_not_found")


async def test_an_edit(slack: FakeSlack) -> None:
    result = output(await run(slack, "update_message", {"channel": "C1", "ts": "1.5", "text": "New"}))
    assert result == {"ok": True, "channel": "C1", "ts": "1.5", "message": None}
    assert slack.calls == [("chat.update", {"channel": "C1", "ts": "1.5", "text": "New"})]


async def test_a_reaction_that_is_there_already_is_a_success(slack: FakeSlack) -> None:
    config = {"channel": "C1", "timestamp": "1.5", "emoji": ":thumbsup:"}
    expected = {"ok": True, "channel": "C1", "ts": "1.5", "message": None}
    assert output(await run(slack, "add_reaction", config)) == expected
    assert output(await run(slack, "add_reaction", config)) == expected
    assert slack.calls[1] == ("reactions.add", {"channel": "C1", "timestamp": "1.5", "name": "thumbsup"})


@pytest.mark.parametrize(
    ("answer", "code", "classification", "details"),
    [
        (lambda: refused("channel_not_found"), "slack_error", "permanent", {"slack_error": "channel_not_found"}),
        (lambda: refused("missing_scope", needed="chat:write"), "slack_error", "permanent", {"needed": "chat:write"}),
        (lambda: refused("x", response_metadata={"messages": ["y"]}), "slack_error", "permanent", {"messages": ["y"]}),
        (lambda: refused("internal_error"), "slack_error", "transient", {"slack_error": "internal_error"}),
        (lambda: web.Response(status=503), "http_status", "transient", {"http_status_code": 503}),
        (lambda: web.Response(status=404, text="<html>"), "http_status", "permanent", {"http_status_code": 404}),
        (lambda: web.Response(status=302, headers={"Location": "/"}), "http_status", "permanent", {}),
        (lambda: web.Response(text="<html>"), "invalid_response", "permanent", {}),
        (lambda: web.json_response([1]), "invalid_response", "permanent", {}),
    ],
)
async def test_refusals(slack: FakeSlack, answer: Any, code: str, classification: str, details: dict[str, Any]) -> None:
    slack.answers.append(answer())
    error = failure(await run(slack, "send_message", {"channel": "C1", "text": "x"}))
    assert (error.code, error.classification) == (code, Classification(classification))
    assert details.items() <= error.details.items()
    assert "s3cret" not in error.message
    assert len(slack.calls) == 1


async def test_a_rate_limit_says_when_to_come_back(slack: FakeSlack) -> None:
    for answer in (
        web.json_response({"ok": False, "error": "ratelimited"}, status=429, headers={"Retry-After": "30"}),
        web.Response(status=429, headers={"Retry-After": "30"}),
    ):
        slack.answers.append(answer)
        error = failure(await run(slack, "send_message", {"channel": "C1", "text": "x"}))
        assert (error.code, error.classification) == ("slack_error", Classification.TRANSIENT)
        assert (error.details["slack_error"], error.details["http_status_code"]) == ("ratelimited", 429)
        assert error.retry_after == 30 * SECOND


async def test_an_answer_without_what_is_needed_next(slack: FakeSlack) -> None:
    slack.answers.append(web.json_response({"ok": True}))
    assert failure(await run(slack, "send_dm", {"user": "U1", "text": "x"})).code == "invalid_response"


@pytest.mark.parametrize(
    ("credential", "word"),
    [
        ({**CREDENTIAL, "token": "wrong"}, "invalid_auth"),
        ({"name": "bot", "type": "oauth2", "access_token": "xoxb-s3cret"}, None),
        ({"name": "bot", "type": "slack", "bot_token": "xoxb-s3cret"}, None),
        ({"name": "bot", "type": "api_key", "key": "xoxb-s3cret"}, None),
    ],
)
async def test_credentials(slack: FakeSlack, credential: dict[str, str], word: str | None) -> None:
    outcome = await run(slack, "send_message", {"channel": "C1", "text": "x"}, credential)
    assert (failure(outcome).details["slack_error"] if isinstance(outcome, Failed) else None) == word


async def test_what_cannot_be_used(slack: FakeSlack) -> None:
    for credential in ({"name": "bot", "type": "basic_auth"}, {"name": "bot", "type": "slack"}, "bot"):
        outcome = await run(slack, "send_message", {"channel": "C1", "text": "x"}, credential)
        assert failure(outcome).code == "unusable_credential"
    assert slack.calls == []
    async with OutboundClient(OutboundPolicy()) as client:
        config = {"credential": CREDENTIAL, "base_url": slack.url, "channel": "C1", "text": "x"}
        assert failure(await slack_nodes(client)[0].run(config, CONTEXT)).code == "outbound_denied"


@pytest.mark.parametrize(
    ("verb", "config"),
    [
        ("send_message", {"channel": "C1"}),
        ("send_message", {"text": "x"}),
        ("send_message", {"channel": "C1", "text": "x", "base_url": "slack.com"}),
        ("send_dm", {"text": "x"}),
        ("update_message", {"channel": "C1", "text": "x"}),
        ("add_reaction", {"channel": "C1", "timestamp": "1"}),
    ],
)
def test_faults_that_are_found_on_save(verb: str, config: dict[str, Any]) -> None:
    faults = ConfigValidator(SPECS[f"slack:{verb}"].schema).faults({"credential": "bot", **config}, ())
    assert len(list(faults)) == 1
