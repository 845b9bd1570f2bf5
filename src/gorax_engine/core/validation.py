"""Checking a node's config against its type's JSON Schema: every fault, each with a sentence that says the mend.

A string that is a template may become any type when it is rendered, so no check of the schema applies to it here;
nodes check again what they get. A schema may carry `x-gorax-message`, a sentence that replaces the generated one, and
the formats `gorax-duration`, `gorax-instant` and `gorax-regex`.
"""

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import jsonschema_rs
import re2
from jsonschema_rs import ValidationError, ValidationErrorKind

from gorax_engine.core.durations import parse_duration
from gorax_engine.core.instants import parse_instant
from gorax_engine.core.model import Json
from gorax_engine.core.schemas import Path, Place

_DURATION: Final = 'A duration is a number of seconds, or text such as "1h30m" or "PT1H30M".'
_INSTANT: Final = "A moment is written with its date, time and offset, such as 2030-01-31T09:00:00Z."

_TYPE_WORDS: Final[Mapping[str, str]] = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "null": "null",
    "number": "a number",
    "object": "an object",
    "string": "text",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a config: where it is within the config, a sentence, and the unknown key if it is about one."""

    path: Path
    message: str
    unknown_key: str | None = None
    known_keys: tuple[str, ...] = ()


class ConfigValidator:
    """A compiled JSON Schema of a config."""

    def __init__(self, schema: Mapping[str, Json]) -> None:
        self._schema = schema
        self._validator = jsonschema_rs.Draft202012Validator(
            dict(schema),
            formats={"gorax-duration": _is_duration, "gorax-instant": _is_instant, "gorax-regex": _is_regex},
            validate_formats=True,
            pattern_options=jsonschema_rs.RegexOptions(),
        )

    def faults(self, config: Json, templates: Collection[Path]) -> Iterator[Fault]:
        """Yield the faults of `config`; `templates` are the paths of its strings that are rendered first."""
        for error in self._validator.iter_errors(config):
            if not _is_exempt(error, templates):
                yield from self._explain(error, config)

    def _explain(self, error: ValidationError, config: Json) -> Iterator[Fault]:
        error = _closest(error)
        path = tuple(error.instance_path)
        kind = error.kind
        if isinstance(kind, ValidationErrorKind.AdditionalProperties | ValidationErrorKind.UnevaluatedProperties):
            for key in kind.unexpected:
                yield Fault((*path, key), "", unknown_key=key, known_keys=self._known_keys(path, config))
            return
        yield Fault(path, self._own_message(error) or _message(error))

    def _known_keys(self, path: Path, config: Json) -> tuple[str, ...]:
        place, value = Place.root(self._schema), config
        for token in path:
            here = place.at(value)
            place = here.item(token) if isinstance(token, int) else here.member(token)
            value = value[token]
        return place.at(value).keys()

    def _own_message(self, error: ValidationError) -> str | None:
        schema: Json = self._schema
        message: str | None = schema.get("x-gorax-message")
        for token in error.schema_path[:-1]:  # the last one is the keyword that failed
            schema = schema[token]
            message = schema.get("x-gorax-message") if isinstance(schema, Mapping) else None
        return message


def nearest(word: str, known: Collection[str]) -> tuple[str, ...]:
    """Return up to three of the `known` words that resemble `word` most, best first."""
    return tuple(difflib.get_close_matches(word[:255].lower(), sorted(known), n=3, cutoff=0.55))


def _is_duration(text: str) -> bool:
    try:
        parse_duration(text)
    except ValueError:
        return False
    return True


def _is_instant(text: str) -> bool:
    try:
        parse_instant(text)
    except ValueError:
        return False
    return True


def _is_regex(text: str) -> bool:
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(text, options)
    except re2.error:
        return False
    return True


def _is_exempt(error: ValidationError, templates: Collection[Path]) -> bool:
    """Say whether the error is only about values that are templates still."""
    if tuple(error.instance_path) in templates:
        return True
    kind = error.kind
    if isinstance(kind, ValidationErrorKind.AnyOf | ValidationErrorKind.OneOfNotValid):
        return any(branch and all(_is_exempt(inner, templates) for inner in branch) for branch in kind.context)
    return False


def _message(error: ValidationError) -> str:
    kind = error.kind
    match kind:
        case ValidationErrorKind.Required():
            return f"`{kind.property}` is missing: add it."
        case ValidationErrorKind.Type():
            return f"This must be {_listed(_type_names(kind))}, but it is {_shown(error.instance)}."
        case ValidationErrorKind.Enum():
            return f"This must be one of {_listed([_shown(option) for option in kind.options])}."
        case ValidationErrorKind.Format():
            return _format_message(kind.format)
        case ValidationErrorKind.AnyOf() | ValidationErrorKind.OneOfNotValid():
            missing = [f"`{name}`" for name in _alternatives(kind.context)]
            return (
                f"One of {_listed(missing)} is needed: add it." if missing else "This fits none of the accepted forms."
            )
        case _:
            return f"{error.message[:300]}."


def _closest(error: ValidationError) -> ValidationError:
    """Return, for a value that fits none of several subschemas, the fault deepest inside it: that is the likely one."""
    kind = error.kind
    if not isinstance(kind, ValidationErrorKind.AnyOf | ValidationErrorKind.OneOfNotValid):
        return error
    branches = [branch for branch in kind.context if branch]
    if not branches or _alternatives(kind.context):
        return error
    return _closest(max(branches, key=lambda branch: max(len(inner.instance_path) for inner in branch))[0])


def _alternatives(branches: Sequence[Sequence[ValidationError]]) -> list[str]:
    """Return the keys one of which is needed, if that is all that the subschemas say."""
    kinds = [branch[0].kind if len(branch) == 1 else None for branch in branches]
    required = [kind.property for kind in kinds if isinstance(kind, ValidationErrorKind.Required)]
    return required if len(required) == len(kinds) else []


def _type_names(kind: Json) -> list[str]:
    return [_TYPE_WORDS.get(name, name) for name in kind.types]


def _format_message(name: str) -> str:
    match name:
        case "gorax-duration":
            return _DURATION
        case "gorax-instant":
            return _INSTANT
        case "gorax-regex":
            return "This pattern can't be read as RE2: correct it."
        case _:
            return f"This must have the format {name}."


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _shown(value: Json) -> str:
    match value:
        case dict():
            return "an object"
        case list():
            return "a list"
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return f'"{value}"' if len(value) <= 60 else f'"{value[:60]}…"'
        case _:
            text = repr(value)
            return text if len(text) <= 60 else "a very long number"
