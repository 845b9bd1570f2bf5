"""Where templates begin and end in text: `{{ expression }}`, `${ expression }`, and their escaped forms."""

import re
from typing import Final

MARK: Final = re.compile(r"\\?(?:\{\{|\$\{)")
"""The beginning of a template, or of an escaped one."""

_SIGN: Final = re.compile(r"[\"'`()\[\]{}]|/\*")
_OPENING: Final = re.compile(r"[\"'`]|/\*|\{\{|\$\{")
_QUOTED: Final = {
    '"': re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL),
    "'": re.compile(r"'(?:[^'\\]|\\.)*'", re.DOTALL),
    "`": re.compile(r"`[^`]*`"),
    "/*": re.compile(r"/\*.*?\*/", re.DOTALL),
}


def end_of_template(source: str, start: int, closing: str) -> int:
    """Where `closing` stands outside of strings, block comments and brackets; -1 if nowhere. Takes linear time."""
    depth = 0
    at = start
    while match := _SIGN.search(source, at):
        sign = match[0]
        at = match.end()
        if sign in _QUOTED:
            quoted = _QUOTED[sign].match(source, match.start())
            if quoted is None:
                return -1
            at = quoted.end()
        elif sign in "([{":
            depth += 1
        elif depth == 0 and sign == "}" and source.startswith(closing, match.start()):
            return match.start()
        else:
            depth = max(0, depth - 1)
    return -1


def without_marks(source: str) -> str:
    """Replace template marks that stand outside of strings by parentheses: `{{ a }} > 5` becomes `( a ) > 5`."""
    pieces: list[str] = []
    at = kept = 0
    while match := _OPENING.search(source, at):
        at = match.end()
        sign = match[0]
        if sign in _QUOTED:
            quoted = _QUOTED[sign].match(source, match.start())
            if quoted is None:
                return source
            at = quoted.end()
            continue
        closing = "}}" if sign == "{{" else "}"
        end = end_of_template(source, at, closing)
        if end < 0:
            return source
        pieces.extend((source[kept : match.start()], "(", source[at:end], ")"))
        at = kept = end + len(closing)
    return "".join((*pieces, source[kept:]))
