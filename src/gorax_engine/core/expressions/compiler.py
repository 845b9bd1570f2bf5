"""From the syntax tree to closures: names are resolved and faults found once, so that evaluation only computes."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from gorax_engine.core.expressions import access, calls
from gorax_engine.core.expressions.access import Evaluator, Step
from gorax_engine.core.expressions.errors import (
    MISSING_PATH,
    ExpressionError,
    ExpressionSyntaxError,
    type_error,
)
from gorax_engine.core.expressions.infix import comparison, infix
from gorax_engine.core.expressions.nodes import (
    Access,
    Between,
    Call,
    Chain,
    Conditional,
    Index,
    Key,
    Let,
    ListOf,
    Literal,
    MapOf,
    Name,
    Node,
    Part,
    Pointer,
    Power,
    Unary,
    children,
)
from gorax_engine.core.expressions.operations import OPERATIONS, power
from gorax_engine.core.expressions.parser import suggestion
from gorax_engine.core.expressions.paths import path_text
from gorax_engine.core.expressions.regex import compile_pattern
from gorax_engine.core.expressions.scope import Scope
from gorax_engine.core.expressions.values import described, expect_bool, is_number
from gorax_engine.core.model import Json

POINTER_NAMES: Final = ("", "index", "acc")
"""What may follow `#`: nothing (the item), its index, and in `reduce` the accumulator."""


class Reference(NamedTuple):
    """A use of a root: its name and the keys that are known before anything runs."""

    root: str
    path: tuple[str | int, ...]


class Frame(NamedTuple):
    """The slots of one predicate: item and index, and the accumulator in `reduce`."""

    item: int
    place: int
    accumulator: int | None


class Compiler:
    """Compiles one expression. `slots` is how many variables its frame needs; `builds` whether it makes new values."""

    def __init__(self, known_roots: frozenset[str] | None) -> None:
        self.known_roots = known_roots
        self.references: dict[Reference, None] = {}
        self.slots = 0
        self.builds = False
        self._variables: dict[str, int] = {}
        self._frames: list[Frame] = []
        self._guarded = False

    def compile(self, node: Node) -> Evaluator:
        """The closure of a node; raises ExpressionSyntaxError for a name or function that does not exist."""
        match node:
            case Literal():
                return _constant(node.value)
            case Name() | Access():
                return self._access(node)
            case Pointer():
                return _slot(self._pointer(node))
            case ListOf():
                return self._list(node)
            case MapOf():
                return self._map(node)
            case Unary():
                return self._unary(node)
            case Chain():
                return self._chain(node)
            case Between():
                return self._between(node)
            case Power():
                return infix("**", False, power, self.compile(node.base), self.compile(node.exponent))
            case Conditional():
                return self._conditional(node)
            case Let():
                return self._let(node)
            case Call():
                self.builds = True
                return calls.compile_call(self, node)

    def new_slot(self) -> int:
        """A slot of the frame that nothing else uses."""
        self.slots += 1
        return self.slots - 1

    def predicate(self, body: Node, folds: bool) -> tuple[Frame, Evaluator, int]:
        """The slots and closure of a predicate, and what one application of it costs."""
        frame = Frame(self.new_slot(), self.new_slot(), self.new_slot() if folds else None)
        self._frames.append(frame)
        try:
            return frame, self.compile(body), _node_count(body)
        finally:
            self._frames.pop()

    def _guarding(self, node: Node) -> Evaluator:
        """A node in which absence is an error, whatever the scope says: the left side of `??` or `?.`."""
        before, self._guarded = self._guarded, True
        try:
            return self.compile(node)
        finally:
            self._guarded = before

    def _pointer(self, node: Pointer) -> int:
        shown = f"`#{node.name}` at character {node.position + 1}"
        if not self._frames:
            raise ExpressionSyntaxError(f"{shown} stands outside a predicate such as that of `filter`.", node.position)
        frame = self._frames[-1]
        if node.name == "acc" and frame.accumulator is None:
            raise ExpressionSyntaxError(f"{shown} is known only in `reduce`.", node.position)
        if node.name not in POINTER_NAMES:
            raise ExpressionSyntaxError(f"{shown} does not exist; there are `#`, `#index` and `#acc`.", node.position)
        return frame[POINTER_NAMES.index(node.name)]  # type: ignore[return-value]

    # Names and paths

    def _access(self, node: Name | Access) -> Evaluator:
        base, parts = (node, ()) if isinstance(node, Name) else (node.base, node.parts)
        if isinstance(base, Name) and base.name not in self._variables:
            return self._root_access(base, parts)
        optional = _last_optional(parts) + 1
        start = self._guarding(base) if optional else self._base(base)
        text = base.name if isinstance(base, Name) else "#" + base.name if isinstance(base, Pointer) else "(…)"
        steps = self._steps(parts, 0, text, "", optional)
        if not steps:
            return start
        return access.walk(start, steps[:optional], steps[optional:], optional > 0, self._guarded)

    def _base(self, base: Node) -> Evaluator:
        if isinstance(base, Name):
            return _slot(self._variables[base.name])
        return self.compile(base)

    def _root_access(self, base: Name, parts: Sequence[Part]) -> Evaluator:
        root = base.name
        if self.known_roots is not None and root not in self.known_roots:
            known = self.known_roots | self._variables.keys()
            hint = suggestion(root, known) or f"; known are {', '.join(sorted(known)[:20])}."
            raise ExpressionSyntaxError(f"Unknown name `{root}` at character {base.position + 1}{hint}", base.position)
        keys = _static_keys(parts)
        self.references[Reference(root, keys)] = None
        optional = _last_optional(parts) + 1
        count = min(len(keys), optional) if optional else len(keys)
        start = access.path(root, keys[:count], self._guarded or optional > 0)
        steps = self._steps(parts[count:], count, path_text(root, keys[:count]), root, optional)
        if root == "credentials" and len(parts) == 1 and steps:
            steps.append(access.credential_step)
        if not steps and not optional:
            return start
        head = max(0, optional - count)
        return access.walk(start, steps[:head], steps[head:], optional > 0, self._guarded)

    def _steps(self, parts: Sequence[Part], offset: int, text: str, root: str, optional: int) -> list[Step]:
        steps: list[Step] = []
        for at, part in enumerate(parts, offset):
            if isinstance(part, Key):
                if root == "steps" and at == 1 and part.key == "output":
                    steps.append(access.output_step(text))
                else:
                    steps.append(access.key_step(part.key, text))
                text = f"{text}.{part.key}" if type(part.key) is str else f"{text}[{part.key}]"
                continue
            compile_part = self._guarding if at < optional else self.compile
            if isinstance(part, Index):
                steps.append(access.index_step(compile_part(part.index), text, root == "trigger" and at == 0))
                text += "[…]"
            else:
                self.builds = True
                bounds = [None if bound is None else compile_part(bound) for bound in (part.start, part.stop)]
                steps.append(access.slice_step(bounds[0], bounds[1], text))
                text += "[…]"
        return steps

    # Operators

    def _unary(self, node: Unary) -> Evaluator:
        operand = self.compile(node.operand)
        if node.operator == "!":
            return lambda scope, frame: not expect_bool(operand(scope, frame), "The operand of `!`")
        sign, symbol = (-1, "-") if node.operator == "-" else (1, "+")
        if isinstance(node.operand, Literal) and is_number(node.operand.value):
            return _constant(sign * node.operand.value)

        def signed(scope: Scope, frame: Any) -> Json:
            value = operand(scope, frame)
            if not is_number(value):
                raise type_error(f"`{symbol}` needs a number, not {described(value)}.")
            return sign * value

        return signed

    def _chain(self, node: Chain) -> Evaluator:
        operator = node.rest[0].operator
        if operator == "??":
            return self._coalesce([node.first, *(operation.operand for operation in node.rest)])
        if operator in ("&&", "||"):
            operands = [self.compile(node.first), *(self.compile(operation.operand) for operation in node.rest)]
            return _logical(operator, operands)
        value = self.compile(node.first)
        for operation in node.rest:
            self.builds = self.builds or operation.operator == ".."
            right = self.compile(operation.operand)
            if operation.operator == "matches" and isinstance(operation.operand, Literal):
                _check_pattern(operation.operand.value)
            value = infix(operation.operator, operation.negated, OPERATIONS[operation.operator], value, right)
        return value

    def _coalesce(self, nodes: Sequence[Node]) -> Evaluator:
        candidates = [self._soft(node) for node in nodes[:-1]]
        last = self.compile(nodes[-1])

        def run(scope: Scope, frame: Any) -> Json:
            for candidate in candidates:
                try:
                    value = candidate(scope, frame)
                except ExpressionError as error:
                    if error.code != MISSING_PATH:
                        raise
                    continue
                if value is not None:
                    return value
            return last(scope, frame)

        return run

    def _soft(self, node: Node) -> Evaluator:
        if isinstance(node, Access) and isinstance(node.base, Name) and node.base.name not in self._variables:
            keys = _static_keys(node.parts)
            if len(keys) == len(node.parts) and _last_optional(node.parts) < 0:
                self._root_access(node.base, node.parts)
                return access.soft_path(node.base.name, keys)
        return self._guarding(node)

    def _between(self, node: Between) -> Evaluator:
        first = self.compile(node.first)
        rest = [(operation.operator, self.compile(operation.operand)) for operation in node.rest]
        if len(rest) == 1:
            operator, right = rest[0]
            return comparison(operator, first, right)
        pairs = [(OPERATIONS[operator], operand) for operator, operand in rest]

        def run(scope: Scope, frame: Any) -> Json:
            left = first(scope, frame)
            for compare, operand in pairs:
                right = operand(scope, frame)
                if not compare(left, right, scope):
                    return False
                left = right
            return True

        return run

    def _conditional(self, node: Conditional) -> Evaluator:
        test, otherwise = self.compile(node.test), self.compile(node.otherwise)
        then = _constant(True) if node.then is None else self.compile(node.then)

        def run(scope: Scope, frame: Any) -> Json:
            if expect_bool(test(scope, frame), "The condition before `?`"):
                return then(scope, frame)
            return otherwise(scope, frame)

        return run

    # Variables and literals

    def _let(self, node: Let) -> Evaluator:
        outer = dict(self._variables)
        bindings: list[tuple[int, Evaluator]] = []
        try:
            for name, value in node.bindings:
                evaluator = self.compile(value)
                slot = self.new_slot()
                self._variables[name] = slot
                bindings.append((slot, evaluator))
            body = self.compile(node.body)
        finally:
            self._variables = outer

        def run(scope: Scope, frame: Any) -> Json:
            for slot, value in bindings:
                frame[slot] = value(scope, frame)
            return body(scope, frame)

        return run

    def _list(self, node: ListOf) -> Evaluator:
        self.builds = True
        items = [self.compile(item) for item in node.items]
        return lambda scope, frame: [item(scope, frame) for item in items]

    def _map(self, node: MapOf) -> Evaluator:
        self.builds = True
        pairs = [(self.compile(key), self.compile(value)) for key, value in node.pairs]

        def run(scope: Scope, frame: Any) -> Json:
            result = {}
            for key, value in pairs:
                name = key(scope, frame)
                if type(name) is not str:
                    raise type_error(f"The key of an object must be a string, not {described(name)}.")
                result[name] = value(scope, frame)
            return result

        return run


def _constant(value: Json) -> Evaluator:
    return lambda scope, frame: value


def _slot(slot: int) -> Evaluator:
    return lambda scope, frame: frame[slot]


def _logical(operator: str, operands: list[Evaluator]) -> Evaluator:
    stop = operator == "||"
    what = f"An operand of `{operator}`"

    def run(scope: Scope, frame: Any) -> Json:
        for operand in operands:
            value = operand(scope, frame)
            if value is stop:
                return stop
            if value is not (not stop):
                expect_bool(value, what)
        return not stop

    return run


def _check_pattern(pattern: Json) -> None:
    if type(pattern) is str:
        try:
            compile_pattern(pattern)
        except ExpressionError as error:
            raise ExpressionSyntaxError(error.message, 0) from None


def _static_keys(parts: Sequence[Part]) -> tuple[str | int, ...]:
    keys: list[str | int] = []
    for part in parts:
        if not isinstance(part, Key):
            break
        keys.append(part.key)
    return tuple(keys)


def _last_optional(parts: Sequence[Part]) -> int:
    return max((at for at, part in enumerate(parts) if isinstance(part, Key | Index) and part.optional), default=-1)


def _node_count(node: Node) -> int:
    count = 0
    stack = [node]
    while stack:
        current = stack.pop()
        count += 1
        stack.extend(children(current))
    return count
