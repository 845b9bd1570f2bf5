"""Who is let through: deliveries as their senders publish them, and nothing that differs from them in any way."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from gorax_engine.errors import Unauthenticated
from gorax_engine.triggers.signatures import (
    DEDUPE_PATHS,
    MAX_SECRET,
    Proof,
    Scheme,
    check_proof,
    check_secret,
    generate_secret,
)
from tests.triggers.deliveries import Delivery, load, load_all

TOLERANCE = 300
NOW = 1_700_000_000
BODY = b'{"n": 1}'
DELIVERIES = load_all()
TIMED = {Scheme.STANDARD, Scheme.STRIPE, Scheme.SLACK}
STANDARD_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
HEADERS = (
    "authorization", "x-api-key", "x-webhook-signature", "x-hub-signature-256", "webhook-id", "webhook-timestamp",
    "webhook-signature", "stripe-signature", "x-slack-request-timestamp", "x-slack-signature",
)  # fmt: skip

each_delivery = pytest.mark.parametrize("delivery", DELIVERIES, ids=lambda delivery: delivery.name)


def proof(auth_type: str, *secrets: str, scheme: Scheme = Scheme.GORAX) -> Proof:
    return Proof(auth_type, scheme, secrets, TOLERANCE)


def of(delivery: Delivery, *secrets: str) -> Proof:
    return proof("secret", *(secrets or (delivery.secret,)), scheme=Scheme(delivery.scheme))


def passes(asked: Proof, headers: dict[str, bytes], body: bytes = BODY, now: float = NOW) -> bool:
    refusal = None
    try:
        check_proof(asked, headers, body, now)
    except Unauthenticated as error:
        refusal = error
    if refusal is None:
        return True
    assert refusal.code == "webhook_unauthenticated"
    assert refusal.message.endswith(".")
    return False


def why(asked: Proof, headers: dict[str, bytes], body: bytes = BODY, now: float = NOW) -> str:
    with pytest.raises(Unauthenticated) as raised:
        check_proof(asked, headers, body, now)
    return raised.value.message


def mac(secret: str, message: bytes) -> str:
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def sign(scheme: Scheme, secret: str, body: bytes = BODY, at: int = NOW) -> dict[str, bytes]:
    """The headers of a delivery, by the senders' documentation."""
    match scheme:
        case Scheme.GORAX:
            return {"x-webhook-signature": mac(secret, body).encode()}
        case Scheme.GITHUB:
            return {"x-hub-signature-256": f"sha256={mac(secret, body)}".encode()}
        case Scheme.STRIPE:
            return {"stripe-signature": f"t={at},v1={mac(secret, f'{at}.'.encode() + body)}".encode()}
        case Scheme.SLACK:
            signature = f"v0={mac(secret, f'v0:{at}:'.encode() + body)}"
            return {"x-slack-request-timestamp": str(at).encode(), "x-slack-signature": signature.encode()}
        case Scheme.STANDARD:
            signature = Webhook(secret).sign("msg_1", datetime.fromtimestamp(at, UTC), body.decode())
            return {
                "webhook-id": b"msg_1",
                "webhook-timestamp": str(at).encode(),
                "webhook-signature": signature.encode(),
            }


def secret_of(scheme: Scheme) -> str:
    return STANDARD_SECRET if scheme is Scheme.STANDARD else "a secret"


