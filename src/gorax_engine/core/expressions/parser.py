"""From tokens to the syntax tree: nesting by an LALR grammar, precedence by the table of operators."""

import difflib
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from lark import Lark, Token, Transformer, v_args
from lark.exceptions import UnexpectedInput, UnexpectedToken, VisitError
from lark.lexer import Lexer

from gorax_engine.core.expressions.errors import ExpressionSyntaxError
from gorax_engine.core.expressions.lexer import tokenize
from gorax_engine.core.expressions.limits import AST_DEPTH, AST_NODES
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
    Operation,
    Part,
    Pointer,
    Power,
    Slice,
    Unary,
    children,
)
from gorax_engine.core.expressions.operators import BINARY, ORDERING, RIGHT_ASSOCIATIVE, UNARY

GRAMMAR: Final = r"""
start: body

?body: expression
     | bindings expression                                         -> let
bindings: (LET NAME ASSIGN expression SEMICOLON)+

?expression: sequence
           | sequence QUESTION body COLON body                     -> ternary
           | sequence QUESTION COLON body                          -> elvis
           | choice
choice: IF sequence LBRACE body RBRACE ELSE LBRACE body RBRACE
      | IF sequence LBRACE body RBRACE ELSE choice                 -> choice_chain

// Operators and operands in a row; `_climb` orders them by precedence.
sequence: prefixed
        | sequence BINARY prefixed                                 -> longer
        | sequence SIGN prefixed                                   -> longer
        | sequence PIPE piped                                      -> longer
?prefixed: operand
         | (SIGN | NOT) prefixed                                   -> prefix

?operand: atom
        | operand accessor                                         -> access
?piped: call
      | piped accessor                                             -> access

accessor: DOT MEMBER                                               -> member
        | OPTIONAL_DOT MEMBER                                      -> optional_member
        | LSQB body RSQB                                           -> index
        | OPTIONAL_DOT LSQB body RSQB                              -> optional_index
        | LSQB COLON RSQB                                          -> slice_all
        | LSQB body COLON RSQB                                     -> slice_from
        | LSQB COLON body RSQB                                     -> slice_to
        | LSQB body COLON body RSQB                                -> slice_between

?atom: NUMBER                                                      -> literal
     | STRING                                                      -> literal
     | CONSTANT                                                    -> literal
     | NAME                                                        -> name
     | POINTER                                                     -> pointer
     | DOT MEMBER                                                  -> field
     | LPAR body RPAR                                              -> group
     | LSQB [body (COMMA body)* [COMMA]] RSQB                      -> list
     | map
     | call
map: LBRACE [pair (COMMA pair)* [COMMA]] RBRACE
pair: (NAME | STRING | NUMBER) COLON body                          -> named_pair
    | LPAR body RPAR COLON body                                    -> computed_pair
call: NAME LPAR [argument (COMMA argument)* [COMMA]] RPAR
?argument: body
         | LBRACE body RBRACE                                      -> group

%declare NUMBER STRING CONSTANT NAME MEMBER POINTER BINARY SIGN NOT PIPE DOT OPTIONAL_DOT ASSIGN
%declare LPAR RPAR LSQB RSQB LBRACE RBRACE COMMA COLON SEMICOLON QUESTION LET IF ELSE
"""

_DESCRIPTIONS: Final = {
    "RPAR": "`)`", "RSQB": "`]`", "RBRACE": "`}`", "COLON": "`:`", "SEMICOLON": "`;`", "ASSIGN": "`=`",
    "MEMBER": "a name", "ELSE": "`else`", "LBRACE": "`{`", "LPAR": "`(`",
}  # fmt: skip


class _Sequence:
    """Operands and operators as written; lark appends to it, `_climb` consumes it."""

    __slots__ = ("items",)

    def __init__(self, items: list[Any]) -> None:
        self.items = items


class _TokenLexer(Lexer):
    """Hands tokens through that `tokenize` made."""

    def __init__(self, configuration: Any) -> None:
        pass

    def lex(self, tokens: Any) -> Iterator[Token]:  # type: ignore[override]
        return iter(tokens)


def parse(
    source: str,
    start: int = 0,
    known_roots: frozenset[str] | None = None,
    known_steps: frozenset[str] | None = None,
) -> Node:
    """The syntax tree of `source` from `start` on; raises ExpressionSyntaxError."""
    tokens = tokenize(source, start, known_roots, known_steps)
    if not tokens:
        raise ExpressionSyntaxError("The expression is empty.", start)
    if len(tokens) > AST_NODES * 4:
        raise ExpressionSyntaxError(f"The expression has more than {AST_NODES * 4:,} words and signs.", start)
    try:
        node: Node = _parser().parse(tokens)  # type: ignore[assignment]
    except UnexpectedToken as error:
        raise _unexpected(error, source) from None
    except VisitError as error:
        if isinstance(error.orig_exc, ExpressionSyntaxError):
            raise error.orig_exc from None
        raise
    except UnexpectedInput:
        raise ExpressionSyntaxError("The expression can't be read.", 0) from None
    _check_size(node)
    return node


