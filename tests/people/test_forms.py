"""Forms: what is right, what is left out, and every fault at once."""

from typing import Any

import pytest

from gorax_engine.people.forms import defaults, fill_in


def field(kind: str, **more: Any) -> dict[str, Any]:
    return {"name": "f", "type": kind, "label": "F", "required": False, "options": [], **more}


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        ("text", ["a", " "], [1, True, [], {}]),
        ("number", [1, -2.5, 0], ["1", True, []]),
        ("checkbox", [True, False], [0, "true"]),
        ("select", ["a", 1, 1.0], ["b", True, "1", []]),
        ("date", ["2030-01-31", "2030-01-31T10:00:00Z"], ["2030-02-31", "20300131", "soon", 3, "2030-W05-4"]),
    ],
)
def test_values_by_type(kind: str, right: list[Any], wrong: list[Any]) -> None:
    options = ["a", 1] if kind == "select" else []
    for value in right:
        assert fill_in([field(kind, options=options)], {"f": value}) == ({"f": value}, [])
    for value in wrong:
        values, problems = fill_in([field(kind, options=options)], {"f": value})
        assert (values, [each.code for each in problems]) == ({}, ["wrong_value"]), value


@pytest.mark.parametrize("absent", [{}, {"f": None}, {"f": ""}])
def test_what_is_left_out(absent: dict[str, Any]) -> None:
    assert fill_in([field("number")], absent) == ({}, [])
    assert fill_in([field("number", default=0)], absent) == ({"f": 0}, [])
    assert fill_in([field("text", required=True, default="x")], absent) == ({"f": "x"}, [])
    assert [each.code for each in fill_in([field("text", required=True)], absent)[1]] == ["required_field"]
    assert fill_in([field("text")], absent)[1] == []
    assert fill_in([field("checkbox", required=True)], {"f": False}) == ({"f": False}, [])
    assert fill_in([field("select", options=["", "a"], required=True)], {"f": ""}) == ({"f": ""}, [])


def test_a_default_of_a_wrong_type_is_seen() -> None:
    assert [each.code for each in fill_in([field("number", default="3")], {})[1]] == ["wrong_value"]


def test_unknown_fields_are_faults_only_where_there_is_a_form() -> None:
    assert fill_in([], {"anything": [1]}) == ({"anything": [1]}, [])
    problems = fill_in([field("text")], {"g~/": 1})[1]
    assert [(each.code, each.pointer) for each in problems] == [("unknown_field", "/data/g~0~1")]


def test_defaults() -> None:
    assert defaults([field("number", default=3), {**field("text"), "name": "g"}]) == {"f": 3}
