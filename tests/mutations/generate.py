"""Draws mutations: another operator, another constant, a statement less."""

import ast
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Final

from tests.mutations.runner import Mutation

COMPARE: Final = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==", ast.Is: "is not",
    ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in",
}  # fmt: skip
ARITHMETIC: Final = {ast.Add: "-", ast.Sub: "+", ast.Mult: "+", ast.BitAnd: "|", ast.BitOr: "&", ast.BitXor: "|"}


def random_mutations(root: Path, files: tuple[str, ...], count: int, seed: int) -> list[Mutation]:
    """Draw `count` different mutations of the Python files."""
    every = [
        mutation for file in files if file.endswith(".py") for mutation in _mutations(file, (root / file).read_text())
    ]
    return Random(seed).sample(every, min(count, len(every)))


def _mutations(file: str, text: str) -> Iterator[Mutation]:
    lines = text.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))

    def span(node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset

    def change(begin: int, end: int, new: str) -> Mutation:
        old = text[begin:end]
        return Mutation(file, old, new, nth=text.count(old, 0, begin + len(old)))

    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Compare(left=left, ops=[operator], comparators=[right]) if type(operator) in COMPARE:
                middle = f" {COMPARE[type(operator)]} "
                yield change(*span(node), text[slice(*span(left))] + middle + text[slice(*span(right))])
            case ast.BinOp(op=ast.BitOr(), right=ast.Constant(value=None)):
                pass  # an annotation
            case ast.BinOp(left=left, op=operator, right=right) if type(operator) in ARITHMETIC:
                middle = f" {ARITHMETIC[type(operator)]} "
                yield change(*span(node), text[slice(*span(left))] + middle + text[slice(*span(right))])
            case ast.BoolOp(values=[first, *_, last]):
                yield change(*span(node), text[slice(*span(first))])
                yield change(*span(node), text[slice(*span(last))])
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                yield change(*span(node), text[slice(*span(operand))])
            case ast.Constant(value=int(value)):
                yield change(*span(node), str(not value if isinstance(value, bool) else value + 1))
            case ast.Assign() | ast.AugAssign() | ast.Delete() | ast.Return() | ast.Continue() | ast.Break():
                yield change(*span(node), "pass")
            case ast.Expr(value=ast.Call()):
                yield change(*span(node), "pass")
            case ast.If(test=test):
                yield change(*span(test), "True")
                yield change(*span(test), "False")
            case _:
                pass
