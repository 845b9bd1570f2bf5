"""Reading a webhook request: what is kept, what is masked, and what can't be read."""

from __future__ import annotations

import pytest

from gorax_engine.core.json_edge import JsonLimits
from gorax_engine.errors import MalformedInput, PayloadTooLarge
from gorax_engine.triggers.webhook_requests import first_values, masked, read_body, read_headers, read_query


@pytest.mark.parametrize(
    "name",
    ["Authorization", "Proxy-Authorization", "Cookie", "X-API-Key", "X-Webhook-Signature", "X-Hub-Signature-256",
     "webhook-signature", "Stripe-Signature", "X-Gitlab-Token", "X-Shopify-Hmac-Sha256", "X-Client-Secret",
     "X-Slack-Signature"],
)  # fmt: skip
def test_what_looks_like_a_proof_is_masked(name: str) -> None:
    assert read_headers([(name.encode(), b"s3cret")]) == {name.lower(): "[masked]"}
    assert first_values([(name.encode(), b"s3cret"), (name.encode(), b"other")]) == {name.lower(): b"s3cret"}


def test_headers_keep_their_first_value() -> None:
    assert read_headers([(b"X-A", b"1"), (b"x-a", b"2"), (b"X-B", b"\xe9")]) == {"x-a": "1", "x-b": "é"}


def test_secrets_in_the_query_are_masked_for_the_log() -> None:
    assert masked({"a": "1", "api_key": "k"}) == {"a": "1", "api_key": "[masked]"}


def test_bounds() -> None:
    assert read_query(b"a=1&a=2&b") == {"a": "1", "b": ""}
    with pytest.raises(MalformedInput):
        read_query(b"&".join([b"a=1"] * 1001))
    with pytest.raises(PayloadTooLarge):
        read_body("application/json", b"[1, 2, 3]", JsonLimits(max_bytes=4))
