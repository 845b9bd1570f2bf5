"""What one expression may cost. The numbers bound time and memory; no sensible expression comes near them."""

from typing import Final

SOURCE_CHARACTERS: Final = 10_000
AST_DEPTH: Final = 32
AST_NODES: Final = 1_000

WORK: Final = 1_000_000
"""Units of work in one evaluation: about one visit of a node inside a loop, or one element built or compared."""

CHARACTERS_PER_UNIT: Final = 32
"""Characters that string functions read or write for one unit of work."""

STRING_CHARACTERS: Final = 1 << 20
"""Characters of a string that an expression builds."""

LIST_ITEMS: Final = 100_000
"""Items of a list that grows beyond what went in (ranges, splits)."""

RESULT_SIZE: Final = 4 << 20
"""Characters, and four for each value, of a result that an expression builds, counted as JSON text repeats them."""

RESULT_DEPTH: Final = 64
INTEGER_DIGITS: Final = 4_000
INTEGER_BITS: Final = 13_288
"""Bits of the largest integer: those of INTEGER_DIGITS nines."""

REGEX_CHARACTERS: Final = 1_000
REGEX_MEMORY: Final = 1 << 20
REGEX_STEPS_PER_UNIT: Final = 256
"""Characters times instructions that a match may visit for one unit of work."""
