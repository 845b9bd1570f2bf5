"""Handshakes: what a sender asks to see back before it sends anything, to learn that the address is meant for it.

- GET with `hub.challenge` (WebSub; Meta), whether or not the webhook takes GETs: for a webhook with a secret only if
  `hub.verify_token` is that secret.
- GET with `challenge` alone (Dropbox and others). The text goes back as plain text; nothing is started.
- Slack's signed POST of the type `url_verification`.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final

from gorax_engine.errors import MalformedInput, Unauthenticated
from gorax_engine.triggers.signatures import Scheme
from gorax_engine.triggers.webhook_requests import read_query

if TYPE_CHECKING:
    from gorax_engine.core.model import Json
    from gorax_engine.triggers.signatures import Proof

HUB_CHALLENGE: Final = "hub.challenge"
MAX_CHALLENGE: Final = 1_024


def answer_get(proof: Proof, raw_query: bytes) -> str | None:
    """Return what a GET asks to see back, None if it is no challenge. Raises Unauthenticated, MalformedInput."""
    query = read_query(raw_query)
    challenge = query.get(HUB_CHALLENGE, query.get("challenge"))
    if challenge is None:
        return None
    if len(challenge) > MAX_CHALLENGE:
        raise MalformedInput(f"The challenge is longer than {MAX_CHALLENGE} characters.")
    if HUB_CHALLENGE in query and proof.auth_type != "none":
        token = query.get("hub.verify_token", "").encode()
        matching = [hmac.compare_digest(token, secret.encode()) for secret in proof.secrets]
        if not any(matching):
            raise Unauthenticated("`hub.verify_token` is not the webhook's secret.", code="webhook_unauthenticated")
    return challenge


def answer_post(proof: Proof, body: Json) -> str | None:
    """Return the challenge of a proven POST that is a handshake of its scheme, else None."""
    if proof.auth_type != "secret" or proof.scheme is not Scheme.SLACK or not isinstance(body, dict):
        return None
    challenge = body.get("challenge")
    if body.get("type") != "url_verification" or not isinstance(challenge, str):
        return None
    return challenge[:MAX_CHALLENGE]
