"""Operators and their precedence: the one table that the lexer, the parser and the reference page share."""

from typing import Final

BINARY: Final[dict[str, int]] = {
    "|": 0,
    "||": 10,
    "&&": 15,
    "==": 20,
    "!=": 20,
    "<": 20,
    "<=": 20,
    ">": 20,
    ">=": 20,
    "in": 20,
    "contains": 20,
    "startsWith": 20,
    "endsWith": 20,
    "matches": 20,
    "..": 25,
    "+": 30,
    "-": 30,
    "*": 60,
    "/": 60,
    "%": 60,
    "**": 100,
    "??": 500,
}
"""Binary operators; a higher number binds tighter. All associate to the left but `**`."""

UNARY: Final[dict[str, int]] = {"!": 50, "-": 90, "+": 90}
"""Prefix operators; the operand takes in every binary operator that binds at least as tightly."""

SPELLINGS: Final[dict[str, str]] = {
    "and": "&&",
    "or": "||",
    "not": "!",
    "^": "**",
    "starts_with": "startsWith",
    "ends_with": "endsWith",
}
"""Other ways to write an operator."""

RIGHT_ASSOCIATIVE: Final = frozenset({"**"})
ORDERING: Final = frozenset({"<", "<=", ">", ">="})
NEGATABLE: Final = frozenset({"in", "contains", "startsWith", "endsWith", "matches"})
"""Operators that may follow an infix `not`."""
