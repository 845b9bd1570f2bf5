"""The node type `email`: one message to a few people, handed to the SMTP server that a credential describes.

Addresses are read by the standard library's RFC 5322 parser (`email.headerregistry`), which also writes the headers,
so that what was judged is what is sent. Validators that judge domains as well refuse those of mail servers in private
networks; whether a mailbox exists is the server's to say. The Message-ID is made of the step's key: a repeat after a
lost answer is the same message to everybody who compares them.
"""

import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.errors import MessageError
from email.headerregistry import Address, HeaderRegistry
from email.message import EmailMessage
from email.policy import SMTP
from hashlib import sha256
from typing import Final

from gorax_engine.core.durations import parse_duration
from gorax_engine.core.json_edge import encode
from gorax_engine.nodes.api import (
    OUTSIDE_RETRY,
    SECOND,
    Completed,
    Failed,
    Json,
    NodeContext,
    NodeKind,
    NodeSpec,
    Outcome,
    StepError,
)
from gorax_engine.nodes.credentials import UnusableCredential, given_credential
from gorax_engine.nodes.outbound_errors import OutboundError
from gorax_engine.nodes.smtp import InvalidMessage, SmtpClient, SmtpServer

MAX_RECIPIENTS: Final = 100
MAX_ATTACHMENTS: Final = 10
MAX_ATTACHED: Final = 5 << 20
"""Of all attachments together, in bytes before they are encoded."""
MAX_TIMEOUT: Final = 600 * SECOND
MAX_ADDRESS_TEXT: Final = 10_000

_TYPES: Final = ("email_smtp", "smtp", "email")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]")
_MEDIA_TYPE: Final = re.compile(r"(?!multipart/|message/)[a-z0-9][a-z0-9.+-]*/[a-z0-9][a-z0-9.+-]*")
_HEADERS: Final = HeaderRegistry()

_ADDRESSES: Final[Json] = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "items": {"type": "string", "minLength": 1}, "maxItems": MAX_RECIPIENTS},
    ]
}

SCHEMA: Final[Json] = {
    "type": "object",
    "properties": {
        "credential": {
            "type": "string",
            "x-gorax": "credential",
            "minLength": 1,
            "description": "An email_smtp credential: host, port, username, password, from, tls (starttls, tls, none).",
        },
        "to": {**_ADDRESSES, "description": "Addresses: text with commas, or a list. `Ann <ann@example.com>` will do."},
        "cc": {**_ADDRESSES, "description": "More of them, that all can see."},
        "bcc": {**_ADDRESSES, "description": "More of them, that nobody can see."},
        "from": {"type": "string", "minLength": 1, "description": "The sender; the credential's if it is left out."},
        "reply_to": {**_ADDRESSES, "description": "Where answers go."},
        "subject": {"type": "string", "description": "One line."},
        "body": {"description": "The text; another value is written as JSON."},
        "html": {"type": "string", "description": "The same in HTML, or instead."},
        "attachments": {
            "type": "array",
            "maxItems": MAX_ATTACHMENTS,
            "items": {
                "type": "object",
                "properties": {
                    "filename": {"type": "string", "minLength": 1},
                    "content_type": {"type": "string", "default": "application/octet-stream"},
                    "data": {"type": "string", "description": "The content in base64."},
                },
                "required": ["filename", "data"],
                "additionalProperties": False,
            },
            "description": "Up to ten small files, 5 MiB together.",
        },
        "timeout": {
            "type": ["string", "number"],
            "format": "gorax-duration",
            "minimum": 0,
            "default": 30,
            "description": "For the whole exchange with the server, at most 10 minutes.",
        },
    },
    "required": ["credential", "to", "subject"],
    "anyOf": [{"required": ["body"]}, {"required": ["html"]}],
    "additionalProperties": False,
}


class Email:
    """Sends mail through the shared SMTP client."""

    spec: Final = NodeSpec(
        name="email",
        kind=NodeKind.TASK,
        aliases=("action:email", "action:send_email", "send_email"),
        title="Email",
        description="Sends mail by SMTP; the output is {message_id, accepted, rejected}.",
        schema=SCHEMA,
        retry=OUTSIDE_RETRY,
    )

    def __init__(self, client: SmtpClient) -> None:
        self._client = client

    async def run(self, config: Mapping[str, Json], context: NodeContext) -> Outcome:
        try:
            credential = given_credential(config.get("credential"), _TYPES)
            server = SmtpServer.read(credential, timeout=_timeout(config))
            letter = _letter(config, credential, context)
            delivery = await self._client.send(
                letter.message, server, sender=letter.sender, recipients=letter.recipients
            )
        except _WrongType as error:
            return Failed(StepError("type_error", str(error)))
        except OutboundError as error:
            return Failed(error.step_error())
        rejected = [address for address in letter.recipients if address in delivery.refused]
        accepted = [address for address in letter.recipients if address not in delivery.refused]
        return Completed({"message_id": str(letter.message["Message-ID"]), "accepted": accepted, "rejected": rejected})


