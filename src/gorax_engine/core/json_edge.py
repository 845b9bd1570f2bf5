"""The one edge that JSON crosses: what comes in is bounded and clean, what goes out is text that Postgres takes.

Python and Postgres disagree with JSON and with each other about NUL characters, lone surrogates, NaN, huge numbers and
deep nesting. Everything that enters passes `parse`, everything that is stored passes `encode`; in between, a value is
plain `Json`.
"""

import re
from dataclasses import dataclass
from math import isfinite
from typing import Final

import msgspec

from gorax_engine.core.model import Json
from gorax_engine.errors import MalformedInput, PayloadTooLarge

_BOM: Final = b"\xef\xbb\xbf"
_NUL_ESCAPE: Final = "\\u0000"
# An escaped backslash before `u0000` makes it plain text, hence the pairs.
_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_NUL_BYTES: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
# A float of 1e16 or more as msgspec writes it, at the end of a value.
_LARGE_FLOAT: Final = re.compile(r"e[1-9][0-9]{1,2}(?:[,}\]]|\Z)")
_STRING_OR_LARGE_FLOAT: Final = re.compile(r'"(?:[^"\\]|\\.)*"|-?[0-9](?:\.[0-9]+)?e[1-9][0-9]{1,2}')

_decode: Final = msgspec.json.Decoder(strict=True).decode
_encode: Final = msgspec.json.Encoder().encode


class Unencodable(ValueError):
    """A value can't be stored as JSON (NUL, lone surrogate, NaN, infinity, too deep); the message says which."""


@dataclass(frozen=True, slots=True)
class JsonLimits:
    """How large a JSON text may be.

    `max_bytes` bounds the text, `max_depth` the nesting (a scalar is 0, `[]` is 1), `max_keys` the members of all
    objects together, `max_digits` the digits of an integer.
    """

    max_bytes: int = 1 << 20
    max_depth: int = 64
    max_keys: int = 10_000
    max_digits: int = 64


DEFAULT_LIMITS: Final = JsonLimits()


def parse(data: bytes, limits: JsonLimits = DEFAULT_LIMITS) -> Json:
    """Read one JSON text (RFC 8259, UTF-8). Integers are exact; of a repeated key the last value wins.

    Raises PayloadTooLarge if the text is above `limits.max_bytes`, and MalformedInput for all else that is wrong.
    """
    if len(data) > limits.max_bytes:
        raise PayloadTooLarge(f"The JSON text has {len(data)} bytes; at most {limits.max_bytes} are allowed.")
    if data.startswith(_BOM):
        raise MalformedInput("The JSON text begins with a byte order mark; send UTF-8 without one.")
    try:
        value = _decode(data)
    except RecursionError:
        raise _too_deep(limits) from None
    except UnicodeDecodeError:
        raise MalformedInput("The JSON text is not valid UTF-8.") from None
    except msgspec.DecodeError as error:
        raise MalformedInput(_explain(data, str(error), limits)) from None
    if b"\\u0000" in data and _NUL_BYTES.search(data):
        raise MalformedInput("The JSON text holds a NUL character (\\u0000), which can't be stored; remove it.")
    _check(data, value, limits)
    return value


def encode(value: Json) -> str:
    """Write `value` as compact JSON that `jsonb` takes and gives back unchanged.

    Integers are exact. A float of 1e16 or more is written out with a final `.0`: jsonb forgets exponents, so that it
    would come back as an integer. Raises Unencodable for a NUL character, a lone surrogate, NaN, infinity, an integer
    above 4,300 digits, and nesting that exceeds the stack.
    """
    try:
        text = _encode(value).decode()
    except UnicodeEncodeError:
        raise Unencodable("a string holds a lone surrogate, which is no character") from None
    except RecursionError:
        raise Unencodable("the value is nested too deeply") from None
    except (TypeError, ValueError) as error:
        raise Unencodable(f"the value is not JSON: {error}") from None
    if _NUL_ESCAPE in text and _NUL.search(text):
        raise Unencodable("a string holds a NUL character (\\u0000), which can't be stored")
    # msgspec writes NaN and infinity as null, so a text without null has neither.
    if "null" in text and not _is_finite(value):
        raise Unencodable("a number is NaN or infinite, which JSON doesn't have")
    if _LARGE_FLOAT.search(text):
        return _STRING_OR_LARGE_FLOAT.sub(_written_out, text)
    return text


def _written_out(match: re.Match[str]) -> str:
    token = match[0]
    if token[0] == '"':
        return token
    mantissa, _, exponent = token.partition("e")
    whole, _, fraction = mantissa.partition(".")
    return f"{whole}{fraction.ljust(int(exponent), '0')}.0"


def _is_finite(value: Json) -> bool:
    stack = [value]
    while stack:
        item = stack.pop()
        kind = type(item)
        if kind is dict:
            stack.extend(item.values())
        elif kind is list or kind is tuple:
            stack.extend(item)
        elif kind is float and not isfinite(item):
            return False
    return True


def _check(data: bytes, value: Json, limits: JsonLimits) -> None:
    """Raise MalformedInput where the value breaks a limit. Bytes are counted first: that is far cheaper than a walk."""
    if data.count(b"[") + data.count(b"{") > limits.max_depth or data.count(b":") > limits.max_keys:
        _check_shape(value, limits)
    if len(data) > limits.max_digits and re.search(rb"[0-9]{%d}" % (limits.max_digits + 1), data):
        _check_integers(value, limits)


def _check_shape(value: Json, limits: JsonLimits) -> None:
    level: list[Json] = [value] if type(value) in (dict, list) else []
    depth = keys = 0
    while level:
        depth += 1
        if depth > limits.max_depth:
            raise _too_deep(limits)
        keys += sum(len(item) for item in level if type(item) is dict)
        if keys > limits.max_keys:
            raise MalformedInput(f"The JSON text has more than {limits.max_keys} object members.")
        level = [
            child
            for item in level
            for child in (item.values() if type(item) is dict else item)
            if type(child) is dict or type(child) is list
        ]


def _check_integers(value: Json, limits: JsonLimits) -> None:
    bound = 10**limits.max_digits
    stack = [value]
    while stack:
        item = stack.pop()
        kind = type(item)
        if kind is dict:
            stack.extend(item.values())
        elif kind is list:
            stack.extend(item)
        elif kind is int and not -bound < item < bound:
            raise MalformedInput(f"An integer has more than {limits.max_digits} digits; send it as a string.")


def _too_deep(limits: JsonLimits) -> MalformedInput:
    return MalformedInput(f"The JSON text is nested more than {limits.max_depth} levels deep.")


def _explain(data: bytes, fault: str, limits: JsonLimits) -> str:
    """Say in one sentence what msgspec found."""
    if "Integer value out of range" in fault:
        return f"An integer has more than {limits.max_digits} digits; send it as a string."
    if "Number out of range" in fault:
        return "A number is too large for a 64-bit float (about 1.8e308); send it as a string."
    if not data.strip():
        return "The JSON text is empty."
    if b"\x00" in data:
        return "The JSON text holds a NUL byte, which can't be stored; remove it."
    if _SURROGATE.search(data):
        return f"The text is not JSON, perhaps by a lone surrogate (\\ud800 to \\udfff must come in pairs): {fault}."
    if re.search(rb"NaN|Infinity", data):
        return f"The text is not JSON, which has no NaN or Infinity; send null: {fault}."
    return f"The text is not JSON: {fault}."
