"""The forms in which a secret may turn up in what a service answers: encoded once or twice, by whichever library.

Base64 of a longer text is found too: whatever stands before the secret, one of three alignments fits, and what of each
depends on the secret alone is a form.
"""

import base64
import html
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Final
from urllib.parse import quote, quote_plus

LONG: Final = 512
"""Bytes above which a secret is looked for in its plain encodings only: nobody encodes a certificate by hand."""

_LEAST_CORE: Final = 10
_LEAST_LINE: Final = 16

# What encoders leave as it is besides letters, digits and `-._~`: RFC 3986, paths, encodeURIComponent, encodeURI.
_UNRESERVED: Final = ("", "/", "!*'()", ";,/?:@&=+$!*'()#")


def forms_of(secret: str) -> set[str]:
    """Return all texts that stand for `secret`, itself among them."""
    raw = secret.encode("utf-8", "surrogatepass")
    found = {secret, *_base64(raw), raw.hex(), raw.hex().upper()}
    if len(raw) > LONG:
        return {*found, *_each(found, _json_escapes), *_each((secret,), _percent), *_lines(secret)}
    found.update(_html(secret))
    found.update(_percent(secret))
    # The second encoding: JSON in JSON, a percent-encoded token in a form, JSON within a page.
    found.update(_each(found, _json_escapes))
    found.update(_each(found, _json_escapes))
    found.update(_each((*_base64(raw), *_json_escapes(secret)), _percent))
    found.update(_each(_json_escapes(secret), _html))
    return found


def login_forms(login: str) -> set[str]:
    """Return the forms of `user:password` as basic authentication sends it."""
    raw = login.encode("utf-8", "surrogatepass")
    found = set(_base64(raw))
    return {*found, *_each(found, _percent)}


def _each(texts: Iterable[str], encode: Callable[[str], Iterable[str]]) -> set[str]:
    return {form for text in texts for form in encode(text)}


def _base64(raw: bytes) -> Iterator[str]:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = encode(raw).decode()
        yield text
        yield text.rstrip("=")
        for before in range(3):
            # Characters that hold bits of a neighbour are left out: the first `before` bytes, and the last group.
            aligned = encode(bytes(before) + raw).decode().rstrip("=")
            core = aligned[-(-before * 4 // 3) :]
            if (before + len(raw)) % 3:
                core = core[:-1]
            if len(core) >= _LEAST_CORE:
                yield core


def _percent(text: str) -> Iterator[str]:
    for safe in _UNRESERVED:
        yield from _both_cases(quote(text, safe=safe, errors="surrogatepass"))
    yield from _both_cases(quote_plus(text, errors="surrogatepass"))


def _both_cases(text: str) -> Iterator[str]:
    yield text
    head, *rest = text.split("%")
    yield "%".join([head, *(part[:2].lower() + part[2:] for part in rest)])


def _json_escapes(text: str) -> Iterator[str]:
    for ascii_only in (False, True):
        escaped = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        yield escaped
        yield escaped.replace("/", "\\/")
    # What writers of JSON for web pages do, such as Go's.
    escaped = json.dumps(text, ensure_ascii=False)[1:-1]
    yield escaped.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _html(text: str) -> Iterator[str]:
    yield html.escape(text)
    yield html.escape(text, quote=False)
    yield html.escape(text).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")


def _lines(secret: str) -> Iterator[str]:
    """A key of several lines may come back with other line ends, or one line of it alone."""
    lines = secret.splitlines()
    if len(lines) > 1:
        for line in lines:
            if len(line) >= _LEAST_LINE and not line.startswith("-----"):
                yield from (line, *_percent(line))
