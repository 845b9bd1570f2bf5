"""What a webhook request says, read into what a workflow and the log of events get to see.

- Bodies: JSON types (and none given) are parsed; forms become an object of strings (a list where a name repeats), and
  the form as it came is `raw`; what else is UTF-8 text without NUL becomes a string, all other bytes their base64. No
  body is null.
- Headers keep their first value under a lower-case name. Values that look like credentials or proofs are masked, in
  the stored event and in the trigger data alike: a workflow has no use for them, and what isn't kept can't leak.
- Query parameters keep their first value; in the stored event secret-looking ones are masked.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from gorax_engine.core import json_edge
from gorax_engine.errors import MalformedInput

if TYPE_CHECKING:
    from gorax_engine.core.json_edge import JsonLimits
    from gorax_engine.core.model import Json

MASK: Final = "[masked]"

_MAX_FIELDS: Final = 1000
_SECRET: Final = re.compile(
    r"auth|cookie|token|secret|signature|passw|(api|access|private)[-_]?key|hmac|credential|jwt|session|bearer",
    re.IGNORECASE,
)
_JSON_TYPES: Final = re.compile(r"\s*application/(?:[\w.+-]+\+)?json\s*(?:;.*)?", re.IGNORECASE)
_FORM_TYPE: Final = "application/x-www-form-urlencoded"


def read_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the headers with lower-case names, the first value of each, secrets masked."""
    headers: dict[str, str] = {}
    for raw_name, value in raw:
        name, secret = _header_name(raw_name)
        if name not in headers:
            headers[name] = MASK if secret else value.decode("latin-1")
    return headers


def first_values(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, bytes]:
    """Return the headers as they came, by lower-case name, the first value of each: what proofs are judged by."""
    values: dict[str, bytes] = {}
    for raw_name, value in raw:
        values.setdefault(_header_name(raw_name)[0], value)
    return values


def read_query(raw: bytes) -> dict[str, str]:
    """Return the first value of each query parameter. Raises MalformedInput."""
    if not raw:
        return {}
    values: dict[str, str] = {}
    for name, value in _pairs(raw):
        values.setdefault(name, value)
    return values


def read_body(content_type: str | None, raw: bytes, limits: JsonLimits) -> Json:
    """Return the body as JSON by the rules above. Raises MalformedInput, PayloadTooLarge."""
    if not raw:
        return None
    if content_type is None or content_type == "application/json" or _JSON_TYPES.fullmatch(content_type):
        return json_edge.parse(raw, limits)
    if is_form(content_type):
        return _form(raw)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return base64.b64encode(raw).decode()
    return base64.b64encode(raw).decode() if "\x00" in text else text


def is_form(content_type: str | None) -> bool:
    """Say whether a body is a form."""
    return content_type is not None and content_type.partition(";")[0].strip().lower() == _FORM_TYPE


def masked(query: Mapping[str, str]) -> dict[str, str]:
    """Return query parameters with what looks secret masked."""
    return {name: MASK if _SECRET.search(name) else value for name, value in query.items()}


@lru_cache(maxsize=1024)
def _header_name(raw: bytes) -> tuple[str, bool]:
    name = raw.decode("latin-1").lower()
    return name, _SECRET.search(name) is not None


def _form(raw: bytes) -> Json:
    fields: dict[str, Json] = {}
    for name, value in _pairs(raw):
        if name not in fields:
            fields[name] = value
        elif isinstance(fields[name], list):
            fields[name].append(value)
        else:
            fields[name] = [fields[name], value]
    return fields


def _pairs(raw: bytes) -> list[tuple[str, str]]:
    try:
        pairs = parse_qsl(raw.decode("latin-1"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except UnicodeDecodeError:
        raise MalformedInput("The query or form is not percent-encoded UTF-8.") from None
    except ValueError:
        raise MalformedInput(f"The query or form has more than {_MAX_FIELDS} fields.") from None
    if any("\x00" in name or "\x00" in value for name, value in pairs):
        raise MalformedInput("The query or form holds a NUL character, which can't be stored; remove it.")
    return pairs
