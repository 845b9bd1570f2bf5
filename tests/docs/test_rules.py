"""`rules.toml` names the tests that hold each rule of the workflow language; here: that there are such tests."""

import ast
import tomllib
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
RULES: dict[str, dict[str, list[str]]] = tomllib.loads(
    Path(__file__).with_name("rules.toml").read_text(encoding="utf-8")
)


@cache
def names_in(file: str) -> frozenset[str]:
    """Return the ids of the tests of a file, but for the file's name."""
    found: set[str] = set()
    for node in ast.parse((TESTS / file).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            inner = (each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))
            found.update(f"{node.name}::{each.name}" for each in inner if each.name.startswith("test_"))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            found.add(node.name)
    return frozenset(found)


@pytest.mark.parametrize("section", RULES)
def test_each_rule_has_tests_that_exist(section: str) -> None:
    for rule, tests in RULES[section].items():
        assert tests, rule
        for test in tests:
            file, _, name = test.partition("::")
            assert (TESTS / file).exists(), test
            assert name in names_in(file), f"{rule}: there is no {test}"
