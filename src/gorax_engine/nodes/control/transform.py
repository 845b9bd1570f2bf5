"""The node type `transform`: builds a value from others, or filters, sorts, groups and maps a list.

Without `source` and `default` the mapping is rendered before the node sees it, so that `input_data` shows the values.
With them it arrives as bound expressions: they are evaluated per item, and a missing path may become the default.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from gorax_engine.nodes.api import (
    BoundExpression,
    Completed,
    ExpressionError,
    Failed,
    Json,
    NodeContext,
    NodeKind,
    NodeSpec,
    Outcome,
    StepError,
)
from gorax_engine.nodes.control.aggregate import AGGREGATES
from gorax_engine.nodes.control.values import identity, kind_of, type_error

MAX_ITEMS: Final = 100_000
"""The longest list that one step works on: it is done inline, between the steps of other runs."""

_MISSING: Final = "missing_path"


def _tree(annotation: str) -> Json:
    """Return the schema of a mapping: objects and lists to any depth whose strings carry `annotation`."""
    return {
        "anyOf": [
            {"type": "string", "x-gorax": annotation},
            {"type": "object", "additionalProperties": {"$ref": f"#/$defs/{annotation}_tree"}},
            {"type": "array", "items": {"$ref": f"#/$defs/{annotation}_tree"}},
            {"type": ["number", "boolean", "null"]},
        ]
    }


_PER_ITEM: Final[Json] = {"x-gorax-locals": ["item", "index"]}
_EXPRESSION: Final[Json] = {"type": "string", "x-gorax": "expression", "minLength": 1}
_ITEM_EXPRESSION: Final[Json] = {**_EXPRESSION, **_PER_ITEM}

_AGGREGATE: Final[Json] = {
    "type": "object",
    "properties": {
        "op": {"enum": list(AGGREGATES), "x-gorax": "literal", "description": "What is computed."},
        "of": {**_ITEM_EXPRESSION, "description": "An expression over `item`; the item itself if it is left out."},
    },
    "required": ["op"],
    "additionalProperties": False,
}

_SORT: Final[Json] = {
    "type": "object",
    "properties": {
        "by": {**_ITEM_EXPRESSION, "description": "An expression over `item`: numbers or text; null comes last."},
        "order": {"enum": ["asc", "desc"], "x-gorax": "literal", "default": "asc", "description": "The direction."},
    },
    "required": ["by"],
    "additionalProperties": False,
}

_LIST_KEYS: Final = ("filter", "dedupe", "sort", "group", "aggregate", "limit")

_SCHEMA: Final[Json] = {
    "type": "object",
    "properties": {
        "mapping": {"description": "The output: an object (nesting allowed) of paths or templates by target."},
        "expression": {
            **_EXPRESSION,
            "description": "The output as one expression; not used when there is a `mapping` or a `source`.",
        },
        "default": {"description": "The value where a path of the mapping or the expression is missing."},
        "source": {
            "type": ["string", "array"],
            "x-gorax": "path",
            "description": "The list to work on; what follows is done in this order, and `mapping` then per item.",
        },
        "filter": {**_ITEM_EXPRESSION, "description": "A condition over `item`: the items that stay."},
        "dedupe": {**_ITEM_EXPRESSION, "description": "An expression over `item`: the first item of each value stays."},
        "sort": {"type": "array", "items": _SORT, "minItems": 1, "description": "Sort keys, the first weighs most."},
        "group": {
            "type": "object",
            "properties": {"by": {**_ITEM_EXPRESSION, "description": "An expression over `item`: the group's key."}},
            "required": ["by"],
            "additionalProperties": False,
            "description": "Makes groups {key, items}, or {key, ...} with the aggregates, by first appearance.",
        },
        "aggregate": {
            "type": "object",
            "additionalProperties": _AGGREGATE,
            "minProperties": 1,
            "description": "Values by name over each group, or over the whole list: then the result is one object.",
        },
        "limit": {"type": "integer", "minimum": 0, "description": "How many items stay."},
    },
    "anyOf": [{"required": ["mapping"]}, {"required": ["expression"]}, {"required": ["source"]}],
    "dependentRequired": {key: ["source"] for key in _LIST_KEYS},
    "if": {"required": ["source"]},
    "then": {"properties": {"mapping": {"$ref": "#/$defs/bound_path_tree", **_PER_ITEM}}},
    "else": {
        "if": {"required": ["default"]},
        "then": {"properties": {"mapping": {"$ref": "#/$defs/bound_path_tree"}}},
        "else": {"properties": {"mapping": {"$ref": "#/$defs/path_tree"}}},
    },
    "additionalProperties": False,
    "$defs": {"bound_path_tree": _tree("bound_path"), "path_tree": _tree("path")},
}


class Transform:
    """Builds a value from others, or works on a list."""

    spec: Final = NodeSpec(
        name="transform",
        kind=NodeKind.PURE,
        aliases=("action:transform",),
        title="Transform",
        description="Builds a value from others, or filters, sorts, groups and maps a list.",
        schema=_SCHEMA,
    )

    def evaluate(self, config: Mapping[str, Json], context: NodeContext) -> Outcome:
        if "source" not in config and "default" not in config and "mapping" in config:
            return Completed(config["mapping"])
        try:
            return Completed(_transform(config))
        except _WrongType as fault:
            return fault.failure


class _WrongType(Exception):
    def __init__(self, failure: Failed) -> None:
        super().__init__()
        self.failure = failure


def _transform(config: Mapping[str, Json]) -> Json:
    if "source" in config:
        return _transform_list(config)
    return _build(config["mapping"] if "mapping" in config else config["expression"], {}, config)


def _build(tree: Json, names: Mapping[str, Json], config: Mapping[str, Json]) -> Json:
    """Evaluate the bound expressions of a mapping; a missing path becomes the default if the config has one."""
    match tree:
        case BoundExpression():
            if "default" not in config:
                return tree.evaluate(names)
            try:
                value = tree.evaluate(names)
            except ExpressionError as error:
                if error.code != _MISSING:
                    raise
                value = None
            return config["default"] if value is None else value
        case dict():
            return {key: _build(member, names, config) for key, member in tree.items()}
        case list():
            return [_build(member, names, config) for member in tree]
        case _:
            return tree


def _transform_list(config: Mapping[str, Json]) -> Json:
    items = _source(config["source"])
    if "filter" in config:
        items = _filter(items, config["filter"])
    if "dedupe" in config:
        items = _dedupe(items, config["dedupe"])
    for key in reversed(config.get("sort", ())):
        items = _sort(items, key["by"], descending=key.get("order", "asc") == "desc")
    if "group" in config:
        items = _group(items, config["group"]["by"], config.get("aggregate"))
    elif "aggregate" in config:
        whole = _aggregate(items, config["aggregate"])
        return _build(config["mapping"], {"item": whole, "index": 0}, config) if "mapping" in config else whole
    if "limit" in config:
        items = items[: _limit(config["limit"])]
    if "mapping" in config:
        return [_build(config["mapping"], names, config) for names in _names(items)]
    return list(items)


def _names(items: Sequence[Json]) -> list[Mapping[str, Json]]:
    return [{"item": item, "index": index} for index, item in enumerate(items)]


def _source(source: Json) -> list[Json]:
    if not isinstance(source, list):
        raise _WrongType(type_error("source", "a list", source))
    if len(source) > MAX_ITEMS:
        message = f"`source` has {len(source)} items; a transform works on {MAX_ITEMS} at most: use a loop."
        raise _WrongType(Failed(StepError("limit_exceeded", message)))
    return source


def _limit(limit: Json) -> int:
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise _WrongType(type_error("limit", "a whole number from 0", limit))
    return limit


def _filter(items: Sequence[Json], condition: BoundExpression) -> list[Json]:
    kept = []
    for names in _names(items):
        holds = condition.evaluate(names)
        if not isinstance(holds, bool):
            raise _WrongType(type_error("filter", "true or false", holds))
        if holds:
            kept.append(names["item"])
    return kept


def _dedupe(items: Sequence[Json], by: BoundExpression) -> list[Json]:
    first: dict[object, Json] = {}
    for names in _names(items):
        first.setdefault(identity(by.evaluate(names)), names["item"])
    return list(first.values())


def _sort(items: Sequence[Json], by: BoundExpression, *, descending: bool) -> list[Json]:
    keyed = [(by.evaluate(names), names["item"]) for names in _names(items)]
    present = [pair for pair in keyed if pair[0] is not None]
    kinds = {kind_of(key) for key, _ in present}
    if len(kinds) > 1 or not kinds <= {"a number", "text"}:
        message = f"`sort` must give only numbers or only text, but it gives {' and '.join(sorted(kinds))}."
        raise _WrongType(Failed(StepError("type_error", message)))
    present.sort(key=lambda pair: pair[0], reverse=descending)  # stable in both directions
    return [item for _, item in present] + [item for key, item in keyed if key is None]


def _group(items: Sequence[Json], by: BoundExpression, aggregates: Json) -> list[Json]:
    keys: dict[object, Json] = {}
    members: dict[object, list[Json]] = {}
    for names in _names(items):
        key = by.evaluate(names)
        mark = identity(key)
        keys.setdefault(mark, key)
        members.setdefault(mark, []).append(names["item"])
    if aggregates is None:
        return [{"key": key, "items": members[mark]} for mark, key in keys.items()]
    return [{"key": key, **_aggregate(members[mark], aggregates)} for mark, key in keys.items()]


def _aggregate(items: Sequence[Json], aggregates: Mapping[str, Json]) -> dict[str, Json]:
    result = {}
    for name, aggregate in aggregates.items():
        of: BoundExpression | None = aggregate.get("of")
        values = items if of is None else [of.evaluate(names) for names in _names(items)]
        try:
            result[name] = AGGREGATES[aggregate["op"]](values)
        except ValueError as error:
            raise _WrongType(Failed(StepError("type_error", f"`aggregate.{name}`: {error}"))) from error
    return result
