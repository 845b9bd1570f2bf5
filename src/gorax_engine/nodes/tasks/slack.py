"""The node types `slack:*`: messages, direct messages, edits and reactions by Slack's Web API.

Slack answers most failures with the status 200 and `{"ok": false, "error": word}`; the word is kept in the error's
details. A message carries a `client_msg_id` made of the step's key, by which Slack can tell a repeat. What a repeat
finds done already (a reaction that is there) is a success.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, TypeAlias
from urllib.parse import urlencode
from uuid import NAMESPACE_URL, uuid5

from gorax_engine.core.durations import parse_duration
from gorax_engine.core.json_edge import Unencodable, encode, parse
from gorax_engine.core.policies import classify
from gorax_engine.errors import MalformedInput, PayloadTooLarge
from gorax_engine.nodes.api import (
    OUTSIDE_RETRY,
    SECOND,
    Classification,
    Completed,
    Failed,
    Json,
    Micros,
    NodeContext,
    NodeKind,
    NodeSpec,
    Outcome,
    StepError,
    TaskNode,
)
from gorax_engine.nodes.credentials import given_credential, secret_field
from gorax_engine.nodes.http_content import RESPONSE_LIMITS, first_values
from gorax_engine.nodes.outbound import Answer, OutboundClient
from gorax_engine.nodes.outbound_errors import OutboundError
from gorax_engine.nodes.outbound_request import Call
from gorax_engine.nodes.tasks.slack_schema import ADD_REACTION, BASE_URL, SEND_DM, SEND_MESSAGE, UPDATE_MESSAGE

_TYPES: Final = ("bearer_token", "oauth2", "api_key", "slack", "custom")
_TOKEN_FIELDS: Final = ("token", "bot_token", "access_token", "key", "api_key")
_RATE_LIMITED: Final = frozenset({"ratelimited", "rate_limited"})
# Slack's own words for faults of its own that pass.
_TRANSIENT: Final = _RATE_LIMITED | {
    "fatal_error",
    "internal_error",
    "request_timeout",
    "service_unavailable",
    "team_added_to_org",
}
_LOOK: Final = ("thread_ts", "reply_broadcast", "unfurl_links", "unfurl_media", "icon_emoji", "username")
_DETAILS: Final = ("needed", "provided")


class _Act(Protocol):
    """What one node type does: a few calls of the API, and the output."""

    async def __call__(self, api: "_Api", config: Mapping[str, Json], key: str) -> Json: ...


class SlackNode:
    """One of the node types `slack:*`."""

    def __init__(self, spec: NodeSpec, act: _Act, client: OutboundClient) -> None:
        self.spec: Final = spec
        self._act = act
        self._client = client

    async def run(self, config: Mapping[str, Json], context: NodeContext) -> Outcome:
        try:
            api = _Api.read(config, self._client)
            return Completed(await self._act(api, config, context.idempotency_key))
        except _Failure as failure:
            return Failed(failure.error)
        except OutboundError as error:
            return Failed(error.step_error())


def slack_nodes(client: OutboundClient) -> list[TaskNode]:
    """Return the node types, which share a client."""
    node = partial(_node, client)
    return [
        node("send_message", "Slack message", "Posts a message to a channel", SEND_MESSAGE, _send_message),
        node("send_dm", "Slack direct message", "Posts a message to a user", SEND_DM, _send_dm),
        node("update_message", "Slack edit", "Replaces a message", UPDATE_MESSAGE, _update_message),
        node("add_reaction", "Slack reaction", "Adds an emoji to a message", ADD_REACTION, _add_reaction),
    ]


def _node(
    client: OutboundClient, verb: str, title: str, description: str, schema: Mapping[str, Json], act: _Act
) -> SlackNode:
    spec = NodeSpec(
        name=f"slack:{verb}",
        kind=NodeKind.TASK,
        aliases=(f"action:slack_{verb}", f"slack_{verb}"),
        title=title,
        description=f"{description}; the output is {{ok, channel, ts, message}}.",
        schema=schema,
        retry=OUTSIDE_RETRY,
    )
    return SlackNode(spec, act, client)


class _Failure(Exception):
    """The step fails with `error`."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        classification: Classification = Classification.PERMANENT,
        details: Mapping[str, Json] | None = None,
        retry_after: Micros | None = None,
    ) -> None:
        super().__init__(message)
        self.error = StepError(code, message, classification, details or {}, retry_after)


_Reply: TypeAlias = Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class _Api:
    """The Web API as one token sees it."""

    client: OutboundClient
    base_url: str
    token: str
    timeout: Micros

    @classmethod
    def read(cls, config: Mapping[str, Json], client: OutboundClient) -> "_Api":
        """Read what all types have in their configs; raises _Failure and UnusableCredential."""
        token = secret_field(given_credential(config.get("credential"), _TYPES), *_TOKEN_FIELDS)
        try:
            timeout = parse_duration(config.get("timeout", 30))
        except ValueError as error:
            raise _Failure("type_error", f"`timeout` is no duration: {error}") from None
        return cls(client, str(config.get("base_url", BASE_URL)).rstrip("/"), token, timeout)

    async def post(self, method: str, body: Mapping[str, Json], *, form: bool = False) -> _Reply:
        """Call a method of the API and return its answer, which is ok; raises _Failure and OutboundError."""
        try:
            data, kind = (
                (urlencode(body).encode(), "application/x-www-form-urlencoded")
                if form
                else (encode(body).encode(), "application/json; charset=utf-8")
            )
        except Unencodable as error:
            raise _Failure("type_error", f"The request can't be made: {error}") from None
        call = Call(
            method="POST",
            url=f"{self.base_url}/{method}",
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": kind, "Accept": "application/json"},
            body=data,
            timeout=self.timeout,
            follow_redirects=False,
        )
        return _read(method, await self.client.send(call))


