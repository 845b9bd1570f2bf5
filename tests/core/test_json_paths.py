"""Paths into a request: what they find, what they refuse, and that looking has an end."""

from __future__ import annotations

from itertools import count, islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonpath_ng.parser import parse

from gorax_engine.core.json_paths import (
    MAX_CHARACTERS,
    MAX_STEPS,
    WORK,
    BadPath,
    Budget,
    TooMuchWork,
    compile_path,
)

ORDER = {
    "order": {
        "status": "shipped",
        "items": [{"sku": "a", "price": 5}, {"sku": "b"}, "loose"],
        "a name": {"größe": 1},
        "none": None,
        "1": "one",
    },
    "sku": "top",
    "where": "here",
}
REQUEST = {
    "method": "POST",
    "path": "/webhooks/x",
    "headers": {"x-github-event": "push", "a.b": "dotted"},
    "query": {"Page": "2", "a.b": "3"},
    "body": ORDER,
}


def find(path: str, request: dict[str, Any] = REQUEST) -> list[Any]:
    return list(compile_path(path).find(request, Budget()))


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("$", [ORDER]),
        ("$.order.status", ["shipped"]),
        ("order.status", ["shipped"]),
        ("$['order']['status']", ["shipped"]),
        ('$["order"].status', ["shipped"]),
        ("$.order['a name']['größe']", [1]),
        ("$.'order'.\"status\"", ["shipped"]),
        ("$.order.none", [None]),
        ("$.order.1", ["one"]),
        ("$['where']", ["here"]),
        ("$.order.items[0].sku", ["a"]),
        ("$.order.items[-1]", ["loose"]),
        ("$.order.items[3]", []),
        ("$.order.items[-4]", []),
        ("$.order.items.sku", []),
        ("$.order.status[0]", []),
        ("$.order[0]", []),
        ("$.nothing.here", []),
        ("$.order.items[*].sku", ["a", "b"]),
        ("$.order.items[0,2]", [{"sku": "a", "price": 5}, "loose"]),
        ("$.order.items[-3,5,-4].sku", ["a"]),
        ("$.order.items[1:]", [{"sku": "b"}, "loose"]),
        ("$.order.items[::-2].sku", ["a"]),
        ("$['sku','where','sku']", ["top", "here"]),
        ("$..sku", ["top", "a", "b"]),
        ("$.order..sku", ["a", "b"]),
        ("$..items[0].price", [5]),
        ("headers.x-github-event", ["push"]),
        ("headers.X-GitHub-Event", ["push"]),
        ("headers.a.b", ["dotted"]),
        ("headers.nothing", []),
        ("query.Page", ["2"]),
        ("query.page", []),
        ("query.a.b", ["3"]),
        ("method", ["POST"]),
        ("$.method", []),
        ("$.headers.x-github-event", []),
        ("methods", []),
        ("headers-x", []),
    ],
)
def test_what_a_path_finds(path: str, values: list[Any]) -> None:
    # Each value comes once, of a search in the order of the document.
    assert sorted(map(repr, find(path))) == sorted(map(repr, values))
    assert sorted(map(repr, compile_path(path)._search(REQUEST, Budget()))) == sorted(map(repr, values))


@pytest.mark.parametrize("path", ["$", "$.a[0]['b'].c", "a", "headers.x", "query.x", "method"])
def test_paths_without_a_choice_cost_no_search(path: str) -> None:
    assert list(compile_path(path).find(REQUEST, Budget(0))) == list(compile_path(path)._search(REQUEST, Budget()))


@pytest.mark.parametrize("path", ["$.*", "$..a", "$[0,1]", "$['a','b']", "$[:1]"])
def test_paths_with_a_choice_cost_one(path: str) -> None:
    found = compile_path(path).find(REQUEST, Budget(0))
    with pytest.raises(TooMuchWork):
        next(found)


def test_a_request_may_lack_parts() -> None:
    for path in ("$", "$.a", "$..*", "headers.x", "query.x", "method"):
        assert find(path, {}) == []
    bodies: list[Any] = [None, 5, "text", [], True]
    for body in bodies:
        assert find("$.a.b", {"body": body}) == []
        assert find("$", {"body": body}) == [body]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "can't be read"),
        (" ", "can't be read"),
        ("$.", "can't be read"),
        ("$order", "can't be read"),
        ("..a", "can't be read"),
        ("$..", "can't be read"),
        ("$.größe", "can't be read"),
        ("$.a[", "can't be read"),
        ("$['a", "can't be read"),
        ("$[?(@.price < 10)]", "can't be read"),
        ("$.a[?price]", "can't be read"),
        ("$.a + 1", "can't be read"),
        ("$[0:2:0]", "must not be 0"),
        ("$.a.$", "at the beginning"),
        ("a.$.b", "at the beginning"),
        ("$.a.`parent`", "fields, indices, slices"),
        ("$.a.`this`", "fields, indices, slices"),
        ("$.a where $.b", "fields, indices, slices"),
        ("$.a wherenot b", "fields, indices, slices"),
        ("$.where", "quote other names"),
        ("$.a | $.b", "fields, indices, slices"),
        ("$.a & $.b", "fields, indices, slices"),
        ("($.a).b", "fields, indices, slices"),
        ("$..a..b", "more than one `..`"),
        ("$..*..*", "more than one `..`"),
        ("$" + ".a" * (MAX_STEPS + 1), "more than 32 steps"),
        ("$." + "a" * (MAX_CHARACTERS - 1), "more than 255 characters"),
        ("headers", "`headers.<name>`"),
        ("headers.", "`headers.<name>`"),
        ("headers['x']", "`headers.<name>`"),
        ("query", "`query.<name>`"),
        ("query.", "`query.<name>`"),
        ("method.x", "`method`"),
        ("method[0]", "`method`"),
    ],
)
def test_what_is_no_path(path: str, message: str) -> None:
    with pytest.raises(BadPath) as raised:
        compile_path(path)
    assert message in str(raised.value)
    assert str(raised.value).endswith(".")


