"""Where templates begin and end in text: `{{ expression }}`, `${ expression }`, and their escaped forms."""

import re
from typing import Final

MARK: Final = re.compile(r"\\?(?:\{\{|\$\{)")
"""The beginning of a template, or of an escaped one."""

_INSIDE: Final = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|`[^`]*`|//[^\n]*|/\*.*?\*/|[()\[\]{}]', re.DOTALL)


def end_of_template(source: str, start: int, closing: str) -> int:
    """Where `closing` stands outside of strings, comments and brackets; -1 if nowhere."""
    depth = 0
    at = start
    while match := _INSIDE.search(source, at):
        sign = match[0]
        at = match.end()
        if sign in ("(", "[", "{"):
            depth += 1
        elif sign in (")", "]", "}"):
            if depth == 0 and sign == "}" and source.startswith(closing, match.start()):
                return match.start()
            depth = max(0, depth - 1)
    return -1
