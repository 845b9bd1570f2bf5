"""transform and formula: mappings, defaults, and each operation on lists."""

from collections.abc import Callable
from typing import Any

import pytest

from gorax_engine.core.model import Missing
from gorax_engine.nodes.api import Completed, ExpressionError, Failed, Outcome

Run = Callable[..., Outcome]

ORDERS = [
    {"id": 1, "city": "Bonn", "total": 30, "tag": None},
    {"id": 2, "city": "Kiel", "total": 10, "tag": "x"},
    {"id": 3, "city": "Bonn", "total": 20, "tag": "a"},
    {"id": 4, "city": "Ulm", "total": 10.0, "tag": "b"},
]


def over(run: Run, **config: Any) -> Any:
    outcome = run("transform", {"source": "trigger.orders", **config}, {"orders": ORDERS})
    assert isinstance(outcome, Completed), outcome
    return outcome.output


def ids(items: list[Any]) -> list[int]:
    return [item["id"] for item in items]


def test_formula(run: Run) -> None:
    assert run("formula", {"expression": "trigger.a * 2"}, {"a": 21}) == Completed(42)


def test_mapping_of_paths_and_templates(run: Run) -> None:
    mapping = {"a": "trigger.x", "b": {"c": ["{{ trigger.x + 1 }}", "n={{ trigger.x }}", 7, None]}}
    assert run("transform", {"mapping": mapping}, {"x": 1}) == Completed({"a": 1, "b": {"c": [2, "n=1", 7, None]}})


def test_a_mapping_wins_over_an_expression(run: Run) -> None:
    assert run("transform", {"mapping": {"a": "1"}, "expression": "2"}) == Completed({"a": 1})
    assert run("transform", {"expression": "trigger.x"}, {"x": [1]}) == Completed([1])


def test_default_stands_for_what_is_missing(run: Run) -> None:
    config: dict[str, Any] = {"expression": "trigger.gone", "default": {"d": "{{ trigger.x }}"}}
    assert run("transform", config, {"x": 1}) == Completed({"d": 1})
    config = {"mapping": {"a": "trigger.gone", "b": "trigger.x"}, "default": 0}
    assert run("transform", config, {"x": 1}) == Completed({"a": 0, "b": 1})
    assert run("transform", {"expression": "trigger.gone", "default": 5}, {}, Missing.NULL) == Completed(5)
    for given in ({"expression": "trigger.gone"}, {"mapping": {"a": "trigger.gone"}}):
        with pytest.raises(ExpressionError):
            run("transform", given, {})
    with pytest.raises(ExpressionError):
        run("transform", {"expression": "trigger.x + 'a'", "default": 5}, {"x": 1})


def test_filter_sort_limit(run: Run) -> None:
    assert ids(over(run)) == [1, 2, 3, 4]
    assert ids(over(run, filter="item.total > 10")) == [1, 3]
    assert ids(over(run, filter="index % 2 == 0")) == [1, 3]
    assert ids(over(run, sort=[{"by": "item.total"}])) == [2, 4, 3, 1]
    assert ids(over(run, sort=[{"by": "item.total", "order": "desc"}])) == [1, 3, 2, 4]
    assert ids(over(run, sort=[{"by": "item.city"}, {"by": "item.total"}])) == [3, 1, 2, 4]
    assert ids(over(run, sort=[{"by": "item.tag"}])) == [3, 4, 2, 1]
    assert ids(over(run, sort=[{"by": "item.tag", "order": "desc"}])) == [2, 4, 3, 1]
    assert ids(over(run, limit=2)) == [1, 2]
    assert ids(over(run, limit="{{ 1 + 0 }}")) == [1]
    assert over(run, limit=0) == []


def test_dedupe_keeps_the_first_and_tells_types_apart(run: Run) -> None:
    assert ids(over(run, dedupe="item.city")) == [1, 2, 4]
    assert ids(over(run, dedupe="item.total")) == [1, 2, 3]
    outcome = run(
        "transform", {"source": "trigger", "dedupe": "item"}, [1, True, 1.0, "1", [1], [True], {"a": 1}, {"a": 1}]
    )
    assert outcome == Completed([1, True, "1", [1], [True], {"a": 1}])


