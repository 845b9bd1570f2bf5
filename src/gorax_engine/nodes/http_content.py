"""Bodies as JSON values and back: what a response becomes for a workflow, and what a value becomes on the wire.

A response body is JSON if it says so (`application/json`, `+json`) and is; else text, decoded by its charset; else, if
it is neither, `{"encoding": "base64", "content_type": ..., "data": ...}`. Undecodable bytes and NUL characters, which
Postgres can't store, become U+FFFD.
"""

import codecs
import re
from base64 import b64encode
from collections.abc import Mapping
from email.message import Message
from typing import Final
from urllib.parse import urlencode

from gorax_engine.core.json_edge import JsonLimits, encode, parse
from gorax_engine.core.model import Json
from gorax_engine.errors import MalformedInput, PayloadTooLarge

RESPONSE_LIMITS: Final = JsonLimits(max_bytes=10 << 20, max_keys=1_000_000)
_BOM: Final = b"\xef\xbb\xbf"
_FORM: Final = "application/x-www-form-urlencoded"
_JSON_TYPE: Final = re.compile(r"(?:application|text)/(?:[a-z0-9.!#$&^_-]+\+)?json")
_TEXT_TYPE: Final = re.compile(
    r"text/.*|application/(?:.+\+xml|xml|javascript|yaml|x-yaml|x-www-form-urlencoded|graphql|csv|x-ndjson|sql)"
)
# Python also knows codecs that are slow (idna), no charsets (unicode_escape), or give lone surrogates (utf-7).
_CHARSET: Final = re.compile(
    r"ascii|utf-(?:8|16|32)(?:-[lb]e)?|iso8859-\d+|cp\d+|koi8-[rtu]|mac-roman|gb2312|gbk|gb18030|big5|hz|"
    r"shift_jis|euc_jp|euc_kr|iso2022_jp|tis-620"
)


class NotJson(Exception):
    """A body that had to be JSON isn't; the message says why."""


def read_content(body: bytes, content_type: str, mode: str) -> Json:
    """Return a response body as a JSON value, by `mode` `auto`, `json` or `text`.

    Where JSON is due an empty body is null. Raises NotJson, in mode `json` only.
    """
    media, charset = _split(content_type)
    if mode == "json" or (mode == "auto" and _JSON_TYPE.fullmatch(media)):
        try:
            return _parse(body, charset)
        except (MalformedInput, PayloadTooLarge) as error:
            if mode == "json":
                raise NotJson(error.message) from None
    if mode == "auto" and media and not (_JSON_TYPE.fullmatch(media) or _TEXT_TYPE.fullmatch(media)):
        try:
            body.decode()
            binary = b"\0" in body
        except UnicodeDecodeError:
            binary = True
        if binary:
            return {"encoding": "base64", "content_type": media, "data": b64encode(body).decode()}
    return _decode(body, charset)


def write_content(value: Json, content_type: str | None) -> tuple[bytes, str]:
    """Return a request body and its content type, which is chosen where None is given.

    Text goes out as it is (as JSON if it is the text of a JSON object or list), an object as a form if the type says
    so, and everything else as JSON. Raises Unencodable.
    """
    if isinstance(value, str):
        return value.encode("utf-8", "replace"), content_type or _type_of_text(value)
    if isinstance(value, dict) and content_type is not None and _split(content_type)[0] == _FORM:
        return urlencode({key: form_values(item) for key, item in value.items()}, doseq=True).encode(), content_type
    return encode(value).encode(), content_type or "application/json"


def form_values(value: Json) -> list[str]:
    """Return what a value is in a query or a form: a list is repeated, null is left out, an object is JSON."""
    items = value if isinstance(value, list) else [value]
    return [item if isinstance(item, str) else encode(item) for item in items if item is not None]


def first_values(headers: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Return the first value of each header."""
    first: dict[str, str] = {}
    for name, value in headers:
        first.setdefault(name, value)
    return first


def header(headers: Mapping[str, str], name: str) -> str | None:
    """Return the value of a header whatever its case; `name` is in lower case."""
    return next((value for key, value in headers.items() if key.lower() == name), None)


def _parse(body: bytes, charset: str) -> Json:
    if charset != "utf-8":
        body = _decode(body, charset).encode()
    body = body.removeprefix(_BOM)
    return parse(body, RESPONSE_LIMITS) if body.strip() else None


def _decode(body: bytes, charset: str) -> str:
    return body.decode(charset, "replace").removeprefix("\ufeff").replace("\0", "\ufffd")


def _type_of_text(text: str) -> str:
    if text.lstrip().startswith(("{", "[")):
        try:
            parse(text.encode("utf-8", "replace"), RESPONSE_LIMITS)
        except (MalformedInput, PayloadTooLarge):
            pass
        else:
            return "application/json"
    return "text/plain; charset=utf-8"


def _split(content_type: str) -> tuple[str, str]:
    """Return the media type in lower case and a charset that is safe to decode with."""
    if ";" not in content_type:
        return content_type.strip().lower(), "utf-8"
    message = Message()
    message["content-type"] = content_type
    media = content_type.partition(";")[0].strip().lower()
    try:
        charset = codecs.lookup(str(message.get_param("charset", "utf-8"))).name
    except (LookupError, ValueError):
        return media, "utf-8"
    return media, charset if _CHARSET.fullmatch(charset) else "utf-8"