class TestPublishedDeliveries:
    def test_there_are_some_of_each_sender(self) -> None:
        assert {delivery.scheme for delivery in DELIVERIES} == {"github", "stripe", "slack", "standard"}
        names = {delivery.name for delivery in DELIVERIES}
        assert names >= {
            "github_push", "github_ping", "stripe_event", "slack_event", "slack_command", "standard_example",
        }  # fmt: skip

    @each_delivery
    def test_they_pass(self, delivery: Delivery) -> None:
        check_proof(of(delivery), delivery.raw_headers, delivery.body, delivery.at)

    @each_delivery
    def test_not_with_another_secret(self, delivery: Delivery) -> None:
        other = "whsec_" + base64.b64encode(b"x" * 24).decode()
        message = why(of(delivery, other), delivery.raw_headers, delivery.body, delivery.at)
        assert message == "The request's proof doesn't match: another secret, or the request was altered on the way."

    @each_delivery
    def test_not_with_another_body(self, delivery: Delivery) -> None:
        for body in (delivery.body + b" ", delivery.body[:-1], delivery.body.swapcase(), b""):
            assert not passes(of(delivery), delivery.raw_headers, body, delivery.at)

    @each_delivery
    def test_not_without_any_of_its_headers_of_proof(self, delivery: Delivery) -> None:
        for name in set(delivery.raw_headers) & set(HEADERS):
            headers = {other: value for other, value in delivery.raw_headers.items() if other != name}
            assert f"lacks the header `{name}`" in why(of(delivery), headers, delivery.body, delivery.at)

    @each_delivery
    def test_not_for_another_scheme(self, delivery: Delivery) -> None:
        for scheme in set(Scheme) - {Scheme(delivery.scheme)}:
            # GitHub's signature is one of the two forms of gorax.
            if (delivery.scheme, scheme) != ("github", Scheme.GORAX):
                asked = proof("secret", delivery.secret, scheme=scheme)
                assert not passes(asked, delivery.raw_headers, delivery.body, delivery.at)

    @pytest.mark.parametrize("delivery", [each for each in DELIVERIES if Scheme(each.scheme) in TIMED], ids=str)
    def test_their_time_must_be_near(self, delivery: Delivery) -> None:
        for near in (-TOLERANCE, TOLERANCE):
            assert passes(of(delivery), delivery.raw_headers, delivery.body, delivery.at + near)
        for off in (-TOLERANCE - 1, -TOLERANCE - 0.5, TOLERANCE + 0.5, TOLERANCE + 1, 10**9):
            message = why(of(delivery), delivery.raw_headers, delivery.body, delivery.at + off)
            assert "300 seconds before or after now" in message

    def test_those_that_sign_no_time_never_get_old(self) -> None:
        delivery = load("github_push")
        assert passes(of(delivery), delivery.raw_headers, delivery.body, delivery.at + 10**9)