@cache
def _parser() -> Lark:
    # Built at the first use: it takes longer than all else that an import of this package does.
    return Lark(GRAMMAR, parser="lalr", lexer=_TokenLexer, transformer=_Builder(), maybe_placeholders=False)


def _unexpected(error: UnexpectedToken, source: str) -> ExpressionSyntaxError:
    token = error.token
    expected = sorted({_DESCRIPTIONS[kind] for kind in error.accepts or error.expected if kind in _DESCRIPTIONS})
    if "MEMBER" in (error.accepts or error.expected):
        expected = ["a name"]
    elif "NUMBER" in (error.accepts or error.expected):
        expected = ["a value"]
    hint = f"; expected {' or '.join(expected)}" if expected else ""
    if token.type == "$END":
        return ExpressionSyntaxError(f"The expression ends too early{hint}.", len(source))
    position = token.start_pos or 0
    return ExpressionSyntaxError(f"Unexpected `{str(token)[:40]}` at character {position + 1}{hint}.", position)


def _check_size(root: Node) -> None:
    count = 0
    stack = [(root, 1)]
    while stack:
        node, depth = stack.pop()
        count += 1
        if depth > AST_DEPTH:
            raise ExpressionSyntaxError(f"The expression is nested deeper than {AST_DEPTH} levels.", 0)
        if count > AST_NODES:
            raise ExpressionSyntaxError(f"The expression has more than {AST_NODES:,} parts.", 0)
        stack.extend((child, depth + 1) for child in children(node))


def suggestion(name: str, known: Any) -> str:
    """`; did you mean ...?` if a known name is close."""
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def _token_is(value: Any, *kinds: str) -> bool:
    return isinstance(value, Token) and value.type in kinds


def _nodes(values: tuple[Any, ...]) -> list[Any]:
    return [value for value in values if not isinstance(value, Token)]


@v_args(inline=True)
class _Builder(Transformer[Token, Node]):
    """What each grammar rule makes. It runs as the parser reduces, so it never recurses."""

    def start(self, body: Any) -> Node:
        return _node(body)

    def let(self, bindings: tuple[tuple[str, Node], ...], body: Any) -> Node:
        return Let(bindings, _node(body))

    def bindings(self, *items: Any) -> tuple[tuple[str, Node], ...]:
        return tuple((items[at + 1].value, _node(items[at + 3])) for at in range(0, len(items), 5))

    def ternary(self, test: Any, _question: Token, then: Any, _colon: Token, otherwise: Any) -> Node:
        return Conditional(_node(test), _node(then), _node(otherwise))

    def elvis(self, test: Any, _question: Token, _colon: Token, otherwise: Any) -> Node:
        return Conditional(_node(test), None, _node(otherwise))

    def choice(self, *items: Any) -> Node:
        test, then, otherwise = _nodes(items)
        return Conditional(_node(test), _node(then), _node(otherwise))

    choice_chain = choice

    def sequence(self, operand: Any) -> _Sequence:
        return _Sequence([*operand.items] if isinstance(operand, _Sequence) else [operand])

    def longer(self, sequence: _Sequence, operator: Token, operand: Any) -> _Sequence:
        sequence.items.append(operator)
        if isinstance(operand, _Sequence):
            sequence.items.extend(operand.items)
        else:
            sequence.items.append(operand)
        return sequence

    def prefix(self, operator: Token, operand: Any) -> _Sequence:
        items = operand.items if isinstance(operand, _Sequence) else [operand]
        return _Sequence([operator, *items])

    def access(self, base: Any, part: Part) -> Node:
        if isinstance(base, Access):
            return Access(base.base, (*base.parts, part))
        return Access(base, (part,))

    def member(self, _dot: Token, name: Token) -> Part:
        return Key(name.value, False)

    def optional_member(self, _dot: Token, name: Token) -> Part:
        return Key(name.value, True)

    def index(self, _open: Token, index: Any, _close: Token) -> Part:
        return _index(index, False)

    def optional_index(self, _dot: Token, _open: Token, index: Any, _close: Token) -> Part:
        return _index(index, True)

    def slice_all(self, *_items: Any) -> Part:
        return Slice(None, None)

    def slice_from(self, _open: Token, start: Any, *_items: Any) -> Part:
        return Slice(_node(start), None)

    def slice_to(self, _open: Token, _colon: Token, stop: Any, _close: Token) -> Part:
        return Slice(None, _node(stop))

    def slice_between(self, _open: Token, start: Any, _colon: Token, stop: Any, _close: Token) -> Part:
        return Slice(_node(start), _node(stop))

    def literal(self, token: Token) -> Node:
        return Literal(token.value)

    def name(self, token: Token) -> Node:
        return Name(token.value, token.start_pos or 0)

    def pointer(self, token: Token) -> Node:
        return Pointer(token.value, token.start_pos or 0)

    def field(self, dot: Token, name: Token) -> Node:
        return Access(Pointer("", dot.start_pos or 0), (Key(name.value, False),))

    def group(self, _open: Token, body: Any, _close: Token) -> Node:
        return _node(body)

    def list(self, *items: Any) -> Node:
        return ListOf(tuple(_node(item) for item in _nodes(items)))

    def map(self, *items: Any) -> Node:
        return MapOf(tuple(_nodes(items)))

    def named_pair(self, key: Token, _colon: Token, value: Any) -> tuple[Node, Node]:
        text = key.value if key.type in ("NAME", "STRING") else str(key)
        return Literal(text), _node(value)

    def computed_pair(self, _open: Token, key: Any, _close: Token, _colon: Token, value: Any) -> tuple[Node, Node]:
        return _node(key), _node(value)

    def call(self, name: Token, *items: Any) -> Node:
        return Call(name.value, tuple(_node(item) for item in _nodes(items)), name.start_pos or 0)


