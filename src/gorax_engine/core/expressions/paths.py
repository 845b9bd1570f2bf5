"""Walking down JSON values: what is there, what is absent, and how to say so."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

from gorax_engine.core.expressions.errors import MISSING_PATH, ExpressionError, type_error
from gorax_engine.core.expressions.scope import Scope
from gorax_engine.core.expressions.values import described
from gorax_engine.core.model import Json, Missing

CREDENTIALS: Final = "credentials"
"""The root of credentials: an object of fields for each name."""

_SECRET_FIELDS: Final = ("api_key", "token", "secret", "key", "password")
_SHOWN_KEYS: Final = 20
_SHOWN_CHARACTERS: Final = 60
_SHOWN_TOTAL: Final = 400


def path_text(root: str, keys: Sequence[str | int]) -> str:
    """A path as a user writes it, cut to a sensible length."""
    text = root
    for key in keys:
        text += f".{key}" if type(key) is str and _plain(key) else f"[{_quoted(key)}]"
    return text if len(text) <= 200 else text[:199] + "…"


def _plain(key: str) -> bool:
    return len(key) <= _SHOWN_CHARACTERS and all(part.isidentifier() for part in key.split("-"))


def _quoted(key: str | int) -> str:
    if type(key) is int:
        return str(key)
    text = str(key)
    return '"' + (text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…") + '"'


def known_keys(keys: Sequence[str]) -> str:
    """The keys that exist, for a message of bounded length."""
    if not keys:
        return "has no keys"
    names: list[str] = []
    room = _SHOWN_TOTAL
    for key in sorted(keys)[:_SHOWN_KEYS]:
        room -= min(len(key), _SHOWN_CHARACTERS) + 4
        if names and room < 0:
            break
        names.append(f"`{key[:_SHOWN_CHARACTERS]}`")
    more = f" and {len(keys) - len(names)} more" if len(keys) > len(names) else ""
    return f"has the keys {', '.join(names)}{more}" if len(keys) > 1 else f"has only the key {names[0]}"


def missing(path: str, container: str, value: Any, key: Json) -> ExpressionError:
    """`path` is absent from `value`, which is called `container`."""
    if value is None:
        reason = f"`{container}` is null"
    elif type(value) is list:
        count = len(value)
        reason = f"`{container}` has {count} item{'s' if count != 1 else ''}"
    elif type(value) is str:
        reason = f"`{container}` has {len(value)} characters"
    else:
        reason = f"`{container}` {known_keys(list(value))}"
    return ExpressionError(MISSING_PATH, f"`{path}` does not exist: {reason}.", path)


def wrong_key(container: str, value: Any, key: Json) -> ExpressionError:
    """`key` is of a type that can't be looked up in `value`."""
    what = f"key {_quoted(key)}" if type(key) is str else f"index {key}" if type(key) is int else described(key)
    return type_error(f"`{container}` is {described(value)}; {what} can't be looked up in it.")


def descend(value: Any, key: Json) -> Json:
    """One step down. Raises LookupError if it is absent, TypeError if the key can't belong to the value."""
    kind = type(value)
    if kind is dict:
        if type(key) is str:
            return value[key]
        raise TypeError
    if kind is list or kind is str:
        if type(key) is int:
            return value[key]
        raise TypeError
    if value is None:
        raise LookupError
    if isinstance(value, Mapping) and type(key) is str:
        return value[key]
    raise TypeError


def lookup(scope: Scope, root: str, keys: Sequence[str | int]) -> Json:
    """The value at a path of a root, with the rules of `trigger`, `steps` and `credentials`.

    Raises ExpressionError `missing_path` or `type_error`. This is the slow and complete way; compiled paths come here
    when their quick way did not find the value.
    """
    roots = scope.roots
    if root not in roots:
        raise ExpressionError(MISSING_PATH, f"`{root}` does not exist: there {_known_names(roots)}.", root)
    value = roots[root]
    at = 0
    count = len(keys)
    while at < count:
        key = keys[at]
        try:
            value = descend(value, key)
        except TypeError:
            raise wrong_key(path_text(root, keys[:at]), value, key) from None
        except LookupError:
            if at == 0 and root == "trigger":
                body = value.get("body") if isinstance(value, Mapping) else None
                if type(body) is dict and type(key) is str and key in body:
                    value = body[key]
                    at += 1
                    continue
            _absent(scope, root, keys[: at + 1], value)
        at += 1
        if at == 1 and root == "steps" and count > 1 and keys[1] == "output":
            value = step_output(value)
            at += 1
    if root == CREDENTIALS and count == 1:
        return credential_value(value, path_text(root, keys))
    return value


def _known_names(roots: Mapping[str, Json]) -> str:
    return (
        "are " + ", ".join(f"`{name}`" for name in sorted(roots)[:_SHOWN_KEYS]) if roots else "is nothing to refer to"
    )


def _absent(scope: Scope, root: str, keys: Sequence[str | int], value: Any) -> NoReturn:
    path = path_text(root, keys)
    if root == "steps" and len(keys) == 1:
        if keys[0] in scope.skipped:
            raise ExpressionError(MISSING_PATH, f"`{path}` does not exist: the step was skipped.", path)
        ended = f"; `steps` {known_keys(list(value))}" if value else ""
        raise ExpressionError(MISSING_PATH, f"`{path}` does not exist: the step has no output here{ended}.", path)
    if root == "trigger" and len(keys) == 1 and isinstance(value, Mapping) and type(value.get("body")) is dict:
        body = known_keys(list(value["body"]))
        text = f"`{path}` does not exist: `trigger` {known_keys(list(value))}, and `trigger.body` {body}."
        raise ExpressionError(MISSING_PATH, text, path)
    raise missing(path, path_text(root, keys[:-1]), value, keys[-1])


def step_output(value: Json) -> Json:
    """What `.output` directly after a step id means: the key of that name if there is one, else the output itself."""
    return value["output"] if type(value) is dict and "output" in value else value


def credential_value(value: Json, text: str) -> Json:
    """What a credential named without a field means: the first of the usual secret fields.

    Raises ExpressionError if it has none of them; `text` is the path in the message.
    """
    if type(value) is not dict:
        return value
    for field in _SECRET_FIELDS:
        if field in value:
            return value[field]
    raise type_error(f"`{text}` has none of the fields {', '.join(_SECRET_FIELDS)}: name one, as in `{text}.field`.")


def whole_credential(scope: Scope, name: str) -> Json:
    """The credential called `name` with all its fields. Raises ExpressionError if it is not at hand."""
    try:
        return scope.roots[CREDENTIALS][name]
    except LookupError:
        path = path_text(CREDENTIALS, (name,))
        raise ExpressionError(MISSING_PATH, f"`{path}` does not exist.", path) from None


def tolerates(scope: Scope, error: ExpressionError) -> bool:
    """Whether a failed look-up becomes null here."""
    return scope.missing is Missing.NULL and error.code == MISSING_PATH