class TestSecrets:
    @pytest.mark.parametrize("scheme", Scheme)
    def test_both_of_a_rotation_are_live(self, scheme: Scheme) -> None:
        new, old, other = (generate_secret("secret", scheme) for _ in range(3))
        asked = proof("secret", new, old, scheme=scheme)
        assert passes(asked, sign(scheme, new))
        assert passes(asked, sign(scheme, old))
        assert not passes(asked, sign(scheme, other))

    @pytest.mark.parametrize("scheme", Scheme)
    def test_all_are_compared_whichever_it_is(self, scheme: Scheme, monkeypatch: pytest.MonkeyPatch) -> None:
        compared: list[tuple[bytes, bytes]] = []
        genuine = hmac.compare_digest

        def compare(left: bytes, right: bytes) -> bool:
            compared.append((left, right))
            return genuine(left, right)

        monkeypatch.setattr(hmac, "compare_digest", compare)
        secrets = [generate_secret("secret", scheme) for _ in range(3)]
        for secret in secrets:
            compared.clear()
            assert passes(proof("secret", *secrets, scheme=scheme), sign(scheme, secret))
            assert len(compared) == 3
            assert all(type(side) is bytes for pair in compared for side in pair)

    @pytest.mark.parametrize("auth_type", ["secret", "basic", "bearer", "anything", ""])
    def test_without_one_nobody_passes(self, auth_type: str) -> None:
        empty: dict[str, bytes] = {
            "authorization": b"Basic Og==",
            "x-api-key": b" ",
            **sign(Scheme.GORAX, ""),
            **sign(Scheme.GITHUB, ""),
        }
        for scheme in Scheme:
            for secrets in ((), ("",), ("", "")):
                assert "must set a secret" in why(proof(auth_type, *secrets, scheme=scheme), empty)

    def test_an_unknown_kind_lets_nobody_through(self) -> None:
        assert "nobody can give" in why(proof("hmac", "s"), sign(Scheme.GORAX, "s"))

    def test_none_asks_for_nothing(self) -> None:
        assert passes(proof("none"), {})
        assert passes(proof("none", "s"), {"authorization": b"\xff"})

    def test_an_empty_one_does_not_count_beside_another(self) -> None:
        assert not passes(proof("secret", "s", ""), sign(Scheme.GORAX, ""))
        assert passes(proof("secret", "", "s"), sign(Scheme.GORAX, "s"))

    def test_one_of_standard_webhooks_that_was_stored_unchecked_proves_nothing(self) -> None:
        headers = sign(Scheme.STANDARD, STANDARD_SECRET)
        assert not passes(proof("secret", "not base64!", scheme=Scheme.STANDARD), headers)
        assert passes(proof("secret", "not base64!", STANDARD_SECRET, scheme=Scheme.STANDARD), headers)

    def test_they_may_be_of_any_script(self) -> None:
        for scheme in set(Scheme) - {Scheme.STANDARD}:
            assert passes(proof("secret", "schlüssel 鍵", scheme=scheme), sign(scheme, "schlüssel 鍵"))

    @given(st.sampled_from(["secret", "basic", "bearer"]), st.sampled_from(Scheme))
    def test_those_that_are_made_can_be_used(self, auth_type: str, scheme: Scheme) -> None:
        one, other = generate_secret(auth_type, scheme), generate_secret(auth_type, scheme)
        check_secret(auth_type, scheme, one)
        assert one != other
        assert len(one) > 40

    def test_none_has_none(self) -> None:
        for auth_type in ("none", "anything"):
            with pytest.raises(ValueError, match="has no secret"):
                generate_secret(auth_type, Scheme.GORAX)
            with pytest.raises(ValueError, match="has no secret"):
                check_secret(auth_type, Scheme.GORAX, "s")

    @pytest.mark.parametrize(
        ("auth_type", "scheme", "secret", "message"),
        [
            ("secret", Scheme.GORAX, "", "is empty"),
            ("basic", Scheme.GORAX, "", "is empty"),
            ("secret", Scheme.GORAX, "s" * (MAX_SECRET + 1), "more than 500 characters"),
            ("secret", Scheme.GITHUB, "s\n", "control character"),
            ("secret", Scheme.SLACK, "\x7f", "control character"),
            ("secret", Scheme.STRIPE, "\x00s", "control character"),
            ("basic", Scheme.GORAX, "a:b\x85", "control character"),
            ("secret", Scheme.STRIPE, "\ud800", "surrogate"),
            ("secret", Scheme.STANDARD, "whsec_", "24 to 64 bytes"),
            ("secret", Scheme.STANDARD, base64.b64encode(b"x" * 23).decode(), "24 to 64 bytes"),
            ("secret", Scheme.STANDARD, base64.b64encode(b"x" * 65).decode(), "24 to 64 bytes"),
            ("secret", Scheme.STANDARD, "whsec_" + "a" * 33, "base64"),
            ("secret", Scheme.STANDARD, "whsec_" + "-" * 32, "base64"),
            ("secret", Scheme.STANDARD, "ü" * 32, "base64"),
            ("basic", Scheme.GORAX, "username", "username:password"),
            ("basic", Scheme.GORAX, ":password", "username:password"),
            ("basic", Scheme.GORAX, "username:", "username:password"),
            ("bearer", Scheme.GORAX, "two words", "visible ASCII"),
            ("bearer", Scheme.GORAX, "schlüssel", "visible ASCII"),
        ],
    )  # fmt: skip
    def test_those_that_can_not_be_used_are_told(
        self, auth_type: str, scheme: Scheme, secret: str, message: str
    ) -> None:
        with pytest.raises(ValueError, match=message) as raised:
            check_secret(auth_type, scheme, secret)
        assert not secret or secret not in str(raised.value) or secret in "username:password"

    def test_those_that_can_be_used(self) -> None:
        for secret in ("s", "s" * MAX_SECRET, "It's a Secret to Everybody", "schlüssel"):
            check_secret("secret", Scheme.GITHUB, secret)
        for size in (24, 25, 64):
            text = base64.b64encode(b"x" * size).decode()
            for secret in (text, "whsec_" + text, text.rstrip("=")):
                check_secret("secret", Scheme.STANDARD, secret)
        for secret in ("a:b", "a:b:c", "ä:ö", "a::"):
            check_secret("basic", Scheme.GORAX, secret)
        check_secret("bearer", Scheme.GORAX, "!~")