def _read(method: str, answer: Answer) -> _Reply:
    reply = _reply(answer)
    word = reply.get("error")
    if reply.get("ok") is True and answer.status < 300:
        return reply
    if isinstance(word, str) or answer.status == 429:
        raise _refusal(method, answer, word if isinstance(word, str) else "ratelimited", reply)
    if answer.status < 300:
        message = f"{method} answered with something that is not Slack's."
        raise _Failure("invalid_response", message, details={"http_status_code": answer.status})
    raise _Failure(
        "http_status",
        f"{method} of Slack answered {answer.status} {answer.reason}".rstrip() + ".",
        classification=classify("http_status", answer.status),
        details={"http_status_code": answer.status},
        retry_after=_retry_after(answer),
    )


def _reply(answer: Answer) -> _Reply:
    try:
        reply = parse(answer.body, RESPONSE_LIMITS)
    except (MalformedInput, PayloadTooLarge):
        return {}
    return reply if isinstance(reply, dict) else {}


def _refusal(method: str, answer: Answer, word: str, reply: _Reply) -> _Failure:
    details: dict[str, Json] = {"slack_error": word, "slack_method": method}
    details.update((key, reply[key]) for key in _DETAILS if key in reply)
    metadata = reply.get("response_metadata")
    if isinstance(metadata, dict) and metadata.get("messages"):
        details["messages"] = metadata["messages"]
    if answer.status != 200:
        details["http_status_code"] = answer.status
    passes = word in _TRANSIENT or classify("slack_error", answer.status) is Classification.TRANSIENT
    return _Failure(
        "slack_error",
        f"Slack refused {method}: {word}.",
        classification=Classification.TRANSIENT if passes else Classification.PERMANENT,
        details=details,
        retry_after=_retry_after(answer),
    )


def _retry_after(answer: Answer) -> Micros | None:
    value = first_values(answer.headers).get("retry-after", "").strip()
    return int(value) * SECOND if re.fullmatch(r"[0-9]{1,9}", value) else None


async def _send_message(api: _Api, config: Mapping[str, Json], key: str) -> Json:
    look = {name: config[name] for name in _LOOK if config.get(name) is not None}
    return await _post_message(api, _text(config, "channel"), {**_content(config), **look}, key)


async def _send_dm(api: _Api, config: Mapping[str, Json], key: str) -> Json:
    user = _text(config, "user")
    if "@" in user:
        # This method alone takes no JSON.
        reply = await api.post("users.lookupByEmail", {"email": user.removeprefix("mailto:")}, form=True)
        user = _found(reply, "users.lookupByEmail", "user")
    opened = await api.post("conversations.open", {"users": user})
    return await _post_message(api, _found(opened, "conversations.open", "channel"), _content(config), key)


async def _update_message(api: _Api, config: Mapping[str, Json], key: str) -> Json:
    body = {"channel": _text(config, "channel"), "ts": _text(config, "ts"), **_content(config)}
    return _output(await api.post("chat.update", body), body["channel"], body["ts"])


async def _add_reaction(api: _Api, config: Mapping[str, Json], key: str) -> Json:
    channel, timestamp, emoji = (_text(config, name) for name in ("channel", "timestamp", "emoji"))
    body = {"channel": channel, "timestamp": timestamp, "name": emoji.strip().strip(":")}
    try:
        return _output(await api.post("reactions.add", body), channel, timestamp)
    except _Failure as failure:
        if failure.error.details.get("slack_error") != "already_reacted":
            raise
        return _output({}, channel, timestamp)


async def _post_message(api: _Api, channel: str, content: Mapping[str, Json], key: str) -> Json:
    body = {"channel": channel, **content, "client_msg_id": str(uuid5(NAMESPACE_URL, f"gorax:{key}"))}
    return _output(await api.post("chat.postMessage", body), channel, None)


def _output(reply: _Reply, channel: str, ts: str | None) -> Json:
    return {
        "ok": True,
        "channel": reply.get("channel", channel),
        "ts": reply.get("ts", ts),
        "message": reply.get("message"),
    }


def _content(config: Mapping[str, Json]) -> dict[str, Json]:
    content: dict[str, Json] = {}
    if config.get("text") is not None:
        text = config["text"]
        content["text"] = text if isinstance(text, str) else encode(text)
    blocks = config.get("blocks")
    if isinstance(blocks, str):
        try:
            blocks = parse(blocks.encode("utf-8", "replace"))
        except (MalformedInput, PayloadTooLarge) as error:
            raise _Failure("type_error", f"`blocks` is not the JSON text of a list: {error.message}") from None
    if blocks is not None:
        if not isinstance(blocks, list):
            raise _Failure("type_error", "`blocks` must be a list.")
        content["blocks"] = blocks
    if not content:
        raise _Failure("type_error", "A message needs `text` or `blocks`.")
    return content


def _text(config: Mapping[str, Json], field: str) -> str:
    value = config.get(field)
    if not isinstance(value, str) or not value.strip():
        raise _Failure("type_error", f"`{field}` must be text.")
    return value.strip()


def _found(reply: _Reply, method: str, field: str) -> str:
    found = reply.get(field)
    if not isinstance(found, dict) or not isinstance(found.get("id"), str):
        raise _Failure("invalid_response", f"{method} of Slack named no {field}.")
    return str(found["id"])
