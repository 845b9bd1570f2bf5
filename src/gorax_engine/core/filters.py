"""Filters: which requests to a webhook start a run.

Filters of one group are alternatives, all groups must hold, and no filters let everything through. A filter looks at
the values at its path (`json_paths.py`) with its operator (`filter_operators.py`). Where it finds

- nothing, only `not_exists` holds; null is something;
- several values, one that holds is enough. Operators that say `not` hold if their opposite holds for none of them;
- a value of a type that its operator doesn't look at, the operator doesn't hold;
- more than it may look at, the filter doesn't hold, whatever its operator says.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from gorax_engine.core import json_edge
from gorax_engine.core.filter_operators import BY_NAME, Comparison
from gorax_engine.core.json_paths import WORK, BadPath, Budget, Path, TooMuchWork, compile_path
from gorax_engine.core.model import Json

OPERATORS: Final = tuple(BY_NAME)
"""The names of all operators."""

MAX_VALUE: Final = 10_000
"""Characters of a filter's value as JSON."""

MAX_REASON: Final = 500
MAX_WORK: Final = 100_000
"""Units of work that the filters of a webhook may do on one request together, each an equal share, at most WORK."""
_SHOWN: Final = 80


class BadFilter(ValueError):
    """A filter that must not be saved: `field` is `field_path`, `operator` or `value`; the message is a sentence."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


@dataclass(frozen=True, slots=True)
class Filter:
    """One rule as it is stored; `value` is JSON, and null where the operator needs none."""

    id: UUID | str | None
    field_path: str
    operator: str
    value: Json
    logic_group: int = 0


@dataclass(frozen=True, slots=True)
class RuleVerdict:
    """What became of one filter: whether its field was found, with which value, and a sentence that says why.

    Of several values, `actual` is the one that decided, else the first. It and `reason` hold data of the request.
    """

    filter: Filter
    passed: bool
    found: bool
    actual: Json
    reason: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request starts a run; `rules` are in the order of the filters, `reason` is that of `refusal`."""

    passed: bool
    rules: tuple[RuleVerdict, ...]
    reason: str | None


@dataclass(frozen=True, slots=True)
class _Rule:
    """A filter that can be read. `when_missing` is its verdict on a missing field, `units` the work that it may do."""

    filter: Filter
    path: Path
    comparison: Comparison
    negated: bool
    when_missing: bool
    label: str
    units: int

    def passes(self, request: dict[str, Json]) -> bool:
        budget = Budget(self.units)
        holds = self.comparison.holds
        found = False
        try:
            for actual in self.path.find(request, budget):
                if holds(actual, budget):
                    return not self.negated
                found = True
        except TooMuchWork:
            return False
        return self.negated if found else self.when_missing

    def judge(self, request: dict[str, Json]) -> RuleVerdict:
        budget = Budget(self.units)
        decided, count, held, fits = None, 0, False, True
        try:
            for actual in self.path.find(request, budget):
                answer = self.comparison.holds(actual, budget)
                count += 1
                if count == 1 or answer:
                    decided, held, fits = actual, bool(answer), answer is not None
                if answer:
                    break
        except TooMuchWork:
            reason = f"Looking at `{self.filter.field_path}` takes more than {self.units:,} units of work."
            return RuleVerdict(self.filter, passed=False, found=count > 0, actual=decided, reason=reason)
        passed = held is not self.negated if count else self.when_missing
        reason = self._explain(passed, decided, count, held, fits)
        return RuleVerdict(self.filter, passed, count > 0, decided, reason)

    def _explain(self, passed: bool, decided: Json, count: int, held: bool, fits: bool) -> str:
        if not count:
            rest = "as it should be" if passed else "so that only `not_exists` could hold"
            return f"`{self.filter.field_path}` is missing, {rest}."
        several = f", the first of {count} values" if count > 1 and not held else ""
        outcome = "holds" if passed else "doesn't hold"
        why = "" if passed or fits else f", for it looks at {self.comparison.needs}"
        return f"{self.label} {outcome} for {_shown(decided)}{several}{why}."