class TestGorax:
    def test_either_header_and_either_form(self) -> None:
        digest = mac("s", BODY)
        for name in ("x-webhook-signature", "x-hub-signature-256"):
            for value in (digest, f"sha256={digest}", digest.upper()):
                assert passes(proof("secret", "s"), {name: value.encode()})

    def test_one_of_both_is_enough(self) -> None:
        good, bad = mac("s", BODY).encode(), b"0" * 64
        for one, other in ((good, bad), (bad, good), (good, b"garbage"), (b"garbage", good)):
            assert passes(proof("secret", "s"), {"x-webhook-signature": one, "x-hub-signature-256": other})
        assert not passes(proof("secret", "s"), {"x-webhook-signature": bad, "x-hub-signature-256": bad})

    @pytest.mark.parametrize("value", ["sha1={}", "sha256={}0", "sha256= {}", "{} ", "0x{}", "SHA256={}"])
    def test_nothing_else(self, value: str) -> None:
        headers = {"x-webhook-signature": value.format(mac("s", BODY)).encode()}
        assert "can't be read" in why(proof("secret", "s"), headers)

    def test_a_body_need_not_be_text(self) -> None:
        for body in (b"", b"\x00\xff\xfe"):
            assert passes(proof("secret", "s"), sign(Scheme.GORAX, "s", body), body)


class TestGithub:
    def test_the_prefix_must_be_there(self) -> None:
        asked = proof("secret", "s", scheme=Scheme.GITHUB)
        assert not passes(asked, {"x-hub-signature-256": mac("s", BODY).encode()})
        assert not passes(asked, {"x-webhook-signature": b"sha256=" + mac("s", BODY).encode()})


class TestStripe:
    asked = proof("secret", "s", scheme=Scheme.STRIPE)

    def check(self, header: str) -> bool:
        return passes(self.asked, {"stripe-signature": header.encode()})

    def test_any_of_several_signatures(self) -> None:
        good, bad = mac("s", f"{NOW}.".encode() + BODY), "0" * 64
        assert self.check(f"t={NOW},v1={bad},v1={good}")
        assert self.check(f"t={NOW},v1={good},v1={bad},v0={bad}")
        assert self.check(f"v1={good},t={NOW}")
        assert not self.check(f"t={NOW},v1={bad},v1={bad}")

    def test_other_versions_are_passed_over(self) -> None:
        good = mac("s", f"{NOW}.".encode() + BODY)
        assert self.check(f"t={NOW},v2=x,v0={good},v1={good},unheard")
        assert not self.check(f"t={NOW},v0={good}")
        assert not self.check(f"t={NOW},v2={good}")

    def test_its_time_stands_there_once(self) -> None:
        good = mac("s", f"{NOW}.".encode() + BODY)
        assert not self.check(f"v1={good}")
        assert not self.check(f"t={NOW},t={NOW},v1={good}")
        assert not self.check(f"t={NOW - 9999},t={NOW},v1={good}")


class TestSlack:
    def test_its_version_is_signed(self) -> None:
        asked = proof("secret", "s", scheme=Scheme.SLACK)
        headers = sign(Scheme.SLACK, "s")
        assert passes(asked, headers)
        v1 = {**headers, "x-slack-signature": headers["x-slack-signature"].replace(b"v0=", b"v1=")}
        assert not passes(asked, v1)


