"""Compiled member access: quick closures for static paths, general ones for everything else."""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from gorax_engine.core.expressions.errors import MISSING_PATH, ExpressionError, type_error
from gorax_engine.core.expressions.paths import (
    credential_value,
    descend,
    lookup,
    missing,
    step_output,
    tolerates,
    wrong_key,
)
from gorax_engine.core.expressions.scope import Scope
from gorax_engine.core.expressions.values import described
from gorax_engine.core.model import Json

Evaluator: TypeAlias = Callable[[Scope, Any], Json]
"""A compiled node: scope and frame (the slots of `let` variables and of `#`) to value."""

Step: TypeAlias = Callable[[Any, Scope, Any], Json]
"""A compiled part of a path: value, scope and frame to the value below."""

_ABSENT: Final = (LookupError, TypeError)


def path(root: str, keys: Sequence[str | int], guarded: bool) -> Evaluator:
    """The value at a static path of a root. `guarded`: absence is an error whatever the scope says."""

    def slow(scope: Scope) -> Json:
        try:
            return lookup(scope, root, keys)
        except ExpressionError as error:
            if guarded or not tolerates(scope, error):
                raise
            return None

    if not keys:
        return _whole(root, slow)
    if root == "credentials" and len(keys) == 1:
        return lambda scope, frame: slow(scope)
    if root == "trigger" and type(keys[0]) is str:
        return _trigger_path(keys[0], tuple(keys[1:]), slow)
    if root == "steps" and len(keys) > 1 and keys[1] == "output":
        return _output_path(keys[0], tuple(keys[2:]), slow)
    return _plain_path(root, tuple(keys), slow)


def _whole(root: str, slow: Callable[[Scope], Json]) -> Evaluator:
    def run(scope: Scope, frame: Any) -> Json:
        value = scope.roots[root] if root in scope.roots else slow(scope)
        # A root may be any mapping; a value is always a dict.
        return dict(value) if root == "steps" and type(value) is not dict else value

    return run


def _plain_path(root: str, keys: tuple[str | int, ...], slow: Callable[[Scope], Json]) -> Evaluator:
    if len(keys) == 1:
        (only,) = keys

        def run_one(scope: Scope, frame: Any) -> Json:
            try:
                return scope.roots[root][only]
            except _ABSENT:
                return slow(scope)

        return run_one
    if len(keys) == 2:
        first, second = keys

        def run_two(scope: Scope, frame: Any) -> Json:
            try:
                return scope.roots[root][first][second]
            except _ABSENT:
                return slow(scope)

        return run_two
    if len(keys) == 3:
        first, second, third = keys

        def run_three(scope: Scope, frame: Any) -> Json:
            try:
                return scope.roots[root][first][second][third]
            except _ABSENT:
                return slow(scope)

        return run_three

    def run(scope: Scope, frame: Any) -> Json:
        try:
            value = scope.roots[root]
            for key in keys:
                value = value[key]
            return value
        except _ABSENT:
            return slow(scope)

    return run


def _trigger_path(first: str | int, keys: tuple[str | int, ...], slow: Callable[[Scope], Json]) -> Evaluator:
    def run(scope: Scope, frame: Any) -> Json:
        try:
            value = scope.roots["trigger"]
            value = value[first] if first in value else value["body"][first]
            for key in keys:
                value = value[key]
            return value
        except _ABSENT:
            return slow(scope)

    return run


def _output_path(step: str | int, keys: tuple[str | int, ...], slow: Callable[[Scope], Json]) -> Evaluator:
    def run(scope: Scope, frame: Any) -> Json:
        try:
            value = step_output(scope.roots["steps"][step])
            for key in keys:
                value = value[key]
            return value
        except _ABSENT:
            return slow(scope)

    return run


def soft_path(root: str, keys: Sequence[str | int]) -> Evaluator:
    """A static path on the left of `??`: null where it is absent, with no error built on the way."""
    strict = path(root, keys, guarded=True)

    def slow(scope: Scope, frame: Any) -> Json:
        try:
            return strict(scope, frame)
        except ExpressionError as error:
            if error.code != MISSING_PATH:
                raise
            return None

    by_rule = root in ("trigger", "credentials") or (root == "steps" and len(keys) > 1 and keys[1] == "output")
    if (by_rule and not (root == "trigger" and keys)) or any(type(key) is not str for key in keys):
        return slow

    def run(scope: Scope, frame: Any) -> Json:
        value = scope.roots.get(root)
        if root == "trigger" and type(value) is dict and keys[0] not in value and type(value.get("body")) is dict:
            value = value["body"]
        for key in keys:
            if type(value) is not dict:
                return None if value is None else slow(scope, frame)
            value = value.get(key)
        return value

    return run


def key_step(key: str | int, text: str) -> Step:
    """`.key` of a computed value; `text` names the value in messages."""

    def step(value: Any, scope: Scope, frame: Any) -> Json:
        return _down(value, key, text)

    return step


def index_step(index: Evaluator, text: str, trigger: bool) -> Step:
    """`[index]`; on the `trigger` root itself the body stands in for absent keys."""

    def step(value: Any, scope: Scope, frame: Any) -> Json:
        key = index(scope, frame)
        if trigger and type(value) is dict and type(key) is str and key not in value:
            body = value.get("body")
            if type(body) is dict and key in body:
                return body[key]
        return _down(value, key, text)

    return step


def _down(value: Any, key: Json, text: str) -> Json:
    try:
        return descend(value, key)
    except LookupError:
        shown = f"{text}.{key}" if type(key) is str else f"{text}[{key}]"
        raise missing(shown[:200], text, value, key) from None
    except TypeError:
        raise wrong_key(text, value, key) from None


def output_step(text: str) -> Step:
    """`.output` directly after a step id."""
    return lambda value, scope, frame: step_output(value)


def credential_step(value: Any, scope: Scope, frame: Any) -> Json:
    """A credential named without a field."""
    return credential_value(value, "credentials[…]")


def slice_step(start: Evaluator | None, stop: Evaluator | None, text: str) -> Step:
    """`[start:stop]` of a list or a string; bounds outside are cut, negative ones count from the end."""

    def bound(evaluate: Evaluator | None, scope: Scope, frame: Any) -> int | None:
        if evaluate is None:
            return None
        value = evaluate(scope, frame)
        if type(value) is not int:
            raise type_error(f"The bounds of a slice must be integers, not {described(value)}.")
        return value

    def step(value: Any, scope: Scope, frame: Any) -> Json:
        low, high = bound(start, scope, frame), bound(stop, scope, frame)
        if type(value) is list:
            result = value[low:high]
            scope.spend(len(result))
            return result
        if type(value) is str:
            scope.spend(len(value) >> 6)
            return value[low:high]
        if value is None:
            raise ExpressionError(MISSING_PATH, f"`{text}` is null and can't be sliced.", text)
        raise type_error(f"`{text}` is {described(value)} and can't be sliced.")

    return step


def walk(base: Evaluator, head: Sequence[Step], tail: Sequence[Step], optional: bool, guarded: bool) -> Evaluator:
    """A base and the parts taken from it. With `optional`, anything absent up to the end of `head` gives null."""

    def run(scope: Scope, frame: Any) -> Json:
        try:
            value = base(scope, frame)
            for step in head:
                value = step(value, scope, frame)
        except ExpressionError as error:
            if error.code == MISSING_PATH and (optional or (not guarded and tolerates(scope, error))):
                return None
            raise
        try:
            for step in tail:
                value = step(value, scope, frame)
        except ExpressionError as error:
            if guarded or not tolerates(scope, error):
                raise
            return None
        return value

    return run
