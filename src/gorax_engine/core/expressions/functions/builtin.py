"""What a built-in function is, and the checks that its arguments share."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gorax_engine.core.expressions.errors import type_error
from gorax_engine.core.expressions.values import described
from gorax_engine.core.model import Json

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Builtin:
    """A function of the language. `call` gets the scope and the arguments; `maximum` None means any number.

    `examples` are pairs of a source and its value.
    """

    name: str
    call: Callable[..., Json]
    signature: str
    summary: str
    minimum: int
    maximum: int | None
    examples: tuple[tuple[str, Json], ...]
    aliases: tuple[str, ...] = ()


def snake_case(name: str) -> str:
    """The other spelling of a camelCase name: `toJSON` is `to_json`."""
    return _HUMP.sub("_", name).lower()


def text(value: Json, name: str) -> str:
    """The value if it is a string; raises ExpressionError `type_error`."""
    if type(value) is str:
        return value
    raise type_error(f"`{name}` needs a string, not {described(value)}.")


def integer(value: Json, name: str) -> int:
    """The value if it is an integer; raises ExpressionError `type_error`."""
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer():
        return int(value)
    raise type_error(f"`{name}` needs an integer, not {described(value)}.")


def number(value: Json, name: str) -> Any:
    """The value if it is a number; raises ExpressionError `type_error`."""
    if type(value) is int or type(value) is float:
        return value
    raise type_error(f"`{name}` needs a number, not {described(value)}.")


def items(value: Json, name: str) -> list[Json]:
    """The value if it is a list; raises ExpressionError `type_error`."""
    if type(value) is list:
        return value
    raise type_error(f"`{name}` needs a list, not {described(value)}.")


def mapping(value: Json, name: str) -> dict[str, Json]:
    """The value if it is an object; raises ExpressionError `type_error`."""
    if type(value) is dict:
        return value
    raise type_error(f"`{name}` needs an object, not {described(value)}.")
