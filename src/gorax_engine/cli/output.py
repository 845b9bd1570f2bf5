"""Printing: JSON for programs, aligned columns for people, one sentence and a code for errors."""

from __future__ import annotations

import json
import sys
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gorax_engine.core.model import Json
    from gorax_engine.errors import Problem


def printable(value: object) -> str:
    """Return `value` as text for a terminal: control characters of other people's data can't steer it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
    return "".join(" " if unicodedata.category(character) in ("Cc", "Cf", "Cs") else character for character in text)


def print_json(value: Json) -> None:
    """Print `value` as one JSON document."""
    print(json.dumps(value, ensure_ascii=not _speaks_unicode(), indent=2))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under upper-case headings, every column as wide as its widest cell."""
    lines = [[name.upper().replace("_", " ") for name in columns]]
    lines += [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_object(fields: Mapping[str, object]) -> None:
    """Print one object, a field a line."""
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        print(f"{name.ljust(width)}  {printable(value)}")


def print_error(message: str, code: str, problems: Iterable[Problem] = ()) -> None:
    """Print one sentence and a code on stderr, then each problem on a line of its own."""
    print(f"error: {printable(message)} [{printable(code)}]", file=sys.stderr)
    for problem in problems:
        print(f"  {printable(problem_line(problem))}", file=sys.stderr)


def problem_line(problem: Problem) -> str:
    """Return where a problem is, what it is, and its code."""
    return f"{problem.pointer or '/'}: {problem.message} [{problem.code}]"


def _speaks_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
