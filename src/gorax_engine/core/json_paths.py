"""Paths into a webhook request: which values of it are meant, found at a counted cost.

- `$.order.items[0].sku`: JSONPath over the body; `order.items[0].sku` is the same. Fields, indices, slices, `*`, unions
  of fields or of indices, and one `..`. No filters, no arithmetic, no parent: what is left costs at most one visit of
  each node for each step.
- `headers.<name>` (in any case), `query.<name>` and `method`: the rest of the request.

jsonpath-ng is the grammar: it parses, which takes some 0.3 ms, so that compiled paths are kept. The walk is our own:
jsonpath-ng's `find` wraps each node that it meets in objects, can't be stopped (`$..*` over 1 MiB takes seconds), and
takes 4 µs for what a few lookups do in a tenth of that. A test holds that both find the same.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from jsonpath_ng.exceptions import JSONPathError
from jsonpath_ng.jsonpath import Child, Descendants, Fields, Index, JSONPath, Root, Slice, Wildcard
from jsonpath_ng.lexer import JsonPathLexer
from jsonpath_ng.parser import parse

from gorax_engine.core.model import Json

MAX_CHARACTERS: Final = 255
MAX_STEPS: Final = 32
WORK: Final = 50_000
"""Units that looking for values and at them may cost: of a path with a choice, about one for each node that is met."""

_REQUEST: Final = re.compile(r"(headers|query|method)(?![\w-])")
_MISSING: Final = object()
_OPERATORS: Final = frozenset({"(", ")", "|", "&", "~", "NAMED_OPERATOR", "WHERE", "WHERENOT"})

_Selector: TypeAlias = Callable[[Json], list[Json]]


class BadPath(ValueError):
    """The path can't be read, or means more than is allowed; the message is a sentence that says why."""


class TooMuchWork(Exception):
    """A budget is spent."""


class Budget:
    """What may still be spent, in units of work."""

    __slots__ = ("_left",)

    def __init__(self, units: int = WORK) -> None:
        self._left = units

    def spend(self, units: int) -> None:
        """Take `units` off; raises TooMuchWork if there are fewer."""
        self._left -= units
        if self._left < 0:
            raise TooMuchWork


@dataclass(frozen=True, slots=True)
class Path:
    """A compiled path: its fields and indices, if it can lead to one value only, and its steps."""

    _keys: tuple[str | int, ...] | None
    _steps: tuple[_Selector | None, ...]

    def find(self, request: dict[str, Json], budget: Budget) -> Iterator[Json]:
        """Return the values in the order of the document, each once. The iterator raises TooMuchWork.

        `request` is the trigger data of a webhook: an object with `method`, `headers`, `query` and `body`. A missing
        field has no value; null is one.
        """
        if self._keys is None:
            return self._search(request, budget)
        value = _value_at(self._keys, request)
        return iter(() if value is _MISSING else (value,))

    def _search(self, request: dict[str, Json], budget: Budget) -> Iterator[Json]:
        stack: list[tuple[Json, int]] = [(request, 0)]
        while stack:
            node, at = stack.pop()
            if at == len(self._steps):
                yield node
                continue
            select = self._steps[at]
            chosen = _children(node) if select is None else select(node)
            budget.spend(1 + len(chosen))
            # The last one is the first to be popped.
            after = at if select is None else at + 1
            stack.extend((child, after) for child in reversed(chosen))
            if select is None:
                stack.append((node, at + 1))


@lru_cache(maxsize=4096)
def compile_path(text: str) -> Path:
    """Read a path of at most MAX_CHARACTERS and MAX_STEPS. Raises BadPath."""
    if len(text) > MAX_CHARACTERS:
        raise BadPath(f"The path has more than {MAX_CHARACTERS} characters.")
    if _REQUEST.match(text):
        return _of_fields(_request_part(text))
    parts = _parse(text)
    if len(parts) > MAX_STEPS:
        raise BadPath(f"The path has more than {MAX_STEPS} steps.")
    if parts.count(None) > 1:
        raise BadPath("The path has more than one `..`, which could match without end.")
    keys = [_single(part) for part in parts]
    steps = (_fields(("body",)), *(None if part is None else _selector(part) for part in parts))
    return Path(("body", *(key for key in keys if key is not None)) if None not in keys else None, steps)


def _value_at(keys: tuple[str | int, ...], request: dict[str, Json]) -> Json:
    node: Json = request
    for key in keys:
        if type(node) is dict:
            node = node.get(key, _MISSING)
        elif type(node) is list and type(key) is int and -len(node) <= key < len(node):
            node = node[key]
        else:
            return _MISSING
    return node


def _of_fields(names: tuple[str, ...]) -> Path:
    return Path(names, tuple(_fields((name,)) for name in names))


def _request_part(text: str) -> tuple[str, ...]:
    root, dot, name = text.partition(".")
    if root == "method" and not dot:
        return (root,)
    if root == "headers" and name:
        return root, name.lower()
    if root == "query" and name:
        return root, name
    raise BadPath(
        "Beside the body, there are `headers.<name>`, `query.<name>` and `method`; begin the body's with `$.`."
    )


def _parse(text: str) -> list[JSONPath | None]:
    """Return the steps of a path over the body; None is a `..`."""
    try:
        operators = _OPERATORS.intersection(token.type for token in JsonPathLexer().tokenize(text))
        if operators:
            raise BadPath(
                "The path may have fields, indices, slices, `*` and one `..`; quote other names, as in `['a name']`."
            )
        tree = parse(text)
    except JSONPathError as error:
        raise BadPath(f"The path can't be read: {str(error).strip().rstrip('.!')}.") from None
    parts: list[JSONPath | None] = []
    stack: list[JSONPath | None] = [tree]
    while stack:
        part = stack.pop()
        if isinstance(part, Child):
            stack += (part.right, part.left)
        elif isinstance(part, Descendants):
            stack += (part.right, None, part.left)
        else:
            parts.append(part)
    if isinstance(parts[0], Root):
        del parts[0]
    return parts


def _single(part: JSONPath | None) -> str | int | None:
    match part:
        case Fields(fields=(name,)):
            return str(name)
        case Index(indices=(index,)):
            return int(index)
        case _:
            return None


def _selector(part: JSONPath) -> _Selector:
    match part:
        case Fields(fields=names):
            return _fields(tuple(dict.fromkeys(names)))
        case Index(indices=indices):
            return _elements(tuple(indices))
        case Slice(step=0):
            raise BadPath("The step of a slice must not be 0.")
        case Slice(start=start, end=end, step=step):
            span = slice(start, end, step)
            return lambda node: node[span] if type(node) is list else []
        case Wildcard():
            return _children
        case Root():
            raise BadPath("`$` may only stand at the beginning of the path.")
        case _:
            raise BadPath("The path may have fields, indices, slices, `*` and one `..` only.")


def _fields(names: tuple[str, ...]) -> _Selector:
    return lambda node: [node[name] for name in names if name in node] if type(node) is dict else []


def _elements(indices: tuple[int, ...]) -> _Selector:
    def select(node: Json) -> list[Json]:
        if type(node) is not list:
            return []
        size = len(node)
        # 0 and -1 may be one place: met twice at each of many steps, they would double the work at each.
        return [node[at] for at in dict.fromkeys(index % size for index in indices if -size <= index < size)]

    return select


def _children(node: Json) -> list[Json]:
    if type(node) is list:
        return node
    return list(node.values()) if type(node) is dict else []
