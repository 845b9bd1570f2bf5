"""Functions that turn one type into another; the only conversions besides int to float."""

import base64
import binascii
import math
from typing import Final

import msgspec

from gorax_engine.core.expressions.errors import ExpressionError, invalid_argument, limit_exceeded, type_error
from gorax_engine.core.expressions.functions.builtin import Builtin, text
from gorax_engine.core.expressions.limits import CHARACTERS_PER_UNIT, INTEGER_DIGITS, STRING_CHARACTERS
from gorax_engine.core.expressions.scope import Scope
from gorax_engine.core.expressions.values import described, finite, json_text, sized_text, text_of, too_long, type_name
from gorax_engine.core.model import Json


def _int(scope: Scope, value: Json) -> Json:
    if type(value) is int:
        return value
    if type(value) is float:
        return math.trunc(value)
    if type(value) is str:
        digits = value.strip()
        if len(digits) <= INTEGER_DIGITS and digits.isascii() and "_" not in digits:
            try:
                return int(digits, 10)
            except ValueError:
                pass
        raise invalid_argument(f"`int` can't read `{value[:60]}` as an integer.")
    raise type_error(f"`int` needs a number or a string, not {described(value)}.")


def _float(scope: Scope, value: Json) -> Json:
    try:
        if type(value) is int or type(value) is float:
            return float(value)
        if type(value) is str and value.isascii() and "_" not in value:
            return finite(float(value))
    except OverflowError:
        raise limit_exceeded("The result is too large for a number.") from None
    except (ValueError, ExpressionError):
        pass
    if type(value) is str:
        raise invalid_argument(f"`float` can't read `{value[:60]}` as a number.")
    raise type_error(f"`float` needs a number or a string, not {described(value)}.")


def _string(scope: Scope, value: Json) -> Json:
    return sized_text("null" if value is None else text_of(value), scope)


def _type(scope: Scope, value: Json) -> Json:
    return type_name(value)


def _to_json(scope: Scope, value: Json) -> Json:
    return sized_text(json_text(value), scope)


def _from_json(scope: Scope, value: Json) -> Json:
    source = text(value, "fromJSON")
    if len(source) > STRING_CHARACTERS:
        raise too_long()
    # A parsed document takes far more room than its text.
    scope.spend(len(source) // 4 + 1)
    if "\\u0000" in source:
        raise invalid_argument("`fromJSON` refuses NUL characters.")
    try:
        parsed: Json = msgspec.json.decode(source)
        json_text(parsed)
    except (msgspec.DecodeError, UnicodeError, RecursionError, ValueError):
        raise invalid_argument(f"`fromJSON` can't read `{source[:60]}` as JSON.") from None
    return parsed


def _to_base64(scope: Scope, value: Json) -> Json:
    source = text(value, "toBase64")
    if len(source) > STRING_CHARACTERS:
        raise too_long()
    return sized_text(base64.b64encode(source.encode()).decode(), scope)


def _from_base64(scope: Scope, value: Json) -> Json:
    source = text(value, "fromBase64")
    scope.spend(len(source) // CHARACTERS_PER_UNIT)
    try:
        result = base64.b64decode(source, validate=True).decode()
    except (binascii.Error, ValueError):
        raise invalid_argument("`fromBase64` needs the Base64 form of UTF-8 text.") from None
    if "\0" in result:
        raise invalid_argument("`fromBase64` refuses NUL characters.")
    return result


BUILTINS: Final = (
    Builtin("int", _int, "int(v)", "The integer of a number (towards zero) or a string.", 1, 1,
            (('int("123")', 123), ("int(-1.9)", -1))),
    Builtin("float", _float, "float(v)", "The float of a number or a string.", 1, 1, (('float("123.45")', 123.45),)),
    Builtin("string", _string, "string(v)", "A value as text; lists and objects as compact JSON.", 1, 1,
            (("string(123)", "123"), ("string([1, 2])", "[1,2]"))),
    Builtin("type", _type, "type(v)", "One of `nil bool int float string array map`.", 1, 1,
            (("type(42)", "int"), ('type("a")', "string"), ("type(nil)", "nil"))),
    Builtin("toJSON", _to_json, "toJSON(v)", "Compact JSON text.", 1, 1,
            (("toJSON({a: [1, nil]})", '{"a":[1,null]}'),)),
    Builtin("fromJSON", _from_json, "fromJSON(s)", "The value of JSON text.", 1, 1,
            (("fromJSON('{\"a\": 1}')", {"a": 1}),)),
    Builtin("toBase64", _to_base64, "toBase64(s)", "Base64 of UTF-8 text.", 1, 1,
            (('toBase64("Hello World")', "SGVsbG8gV29ybGQ="),)),
    Builtin("fromBase64", _from_base64, "fromBase64(s)", "The UTF-8 text of Base64.", 1, 1,
            (('fromBase64("SGVsbG8gV29ybGQ=")', "Hello World"),)),
)  # fmt: skip