class _WrongType(Exception):
    """A rendered value has a wrong type; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class _Letter:
    """A message and its envelope."""

    message: EmailMessage
    sender: str
    recipients: Sequence[str]


def _letter(config: Mapping[str, Json], credential: Mapping[str, Json], context: NodeContext) -> _Letter:
    """Write the message; raises InvalidMessage, UnusableCredential and _WrongType."""
    sender = _sender(config, credential)
    people = {field: _addresses(field, config.get(field)) for field in ("to", "cc", "bcc", "reply_to")}
    receiving = [address for field in ("to", "cc", "bcc") for address in people[field]]
    recipients = list(dict.fromkeys(address.addr_spec for address in receiving))
    if not people["to"]:
        raise InvalidMessage("`to` names nobody.")
    if len(recipients) > MAX_RECIPIENTS:
        raise InvalidMessage(f"The mail has {len(recipients)} recipients; at most {MAX_RECIPIENTS} are allowed.")
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    message["To"] = people["to"]
    if people["cc"]:
        message["Cc"] = people["cc"]
    if people["reply_to"]:
        message["Reply-To"] = people["reply_to"]
    message["Subject"] = _line("subject", config.get("subject"))
    message["Date"] = datetime.fromtimestamp(context.now / SECOND, UTC)
    message["Message-ID"] = f"<{sha256(context.idempotency_key.encode()).hexdigest()[:32]}@{sender.domain}>"
    message["Auto-Submitted"] = "auto-generated"
    _write(message, config)
    for attachment in _attachments(config.get("attachments")):
        maintype, _, subtype = attachment.content_type.partition("/")
        message.add_attachment(attachment.data, maintype=maintype, subtype=subtype, filename=attachment.filename)
    return _Letter(message, sender.addr_spec, recipients)


def _sender(config: Mapping[str, Json], credential: Mapping[str, Json]) -> Address:
    """Return who sends: the config's `from`, the credential's, or its user name if that is an address."""
    for given in (config.get("from"), credential.get("from"), credential.get("username")):
        if given is not None and (given is not credential.get("username") or "@" in str(given)):
            found = _addresses("from", given)
            if len(found) != 1:
                raise InvalidMessage("`from` must be one address.")
            return found[0]
    raise UnusableCredential("There is no sender: give `from`, in the config or in the credential.")


def _write(message: EmailMessage, config: Mapping[str, Json]) -> None:
    body, html = config.get("body"), config.get("html")
    if html is not None and not isinstance(html, str):
        raise _WrongType("`html` must be text.")
    if body is None and html is None:
        raise InvalidMessage("The mail needs a `body` or an `html`.")
    if body is not None:
        message.set_content(_storable(body if isinstance(body, str) else encode(body)))
        if html is not None:
            message.add_alternative(_storable(html), subtype="html")
    elif html is not None:
        message.set_content(_storable(html), subtype="html")


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _addresses(field: str, value: Json) -> list[Address]:
    """Read one text or a list of texts, each with one address or several; raises InvalidMessage and _WrongType."""
    found: list[Address] = []
    for text in value if isinstance(value, list) else [] if value is None or value == "" else [value]:
        line = _line(field, text)
        if len(line) > MAX_ADDRESS_TEXT:
            raise InvalidMessage(f"`{field}` is longer than {MAX_ADDRESS_TEXT} characters; give a list.")
        try:
            header = _HEADERS("To", line)
            addresses = [_ascii(address) for address in getattr(header, "addresses", ())]
        # The parser stumbles over some of what isn't an address.
        except (MessageError, ValueError, IndexError, AttributeError, TypeError):
            raise _not_an_address(field, line) from None
        if header.defects or not addresses or any(not address.username for address in addresses):
            raise _not_an_address(field, line)
        found += addresses
    return found


def _ascii(address: Address) -> Address:
    """Write the domain as it goes over the wire; raises ValueError for one that can't exist."""
    domain = address.domain if address.domain.startswith("[") else address.domain.encode("idna").decode()
    if not domain:
        raise ValueError("no domain")
    return Address(address.display_name, address.username, domain)


def _not_an_address(field: str, text: str) -> InvalidMessage:
    return InvalidMessage(f"`{field}` has what is no mail address: {text[:100]!r}.")


def _line(field: str, value: Json) -> str:
    """Return a text for a header: a line break in it would begin another header."""
    if not isinstance(value, str):
        raise _WrongType(f"`{field}` must be text.")
    if _CONTROL.search(value):
        raise InvalidMessage(f"`{field}` holds a line break or another control character.")
    return value


@dataclass(frozen=True, slots=True)
class _Attachment:
    filename: str
    content_type: str
    data: bytes


def _attachments(value: Json) -> list[_Attachment]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise _WrongType("`attachments` must be a list.")
    if len(value) > MAX_ATTACHMENTS:
        raise InvalidMessage(f"There are {len(value)} attachments; at most {MAX_ATTACHMENTS} are allowed.")
    attachments = [_attachment(item) for item in value]
    if sum(len(item.data) for item in attachments) > MAX_ATTACHED:
        raise InvalidMessage(f"The attachments are larger than {MAX_ATTACHED >> 20} MiB together.")
    return attachments


def _attachment(item: Json) -> _Attachment:
    if not isinstance(item, dict) or not isinstance(item.get("data"), str):
        raise _WrongType("An attachment must be an object with `filename` and `data` in base64.")
    filename = _line("attachments.filename", item.get("filename"))
    content_type = _line("attachments.content_type", item.get("content_type") or "application/octet-stream").lower()
    content_type = content_type.partition(";")[0].strip()
    if not _MEDIA_TYPE.fullmatch(content_type):
        raise InvalidMessage(f"An attachment can't have the type {content_type[:100]!r}.")
    if len(item["data"]) > MAX_ATTACHED * 3 // 2:
        raise InvalidMessage(f"The attachments are larger than {MAX_ATTACHED >> 20} MiB together.")
    try:
        data = b64decode("".join(item["data"].split()), validate=True)
    except ValueError:
        raise _WrongType("The `data` of an attachment must be base64.") from None
    return _Attachment(filename, content_type, data)


def _timeout(config: Mapping[str, Json]) -> int:
    try:
        return min(parse_duration(config.get("timeout", 30)), MAX_TIMEOUT)
    except ValueError as error:
        raise _WrongType(f"`timeout` is no duration: {error}") from None
