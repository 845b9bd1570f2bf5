"""Whether a request to a webhook proves who sent it.

The kinds of proof (`auth_type`) are `none`; `basic` and `bearer`, which carry the secret itself; and `secret`, a
signature of the raw body in one of five schemes:

| scheme | headers | HMAC-SHA256 of |
| --- | --- | --- |
| gorax | `X-Webhook-Signature` or `X-Hub-Signature-256`: hex, with or without `sha256=` | the body |
| github | `X-Hub-Signature-256`: `sha256=` and hex | the body |
| standard | `webhook-id`, `webhook-timestamp`, `webhook-signature`: `v1,` and base64, or several | id.time.body |
| stripe | `Stripe-Signature`: `t=` and time, `,v1=` and hex, which may come again | time.body |
| slack | `X-Slack-Request-Timestamp`, `X-Slack-Signature`: `v0=` and hex | v0:time:body |

Where a time is signed it must be near now, in both directions. One valid signature by one live secret is enough.
Signatures of other versions are passed over: they are for receivers that know more. Every signature is compared with
every live secret's, in constant time, so that how long it takes tells neither what is in a secret nor which one it was.
"""

import base64
import hmac
import re
import secrets
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final, TypeAlias

from standardwebhooks import Webhook

from gorax_engine.errors import Unauthenticated

MAX_SECRET: Final = 500
"""Characters of a secret."""

_MAX_HEADER: Final = 4096
_STANDARD_PREFIX: Final = "whsec_"
_STANDARD_KEY_BYTES: Final = range(24, 65)
_DIGEST: Final = re.compile(rb"[0-9a-fA-F]{64}")
_DIGEST_BASE64: Final = re.compile(rb"[A-Za-z0-9+/]{43}=")
_TIMESTAMP: Final = re.compile(rb"[1-9][0-9]{0,9}")
# With a dot in it, an id could take over what was signed as the time.
_MESSAGE_ID: Final = re.compile(rb"[!-\-/-~]{1,255}")
_BASE64: Final = rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==)"
_BASIC: Final = re.compile(rb"basic +(%b) *" % _BASE64, re.IGNORECASE)
_BEARER: Final = re.compile(rb"bearer +([!-~]+) *", re.IGNORECASE)


class Scheme(StrEnum):
    """How a body is signed."""

    GORAX = "gorax"
    GITHUB = "github"
    STANDARD = "standard"
    STRIPE = "stripe"
    SLACK = "slack"


DEDUPE_PATHS: Final[Mapping[Scheme, str]] = MappingProxyType({Scheme.STRIPE: "$.id", Scheme.SLACK: "$.event_id"})
"""Where the id of a delivery stands in the body, for the schemes that have no header for it."""


@dataclass(frozen=True, slots=True)
class Proof:
    """How the callers of a webhook prove themselves.

    `auth_type` is `none`, `secret`, `basic` or `bearer`; `scheme` counts for `secret` only. `secrets` are the live
    ones, newest first: two during a rotation. `tolerance` is how far a signed time may be from now, in seconds.
    """

    auth_type: str
    scheme: Scheme
    secrets: tuple[str, ...]
    tolerance: int


_Claims: TypeAlias = tuple[list[bytes], Callable[[str], bytes]]
"""What the request claims, and what it should if it knows a secret."""


def check_proof(proof: Proof, headers: Mapping[str, bytes], body: bytes, now: float) -> None:
    """Raise Unauthenticated unless the request proves who sent it.

    `headers` are the raw values by lower-case name. Of a header that comes twice the caller passes one, and a proof in
    the other isn't seen. `body` is as it came, before any parsing; `now` is Unix time in seconds.
    """
    if proof.auth_type == "none":
        return
    read = _READERS.get(proof.auth_type)
    # Anybody can sign with an empty secret.
    live = [secret for secret in proof.secrets if secret]
    if read is None or not live:
        raise _refusal("The webhook asks for a proof that nobody can give; its owner must set a secret.")
    given, expect = read(proof, headers, body, now)
    if not given:
        raise _unreadable()
    proven = False
    for secret in live:
        expected = expect(secret)
        for claim in given:
            proven |= hmac.compare_digest(expected, claim)
    if not proven:
        raise _refusal("The request's proof doesn't match: another secret, or the request was altered on the way.")


def generate_secret(auth_type: str, scheme: Scheme) -> str:
    """Return a new random secret of 256 bits in the form that the scheme wants. Raises ValueError for `none`."""
    match auth_type:
        case "secret" if scheme is Scheme.STANDARD:
            return _STANDARD_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()
        case "secret" | "bearer":
            return secrets.token_urlsafe(32)
        case "basic":
            return f"webhook:{secrets.token_urlsafe(32)}"
        case _:
            raise ValueError(_no_secret(auth_type))


def check_secret(auth_type: str, scheme: Scheme, secret: str) -> None:
    """Raise ValueError, in a sentence that doesn't hold the secret, if it can't be used."""
    if auth_type not in _READERS:
        raise ValueError(_no_secret(auth_type))
    if not secret:
        raise ValueError("The secret is empty.")
    if len(secret) > MAX_SECRET:
        raise ValueError(f"The secret has more than {MAX_SECRET} characters.")
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in secret):
        raise ValueError("The secret holds a control character, or half of a surrogate pair.")
    if auth_type == "secret" and scheme is Scheme.STANDARD:
        _standard_key(secret)
    if auth_type == "basic" and not all(secret.partition(":")):
        raise ValueError("The secret of basic authentication must be `username:password`, with both not empty.")
    if auth_type == "bearer" and re.fullmatch(r"[!-~]+", secret) is None:
        raise ValueError("The secret of bearer authentication must be of visible ASCII characters, without spaces.")