def _node(value: Any) -> Node:
    if isinstance(value, _Sequence):
        climber = _Climber(value.items)
        return climber.climb(0)
    return value  # type: ignore[no-any-return]


def _index(value: Any, optional: bool) -> Part:
    node = _node(value)
    if isinstance(node, Unary) and node.operator == "-" and isinstance(node.operand, Literal):
        number = node.operand.value
        if type(number) is int:
            return Key(-number, optional)
    if isinstance(node, Literal) and type(node.value) in (int, str):
        return Key(node.value, optional)
    return Index(node, optional)


class _Climber:
    """Precedence climbing over one sequence, as expr-lang does it."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items
        self.at = 0
        self.depth = 0

    def climb(self, least: int) -> Node:
        self.depth += 1
        if self.depth > AST_DEPTH * 2:
            raise ExpressionSyntaxError(f"The expression is nested deeper than {AST_DEPTH} levels.", 0)
        left = self._operand()
        previous = ""
        while self.at < len(self.items):
            token: Token = self.items[self.at]
            operator = token.value.removeprefix("not ")
            precedence = BINARY[operator]
            if precedence < least:
                break
            if previous == "??" and operator not in ("??", "|"):
                raise ExpressionSyntaxError(
                    f"`??` and `{token}` at character {(token.start_pos or 0) + 1} can't be mixed; "
                    "put parentheses around one of them.",
                    token.start_pos or 0,
                )
            self.at += 1
            if operator == "|":
                left = _piped(left, self._operand())
            elif operator in RIGHT_ASSOCIATIVE:
                left = Power(left, self.climb(precedence))
            else:
                left = self._join(
                    left, Operation(operator, token.value != operator, self.climb(precedence + 1)), previous
                )
            previous = operator
        self.depth -= 1
        return left

    def _operand(self) -> Node:
        item = self.items[self.at]
        self.at += 1
        if _token_is(item, "SIGN", "NOT"):
            return Unary(item.value, self.climb(UNARY[item.value]))
        return item  # type: ignore[no-any-return]

    @staticmethod
    def _join(left: Node, operation: Operation, previous: str) -> Node:
        """Append to the chain that this loop is building, if the precedence is the same; else begin a new one."""
        operator = operation.operator
        if operator in ORDERING:
            if previous in ORDERING and isinstance(left, Between):
                return Between(left.first, (*left.rest, operation))
            return Between(left, (operation,))
        if previous and BINARY[previous] == BINARY[operator] and isinstance(left, Chain):
            return Chain(left.first, (*left.rest, operation))
        return Chain(left, (operation,))


def _piped(left: Node, right: Node) -> Node:
    if isinstance(right, Access):
        return Access(_piped(left, right.base), right.parts)
    if isinstance(right, Call):
        return Call(right.name, (left, *right.arguments), right.position)
    raise AssertionError("the grammar lets only calls follow a pipe")