@dataclass(frozen=True, slots=True)
class _Unreadable:
    """A filter that was stored unchecked and can't be read: it holds for nothing, rather than for everything."""

    filter: Filter
    fault: str
    label: str

    def passes(self, _request: dict[str, Json]) -> bool:
        return False

    def judge(self, _request: dict[str, Json]) -> RuleVerdict:
        reason = f"The filter can't be read: {self.fault}"
        return RuleVerdict(self.filter, passed=False, found=False, actual=None, reason=reason)


@dataclass(frozen=True, slots=True)
class _Group:
    """Alternatives, and what to say if none holds."""

    rules: tuple[_Rule | _Unreadable, ...]
    refusal: str


class FilterSet:
    """The enabled filters of a webhook, compiled. Nothing in here raises: a filter that can't be read never holds."""

    __slots__ = ("_groups", "_rules")

    def __init__(self, filters: Iterable[Filter]) -> None:
        every = list(filters)
        units = min(WORK, MAX_WORK // max(1, len(every)))
        self._rules = tuple(_compile(each, units) for each in every)
        groups: dict[int, list[_Rule | _Unreadable]] = {}
        for rule in self._rules:
            groups.setdefault(rule.filter.logic_group, []).append(rule)
        self._groups = tuple(_group(number, rules) for number, rules in sorted(groups.items()))

    def refusal(self, request: dict[str, Json]) -> str | None:
        """Return None if the request starts a run, else which group failed first, in at most MAX_REASON characters.

        `request` is the trigger data: an object with `method`, `headers`, `query` and `body`. The reason names paths,
        operators and the values of the filters, and nothing of the request, so that it may be stored and logged.
        """
        for group in self._groups:
            for rule in group.rules:
                if rule.passes(request):
                    break
            else:
                return group.refusal
        return None

    def judge(self, request: dict[str, Json]) -> Verdict:
        """Return what became of every filter. The verdict is that of `refusal`, at a higher cost."""
        verdicts = {id(rule): rule.judge(request) for rule in self._rules}
        failed = (group for group in self._groups if not any(verdicts[id(rule)].passed for rule in group.rules))
        reason = next((group.refusal for group in failed), None)
        return Verdict(reason is None, tuple(verdicts[id(rule)] for rule in self._rules), reason)


def check_filter(field_path: str, operator: str, value: Json) -> None:
    """Raise BadFilter unless a filter with these may be saved. `value` has come through `json_edge`."""
    _read(Filter(None, field_path, operator, value))


def _compile(each: Filter, units: int) -> _Rule | _Unreadable:
    try:
        return _read(each, units)
    except BadFilter as error:
        return _Unreadable(each, error.message, f"{_label(each)} (which can't be read)")


def _read(each: Filter, units: int = WORK) -> _Rule:
    try:
        path = compile_path(each.field_path)
    except BadPath as error:
        raise BadFilter("field_path", str(error)) from None
    meaning = BY_NAME.get(each.operator)
    if meaning is None:
        raise BadFilter("operator", f"`{each.operator[:_SHOWN]}` is none of {', '.join(OPERATORS)}.")
    try:
        if meaning.has_value and len(json_edge.encode(each.value)) > MAX_VALUE:
            raise BadFilter("value", f"The value has more than {MAX_VALUE:,} characters as JSON.")
        comparison = meaning.build(each.value)
    except json_edge.Unencodable as error:
        raise BadFilter("value", f"The value can't be stored: {error}.") from None
    except ValueError as error:
        raise BadFilter("value", str(error)) from None
    return _Rule(each, path, comparison, meaning.negated, each.operator == "not_exists", _label(each), units)


def _group(number: int, rules: list[_Rule | _Unreadable]) -> _Group:
    text = f"No filter of group {number} holds: {'; '.join(rule.label for rule in rules)}."
    return _Group(tuple(rules), text if len(text) <= MAX_REASON else f"{text[: MAX_REASON - 1]}…")


def _label(each: Filter) -> str:
    meaning = BY_NAME.get(each.operator)
    value = f" {_shown(each.value)}" if meaning is None or meaning.has_value else ""
    return f"`{each.field_path}` {each.operator}{value}"


def _shown(value: Json) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