def _no_secret(auth_type: str) -> str:
    return f"A webhook with `auth_type` {auth_type!r} has no secret; one of {', '.join(_READERS)} has."


def _basic(_proof: Proof, headers: Mapping[str, bytes], _body: bytes, _now: float) -> _Claims:
    match = _BASIC.fullmatch(_header(headers, "authorization"))
    return [] if match is None else [base64.b64decode(match[1])], str.encode


def _bearer(_proof: Proof, headers: Mapping[str, bytes], _body: bytes, _now: float) -> _Claims:
    key = _optional(headers, "x-api-key")
    match = _BEARER.fullmatch(_optional(headers, "authorization") if key else _header(headers, "authorization"))
    given = ([key] if key else []) + ([] if match is None else [match[1]])
    return given, str.encode


def _signature(proof: Proof, headers: Mapping[str, bytes], body: bytes, now: float) -> _Claims:
    match proof.scheme:
        case Scheme.GORAX:
            other = _optional(headers, "x-hub-signature-256")
            own = _optional(headers, "x-webhook-signature") if other else _header(headers, "x-webhook-signature")
            given = [digest for value in (own, other) for digest in _digest(value.removeprefix(b"sha256="))]
            message = body
        case Scheme.GITHUB:
            given = _prefixed(_header(headers, "x-hub-signature-256"), b"sha256=")
            message = body
        case Scheme.STRIPE:
            items = [item.partition(b"=") for item in _header(headers, "stripe-signature").split(b",")]
            times = [value for name, _, value in items if name == b"t"]
            time = _check_time(times[0] if len(times) == 1 else b"", proof, now)
            given = [digest for name, _, value in items if name == b"v1" for digest in _digest(value)]
            message = time + b"." + body
        case Scheme.SLACK:
            given = _prefixed(_header(headers, "x-slack-signature"), b"v0=")
            time = _check_time(_header(headers, "x-slack-request-timestamp"), proof, now)
            message = b"v0:" + time + b":" + body
        case Scheme.STANDARD:
            return _standard(proof, headers, body, now)
    return given, lambda secret: hmac.digest(secret.encode(), message, "sha256")


def _standard(proof: Proof, headers: Mapping[str, bytes], body: bytes, now: float) -> _Claims:
    message_id = _header(headers, "webhook-id")
    time = _check_time(_header(headers, "webhook-timestamp"), proof, now)
    given = []
    for item in _header(headers, "webhook-signature").split(b" "):
        version, _, value = item.partition(b",")
        if version == b"v1" and _DIGEST_BASE64.fullmatch(value):
            given.append(base64.b64decode(value))
    if _MESSAGE_ID.fullmatch(message_id) is None:
        raise _unreadable()
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise _refusal("The body is not UTF-8, so that it can't be signed by Standard Webhooks.") from None
    at = datetime.fromtimestamp(int(time), UTC)

    def expect(secret: str) -> bytes:
        try:
            key = _standard_key(secret)
        except ValueError:
            return b""  # No digest is empty, so that a secret that was stored unchecked proves nothing.
        return base64.b64decode(Webhook(key).sign(message_id.decode(), at, text).removeprefix("v1,"))

    return given, expect


def _standard_key(secret: str) -> bytes:
    """Return the bytes that a secret of Standard Webhooks stands for. Raises ValueError in a sentence."""
    text = secret.removeprefix(_STANDARD_PREFIX)
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise ValueError("The secret of Standard Webhooks must be base64, with `whsec_` before it or not.") from None
    if len(key) not in _STANDARD_KEY_BYTES:
        raise ValueError("The secret of Standard Webhooks must be 24 to 64 bytes in base64.")
    return key


def _prefixed(value: bytes, prefix: bytes) -> list[bytes]:
    return _digest(value.removeprefix(prefix)) if value.startswith(prefix) else []


def _digest(value: bytes) -> list[bytes]:
    return [bytes.fromhex(value.decode())] if _DIGEST.fullmatch(value) else []


def _check_time(value: bytes, proof: Proof, now: float) -> bytes:
    """Return the signed time as it was written. Raises Unauthenticated if it is none, or too far from now."""
    if _TIMESTAMP.fullmatch(value) is None:
        raise _unreadable()
    if abs(now - int(value)) > proof.tolerance:
        raise _refusal(f"The request was signed more than {proof.tolerance} seconds before or after now.")
    return value


def _header(headers: Mapping[str, bytes], name: str) -> bytes:
    value = _optional(headers, name)
    if not value:
        raise _refusal(f"The request lacks the header `{name}`, which the webhook asks for.")
    return value


def _optional(headers: Mapping[str, bytes], name: str) -> bytes:
    value = headers.get(name, b"")
    if len(value) > _MAX_HEADER:
        raise _unreadable()
    return value


def _unreadable() -> Unauthenticated:
    return _refusal("The request's proof can't be read: it hasn't the form that the webhook asks for.")


def _refusal(message: str) -> Unauthenticated:
    return Unauthenticated(message, code="webhook_unauthenticated")


_READERS: Final[Mapping[str, Callable[[Proof, Mapping[str, bytes], bytes, float], _Claims]]] = MappingProxyType({
    "secret": _signature,
    "basic": _basic,
    "bearer": _bearer,
})  # fmt: skip
"""How the proof of each `auth_type` is read. Raises Unauthenticated."""
