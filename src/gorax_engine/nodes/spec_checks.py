"""Looking at the description of a node type: every fault that would make it mean less than its author thinks.

The engine's own types are held to it by a test, those of plug-ins when they are loaded.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import jsonschema_rs

from gorax_engine.core.model import Json, NodeKind, NodeSpec, RetryPolicy
from gorax_engine.core.reading.policies import MAX_ATTEMPTS
from gorax_engine.core.reading.storable import find_malformed
from gorax_engine.core.schemas import resolve
from gorax_engine.core.validation import ConfigValidator

ANNOTATIONS: Final = frozenset({"expression", "path", "bound_path", "literal", "url", "name", "credential"})
"""The values of `x-gorax` (see `model.NodeSpec`)."""
FORMATS: Final = frozenset({"gorax-duration", "gorax-instant", "gorax-regex"})

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNKNOWN: Final = ("$id", "$anchor", "$dynamicAnchor", "$dynamicRef")
# Keywords that lead to subschemas, and whether the engine looks for annotations behind them (`core.schemas.Place`).
_BY_NAME: Final = {"properties": True, "$defs": True, "patternProperties": False, "dependentSchemas": False}
_IN_LIST: Final = {"allOf": True, "anyOf": True, "oneOf": True, "prefixItems": True}
_ALONE: Final = {
    "additionalProperties": True, "items": True, "then": True, "else": True, "if": False, "not": False,
    "contains": False, "propertyNames": False, "unevaluatedItems": False, "unevaluatedProperties": False,
}  # fmt: skip


def spec_faults(spec: NodeSpec) -> Iterator[str]:
    """Yield the faults of a node type's description, each a sentence without its full stop."""
    given: Any = spec  # nobody has checked the types of what a plug-in says
    if not (isinstance(given.title, str) and given.title.strip()):
        yield "it has no title"
    if not (isinstance(given.description, str) and given.description.strip().endswith(".")):
        yield "its description must be a sentence, or several"
    if not isinstance(given.kind, NodeKind):
        yield "its kind must be a NodeKind"
    if not isinstance(given.retry, RetryPolicy):
        yield "its retry must be a RetryPolicy"
    elif not (1 <= spec.retry.max_attempts <= MAX_ATTEMPTS and 0 <= spec.retry.initial_delay <= spec.retry.max_delay):
        yield f"its retry must have 1 to {MAX_ATTEMPTS} attempts, and an initial_delay of at most max_delay"
    yield from _schema_faults(spec.schema)


def _schema_faults(schema: Json) -> Iterator[str]:
    if not isinstance(schema, dict):
        yield "its schema must be an object"
        return
    if (malformed := find_malformed(schema)) is not None:
        yield f"its schema is not JSON that can be used ({malformed.message.rstrip('.')})"
        return
    if schema.get("$schema", _DIALECT) != _DIALECT:
        yield f"its schema must be of the dialect {_DIALECT}"
        return
    try:
        jsonschema_rs.meta.validate(schema)
    except (jsonschema_rs.ValidationError, ValueError) as error:
        yield f"its schema is no JSON Schema ({str(getattr(error, 'message', error)).splitlines()[0]})"
        return
    found = list(_walk(schema, schema, "", annotations_count=True))
    yield from found
    if schema.get("type") != "object":
        yield 'its schema must have `"type": "object"`, for a config is one'
    if schema.get("additionalProperties") is not False and schema.get("unevaluatedProperties") is not False:
        yield 'its schema must have `"additionalProperties": false`, so that misspelt keys are told'
    for key, member in schema.get("properties", {}).items():
        if isinstance(member, Mapping) and not member.get("description"):
            yield f"the key `{key}` of its schema has no description"
    if not found:
        yield from _compiles(schema)


def _compiles(schema: Json) -> Iterator[str]:
    try:
        ConfigValidator(schema)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        yield f"its schema can't be compiled ({str(error).splitlines()[0]})"


def _walk(schema: Json, document: Json, place: str, *, annotations_count: bool) -> Iterator[str]:
    """Yield the faults of a subschema and of those below it."""
    if not isinstance(schema, dict):
        return
    at = f"#{place}"
    for keyword in _UNKNOWN:
        if keyword in schema:
            yield f"its schema uses `{keyword}` at {at}, which is not supported: use a `$ref` of the form #/$defs/name"
    reference = schema.get("$ref")
    if reference is not None and resolve(reference, document) is None:
        yield f"its schema refers to {reference!r} at {at}, where only places of the schema itself can be referred to"
    if str(schema.get("format", "")).startswith("gorax-") and schema["format"] not in FORMATS:
        yield f"its schema has the unknown format {schema['format']!r} at {at}; known are {', '.join(sorted(FORMATS))}"
    yield from _annotation_faults(schema, at, annotations_count=annotations_count)
    for keyword, looked_at in _BY_NAME.items():
        for name, inner in schema.get(keyword, {}).items():
            counts = annotations_count and looked_at
            yield from _walk(inner, document, f"{place}/{keyword}/{name}", annotations_count=counts)
    for keyword, looked_at in _IN_LIST.items():
        for number, inner in enumerate(schema.get(keyword, ())):
            counts = annotations_count and looked_at
            yield from _walk(inner, document, f"{place}/{keyword}/{number}", annotations_count=counts)
    for keyword, looked_at in _ALONE.items():
        if keyword in schema:
            counts = annotations_count and looked_at
            yield from _walk(schema[keyword], document, f"{place}/{keyword}", annotations_count=counts)


def _annotation_faults(schema: Mapping[str, Json], at: str, *, annotations_count: bool) -> Iterator[str]:
    for key, value in schema.items():
        match key:
            case "x-gorax":
                sound = isinstance(value, str) and value in ANNOTATIONS
                wanted = f"one of {', '.join(sorted(ANNOTATIONS))}"
            case "x-gorax-secrets":
                sound, wanted = isinstance(value, bool), "true or false"
            case "x-gorax-locals":
                sound = isinstance(value, list) and all(
                    isinstance(name, str) and _IDENTIFIER.fullmatch(name) is not None for name in value
                )
                wanted = "a list of names"
            case "x-gorax-aliases":
                words = schema.get("enum", ())
                sound = isinstance(value, dict) and all(
                    word in words and alias not in words for alias, word in value.items()
                )
                wanted = "an object of other words for those of its `enum`"
            case "x-gorax-message":
                sound, wanted = isinstance(value, str) and bool(value), "a sentence"
            case _ if key.startswith("x-gorax"):
                yield f"its schema has the unknown annotation `{key}` at {at}"
                continue
            case _:
                continue
        if not sound:
            yield f"its schema has a `{key}` at {at} that is not {wanted}"
        elif not annotations_count and key != "x-gorax-message":
            yield f"its schema has a `{key}` at {at}, where it has no effect"
