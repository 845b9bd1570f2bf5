"""The JSON Schemas of the configs of the node types `slack:*`."""

from collections.abc import Mapping, Sequence
from typing import Final

from gorax_engine.core.model import Json

BASE_URL: Final = "https://slack.com/api"

_TEXT_OR_BLOCKS: Final[Json] = [{"required": ["text"]}, {"required": ["blocks"]}]
_COMMON: Final[Json] = {
    "credential": {
        "type": "string",
        "x-gorax": "credential",
        "minLength": 1,
        "description": "A credential with a bot or user token: bearer_token, oauth2, api_key, slack or custom.",
    },
    "base_url": {
        "type": "string",
        "x-gorax": "literal",
        "pattern": "^https?://[^/?#]+[^?#]*$",
        "default": BASE_URL,
        "description": "Where the Web API is. Never a template, for the token goes there.",
    },
    "timeout": {
        "type": ["string", "number"],
        "format": "gorax-duration",
        "minimum": 0,
        "default": 30,
        "description": "For each request, at most 10 minutes.",
    },
}
_CONTENT: Final[Json] = {
    "text": {"type": "string", "description": "The text, in Slack's mrkdwn; with `blocks`, what a notification shows."},
    "blocks": {"type": ["array", "string"], "description": "Layout blocks: a list, or its JSON text."},
}
_CHANNEL: Final[Json] = {"type": "string", "minLength": 1, "description": "The id of a channel, or its name."}
_LOOK: Final[Json] = {
    "thread_ts": {"type": "string", "description": "The `ts` of the message that this one answers."},
    "reply_broadcast": {"type": "boolean", "description": "Show an answer in the channel too."},
    "unfurl_links": {"type": "boolean", "description": "Show what the links in the text lead to."},
    "unfurl_media": {"type": "boolean", "description": "Show the media that the links in the text lead to."},
    "icon_emoji": {"type": "string", "description": "An emoji in place of the sender's picture."},
    "username": {"type": "string", "description": "A name in place of the sender's."},
}


def _schema(properties: Mapping[str, Json], required: Sequence[str], *, content: bool = True) -> Mapping[str, Json]:
    schema: dict[str, Json] = {
        "type": "object",
        "properties": {**_COMMON, **properties},
        "required": ["credential", *required],
        "additionalProperties": False,
    }
    return {**schema, "anyOf": _TEXT_OR_BLOCKS} if content else schema


SEND_MESSAGE: Final = _schema({"channel": _CHANNEL, **_CONTENT, **_LOOK}, ["channel"])
SEND_DM: Final = _schema(
    {"user": {"type": "string", "minLength": 1, "description": "A user's id or mail address."}, **_CONTENT}, ["user"]
)
UPDATE_MESSAGE: Final = _schema(
    {
        "channel": {"type": "string", "minLength": 1, "description": "The id of the channel."},
        "ts": {"type": "string", "minLength": 1, "description": "The `ts` of the message."},
        **_CONTENT,
    },
    ["channel", "ts"],
)
ADD_REACTION: Final = _schema(
    {
        "channel": {"type": "string", "minLength": 1, "description": "The id of the channel."},
        "timestamp": {"type": "string", "minLength": 1, "description": "The `ts` of the message."},
        "emoji": {"type": "string", "minLength": 1, "description": "The emoji's name, with or without colons."},
    },
    ["channel", "timestamp", "emoji"],
    content=False,
)
