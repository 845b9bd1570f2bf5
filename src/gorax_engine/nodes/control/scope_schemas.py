"""Pieces of the config schemas that scopes share."""

from typing import Final

from gorax_engine.nodes.api import Json

NAME_PATTERN: Final = "^[A-Za-z_][A-Za-z0-9_]*$"
RESERVED: Final = ("trigger", "steps", "env", "vars", "credentials", "loop", "true", "false", "null", "nil")

VARIABLE: Final[Json] = {
    "type": "string",
    "x-gorax": "name",
    "pattern": NAME_PATTERN,
    "maxLength": 100,
    "not": {"enum": list(RESERVED)},
    "x-gorax-message": "A name has letters, digits and `_`, no digit first, and is none of "
    + ", ".join(f"`{word}`" for word in RESERVED)
    + ".",
}

LISTED_NODES: Final[Json] = {
    "type": "array",
    "items": {"type": "string", "x-gorax": "name"},
    "description": "Ids of nodes; they run in sequence where no edge joins them.",
}


def count(description: str, *, least: int = 1, most: int = 1_000_000) -> Json:
    """Return the schema of a whole number that is known before the run."""
    return {
        "type": "integer",
        "x-gorax": "literal",
        "minimum": least,
        "maximum": most,
        "description": description,
    }


def word(*words: str, description: str) -> Json:
    """Return the schema of one word of a closed set."""
    return {"type": "string", "x-gorax": "literal", "enum": list(words), "description": description}
