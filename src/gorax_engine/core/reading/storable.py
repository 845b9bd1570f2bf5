"""Refusing what no definition may hold, whatever it means: text and numbers that can't be stored, endless nesting."""

import math
from collections.abc import Iterator
from typing import Final

from gorax_engine.core.model import Json
from gorax_engine.errors import Problem

MAX_DEPTH: Final = 64
MAX_INTEGER_BITS: Final = 1_024


def find_malformed(raw: Json) -> Problem | None:
    """Return the first thing that no definition may hold, if there is one."""
    return next(_malformed(raw), None)


def _malformed(raw: Json) -> Iterator[Problem]:
    levels: list[tuple[Json, int]] = [(raw, 1)]
    while levels:
        value, depth = levels.pop()
        if not isinstance(value, list | dict):
            problem = _scalar_problem(value)
            if problem is not None:
                yield problem
        elif depth > MAX_DEPTH:
            yield Problem("limit_exceeded", "", f"The definition is nested more than {MAX_DEPTH} levels deep.")
        elif isinstance(value, list):
            levels.extend((item, depth + 1) for item in value)
        else:
            if not all(isinstance(key, str) for key in value):
                yield Problem("malformed_input", "", "The keys of an object must be text.")
            levels.extend((part, depth + 1) for pair in value.items() for part in pair)


def _scalar_problem(value: Json) -> Problem | None:
    match value:
        case None | bool():
            message = None
        case str():
            message = None if _is_storable(value) else "Text must not have NUL characters or lone surrogates in it."
        case float():
            message = None if math.isfinite(value) else "Numbers must be finite."
        case int():
            if value.bit_length() > MAX_INTEGER_BITS:
                return Problem("limit_exceeded", "", "A number has too many digits.")
            message = None
        case _:
            message = "The definition must be JSON."
    return None if message is None else Problem("malformed_input", "", message)


def _is_storable(text: str) -> bool:
    if "\x00" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
