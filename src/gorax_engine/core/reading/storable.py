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
        if depth > MAX_DEPTH and isinstance(value, list | dict):
            yield Problem("limit_exceeded", "", f"The definition is nested more than {MAX_DEPTH} levels deep.")
            return
        match value:
            case str():
                if not _is_storable(value):
                    yield Problem("malformed_input", "", "Text must not have NUL characters or lone surrogates in it.")
            case bool() | None:
                pass
            case int():
                if value.bit_length() > MAX_INTEGER_BITS:
                    yield Problem("limit_exceeded", "", "A number has too many digits.")
            case float():
                if not math.isfinite(value):
                    yield Problem("malformed_input", "", "Numbers must be finite.")
            case list():
                levels.extend((item, depth + 1) for item in value)
            case dict():
                for key, member in value.items():
                    if not isinstance(key, str):
                        yield Problem("malformed_input", "", "The keys of an object must be text.")
                    levels.append((key, depth))
                    levels.append((member, depth + 1))
            case _:
                yield Problem("malformed_input", "", "The definition must be JSON.")


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
