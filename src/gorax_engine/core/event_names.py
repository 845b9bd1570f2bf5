"""What an event may be: its name, its correlation key, its lifetime, and the patterns that fit a name."""

import re
from typing import Final

from gorax_engine.core.durations import parse_duration
from gorax_engine.core.model import SECOND, Json, Micros

MAX_NAME: Final = 255
MAX_KEY: Final = 255
MAX_PAYLOAD: Final = 256 * 1024
"""Characters of a payload as JSON. Each wait that an event reaches gets a copy."""

DEFAULT_TTL: Final[Micros] = 24 * 3_600 * SECOND
SHORTEST_TTL: Final[Micros] = SECOND
LONGEST_TTL: Final[Micros] = 30 * 24 * 3_600 * SECOND

NAME: Final = r"^[A-Za-z0-9_-]+(?:[.:/][A-Za-z0-9_-]+)*$"
PATTERN: Final = r"^(?:\*|[A-Za-z0-9_-]+(?:[.:/][A-Za-z0-9_-]+)*(?:[.:/]\*)?)$"
NAME_RULE: Final = f"words of letters, digits, `_` and `-`, joined by `.`, `:` or `/`, up to {MAX_NAME} characters"

_NAME: Final = re.compile(NAME)
_KEY: Final = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]+")
_JOINT: Final = re.compile(r"[.:/]")


def event_name(value: Json) -> str:
    """Return `value` if it can name an event. Raises ValueError, with a sentence that says what can."""
    if not isinstance(value, str) or len(value) > MAX_NAME or _NAME.fullmatch(value) is None:
        raise ValueError(f"The name of an event is text: {NAME_RULE}.")
    return value


def correlation_key(value: Json) -> str:
    """Return a correlation key as text: a whole number is one too, by its digits. Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= 128:
        return str(value)
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_KEY or _KEY.fullmatch(value) is None:
        raise ValueError(
            f"A correlation key is text of 1 to {MAX_KEY} characters without control characters, or a whole number."
        )
    return value


def event_ttl(value: Json) -> Micros:
    """Return for how long an event is kept. Raises ValueError."""
    ttl = parse_duration(value)
    if not SHORTEST_TTL <= ttl <= LONGEST_TTL:
        raise ValueError("An event is kept for 1 second to 30 days.")
    return ttl


def patterns_of(name: str) -> list[str]:
    """Return every pattern that fits a name: itself, `*`, and `order.*` for each place where a word ends."""
    return [name, "*", *(f"{name[: joint.end()]}*" for joint in _JOINT.finditer(name))]
