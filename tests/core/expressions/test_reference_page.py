"""The reference page says what the code does: operators, functions, bounds, grammar."""

import json
import re
from pathlib import Path

import pytest

from gorax_engine.core.expressions import errors, limits
from gorax_engine.core.expressions.functions import builtins
from gorax_engine.core.expressions.functions.builtin import Builtin
from gorax_engine.core.expressions.operators import BINARY, SPELLINGS, UNARY
from gorax_engine.core.expressions.predicates import PREDICATES, PredicateBuiltin

from .conftest import Evaluate

PAGE = (Path(__file__).parents[3] / "docs" / "expressions.md").read_text(encoding="utf-8")
FUNCTIONS: list[Builtin | PredicateBuiltin] = [
    *PREDICATES.values(),
    *{id(builtin): builtin for builtin in builtins().values()}.values(),
]
ROWS = [
    (cells[1], cells[3])
    for line in PAGE.splitlines()
    if line.startswith("| `") and len(cells := re.split(r" ?(?<!\\)\| ?", line)) == 5 and "(" in cells[1]
]


def test_every_operator_has_its_row_and_no_other() -> None:
    rows = re.findall(r"^\| (\d+) \| (prefix )?`([^`]+)` \|", PAGE, re.MULTILINE)
    binary = {sign.replace("\\|", "|"): int(number) for number, prefix, sign in rows if not prefix}
    assert binary == BINARY
    assert {sign: int(number) for number, prefix, sign in rows if prefix} == UNARY
    assert [spelling for spelling in SPELLINGS if f"also `{spelling}`" not in PAGE] == []


def test_every_function_has_its_row_and_no_other() -> None:
    assert sorted(signature for signature, _ in ROWS) == sorted(f"`{function.signature}`" for function in FUNCTIONS)
    for function in FUNCTIONS:
        assert f"| `{function.signature}` | {function.summary} |" in PAGE


@pytest.mark.parametrize(("signature", "example"), ROWS)
def test_examples_of_the_page(evaluate: Evaluate, signature: str, example: str) -> None:
    found = re.fullmatch(r"`(.+)` is `(.+)`", example.replace("\\|", "|"))
    assert found is not None, signature
    assert evaluate(found[1]) == json.loads(found[2])


def test_bounds_and_codes() -> None:
    text = " ".join(PAGE.split())
    for bound in (
        f"{limits.SOURCE_CHARACTERS:,} characters, {limits.AST_NODES:,} parts and {limits.AST_DEPTH} levels",
        f"{limits.WORK:,} units of work",
        f"every {limits.CHARACTERS_PER_UNIT} characters",
        f"{limits.STRING_CHARACTERS:,} characters, a range or split {limits.LIST_ITEMS:,} items",
        f"{limits.INTEGER_DIGITS:,} digits, a result {limits.RESULT_SIZE >> 20} MiB and {limits.RESULT_DEPTH} levels",
    ):
        assert bound in text
    codes = [value for name, value in vars(errors).items() if name.isupper() and isinstance(value, str)]
    assert [code for code in codes if f"`{code}`" not in text] == []
