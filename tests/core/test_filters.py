"""Which requests start a run: every operator on every kind of value, groups, reasons, and what may not be saved."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gorax_engine.core import filter_operators
from gorax_engine.core.expressions.limits import REGEX_CHARACTERS
from gorax_engine.core.filter_operators import BY_NAME, MAX_INSTRUCTIONS, MAX_PATTERNS
from gorax_engine.core.filters import (
    MAX_REASON,
    MAX_VALUE,
    OPERATORS,
    BadFilter,
    Filter,
    FilterSet,
    RuleVerdict,
    Verdict,
    check_filter,
)
from gorax_engine.core.json_paths import MAX_CHARACTERS, MAX_STEPS, WORK

PAGE = (Path(__file__).parents[2] / "docs" / "webhook-filters.md").read_text(encoding="utf-8")
DOCUMENT = (
    "equals", "not_equals", "contains", "not_contains", "regex", "gt", "gte", "lt", "lte", "in", "not_in", "exists",
    "not_exists",
)  # fmt: skip
GORAX = ("starts_with", "ends_with", "is_empty", "is_not_empty", "between", "matches_any", "matches_all")
OPPOSITES = {
    "not_equals": "equals", "not_contains": "contains", "not_in": "in", "not_exists": "exists",
    "is_not_empty": "is_empty",
}  # fmt: skip
HUGE = 10**40


def rule(path: str, operator: str, value: Any = None, group: int = 0) -> Filter:
    return Filter(None, path, operator, value, group)


def judge(*filters: Filter, body: Any = None, **others: Any) -> Verdict:
    """The verdict, after a look whether the quick way comes to the same."""
    filter_set, request = FilterSet(filters), {"body": body, **others}
    verdict = filter_set.judge(request)
    assert filter_set.refusal(request) == verdict.reason
    assert verdict.passed is (verdict.reason is None)
    return verdict


def judge_one(path: str, operator: str, value: Any, body: Any, **others: Any) -> RuleVerdict:
    check_filter(path, operator, value)
    verdict = judge(rule(path, operator, value), body=body, **others)
    assert verdict.rules[0].passed is verdict.passed
    return verdict.rules[0]


CASES: list[tuple[str, Any, Any, bool]] = [
    ("equals", "a", "a", True),
    ("equals", "a", "A", False),
    ("equals", "", "", True),
    ("equals", 5, 5, True),
    ("equals", 5, 5.0, True),
    ("equals", 5, "5", True),
    ("equals", 5, "5.0", True),
    ("equals", 5, "50e-1", True),
    ("equals", "5", 5, True),
    ("equals", "5", 5.0, True),
    ("equals", "5", "5", True),
    ("equals", "5", "5.0", False),  # both are text
    ("equals", 5, "05", False),
    ("equals", "05", 5, False),
    ("equals", 5, "+5", False),
    ("equals", 5, " 5", False),
    ("equals", 5, "5\n", False),
    ("equals", 5, "٥", False),
    ("equals", 0, "-0", True),
    ("equals", 0.1, "0.1", True),
    ("equals", "0.1", 0.1, True),
    ("equals", 0.1, "0.1000000000000000055511151231257827", False),
    ("equals", 10**16, 1e16, True),
    ("equals", 10**23, 1e23, True),
    ("equals", HUGE + 1, HUGE + 1, True),
    ("equals", HUGE + 1, HUGE, False),
    ("equals", HUGE + 1, str(HUGE + 1), True),
    ("equals", HUGE + 1, str(HUGE), False),
    ("equals", 2**53 + 1, float(2**53), False),
    ("equals", 1, "1e999", False),
    ("equals", 1, True, False),
    ("equals", True, 1, False),
    ("equals", True, True, True),
    ("equals", True, "true", False),
    ("equals", "true", True, False),
    ("equals", False, 0, False),
    ("equals", False, None, False),
    ("equals", None, None, True),
    ("equals", None, "", False),
    ("equals", None, 0, False),
    ("equals", [1, "2"], [1.0, 2], True),
    ("equals", [1, 2], [2, 1], False),
    ("equals", [1], [1, 1], False),
    ("equals", [], {}, False),
    ("equals", {"a": [True, None]}, {"a": [True, None]}, True),
    ("equals", {"a": 1}, {"a": "1"}, True),
    ("equals", {"a": 1}, {"a": 2}, False),
    ("equals", {"a": 1}, {"a": 1, "b": 2}, False),
    ("equals", {"a": 1}, {"b": 1}, False),
    ("equals", {"a": [1]}, {"a": [True]}, False),
    ("equals", "a", ["a"], False),
    ("contains", "b", "abc", True),
    ("contains", "B", "abc", False),
    ("contains", "", "abc", True),
    ("contains", "a", ["a", "b"], True),
    ("contains", "ab", ["a", "b"], False),
    ("contains", 5, ["5"], True),
    ("contains", "5", [5], True),
    ("contains", 1, [True], False),
    ("contains", None, [None], True),
    ("contains", None, [0, ""], False),
    ("contains", {"a": 1}, [{"a": 1}], True),
    ("contains", "a", {"a": 1}, True),
    ("contains", "b", {"a": "b"}, False),
    ("contains", "a", [], False),
    ("contains", 5, "5", False),
    ("contains", "5", 5, False),
    ("contains", 5, {"5": 1}, False),
    ("contains", [1], {"a": 1}, False),
    ("contains", "a", None, False),
    ("contains", "e", True, False),
    ("starts_with", "ab", "abc", True),
    ("starts_with", "b", "abc", False),
    ("starts_with", "1", 12, False),
    ("starts_with", "a", ["a"], False),
    ("starts_with", "a", None, False),
    ("ends_with", "bc", "abc", True),
    ("ends_with", "b", "abc", False),
    ("ends_with", "2", 12, False),
    ("regex", "b.", "abc", True),
    ("regex", "^b", "abc", False),
    ("regex", "(?i)^ABC$", "abc", True),
    ("regex", r"^\p{L}+$", "größe", True),
    ("regex", "", "", True),
    ("regex", "5", 5, False),
    ("regex", "a", ["a"], False),
    ("regex", "", None, False),
    ("matches_any", ["^x", "c$"], "abc", True),
    ("matches_any", ["^x", "y"], "abc", False),
    ("matches_any", ["a"], ["a"], False),
    ("matches_all", ["^a", "c$"], "abc", True),
    ("matches_all", ["^a", "y"], "abc", False),
    ("matches_all", ["1"], 1, False),
    ("gt", 5, 6, True),
    ("gt", 5, 5, False),
    ("gt", 5, 5.5, True),
    ("gt", 5, "6", True),
    ("gt", "5", 6, True),
    ("gt", "5", "10", True),  # numbers, though "10" is before "5"
    ("gt", 5, "x", False),
    ("gt", "5", "x", False),
    ("gt", 5, True, False),
    ("gt", 0, True, False),
    ("gt", 5, None, False),
    ("gt", 5, [6], False),
    ("gt", 5, {"a": 6}, False),
    ("gt", HUGE, HUGE + 1, True),
    ("gt", HUGE, str(HUGE + 1), True),
    ("gt", HUGE + 1, float(HUGE), False),
    ("gt", "2024-01-01", "2024-01-02T00:00:00Z", True),
    ("gt", "2024-01-02", "2024-01-01", False),
    ("gt", "2024-01-01", 5, False),
    ("gt", "a", "5", False),  # text
    ("gte", 5, 5, True),
    ("gte", 5, "5.0", True),
    ("gte", 5, 4.9, False),
    ("gte", "b", "b", True),
    ("gte", "b", "a", False),
    ("lt", 5, 4, True),
    ("lt", 5, 5, False),
    ("lt", -5, "-6", True),
    ("lt", "b", "a", True),
    ("lt", 5, None, False),
    ("lt", 5, "", False),
    ("lte", 5, 5, True),
    ("lte", 5, 5.1, False),
    ("lte", 5, "x", False),
    ("between", {"min": 1, "max": 5}, 1, True),
    ("between", {"min": 1, "max": 5}, 5, True),
    ("between", {"min": 1, "max": 5}, "3", True),
    ("between", {"min": 1, "max": 5}, 0.9, False),
    ("between", {"min": 1, "max": 5}, 5.1, False),
    ("between", {"min": 1, "max": 5}, "x", False),
    ("between", {"min": 0, "max": 5}, True, False),
    ("between", {"min": 1, "max": "5"}, 5, True),
    ("between", {"min": 1, "max": 1}, 1, True),
    ("between", {"min": "2024-01-01", "max": "2024-12-31"}, "2024-06-01", True),
    ("between", {"min": "2024-01-01", "max": "2024-12-31"}, "2025-06-01", False),
    ("between", {"min": "2024-01-01", "max": "2024-12-31"}, 2024, False),
    ("in", ["a", "b"], "b", True),
    ("in", ["a", "b"], "c", False),
    ("in", [1, 2], "2", True),
    ("in", ["1"], 1, True),
    ("in", [1], True, False),
    ("in", [None], None, True),
    ("in", [[1], {"a": 1}], {"a": 1}, True),
    ("in", ["a"], ["a"], False),
    ("exists", None, 1, True),
    ("exists", None, None, True),
    ("exists", None, False, True),
    ("is_empty", None, None, True),
    ("is_empty", None, "", True),
    ("is_empty", None, [], True),
    ("is_empty", None, {}, True),
    ("is_empty", None, " ", False),
    ("is_empty", None, [None], False),
    ("is_empty", None, {"a": None}, False),
    ("is_empty", None, 0, False),
    ("is_empty", None, False, False),
]


def test_the_operators_are_the_document_s_and_gorax_s() -> None:
    assert sorted(OPERATORS) == sorted(DOCUMENT + GORAX)
    assert {operator for operator, *_ in CASES} | set(OPPOSITES) == set(OPERATORS)
    assert all(len(operator) <= 20 for operator in OPERATORS)  # what the column holds


class TestPage:
    def section(self, name: str) -> str:
        return PAGE.partition(f"## {name}\n")[2].partition("\n## ")[0]

    def test_its_operators_are_all_in_order(self) -> None:
        rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", self.section("Operators"), re.MULTILINE)
        assert tuple(name for name, *_ in rows) == OPERATORS
        opposites = {name: re.findall("the opposite of `(.+)`", text) for name, _, text in rows}
        assert {name: found[0] for name, found in opposites.items() if found} == OPPOSITES
        ignored = {name for name, value, _ in rows if value == "ignored"}
        assert ignored == {name for name, operator in BY_NAME.items() if not operator.has_value}

    def test_its_paths_can_be_read(self) -> None:
        rows = re.findall(r"^\| (`.+?) \| ", self.section("Paths"), re.MULTILINE)
        paths = [path for row in rows for path in re.findall("`(.+?)`", row)]
        assert len(paths) > 12
        for path in paths:
            check_filter(path, "exists", None)

    def test_its_figures(self) -> None:
        figures = re.findall(r" \| ([\d,]+) \|$", self.section("Limits"), re.MULTILINE)
        limits = (MAX_CHARACTERS, MAX_STEPS, MAX_VALUE, REGEX_CHARACTERS, MAX_INSTRUCTIONS, WORK)
        assert [int(figure.replace(",", "")) for figure in figures] == list(limits)
        assert f"1 to {MAX_PATTERNS} strings" in PAGE
        assert f"divided by {filter_operators._STEPS_PER_UNIT}" in PAGE

    def test_its_example_means_what_it_says(self) -> None:
        rules = [Filter(None, **fields) for fields in json.loads(PAGE.partition("```json")[2].partition("```")[0])]
        for status, total, passed in (
            ("completed", 100, True), ("shipped", 500, True), ("open", 500, False), ("shipped", 99, False),
        ):  # fmt: skip
            assert judge(*rules, body={"order": {"status": status, "total": total}}).passed is passed


@pytest.mark.parametrize(("operator", "value", "actual", "verdict"), CASES)
def test_operators(operator: str, value: Any, actual: Any, verdict: bool) -> None:
    judged = judge_one("$.a", operator, value, {"a": actual})
    assert judged.passed is verdict
    assert (judged.found, judged.actual) == (True, actual)
    # The same where the path must be searched.
    assert judge_one("$.b[*].a", operator, value, {"b": [{"a": actual}]}).passed is verdict


@pytest.mark.parametrize(("opposite", "operator"), OPPOSITES.items())
def test_opposites_hold_where_the_others_do_not(opposite: str, operator: str) -> None:
    for value, actual, verdict in [case[1:] for case in CASES if case[0] == operator]:
        assert judge_one("$.a", opposite, value, {"a": actual}).passed is not verdict
        assert judge_one("$.b[*].a", opposite, value, {"b": [{"a": actual}]}).passed is not verdict


VALUES: dict[str, Any] = {
    "in": [1], "not_in": [1], "between": {"min": 1, "max": 2}, "matches_any": ["a"], "matches_all": ["a"],
}  # fmt: skip


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_missing_field_fails_all_but_not_exists(operator: str) -> None:
    for path in ("$.a", "$.b.a", "$.b[3]", "$..a", "$.b[*].c", "headers.a", "query.a"):
        judged = judge_one(path, operator, VALUES.get(operator, "x"), {"b": [None]}, headers={}, query={})
        assert judged.passed is (operator == "not_exists")
        assert (judged.found, judged.actual) == (False, None)
        assert f"`{path}` is missing" in judged.reason


@pytest.mark.parametrize("operator", ["exists", "not_exists", "is_empty", "is_not_empty"])
def test_what_needs_no_value_takes_any(operator: str) -> None:
    for value in (None, True, "x", ["y" * MAX_VALUE]):
        assert judge_one("$.a", operator, value, {"a": "x"}).passed is (operator in {"exists", "is_not_empty"})


class TestSeveralValues:
    BODY: Final = {"items": [{"n": 1}, {"n": 2}, {"n": "x"}, {}]}

    @pytest.mark.parametrize(
        ("operator", "value", "verdict", "actual"),
        [
            ("equals", 2, True, 2),
            ("equals", 3, False, 1),
            ("gt", 1, True, 2),
            ("gt", 2, False, 1),
            ("regex", "x", True, "x"),
            ("in", [5, 2], True, 2),
            ("exists", None, True, 1),
            ("not_exists", None, False, 1),
            ("not_equals", 2, False, 2),
            ("not_equals", 3, True, 1),
            ("not_in", [7, "x"], False, "x"),
            ("not_in", [7], True, 1),
            ("is_not_empty", None, True, 1),
        ],
    )
    def test_one_is_enough_and_none_for_those_that_say_not(
        self, operator: str, value: Any, verdict: bool, actual: Any
    ) -> None:
        judged = judge_one("$.items[*].n", operator, value, self.BODY)
        assert (judged.passed, judged.found, judged.actual) == (verdict, True, actual)

    def test_the_reason_says_of_how_many(self) -> None:
        assert judge_one("$.items[*].n", "gt", 2, self.BODY).reason == (
            "`$.items[*].n` gt 2 doesn't hold for 1, the first of 3 values."
        )
        assert judge_one("$.items[*].n", "gt", 1, self.BODY).reason == "`$.items[*].n` gt 1 holds for 2."


class TestGroups:
    BODY: Final = {"status": "shipped", "total": 120}
    SHIPPED = rule("$.status", "equals", "shipped")
    DONE = rule("$.status", "equals", "completed")
    LARGE = rule("$.total", "gte", 100, 1)
    HUGE = rule("$.total", "gte", 1000, 1)

    def test_no_filters_let_everything_through(self) -> None:
        bodies: list[Any] = [None, {}, [], "x"]
        for body in bodies:
            assert judge(body=body) == Verdict(True, (), None)

    def test_alternatives_within_a_group(self) -> None:
        assert judge(self.DONE, self.SHIPPED, body=self.BODY).passed
        assert judge(self.SHIPPED, self.DONE, body=self.BODY).passed
        assert not judge(self.DONE, self.DONE, body=self.BODY).passed

    def test_all_groups_must_hold(self) -> None:
        assert judge(self.DONE, self.SHIPPED, self.LARGE, body=self.BODY).passed
        assert judge(self.LARGE, self.DONE, self.SHIPPED, self.HUGE, body=self.BODY).passed
        assert not judge(self.SHIPPED, self.HUGE, body=self.BODY).passed
        assert not judge(self.DONE, self.LARGE, body=self.BODY).passed

    def test_rules_are_told_in_the_order_of_the_filters(self) -> None:
        filters = (self.HUGE, self.DONE, self.LARGE, self.SHIPPED)
        verdict = judge(*filters, body=self.BODY)
        assert [each.filter for each in verdict.rules] == list(filters)
        assert [each.passed for each in verdict.rules] == [False, False, True, True]

    def test_the_reason_is_that_of_the_first_group_that_failed(self) -> None:
        verdict = judge(self.HUGE, self.DONE, rule("$.status", "regex", "^c", 0), body=self.BODY)
        assert verdict.reason == ('No filter of group 0 holds: `$.status` equals "completed"; `$.status` regex "^c".')
        assert judge(self.SHIPPED, self.HUGE, body=self.BODY).reason == (
            "No filter of group 1 holds: `$.total` gte 1000."
        )
        assert judge(rule("$.x", "exists", 1, -3), body=self.BODY).reason == (
            "No filter of group -3 holds: `$.x` exists."
        )

    def test_what_filters_of_the_rest_of_a_request_look_at(self) -> None:
        filters = (
            rule("headers.X-GitHub-Event", "in", ["push", "ping"]),
            rule("query.env", "equals", "prod", 1),
            rule("method", "equals", "POST", 2),
        )
        request = {"headers": {"x-github-event": "push"}, "query": {"env": "prod"}, "method": "POST"}
        assert judge(*filters, **request).passed
        for part, value in (("headers", {"x-github-event": "fork"}), ("query", {}), ("method", "PUT")):
            assert not judge(*filters, **{**request, part: value}).passed


class TestReasons:
    @pytest.mark.parametrize(
        ("operator", "value", "actual", "reason"),
        [
            ("equals", "a", "a", '`$.a` equals "a" holds for "a".'),
            ("equals", "a", "b", '`$.a` equals "a" doesn\'t hold for "b".'),
            ("not_equals", "a", "a", '`$.a` not_equals "a" doesn\'t hold for "a".'),
            ("exists", 1, None, "`$.a` exists holds for null."),
            ("gt", "5", None, '`$.a` gt "5" doesn\'t hold for null, for it looks at numbers, also as text.'),
            ("regex", "x", 5, '`$.a` regex "x" doesn\'t hold for 5, for it looks at strings.'),
            ("contains", "x", 5, '`$.a` contains "x" doesn\'t hold for 5, for it looks at strings, lists and objects.'),
            ("contains", 5, "x", '`$.a` contains 5 doesn\'t hold for "x", for it looks at lists, with such a value.'),
            ("not_contains", "x", 5, '`$.a` not_contains "x" holds for 5.'),
        ],
    )  # fmt: skip
    def test_of_rules(self, operator: str, value: Any, actual: Any, reason: str) -> None:
        assert judge_one("$.a", operator, value, {"a": actual}).reason == reason

    def test_long_values_are_cut(self) -> None:
        judged = judge_one("$.a", "equals", "v" * 1000, {"a": "w" * 1000})
        assert len(judged.reason) < 250
        assert judged.actual == "w" * 1000

    def test_what_is_stored_is_bounded_and_holds_nothing_of_the_request(self) -> None:
        filters = [rule(f"$.field{n}", "equals", f"value{n}") for n in range(100)]
        body = {f"field{n}": f"confidential{n}" for n in range(100)}
        verdict = judge(*filters, body=body)
        assert verdict.reason is not None
        assert len(verdict.reason) == MAX_REASON
        assert "`$.field0` equals" in verdict.reason
        assert "confidential" not in verdict.reason
        assert "confidential" in verdict.rules[0].reason


class TestWork:
    """What costs too much fails, whatever the operator says, and fails after a known amount of work."""

    @pytest.mark.parametrize("operator", sorted({*OPERATORS} - {"exists", "not_exists"}))
    def test_a_path_that_leads_to_too_many_values(self, operator: str) -> None:
        judged = judge_one("$[*]..a", operator, VALUES.get(operator, "y"), [{"a": -1}] * WORK)
        assert (judged.passed, "units of work" in judged.reason) == (False, True)

    def test_whether_there_is_one_is_settled_by_the_first(self) -> None:
        assert judge_one("$..a", "exists", None, [{"a": -1}] * (WORK - 10)).passed
        judged = judge_one("$..a", "not_exists", None, [{"a": -1}] * (WORK - 10))
        assert (judged.passed, judged.found) == (False, True)

    def test_the_reason_says_so(self) -> None:
        judged = judge_one("$..*", "not_equals", "y", [0] * (WORK + 1))
        assert judged.reason == "Looking at `$..*` takes more than 50,000 units of work."
        assert (judged.passed, judged.found) == (False, False)
        assert judge_one("$..a", "not_equals", "y", [{"a": 1}, *[0] * (WORK - 10)]).found

    def test_a_list_that_is_too_long_to_look_through(self) -> None:
        assert judge_one("$", "contains", 1, [0] * (WORK - 1) + [1]).passed
        assert not judge_one("$", "contains", 1, [1] + [0] * WORK).passed
        assert not judge_one("$", "not_contains", 1, [0] * (WORK + 1)).passed

    def test_a_comparison_that_goes_too_deep(self) -> None:
        body = [[0] * 2999 + [1]] * 60
        assert not judge_one("$[*]", "not_equals", [0] * 3000, body).passed
        assert judge_one("$[*]", "not_equals", [0] * 3000, body[:10]).passed
        wide = {str(n): 0 for n in range(1000)}
        assert not judge_one("$[*]", "not_equals", {**wide, "0": 1}, [wide] * 60).passed
        assert judge_one("$[*]", "not_equals", {**wide, "0": 1}, [wide] * 10).passed

    def test_a_choice_that_is_made_too_often(self) -> None:
        assert not judge_one("$[*]", "not_in", list(range(1000)), [-1] * 60).passed
        assert judge_one("$[*]", "not_in", list(range(1000)), [-1] * 10).passed

    @pytest.mark.parametrize(("operator", "wrap"), [("regex", False), ("matches_any", True), ("matches_all", True)])
    def test_a_text_that_is_too_long_for_its_pattern(self, operator: str, wrap: bool) -> None:
        pattern = "[ab]*a[ab]{400}c"
        value = [pattern] if wrap else pattern
        assert "units of work" in judge_one("$", operator, value, "ab" * 50_000).reason
        assert "doesn't hold" in judge_one("$", operator, value, "ab" * 1_000).reason
        assert judge_one("$", operator, ["b$"] if wrap else "b$", "ab" * 50_000).passed

    def test_patterns_that_would_backtrack_do_not(self) -> None:
        assert not judge_one("$", "regex", "^(a+)+$", "a" * 20_000 + "b").passed


class TestSaving:
    @pytest.mark.parametrize(
        ("path", "operator", "value", "field", "message"),
        [
            ("", "equals", 1, "field_path", "can't be read"),
            ("$..a..b", "equals", 1, "field_path", "more than one"),
            ("$[?(@.a)]", "equals", 1, "field_path", "can't be read"),
            ("$." + "a" * 255, "equals", 1, "field_path", "255 characters"),
            ("$.a", "", 1, "operator", "none of equals, not_equals"),
            ("$.a", "EQUALS", 1, "operator", "`EQUALS` is none of"),
            ("$.a", "like", 1, "operator", "none of"),
            ("$.a", "equals", "x" * (MAX_VALUE - 1), "value", "10,000 characters"),
            ("$.a", "equals", "\0", "value", "NUL"),
            ("$.a", "equals", "\ud800", "value", "surrogate"),
            ("$.a", "in", "a", "value", "list"),
            ("$.a", "in", [], "value", "at least one"),
            ("$.a", "not_in", {"a": 1}, "value", "list"),
            ("$.a", "starts_with", 1, "value", "string"),
            ("$.a", "ends_with", None, "value", "string"),
            ("$.a", "regex", 1, "value", "must be a string"),
            ("$.a", "regex", ["a"], "value", "must be a string"),
            ("$.a", "regex", "(", "value", "not a regular expression"),
            ("$.a", "regex", r"(a)\1", "value", "not a regular expression: invalid escape sequence"),
            ("$.a", "regex", "a(?=b)", "value", "not a regular expression: invalid perl operator"),
            ("$.a", "regex", "(?<!a)b", "value", "not a regular expression"),
            ("$.a", "regex", "a" * 1001, "value", "1,000 characters"),
            ("$.a", "regex", "a{1001}", "value", "not a regular expression"),
            ("$.a", "regex", r"\pL{20}", "value", "too large"),
            ("$.a", "regex", r"\pL{200}", "value", "not a regular expression"),
            ("$.a", "matches_any", "a", "value", "1 to 50 regular expressions"),
            ("$.a", "matches_any", [], "value", "1 to 50 regular expressions"),
            ("$.a", "matches_all", ["a"] * (MAX_PATTERNS + 1), "value", "1 to 50 regular expressions"),
            ("$.a", "matches_all", ["a", 1], "value", "must be a string"),
            ("$.a", "matches_all", ["a", "("], "value", "not a regular expression"),
            ("$.a", "gt", None, "value", "number or a string"),
            ("$.a", "gte", True, "value", "number or a string"),
            ("$.a", "lt", [1], "value", "number or a string"),
            ("$.a", "between", 5, "value", '{"min"'),
            ("$.a", "between", [1, 2], "value", '{"min"'),
            ("$.a", "between", {"min": 1}, "value", '{"min"'),
            ("$.a", "between", {"min": 1, "max": 2, "x": 3}, "value", '{"min"'),
            ("$.a", "between", {"min": 1, "max": None}, "value", "number or a string"),
            ("$.a", "between", {"min": 2, "max": 1}, "value", "not be above"),
            ("$.a", "between", {"min": "10", "max": 9}, "value", "not be above"),
            ("$.a", "between", {"min": "b", "max": "a"}, "value", "not be above"),
            ("$.a", "between", {"min": 1, "max": "x"}, "value", "both other strings"),
        ],
    )
    def test_what_is_refused(self, path: str, operator: str, value: Any, field: str, message: str) -> None:
        with pytest.raises(BadFilter) as raised:
            check_filter(path, operator, value)
        assert raised.value.field == field
        assert message in raised.value.message
        assert raised.value.message == str(raised.value)
        assert raised.value.message.endswith(".")

    def test_limits_are_reached(self) -> None:
        check_filter("$.a", "equals", "x" * (MAX_VALUE - 2))
        check_filter("$.a", "matches_all", ["a"] * MAX_PATTERNS)
        check_filter("$.a", "regex", "a" * 1000)

    @pytest.mark.parametrize(
        ("path", "operator", "value"), [("$..a..b", "equals", 1), ("$.a", "like", 1), ("$.a", "not_in", 5)]
    )
    def test_what_was_stored_unchecked_holds_for_nothing(self, path: str, operator: str, value: Any) -> None:
        bad = rule(path, operator, value)
        verdict = judge(bad, body={"a": 1})
        assert verdict.reason == f"No filter of group 0 holds: `{path}` {operator} {value} (which can't be read)."
        assert (verdict.rules[0].passed, verdict.rules[0].found) == (False, False)
        assert verdict.rules[0].reason.startswith("The filter can't be read: ")
        assert judge(bad, rule("$.a", "equals", 1), body={"a": 1}).passed
        assert not judge(bad, rule("$.a", "equals", 1, 1), body={"a": 1}).passed


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
SCALARS = (
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False) | TEXT
    | st.sampled_from(["5", "5.0", "-1e3", "", "a"]) | st.integers(-2, 6)
)  # fmt: skip
NAMES = st.sampled_from(["a", "b", "min", "max"]) | TEXT
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)
PATHS = st.sampled_from(
    ["$", "$.a", "a.b", "$.a[0]", "$..a", "$..*", "$[*]", "$.*.a", "$[0,-1]", "$[1:]", "headers.a", "query.a", "method"]
)
FILTERS = st.builds(
    Filter,
    st.none(),
    PATHS | TEXT,
    st.sampled_from(OPERATORS) | TEXT,
    TREES | st.sampled_from([["a"], "a", {"min": 1, "max": 5}, 5]),
    st.integers(0, 2),
)


@given(st.lists(FILTERS, max_size=5), TREES, st.dictionaries(NAMES, TEXT, max_size=2))
def test_nothing_makes_it_raise(filters: list[Filter], body: Any, headers: dict[str, str]) -> None:
    verdict = judge(*filters, body=body, headers=headers, query=headers, method="POST")
    assert len(verdict.rules) == len(filters)
    assert len(verdict.reason or "") <= MAX_REASON
    for judged in verdict.rules:
        assert judged.reason.endswith(".")
        assert judged.found or not judged.passed or judged.filter.operator == "not_exists"


@given(PATHS, st.sampled_from(sorted(OPPOSITES)), TREES | st.lists(SCALARS, min_size=1), TREES)
def test_not_is_the_negation_on_what_is_found(path: str, opposite: str, value: Any, body: Any) -> None:
    verdict = judge(rule(path, opposite, value), rule(path, OPPOSITES[opposite], value), body=body)
    negated, positive = verdict.rules
    if positive.found and "can't be read" not in positive.reason:
        assert negated.passed is not positive.passed


@given(TREES, st.lists(TREES, max_size=3))
def test_a_value_equals_itself_and_is_in_a_list_with_it(value: Any, others: list[Any]) -> None:
    again = json.loads(json.dumps(value))
    assert judge_one("$", "equals", value, again).passed
    assert judge_one("$", "in", [*others, value], again).passed
    assert judge_one("$", "contains", value, [*others, again]).passed


@given(SCALARS, SCALARS)
def test_numbers_have_one_order(one: Any, other: Any) -> None:
    if any(type(value) not in (int, float) for value in (one, other)):
        return
    before, same, after = (judge_one("$", name, other, one).passed for name in ("lt", "equals", "gt"))
    assert [before, same, after].count(True) == 1
    assert judge_one("$", "gte", other, one).passed is (same or after)
    assert judge_one("$", "lte", other, one).passed is (same or before)
    # Written out, they are the same numbers.
    text = re.sub(r"^(-?)inf$", "", json.dumps(one))
    assert judge_one("$", "equals", other, text).passed is same