class TestStandard:
    asked = proof("secret", STANDARD_SECRET, scheme=Scheme.STANDARD)

    def test_any_of_several_signatures(self) -> None:
        headers = sign(Scheme.STANDARD, STANDARD_SECRET)
        good = headers["webhook-signature"]
        bad = b"v1," + base64.b64encode(b"x" * 32)
        for value in (b" ".join([bad, good]), b" ".join([good, bad]), b"v1a,eHh4 v2,x nonsense  " + good):
            assert passes(self.asked, {**headers, "webhook-signature": value})
        assert not passes(self.asked, {**headers, "webhook-signature": b" ".join([bad, bad])})

    def test_other_versions_are_passed_over(self) -> None:
        headers = sign(Scheme.STANDARD, STANDARD_SECRET)
        for version in (b"v1a,", b"v2,", b"v1", b",", b""):
            value = headers["webhook-signature"].replace(b"v1,", version)
            assert "can't be read" in why(self.asked, {**headers, "webhook-signature": value})

    def test_the_id_is_signed(self) -> None:
        headers = sign(Scheme.STANDARD, STANDARD_SECRET)
        assert not passes(self.asked, {**headers, "webhook-id": b"msg_2"})

    def test_an_id_can_not_take_over_what_was_signed_as_the_time(self) -> None:
        at, body = NOW, b"1700000000.5"
        stale = sign(Scheme.STANDARD, STANDARD_SECRET, body, at - 10_000)
        shifted = {
            "webhook-id": b"msg_1." + stale["webhook-timestamp"],
            "webhook-timestamp": b"1700000000",
            "webhook-signature": stale["webhook-signature"],
        }
        assert "can't be read" in why(self.asked, shifted, b"5", at)

    def test_the_body_must_be_text(self) -> None:
        headers = sign(Scheme.STANDARD, STANDARD_SECRET)
        assert "not UTF-8" in why(self.asked, headers, b"\xff")
        for text in ("", "ü", "\ufeff漢"):
            body = text.encode()
            assert passes(self.asked, sign(Scheme.STANDARD, STANDARD_SECRET, body), body)


@pytest.mark.parametrize("scheme", sorted(TIMED))
@pytest.mark.parametrize(
    "write",
    [
        "0{}".format, "+{}".format, "-{}".format, "{}.0".format, " {}".format, "{}\n".format, "1_700_000_000".format,
        "1.7e9".format, "١٧٠٠٠٠٠٠٠٠".format, "99999999999".format, "9{}".format, "".format, "now".format,
    ],
)  # fmt: skip
def test_times_are_plain_digits(scheme: Scheme, write: Callable[[int], str]) -> None:
    headers = sign(scheme, secret_of(scheme))
    changed = {
        name: value.replace(str(NOW).encode(), write(NOW).encode(), 1) if name != "webhook-signature" else value
        for name, value in headers.items()
    }
    assert changed != headers
    assert not passes(proof("secret", secret_of(scheme), scheme=scheme), changed)


def test_times_have_one_form() -> None:
    at = 999_999_999
    headers = sign(Scheme.STANDARD, STANDARD_SECRET, at=at)
    asked = proof("secret", STANDARD_SECRET, scheme=Scheme.STANDARD)
    assert passes(asked, headers, now=at)
    assert not passes(asked, {**headers, "webhook-timestamp": b"0999999999"}, now=at)


def basic(secret: str, word: str = "Basic ") -> dict[str, bytes]:
    return {"authorization": word.encode() + base64.b64encode(secret.encode())}


class TestBasic:
    def test_user_and_password(self) -> None:
        for secret in ("user:pass", "user:pa:ss", "ürsel:pässwort"):
            for word in ("Basic ", "basic ", "BASIC  "):
                assert passes(proof("basic", secret), basic(secret, word))
            assert not passes(proof("basic", secret), basic(secret + "x"))
            assert not passes(proof("basic", secret), basic(secret.upper()))
        assert passes(proof("basic", "new:1", "old:1"), basic("old:1"))

    @pytest.mark.parametrize(
        "value",
        [b"Basic", b"Basic ", b"Basic !", b"Basic dXNlcjpwYXNz=", b"Basic dXNlcjpwYXN", b"dXNlcjpwYXNz", b"\xff",
         b"Bearer dXNlcjpwYXNz", b"Basic,dXNlcjpwYXNz", b"Basic dXNlcjpwYXNz x", b"Basic user:pass"],
    )  # fmt: skip
    def test_nothing_else(self, value: bytes) -> None:
        assert "can't be read" in why(proof("basic", "user:pass"), {"authorization": value})

    def test_nothing_at_all(self) -> None:
        for headers in ({}, {"authorization": b""}, {"x-api-key": b"user:pass"}):
            assert "lacks the header `authorization`" in why(proof("basic", "user:pass"), headers)


