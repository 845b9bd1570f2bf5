"""What the walk must know of each scope and join, compiled from the configs of their nodes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from gorax_engine.core.breaker import BreakerPolicy
from gorax_engine.core.config_template import compile_condition
from gorax_engine.core.durations import parse_duration
from gorax_engine.core.expressions import Expression
from gorax_engine.core.json_edge import encode
from gorax_engine.core.model import Json, Micros, Node, RetryPolicy
from gorax_engine.core.structure import CATCH, Part

MAX_ITERATIONS: Final = 1_000
"""How many iterations a loop may have that says nothing itself."""

ERROR_BINDING: Final = "error"
LOOP_STEP: Final = "_loop"
"""The step under which Gorax's workflows find the loop they are in."""
_OLDER: Final[Mapping[Json, str]] = {"wait_all": "continue"}
"""Gorax's older words for what a failed branch does."""

_WORDS: Final[Mapping[str, str]] = {
    "equals": "==",
    "not_equals": "!=",
    "greater_than": ">",
    "less_than": "<",
    "greater_or_equal": ">=",
    "less_or_equal": "<=",
}
"""Gorax's names of operators in break conditions; `contains` and the like are expressions' own words."""


@dataclass(frozen=True, slots=True)
class LoopPlan:
    """A loop over `source` (read when it opens), or while `condition` holds. `body` is the number of its body.

    `as_steps` are names that its body looks up as Gorax's workflows do: `steps.<item_variable>`, `steps._loop`.
    `folds` says that what iterations gave is recorded together from time to time, so that a rebuilt run need not look
    at their steps: not for a `while`, which looks back, nor where steps may be run again as a new round.
    """

    body: int
    condition: Expression | None
    breaks: tuple[Expression, ...]
    item: str
    index: str | None
    key: str | None
    max_iterations: int
    max_concurrency: int
    stops: bool
    as_steps: frozenset[str]
    folds: bool

    @property
    def bodies(self) -> tuple[int, ...]:
        return (self.body,)


@dataclass(frozen=True, slots=True)
class ParallelPlan:
    """Branches by name and body. `wants_first`: the first success is enough. `stops`: one failure ends all."""

    branches: tuple[tuple[str, int], ...]
    wants_first: bool
    max_concurrency: int | None
    stops: bool

    @property
    def bodies(self) -> tuple[int, ...]:
        return tuple(body for _, body in self.branches)


@dataclass(frozen=True, slots=True)
class CatchPlan:
    """A handler: which errors it takes (without types and patterns, all), and the name that they get."""

    body: int
    types: tuple[str, ...]
    patterns: tuple[str, ...]
    binding: str
    propagate_as: str | None


@dataclass(frozen=True, slots=True)
class TryPlan:
    """The bodies of a try. `final` is the number of the finally's, if there is one."""

    body: int
    catches: tuple[CatchPlan, ...]
    final: int | None

    @property
    def bodies(self) -> tuple[int, ...]:
        final = () if self.final is None else (self.final,)
        return (self.body, *(catch.body for catch in self.catches), *final)


@dataclass(frozen=True, slots=True)
class RetryPlan:
    """A body that is run again, by `policy`."""

    body: int
    policy: RetryPolicy

    @property
    def bodies(self) -> tuple[int, ...]:
        return (self.body,)


@dataclass(frozen=True, slots=True)
class BreakerPlan:
    """A body behind a circuit breaker of this name; the engine keeps the breaker's state."""

    body: int
    name: str
    policy: BreakerPolicy

    @property
    def bodies(self) -> tuple[int, ...]:
        return (self.body,)


@dataclass(frozen=True, slots=True)
class JoinPlan:
    """A join of `required` arrivals (None: of all), perhaps within `timeout` from the first."""

    required: int | None
    timeout: Micros | None
    goes_on: bool
    cancels: bool


ScopePlan: TypeAlias = LoopPlan | ParallelPlan | TryPlan | RetryPlan | BreakerPlan | JoinPlan


def loop_locals(config: Mapping[str, Json]) -> dict[str, str]:
    """Return the names that a loop gives to its body, by what they stand for: item, index, key."""
    names = {"item": str(config.get("item_variable") or "item")}
    for word in ("index", "key"):
        if config.get(f"{word}_variable"):
            names[word] = str(config[f"{word}_variable"])
    return names


