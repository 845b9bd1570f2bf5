"""Masking: no form of a secret remains, nothing else changes, and the time is linear."""

import base64
import html
import json
import re
import time
import urllib.parse
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gorax_engine.vault.masking import MASK, Masker

AWKWARD = 'pä$$ w/"o+r\\d\n<&>'

ENCODERS: list[Callable[[str], str]] = [
    str,
    lambda text: json.dumps(text)[1:-1],
    lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    lambda text: json.dumps(json.dumps(text)[1:-1])[1:-1],
    lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    lambda text: base64.b64encode(text.encode()).decode(),
    lambda text: base64.b64encode(text.encode()).decode().rstrip("="),
    lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
    urllib.parse.quote,
    lambda text: urllib.parse.quote(text, safe=""),
    lambda text: re.sub("%..", lambda match: match[0].lower(), urllib.parse.quote(text, safe="")),
    urllib.parse.quote_plus,
    lambda text: urllib.parse.quote(text, safe="!*'()"),
    lambda text: urllib.parse.quote(base64.b64encode(text.encode()).decode(), safe=""),
    lambda text: text.encode().hex(),
    lambda text: text.encode().hex().upper(),
    html.escape,
]  # fmt: skip

SECRETS = st.text(st.characters(exclude_categories=["Cs"]), min_size=4, max_size=40)


def holds(value: Any, form: str) -> bool:
    """Whether a form is anywhere in a value, in keys too."""
    match value:
        case str():
            return form in value
        case dict():
            return any(holds(key, form) or holds(member, form) for key, member in value.items())
        case list():
            return any(holds(item, form) for item in value)
        case _:
            return False


@settings(max_examples=60, deadline=None)
@given(SECRETS, st.lists(st.text(max_size=12), min_size=2, max_size=2))
def test_no_form_of_a_secret_remains(secret: str, around: list[str]) -> None:
    masker = Masker([secret])
    for encode in ENCODERS:
        form = encode(secret)
        assume(form not in MASK and not any(piece in MASK for piece in (form, form.strip("*"))))
        text = form.join(around)
        value = {"text": text, form: 1, "deep": [{"a": [text]}, form], "same": "other"}
        masked = masker.mask(value)
        assert not holds(masked, form), form
        assert masker.mask_text(text) == masked["text"]
        assert MASK in masked["text"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("abäß/+\n", min_size=12, max_size=30), min_size=1, max_size=4), st.text(max_size=11))
def test_a_text_without_the_secrets_is_the_same_object(secrets: list[str], text: str) -> None:
    value = {"a": [text, 1, None, 1.5, True]}
    masker = Masker(secrets)
    assert masker.mask(value) is value
    assert masker.mask_text(text) is text


@pytest.mark.parametrize("before", ["", "a", "ab", "abc", "user:"])
@pytest.mark.parametrize("after", ["", "z", "yz", "xyz"])
@pytest.mark.parametrize("secret", ["correct-horse-battery", "correct-horse-batter", "correct-horse-batte"])
def test_a_secret_inside_a_longer_base64_text_is_found(before: str, secret: str, after: str) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = encode(f"{before}{secret}{after}".encode()).decode()
        masked = Masker([secret]).mask_text(text)
        assert MASK in masked
        # What is left of it holds a bit or two of the secret's ends.
        assert len(masked.replace(MASK, "").rstrip("=")) <= len(encode(before.encode())) + len(after) * 2 + 3


def test_the_header_of_basic_authentication_is_found_though_the_password_is_short() -> None:
    header = "Basic " + base64.b64encode(b"bob:pw12").decode()
    assert Masker(["pw12"], ["bob:pw12"]).mask({"Authorization": header}) == {"Authorization": f"Basic {MASK}"}
    assert Masker(["pw"], ["bob:pw"]).mask_text(base64.b64encode(b"bob:pw").decode()) == MASK


def test_short_secrets_are_masked_as_whole_strings_only() -> None:
    masker = Masker(["abc", "ü", ""])
    value = {"abc": "abc", "x": "abcd", "y": ["ü", "über", "", "a"]}
    assert masker.mask(value) == {MASK: MASK, "x": "abcd", "y": [MASK, "über", "", "a"]}
    assert masker.mask_text("abc") == MASK
    assert masker.mask_text("abcabc") == "abcabc"


def test_the_longest_goes_first() -> None:
    masker = Masker(["token", "token-of-admin"])
    assert masker.mask_text("token-of-admin token") == f"{MASK} {MASK}"


def test_numbers_that_are_secrets() -> None:
    masker = Masker(["123456"])
    assert masker.mask([123456, 1234567, "n=123456", 1.5, True]) == [MASK, 1234567, f"n={MASK}", 1.5, True]


def test_keys_that_become_the_same_lose_nothing() -> None:
    masker = Masker(["secret-1", "secret-2"])
    assert masker.mask({"secret-1": 1, "secret-2": 2, MASK: 3}) == {f"{MASK} (2)": 1, f"{MASK} (3)": 2, MASK: 3}


def test_masking_again_changes_nothing() -> None:
    masker = Masker(["MASKED", "****", "hunter2-hunter2"])
    once = masker.mask({"a": "hunter2-hunter2 MASKED"})
    assert once == {"a": f"{MASK} MASKED"}
    assert masker.mask(once) == once


def test_what_can_not_be_stored_is_masked_all_the_same() -> None:
    masker = Masker(["hunter2-hunter2"])
    assert masker.mask(["\ud800 hunter2-hunter2", 10**400]) == [f"\ud800 {MASK}", 10**400]
    assert masker.mask_text("\ud800hunter2-hunter2\x00") == f"\ud800{MASK}\x00"


def test_a_key_of_many_lines_is_found_with_other_line_ends_and_line_by_line() -> None:
    lines = [base64.b64encode(bytes([n]) * 48).decode() for n in range(20)]
    key = "\n".join(["-----BEGIN PRIVATE KEY-----", *lines, "-----END PRIVATE KEY-----", ""])
    masker = Masker([key])
    for text in (key, key.replace("\n", "\r\n"), json.dumps({"key": key}), lines[3], urllib.parse.quote_plus(key)):
        masked = masker.mask_text(text)
        assert MASK in masked
        assert not any(line in masked for line in lines)


def test_a_masker_shows_nothing_and_without_secrets_does_nothing() -> None:
    assert repr(Masker(["hunter2-hunter2"])) == "Masker()"
    value = {"a": "b"}
    assert Masker([]).mask(value) is value
    assert Masker([""]).mask_text("") == ""


def test_the_time_is_linear_in_the_text() -> None:
    masker = Masker(["a" * 60 + "b", "ab" * 40])

    def seconds(length: int) -> float:
        text = "a" * length
        return min(_timed(lambda: masker.mask_text(text)) for _ in range(3))

    seconds(1000)
    assert seconds(800_000) < 40 * seconds(100_000) + 0.05


def _timed(act: Callable[[], object]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def test_awkward_characters() -> None:
    masker = Masker([AWKWARD])
    for encode in ENCODERS:
        assert masker.mask_text(f"<{encode(AWKWARD)}>") == f"<{MASK}>"
