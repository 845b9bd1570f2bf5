"""From a request to a start: what is kept, what is masked, and how a delivery is known."""

from __future__ import annotations

import uuid

import pytest

from gorax_engine.core.json_edge import JsonLimits
from gorax_engine.errors import MalformedInput, PayloadTooLarge, Unauthenticated
from gorax_engine.store.webhooks import Webhook
from gorax_engine.triggers.webhooks import build_start, check_proof, read_body, read_headers, read_query

HOOK = Webhook(uuid.uuid4(), uuid.uuid4(), uuid.uuid4(), "hook", "none", ("POST",), 7, True)


@pytest.mark.parametrize(
    "name",
    ["Authorization", "Proxy-Authorization", "Cookie", "X-API-Key", "X-Webhook-Signature", "X-Hub-Signature-256",
     "webhook-signature", "Stripe-Signature", "X-Gitlab-Token", "X-Shopify-Hmac-Sha256", "X-Client-Secret"],
)  # fmt: skip
def test_what_looks_like_a_proof_is_masked(name: str) -> None:
    assert read_headers([(name.encode(), b"s3cret")]) == {name.lower(): "[masked]"}


def test_headers_keep_their_first_value() -> None:
    assert read_headers([(b"X-A", b"1"), (b"x-a", b"2"), (b"X-B", b"\xe9")]) == {"x-a": "1", "x-b": "é"}


def test_a_delivery_id_is_read_from_either_header() -> None:
    for name in ("webhook-id", "x-github-delivery"):
        key = build_start(HOOK, "POST", "/webhooks/x", {name: "d1"}, {}, None, b"").start_key
        assert key is not None
        assert (key.key, key.body_hash) == (f"{HOOK.id}:d1", None)
    request = build_start(HOOK, "POST", "/webhooks/x", {"webhook-id": ""}, {}, None, b"")
    assert (request.start_key, request.priority) == (None, 7)


@pytest.mark.parametrize("auth_type", ["secret", "basic", "bearer", "anything"])
def test_a_proof_that_can_not_be_checked_is_refused(auth_type: str) -> None:
    hook = Webhook(HOOK.id, HOOK.tenant_id, HOOK.workflow_id, "hook", auth_type, ("POST",), 1, True)
    with pytest.raises(Unauthenticated):
        check_proof(hook)


def test_bounds() -> None:
    assert read_query(b"a=1&a=2&b") == {"a": "1", "b": ""}
    with pytest.raises(MalformedInput):
        read_query(b"&".join([b"a=1"] * 1001))
    with pytest.raises(PayloadTooLarge):
        read_body("application/json", b"[1, 2, 3]", JsonLimits(max_bytes=4))