class TestBearer:
    def test_either_header(self) -> None:
        asked = proof("bearer", "t0ken", "old")
        for value in (b"Bearer t0ken", b"bearer t0ken", b"BEARER   old"):
            assert passes(asked, {"authorization": value})
        assert passes(asked, {"x-api-key": b"t0ken"})
        assert passes(asked, {"x-api-key": b"wrong", "authorization": b"Bearer t0ken"})
        assert passes(asked, {"x-api-key": b"t0ken", "authorization": b"Basic eDp5"})
        for value in (b"Bearer t0ke", b"Bearer t0kenn", b"Bearer T0KEN"):
            assert "doesn't match" in why(asked, {"authorization": value})

    @pytest.mark.parametrize("value", [b"t0ken", b"Bearer", b"Bearer ", b"Bearert0ken", b"Bearer t0 ken", b"\xc3\xbc"])
    def test_nothing_else(self, value: bytes) -> None:
        assert "can't be read" in why(proof("bearer", "t0ken"), {"authorization": value})

    def test_nothing_at_all(self) -> None:
        assert "lacks the header `authorization`" in why(proof("bearer", "t0ken"), {"x-api-key": b""})


class TestGarbage:
    """Whatever comes is refused, and never an error of another kind."""

    @pytest.mark.parametrize("auth_type", ["secret", "basic", "bearer"])
    @pytest.mark.parametrize("scheme", Scheme)
    def test_huge_headers(self, auth_type: str, scheme: Scheme) -> None:
        for filler in (b"1", b"v1=", b"v1,a ", b"\xff"):
            headers = dict.fromkeys(HEADERS, filler * 100_000)
            assert "can't be read" in why(proof(auth_type, STANDARD_SECRET, scheme=scheme), headers)

    @given(
        st.sampled_from(["secret", "basic", "bearer"]),
        st.sampled_from(Scheme),
        st.dictionaries(
            st.sampled_from(HEADERS),
            st.binary(max_size=100)
            | st.sampled_from([b"t=", b"t=1700000000", b"v1=,t=1700000000", b"v0=", b"sha256=", b"v1,", b"1700000000"])
            | st.from_regex(rb"(t=1700000000|v[01]=[0-9a-f]{62,66}|v1,[A-Za-z0-9+/]{42,44}=*|,| |Basic [=A-z]*){1,4}"),
        ),
        st.binary(max_size=20),
    )
    def test_anything(self, auth_type: str, scheme: Scheme, headers: dict[str, bytes], body: bytes) -> None:
        assert not passes(proof(auth_type, STANDARD_SECRET, "a secret", scheme=scheme), headers, body)

    @given(st.data(), st.sampled_from(Scheme))
    def test_a_valid_delivery_with_one_byte_changed(self, data: st.DataObject, scheme: Scheme) -> None:
        headers = sign(scheme, secret_of(scheme))
        asked = proof("secret", secret_of(scheme), scheme=scheme)
        assert passes(asked, headers)
        name = data.draw(st.sampled_from(sorted(headers)))
        value = bytearray(headers[name])
        at = data.draw(st.integers(0, len(value) - 1))
        before = value[at]
        value[at] = data.draw(st.integers(0, 255))
        # Hexadecimal digits mean the same in either case.
        if bytes([value[at]]).lower() != bytes([before]).lower():
            assert not passes(asked, {**headers, name: bytes(value)})

    @given(st.binary(max_size=100), st.binary(max_size=100), st.sampled_from(Scheme))
    def test_a_signature_is_of_one_body(self, body: bytes, other: bytes, scheme: Scheme) -> None:
        if scheme is Scheme.STANDARD:
            body = body.decode("latin-1").encode()
        asked = proof("secret", secret_of(scheme), scheme=scheme)
        headers = sign(scheme, secret_of(scheme), body)
        assert passes(asked, headers, body)
        assert passes(asked, headers, other) is (body == other)


def test_ids_of_deliveries_stand_where_the_senders_say() -> None:
    assert dict(DEDUPE_PATHS) == {Scheme.STRIPE: "$.id", Scheme.SLACK: "$.event_id"}
