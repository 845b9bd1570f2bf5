"""The syntax tree. Chains are flat, so that the depth of the tree is the nesting that a reader sees."""

from dataclasses import dataclass
from typing import TypeAlias

from gorax_engine.core.model import Json


@dataclass(frozen=True, slots=True)
class Literal:
    value: Json


@dataclass(frozen=True, slots=True)
class Name:
    """A root or a `let` variable."""

    name: str
    position: int


@dataclass(frozen=True, slots=True)
class Pointer:
    """`#`, `#acc` or `#index` inside a predicate; `name` is what follows the `#`."""

    name: str
    position: int


@dataclass(frozen=True, slots=True)
class Key:
    """`.name` or `["name"]` or `[0]`: a key known when the expression is read."""

    key: str | int
    optional: bool


@dataclass(frozen=True, slots=True)
class Index:
    """`[expression]`."""

    index: "Node"
    optional: bool


@dataclass(frozen=True, slots=True)
class Slice:
    """`[start:stop]`; either may be absent."""

    start: "Node | None"
    stop: "Node | None"


Part: TypeAlias = Key | Index | Slice


@dataclass(frozen=True, slots=True)
class Access:
    """A base and the parts that are taken from it, left to right."""

    base: "Node"
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class ListOf:
    items: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class MapOf:
    pairs: "tuple[tuple[Node, Node], ...]"


@dataclass(frozen=True, slots=True)
class Unary:
    operator: str
    operand: "Node"


@dataclass(frozen=True, slots=True)
class Chain:
    """Operators of one precedence, applied left to right; `negated` marks `not in` and the like."""

    first: "Node"
    rest: "tuple[Operation, ...]"


@dataclass(frozen=True, slots=True)
class Operation:
    operator: str
    negated: bool
    operand: "Node"


@dataclass(frozen=True, slots=True)
class Between:
    """`a < b <= c`: each neighbouring pair must hold; an operand is evaluated once."""

    first: "Node"
    rest: "tuple[Operation, ...]"


@dataclass(frozen=True, slots=True)
class Power:
    base: "Node"
    exponent: "Node"


@dataclass(frozen=True, slots=True)
class Conditional:
    """`test ? then : otherwise`; `test ?: otherwise` has no `then`."""

    test: "Node"
    then: "Node | None"
    otherwise: "Node"


@dataclass(frozen=True, slots=True)
class Let:
    bindings: "tuple[tuple[str, Node], ...]"
    body: "Node"


@dataclass(frozen=True, slots=True)
class Call:
    name: str
    arguments: "tuple[Node, ...]"
    position: int


Node: TypeAlias = (
    Literal | Name | Pointer | Access | ListOf | MapOf | Unary | Chain | Between | Power | Conditional | Let | Call
)


def children(node: Node) -> tuple[Node, ...]:
    """The nodes directly below, in the order of the source."""
    match node:
        case Access():
            below = [node.base]
            for part in node.parts:
                if isinstance(part, Index):
                    below.append(part.index)
                elif isinstance(part, Slice):
                    below.extend(bound for bound in (part.start, part.stop) if bound is not None)
            return tuple(below)
        case ListOf():
            return node.items
        case MapOf():
            return tuple(part for pair in node.pairs for part in pair)
        case Unary():
            return (node.operand,)
        case Chain() | Between():
            return (node.first, *(operation.operand for operation in node.rest))
        case Power():
            return (node.base, node.exponent)
        case Conditional():
            return (node.test, node.otherwise) if node.then is None else (node.test, node.then, node.otherwise)
        case Let():
            return (*(value for _, value in node.bindings), node.body)
        case Call():
            return node.arguments
        case Literal() | Name() | Pointer():
            return ()