def test_the_order_of_operations(run: Run) -> None:
    result = over(
        run,
        filter="item.total < 30",
        dedupe="item.total",
        sort=[{"by": "item.id", "order": "desc"}],
        limit=1,
        mapping={"n": "item.id", "at": "index", "text": "<{{ item.city }}>"},
    )
    assert result == [{"n": 3, "at": 0, "text": "<Bonn>"}]


def test_group_and_aggregate(run: Run) -> None:
    groups = over(run, group={"by": "item.city"})
    assert [(group["key"], ids(group["items"])) for group in groups] == [("Bonn", [1, 3]), ("Kiel", [2]), ("Ulm", [4])]
    sums = over(
        run,
        group={"by": "item.city"},
        aggregate={"n": {"op": "count"}, "sum": {"op": "sum", "of": "item.total"}},
        limit=2,
        mapping={"city": "item.key", "sum": "item.sum"},
    )
    assert sums == [{"city": "Bonn", "sum": 50}, {"city": "Kiel", "sum": 10}]


def test_every_aggregate_over_the_whole_list(run: Run) -> None:
    aggregate = {op: {"op": op, "of": "item.total"} for op in ("sum", "avg", "min", "max", "first", "last", "collect")}
    assert over(run, aggregate={**aggregate, "count": {"op": "count"}}) == {
        "sum": 70, "avg": 17.5, "min": 10, "max": 30, "first": 30, "last": 10.0, "collect": [30, 10, 20, 10.0],
        "count": 4,
    }  # fmt: skip
    assert over(run, aggregate={"n": {"op": "count"}}, mapping={"total": "item.n"}) == {"total": 4}
    empty = over(run, filter="false", aggregate=aggregate)
    assert empty == {"sum": 0, "avg": None, "min": None, "max": None, "first": None, "last": None, "collect": []}
    assert over(run, aggregate={"min": {"op": "min", "of": "item.tag"}})["min"] == "a"


def test_default_holds_per_item_too(run: Run) -> None:
    outcome = run("transform", {"source": "trigger", "mapping": {"a": "item.a"}, "default": 0}, [{"a": 1}, {}])
    assert outcome == Completed([{"a": 1}, {"a": 0}])


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"source": "trigger.x"}, "type_error"),
        ({"source": "trigger.list", "filter": "item"}, "type_error"),
        ({"source": "trigger.list", "sort": [{"by": "item"}]}, "type_error"),
        ({"source": "trigger.list", "sort": [{"by": "[item]"}]}, "type_error"),
        ({"source": "trigger.list", "limit": "{{ trigger.x }}"}, "type_error"),
        ({"source": "trigger.list", "limit": "{{ true }}"}, "type_error"),
        ({"source": "trigger.list", "aggregate": {"s": {"op": "sum"}}}, "type_error"),
        ({"source": "trigger.list", "aggregate": {"s": {"op": "max"}}}, "type_error"),
        ({"source": "trigger.huge", "aggregate": {"s": {"op": "sum"}}}, "type_error"),
        ({"source": "trigger.huge", "aggregate": {"s": {"op": "avg"}}}, "type_error"),
        ({"source": "trigger.many"}, "limit_exceeded"),
    ],
)
def test_values_of_wrong_types_fail_the_step(run: Run, config: Any, code: str) -> None:
    trigger = {"x": "text", "list": [1, "a"], "huge": [1e308, 1e308], "many": [0] * 100_001}
    outcome = run("transform", config, trigger)
    assert isinstance(outcome, Failed)
    assert outcome.error.code == code


def test_the_given_values_are_not_changed(run: Run) -> None:
    before = [dict(order) for order in ORDERS]
    over(run, sort=[{"by": "item.total"}], group={"by": "item.city"}, limit=1)
    assert before == ORDERS