def test_limits_are_reached_and_not_passed() -> None:
    assert find("$" + ".a" * MAX_STEPS) == []
    assert find("$." + "a" * (MAX_CHARACTERS - 2)) == []


@given(st.text("$.[]*:,'\"`ab01-@? ()|&~\n\\", max_size=12) | st.text(max_size=12))
def test_any_text_is_a_path_or_refused_in_words(text: str) -> None:
    message = "."
    try:
        compile_path(text)
    except BadPath as error:
        message = str(error)
    assert message.endswith(".")


def numbered(value: Any, numbers: count[int]) -> Any:
    """The same tree with other leaves, none like another."""
    if isinstance(value, dict):
        return {name: numbered(member, numbers) for name, member in value.items()}
    return [numbered(element, numbers) for element in value] if isinstance(value, list) else next(numbers)


NAMES = st.sampled_from(["a", "b", "c"])
TREES = st.recursive(
    st.none(), lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=30
).map(lambda tree: numbered(tree, count()))
BOUND = st.none() | st.integers(-4, 4)


def bracketed(keys: list[Any], separator: str) -> str:
    return f"[{separator.join('' if key is None else str(key) for key in keys)}]"


PARTS = st.one_of(
    NAMES.map(".{}".format),
    st.lists(NAMES.map(repr), min_size=1, max_size=3, unique=True).map(lambda names: bracketed(names, ",")),
    st.lists(st.integers(-3, 3), min_size=1, max_size=3, unique=True).map(lambda at: bracketed(at, ",")),
    st.tuples(BOUND, BOUND).map(lambda span: bracketed([*span], ":")),
    st.tuples(BOUND, BOUND, st.sampled_from([-2, -1, 1, 2])).map(lambda span: bracketed([*span], ":")),
    st.sampled_from([".*", "[*]"]),
)


@given(TREES, st.lists(PARTS, max_size=4), st.integers(0, 3), st.booleans())
def test_the_walk_finds_what_jsonpath_ng_finds(tree: Any, parts: list[str], at: int, deep: bool) -> None:
    if deep and at < len(parts):
        parts = [*parts[:at], "." + parts[at] if parts[at].startswith(".") else ".." + parts[at], *parts[at + 1 :]]
    path = "$" + "".join(parts)
    # An index from either end may name one place twice, which it finds twice and we once.
    expected = list({id(match.value): match.value for match in parse(path).find(tree)}.values())
    assert [id(value) for value in find(path, {"body": tree})] == [id(value) for value in expected]


class Endless(Budget):
    """Counts what is spent, and lets it happen."""

    def __init__(self) -> None:
        super().__init__()
        self.spent = 0

    def spend(self, units: int) -> None:
        self.spent += units


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("$..*", [0] * 500_000),
        ("$..*", {"a": [[[0] * 20] * 100] * 100}),
        ("$..a", [{"b": 0}] * 100_000),
        ("$[*][*][*]", [[[0] * 20] * 100] * 100),
        ("$[::2]", [0] * 500_000),
    ],
)
def test_a_search_ends_when_the_work_is_spent(path: str, body: Any) -> None:
    found = islice(compile_path(path).find({"body": body}, Budget()), WORK)
    with pytest.raises(TooMuchWork):
        list(found)


def test_the_work_is_about_one_unit_for_each_node() -> None:
    budget = Endless()
    assert len(list(compile_path("$..*").find({"body": [[0] * 10] * 10}, budget))) == 110
    assert budget.spent < 500


def test_places_that_are_named_twice_do_not_multiply() -> None:
    tree: Any = 1
    for _ in range(31):
        tree = [tree]
    budget = Endless()
    assert list(compile_path("$" + "[0,-1]" * 31).find({"body": tree}, budget)) == [1]
    assert budget.spent < 100


def test_a_budget_is_spent_to_the_last_unit() -> None:
    budget = Budget(3)
    budget.spend(3)
    with pytest.raises(TooMuchWork):
        budget.spend(1)