def compile_scope(
    node: Node,
    parts: Sequence[Part],
    nodes: Sequence[Node],
    steps: frozenset[str],
    unknown: frozenset[str],
    *,
    reopens: bool,
) -> ScopePlan:
    """Compile a scope or join; `unknown` are names after `steps.` that are no nodes.

    `reopens` says whether something in the scope may be run again as a new round. Raises ExpressionSyntaxError.
    """
    config = node.config
    match node.type:
        case "loop":
            return _loop(config, parts[0].number, steps, unknown, reopens)
        case "parallel":
            return ParallelPlan(
                tuple((part.name, part.number) for part in parts),
                config.get("wait_mode") == "first",
                config.get("max_concurrency") or None,
                config.get("failure_mode", _OLDER.get(config.get("error_strategy"))) != "continue",
            )
        case "try":
            final = next((part.number for part in parts if part.name == "finally"), None)
            catches = tuple(_catch(config, part, nodes) for part in parts if part.name == "catch")
            return TryPlan(parts[0].number, catches, final)
        case "retry":
            assert node.rounds is not None
            return RetryPlan(parts[0].number, node.rounds)
        case "circuit_breaker":
            return BreakerPlan(parts[0].number, str(config.get("name") or node.id), BreakerPolicy.read(config))
        case _:
            return _join(config)


def _loop(
    config: Mapping[str, Json], body: int, steps: frozenset[str], unknown: frozenset[str], reopens: bool
) -> LoopPlan:
    names = loop_locals(config)
    condition = config.get("while")
    return LoopPlan(
        body=body,
        condition=None if condition is None else compile_condition(condition, steps),
        breaks=tuple(compile_condition(break_source(entry), steps) for entry in config.get("break_conditions") or []),
        item=names["item"],
        index=names.get("index"),
        key=names.get("key"),
        max_iterations=config.get("max_iterations", MAX_ITERATIONS),
        max_concurrency=config.get("max_concurrency") or 1,
        stops=config.get("on_error", "stop") == "stop",
        as_steps=frozenset({*names.values(), LOOP_STEP}) & unknown,
        folds=condition is None and not reopens,
    )


def break_source(entry: Mapping[str, Json]) -> str:
    """Return a break condition as an expression: its own, or one made of Gorax's {operator, field, value}."""
    if "condition" in entry:
        return str(entry["condition"])
    operator = _WORDS.get(entry["operator"], entry["operator"])
    return f"({entry['field']}) {operator} {encode(entry.get('value'))}"


def _catch(config: Mapping[str, Json], part: Part, nodes: Sequence[Node]) -> CatchPlan:
    own = _handler(config, part, [node.config for node in nodes], [node.type for node in nodes])
    return CatchPlan(
        part.number,
        tuple(own.get("error_types") or ()),
        tuple(own.get("error_patterns") or ()),
        str(own.get("error_binding") or config.get("error_binding") or ERROR_BINDING),
        own.get("propagate_as") or None,
    )


def catch_binding(
    config: Mapping[str, Json], part: Part, configs: Sequence[Mapping[str, Json]], types: Sequence[str]
) -> str:
    """Return the name under which a handler's body sees the error; `config` is the try's."""
    own = _handler(config, part, configs, types)
    return str(own.get("error_binding") or config.get("error_binding") or ERROR_BINDING)


def _handler(
    config: Mapping[str, Json], part: Part, configs: Sequence[Mapping[str, Json]], types: Sequence[str]
) -> Mapping[str, Json]:
    """A handler's keys stand in the try's `catches`, or in the config of the `catch` node that heads its body."""
    listed = config.get("catches") or []
    if part.handler < len(listed):
        own: Mapping[str, Json] = listed[part.handler]
        return own
    led = {edge.target for edge in part.edges}
    heads = (member for member in part.members if member not in led)
    return next((configs[head] for head in heads if types[head] == CATCH), {})


def _join(config: Mapping[str, Json]) -> JoinPlan:
    timeout = config.get("timeout_ms")
    micros = timeout * 1_000 if timeout else None
    if config.get("timeout"):
        micros = parse_duration(config["timeout"])
    return JoinPlan(
        config.get("required_count") if config.get("join_strategy") == "wait_n" else None,
        micros,
        config.get("on_timeout") == "continue",
        config.get("cancel_remaining", True),
    )
