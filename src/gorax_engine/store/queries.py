"""Reads the package's .sql files into named queries, so that SQL lives in SQL files and Python names it.

A file holds queries, each under a header `-- name: snake_case`; comment lines right after the header say what the query
does and why, and are not sent to the server.
"""

import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Final

_HEADER: Final = re.compile(r"^--\s*name:\s*(.*?)\s*$")
_NAME: Final = re.compile(r"^[a-z][a-z0-9_]*$")


class Queries:
    """The queries of one file: `queries.claim` is the text of the query named claim."""

    __slots__ = ("_file", "_texts")

    def __init__(self, file: str, texts: dict[str, str]) -> None:
        self._file = file
        self._texts = texts

    def __getattr__(self, name: str) -> str:
        try:
            return self._texts[name]
        except KeyError:
            raise AttributeError(f"{self._file} has no query named {name!r}") from None

    def __getitem__(self, name: str) -> str:
        return self._texts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)


def parse(file: str, text: str) -> Queries:
    """Split `text` into named queries; `file` names it in errors.

    Raises ValueError for a bad or repeated name, an empty query, or SQL before the first header.
    """
    bodies: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in text.splitlines():
        header = _HEADER.match(line)
        if header:
            name = header[1]
            if not _NAME.match(name):
                raise ValueError(f"{file}: {name!r} is not a snake_case query name")
            if name in bodies:
                raise ValueError(f"{file}: the query {name!r} is defined twice")
            current = bodies[name] = []
        elif current is not None:
            if current or (line.strip() and not line.startswith("--")):
                current.append(line)
        elif line.strip() and not line.startswith("--"):
            raise ValueError(f"{file}: SQL stands before the first `-- name:` header")
    texts = {name: "\n".join(lines).strip().removesuffix(";").rstrip() for name, lines in bodies.items()}
    for name, body in texts.items():
        if not body:
            raise ValueError(f"{file}: the query {name!r} is empty")
    return Queries(file, texts)


@cache
def load(name: str) -> Queries:
    """Return the queries of `store/sql/<name>.sql`. Raises FileNotFoundError, or ValueError as `parse` does."""
    file = f"{name}.sql"
    return parse(file, (files("gorax_engine.store") / "sql" / file).read_text(encoding="utf-8"))
