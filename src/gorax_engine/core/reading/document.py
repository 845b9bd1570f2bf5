"""The bookkeeping of a reading: where each canonical place was in the user's document, and what is wrong with it."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from gorax_engine.core.model import Json
from gorax_engine.core.schemas import Path, Place
from gorax_engine.errors import Problem

MAX_PROBLEMS: Final = 1_000
MAX_ID: Final = 255
"""The longest id, name or label."""

_HUMP: Final = re.compile(r"(?<=[a-z0-9])([A-Z])")


class Origins:
    """Maps places of the canonical document to places of the document that the user wrote."""

    def __init__(self) -> None:
        self._moved: dict[Path, Path] = {}

    def move(self, canonical: Path, origin: Path) -> None:
        """Remember that what stands at `canonical` came from `origin`, a place before this move."""
        self._moved[canonical] = self.of(origin)

    def of(self, canonical: Path) -> Path:
        """Return where a canonical place was in the user's document."""
        for length in range(len(canonical), 0, -1):
            if (origin := self._moved.get(canonical[:length])) is not None:
                return (*origin, *canonical[length:])
        return canonical


class Report:
    """The problems and warnings of a reading, with pointers into the user's document."""

    def __init__(self, origins: Origins) -> None:
        self._origins = origins
        self._problems: dict[Problem, None] = {}
        self._warnings: dict[Problem, None] = {}

    @property
    def problems(self) -> tuple[Problem, ...]:
        return self._first(self._problems)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        return self._first(self._warnings)

    def problem(self, code: str, path: Path, message: str) -> None:
        """Add a fault that forbids storing the definition; `path` is a canonical place."""
        self._problems[Problem(code, pointer(self._origins.of(path)), message)] = None

    def warning(self, code: str, path: Path, message: str) -> None:
        """Add a fault that only needs attention."""
        self._warnings[Problem(code, pointer(self._origins.of(path)), message)] = None

    @staticmethod
    def _first(problems: Mapping[Problem, None]) -> tuple[Problem, ...]:
        found = tuple(problems)
        if len(found) <= MAX_PROBLEMS:
            return found
        rest = len(found) - MAX_PROBLEMS
        return (
            *found[:MAX_PROBLEMS],
            Problem("limit_exceeded", "", f"There are {rest} more faults: mend these first."),
        )


def pointer(path: Path) -> str:
    """Return the JSON Pointer (RFC 6901) of a place."""
    return "".join(f"/{str(token).replace('~', '~0').replace('/', '~1')}" for token in path)


def place(text: str) -> Path:
    """Return the place that a JSON Pointer names; what looks like an index is one."""
    tokens = (token.replace("~1", "/").replace("~0", "~") for token in text.split("/")[1:])
    return tuple(int(token) if token.isdecimal() else token for token in tokens)


def fold_keys(value: Mapping[str, Json], known: Sequence[str], path: Path, origins: Origins) -> dict[str, Json]:
    """Return `value` with the camelCase twins of known keys in snake_case; a key that is there as such wins."""
    result: dict[str, Json] = {}
    for key, member in value.items():
        snake = _HUMP.sub(r"_\1", key).lower()
        if key not in known and snake in known and snake not in value and snake not in result:
            origins.move((*path, snake), (*path, key))
            result[snake] = member
        else:
            result[key] = member
    return result


def fold_config(value: Json, place: Place, path: Path, origins: Origins) -> Json:
    """Return a config in canonical words, at every depth.

    Of the keys that its schema knows, the camelCase twins become snake_case; words that stand for others become these.
    """
    match value:
        case dict():
            folded = fold_keys(value, place.at(value).keys(), path, origins)
            here = place.at(folded)
            return {key: fold_config(member, here.member(key), (*path, key), origins) for key, member in folded.items()}
        case list():
            here = place.at(value)
            return [fold_config(item, here.item(at), (*path, at), origins) for at, item in enumerate(value)]
        case str():
            return place.canonical_word(value)
        case _:
            return value
