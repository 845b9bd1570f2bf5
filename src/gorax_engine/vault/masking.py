"""Taking secrets out of JSON values and texts, in every form that `forms` knows.

All forms are one RE2 alternation over bytes: the time is linear in the text, whatever the secrets are, and where
nothing matches a value costs one encoding and one search.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

import msgspec
import re2

from gorax_engine.core.model import Json
from gorax_engine.vault.forms import forms_of, login_forms

MASK: Final = "***MASKED***"

LEAST_LENGTH: Final = 4
"""Characters below which a secret is masked only where it is a whole string."""

_MASK_BYTES: Final = MASK.encode()
_MAX_PATTERN_MEMORY: Final = 512 << 20

_encode: Final = msgspec.json.Encoder().encode


class Masker:
    """Masks the secrets that it was made of, and nothing else. It has no text of them in its repr."""

    __slots__ = ("_numbers", "_short", "_suspect", "_within")

    def __init__(self, secrets: Iterable[str], logins: Iterable[str] = ()) -> None:
        short: set[str] = set()
        forms: set[str] = set()
        for secret in secrets:
            if len(secret) < LEAST_LENGTH:
                short.add(secret)
            else:
                forms |= forms_of(secret)
        for login in logins:
            forms |= login_forms(login)
        short.discard("")
        # What the mask itself holds would be found in it for ever, and tells nothing where a mask stands.
        forms = {form for form in forms if len(form) >= LEAST_LENGTH and form not in MASK}
        self._short = frozenset(short)
        self._numbers = frozenset(form for form in forms if form.removeprefix("-").isdecimal())
        self._within = _alternation(forms) if forms else None
        whole = {json.dumps(text, ensure_ascii=ascii_only) for text in short for ascii_only in (False, True)}
        # In encoded JSON each form is escaped once more; forms without a character to escape are the same.
        escaped = {json.dumps(form, ensure_ascii=False)[1:-1] for form in forms}
        suspects = forms | escaped | whole
        self._suspect = _alternation(suspects) if suspects else None

    def mask(self, value: Json) -> Json:
        """Return `value` with every secret masked, in keys too; the very same object if there was none."""
        if self._suspect is None or self._suspect.search(_encoded(value)) is None:
            return value
        return self._masked(value)

    def mask_text(self, text: str) -> str:
        """Return `text` with every secret masked."""
        if text in self._short:
            return MASK
        if self._within is None:
            return text
        raw = text.encode("utf-8", "surrogatepass")
        match = self._within.search(raw)
        if match is None:
            return text
        pieces: list[bytes] = []
        at = 0
        while match is not None:
            pieces += (raw[at : match.start()], _MASK_BYTES)
            at = match.end()
            match = self._within.search(raw, at)
        pieces.append(raw[at:])
        return b"".join(pieces).decode("utf-8", "surrogatepass")

    def _masked(self, value: Json) -> Json:
        match value:
            case str():
                return self.mask_text(value)
            case dict():
                return self._masked_object(value)
            case list():
                return [self._masked(item) for item in value]
            case int() if not isinstance(value, bool) and self._numbers:
                return MASK if str(value) in self._numbers else value
            case _:
                return value

    def _masked_object(self, value: dict[str, Json]) -> dict[str, Json]:
        masked: dict[str, Json] = {}
        for key, member in value.items():
            name = self.mask_text(key)
            # Two keys may become the same; neither member may be lost.
            free, number = name, 2
            while free in masked or (free != key and free in value):
                free, number = f"{name} ({number})", number + 1
            masked[free] = self._masked(member)
        return masked

    def __repr__(self) -> str:
        return "Masker()"


def _encoded(value: Json) -> bytes:
    try:
        return _encode(value)
    except (ValueError, TypeError, OverflowError):
        # Lone surrogates and the like: what can't be stored must still not be shown.
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _alternation(texts: Iterable[str]) -> Any:
    options = re2.Options()
    # Bytes, not characters: a form is valid UTF-8 and can match only where characters begin.
    options.encoding = re2.Options.Encoding.LATIN1
    options.longest_match = True
    options.never_capture = True
    options.max_mem = _MAX_PATTERN_MEMORY
    options.log_errors = False
    raw = sorted(text.encode("utf-8", "surrogatepass") for text in texts)
    return re2.compile(b"|".join(re2.escape(each) for each in raw), options)
