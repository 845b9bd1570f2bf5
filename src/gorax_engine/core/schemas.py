"""Walking a value along its JSON Schema, to find the `x-gorax` annotations that hold at each place of it.

Only what decides which subschema a value is meant for is looked at: `type`, `required`, properties that are `false`,
and `const` or `enum` of properties. Validation proper is `validation.py`'s.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from gorax_engine.core.model import Json

Schema: TypeAlias = Mapping[str, Json]

Path: TypeAlias = tuple[str | int, ...]
"""Where something stands in a document: keys and indexes from its root."""

_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "null": (type(None),),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
    "array": (list,),
    "object": (dict,),
}


@dataclass(frozen=True, slots=True)
class Place:
    """The subschemas that may describe one place of a value, and what is inherited from above it.

    `locals` are the names that the node gives to expressions there; `secrets` says whether credentials may be used.
    """

    schemas: tuple[Schema, ...]
    document: Schema
    locals: frozenset[str] = frozenset()
    secrets: bool = False

    @classmethod
    def root(cls, schema: Schema) -> "Place":
        return cls((schema,), schema)

    def at(self, value: Json) -> "Place":
        """Return this place with only the subschemas meant for `value`, through `$ref`, `allOf`, `anyOf`, `if` ..."""
        found: dict[int, Schema] = {}
        for schema in self.schemas:
            _collect(schema, value, self.document, found)
        names, secrets = self.locals, self.secrets
        for schema in found.values():
            if "x-gorax-locals" in schema:
                names = names | frozenset(schema["x-gorax-locals"])
            secrets = secrets or schema.get("x-gorax-secrets") is True
        return Place(tuple(found.values()), self.document, names, secrets)

    def annotation(self) -> str | None:
        """Return the `x-gorax` annotation that holds here, if there is one."""
        for schema in self.schemas:
            if isinstance(annotation := schema.get("x-gorax"), str):
                return annotation
        return None

    def canonical_word(self, word: str) -> str:
        """Return what a word that is accepted here stands for (`x-gorax-aliases`), else the word itself."""
        for schema in self.schemas:
            if word in schema.get("x-gorax-aliases", ()):
                return str(schema["x-gorax-aliases"][word])
        return word

    def member(self, key: str) -> "Place":
        """Return the place of the member `key` of the object that stands here."""
        return Place(tuple(_members(self.schemas, key)), self.document, self.locals, self.secrets)

    def item(self, index: int) -> "Place":
        """Return the place of item `index` of the list that stands here."""
        return Place(tuple(_items(self.schemas, index)), self.document, self.locals, self.secrets)

    def keys(self) -> tuple[str, ...]:
        """Return the keys that the subschemas here name."""
        return tuple(
            dict.fromkeys(
                key
                for schema in self.schemas
                for key, member in schema.get("properties", {}).items()
                if member is not False
            )
        )

    def refuses(self, key: str) -> bool:
        """Say whether no subschema here knows `key`, and one of them allows no keys but its own."""
        closed = False
        for schema in self.schemas:
            if schema.get("properties", {}).get(key, False) is not False or "patternProperties" in schema:
                return False
            closed = closed or schema.get("additionalProperties") is False
            closed = closed or schema.get("unevaluatedProperties") is False
        return closed


def resolve(pointer: str, document: Schema) -> Schema | None:
    """Return the subschema that a local `$ref` names, or None."""
    found: Json = document
    if not pointer.startswith("#"):
        return None
    for token in pointer[1:].split("/")[1:]:
        if not isinstance(found, Mapping) or (key := token.replace("~1", "/").replace("~0", "~")) not in found:
            return None
        found = found[key]
    return found if isinstance(found, Mapping) else None


def _collect(schema: Json, value: Json, document: Schema, found: dict[int, Schema]) -> None:
    if not isinstance(schema, Mapping) or id(schema) in found:
        return
    found[id(schema)] = schema
    if (reference := schema.get("$ref")) is not None:
        _collect(resolve(reference, document), value, document, found)
    for branch in schema.get("allOf", ()):
        _collect(branch, value, document, found)
    for keyword in ("anyOf", "oneOf"):
        for branch in schema.get(keyword, ()):
            if _admits(branch, value, document):
                _collect(branch, value, document, found)
    if "if" in schema:
        _collect(schema.get("then" if _admits(schema["if"], value, document) else "else"), value, document, found)


def _admits(schema: Json, value: Json, document: Schema) -> bool:
    """Say whether a subschema is meant for `value`, by its outer shape alone."""
    if not isinstance(schema, Mapping):
        return schema is not False
    if (reference := schema.get("$ref")) is not None and not _admits(resolve(reference, document), value, document):
        return False
    if (types := schema.get("type")) is not None and not any(
        _is(value, name) for name in ([types] if isinstance(types, str) else types)
    ):
        return False
    if isinstance(value, dict) and not _admits_object(schema, value):
        return False
    return "anyOf" not in schema or any(_admits(branch, value, document) for branch in schema["anyOf"])


def _admits_object(schema: Schema, value: Mapping[str, Json]) -> bool:
    if any(key not in value for key in schema.get("required", ())):
        return False
    for key, member in schema.get("properties", {}).items():
        if key not in value:
            continue
        if member is False:
            return False
        if isinstance(member, Mapping):
            if "const" in member and member["const"] != value[key]:
                return False
            if "enum" in member and value[key] not in member["enum"]:
                return False
    return True


def _is(value: Json, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if isinstance(value, float) and name == "integer":
        return value.is_integer()
    return isinstance(value, _TYPES.get(name, ()))


def _members(branches: Sequence[Schema], key: str) -> Iterator[Schema]:
    for schema in branches:
        member = schema.get("properties", {}).get(key, schema.get("additionalProperties"))
        if isinstance(member, Mapping):
            yield member


def _items(branches: Sequence[Schema], index: int) -> Iterator[Schema]:
    for schema in branches:
        prefix = schema.get("prefixItems", ())
        item = prefix[index] if index < len(prefix) else schema.get("items")
        if isinstance(item, Mapping):
            yield item
